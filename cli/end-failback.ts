// `hvdr end-failback`: an operator at the primary ends a failback whose DR site is gone, or says nothing of it
// any more. Without it no cycle of the VM runs any more, to whatever store.

import type { Command } from 'commander';
import { DrError } from '../shared/errors.js';
import type { SourceHypervisor, VmSummary } from '../shared/hypervisor/index.js';
import {
  endHere,
  type EndSeams,
  endOf,
  presentStateFolder,
  requireFailbackHost,
  ReturnFile,
  type ReturnRecord,
  withVmLease,
} from '../source-agent/index.js';
import type { CliContext } from './context.js';
import { findVmAt } from './site-host.js';
import { type SourceFlags, withSource, withSourceOptions } from './verify-source.js';

interface Flags extends SourceFlags {
  readonly force?: true;
  readonly reason?: string;
  readonly yes?: true;
}

type End = Awaited<ReturnType<typeof endOf>>;

const MEANING: Readonly<Record<End, string>> = {
  kept:
    'The VM stays on the disks that the failback started it on, with all that it wrote since. The next cycle to\n' +
    'each store compares all of them. Where the DR site still lives, undo the failover or fail back there instead.',
  dropped:
    'The VM stays on the disks that it had before, and what the failback brought beside them is removed. A fence\n' +
    'stays where it is: `hvdr unfence` lifts it.',
};

export function registerEndFailback(program: Command, context: CliContext): void {
  const command = program
    .command('end-failback')
    .summary('end a failback at the primary site whose DR site is gone')
    .description(
      'A failback is ended by its DR site: `hvdr failover permanent`, `undo`, or an undo of the failover. When\n' +
        'that site is gone, this ends it. A VM that was started by the failback stays on its disks; one that\n' +
        'was not stays on its former ones. Which of both it is, is said without --yes.',
    )
    .argument('<vm>', 'name or id of the VM');
  withSourceOptions(command)
    .option('--force', 'without the word of the DR site')
    .option('--reason <text>', 'why; it is logged')
    .option('--yes', 'do it')
    .addHelpText(
      'after',
      "\nExample:\n  hvdr end-failback SQL01 --host lab:site-a --force --reason 'the DR site burnt down' --yes\n",
    )
    .action((vm: string, flags: Flags) =>
      withSource(
        context,
        flags,
        (host, state) => endFailback(context, { vmName: vm, host, state }, flags),
        presentStateFolder,
      ),
    );
}

interface Place {
  readonly vmName: string;
  readonly host: SourceHypervisor;
  readonly state: string;
}

async function endFailback(
  context: CliContext,
  { vmName, host, state }: Place,
  flags: Flags,
): Promise<void> {
  const reason = (flags.reason ?? '').trim();
  if (flags.force !== true || reason === '') {
    throw new DrError(
      'E_USAGE',
      'a failback is ended here by force only, and that wants a reason',
      {
        hint: 'Give --force --reason TEXT, or end it at its DR site.',
      },
    );
  }
  const vm = await findVmAt(host, vmName);
  const { files: fs, clock, random } = context;
  const log = await context.log();
  const hypervisor = requireFailbackHost(host);
  const signal = context.stopSignal();
  const seams: EndSeams = { hypervisor, fs, clock, random, log, stateFolder: state, signal };
  const end = await withVmLease(vm, seams, async () => {
    const record = await openRecord(vm, seams);
    const found = await endOf(record, vm, seams);
    if (flags.yes !== true) {
      throw new DrError(
        'E_CONFIRM',
        `failback ${record.operationId} of ${vm.name} stays open until --yes is given`,
        { hint: MEANING[found] },
      );
    }
    await endHere(vm, undefined, seams);
    return found;
  });
  log.warn('failback.forced', { vmId: vm.id, vmName: vm.name, reason });
  context.output.result({ vm: vm.name, vmId: vm.id, end, reason }, () =>
    [`the failback of ${vm.name} is ended`, MEANING[end]].join('\n'),
  );
}

/** @throws DrError E_STATE when there is none; E_FILE_DAMAGED */
async function openRecord(vm: VmSummary, seams: EndSeams): Promise<ReturnRecord> {
  const record = await new ReturnFile(seams.stateFolder, vm.id, seams).read();
  if (record !== undefined) return record;
  throw new DrError('E_STATE', `no failback of ${vm.name} is open here`, {
    context: { vmId: vm.id, stateFolder: seams.stateFolder },
    done: 'nothing was changed',
  });
}
