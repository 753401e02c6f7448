// One set of rules for two readers: opening a file stops at the first violation, `check` collects
// them all. Parsers therefore report through a callback; the strict one throws, the collecting one
// returns, and then the parser goes on with what is still usable or gives up on that structure.

import { DrError, type ErrorCode, type ErrorContext } from '../errors.js';

export type VhdxErrorCode = Extract<ErrorCode, `E_VHDX_${string}`>;

export interface Violation {
  readonly code: VhdxErrorCode;
  /** Which structure: "header 1", "region table 2", "BAT", "metadata" … */
  readonly structure: string;
  /**
   * Byte offset in the file of the structure or of the wrong field; undefined when the violation is
   * not at one place of one file (a chain that does not fit together).
   */
  readonly offset?: number | undefined;
  /** What is wrong there, with the value found. */
  readonly message: string;
}

/** Receives violations; throws when the caller wants to stop at the first. */
export type Report = (violation: Violation) => undefined;

/** A VHDX file that is damaged, not legal, or not usable in the way that was asked for. */
export class VhdxError extends DrError {
  override readonly name = 'VhdxError';
  readonly violation: Violation;

  constructor(
    violation: Violation,
    path: string,
    options: { done?: string; hint?: string; cause?: unknown; context?: ErrorContext } = {},
  ) {
    const { code, structure, offset, message } = violation;
    const place = offset === undefined ? path : `${structure} at byte ${offset} of ${path}`;
    super(code, `${place}: ${message}`, {
      ...options,
      context: {
        ...options.context,
        file: path,
        structure,
        ...(offset === undefined ? {} : { offset }),
      },
    });
    this.violation = violation;
  }
}

/** A report that refuses the file at its first violation. */
export function refusing(path: string): Report {
  return (violation) => {
    throw new VhdxError(violation, path);
  };
}
