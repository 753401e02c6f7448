// `hvdr reprotect VM`, at the DR site B: the VM that stays there is protected towards the former primary A
// (docs/failover/reprotect.md). Every step looks at what is there before it does anything, so the same
// command given again goes on.

import type { Command } from 'commander';
import { addParameterOptions } from './agent-options.js';
import { runJobs } from './agent-run.js';
import type { CliContext } from './context.js';
import { carryOutReprotect } from '../shared/operator/reprotect.js';
import {
  type Preparation,
  prepareReprotect,
  reprotectDocument,
  reprotectText,
} from '../shared/operator/reprotect-plan.js';
import { requirePoint } from '../source-agent/index.js';
import { linkValues } from './operate.js';
import { withAccessOptions } from './receiver-connection.js';
import { type ReprotectFlags, sitesOf, wishOf } from './reprotect-sites.js';
import { stageThrough } from './seed-receiver.js';

const EXAMPLES = `
Examples:
  (at the DR site, while its receiver runs)
  hvdr reprotect SQL01 --host hyperv --dr-host hq1 --psk-file hq-operator.psk --principal dr1 \\
    --retired-host 127.0.0.1 --retired-psk-file operator.psk
  (while it does not)
  hvdr reprotect SQL01 --host hyperv --dr-host hq1 --psk-file hq-operator.psk --store /srv/dr
`;

export function registerReprotect(program: Command, context: CliContext): void {
  const command = program
    .command('reprotect')
    .summary('protect a VM that stays at the DR site towards its former primary')
    .description(
      'Opens a new protection at the receiver of the former primary (--dr-host), seeded from the disks that\n' +
        'the VM left there: only what differs travels, and those disks are not changed. Runs at the DR site.\n' +
        'The same command goes on after a crash; `hvdr seed --discard` gives up what was staged.',
    )
    .argument('<vm>', 'name or id of the VM in the protection that was made permanent')
    .requiredOption('--host <host>', 'hypervisor of this site: lab:DIR or hyperv');
  addParameterOptions(command, ['state_dir', 'network_map', 'safety_hold'])
    .option('--principal <name>', 'whose the new protection is (default: that of --psk-file)')
    .option('--seed-from <place>', 'host: the disks at the former primary; network: none', 'host')
    .option('--retired-host <host>', 'the receiver of this site, which has the retired protection')
    .option('--retired-port <port>', 'its port')
    .option('--retired-psk-file <file>', 'an operator key for it');
  withAccessOptions(command)
    .option('--plan', 'print what would be done, and do nothing')
    .addHelpText('after', EXAMPLES)
    .action((vm: string, flags: ReprotectFlags) => reprotect(context, vm, flags));
}

async function reprotect(context: CliContext, vm: string, flags: ReprotectFlags): Promise<void> {
  const { output } = context;
  if (flags.plan !== true) output.expectEvents();
  const wish = wishOf(vm, flags);
  const sites = sitesOf(context, flags);
  const prepared = await prepareReprotect(wish, sites);
  if (flags.plan === true) {
    output.result(reprotectDocument(prepared), () => reprotectText(prepared));
    return;
  }
  const [refused] = prepared.refusals;
  if (refused !== undefined) throw refused;
  const pointId = await carryOutReprotect(prepared, wish, {
    ...sites,
    signal: context.stopSignal(),
    onStep: ({ name, what }) => {
      output.event({ event: 'step', step: name, what }, () => `${name}  ${what}`);
    },
    stage: (control, request) => stageThrough(context, control, request),
    firstCycle: async ({ vmName, vmId }) => {
      const report = await runJobs(
        [{ name: 'reprotect', values: linkValues(vmName, flags), vmId }],
        context,
      );
      requirePoint(report, { vmName, vmId, place: flags.drHost ?? '' });
    },
  });
  const way = homeCommand(prepared, flags);
  const { vmName, vmId, owner, networkMap } = prepared;
  const result = {
    event: 'result',
    vm: vmName,
    vmId,
    owner,
    point: pointId,
    networkMap,
    home: way,
  };
  output.event(result, () =>
    [
      `${vmName} is protected at ${flags.drHost ?? ''} for ${owner}, point ${pointId}`,
      `  cycles: a job of \`hvdr daemon\` here, or \`hvdr push\`, towards ${flags.drHost ?? ''}`,
      `  home:   ${way}`,
    ].join('\n'),
  );
}

/** The planned failover that brings the VM home, ready to be given at this site. */
function homeCommand({ vmName, networkMap }: Preparation, flags: ReprotectFlags): string {
  const { host, stateDir, drHost = '', drPort, pskFile = '' } = flags;
  const words = [
    ...['hvdr', 'failover', 'planned', vmName],
    ...(networkMap === '' ? [] : ['--network-map', networkMap]),
    ...['--replace-retired', '--yes', '--host', host],
    ...(stateDir === undefined ? [] : ['--state-dir', stateDir]),
    ...['--dr-host', drHost, ...(drPort === undefined ? [] : ['--dr-port', drPort])],
    ...['--psk-file', pskFile],
  ];
  return words.map((word) => (/[^\w@%+=:,./-]/.test(word) ? `'${word}'` : word)).join(' ');
}
