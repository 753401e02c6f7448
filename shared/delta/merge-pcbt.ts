// Adjacent deltas as one PCBT file with its manifest, for `hvdr pcbt merge`. Two passes over the
// entries of the sources, because PCBT wants the number of blocks first; the bytes are read once, and
// each cell's hash is checked as it is written. Memory is the set of cells and a buffer of 1 MiB.

import { defined } from '../assert.js';
import { CELL_BYTES, cellLength } from './cell.js';
import { CellSet } from './cell-set.js';
import { DeltaError } from './delta-error.js';
import { type DataEntry, type DeltaSource, readVerified } from './delta-source.js';
import { planDelta, type Progress } from './diff.js';
import type { ManifestWriter } from './manifest.js';
import type { ManifestHeader } from './manifest-format.js';
import { encodePcbt, type PcbtPlan } from './pcbt.js';
import { Peekable } from './peekable.js';
import type { UnionEntry } from './read-ahead.js';
import { mergedHeader, unionOf } from './union.js';

export interface MergePlan {
  /** Of the merged delta. */
  readonly header: ManifestHeader;
  readonly cellCount: number;
  readonly pcbt: PcbtPlan;
}

/**
 * Finds the cells of adjacent deltas, the oldest first. Reads no cell.
 * @throws DeltaError E_DELTA_PARENT, E_DISK_MISMATCH, E_DELTA_MANIFEST, E_DELTA_COVERAGE, E_PCBT_…
 */
export async function planMerge(sources: readonly DeltaSource[]): Promise<MergePlan> {
  const header = mergedHeader(sources.map((source) => source.header));
  const cells = new CellSet();
  for await (const { entry } of unionOf(sources)) {
    cells.add(entry.cell, entry.cell + (entry.kind === 'data' ? 1 : entry.count));
  }
  const pcbt = planDelta({ sizeBytes: header.diskSizeBytes }, { cells, checksum: undefined });
  return { header, cellCount: cells.count, pcbt };
}

/**
 * The bytes of the merged PCBT file, while the records go to `manifest` (which the caller finishes).
 * A chunk is valid until the next one is asked for.
 * @throws DeltaError E_DELTA_HASH, E_DELTA_UNSTABLE when a source has changed since it was planned,
 *   and what planMerge throws
 */
export async function* encodeMerge(
  sources: readonly DeltaSource[],
  plan: MergePlan,
  manifest: ManifestWriter,
  progress?: Progress,
): AsyncGenerator<Buffer> {
  const union = new Peekable(unionOf(sources));
  let doneBytes = 0;
  try {
    const { diskSizeBytes } = plan.header;
    yield* encodePcbt(plan.pcbt, { diskSizeBytes }, async (offset, target) => {
      await fill(sources, union, offset, target, manifest);
      doneBytes += target.length;
      progress?.(doneBytes, plan.pcbt.fileBytes);
    });
    if ((await union.next()) !== undefined) throw unstable();
  } finally {
    await union.close();
  }
}

function unstable(): DeltaError {
  return new DeltaError('E_DELTA_UNSTABLE', 'a delta changed while it was being merged', {
    done: 'the merged delta is not valid and was not kept',
  });
}

/** Fills `target` with whole cells from `offset` on, which the union has next. */
async function fill(
  sources: readonly DeltaSource[],
  union: Peekable<UnionEntry>,
  offset: number,
  target: Buffer,
  manifest: ManifestWriter,
): Promise<void> {
  let at = 0;
  while (at < target.length) {
    const head = await union.next();
    const cell = (offset + at) / CELL_BYTES;
    if (head?.entry.cell !== cell) throw unstable();
    const rest = target.subarray(at);
    if (head.entry.kind === 'zero') {
      const { count } = head.entry;
      const taken = Math.min(count, Math.ceil(rest.length / CELL_BYTES));
      rest.fill(0, 0, Math.min(rest.length, taken * CELL_BYTES));
      await manifest.addZero(cell, taken);
      if (taken < count) {
        const left = { kind: 'zero', cell: cell + taken, count: count - taken } as const;
        union.replace({ ...head, entry: left });
      }
      at += taken * CELL_BYTES;
    } else {
      const source = defined(sources[head.source], 'the union names one of its sources');
      const entries = await inARow(union, head.source, head.entry, rest.length);
      let lengthBytes = 0;
      for (const entry of entries) {
        lengthBytes += cellLength(entry.cell, source.header.diskSizeBytes);
      }
      await readVerified(source, entries, rest.subarray(0, lengthBytes));
      for (const entry of entries) await manifest.addData(entry.cell, entry.hash);
      at += lengthBytes;
    }
  }
}

/** `first` and what one read serves with it, up to `lengthBytes`. */
async function inARow(
  union: Peekable<UnionEntry>,
  source: number,
  first: DataEntry,
  lengthBytes: number,
): Promise<DataEntry[]> {
  const entries = [first];
  for (let last = first; entries.length * CELL_BYTES < lengthBytes;) {
    const next = await union.peek();
    if (next?.source !== source || next.entry.kind !== 'data') break;
    const { entry } = next;
    if (entry.cell !== last.cell + 1 || entry.position !== last.position + CELL_BYTES) break;
    await union.next();
    entries.push(entry);
    last = entry;
  }
  return entries;
}
