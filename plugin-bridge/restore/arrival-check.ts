// The hashes of a base while it arrives, so that the disk need not be read once more at the end
// (docs/performance.md "What a VM costs on its way through Bacula"). They are those of the very bytes that
// are written. Whatever this cannot tell is left to the compare at the end, which names what is wrong.

import { GatheredHashes, RecordsRoot } from '../../shared/delta/index.js';
import { readVhdxStream } from '../../shared/vhdx/index.js';

/** What the bytes of a base are. */
export interface ArrivedDisk {
  readonly sizeBytes: number;
  /** Over the records that the manifest of these bytes has; 32 bytes. */
  readonly recordsRoot: Buffer;
}

/** Bytes that wait for their reader; undefined: the end. */
interface Offered {
  readonly bytes: Uint8Array | undefined;
  readonly taken: () => void;
}

export class ArrivalCheck {
  readonly #found: Promise<ArrivedDisk | undefined>;
  #offered: Offered | undefined;
  #wake: (() => void) | undefined;
  #isOver = false;

  /** `name` is the file's. */
  constructor(name: string) {
    this.#found = this.#run(name)
      .catch(() => undefined)
      .finally(() => {
        this.#isOver = true;
        this.#offered?.taken();
      });
  }

  /** In the order of the file, one after the other; the bytes are the caller's again on return. */
  add(bytes: Uint8Array): Promise<void> {
    return this.#offer(bytes);
  }

  /** Nothing follows. undefined: a stream does not tell. */
  async end(): Promise<ArrivedDisk | undefined> {
    await this.#offer(undefined);
    return this.#found;
  }

  async #offer(bytes: Uint8Array | undefined): Promise<void> {
    if (this.#isOver) return;
    await new Promise<void>((taken) => {
      this.#offered = { bytes, taken };
      this.#wake?.();
    });
  }

  async #run(name: string): Promise<ArrivedDisk | undefined> {
    const { disk, ranges, isAscending } = await readVhdxStream(this.#chunks(), name);
    if (!isAscending) return undefined;
    const root = new RecordsRoot();
    const hashes = new GatheredHashes(disk.sizeBytes, (cell, hash) => {
      root.add({ kind: 'data', cell, hash });
      return Promise.resolve();
    });
    try {
      for await (const { offset, data } of ranges) await hashes.add(offset, data);
      await hashes.finish();
    } finally {
      await hashes.close();
    }
    return { sizeBytes: disk.sizeBytes, recordsRoot: root.digest() };
  }

  async *#chunks(): AsyncGenerator<Uint8Array> {
    for (;;) {
      while (this.#offered === undefined) {
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
      const { bytes, taken } = this.#offered;
      if (bytes !== undefined) yield bytes;
      this.#offered = undefined;
      taken();
      if (bytes === undefined) return;
    }
  }
}
