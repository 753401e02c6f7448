// One budget of bytes per second for everything that a source sends. Whoever sends asks first and
// waits its turn; over time exactly the budget leaves, whatever the sizes and however many senders.
// Time that nobody used is not saved up beyond a tenth of a second. The rate follows the hour of the
// local clock, and may be set anew while senders wait: what is left of their wait then has the new one.

import { defined } from '../shared/assert.js';
import type { Clock } from '../shared/clock.js';
import { type BandwidthSchedule, rateAt } from '../shared/params/index.js';

const BURST_MS = 100;
/** Nobody waits for less. */
const TICK_MS = 1;
/** A wait looks at the rate so often: the wall clock may be set, and the hour ends. */
const LOOK_EVERY_MS = 10_000;

export interface BandwidthPlan {
  /** Where the schedule is silent; 0: no limit. */
  readonly bytesPerSecond: number;
  readonly schedule?: BandwidthSchedule | undefined;
}

interface Sender {
  bytesLeft: number;
  readonly go: () => void;
}

/** Day of the week from Sunday = 0 and hour, as this machine's clock shows them. */
export type LocalHour = (atMs: number) => { readonly day: number; readonly hour: number };

export const systemLocalHour: LocalHour = (atMs) => {
  const at = new Date(atMs);
  return { day: at.getDay(), hour: at.getHours() };
};

export class Bandwidth {
  readonly #clock: Clock;
  readonly #localHour: LocalHour;
  #plan: BandwidthPlan;
  /** In the order in which they came; the first one is being served. */
  readonly #senders: Sender[] = [];
  /** Up to when the first sender has been given what it was due, on the monotonic clock. */
  #servedUntilMs = 0;
  #isServing = false;
  #change = new AbortController();

  constructor(clock: Clock, plan: BandwidthPlan, localHour: LocalHour = systemLocalHour) {
    this.#clock = clock;
    this.#plan = plan;
    this.#localHour = localHour;
  }

  /** Bytes per second that hold now; 0: no limit. */
  get rate(): number {
    const { bytesPerSecond, schedule } = this.#plan;
    if (schedule === undefined) return bytesPerSecond;
    const { day, hour } = this.#localHour(this.#clock.now());
    return rateAt(schedule, day, hour) ?? bytesPerSecond;
  }

  /** Whether somebody waits for its share. */
  get isBusy(): boolean {
    return this.#senders.length > 0;
  }

  /** Holds from now on, also for those who wait. */
  use(plan: BandwidthPlan): void {
    this.#plan = plan;
    this.#lookAgain();
  }

  #lookAgain(): void {
    this.#change.abort();
    this.#change = new AbortController();
  }

  /** Resolves when `bytes` may leave; rejects with the signal's reason. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#senders.length === 0 && this.rate === 0) return;
    await new Promise<void>((resolve, reject) => {
      const leave = (): void => {
        const at = this.#senders.indexOf(sender);
        if (at >= 0) this.#senders.splice(at, 1);
        if (at === 0) this.#lookAgain();
        const reason: unknown = signal.reason;
        reject(reason instanceof Error ? reason : new Error(String(reason)));
      };
      const sender: Sender = {
        bytesLeft: bytes,
        go: () => {
          signal.removeEventListener('abort', leave);
          resolve();
        },
      };
      signal.addEventListener('abort', leave, { once: true });
      this.#senders.push(sender);
      if (!this.#isServing) void this.#serve();
    });
  }

  async #serve(): Promise<void> {
    const clock = this.#clock;
    this.#isServing = true;
    while (this.#senders.length > 0) {
      this.#servedUntilMs = Math.max(this.#servedUntilMs, clock.monotonic() - BURST_MS);
      const { rate } = this;
      const sender = defined(this.#senders[0], 'somebody waits');
      const neededMs = rate === 0 ? 0 : (sender.bytesLeft * 1000) / rate;
      const waitMs = this.#servedUntilMs + neededMs - clock.monotonic();
      if (waitMs >= TICK_MS) {
        const { signal } = this.#change;
        // over when the plan changes: what passed until then had the rate that held
        await clock.sleep(Math.min(waitMs, LOOK_EVERY_MS), signal).catch(() => undefined);
        // one that left takes its share with it
        if (this.#senders[0] !== sender) continue;
      }
      const passedMs = Math.max(0, clock.monotonic() - this.#servedUntilMs);
      if (neededMs < passedMs + TICK_MS) {
        this.#servedUntilMs += neededMs;
        this.#senders.shift();
        sender.go();
      } else {
        sender.bytesLeft -= (passedMs * rate) / 1000;
        this.#servedUntilMs += passedMs;
      }
    }
    this.#isServing = false;
  }
}
