// The data cells of a union, read before they are asked for: a delta of a real guest is scattered, and its
// cells one by one would each wait for a call to the system. What one source has in a row is one read,
// whatever lies between in the others; the next window is read while the caller works on the one before.
// Memory is two windows of at most 4 MiB.

import { CELL_BYTES, cellLength } from './cell.js';
import { checkHashes, type DataEntry, type DeltaEntry, type DeltaSource } from './delta-source.js';

/** An entry of the union, and which of the deltas it comes from. */
export interface UnionEntry {
  readonly entry: DeltaEntry;
  /** Index into the list of sources. */
  readonly source: number;
}

/** A part of the union: cells that lie in a row, with their bytes, or a run of zeros. */
export type UnionBatch =
  | { readonly kind: 'data'; readonly entries: readonly DataEntry[]; readonly bytes: Buffer }
  | { readonly kind: 'zero'; readonly cell: number; readonly count: number };

/** Cells that one read serves: in a row in the place where their source keeps them. */
interface Stretch {
  readonly source: DeltaSource;
  readonly position: number;
  /** Of its first byte, in the buffer of the window. */
  readonly start: number;
  end: number;
}

/** An entry, and where in the buffer the bytes of its cell begin. */
interface Placed {
  readonly source: DeltaSource;
  readonly entry: DeltaEntry;
  start: number;
}

const WINDOW_ENTRIES = 64;
const BATCH_CELLS = 16;

class Window {
  #entries: readonly Placed[] = [];
  /** Grows to the largest that was needed. */
  #buffer = Buffer.alloc(0);

  /** Takes and reads the next entries; false when there are none. */
  async fill(union: AsyncIterator<UnionEntry>, sources: readonly DeltaSource[]): Promise<boolean> {
    const entries: Placed[] = [];
    while (entries.length < WINDOW_ENTRIES) {
      const next = await union.next();
      if (next.done === true) break;
      const source = sources[next.value.source];
      if (source !== undefined) entries.push({ source, entry: next.value.entry, start: 0 });
    }
    this.#entries = entries;
    const stretches = stretchesOf(entries);
    const lengthBytes = stretches.at(-1)?.end ?? 0;
    if (this.#buffer.length < lengthBytes) this.#buffer = Buffer.allocUnsafeSlow(lengthBytes);
    const reads = await Promise.allSettled(
      stretches.map(({ source, position, start, end }) =>
        source.read(position, this.#buffer.subarray(start, end)),
      ),
    );
    for (const read of reads) if (read.status === 'rejected') throw read.reason;
    return entries.length > 0;
  }

  /** In the order of the union; hashes are checked. @throws DeltaError E_DELTA_HASH */
  *batches(): Generator<UnionBatch> {
    let open: { source: DeltaSource; data: DataEntry[]; start: number } | undefined;
    for (const { source, entry, start } of this.#entries) {
      const last = open?.data.at(-1);
      if (
        entry.kind === 'data' &&
        open?.source === source &&
        open.data.length < BATCH_CELLS &&
        last?.cell === entry.cell - 1 &&
        last.position === entry.position - CELL_BYTES
      ) {
        open.data.push(entry);
        continue;
      }
      if (open !== undefined) yield this.#checked(open);
      open = undefined;
      if (entry.kind === 'data') open = { source, data: [entry], start };
      else yield entry;
    }
    if (open !== undefined) yield this.#checked(open);
  }

  #checked(batch: { source: DeltaSource; data: DataEntry[]; start: number }): UnionBatch {
    const { source, data, start } = batch;
    let end = start;
    for (const { cell } of data) end += cellLength(cell, source.header.diskSizeBytes);
    const bytes = this.#buffer.subarray(start, end);
    checkHashes(source, data, bytes);
    return { kind: 'data', entries: data, bytes };
  }
}

/** Gives every data entry its place in the buffer, and says what to read there. */
function stretchesOf(entries: readonly Placed[]): Stretch[] {
  const stretches: Stretch[] = [];
  let end = 0;
  for (const each of new Set(entries.map(({ source }) => source))) {
    let stretch: Stretch | undefined;
    for (const placed of entries) {
      const { source, entry } = placed;
      if (source !== each || entry.kind === 'zero') continue;
      if (stretch === undefined || entry.position - stretch.position !== end - stretch.start) {
        stretch = { source, position: entry.position, start: end, end };
        stretches.push(stretch);
      }
      placed.start = end;
      end += cellLength(entry.cell, source.header.diskSizeBytes);
      stretch.end = end;
    }
  }
  return stretches;
}

/**
 * Reads the cells of a union in its order. Those of a batch are whole and their hashes were checked; its
 * bytes are valid until the next one is asked for. @throws DeltaError E_DELTA_HASH, what the union throws
 */
export async function* readAhead(
  union: AsyncGenerator<UnionEntry>,
  sources: readonly DeltaSource[],
): AsyncGenerator<UnionBatch> {
  let current = new Window();
  let next = new Window();
  let isFilled: Promise<boolean> | undefined;
  try {
    isFilled = current.fill(union, sources);
    while (await isFilled) {
      isFilled = next.fill(union, sources);
      // it is looked at when its turn comes
      isFilled.catch(() => undefined);
      yield* current.batches();
      [current, next] = [next, current];
    }
  } finally {
    await isFilled?.catch(() => undefined);
    await union.return(undefined);
  }
}
