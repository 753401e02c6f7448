// Sets of integers as sorted, disjoint, non-touching half-open ranges [start, end): byte extents,
// cells, blocks. A set is immutable and kept in one typed array of alternating starts and ends, 16
// bytes a range, so the memory follows the number of ranges and never the size of the disk.
// Every operation is linear in the ranges of its operands.

import { assert } from '../assert.js';

/** A half-open range [start, end) of non-negative integers, start < end. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

export class RangeSet implements Iterable<Range> {
  /** start 0, end 0, start 1, end 1, …, strictly ascending; doubles hold any offset exactly. */
  readonly #edges: Float64Array;

  private constructor(edges: Float64Array) {
    this.#edges = edges;
  }

  /** The union of `ranges`, which may come in any order, overlap and touch. Empty ones count not. */
  static of(ranges: Iterable<Range>): RangeSet {
    const sorted: Range[] = [];
    let isSorted = true;
    for (const range of ranges) {
      assertRange(range);
      if (range.start === range.end) continue;
      const last = sorted.at(-1);
      if (last !== undefined && range.start < last.start) isSorted = false;
      sorted.push(range);
    }
    if (!isSorted) sorted.sort((a, b) => a.start - b.start);
    const builder = new RangeSetBuilder();
    for (const range of sorted) builder.add(range.start, range.end);
    return builder.finish();
  }

  /** One range; empty when start equals end. */
  static single(start: number, end: number): RangeSet {
    return RangeSet.of([{ start, end }]);
  }

  static get empty(): RangeSet {
    return new RangeSet(new Float64Array(0));
  }

  /** @internal The edges are handed over. */
  static fromEdges(edges: Float64Array): RangeSet {
    return new RangeSet(edges);
  }

  /** Number of ranges. */
  get rangeCount(): number {
    return this.#edges.length / 2;
  }

  /** Number of integers in the set. */
  get size(): number {
    let sum = 0;
    for (const range of this) sum += range.end - range.start;
    return sum;
  }

  get isEmpty(): boolean {
    return this.#edges.length === 0;
  }

  *[Symbol.iterator](): Generator<Range, void, void> {
    const edges = this.#edges;
    for (let i = 0; i < edges.length; i += 2) yield { start: at(edges, i), end: at(edges, i + 1) };
  }

  has(value: number): boolean {
    // A value is inside exactly when an odd number of edges is at or below it.
    return this.#edgesAtOrBelow(value) % 2 === 1;
  }

  /** True when all of [start, end) is in the set; an empty range always is. */
  covers(start: number, end: number): boolean {
    assertRange({ start, end });
    if (start === end) return true;
    const count = this.#edgesAtOrBelow(start);
    return count % 2 === 1 && at(this.#edges, count) >= end;
  }

  union(other: RangeSet): RangeSet {
    return this.#combine(other, (isInThis, isInOther) => isInThis || isInOther);
  }

  intersect(other: RangeSet): RangeSet {
    return this.#combine(other, (isInThis, isInOther) => isInThis && isInOther);
  }

  /** What is in this set and not in `other`. */
  subtract(other: RangeSet): RangeSet {
    return this.#combine(other, (isInThis, isInOther) => isInThis && !isInOther);
  }

  add(start: number, end: number): RangeSet {
    return this.union(RangeSet.single(start, end));
  }

  remove(start: number, end: number): RangeSet {
    return this.subtract(RangeSet.single(start, end));
  }

  /** What of [start, end) is in the set. */
  within(start: number, end: number): RangeSet {
    return this.intersect(RangeSet.single(start, end));
  }

  /**
   * Every range widened to the grid of `unit`: the smallest set of whole units that holds this set,
   * cut at `limit` (a disk's last cell may be short). @pre all values are below `limit`
   */
  alignOutward(unit: number, limit = Number.MAX_SAFE_INTEGER): RangeSet {
    assert(Number.isSafeInteger(unit) && unit > 0, 'a unit is a positive integer');
    const builder = new RangeSetBuilder();
    for (const { start, end } of this) {
      assert(end <= limit, 'no range reaches beyond the limit');
      const remainder = end % unit;
      builder.add(
        start - (start % unit),
        Math.min(limit, remainder === 0 ? end : end - remainder + unit),
      );
    }
    return builder.finish();
  }

  equals(other: RangeSet): boolean {
    return (
      this.#edges.length === other.#edges.length &&
      this.#edges.every((edge, index) => edge === other.#edges[index])
    );
  }

  #edgesAtOrBelow(value: number): number {
    let low = 0;
    let high = this.#edges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (at(this.#edges, middle) <= value) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Walks the edges of both sets in order and notes where the answer changes. */
  #combine(other: RangeSet, isIn: (isInThis: boolean, isInOther: boolean) => boolean): RangeSet {
    const [mine, theirs] = [this.#edges, other.#edges];
    const out = new Float64Array(mine.length + theirs.length);
    let [i, k, count] = [0, 0, 0];
    while (i < mine.length || k < theirs.length) {
      const edge = Math.min(mine[i] ?? Infinity, theirs[k] ?? Infinity);
      if (mine[i] === edge) i++;
      if (theirs[k] === edge) k++;
      const isInside = isIn(i % 2 === 1, k % 2 === 1);
      if (isInside !== (count % 2 === 1)) out[count++] = edge;
    }
    assert(count % 2 === 0, 'behind the last edge nothing is in a set');
    return RangeSet.fromEdges(out.slice(0, count));
  }
}

/** Collects ranges that come in ascending order of their starts. */
export class RangeSetBuilder {
  #edges = new Float64Array(16);
  #count = 0;

  /** Adds [start, end); may overlap or touch what came before. */
  add(start: number, end: number): void {
    assertRange({ start, end });
    if (start === end) return;
    if (this.#count > 0) {
      assert(start >= at(this.#edges, this.#count - 2), 'ranges come in ascending order');
      const lastEnd = at(this.#edges, this.#count - 1);
      if (start <= lastEnd) {
        this.#edges[this.#count - 1] = Math.max(lastEnd, end);
        return;
      }
    }
    if (this.#count === this.#edges.length) {
      const larger = new Float64Array(this.#edges.length * 2);
      larger.set(this.#edges);
      this.#edges = larger;
    }
    this.#edges[this.#count++] = start;
    this.#edges[this.#count++] = end;
  }

  /** The set of what was added so far; the builder may go on. */
  finish(): RangeSet {
    return RangeSet.fromEdges(this.#edges.slice(0, this.#count));
  }
}

function assertRange({ start, end }: Range): void {
  assert(Number.isSafeInteger(start) && start >= 0, 'a range starts at a non-negative integer');
  assert(Number.isSafeInteger(end) && end >= start, 'a range does not end before it starts');
}

function at(edges: Float64Array, index: number): number {
  const edge = edges[index];
  assert(edge !== undefined, 'every index lies inside the edges');
  return edge;
}
