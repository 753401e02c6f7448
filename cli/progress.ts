// Progress of long work on stderr: a bar on a terminal, a line every few seconds elsewhere. Driven
// by the calls alone, without a timer, so that it never keeps a process alive.

import type { Clock } from '../shared/clock.js';
import type { Output } from './output.js';
import { formatSize } from '../shared/sizes.js';

const BAR_INTERVAL_MS = 100;
const LINE_INTERVAL_MS = 5000;

export interface ProgressOptions {
  /** What is under way, for example `convert base.vhdx`. */
  readonly label: string;
  /** Amount of work in `unit`s; undefined when nobody knows. */
  readonly total?: number;
  /** Default: bytes. */
  readonly unit?: 'bytes' | 'items';
}

export interface Progress {
  /** Adds to what is done. Cheap enough to call for each block. */
  advance(amount: number): void;
  /** States what is done in all. */
  set(done: number): void;
  /** Takes the bar away, or ends it with a last line when lines were printed. */
  end(): void;
}

export function startProgress(output: Output, clock: Clock, options: ProgressOptions): Progress {
  const { label, total, unit = 'bytes' } = options;
  const isTerminal = output.errorIsTerminal;
  const interval = isTerminal ? BAR_INTERVAL_MS : LINE_INTERVAL_MS;
  const startedAt = clock.monotonic();
  let done = 0;
  let shownAt = startedAt;
  let isShown = false;

  const describe = (): string => {
    const seconds = (clock.monotonic() - startedAt) / 1000;
    const amount = (value: number): string => (unit === 'bytes' ? formatSize(value) : `${value}`);
    const rate = seconds > 0 ? `, ${amount(Math.round(done / seconds))}/s` : '';
    const ofTotal = total === undefined ? '' : ` of ${amount(total)}`;
    return `${amount(done)}${ofTotal}, ${seconds.toFixed(0)} s${rate}`;
  };
  const percent = (): number | undefined =>
    total === undefined || total === 0
      ? undefined
      : Math.min(100, Math.floor((done / total) * 100));

  const show = (): void => {
    isShown = true;
    const share = percent();
    if (!isTerminal) {
      output.note(`${label}: ${share === undefined ? '' : `${share} % · `}${describe()}`);
      return;
    }
    const width = 20;
    const filled = Math.floor(((share ?? 0) / 100) * width);
    const bar =
      share === undefined ? '' : `[${'#'.repeat(filled)}${'.'.repeat(width - filled)}] ${share} % `;
    output.noteRaw(`\r\u001b[K${`${label} ${bar}${describe()}`.slice(0, output.errorColumns - 1)}`);
  };

  const update = (): void => {
    const now = clock.monotonic();
    if (now - shownAt < interval) return;
    shownAt = now;
    show();
  };

  return {
    advance(amount) {
      done += amount;
      update();
    },
    set(value) {
      done = value;
      update();
    },
    end() {
      if (!isShown) return;
      if (isTerminal) output.noteRaw('\r\u001b[K');
      else show();
    },
  };
}
