// A disk of zeros that stores nothing: what deltas are laid over when there is no base.

import type { Extent, ReadableDisk } from './disk.js';

export class ZeroDisk implements ReadableDisk {
  readonly sizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;

  constructor(sizeBytes: number, logicalSectorBytes: number, physicalSectorBytes: number) {
    this.sizeBytes = sizeBytes;
    this.logicalSectorBytes = logicalSectorBytes;
    this.physicalSectorBytes = physicalSectorBytes;
  }

  read(_offset: number, target: Uint8Array): Promise<void> {
    target.fill(0);
    return Promise.resolve();
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the interface iterates asynchronously
  async *extents(start: number, end: number): AsyncGenerator<Extent> {
    if (start < end) yield { start, end, kind: 'zero' };
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
