// One error type; its codes stand in error-catalogue.ts.

import { CATALOGUE, type Retry } from './error-catalogue.js';

export { CATALOGUE, type CatalogueEntry, type Retry } from './error-catalogue.js';

export type ErrorCode = keyof typeof CATALOGUE;

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(CATALOGUE, text);
}

export type ErrorContext = Readonly<Record<string, string | number | bigint | boolean>>;

export interface DrErrorOptions {
  /** Facts for logs and --json: file, disk, offset, structure … Never a key or guest data. */
  readonly context?: ErrorContext;
  /** What the program did about it. Default: nothing was changed. */
  readonly done?: string;
  /** What to do next, when it can be said better than the catalogue does. */
  readonly hint?: string;
  readonly cause?: unknown;
}

/**
 * An error of the world: bad input, a failed device, a refused request. `message` says what failed
 * and on what; `done` what was done about it; `hint` what comes next.
 */
export class DrError extends Error {
  override readonly name: string = 'DrError';
  readonly code: ErrorCode;
  readonly context: ErrorContext;
  readonly done: string;
  readonly hint: string;

  constructor(code: ErrorCode, message: string, options: DrErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.context = options.context ?? {};
    this.done = options.done ?? 'nothing was changed';
    this.hint = options.hint ?? CATALOGUE[code].remedy;
  }

  get retry(): Retry {
    return CATALOGUE[this.code].retry;
  }

  get exitCode(): number {
    return CATALOGUE[this.code].exitCode;
  }

  /** `E_CODE: what failed, on what; what was done about it; next command` (cli.md). */
  get line(): string {
    return `${this.code}: ${this.message}; ${this.done}; ${this.hint}`;
  }
}
