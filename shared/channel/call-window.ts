// Which calls of a session were seen. Call ids count up; calls that overtake each other on the way
// are fine, one that was seen or is far behind is not.

const WINDOW = 1024;

export class CallWindow {
  readonly #seen = new Set<bigint>();
  #newest = -1n;

  /** True once for each id that is not more than 1,023 behind the newest. */
  accept(callId: bigint): boolean {
    if (callId <= this.#newest - BigInt(WINDOW) || this.#seen.has(callId)) return false;
    this.#seen.add(callId);
    if (callId > this.#newest) {
      this.#newest = callId;
      this.#forgetOld();
    }
    return true;
  }

  /** How many ids are kept. */
  get size(): number {
    return this.#seen.size;
  }

  #forgetOld(): void {
    if (this.#seen.size <= WINDOW) return;
    for (const id of this.#seen) if (id <= this.#newest - BigInt(WINDOW)) this.#seen.delete(id);
  }
}
