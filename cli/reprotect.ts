// `hvdr reprotect VM`, at the DR site B: the VM that stays there is protected towards the former primary A
// (docs/failover/reprotect.md). Every step looks at what is there before it does anything, so the same
// command given again goes on.

import type { Command } from 'commander';
import { addParameterOptions } from './agent-options.js';
import type { CliContext } from './context.js';
import type { JsonObject } from './output.js';
import { withAccessOptions } from './receiver-connection.js';
import { type Preparation, prepare, type ReprotectFlags } from './reprotect-plan.js';
import { carryOut } from './reprotect-run.js';

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
  const prepared = await prepare(context, vm, flags);
  if (flags.plan === true) {
    output.result(planDocument(prepared), () => planText(prepared));
    return;
  }
  const [refused] = prepared.refusals;
  if (refused !== undefined) throw refused;
  const pointId = await carryOut(context, prepared, flags);
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

function planDocument(prepared: Preparation): JsonObject {
  const { vmName, vmId, formerVmId, owner, networkMap, steps, notes, refusals } = prepared;
  return {
    ...{ command: 'reprotect', vm: vmName, vmId, formerVmId, owner, networkMap },
    steps: steps.map(({ name, what }) => ({ name, what })),
    refusals: refusals.map(({ code, message }) => ({ code, message })),
    notes,
  };
}

function planText({ vmName, owner, steps, notes, refusals }: Preparation): string {
  return [
    `reprotect ${vmName}, for ${owner}`,
    ...steps.map(({ name, what }) => `  ${name}  ${what}`),
    ...notes.map((note) => `  note: ${note}`),
    ...refusals.map(({ code, message }) => `  refused: ${code}: ${message}`),
  ].join('\n');
}
