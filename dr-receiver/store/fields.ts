// Values out of JSON that somebody else may have written, field by field: each is there and of its kind,
// or the whole cannot be used.

import { type Guid, parseGuid } from '../../shared/bytes/index.js';

/** Why a record cannot be used. */
export class Unusable extends Error {
  override readonly name = 'Unusable';
}

/** Fields of one object, each asked for once. */
export class Fields {
  readonly #value: Readonly<Record<string, unknown>>;

  constructor(value: unknown, what: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new Unusable(`${what} is no object`);
    }
    this.#value = value as Readonly<Record<string, unknown>>;
  }

  text(name: string): string {
    const value = this.#value[name];
    if (typeof value !== 'string') throw new Unusable(`"${name}" is no text`);
    return value;
  }

  guid(name: string): Guid {
    return asGuid(this.#value[name], name);
  }

  guidOrNull(name: string): Guid | null {
    return this.#value[name] === null ? null : this.guid(name);
  }

  textOrNull(name: string): string | null {
    return this.#value[name] === null ? null : this.text(name);
  }

  object(name: string): Fields {
    return new Fields(this.#value[name], `"${name}"`);
  }

  has(name: string): boolean {
    return this.#value[name] !== undefined && this.#value[name] !== null;
  }

  number(name: string): number {
    const value = this.#value[name];
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
      throw new Unusable(`"${name}" is no whole number`);
    }
    return value;
  }

  /** One of a few words. */
  choice<T extends string>(name: string, choices: readonly T[]): T {
    const value = choices.find((choice) => choice === this.#value[name]);
    if (value === undefined) throw new Unusable(`"${name}" is none of ${choices.join(', ')}`);
    return value;
  }

  /** Names and values as they stand there. */
  entries(): readonly (readonly [string, unknown])[] {
    return Object.entries(this.#value);
  }

  flag(name: string): boolean {
    const value = this.#value[name];
    if (typeof value !== 'boolean') throw new Unusable(`"${name}" is neither true nor false`);
    return value;
  }

  list<T>(name: string, parse: (item: unknown) => T): readonly T[] {
    const value = this.#value[name];
    if (!Array.isArray(value)) throw new Unusable(`"${name}" is no list`);
    return value.map((item: unknown) => parse(item));
  }

  /** undefined when the record has no such field. */
  optional<T>(name: string, parse: (item: unknown) => T): T | undefined {
    const value = this.#value[name];
    return value === undefined ? undefined : parse(value);
  }

  epoch(name = 'epoch'): string {
    const value = this.text(name);
    if (!/^\d{1,20}$/.test(value)) throw new Unusable(`"${name}" is no number`);
    return value;
  }
}

export function asGuid(value: unknown, name: string): Guid {
  const parsed = typeof value === 'string' ? parseGuid(value) : undefined;
  if (parsed === undefined) throw new Unusable(`"${name}" is no GUID`);
  return parsed;
}

export function asNumber(value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new Unusable('an item is no whole number');
}

export function asText(value: unknown): string {
  if (typeof value !== 'string') throw new Unusable('an item is no text');
  return value;
}
