// How many journals are held open. A store may have more VMs than a process may open files, so those
// that were used longest ago are closed; the next append opens them again.

/** Most systems allow 1024 files to a process; the cycles under way need several each. */
const OPEN_MAX = 64;

/** A file that is opened when it is needed. */
export interface Parkable {
  readonly isBusy: boolean;
  park(): Promise<void>;
}

export class OpenJournals {
  readonly #max: number;
  /** The one that was used longest ago first. */
  readonly #open = new Set<Parkable>();

  constructor(max = OPEN_MAX) {
    this.#max = max;
  }

  get count(): number {
    return this.#open.size;
  }

  /** To be called whenever a journal has been opened or used. */
  used(journal: Parkable): void {
    this.#open.delete(journal);
    this.#open.add(journal);
    if (this.#open.size <= this.#max) return;
    for (const oldest of this.#open) {
      if (oldest.isBusy || oldest === journal) continue;
      this.#open.delete(oldest);
      // it tells its next user when it cannot be closed
      void oldest.park().catch(() => undefined);
      return;
    }
  }

  /** It has been closed. */
  gone(journal: Parkable): void {
    this.#open.delete(journal);
  }
}
