// What of a frozen disk holds data, by our own VHDX engine: virtdisk.dll has no map, and without one a full pass reads
// every byte of a disk that may be nearly empty. Bytes always come from virtdisk.dll. The map is believed only where
// that can be: each file of the chain was closed properly, so that its tables say all that there is; and samples of what
// it leaves out are zero. In doubt everything is data.

import type { Extent, ReadableDisk } from '../../disk/index.js';
import { DrError } from '../../errors.js';
import { openVhdx } from '../../vhdx/index.js';
import type { HyperVContext } from './context.js';

/** Spread over the disk: the first place in each part of it that the map leaves out. */
const SAMPLES = 64;
const SAMPLE_BYTES = 4096;

/** The caller closes it. */
export async function openFrozenDisk(context: HyperVContext, path: string): Promise<ReadableDisk> {
  const { virtualDisks } = context;
  const openInstead = (file: string): Promise<ReadableDisk> => openVhdx(file, context);
  const openMap = (file: string): Promise<ReadableDisk | undefined> => frozenMap(context, file);
  const disk = await virtualDisks.openFrozen(path, { openInstead, openMap });
  let isBelieved = false;
  try {
    isBelieved = await isZeroWhereSampled(disk);
  } finally {
    if (!isBelieved) await disk.close();
  }
  return isBelieved ? disk : virtualDisks.openFrozen(path, { openInstead });
}

/** undefined where the tables of the files cannot be relied on. */
export async function frozenMap(
  context: Pick<HyperVContext, 'fs' | 'random'>,
  path: string,
): Promise<ReadableDisk | undefined> {
  try {
    const disk = await openVhdx(path, context);
    // a log that is still to be replayed: the file was not closed by whoever wrote to it, or is open still
    if (disk.layers.every(({ structures }) => structures.replay === undefined)) return disk;
    await disk.close();
    return undefined;
  } catch (error) {
    // what our engine does not take, virtdisk.dll may: the map is a help, no more
    if (error instanceof DrError) return undefined;
    throw error;
  }
}

async function isZeroWhereSampled(disk: ReadableDisk): Promise<boolean> {
  const partBytes = Math.ceil(disk.sizeBytes / SAMPLES);
  let nextAt = 0;
  for await (const extent of disk.extents(0, disk.sizeBytes)) {
    if (extent.kind === 'data') continue;
    while (nextAt < extent.end) {
      const start = Math.max(nextAt, extent.start);
      if (!(await isZero(disk, { ...extent, start }))) return false;
      nextAt = (Math.floor(start / partBytes) + 1) * partBytes;
    }
  }
  return true;
}

async function isZero(disk: ReadableDisk, { start, end }: Extent): Promise<boolean> {
  const bytes = Buffer.alloc(Math.min(SAMPLE_BYTES, end - start));
  await disk.read(start, bytes);
  return bytes.every((byte) => byte === 0);
}
