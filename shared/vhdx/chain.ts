// A chain of VHDX files as one disk: the topmost file first, its parent behind it, down to a base.
// Only the topmost one is ever written to. Opening proves that the files belong together: content
// identity against linkage, equal logical sectors, no circle, bounded depth, nothing outside the
// folder, no merge half done.

import path from 'node:path';
import { assert, defined } from '../assert.js';
import type { Random } from '../clock.js';
import type { Extent, WritableDisk } from '../disk/index.js';
import type { FileSystem } from '../files/index.js';
import { findChildren } from './children.js';
import { CHAIN_DEPTH_MAX } from './format.js';
import { readIntent, type MergeIntent } from './merge-intent.js';
import { findParent } from './parent-path.js';
import { VhdxFile } from './vhdx-file.js';
import { VhdxError, type VhdxErrorCode } from './violation.js';

export interface OpenVhdxOptions {
  readonly fs: FileSystem;
  readonly random: Random;
  /** Default: false. A disk that other disks depend on is refused for writing. */
  readonly isWritable?: boolean;
}

/**
 * Opens a VHDX and, when it is differencing, all of its parents. The dirty log of a file to be
 * written to is replayed in the file, but only when the whole chain has passed every check.
 */
export async function openVhdx(file: string, options: OpenVhdxOptions): Promise<VhdxDisk> {
  const { fs, random, isWritable = false } = options;
  // Children and merge marks stand beside the file itself, not beside a link to it.
  const start = await fs.realPath(file);
  if (isWritable) await refuseWhenParent(fs, file);
  const layers: VhdxFile[] = [];
  try {
    const seen = new Set<string>();
    let top: VhdxFile | undefined;
    let current = start;
    for (;;) {
      const identity = (await fs.status(current))?.identity ?? current;
      if (seen.has(identity))
        throw chainError(file, 'E_VHDX_CHAIN', `${current} is its own ancestor`);
      seen.add(identity);
      if (seen.size > CHAIN_DEPTH_MAX) {
        throw chainError(file, 'E_VHDX_CHAIN', `the chain is deeper than ${CHAIN_DEPTH_MAX} files`);
      }
      const isTop = layers.length === 0;
      const layer = await VhdxFile.open(current, { fs, random, isWritable: isWritable && isTop });
      layers.push(layer);
      const child = layers.at(-2);
      const intent = await validIntent(fs, layer);
      if (child === undefined) {
        if (intent !== undefined) throw mergePending(layer.path, intent);
        top = layer;
      } else {
        checkLink(child, layer, intent, isWritable && child === top);
      }
      const { locator } = layer.structures;
      if (locator === undefined) {
        await top?.replayLog();
        return new VhdxDisk(layers);
      }
      current = await findParent(fs, current, locator);
    }
  } catch (error) {
    await Promise.allSettled(layers.map((layer) => layer.close()));
    throw error;
  }
}

/** The merge mark beside `layer`, unless it is a leftover that speaks of another file. */
export async function validIntent(
  fs: FileSystem,
  layer: VhdxFile,
): Promise<MergeIntent | undefined> {
  const intent = await readIntent(fs, layer.path);
  const own = layer.header.dataWriteGuid;
  const isOurs = intent?.parentDataWriteGuid === own || intent?.childDataWriteGuid === own;
  return isOurs ? intent : undefined;
}

function checkLink(
  child: VhdxFile,
  parent: VhdxFile,
  intent: MergeIntent | undefined,
  isChildWritable: boolean,
): void {
  const locator = defined(child.structures.locator, 'a child has a locator');
  const isMerging = intent?.child === path.basename(child.path);
  if (intent !== undefined && (!isMerging || isChildWritable))
    throw mergePending(parent.path, intent);
  const identity = parent.header.dataWriteGuid;
  const isLinked =
    identity === locator.parentLinkage ||
    identity === locator.parentLinkage2 ||
    (isMerging && identity === child.header.dataWriteGuid);
  if (!isLinked) {
    throw chainError(
      child.path,
      'E_VHDX_PARENT_CHANGED',
      `the parent ${parent.path} has the content identity ${identity}, the child was made from ` +
        `${locator.parentLinkage}: it was replaced, or written to since`,
    );
  }
  const sectors = [child, parent].map((layer) => layer.geometry.logicalSectorBytes);
  if (sectors[0] !== sectors[1]) {
    throw chainError(
      child.path,
      'E_VHDX_CHAIN',
      `logical sectors of ${sectors[0]} bytes, but the parent ${parent.path} has ${sectors[1]}`,
    );
  }
}

async function refuseWhenParent(fs: FileSystem, file: string): Promise<void> {
  const children = await findChildren(fs, file);
  if (children.length === 0) return;
  throw chainError(
    file,
    'E_VHDX_HAS_CHILDREN',
    `writing to it would make its children wrong: ${children.join(', ')}`,
  );
}

export function mergePending(parentPath: string, intent: MergeIntent): VhdxError {
  const child = path.join(path.dirname(parentPath), intent.child);
  return new VhdxError(
    {
      code: 'E_VHDX_MERGE_PENDING',
      structure: 'merge mark',
      message: `the merge of ${child} into it is not finished`,
    },
    parentPath,
    { hint: `Run \`hvdr vhdx merge ${child}\`; it goes on where it stopped.` },
  );
}

function chainError(file: string, code: VhdxErrorCode, message: string): VhdxError {
  return new VhdxError({ code, structure: 'chain', message }, file);
}

/** A VHDX with its parents, as a guest sees it. */
export class VhdxDisk implements WritableDisk {
  /** Topmost file first. */
  readonly layers: readonly VhdxFile[];
  readonly sizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly #top: VhdxFile;
  /** Unaligned writes to a differencing disk read before they write; they go one by one. */
  #unaligned: Promise<unknown> = Promise.resolve();

  constructor(layers: readonly VhdxFile[]) {
    this.layers = layers;
    this.#top = defined(layers[0], 'a chain has at least one file');
    const { disk } = this.#top.structures;
    this.sizeBytes = disk.sizeBytes;
    this.logicalSectorBytes = disk.logicalSectorBytes;
    this.physicalSectorBytes = Math.max(disk.physicalSectorBytes, disk.logicalSectorBytes);
  }

  get top(): VhdxFile {
    return this.#top;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    this.#assertInside(offset, target.length);
    this.#top.beginRead();
    try {
      await this.#readLayer(0, offset, target);
    } finally {
      this.#top.endRead();
    }
  }

  async #readLayer(index: number, offset: number, target: Uint8Array): Promise<void> {
    const layer = this.layers[index];
    if (layer === undefined) {
      target.fill(0);
      return;
    }
    const inside = Math.min(target.length, layer.geometry.sizeBytes - offset);
    if (inside < target.length) target.fill(0, Math.max(0, inside)); // a parent that is shorter
    if (inside <= 0) return;
    const segments = await layer.resolve(offset, offset + inside);
    const reads: Promise<void>[] = [];
    for (const segment of segments) {
      const view = target.subarray(segment.start - offset, segment.end - offset);
      if (segment.kind === 'data') reads.push(layer.readStored(segment.at, view));
      else if (segment.kind === 'parent')
        reads.push(this.#readLayer(index + 1, segment.start, view));
      else view.fill(0);
    }
    await Promise.all(reads);
  }

  /** Extents through the whole chain: 'data' or 'zero'. */
  async *extents(start: number, end: number): AsyncGenerator<Extent> {
    let pending: Extent | undefined;
    for await (const extent of this.#layerExtents(0, start, end)) {
      if (pending?.kind === extent.kind) {
        pending = { start: pending.start, end: extent.end, kind: extent.kind };
        continue;
      }
      if (pending !== undefined) yield pending;
      pending = extent;
    }
    if (pending !== undefined) yield pending;
  }

  async *#layerExtents(index: number, start: number, end: number): AsyncGenerator<Extent> {
    const layer = this.layers[index];
    const inside = layer === undefined ? start : Math.min(end, layer.geometry.sizeBytes);
    if (layer !== undefined && start < inside) {
      for await (const extent of layer.extents(start, inside)) {
        if (extent.kind === 'parent')
          yield* this.#layerExtents(index + 1, extent.start, extent.end);
        else yield extent;
      }
    }
    const rest = Math.max(start, inside);
    if (rest < end) yield { start: rest, end, kind: 'zero' };
  }

  async write(offset: number, source: Uint8Array): Promise<void> {
    this.#assertInside(offset, source.length);
    const end = offset + source.length;
    const { start: middle, end: middleEnd } = this.#alignedPart(offset, end);
    if (middle >= middleEnd) {
      await this.#writeUnaligned(offset, source);
      return;
    }
    if (offset < middle) await this.#writeUnaligned(offset, source.subarray(0, middle - offset));
    await this.#top.write(middle, source.subarray(middle - offset, middleEnd - offset));
    if (middleEnd < end) await this.#writeUnaligned(middleEnd, source.subarray(middleEnd - offset));
  }

  async zero(offset: number, lengthBytes: number): Promise<void> {
    this.#assertInside(offset, lengthBytes);
    const end = offset + lengthBytes;
    const { start: middle, end: middleEnd } = this.#alignedPart(offset, end);
    if (middle >= middleEnd) {
      await this.#writeUnaligned(offset, Buffer.alloc(lengthBytes));
      return;
    }
    if (offset < middle) await this.#writeUnaligned(offset, Buffer.alloc(middle - offset));
    await this.#top.zero(middle, middleEnd - middle);
    if (middleEnd < end) await this.#writeUnaligned(middleEnd, Buffer.alloc(end - middleEnd));
  }

  /** The part that can be written as it is: all of it, unless sector bitmaps are concerned. */
  #alignedPart(start: number, end: number): { start: number; end: number } {
    if (this.layers.length === 1) return { start, end };
    const sector = this.physicalSectorBytes;
    return {
      start: Math.ceil(start / sector) * sector,
      end: end === this.sizeBytes ? end : Math.floor(end / sector) * sector,
    };
  }

  /** Less than a physical sector on a side: what is around it comes from the chain (§ 5.3). */
  async #writeUnaligned(offset: number, source: Uint8Array): Promise<void> {
    if (source.length === 0) return;
    const run = this.#unaligned.then(async () => {
      const sector = this.physicalSectorBytes;
      const start = Math.floor(offset / sector) * sector;
      const end = Math.min(this.sizeBytes, Math.ceil((offset + source.length) / sector) * sector);
      const whole = Buffer.alloc(end - start);
      await this.read(start, whole);
      whole.set(source, offset - start);
      await this.#top.write(start, whole);
    });
    this.#unaligned = run.catch(() => undefined);
    await run;
  }

  flush(): Promise<void> {
    return this.#top.flush();
  }

  async close(): Promise<void> {
    let failure: unknown;
    for (const layer of this.layers) {
      try {
        await layer.close();
      } catch (error) {
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure instanceof Error ? failure : new Error('close failed');
  }

  #assertInside(offset: number, lengthBytes: number): void {
    assert(offset >= 0 && lengthBytes >= 0, 'ranges do not start before the disk');
    assert(offset + lengthBytes <= this.sizeBytes, 'ranges do not reach behind the disk');
  }
}
