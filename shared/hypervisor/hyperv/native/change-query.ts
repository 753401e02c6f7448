// The query loop for changed ranges, free of any native call: it asks page by page, checks what comes back, and joins.
// virtdisk.dll may answer a part only, and programs that ask once lose ranges (hyperv.md § 2.4).

import type { ByteRange } from '../../source.js';

/** As Windows answers: nothing is promised about order, overlap or bounds. */
export interface ChangePage {
  /** How much of what was asked about this page covers. */
  readonly processedBytes: bigint;
  readonly ranges: readonly { readonly offset: bigint; readonly lengthBytes: bigint }[];
}

export interface ChangeQuery {
  readonly sizeBytes: number;
  readonly page: (offset: number, lengthBytes: number) => Promise<ChangePage>;
  /** Makes the error that ends the query; `what` is the contradiction. */
  readonly refuse: (what: string) => Error;
}

/** Ascending, disjoint, joined ranges inside the disk, which cover everything that a page named. */
export async function* changesOf({
  sizeBytes,
  page,
  refuse,
}: ChangeQuery): AsyncGenerator<ByteRange> {
  let pending: ByteRange | undefined;
  /** No range may begin before it: what lies there has been handed out. */
  let settled = 0;
  for (let offset = 0; offset < sizeBytes;) {
    const left = sizeBytes - offset;
    const { processedBytes, ranges } = await page(offset, left);
    // a partial answer is legal, none at all would be asked for without end
    if (processedBytes <= 0n) throw refuse(`no progress at ${offset}`);
    if (processedBytes > BigInt(left)) throw refuse(`more was processed than asked at ${offset}`);
    for (const range of sorted(ranges)) {
      const start = Number(range.offset);
      // before the clamp: an end beyond 2^53 is a number that means the end of the disk
      const end = Math.min(sizeBytes, Number(range.offset + range.lengthBytes));
      if (start >= end) continue;
      if (start < settled) throw refuse(`a range at ${start} after all up to ${settled}`);
      if (pending !== undefined && start > pending.end) {
        yield pending;
        settled = pending.end;
        pending = undefined;
      }
      // out of order, but nothing behind it is settled: the gap is reported too
      pending = {
        start: Math.min(pending?.start ?? start, start),
        end: Math.max(pending?.end ?? end, end),
      };
    }
    offset += Number(processedBytes);
  }
  if (pending !== undefined) yield pending;
}

function sorted(ranges: ChangePage['ranges']): ChangePage['ranges'] {
  return ranges.toSorted((a, b) => (a.offset < b.offset ? -1 : a.offset > b.offset ? 1 : 0));
}
