// `hvdr gc`: leftovers of ours, at the receiver or at the source. What is not ours is named, never touched.

import type { Command } from 'commander';
import { guidFromWire } from '../shared/bytes/index.js';
import { DrError } from '../shared/errors.js';
import { BACKEND_LOG } from '../plugin-bridge/backend-conf.js';
import {
  collectHalfRegistered,
  collectRestoreSessions,
  type HalfRegisteredVm,
  isSessionName,
} from '../plugin-bridge/restore/index.js';
import { collectSourceGarbage, presentStateFolder, stateFolder } from '../source-agent/index.js';
import type { CliContext } from './context.js';
import { type GarbageItem as Item, unfinishedVmItems } from './gc-unfinished.js';
import { type AccessFlags, withAccess, withAccessOptions } from './receiver-connection.js';
import { formatSize } from '../shared/sizes.js';
import { type SourceFlags, withSource, withSourceOptions } from './verify-source.js';

interface Flags extends AccessFlags, SourceFlags {
  readonly plan?: true;
  readonly forget?: true;
  readonly unfinishedDays?: string;
}

const DEFAULT_UNFINISHED_DAYS = '7';
const DAY_MS = 24 * 60 * 60 * 1000;

export function registerGc(program: Command, context: CliContext): void {
  const command = withAccessOptions(
    program
      .command('gc')
      .summary('remove what crashed runs of ours left; --plan only says what')
      .description(
        'At the receiver (--dr-host or --store): unfinished cycles that nothing has used for long, removals\n' +
          'that were interrupted, temporary files. At the source (--host): checkpoints and reference points\n' +
          'with our tag that no living cycle and no ledger names, VMs that a registration left half made (their\n' +
          'disks stay), temporary files. What is not ours, and a complete cycle that the journal does not\n' +
          'know, is named and never touched.',
      )
      .option('--plan', 'say what would go, and do nothing')
      .option(
        '--forget',
        'at the source: also ledgers of VMs that are gone, and marks without a ledger',
      )
      .option(
        '--unfinished-days <n>',
        `at the receiver: unfinished cycles younger than this stay (default: ${DEFAULT_UNFINISHED_DAYS})`,
      ),
  );
  withSourceOptions(command)
    .addHelpText(
      'after',
      '\nExamples:\n  hvdr gc --plan --dr-host dr1 --psk-file operator.psk\n  hvdr gc --host hyperv\n',
    )
    .action((flags: Flags) => gc(context, flags));
}

async function gc(context: CliContext, flags: Flags): Promise<void> {
  const isAtReceiver = flags.drHost !== undefined || flags.store !== undefined;
  if (!isAtReceiver && flags.host === undefined) {
    throw new DrError('E_USAGE', 'nothing says which side is meant', {
      hint: 'Give --dr-host HOST --psk-file FILE or --store DIR for a receiver, --host for a source.',
    });
  }
  const { unfinishedDays } = flags;
  if (unfinishedDays !== undefined && !isAtReceiver) {
    throw new DrError('E_USAGE', '--unfinished-days is about a receiver, and none is named', {
      hint: 'Give --dr-host HOST --psk-file FILE or --store DIR, or leave it out.',
    });
  }
  if (flags.forget === true && flags.host === undefined) {
    throw new DrError('E_USAGE', '--forget is about a source, and none is named', {
      hint: 'Give --host HOST, or leave it out.',
    });
  }
  if (unfinishedDays !== undefined && !/^\d{1,5}$/.test(unfinishedDays)) {
    throw new DrError('E_USAGE', `--unfinished-days "${unfinishedDays}" is no number of days`);
  }
  const items: Item[] = [];
  if (isAtReceiver) items.push(...(await atReceiver(context, flags)));
  if (flags.host !== undefined) items.push(...(await atSource(context, flags)));
  const isPlan = flags.plan === true;
  context.output.result({ isPlan, items: items.map((item) => ({ ...item })) }, () => {
    if (items.length === 0) return 'nothing is left over';
    return items.map((item) => lineOf(item, isPlan)).join('\n');
  });
}

function lineOf(item: Item, isPlan: boolean): string {
  const { isRemovable, kind, vm, what, sizeBytes, because } = item;
  const verb = isRemovable ? (isPlan ? 'would go' : item.isRemoved ? 'removed' : 'left') : 'stays';
  const of = vm === '' ? '' : ` of ${vm}`;
  const size = sizeBytes === 0 ? '' : `, ${formatSize(sizeBytes)}`;
  return `${verb}: ${item.side}: ${kind}${of}: ${what}${size}: ${because}`;
}

async function atReceiver(context: CliContext, flags: Flags): Promise<Item[]> {
  const isPlan = flags.plan === true;
  const olderThanMs = BigInt(Number(flags.unfinishedDays ?? DEFAULT_UNFINISHED_DAYS) * DAY_MS);
  return withAccess(context, flags, isPlan ? 'read' : 'write', async ({ control }) => {
    const { items } = await control.collectGarbage({ isPlan, olderThanMs });
    return items.map(({ vmId, path, sizeBytes, ...item }) => ({
      side: 'receiver',
      kind: item.kind,
      vm: vmId.length === 0 ? '' : (guidFromWire(vmId) ?? ''),
      what: path,
      sizeBytes: Number(sizeBytes),
      isRemovable: item.isRemovable,
      isRemoved: item.isRemoved,
      because: item.because,
    }));
  });
}

async function atSource(context: CliContext, flags: Flags): Promise<Item[]> {
  const { files: fs, clock, random } = context;
  const signal = context.stopSignal();
  const isPlan = flags.plan === true;
  const found = await withSource(
    context,
    flags,
    async (hypervisor, state) => {
      const options = { hypervisor, fs, clock, random, signal, stateFolder: state, isPlan };
      const items = await collectSourceGarbage({
        ...options,
        isForgetting: flags.forget === true,
      });
      // sessions of jobs that run, and the log of the backend, are ours as well
      const ofAgent = items.filter(({ what }) => !isSessionName(what) && what !== BACKEND_LOG);
      const host = (): Promise<typeof hypervisor> => Promise.resolve(hypervisor);
      // before the sessions, which know the marks
      const halves = await collectHalfRegistered({ fs, host }, state, { isPlan });
      const unfinished = await unfinishedVmItems(hypervisor, { isPlan });
      const sessions = await collectRestoreSessions(fs, state, { isPlan });
      return { items: ofAgent, halves, unfinished, sessions };
    },
    isPlan ? presentStateFolder : stateFolder,
  );
  const ofCycles = found.items.map(({ kind, vmName, what, isRemovable, isRemoved, because }) => ({
    side: 'source' as const,
    kind,
    vm: vmName,
    what,
    sizeBytes: 0,
    isRemovable,
    isRemoved,
    because,
  }));
  const ofRestores = found.sessions.map(({ folder, isRemoved }) => ({
    side: 'source' as const,
    kind: 'restore session',
    vm: '',
    what: folder,
    sizeBytes: 0,
    isRemovable: true,
    isRemoved,
    because: 'no backend of its job lives',
  }));
  return [...ofCycles, ...found.halves.map(ofHalfRegistered), ...found.unfinished, ...ofRestores];
}

function ofHalfRegistered({ vm, folder, isInUse, isDone }: HalfRegisteredVm): Item {
  return {
    side: 'source',
    kind: 'VM of a restore',
    vm: vm.name,
    what: vm.id,
    sizeBytes: 0,
    isRemovable: !isInUse,
    isRemoved: isDone && !isInUse,
    because: isInUse
      ? `it is ${vm.powerState}: it counts as restored`
      : `${folder} registered it and did not end; its disks stay`,
  };
}
