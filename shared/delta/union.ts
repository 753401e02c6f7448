// Several deltas of one disk seen as one: newer cells hide older ones, zero cells included. The
// union is a streaming merge of ordered sources; it is written as one merged delta, or as the
// content of a differencing disk over the base (design.md § 7, compact and materialise). Memory is
// one record per delta and what is read ahead.

import { assert, defined } from '../assert.js';
import type { DeltaTarget } from './apply.js';
import { checkSameDisk } from './base-manifest.js';
import type { ByteSink } from './byte-source.js';
import { CELL_BYTES, cellOffset } from './cell.js';
import { CellDeltaWriter } from './cell-delta.js';
import { DeltaError } from './delta-error.js';
import type { DataEntry, DeltaEntry, DeltaSource } from './delta-source.js';
import type { ManifestHeader, ManifestTrailer } from './manifest-format.js';
import { Peekable } from './peekable.js';
import { readAhead, type UnionBatch, type UnionEntry } from './read-ahead.js';

function entryEnd(entry: DeltaEntry): number {
  return entry.cell + (entry.kind === 'data' ? 1 : entry.count);
}

/** The union of `sources`, the oldest first, in ascending order of cells from `firstCell` on. */
export async function* unionOf(
  sources: readonly DeltaSource[],
  firstCell = 0,
): AsyncGenerator<UnionEntry> {
  const cursors = sources.map((source) => new Peekable(source.entries()));
  try {
    for (const cursor of cursors) await skipTo(cursor, firstCell);
    for (;;) {
      // The newest of the entries that begin first wins; it ends where a newer one begins.
      let start = Infinity;
      let winner = -1;
      const heads: (DeltaEntry | undefined)[] = [];
      for (const [index, cursor] of cursors.entries()) {
        const head = await cursor.peek();
        heads.push(head);
        if (head !== undefined && head.cell <= start) {
          start = head.cell;
          winner = index;
        }
      }
      const head = heads[winner];
      if (head === undefined) return;
      let end = entryEnd(head);
      for (const newer of heads.slice(winner + 1)) {
        if (newer !== undefined) end = Math.min(end, newer.cell);
      }
      const entry = head.kind === 'data' ? head : { ...head, count: end - start };
      yield { entry, source: winner };
      for (const cursor of cursors) await skipTo(cursor, end);
    }
  } finally {
    for (const cursor of cursors) await cursor.close();
  }
}

/** Drops what lies before `cell`, cutting a run of zeros where needed. */
async function skipTo(cursor: Peekable<DeltaEntry>, cell: number): Promise<void> {
  for (;;) {
    const head = await cursor.peek();
    if (head === undefined || head.cell >= cell) return;
    await cursor.next();
    const end = entryEnd(head);
    if (end > cell) {
      cursor.replace({ kind: 'zero', cell, count: end - cell });
      return;
    }
  }
}

/**
 * Checks that each delta leads on from the one before it, on the same disk; the oldest first.
 * @throws DeltaError E_DELTA_PARENT, E_DISK_MISMATCH
 */
export function checkAdjacent(headers: readonly ManifestHeader[]): void {
  let previous: ManifestHeader | undefined;
  for (const header of headers) {
    if (header.kind !== 'delta') {
      throw new DeltaError('E_DELTA_PARENT', `the manifest of point ${header.point} is no delta`);
    }
    if (previous !== undefined) {
      checkSameDisk(previous, header);
      if (header.parentPoint !== previous.point) {
        throw new DeltaError(
          'E_DELTA_PARENT',
          `the delta of point ${header.point} follows ${header.parentPoint}, not ${previous.point}`,
          { context: { point: header.point, parentPoint: header.parentPoint } },
        );
      }
    }
    previous = header;
  }
}

/**
 * Reads the union once, from `firstCell` on. The cells of a batch are whole and their hashes were checked; its bytes are
 * valid until the next one is asked for. @throws DeltaError E_DELTA_HASH, E_DELTA_MANIFEST, …
 */
export function readUnion(
  sources: readonly DeltaSource[],
  firstCell = 0,
): AsyncGenerator<UnionBatch> {
  return readAhead(unionOf(sources, firstCell), sources);
}

/**
 * Reads the union once and hands on each batch: data as whole cells whose hashes were checked, valid
 * until the call settles, or zeros. @throws DeltaError E_DELTA_HASH, E_DELTA_MANIFEST, …
 */
async function forEachBatch(
  sources: readonly DeltaSource[],
  onData: (entries: readonly DataEntry[], bytes: Buffer) => Promise<void>,
  onZero: (cell: number, count: number) => Promise<void>,
): Promise<void> {
  for await (const batch of readUnion(sources)) {
    if (batch.kind === 'zero') await onZero(batch.cell, batch.count);
    else await onData(batch.entries, batch.bytes);
  }
}

/**
 * Writes the union of adjacent deltas, the oldest first, to a target in ascending order: the content
 * of a differencing disk over the base of the oldest, or a fold into that base itself. Each cell's
 * hash is checked before it is written. Nothing is flushed.
 * @throws DeltaError E_DELTA_PARENT, E_DISK_MISMATCH, E_DELTA_HASH, …; DrError of the target
 */
export async function writeUnion(
  sources: readonly DeltaSource[],
  target: DeltaTarget,
): Promise<void> {
  checkAdjacent(sources.map((source) => source.header));
  const sizeBytes = sources[0]?.header.diskSizeBytes ?? 0;
  await forEachBatch(
    sources,
    async (entries, bytes) => {
      const first = defined(entries[0], 'a batch has a cell');
      await target.write(first.cell * CELL_BYTES, bytes);
    },
    async (cell, count) => {
      const offset = cell * CELL_BYTES;
      await target.zero(offset, cellOffset(cell + count, sizeBytes) - offset);
    },
  );
}

/** The header of the delta that adjacent deltas make together. */
export function mergedHeader(headers: readonly ManifestHeader[]): ManifestHeader {
  checkAdjacent(headers);
  const oldest = headers[0];
  const newest = headers.at(-1);
  assert(oldest !== undefined && newest !== undefined, 'a merge has deltas');
  return { ...newest, parentPoint: oldest.parentPoint };
}

/**
 * Writes adjacent deltas, the oldest first, as one delta in the form of the DR store. Each cell's
 * hash is checked on the way. Durability is the sinks' affair.
 * @throws DeltaError E_DELTA_PARENT, E_DISK_MISMATCH, E_DELTA_HASH, …; DrError of the sinks
 */
export async function mergeDeltas(
  sources: readonly DeltaSource[],
  data: ByteSink,
  manifest: ByteSink,
): Promise<ManifestTrailer> {
  const header = mergedHeader(sources.map((source) => source.header));
  const writer = new CellDeltaWriter(header, data, manifest);
  await forEachBatch(
    sources,
    async (entries, bytes) => {
      for (const [index, entry] of entries.entries()) {
        const cell = bytes.subarray(index * CELL_BYTES, (index + 1) * CELL_BYTES);
        await writer.add(entry.cell, cell, entry.hash);
      }
    },
    (cell, count) => writer.addZero(cell, count),
  );
  return writer.finish();
}
