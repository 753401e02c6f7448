// FINAL, the sealed last record of a direction: how the call ended, and how many records came
// before. Nothing else says that a direction is whole.
//
//   0 u64 record count   8 nothing when all went well, otherwise the error as a JSON text in UTF-8
//
// An error crosses as code, message, done, hint and context. What arrives is bounded and carries no
// control characters: it is somebody else's text on its way to an operator's terminal.

import { DrError, type ErrorContext, isErrorCode } from '../errors.js';

const TEXT_MAX = 8192;
const CONTEXT_ITEMS_MAX = 32;
const CONTEXT_NAME_MAX = 64;
const BIGINT_TEXT_MAX = 40;
const FINAL_BYTES_MAX = 128 << 10;
const COUNT_BYTES = 8;

export interface Final {
  readonly recordCount: number;
  readonly error: DrError | undefined;
}

/** `error` undefined: all went well. What is no DrError is a bug of ours and says only that. */
export function encodeFinal(recordCount: number, error: unknown): Buffer {
  const count = Buffer.alloc(COUNT_BYTES);
  count.writeBigUInt64BE(BigInt(recordCount));
  if (error === undefined) return count;
  const known =
    error instanceof DrError
      ? error
      : new DrError('E_INTERNAL', 'the other side met an error of its own', {
          done: 'the call was ended',
          hint: 'Its log has the details; it is a bug, please report it.',
        });
  const context = Object.entries(known.context)
    .slice(0, CONTEXT_ITEMS_MAX)
    .map(([name, value]) => [cut(name, CONTEXT_NAME_MAX), ...encodeFact(value)]);
  const text = JSON.stringify({
    code: known.code,
    message: cut(known.message),
    done: cut(known.done),
    hint: cut(known.hint),
    context,
  });
  return Buffer.concat([count, Buffer.from(text, 'utf8')]);
}

/** A value with its kind: whole numbers of any size survive JSON. */
function encodeFact(value: string | number | bigint | boolean): readonly [string, unknown] {
  if (typeof value === 'bigint') {
    const digits = value.toString();
    return digits.length <= BIGINT_TEXT_MAX ? ['u', digits] : ['v', cut(digits)];
  }
  if (typeof value === 'number' && !Number.isFinite(value)) return ['v', String(value)];
  return ['v', typeof value === 'string' ? cut(value) : value];
}

function cut(text: string, max = TEXT_MAX / 4): string {
  return text.length <= max ? text : `${text.slice(0, max - 1)}…`;
}

/** undefined when the bytes are no FINAL. */
export function parseFinal(bytes: Buffer): Final | undefined {
  if (bytes.length < COUNT_BYTES || bytes.length > FINAL_BYTES_MAX) return undefined;
  const count = bytes.readBigUInt64BE(0);
  if (count > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
  const recordCount = Number(count);
  if (bytes.length === COUNT_BYTES) return { recordCount, error: undefined };
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8', COUNT_BYTES));
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const fields = value as Readonly<Record<string, unknown>>;
  const code = text(fields['code']);
  const message = text(fields['message']);
  const done = text(fields['done']);
  const hint = text(fields['hint']);
  const context = parseContext(fields['context']);
  if (code === undefined || message === undefined || done === undefined) return undefined;
  if (hint === undefined || context === undefined) return undefined;
  const error = isErrorCode(code)
    ? new DrError(code, message, { done, hint, context })
    : // a newer release may know codes that this one does not: its words still count
      new DrError('E_PROTOCOL', `${code}: ${message}`, { done, hint, context });
  return { recordCount, error };
}

function text(value: unknown): string | undefined {
  if (typeof value !== 'string' || value.length > TEXT_MAX) return undefined;
  return printable(value);
}

/** C0, C1 and marks that turn the direction of writing become visible escapes. */
export function printable(value: string): string {
  return value.replace(
    /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function parseContext(value: unknown): ErrorContext | undefined {
  if (!Array.isArray(value) || value.length > CONTEXT_ITEMS_MAX) return undefined;
  const out: [string, string | number | bigint | boolean][] = [];
  for (const item of value as readonly unknown[]) {
    if (!Array.isArray(item) || item.length !== 3) return undefined;
    const [name, kind, raw] = item as readonly unknown[];
    if (typeof name !== 'string' || name.length > CONTEXT_NAME_MAX) return undefined;
    if (kind === 'u') {
      if (typeof raw !== 'string' || raw.length > BIGINT_TEXT_MAX || !/^-?\d+$/.test(raw))
        return undefined;
      out.push([printable(name), BigInt(raw)]);
    } else if (typeof raw === 'string') {
      if (raw.length > TEXT_MAX) return undefined;
      out.push([printable(name), printable(raw)]);
    } else if (typeof raw === 'number' || typeof raw === 'boolean') {
      out.push([printable(name), raw]);
    } else {
      return undefined;
    }
  }
  return Object.fromEntries(out);
}
