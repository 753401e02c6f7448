// Records of a backup as JSON. They come back from volumes that anybody may have written to: bounded
// before they are parsed, and checked field by field.

import { type Guid, parseGuid } from '../bytes/index.js';
import { DrError } from '../errors.js';

/** Of one record. */
export const RECORD_BYTES_MAX = 4 * 1024 * 1024;

export function encodeRecord(fields: Readonly<Record<string, unknown>>): Buffer {
  return Buffer.from(`${JSON.stringify({ format: 1, ...fields }, undefined, 1)}\n`);
}

/** The fields of one object, each checked when it is asked for. */
export class RecordFields {
  readonly #value: Readonly<Record<string, unknown>>;
  readonly #name: string;

  private constructor(value: unknown, name: string, what: string) {
    this.#name = name;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw this.bad(what);
    this.#value = value as Readonly<Record<string, unknown>>;
  }

  /** `name` is for messages. @throws DrError E_FILE_DAMAGED, E_FILE_VERSION */
  static parse(bytes: Uint8Array, name: string): RecordFields {
    let value: unknown;
    try {
      if (bytes.length > RECORD_BYTES_MAX) throw new RangeError(`${bytes.length} bytes`);
      value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    } catch (cause) {
      throw new DrError('E_FILE_DAMAGED', `${name} cannot be used: it is no JSON text of ours`, {
        context: { path: name },
        cause,
      });
    }
    const fields = new RecordFields(value, name, 'the whole');
    const format = fields.#value['format'];
    if (format === 1) return fields;
    if (typeof format !== 'number') throw fields.bad('format');
    throw new DrError('E_FILE_VERSION', `${name} has format ${format}; this program knows 1`, {
      context: { path: name, version: format, knownVersion: 1 },
    });
  }

  bad(field: string): DrError {
    return new DrError('E_FILE_DAMAGED', `${this.#name} cannot be used: ${field} is not legal`, {
      context: { path: this.#name, field },
    });
  }

  has(field: string): boolean {
    return !this.#isNone(field);
  }

  text(field: string, most = 4096): string {
    const value = this.#value[field];
    if (typeof value !== 'string' || value.length > most) throw this.bad(field);
    return value;
  }

  textOrNone(field: string, most = 4096): string | undefined {
    return this.#isNone(field) ? undefined : this.text(field, most);
  }

  guid(field: string): Guid {
    const value = this.#value[field];
    const parsed = typeof value === 'string' ? parseGuid(value) : undefined;
    if (parsed === undefined) throw this.bad(field);
    return parsed;
  }

  guidOrNone(field: string): Guid | undefined {
    return this.#isNone(field) ? undefined : this.guid(field);
  }

  whole(field: string, most = Number.MAX_SAFE_INTEGER): number {
    const value = this.#value[field];
    if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw this.bad(field);
    if (value < 0 || value > most) throw this.bad(field);
    return value;
  }

  wholeOrNone(field: string, most?: number): number | undefined {
    return this.#isNone(field) ? undefined : this.whole(field, most);
  }

  flag(field: string): boolean {
    const value = this.#value[field];
    if (typeof value !== 'boolean') throw this.bad(field);
    return value;
  }

  choice<T extends string | number>(field: string, choices: readonly T[]): T {
    const value = choices.find((choice) => choice === this.#value[field]);
    if (value === undefined) throw this.bad(field);
    return value;
  }

  object(field: string): RecordFields {
    return new RecordFields(this.#value[field], this.#name, field);
  }

  objects<T>(field: string, most: number, parse: (item: RecordFields) => T): T[] {
    return this.#list(field, most).map((item) =>
      parse(new RecordFields(item, this.#name, `an item of ${field}`)),
    );
  }

  objectsOrNone<T>(field: string, most: number, parse: (item: RecordFields) => T): T[] {
    return this.#isNone(field) ? [] : this.objects(field, most, parse);
  }

  texts(field: string, mostItems: number, most = 256): string[] {
    return this.#list(field, mostItems).map((item) => {
      if (typeof item !== 'string' || item.length > most) throw this.bad(`an item of ${field}`);
      return item;
    });
  }

  #list(field: string, most: number): readonly unknown[] {
    const value = this.#value[field];
    if (!Array.isArray(value) || value.length > most) throw this.bad(field);
    return value as readonly unknown[];
  }

  #isNone(field: string): boolean {
    return this.#value[field] === undefined || this.#value[field] === null;
  }
}
