// Reads checked values out of a JSON object that came from a file or from another program. Whatever
// does not have the shape that was agreed is refused, with the place in the message.

import { parseGuid, type Guid } from '../bytes/index.js';
import { DrError } from '../errors.js';
import type { JsonFields } from '../files/index.js';

/** The error for a field that is not what it has to be. */
export type Refuse = (field: string, wanted: string) => DrError;

export class Fields {
  readonly #fields: JsonFields;
  readonly #refusal: Refuse;
  readonly #place: string;

  constructor(fields: JsonFields, refusal: Refuse, place = '') {
    this.#fields = fields;
    this.#refusal = refusal;
    this.#place = place;
  }

  /** Of a document of ours on a disk; refused with E_FILE_DAMAGED. */
  static ofFile(fields: JsonFields, path: string): Fields {
    const refusal: Refuse = (field, wanted) =>
      new DrError('E_FILE_DAMAGED', `${path} cannot be used: ${field} is not ${wanted}`, {
        context: { path, field },
      });
    return new Fields(fields, refusal);
  }

  string(name: string, lengthMax = 4096): string {
    const value = this.#fields[name];
    if (typeof value === 'string' && value.length <= lengthMax) return value;
    return this.#refuse(name, 'a text');
  }

  optionalString(name: string, lengthMax?: number): string | undefined {
    return this.#isAbsent(name) ? undefined : this.string(name, lengthMax);
  }

  boolean(name: string): boolean {
    const value = this.#fields[name];
    return typeof value === 'boolean' ? value : this.#refuse(name, 'true or false');
  }

  optionalBoolean(name: string): boolean | undefined {
    return this.#isAbsent(name) ? undefined : this.boolean(name);
  }

  /** A whole number from `min` to `max`. */
  whole(name: string, min = 0, max = Number.MAX_SAFE_INTEGER): number {
    const value = this.#fields[name];
    const isLegal =
      typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max;
    return isLegal ? value : this.#refuse(name, `a whole number from ${min} to ${max}`);
  }

  optionalWhole(name: string, min = 0, max = Number.MAX_SAFE_INTEGER): number | undefined {
    return this.#isAbsent(name) ? undefined : this.whole(name, min, max);
  }

  /** A 64-bit number, written as a text because JSON has no such numbers. */
  counter(name: string): bigint {
    const text = this.string(name, 20);
    const isLegal = /^\d+$/.test(text) && BigInt(text) < 2n ** 64n;
    return isLegal ? BigInt(text) : this.#refuse(name, 'a number of up to 64 bits, as a text');
  }

  guid(name: string): Guid {
    return parseGuid(this.string(name, 38)) ?? this.#refuse(name, 'a GUID');
  }

  oneOf<const T extends string | number>(name: string, values: readonly T[]): T {
    const found = values.find((value) => value === this.#fields[name]);
    return found ?? this.#refuse(name, `one of ${values.join(', ')}`);
  }

  object<T>(name: string, read: (fields: Fields) => T): T {
    const value = this.#fields[name];
    if (!isObject(value)) return this.#refuse(name, 'an object');
    return read(new Fields(value, this.#refusal, `${this.#place}${name}.`));
  }

  optionalObject<T>(name: string, read: (fields: Fields) => T): T | undefined {
    return this.#isAbsent(name) ? undefined : this.object(name, read);
  }

  list<T>(name: string, read: (fields: Fields) => T): T[] {
    return this.#array(name).map((item, index) => {
      if (!isObject(item)) return this.#refuse(`${name}[${index}]`, 'an object');
      return read(new Fields(item, this.#refusal, `${this.#place}${name}[${index}].`));
    });
  }

  strings(name: string): string[] {
    return this.#array(name).map((item) =>
      typeof item === 'string' ? item : this.#refuse(name, 'a list of texts'),
    );
  }

  /** None when it is absent. */
  optionalStrings(name: string): string[] {
    return this.#isAbsent(name) ? [] : this.strings(name);
  }

  wholes(name: string): number[] {
    return this.#array(name).map((item) =>
      typeof item === 'number' && Number.isSafeInteger(item) && item >= 0
        ? item
        : this.#refuse(name, 'a list of whole numbers'),
    );
  }

  #array(name: string): readonly unknown[] {
    const value = this.#fields[name];
    return Array.isArray(value) ? (value as readonly unknown[]) : this.#refuse(name, 'a list');
  }

  #isAbsent(name: string): boolean {
    return this.#fields[name] === undefined || this.#fields[name] === null;
  }

  #refuse(name: string, wanted: string): never {
    throw this.#refusal(`${this.#place}${name}`, wanted);
  }
}

function isObject(value: unknown): value is JsonFields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
