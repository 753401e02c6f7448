// The naive model of a disk of any size: plain buffers for a few windows, zeros everywhere else.
// Tests write and read only inside the windows, which they place where it hurts: at the start, on
// block and chunk borders, at the end.

import { expect } from 'chai';
import type { ReadableDisk } from '../../shared/disk/index.js';

export interface Window {
  readonly start: number;
  readonly bytes: Buffer;
}

export class WindowModel {
  readonly sizeBytes: number;
  readonly windows: readonly Window[];

  /** Windows of `windowBytes` around each of `centers`, moved inside the disk; must not overlap. */
  constructor(sizeBytes: number, centers: readonly number[], windowBytes: number) {
    this.sizeBytes = sizeBytes;
    this.windows = centers.map((center) => {
      const length = Math.min(windowBytes, sizeBytes);
      const start = Math.max(0, Math.min(center - length / 2, sizeBytes - length));
      return { start, bytes: Buffer.alloc(length) };
    });
  }

  /** A copy that later changes do not reach. */
  clone(): WindowModel {
    const copy = new WindowModel(this.sizeBytes, [], 0);
    const windows = this.windows.map(({ start, bytes }) => ({ start, bytes: Buffer.from(bytes) }));
    return Object.assign(copy, { windows });
  }

  /** Turns any two numbers into a range inside window `index`. */
  range(index: number, at: number, lengthBytes: number, unit = 1): { start: number; end: number } {
    const window = this.windows[index % this.windows.length];
    if (window === undefined) throw new Error('a model has windows');
    const size = window.bytes.length;
    const start = Math.floor((at % size) / unit) * unit;
    const length = Math.max(unit, Math.ceil((lengthBytes % (size - start)) / unit) * unit);
    return {
      start: window.start + start,
      end: Math.min(window.start + start + length, window.start + size),
    };
  }

  fill(start: number, end: number, bytes: Uint8Array | 0): void {
    for (const window of this.windows) {
      const from = Math.max(start, window.start);
      const to = Math.min(end, window.start + window.bytes.length);
      if (from >= to) continue;
      const view = window.bytes.subarray(from - window.start, to - window.start);
      if (bytes === 0) view.fill(0);
      else view.set(bytes.subarray(from - start, to - start));
    }
  }

  /** The disk equals the model: every window byte for byte, and the extents say zero elsewhere. */
  async expectEqual(disk: ReadableDisk, what: string): Promise<void> {
    expect(disk.sizeBytes, what).to.equal(this.sizeBytes);
    for (const window of this.windows) {
      const read = Buffer.alloc(window.bytes.length, 0xee);
      await disk.read(window.start, read);
      if (!read.equals(window.bytes)) {
        const at = read.findIndex((byte, i) => byte !== window.bytes[i]);
        expect.fail(
          `${what}: byte ${window.start + at} is ${read[at] ?? -1}, expected ${window.bytes[at] ?? -1}`,
        );
      }
    }
    let position = 0;
    for await (const extent of disk.extents(0, this.sizeBytes)) {
      expect(extent.start, `${what}: extents have no gap`).to.equal(position);
      expect(extent.end, `${what}: extents are not empty`).to.be.greaterThan(extent.start);
      position = extent.end;
      if (extent.kind === 'zero') this.#expectZeros(extent.start, extent.end, what);
    }
    expect(position, `${what}: extents reach the end`).to.equal(this.sizeBytes);
  }

  #expectZeros(start: number, end: number, what: string): void {
    for (const window of this.windows) {
      const from = Math.max(start, window.start);
      const to = Math.min(end, window.start + window.bytes.length);
      if (from >= to) continue;
      const view = window.bytes.subarray(from - window.start, to - window.start);
      expect(
        view.every((byte) => byte === 0),
        `${what}: extent [${start}, ${end}) is said to be zero`,
      ).to.equal(true);
    }
  }
}
