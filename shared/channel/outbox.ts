// What one side of a call that is held open has to say, in order: whoever has something puts it in, the
// call takes it out. One reader.

export class Outbox<T> implements AsyncIterable<T> {
  readonly #values: T[] = [];
  #isClosed = false;
  #wake: () => void = () => undefined;

  /** Nothing happens once it is closed. */
  put(value: T): void {
    if (this.#isClosed) return;
    this.#values.push(value);
    this.#wake();
  }

  /** The reader gets what is in it, and then the end. */
  close(): void {
    this.#isClosed = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (;;) {
      const next = this.#values.shift();
      if (next !== undefined) yield next;
      else if (this.#isClosed) return;
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}
