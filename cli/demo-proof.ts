// What the demo claims and how anybody repeats it: every comparison with the hashes of both sides and
// the command, and the timeline of what happened.

import { DrError } from '../shared/errors.js';
import type { CliContext } from './context.js';

/** One comparison. */
export interface Proof {
  readonly what: string;
  /** Repeats the comparison, started in the demo's folder. */
  readonly command: string;
  /** Hashes of both sides. */
  readonly sha256?: readonly [expected: string, found: string];
  readonly isEqual: boolean;
}

/** What happened when, for the drawing at the end. */
export interface Moment {
  readonly seconds: number;
  readonly site: 'primary' | 'wire' | 'dr';
  readonly text: string;
}

/** Says what is going on, gathers the proofs, and ends the run with them. */
export class DemoReport {
  readonly #context: CliContext;
  readonly #startedAt: number;
  readonly #proofs: Proof[] = [];
  readonly #moments: Moment[] = [];

  constructor(context: CliContext) {
    this.#context = context;
    this.#startedAt = context.clock.monotonic();
  }

  get #seconds(): number {
    return (this.#context.clock.monotonic() - this.#startedAt) / 1000;
  }

  say(event: string, text: string): void {
    const seconds = this.#seconds;
    this.#context.output.event(
      { event, seconds: Number(seconds.toFixed(3)), text },
      () => `${seconds.toFixed(1).padStart(6)} s  ${event.padEnd(9)}  ${text}`,
    );
  }

  /** Puts a moment on the timeline. */
  mark(site: Moment['site'], text: string): void {
    this.#moments.push({ seconds: this.#seconds, site, text });
  }

  judge(proof: Proof): void {
    this.#proofs.push(proof);
    this.say(proof.isEqual ? 'equal' : 'DIFFERENT', proof.what);
  }

  /** There is no going on after a comparison that failed. @throws DrError E_DIFFERENT */
  requireEqual(shown: string): void {
    const bad = this.#proofs.filter(({ isEqual }) => !isEqual);
    if (bad.length === 0) return;
    throw new DrError('E_DIFFERENT', `the demo failed: ${bad.map(({ what }) => what).join(', ')}`, {
      done: `the files are kept in ${shown}`,
      hint: `repeat it there: ${bad.map(({ command }) => command).join(' ; ')}`,
    });
  }

  /**
   * The result of the run.
   * @throws DrError E_DIFFERENT when one of the comparisons failed
   */
  finish(folder: string, shown: string, next: readonly string[]): void {
    this.requireEqual(shown);
    const document = {
      folder,
      isEqual: true,
      proofs: this.#proofs.map((proof) => ({ ...proof })),
      timeline: this.#moments.map((moment) => ({ ...moment })),
      next,
    };
    this.#context.output.result(document, () =>
      ['', ...drawTimeline(this.#moments), '', ...this.#proofLines(shown)]
        .concat('', 'Next:', ...next.map((command) => `  $ ${command}`))
        .join('\n'),
    );
  }

  #proofLines(shown: string): string[] {
    const lines = this.#proofs.flatMap(({ what, command, sha256 = [] }) => [
      `  ${what}`,
      `    $ ${command}`,
      ...sha256.map((hash) => `      ${hash}`),
    ]);
    return [`Proof. Repeat it in ${shown} (hvdr is bin/hvdr of this checkout):`, ...lines].concat(
      `All ${this.#proofs.length} comparisons are equal.`,
    );
  }
}

const COLUMN = 32;

/** Three columns, the primary at the left, the DR site at the right, one line a moment. */
export function drawTimeline(moments: readonly Moment[]): string[] {
  const head = ['primary', '', 'DR site'].map((name) => name.padEnd(COLUMN)).join(' │ ');
  const rule = ['', '', ''].map(() => '─'.repeat(COLUMN)).join('─┼─');
  const places = { primary: 0, wire: 1, dr: 2 } as const;
  const rows = moments.map(({ seconds, site, text }) => {
    const cells = ['', '', ''].map((_, index) =>
      (index === places[site] ? text : '').padEnd(COLUMN),
    );
    return `${seconds.toFixed(1).padStart(6)} s  ${cells.join(' │ ')}`.trimEnd();
  });
  return [`${' '.repeat(10)}${head}`.trimEnd(), `${' '.repeat(10)}${rule}`, ...rows];
}
