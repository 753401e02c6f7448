// How much a peer may ask for before anybody knows who it is: connections in all and of one
// address, and handshakes that came to nothing. Everything here has a bound.

import type { Clock } from '../clock.js';
import { ADDRESS_TABLE_MAX, FAILED_HANDSHAKES_A_MINUTE, UNAUTHENTICATED } from './limits.js';
import { peerGroup } from './networks.js';

const MINUTE_MS = 60_000;

interface Failures {
  count: number;
  sinceMs: number;
}

export type Refusal = 'connections' | 'connections-of-address' | 'failed-handshakes';

export class Admission {
  readonly #clock: Clock;
  readonly #waiting = new Map<string, number>();
  /** In the order of their beginning, so that the oldest are dropped first. */
  readonly #failures = new Map<string, Failures>();
  #waitingCount = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Connections that have not authenticated themselves. */
  get waitingCount(): number {
    return this.#waitingCount;
  }

  get addressCount(): number {
    return Math.max(this.#failures.size, this.#waiting.size);
  }

  /** Counts a new connection, or says why it must not be. */
  enter(address: string): Refusal | undefined {
    const group = peerGroup(address);
    if (this.isBlocked(address)) return 'failed-handshakes';
    const ofAddress = this.#waiting.get(group) ?? 0;
    if (ofAddress >= UNAUTHENTICATED.connectionsOfAddress) return 'connections-of-address';
    if (this.#waitingCount >= UNAUTHENTICATED.connections) return 'connections';
    this.#waiting.set(group, ofAddress + 1);
    this.#waitingCount++;
    return undefined;
  }

  /** The connection authenticated itself or has gone. */
  leave(address: string): void {
    const group = peerGroup(address);
    const ofAddress = this.#waiting.get(group) ?? 0;
    if (ofAddress <= 1) this.#waiting.delete(group);
    else this.#waiting.set(group, ofAddress - 1);
    this.#waitingCount--;
  }

  /** A handshake was refused, or nothing followed it. */
  failed(address: string): void {
    const group = peerGroup(address);
    const now = this.#clock.monotonic();
    const known = this.#failures.get(group);
    if (known !== undefined && now - known.sinceMs < MINUTE_MS) {
      known.count++;
      return;
    }
    this.#failures.delete(group);
    this.#forget(now);
    this.#failures.set(group, { count: 1, sinceMs: now });
  }

  isBlocked(address: string): boolean {
    const known = this.#failures.get(peerGroup(address));
    return (
      known !== undefined &&
      known.count >= FAILED_HANDSHAKES_A_MINUTE &&
      this.#clock.monotonic() - known.sinceMs < MINUTE_MS
    );
  }

  #forget(now: number): void {
    for (const [group, { sinceMs }] of this.#failures) {
      const isFull = this.#failures.size >= ADDRESS_TABLE_MAX;
      if (!isFull && now - sinceMs < MINUTE_MS) return;
      this.#failures.delete(group);
    }
  }
}
