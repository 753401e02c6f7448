// One direction of a stream: messages in order, each with its time on the way, a few of them at once.

import type { Scheduler, SimulatedProcess } from './scheduler.js';

export class Pipe {
  readonly #scheduler: Scheduler;
  readonly #reader: SimulatedProcess;
  readonly #window: number;
  readonly #arrived: Buffer[] = [];
  #underWay = 0;
  #lastAtMs = 0;
  #end: { readonly error?: unknown } | undefined;
  #isClosed = false;
  #wakeReader: () => void = () => undefined;
  #wakeWriter: () => void = () => undefined;

  constructor(scheduler: Scheduler, reader: SimulatedProcess, window: number) {
    this.#scheduler = scheduler;
    this.#reader = reader;
    this.#window = window;
  }

  send(message: Buffer, latencyMs: number): void {
    this.#underWay++;
    this.#later(latencyMs, () => {
      this.#arrived.push(message);
    });
  }

  end(latencyMs: number): void {
    this.#later(latencyMs, () => {
      this.#end ??= {};
    });
  }

  /** What has not been taken is lost. */
  fail(error: unknown): void {
    if (this.#end !== undefined && !('error' in this.#end)) return;
    this.#end ??= { error };
    this.#arrived.length = 0;
    this.#wakeReader();
    this.#wakeWriter();
  }

  /** The reader is gone. */
  close(): void {
    this.#isClosed = true;
    this.#wakeWriter();
  }

  /** Waits until another message may be sent; false when none may any more. */
  async room(): Promise<boolean> {
    while (this.#underWay >= this.#window && this.#end === undefined && !this.#isClosed) {
      await new Promise<void>((resolve) => {
        this.#wakeWriter = resolve;
      });
    }
    return this.#end === undefined && !this.#isClosed;
  }

  async next(): Promise<{ done: true } | { done: false; value: Buffer }> {
    for (;;) {
      const value = this.#arrived.shift();
      if (value !== undefined) {
        this.#underWay--;
        this.#wakeWriter();
        return { done: false, value };
      }
      if (this.#end !== undefined) {
        if ('error' in this.#end) throw this.#end.error;
        return { done: true };
      }
      await this.#reader.gate(
        new Promise<void>((resolve) => {
          this.#wakeReader = resolve;
        }),
      );
    }
  }

  /** In the order in which it was sent. */
  #later(latencyMs: number, run: () => void): void {
    const { nowMs, random } = this.#scheduler;
    this.#lastAtMs = Math.max(this.#lastAtMs, nowMs + (random.next() / 2 ** 32) * latencyMs);
    const order = this.#lastAtMs;
    this.#lastAtMs += 0.001;
    this.#scheduler.after(order - nowMs, () => {
      if (this.#end !== undefined) return;
      run();
      this.#wakeReader();
    });
  }
}
