// What may be logged of a value: a bounded copy without keys, without guest data and without
// control characters. Every value passes here before the logger sees it, whatever its shape.
//
// Three nets, one behind the other:
//   names     a field named like a secret ("psk", "apiToken") loses its value
//   forms     text that looks like one ("dr_psk=…", "hvdrpsk1:…", a PEM key) is cut out of strings
//   values    a secret that the program was told about is found wherever it turns up
// Bytes are never logged: of a buffer only its length remains.

import { DrError } from './errors.js';

const REDACTED = '[redacted]';

/** A log line is for reading: what is longer is cut, after the secrets are out. */
const TEXT_MAX = 8192;
/** No more of a string is looked at; the part up to TEXT_MAX is far from its end. */
const TEXT_EXAMINED_MAX = 65536;
const DEPTH_MAX = 8;
const ITEMS_MAX = 100;

const SECRET_WORDS = new Set([
  'key',
  'keys',
  'psk',
  'passphrase',
  'password',
  'passwd',
  'secret',
  'secrets',
  'token',
  'tokens',
  'credential',
  'credentials',
]);
/** Last words of names that speak about a secret without holding it: "psk_file", "keyId". */
const HARMLESS_LAST_WORDS = new Set(['file', 'path', 'id', 'count', 'bytes', 'length', 'type']);

/** True for the name of a field whose value must not be seen: "drPsk", "api-token", "KEY". */
export function isSecretName(name: string): boolean {
  const words = name
    .replace(/([a-z0-9])([A-Z])/g, '$1 $2')
    .toLowerCase()
    .split(/[^a-z0-9]+/)
    .filter((word) => word !== '');
  if (HARMLESS_LAST_WORDS.has(words.at(-1) ?? '')) return false;
  return words.some((word) => SECRET_WORDS.has(word));
}

/** What stands before a value: NAME= or NAME:, the name perhaps in (escaped) quotes. */
const NAME = /([A-Za-z0-9_.-]{1,64})\\{0,8}["']?\s{0,4}[=:]\s{0,4}/g;
/** A value in (escaped) quotes; without the closing one the rest of the text belongs to it. */
const QUOTED = /\\{0,8}(?:"[^"]*(?:"|$)|'[^']*(?:'|$))/y;
const BARE = /\S+/y;
const FORMS: readonly RegExp[] = [
  /hvdrpsk\d+:[^\s"']+/gi,
  /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g,
  /(?<=\bBearer\s)[^\s"']+/gi,
  /(?<=:\/\/[^/\s:@]{1,256}:)[^/\s@]+(?=@)/g,
];

export class Redactor {
  readonly #secrets = new Set<string>();

  /**
   * From now on the secret is cut out wherever it turns up, as text, in hex and in base64. Secrets
   * of fewer than 8 characters are left to the other nets: they would tear up ordinary text.
   */
  hide(secret: string | Uint8Array): void {
    const bytes = Buffer.from(secret);
    const forms = [
      bytes.toString('utf8'),
      bytes.toString('hex'),
      bytes.toString('hex').toUpperCase(),
      bytes.toString('base64'),
      bytes.toString('base64url'),
    ];
    for (const form of forms) {
      const bare = form.replace(/=+$/, '');
      if (bare.length >= 8) this.#secrets.add(bare);
    }
  }

  /** `text` without secrets and control characters, cut to a readable length. */
  text(text: string): string {
    let out = text.slice(0, TEXT_EXAMINED_MAX);
    for (const secret of this.#secrets) out = out.replaceAll(secret, REDACTED);
    for (const form of FORMS) out = out.replace(form, REDACTED);
    out = cutAssignments(out);
    out = out.replace(CONTROL, (character) => {
      const code = character.charCodeAt(0).toString(16).padStart(2, '0');
      return `\\x${code}`;
    });
    if (out.length <= TEXT_MAX) return out;
    return `${out.slice(0, TEXT_MAX)}… (${text.length} characters)`;
  }

  /** A copy of `value` that may be logged: plain objects, arrays, strings, numbers, booleans. */
  value(value: unknown): unknown {
    return this.#copy(value, []);
  }

  /** As value(), for the fields of a line. */
  fields(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
    return this.#properties(fields, []);
  }

  #copy(value: unknown, parents: readonly object[]): unknown {
    switch (typeof value) {
      case 'string':
        return this.text(value);
      case 'bigint':
        return value.toString();
      case 'number':
        return Number.isFinite(value) ? value : String(value);
      case 'boolean':
      case 'undefined':
        return value;
      case 'function':
      case 'symbol':
        return `[${typeof value}]`;
      case 'object':
        return value === null ? null : this.#object(value, parents);
    }
  }

  #object(value: object, parents: readonly object[]): unknown {
    if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
    if (value instanceof ArrayBuffer || value instanceof SharedArrayBuffer) {
      return `[${value.byteLength} bytes]`;
    }
    if (value instanceof Date) {
      return Number.isNaN(value.getTime()) ? 'invalid date' : value.toISOString();
    }
    if (value instanceof URL) return this.text(value.href);
    if (parents.includes(value)) return '[circular]';
    if (parents.length >= DEPTH_MAX) return '[deeper]';
    const inside = [...parents, value];
    if (value instanceof Error) return this.#error(value, inside);
    if (value instanceof Map) {
      // A key may be a secret's name or the secret itself: pairs are treated as properties.
      const pairs = [...value].map(([key, item]): [string, unknown] => [String(key), item]);
      return this.#entries(pairs, inside);
    }
    if (Array.isArray(value)) return this.#items(value, inside);
    if (value instanceof Set) return this.#items([...value], inside);
    return this.#properties(value, inside);
  }

  #items(items: readonly unknown[], parents: readonly object[]): unknown[] {
    const out = items.slice(0, ITEMS_MAX).map((item) => this.#copy(item, parents));
    if (items.length > ITEMS_MAX) out.push(`… (${items.length} items)`);
    return out;
  }

  #error(error: Error, parents: readonly object[]): Record<string, unknown> {
    const out: Record<string, unknown> = {
      ...this.#properties(error, parents),
      name: this.text(error.name),
      message: this.text(error.message),
    };
    // an error of the catalogue says what it means; where in our code it came up helps nobody else
    if (error.stack !== undefined && !(error instanceof DrError)) {
      out['stack'] = this.text(error.stack);
    }
    if (error.cause !== undefined) out['cause'] = this.#copy(error.cause, parents);
    if (error instanceof AggregateError) out['errors'] = this.#items(error.errors, parents);
    return out;
  }

  #properties(value: object, parents: readonly object[]): Record<string, unknown> {
    const names = Object.keys(value);
    const read = (name: string): unknown => {
      try {
        return (value as Record<string, unknown>)[name];
      } catch {
        return '[unreadable]';
      }
    };
    return this.#entries(
      names.map((name) => [name, isSecretName(name) ? undefined : read(name)]),
      parents,
    );
  }

  #entries(
    entries: readonly (readonly [string, unknown])[],
    parents: readonly object[],
  ): Record<string, unknown> {
    const out: [string, unknown][] = entries
      .slice(0, ITEMS_MAX)
      .map(([name, item]) => [
        this.text(name),
        isSecretName(name) ? REDACTED : this.#copy(item, parents),
      ]);
    if (entries.length > ITEMS_MAX) out.push(['…', `${entries.length} fields`]);
    return Object.fromEntries(out);
  }
}

/** C0 and C1 but for tab and line feed: a VM's name must not steer the operator's terminal. */
const CONTROL = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;

/** Cuts out the values of NAME=VALUE and NAME: VALUE where the name is a secret's. */
function cutAssignments(text: string): string {
  let out = '';
  let copiedEnd = 0;
  NAME.lastIndex = 0;
  for (let found = NAME.exec(text); found !== null; found = NAME.exec(text)) {
    if (!isSecretName(found[1] ?? '')) {
      // What looks like its value may be the next name: "Error: psk=…".
      continue;
    }
    const start = NAME.lastIndex;
    QUOTED.lastIndex = start;
    BARE.lastIndex = start;
    const value = QUOTED.exec(text) ?? BARE.exec(text);
    if (value === null) continue;
    out += text.slice(copiedEnd, start) + REDACTED;
    copiedEnd = start + value[0].length;
    NAME.lastIndex = copiedEnd;
  }
  return out + text.slice(copiedEnd);
}
