// Documents in JSON as the commands and the reports of jobs write them.

import type { DrError } from './errors.js';

export type JsonValue =
  string | number | bigint | boolean | null | readonly JsonValue[] | JsonObject;

export interface JsonObject {
  readonly [key: string]: JsonValue | undefined;
}

/** JSON text; a bigint becomes a decimal string, because readers lose digits of larger numbers. */
export function toJson(value: JsonValue, indent?: number): string {
  return JSON.stringify(
    value,
    (_key, item: unknown) => (typeof item === 'bigint' ? item.toString() : item),
    indent,
  );
}

/** The document of a failed run (cli.md): `{"error":{code,message,done,hint,context}}`. */
export function errorDocument(error: DrError): { error: JsonValue } {
  const { code, message, done, hint, context } = error;
  return { error: { code, message, done, hint, context } };
}
