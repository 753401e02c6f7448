// The half of `hvdr verify` that needs the source: gives a receiver back what rotted there, and compares
// a point with the VM as it is now.

import path from 'node:path';
import type { Command } from 'commander';
import { type Guid, guidFromWire, guidToWire } from '../shared/bytes/index.js';
import { DrError } from '../shared/errors.js';
import {
  openHypervisor,
  type SourceHypervisor,
  type TargetHypervisor,
} from '../shared/hypervisor/index.js';
import {
  type ComparedDisk,
  compareWithReceiver,
  type Inspection,
  type RepairOutcome,
  repairReceiver,
  stateFolder,
  withInspection,
} from '../source-agent/index.js';
import type { CliContext } from './context.js';
import { startProgress } from './progress.js';
import { type AccessFlags, type ReceiverAccess, withAccess } from './receiver-connection.js';
import { formatSize } from '../shared/sizes.js';

export interface SourceFlags {
  readonly host?: string;
  readonly stateDir?: string;
}

/** Adds the options by which a command is told where the source is. */
export function withSourceOptions(command: Command): Command {
  return command
    .option('--host <host>', 'hypervisor of the source: lab:DIR or hyperv')
    .option('--state-dir <dir>', 'where the ledgers of the source are');
}

/**
 * Runs `use` with the hypervisor of --host and the folder of the ledgers, which is made if need be
 * unless `findState` does otherwise.
 * @throws DrError E_USAGE, E_IO
 */
export async function withSource<T>(
  context: CliContext,
  { host, stateDir }: SourceFlags,
  use: (hypervisor: SourceHypervisor & TargetHypervisor, state: string) => Promise<T>,
  findState = stateFolder,
): Promise<T> {
  if (host === undefined) {
    throw new DrError('E_USAGE', 'nothing says where the source is', {
      hint: 'Give --host lab:DIR or --host hyperv.',
    });
  }
  const { files: fs, clock, random, environment, folder } = context;
  const log = await context.log();
  const place = host.startsWith('lab:') ? `lab:${path.resolve(folder, host.slice(4))}` : host;
  const hypervisor = await openHypervisor(place, { fs, clock, random, log });
  try {
    const wanted = stateDir === undefined ? undefined : path.resolve(folder, stateDir);
    const { platform } = process;
    return await use(hypervisor, await findState(wanted, { fs, random, environment, platform }));
  } finally {
    await hypervisor.close();
  }
}

/** A frozen look at the VM that the receiver knows by this name. */
async function inspect<T>(
  context: CliContext,
  { control }: ReceiverAccess,
  vmName: string,
  flags: SourceFlags,
  use: (inspection: Inspection, hypervisor: SourceHypervisor) => Promise<T>,
): Promise<T> {
  const vmId = guidFromWire((await control.listPoints({ vm: vmName })).vmId);
  return withSource(context, flags, async (hypervisor, state) => {
    const vm = (await hypervisor.listVms()).find(({ id }) => id === vmId);
    if (vm === undefined) {
      throw new DrError('E_NOT_FOUND', `${hypervisor.name} has no VM ${vmId ?? vmName}`, {
        hint: 'Name the host on which the VM runs.',
      });
    }
    const { files: fs, clock, random } = context;
    const log = await context.log();
    const signal = context.stopSignal();
    const seams = { hypervisor, fs, clock, random, log, stateFolder: state, signal };
    return withInspection(vm, seams, (inspection) => use(inspection, hypervisor));
  });
}

/** Sends the receiver the cells that it misses and the source still has. */
export function repairFromSource(
  context: CliContext,
  access: ReceiverAccess,
  vmName: string,
  flags: SourceFlags,
): Promise<RepairOutcome> {
  return inspect(context, access, vmName, flags, ({ vm, lease }) =>
    repairReceiver(
      access.replication,
      {
        vmId: guidToWire(vm.id),
        disks: lease.checkpoint.disks,
        openDisk: (diskId: Guid) => lease.openDisk(diskId),
        onCell: () => Promise.resolve(),
      },
      context.stopSignal(),
    ),
  );
}

/** Ends with 1 when something differs that nobody saw change. */
export async function againstSourceRun(
  context: CliContext,
  vmName: string,
  flags: AccessFlags & SourceFlags & { readonly point: string },
): Promise<void> {
  const { output, clock } = context;
  if (flags.point === 'all') {
    throw new DrError('E_USAGE', '--against-source compares one point, not all', {
      hint: 'Give --point ID or --point latest.',
    });
  }
  const { disks, pointId } = await withAccess(context, flags, 'read', async (access) => {
    const { points } = await access.control.listPoints({ vm: vmName });
    const wanted = flags.point === 'latest' ? undefined : pointOf(points, flags.point);
    const compared = await inspect(context, access, vmName, flags, (inspection, hypervisor) => {
      const { disks: frozen } = inspection.lease.checkpoint;
      const total = frozen.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
      const bar = startProgress(output, clock, { label: `compare ${vmName}`, total });
      return compareWithReceiver(inspection, {
        client: access.replication,
        hypervisor,
        pointId: wanted,
        signal: context.stopSignal(),
        onCompared: (bytes) => {
          bar.advance(bytes);
        },
      }).finally(() => {
        bar.end();
      });
    });
    const newest = points.at(-1)?.pointId ?? Buffer.alloc(0);
    return { disks: compared, pointId: wanted ?? guidFromWire(newest) ?? '' };
  });
  const diverged = disks.reduce((sum, { divergedCells }) => sum + (divergedCells ?? 0), 0);
  const error = new DrError('E_DIFFERENT', `${vmName}: ${diverged} cell(s) differ unseen`, {
    done: 'nothing was changed',
    hint: 'Push the VM with a compare: move its ledger out of --state-dir, then run `hvdr push`.',
  });
  if (diverged > 0) output.exitCode = error.exitCode;
  output.result(
    {
      vm: vmName,
      point: pointId,
      isEqual: diverged === 0,
      divergedCells: diverged,
      disks: disks.map((disk) => ({ ...disk, divergedCells: disk.divergedCells ?? null })),
    },
    () =>
      [
        `${vmName}: point ${pointId} ${diverged === 0 ? 'agrees with its source' : 'DIFFERS from its source'}`,
        ...disks.flatMap((disk) => diskLines(disk)),
      ].join('\n'),
  );
  if (diverged > 0) output.note(error.line);
}

function pointOf(points: readonly { readonly pointId: Buffer }[], name: string): Guid {
  const ids = points.map(({ pointId }) => guidFromWire(pointId)).filter((id) => id !== undefined);
  const found = ids.filter((id) => id.startsWith(name.toLowerCase()));
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  throw new DrError('E_NO_POINT', `${found.length} points begin with ${name}`, {
    hint: '`hvdr points VM` lists them; --against-source takes one.',
  });
}

function diskLines(disk: ComparedDisk): string[] {
  const { diskId, comparedBytes, differingCells, changedCells, damagedCells } = disk;
  const parts = [
    `${formatSize(comparedBytes)} compared`,
    `${differingCells} cell(s) differ`,
    `${changedCells} of them are known as changed`,
    ...(damagedCells === 0 ? [] : [`${damagedCells} are damaged at the receiver`]),
    ...(disk.divergedCells === undefined ? [] : [`${disk.divergedCells} nobody saw change`]),
    ...(disk.note === '' ? [] : [disk.note]),
  ];
  const places = disk.divergedAt.map(
    (offset) => `  disk ${diskId}, offset ${offset}: differs from the source and was never changed`,
  );
  return [`  disk ${diskId}: ${parts.join(', ')}`, ...places];
}
