// What the files of a chain say before one of them is asked: everything that the files above an
// ancestor do not leave to it, whatever they hold in its place.

import type { Extent } from '../disk/index.js';
import { DrError } from '../errors.js';
import type { FileSystem } from '../files/index.js';
import type { VhdxDisk } from '../vhdx/index.js';
import type { ByteRange } from './source.js';

/**
 * The ranges of `disk` that do not come from `ancestorPath`: ascending, disjoint, neighbours joined.
 * @throws DrError E_NOT_FOUND when that is no file of the chain
 */
export async function* rangesAbove(
  fs: FileSystem,
  disk: VhdxDisk,
  ancestorPath: string,
): AsyncGenerator<ByteRange> {
  const count = await layersAbove(fs, disk, ancestorPath);
  let pending: ByteRange | undefined;
  for await (const { start, end, kind } of extentsOf(disk, 0, count, 0, disk.sizeBytes)) {
    if (kind === 'parent') continue;
    if (pending?.end === start) {
      pending = { start: pending.start, end };
      continue;
    }
    if (pending !== undefined) yield pending;
    pending = { start, end };
  }
  if (pending !== undefined) yield pending;
}

async function layersAbove(fs: FileSystem, disk: VhdxDisk, ancestorPath: string): Promise<number> {
  const identity = (await fs.status(ancestorPath))?.identity;
  for (const [index, layer] of disk.layers.entries()) {
    if (identity === undefined) break;
    if ((await fs.status(layer.path))?.identity === identity) return index;
  }
  throw new DrError('E_NOT_FOUND', `${ancestorPath} is no file of the chain of ${disk.top.path}`, {
    context: { file: ancestorPath, chain: disk.layers.map(({ path }) => path).join(', ') },
  });
}

/** Extents through the first `count` layers; 'parent' for what they leave to the one below. */
async function* extentsOf(
  disk: VhdxDisk,
  index: number,
  count: number,
  start: number,
  end: number,
): AsyncGenerator<Extent> {
  const layer = index < count ? disk.layers[index] : undefined;
  if (layer === undefined) {
    yield { start, end, kind: 'parent' };
    return;
  }
  // what lies behind the end of a shorter file reads as zeros, and its parents are not asked
  const inside = Math.max(start, Math.min(end, layer.geometry.sizeBytes));
  if (start < inside) {
    for await (const extent of layer.extents(start, inside)) {
      if (extent.kind !== 'parent') yield extent;
      else yield* extentsOf(disk, index + 1, count, extent.start, extent.end);
    }
  }
  if (inside < end) yield { start: inside, end, kind: 'zero' };
}
