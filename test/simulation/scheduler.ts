// Virtual time. Whatever waits in a simulated world waits here: for a device, for the network, for a
// clock. One event is taken after the other, the earliest first, equal ones by chance; between two
// events all code has run until it waits again. So one seed gives one run, and an event is the place
// at which a process can be killed or the power cut.
//
// Code under the simulation must wait for nothing else: no timer, no file, no socket of the system.

import { createHash } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import type { Clock } from '../../shared/clock.js';
import { SeededRandom } from '../support/seeded-random.js';

/** 2026-01-05, a Monday. */
const START_MS = Date.UTC(2026, 0, 5, 6);
const LINES_KEPT = 400;

interface Event {
  readonly atMs: number;
  /** Among events of one time. */
  readonly rank: number;
  readonly run: () => void;
  /** False: nobody waits for it any more, and it takes no time. */
  readonly isWanted: () => boolean;
}

/** Never settles: what a process that is dead waits for. */
export function never<T>(): Promise<T> {
  return new Promise<T>(() => undefined);
}

export class Scheduler {
  /** Of the world: weather, latency, chance. Set anew at each step, so that steps can be left out. */
  random: SeededRandom;
  /** The last lines of the trace, for people. */
  readonly lines: string[] = [];
  /** Told of every line, for whoever wants to see it at once. */
  onLine: (line: string) => void = () => undefined;
  readonly #trace = createHash('sha256');
  readonly #heap: Event[] = [];
  #nowMs = 0;
  #eventCount = 0;

  constructor(random: SeededRandom) {
    this.random = random;
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  get wallMs(): number {
    return START_MS + Math.floor(this.#nowMs);
  }

  get eventCount(): number {
    return this.#eventCount;
  }

  /** When the next event is due; undefined: never. */
  get #nextAtMs(): number | undefined {
    while (this.#heap[0]?.isWanted() === false) pop(this.#heap);
    return this.#heap[0]?.atMs;
  }

  /** One line of the trace, which is a part of the digest. */
  note(text: string): void {
    const line = `${this.#nowMs.toFixed(3)} ${text}`;
    this.#trace.update(`${line}\n`);
    this.lines.push(line);
    if (this.lines.length > LINES_KEPT) this.lines.shift();
    this.onLine(line);
  }

  /** Over all lines so far and the number of events. */
  digest(): string {
    return this.#trace.copy().update(`${this.#eventCount}`).digest('hex');
  }

  after(delayMs: number, run: () => void, isWanted: () => boolean = () => true): void {
    const atMs = this.#nowMs + Math.max(0, delayMs);
    push(this.#heap, { atMs, rank: this.random.next(), run, isWanted });
  }

  /** Waits up to `mostMs` of virtual time, by chance. */
  delay(mostMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.after((this.random.next() / 2 ** 32) * mostMs, resolve);
    });
  }

  /** Takes one event; false when nothing waits. */
  async step(): Promise<boolean> {
    // what was begun outside of an event has to come to its first wait
    if (this.#nextAtMs === undefined) await turn();
    if (this.#nextAtMs === undefined) return false;
    const event = pop(this.#heap);
    if (event === undefined) return false;
    this.#nowMs = Math.max(this.#nowMs, event.atMs);
    this.#eventCount++;
    event.run();
    // the queue of promises is empty before an immediate runs
    await turn();
    return true;
  }

  /** Lets time pass over all events that are due meanwhile. */
  async advance(durationMs: number): Promise<void> {
    const untilMs = this.#nowMs + durationMs;
    await turn();
    while ((this.#nextAtMs ?? Number.POSITIVE_INFINITY) <= untilMs) await this.step();
    this.#nowMs = untilMs;
  }
}

function isBefore(one: Event, other: Event): boolean {
  return one.atMs < other.atMs || (one.atMs === other.atMs && one.rank < other.rank);
}

function push(heap: Event[], event: Event): void {
  let at = heap.push(event) - 1;
  while (at > 0) {
    const parent = (at - 1) >>> 1;
    const above = heap[parent];
    if (above === undefined || !isBefore(event, above)) break;
    heap[at] = above;
    at = parent;
  }
  heap[at] = event;
}

function pop(heap: Event[]): Event | undefined {
  const first = heap[0];
  const last = heap.pop();
  if (first === undefined || last === undefined || heap.length === 0) return first;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    const [left, right] = [heap[child], heap[child + 1]];
    if (left === undefined) break;
    let least = left;
    if (right !== undefined && isBefore(right, left)) {
      least = right;
      child++;
    }
    if (!isBefore(least, last)) break;
    heap[at] = least;
    at = child;
  }
  heap[at] = last;
  return first;
}

/**
 * A process of the simulated world. Killed, it executes nothing any more: whatever it waits for never
 * comes.
 */
export class SimulatedProcess {
  readonly name: string;
  readonly scheduler: Scheduler;
  /** Of this process alone; its draws disturb nobody. */
  readonly random: SeededRandom;
  readonly #onDeath: (() => void)[] = [];
  #isDead = false;

  constructor(name: string, scheduler: Scheduler) {
    this.name = name;
    this.scheduler = scheduler;
    this.random = new SeededRandom(scheduler.random.next());
  }

  get isDead(): boolean {
    return this.#isDead;
  }

  /** What is let go by the system when the process ends, however it ends. */
  onDeath(run: () => void): void {
    if (this.#isDead) run();
    else this.#onDeath.push(run);
  }

  end(): void {
    if (this.#isDead) return;
    this.#isDead = true;
    for (const run of this.#onDeath.splice(0)) run();
  }

  /** The result of something outside, which a dead process never learns. */
  gate<T>(result: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      result.then(
        (value) => {
          if (!this.#isDead) resolve(value);
        },
        (error: unknown) => {
          if (!this.#isDead) reject(error instanceof Error ? error : new Error(String(error)));
        },
      );
    });
  }

  /** Time as the process has it: the wall clock of its machine may be wrong, and may jump. */
  clock(wallShiftMs: () => number = () => 0): Clock {
    const { scheduler } = this;
    return {
      now: () => scheduler.wallMs + wallShiftMs(),
      monotonic: () => scheduler.nowMs,
      sleep: (durationMs, signal) =>
        new Promise<void>((resolve, reject) => {
          if (this.#isDead) return;
          const refuse = (): void => {
            const reason: unknown = signal?.reason;
            reject(reason instanceof Error ? reason : new Error(String(reason)));
          };
          if (signal?.aborted === true) {
            refuse();
            return;
          }
          signal?.addEventListener('abort', refuse, { once: true });
          const wake = (): void => {
            signal?.removeEventListener('abort', refuse);
            resolve();
          };
          const isWanted = (): boolean => !this.#isDead && signal?.aborted !== true;
          scheduler.after(durationMs, wake, isWanted);
        }),
    };
  }
}
