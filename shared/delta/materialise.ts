// A restore point as a disk that a hypervisor can use: one new differencing VHDX over the base, which
// holds the union of all deltas up to the point (design.md § 7). Built sequentially without a log;
// its cost is that of the changes. The base is only read, and must not be written to as long as the
// new disk exists.

import type { Guid } from '../bytes/index.js';
import type { Random } from '../clock.js';
import type { FileSystem } from '../files/index.js';
import { childOf, realTargetPath, SealedVhdxWriter, type VhdxDisk } from '../vhdx/index.js';
import { DeltaError } from './delta-error.js';
import type { DeltaSource } from './delta-source.js';
import { OverlappedWrites } from './overlapped-writes.js';
import { writeUnion } from './union.js';
import { WholeBlocks } from './whole-blocks.js';

/** Somebody waits for the disk to be durable: the device begins soon, and is nearly done at the end. */
const FLUSH_EVERY_BYTES = 32 * 1024 * 1024;

export interface MaterialiseOptions {
  /** Default: as Hyper-V makes differencing disks. */
  readonly blockSizeBytes?: number | undefined;
  /** Content identity of the new file. Default: random. */
  readonly dataWriteGuid?: Guid | undefined;
}

/**
 * Makes `file`, beside the base, from adjacent deltas, the oldest first. Durable and complete under
 * its name on return, or not there at all. Each cell's hash is checked on the way.
 * @throws DeltaError E_DISK_MISMATCH, E_DELTA_PARENT, E_DELTA_HASH, …; DrError E_EXISTS, E_IO, …
 */
export async function materialise(
  file: string,
  base: VhdxDisk,
  sources: readonly DeltaSource[],
  seams: { readonly fs: FileSystem; readonly random: Random },
  { blockSizeBytes, dataWriteGuid }: MaterialiseOptions = {},
): Promise<void> {
  for (const { header } of sources) {
    if (header.diskSizeBytes === base.sizeBytes) continue;
    throw new DeltaError(
      'E_DISK_MISMATCH',
      `the delta of point ${header.point} is for a disk of ${header.diskSizeBytes} bytes, the base has ${base.sizeBytes}`,
      { context: { deltaSizeBytes: header.diskSizeBytes, baseSizeBytes: base.sizeBytes } },
    );
  }
  const target = await realTargetPath(seams.fs, file);
  const child = childOf(base, target, blockSizeBytes, dataWriteGuid);
  const writer = await SealedVhdxWriter.create({
    ...{ ...child, ...seams, path: file },
    flushEveryBytes: FLUSH_EVERY_BYTES,
  });
  // the next cell is read and checked while the device takes the one before
  const writes = new OverlappedWrites(writer);
  try {
    const whole = new WholeBlocks(writes, base, writer.geometry.blockSizeBytes);
    await writeUnion(sources, whole);
    await whole.finish();
    await writes.drain();
    await writer.finish();
  } catch (error) {
    await writes.settled();
    await writer.abort();
    throw error;
  }
}
