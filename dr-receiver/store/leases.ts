// Who uses which segment of a VM at the moment, in this process; nobody else works on a store beside
// its receiver. Files that reclaiming replaces are removed when those who may have named them are
// gone; a base is changed while nobody reads its segment.
//
//   read      as many as like to, taken before the files of a point are named. Waits while somebody
//             changes the segment or is about to.
//   change    alone. Those who read end first, new ones wait; whoever wants the change gives up after
//             a while and comes again later.
//
// So that neither side waits for the end of the other, both ask isWanted() after a bounded piece of
// work, let go when it says so, and take the lease anew: a reader then names its files anew, too.

import type { SegmentKey } from './records.js';
import { nameOf } from './segments.js';

export interface Lease {
  /** Lets go; a second call does nothing. */
  release(): void;
}

/** A promise and what settles it. */
class Gate {
  isOpen = false;
  #resolve: () => void = () => undefined;
  readonly opened = new Promise<void>((resolve) => {
    this.#resolve = resolve;
  });

  open(): void {
    this.isOpen = true;
    this.#resolve();
  }
}

class Use {
  readonly readers = new Set<Gate>();
  waitingReaders = 0;
  /** Closed to new readers as long as it is there. */
  change: Gate | undefined;

  get isIdle(): boolean {
    return this.readers.size === 0 && this.waitingReaders === 0 && this.change === undefined;
  }
}

export class Leases {
  readonly #uses = new Map<string, Use>();

  #use(name: string): Use {
    const use = this.#uses.get(name) ?? new Use();
    this.#uses.set(name, use);
    return use;
  }

  #tidy(name: string): void {
    if (this.#uses.get(name)?.isIdle === true) this.#uses.delete(name);
  }

  /** Holds segments for reading: all of them, when nobody changes or wants to change one. */
  async read(keys: readonly SegmentKey[]): Promise<Lease> {
    const names = [...new Set(keys.map(nameOf))];
    for (;;) {
      const busy = names.find((name) => this.#uses.get(name)?.change !== undefined);
      if (busy === undefined) break;
      const use = this.#use(busy);
      use.waitingReaders++;
      await use.change?.opened;
      use.waitingReaders--;
      this.#tidy(busy);
    }
    const gate = new Gate();
    for (const name of names) this.#use(name).readers.add(gate);
    return {
      release: () => {
        gate.open();
        for (const name of names) {
          this.#uses.get(name)?.readers.delete(gate);
          this.#tidy(name);
        }
      },
    };
  }

  /**
   * The segment alone, when all who read it have let go. Undefined when what `patience` returns settled
   * before, or when somebody else is changing it.
   */
  async change(key: SegmentKey, patience: () => Promise<unknown>): Promise<Lease | undefined> {
    const name = nameOf(key);
    const use = this.#use(name);
    if (use.change !== undefined) return undefined;
    const gate = new Gate();
    use.change = gate;
    const release = (): void => {
      if (use.change !== gate) return;
      use.change = undefined;
      gate.open();
      this.#tidy(name);
    };
    if (use.readers.size > 0) {
      const isFree = await Promise.race([
        Promise.all([...use.readers].map(({ opened }) => opened)).then(() => true),
        patience().then(
          () => false,
          () => false,
        ),
      ]);
      if (!isFree) {
        release();
        return undefined;
      }
    }
    return { release };
  }

  /** Whether somebody waits for whoever holds the segment. */
  isWanted(key: SegmentKey): boolean {
    const use = this.#uses.get(nameOf(key));
    if (use === undefined) return false;
    return use.waitingReaders > 0 || (use.change !== undefined && use.readers.size > 0);
  }

  readerCount(key: SegmentKey): number {
    return this.#uses.get(nameOf(key))?.readers.size ?? 0;
  }

  /** Tells whether all who read the segment, or any segment, at this moment have let go. */
  watchReaders(key?: SegmentKey): () => boolean {
    const uses = key === undefined ? [...this.#uses.values()] : [this.#uses.get(nameOf(key))];
    const open = new Set(uses.flatMap((use) => [...(use?.readers ?? [])]));
    return () => [...open].every(({ isOpen }) => isOpen);
  }
}
