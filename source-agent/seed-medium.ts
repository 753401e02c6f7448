// Writes the disks of a VM to a sealed medium, from one checkpoint. Nothing of it goes into the ledger:
// the first cycle compares everything that the medium brought, whatever happened to it on the way.

import path from 'node:path';
import { guidToWire, randomGuid, ZERO_GUID } from '../shared/bytes/index.js';
import { DiskTransfer, OpenRequest, type PreSharedKey } from '../shared/channel/index.js';
import type { Random } from '../shared/clock.js';
import { cellCount, publishFile } from '../shared/delta/index.js';
import { DrError } from '../shared/errors.js';
import type { CheckpointDisk, VmSummary } from '../shared/hypervisor/index.js';
import { MEDIUM_SUFFIX, writeSeedMedium } from '../shared/seed/index.js';
import type { LeasedCheckpoint, WantedConsistency } from './checkpoint-lease.js';
import { CompressionChoice } from './compression-choice.js';
import { orderedDisks, refuseUnsupported } from './disk-order.js';
import { DiskStream } from './disk-stream.js';
import { type InspectSeams, withFrozenVm } from './inspect.js';

export interface SeedMediumOptions {
  /** Folder for the file. */
  readonly folder: string;
  readonly isReplacing: boolean;
  readonly key: PreSharedKey;
  readonly consistency: WantedConsistency;
  readonly timeoutMs: number;
}

export interface SeedMediumSeams extends InspectSeams {
  /** Guest bytes of all disks that were gone through. */
  readonly onProgress: (doneBytes: number, totalBytes: number) => void;
}

export interface SeedMediumResult {
  readonly file: string;
  readonly disks: readonly CheckpointDisk[];
  /** Bytes of the cells, before they were sealed. */
  readonly dataBytes: number;
}

/**
 * Durable on return; on an error the medium is not there, or is the one that was there before.
 * @throws DrError E_EXISTS, E_LOCKED, E_CHECKPOINT, E_CAPACITY, …; the reason of the signal
 */
export async function writeVmMedium(
  vm: VmSummary,
  options: SeedMediumOptions,
  seams: SeedMediumSeams,
): Promise<SeedMediumResult> {
  const { fs } = seams;
  const file = path.join(options.folder, vm.id + MEDIUM_SUFFIX);
  if (!options.isReplacing && (await fs.status(file)) !== undefined) {
    throw new DrError('E_EXISTS', `${file} is there already`, {
      context: { file },
      hint: 'Give --force to replace it.',
    });
  }
  refuseUnsupported(await seams.hypervisor.describeVm(vm.id));
  const { consistency, timeoutMs } = options;
  return withFrozenVm(vm, { consistency, timeoutMs }, seams, (checkpoint) =>
    write(vm, file, checkpoint, options, seams),
  );
}

async function write(
  vm: VmSummary,
  file: string,
  lease: LeasedCheckpoint,
  { isReplacing, key }: SeedMediumOptions,
  seams: SeedMediumSeams,
): Promise<SeedMediumResult> {
  const { hypervisor, fs, random } = seams;
  const { checkpoint } = lease;
  const disks = orderedDisks(await hypervisor.describeVm(vm.id), checkpoint.disks);
  const description = OpenRequest.encode(describe(vm, lease, disks, random)).finish();
  const counts = { dataBytes: 0 };
  await fs.makeFolder(path.dirname(file));
  await publishFile({ fs, random }, file, { isReplacing }, (sink) =>
    writeSeedMedium(
      sink,
      key,
      random,
      Buffer.from(description),
      messagesOf(vm, lease, disks, seams, counts),
    ),
  );
  return { file, disks, dataBytes: counts.dataBytes };
}

function describe(
  vm: VmSummary,
  { checkpoint }: LeasedCheckpoint,
  disks: readonly CheckpointDisk[],
  random: Random,
): OpenRequest {
  return {
    ...OpenRequest.fromPartial({}),
    vmId: guidToWire(vm.id),
    vmName: vm.name,
    cycleId: guidToWire(randomGuid(random)),
    pointId: guidToWire(randomGuid(random)),
    kind: 'seed',
    disks: disks.map((disk) => ({
      geometry: {
        diskId: guidToWire(disk.diskId),
        generation: 0,
        sizeBytes: BigInt(disk.sizeBytes),
        logicalSectorBytes: disk.logicalSectorBytes,
        physicalSectorBytes: disk.physicalSectorBytes,
      },
      transfer: DiskTransfer.DISK_TRANSFER_BASE,
    })),
    consistentAtMs: BigInt(Math.max(0, Math.round(checkpoint.createdAtMs))),
    checkpointId: 'medium',
  };
}

async function* messagesOf(
  vm: VmSummary,
  lease: LeasedCheckpoint,
  disks: readonly CheckpointDisk[],
  { signal, onProgress }: SeedMediumSeams,
  counts: { dataBytes: number },
): AsyncGenerator<Buffer, void, undefined> {
  const compression = new CompressionChoice();
  const totalBytes = disks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  let doneBytes = 0;
  for (const [diskIndex, checkpointDisk] of disks.entries()) {
    const disk = await lease.openDisk(checkpointDisk.diskId);
    const end = cellCount(disk.sizeBytes);
    const stream = new DiskStream({
      diskIndex,
      disk,
      header: {
        kind: 'base',
        point: ZERO_GUID,
        parentPoint: ZERO_GUID,
        vmId: vm.id,
        diskId: checkpointDisk.diskId,
        diskGeneration: 0,
        diskSizeBytes: disk.sizeBytes,
        logicalSectorBytes: disk.logicalSectorBytes,
        physicalSectorBytes: disk.physicalSectorBytes,
        epoch: 0n,
      },
      ranges: () => (end === 0 ? [] : [{ start: 0, end }]),
      meanRunCells: end,
      compression,
    });
    for await (const message of stream.messages(0, { compare: undefined, reuse: [] })) {
      signal.throwIfAborted();
      yield message;
      const share = end === 0 ? 1 : stream.sentCells / end;
      onProgress(doneBytes + Math.floor(share * disk.sizeBytes), totalBytes);
    }
    counts.dataBytes += stream.counts.dataBytes;
    doneBytes += disk.sizeBytes;
  }
}
