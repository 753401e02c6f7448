// The manifest root of a disk, computed from the entries of push messages as they pass. Runs of zeros
// that messages cut are joined again, so the root is that of the manifest they came from.

import {
  type BatchEntry,
  DeltaError,
  type ManifestHeader,
  type ManifestRecord,
  ManifestRoot,
} from '../../shared/delta/index.js';

export class RootCheck {
  readonly #root: ManifestRoot;
  #zero: { cell: number; count: number } | undefined;

  constructor(header: ManifestHeader) {
    this.#root = new ManifestRoot(header);
  }

  /** @throws DeltaError E_PROTOCOL for what no manifest of this disk can hold */
  add(entry: BatchEntry): void {
    if (entry.kind === 'reuse') {
      throw new DeltaError('E_PROTOCOL', `cell ${entry.cell} of an import is named, not sent`);
    }
    if (entry.kind === 'data') {
      this.#endZeros();
      this.#check(entry);
    } else if (this.#zero !== undefined && this.#zero.cell + this.#zero.count === entry.cell) {
      this.#zero.count += entry.count;
    } else {
      this.#endZeros();
      this.#zero = { cell: entry.cell, count: entry.count };
    }
  }

  /** To be called once, after the last entry. */
  finish(): Buffer {
    this.#endZeros();
    return this.#root.finish().root;
  }

  #endZeros(): void {
    if (this.#zero !== undefined) this.#check({ kind: 'zero', ...this.#zero });
    this.#zero = undefined;
  }

  #check(record: ManifestRecord): void {
    const wrong = this.#root.check(record);
    if (wrong !== undefined) throw new DeltaError('E_PROTOCOL', `the delta is not legal: ${wrong}`);
  }
}
