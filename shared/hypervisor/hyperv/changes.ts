// What changed between a reference point and a checkpoint. virtdisk.dll is asked, and vmms where it cannot be; before,
// everything that we know ourselves is compared, because a disk that was replaced or went back may still answer
// (hyperv.md § 1.7). Whatever is doubtful ends as E_TRACKING_INVALID: then every byte is compared.

import type { Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import type { ByteRange } from '../source.js';
import {
  frozenFiles,
  requireCheckpoint,
  requireFrozenFile,
  type FrozenFile,
} from './checkpoints.js';
import type { HyperVContext } from './context.js';
import { endOfMethod } from './jobs.js';
import { chainOf, isSamePath, loadMachine } from './machines.js';
import { missedAt, readMemory } from './memory.js';
import { changesOf, VirtualDiskError, type ChangePage } from './native/index.js';
import { getDiskChanges } from './operations/disks.js';

/** How much of a disk vmms is asked about at a time: its answers are lists without a limit. */
const WINDOW_BYTES = 64 * 1024 ** 3;
const WINDOW_MS = 5 * 60_000;
const MIB = 1024 * 1024;
/** A window whose answer is too long is asked for in halves; so many times at the most, down to 256 MiB. */
const HALVINGS_MAX = 8;
/** Timeout in both numberings, out of memory. */
const TOO_MUCH = [3, 32_772, 32_778];

export async function* changedRanges(
  context: HyperVContext,
  vmId: Guid,
  checkpointId: string,
  diskId: Guid,
  trackingId: string,
): AsyncGenerator<ByteRange> {
  const { facts } = await requireCheckpoint(context, vmId, checkpointId);
  const files = await frozenFiles(context, vmId, facts);
  const file = files.find((each) => each.diskId === diskId);
  if (file === undefined) throw invalid(diskId, 'the disk is not of the checkpoint');
  await compareWithMemory(context, vmId, file, trackingId);
  const { canQueryChanges } = await context.virtualDisks.capabilities();
  if (!canQueryChanges) {
    yield* changesByVmms(context, file, trackingId);
    return;
  }
  let count = 0;
  try {
    for await (const range of context.virtualDisks.changedRanges(file.path, trackingId)) {
      count++;
      yield range;
    }
  } catch (error) {
    const isRefused =
      error instanceof VirtualDiskError &&
      (error.fault === 'not-available' || error.fault === 'access-denied');
    // what was handed out cannot be taken back, but what vmms says would begin anew
    if (!isRefused || count > 0) throw error;
    yield* changesByVmms(context, file, trackingId);
  }
}

/** By vmms alone: the second witness of an acceptance. */
export async function* rangesByVmms(
  context: HyperVContext,
  vmId: Guid,
  checkpointId: string,
  diskId: Guid,
  trackingId: string,
): AsyncGenerator<ByteRange> {
  const file = await requireFrozenFile(context, vmId, checkpointId, diskId);
  yield* changesByVmms(context, file, trackingId);
}

async function compareWithMemory(
  context: HyperVContext,
  vmId: Guid,
  file: FrozenFile,
  trackingId: string,
): Promise<void> {
  const { points } = await readMemory(context, vmId);
  const point = points.find(({ disks }) => disks.some((disk) => disk.trackingId === trackingId));
  // the id may still be answered to, but whether the disk went back since cannot be told any more
  if (point === undefined) {
    const missed = await missedAt(context, vmId);
    const because =
      missed === undefined
        ? 'the reference point is not known here'
        : `nothing is remembered of the VM at ${missed}: its configuration was moved, or the file removed`;
    throw invalid(file.diskId, because);
  }
  const known = point.disks.find((disk) => disk.diskId === file.diskId);
  if (known?.trackingId !== trackingId) {
    throw invalid(file.diskId, 'the tracking id is of another disk');
  }
  if (known.sizeBytes !== file.sizeBytes) {
    throw invalid(
      file.diskId,
      `its size was ${known.sizeBytes} bytes then and is ${file.sizeBytes} now`,
    );
  }
  const { lastAppliedId } = await loadMachine(context, vmId);
  if (lastAppliedId !== point.lastAppliedId) {
    throw invalid(file.diskId, 'a checkpoint was applied to the VM');
  }
  // the same one applied twice leaves no other trace: what is above it is a new file. Our own checkpoints merge into
  // the frozen file, which stays
  const { file: frozen } = known;
  const chain = await chainOf(context, file.path);
  if (frozen === undefined || !chain.some((each) => isSamePath(each, frozen))) {
    throw invalid(file.diskId, `it does not stand on ${frozen ?? 'a file that is known'} any more`);
  }
}

async function* changesByVmms(
  context: HyperVContext,
  { path, diskId, sizeBytes }: FrozenFile,
  trackingId: string,
): AsyncGenerator<ByteRange> {
  const what = `the changes of ${path}`;
  const wait = { ...context, what, timeoutMs: WINDOW_MS, code: 'E_TRACKING_INVALID' as const };
  const ask = async (offset: number, lengthBytes: number): Promise<ChangePage> => {
    const window = { offsetBytes: String(offset), lengthBytes: String(lengthBytes) };
    const answer = await context.runner.run(getDiskChanges, { path, trackingId, ...window });
    await endOfMethod(answer, wait);
    return {
      processedBytes: BigInt(answer.processedBytes),
      ranges: answer.ranges.map((range) => ({
        offset: BigInt(range.offsetBytes),
        lengthBytes: BigInt(range.lengthBytes),
      })),
    };
  };
  let windowBytes = WINDOW_BYTES;
  yield* changesOf({
    sizeBytes,
    page: async (offset, leftBytes) => {
      for (let halvingsLeft = HALVINGS_MAX; ; halvingsLeft--) {
        const lengthBytes = Math.min(leftBytes, windowBytes);
        try {
          return await ask(offset, lengthBytes);
        } catch (error) {
          if (!isTooMuch(error) || halvingsLeft === 0 || lengthBytes <= MIB) throw error;
          // what is dense here is likely to be dense behind it
          windowBytes = Math.ceil(lengthBytes / 2 / MIB) * MIB;
        }
      }
    },
    refuse: (contradiction) => invalid(diskId, `Hyper-V contradicts itself: ${contradiction}`),
  });
}

/** An answer that is too long for the line ends its host, which is told as an error of the hypervisor. */
function isTooMuch(error: unknown): boolean {
  if (!(error instanceof DrError)) return false;
  const { returnValue } = error.context;
  return (
    error.code === 'E_HYPERVISOR' ||
    (typeof returnValue === 'number' && TOO_MUCH.includes(returnValue))
  );
}

function invalid(diskId: Guid, reason: string): DrError {
  return new DrError(
    'E_TRACKING_INVALID',
    `the changes of the disk ${diskId} are not known: ${reason}`,
    {
      context: { diskId, reason },
    },
  );
}
