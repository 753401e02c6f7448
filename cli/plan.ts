// `hvdr plan …`: many VMs as one (failover.md § 8). What the commands do stands in plan-run.ts.

import { type Command, Option } from 'commander';
import { PLAN_KINDS } from '../shared/plan/index.js';
import type { CliContext } from './context.js';
import { examples } from './examples.js';
import type { PlanFlags } from './plan-run.js';
import { withAccessOptions } from './receiver-connection.js';

const ACCESS = '--dr-host dr1 --psk-file operator.psk';

export function registerPlan(program: Command, context: CliContext): void {
  const plan = program
    .command('plan')
    .summary('fail over, test or take back many VMs as one')
    .description(
      'A plan is a YAML file with groups of VMs, their order, and what happens in between. Its run is written\n' +
        'down with each step, so that it can be resumed whatever happened to the command.',
    )
    .addHelpText(
      'after',
      examples(
        `hvdr plan check hq.yaml --kind planned ${ACCESS}`,
        `hvdr plan run hq.yaml --kind test ${ACCESS}`,
      ),
    );
  const kind = (): Option =>
    new Option('--kind <kind>', 'what is done with the VMs').choices(PLAN_KINDS).default('planned');

  common(
    plan
      .command('check')
      .summary('read a plan, and ask what hinders it')
      .description(
        'Reads the plan and asks for every VM what its command would do. Changes nothing. Prints the hash that\n' +
          '`--confirm` of a run takes.',
      )
      .argument('<file>', 'the plan')
      .addOption(kind()),
  )
    .addHelpText('after', examples(`hvdr plan check hq.yaml --kind unplanned ${ACCESS}`))
    .action(async (file: string, flags: PlanFlags) => {
      const { checkPlanFile } = await import('./plan-run.js');
      await checkPlanFile(file, flags, context);
    });

  confirmable(
    common(
      plan
        .command('run')
        .summary('carry a plan out')
        .description(
          'Asks for every VM what hinders it, and begins when nothing does. Ctrl-C leaves the run as it is:\n' +
            '`hvdr plan resume FILE` goes on.',
        )
        .argument('<file>', 'the plan')
        .addOption(kind()),
    )
      .option('--partial', 'leave out the VMs that refuse, and do the others')
      .option('--keep', 'of a test: leave the clones until the run is resumed'),
  )
    .addHelpText('after', examples(`hvdr plan run hq.yaml --kind planned ${ACCESS}`))
    .action(async (file: string, flags: PlanFlags) => {
      const { runPlanFile } = await import('./plan-run.js');
      await runPlanFile(file, flags, context);
    });

  common(
    plan
      .command('resume')
      .summary('go on with a run that was paused or interrupted')
      .description(
        'Asks every VM how far it is, and goes on from there. A message counts as read; what failed is tried\n' +
          'again.',
      )
      .argument('<file>', 'the plan, as it was when the run began'),
  )
    .addOption(new Option('--skip', 'leave what failed as it is').conflicts('cancel'))
    .option('--cancel', 'give the run up: what was shut down and did not come up starts again')
    .option('--keep', 'of a test: leave the clones until the run is resumed')
    .addHelpText('after', examples(`hvdr plan resume hq.yaml --skip ${ACCESS}`))
    .action(async (file: string, flags: PlanFlags) => {
      const { resumePlanFile } = await import('./plan-run.js');
      await resumePlanFile(file, flags, context);
    });

  confirmable(
    common(
      plan
        .command('undo')
        .summary('take the failover of a plan back, in reverse order')
        .description(
          'Undoes the failover of each VM of the plan, the last one first. What was written at the DR site is\n' +
            'lost. VMs that are not failed over are left alone.',
        )
        .argument('<file>', 'the plan'),
    ).option('--partial', 'leave out the VMs that refuse, and do the others'),
  )
    .addHelpText('after', examples(`hvdr plan undo hq.yaml --yes ${ACCESS}`))
    .action(async (file: string, flags: PlanFlags) => {
      const { runPlanFile } = await import('./plan-run.js');
      await runPlanFile(file, { ...flags, kind: 'undo' }, context);
    });
}

function common(command: Command): Command {
  return withAccessOptions(command)
    .option('--state-dir <dir>', 'where runs of plans are written down')
    .option('--script-dir <dir>', 'folder of the scripts that the plan names')
    .option('--host <host>', 'hypervisor of the DR site, for waits for a heartbeat');
}

function confirmable(command: Command): Command {
  return command
    .addOption(
      new Option('--yes', 'confirm what is found, where that is wanted').conflicts('confirm'),
    )
    .option('--confirm <hash>', 'confirm what `hvdr plan check` printed with this hash');
}
