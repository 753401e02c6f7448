// An async iterator of which the next value can be looked at without taking it: what every merge of
// ordered streams in this folder is made of.

export class Peekable<T> {
  readonly #source: AsyncIterator<T>;
  #head: T | undefined;
  #isFilled = false;

  constructor(source: AsyncIterable<T>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** The next value, or undefined at the end. */
  async peek(): Promise<T | undefined> {
    if (!this.#isFilled) {
      const result = await this.#source.next();
      this.#head = result.done === true ? undefined : result.value;
      this.#isFilled = true;
    }
    return this.#head;
  }

  /** Takes the next value. */
  async next(): Promise<T | undefined> {
    const head = await this.peek();
    // The end stays the end: an exhausted iterator is not asked again.
    if (head !== undefined) this.#isFilled = false;
    this.#head = undefined;
    return head;
  }

  /** Puts a rest back in place of the value just taken. */
  replace(value: T): void {
    this.#head = value;
    this.#isFilled = true;
  }

  async close(): Promise<void> {
    this.#isFilled = true;
    this.#head = undefined;
    await this.#source.return?.();
  }
}
