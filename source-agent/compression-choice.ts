// Whether compression pays, remembered over all disks of a stream. It pays when the way to the
// receiver is what the cycle waits for, or when so much is saved that the bytes cost more to seal and
// send than to compress. Otherwise it only takes processor time from both sides.
//
// What does not pay is tried again more and more seldom, so that random data costs next to nothing.

import { compressPayload } from '../shared/delta/index.js';

const COMPRESSION_LEVEL = 1;
/** Payloads that pass untried, at most, before the next try. */
const SKIP_MAX = 64;
/** Until so much was handed out nothing is known about the way, and little is spent. */
const UNKNOWN_BYTES = 8 * 1024 * 1024;
/** What must be left at most of a payload: the way is slow, or it is not. */
const SLOW_WAY_SHARE = 7 / 8;
const FAST_WAY_SHARE = 0.4;
/** Share of the time that a cycle waits for its messages to be taken, from which the way is slow. */
const SLOW_WAY_WAIT = 0.5;
/** Over so long, so that a pause of the other side does not turn the choice. */
const JUDGE_MS = 250;

export class CompressionChoice {
  #skip = 0;
  #nextSkip = 1;
  #seenBytes = 0;
  #waitedMs = 0;
  #workedMs = 0;
  #isSlowWay = false;

  /** What happened since the last message: how long it waited to be taken, how long was worked. */
  note(waitedMs: number, workedMs: number): void {
    this.#waitedMs += waitedMs;
    this.#workedMs += workedMs;
    const totalMs = this.#waitedMs + this.#workedMs;
    if (totalMs < JUDGE_MS) return;
    const isSlowWay = this.#waitedMs > totalMs * SLOW_WAY_WAIT;
    if (isSlowWay !== this.#isSlowWay) this.#tryAgain();
    this.#isSlowWay = isSlowWay;
    this.#waitedMs = 0;
    this.#workedMs = 0;
  }

  /** The compressed payload, or undefined when it is sent as it is. */
  tryCompress(payload: Buffer): Buffer | undefined {
    const isKnown = this.#seenBytes >= UNKNOWN_BYTES;
    this.#seenBytes += payload.length;
    if (this.#skip > 0) {
      this.#skip--;
      return undefined;
    }
    const share = isKnown && !this.#isSlowWay ? FAST_WAY_SHARE : SLOW_WAY_SHARE;
    const packed = compressPayload(payload, COMPRESSION_LEVEL);
    if (packed.length <= payload.length * share) {
      this.#tryAgain();
      return packed;
    }
    this.#skip = this.#nextSkip;
    this.#nextSkip = Math.min(SKIP_MAX, this.#nextSkip * 2);
    return undefined;
  }

  #tryAgain(): void {
    this.#skip = 0;
    this.#nextSkip = 1;
  }
}
