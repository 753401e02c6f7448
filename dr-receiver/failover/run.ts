// An operation while it is being worked at: who wants to know hears of each step, and whoever asked for it
// may go away. What counts is in the journal; nothing here is needed to go on after a crash.

import type { Guid } from '../../shared/bytes/index.js';

export interface Progress {
  readonly step: string;
  readonly what: string;
}

/** How a run ended; it never rejects, as nobody may be listening. */
export type Ending<R> =
  | { readonly kind: 'done'; readonly result: R }
  | { readonly kind: 'failed'; readonly error: unknown };

export class Run<R = unknown> {
  readonly operationId: Guid;
  readonly #told: Progress[] = [];
  readonly #stopping = new AbortController();
  #wake: () => void = () => undefined;
  #news: Promise<void>;
  #ending: Ending<R> | undefined;
  #ended: Promise<Ending<R>> | undefined;
  readonly #released = new AbortController();
  #isHeld = false;

  constructor(operationId: Guid) {
    this.operationId = operationId;
    this.#news = this.#nextNews();
  }

  #nextNews(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #tellNews(): void {
    const wake = this.#wake;
    this.#news = this.#nextNews();
    wake();
  }

  /** Begins the work; to be called once. */
  start(work: (run: this) => Promise<R>): this {
    this.#ended = Promise.resolve()
      .then(() => work(this))
      .then(
        (result): Ending<R> => ({ kind: 'done', result }),
        (error: unknown): Ending<R> => ({ kind: 'failed', error }),
      )
      .then((ending) => {
        this.#ending = ending;
        this.#tellNews();
        return ending;
      });
    return this;
  }

  /** Aborts when somebody wants the operation to stop at the next place where it may. */
  get signal(): AbortSignal {
    return this.#stopping.signal;
  }

  get isOver(): boolean {
    return this.#ending !== undefined;
  }

  tell(step: string, what: string): void {
    this.#told.push({ step, what });
    this.#tellNews();
  }

  /** All that was told from the beginning on, until the run ends or `signal` says that nobody listens. */
  async *progress(signal: AbortSignal): AsyncGenerator<Progress> {
    const gone = new Promise<void>((resolve) => {
      signal.addEventListener(
        'abort',
        () => {
          resolve();
        },
        { once: true },
      );
    });
    for (let next = 0; !signal.aborted;) {
      const news = this.#news;
      const told = this.#told[next];
      if (told !== undefined) {
        next++;
        yield told;
      } else if (this.#ending !== undefined) {
        return;
      } else {
        await Promise.race([news, gone]);
      }
    }
  }

  /** @throws what the operation ended with */
  async result(): Promise<R> {
    const ending = await this.ended();
    if (ending.kind === 'done') return ending.result;
    throw ending.error;
  }

  ended(): Promise<Ending<R>> {
    if (this.#ended === undefined) throw new Error('the run was not started');
    return this.#ended;
  }

  /** It waits to be released. */
  get isHeld(): boolean {
    return this.#isHeld;
  }

  /**
   * Waits until release(), which may have come before. @throws the reason of the run's signal
   */
  async hold(step: string, what: string): Promise<void> {
    if (this.#released.signal.aborted) return;
    this.#isHeld = true;
    this.tell(step, what);
    await new Promise<void>((resolve) => {
      const go = (): void => {
        resolve();
      };
      AbortSignal.any([this.#released.signal, this.signal]).addEventListener('abort', go);
      if (this.signal.aborted) go();
    });
    this.#isHeld = false;
    this.signal.throwIfAborted();
  }

  /** Lets the operation go on past its hold. */
  release(): void {
    this.#released.abort();
  }

  /** Ends when the step that is under way has. */
  async stop(reason: Error): Promise<void> {
    this.#stopping.abort(reason);
    await this.ended();
  }
}
