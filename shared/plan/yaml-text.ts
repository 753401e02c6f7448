// Reads YAML as plain data: maps, lists and scalars, and nothing that makes a small text large or a
// harmless one odd: no anchors, aliases, tags, merge keys or second documents. Every value knows its
// line, and a key that nobody asked for is an error.

import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  type YAMLMap,
} from 'yaml';
import { DrError } from '../errors.js';

export const PLAN_BYTES_MAX = 1 << 20;
const DEPTH_MAX = 32;

/** Where a value stands, for messages. */
export class YamlSource {
  readonly #name: string;
  readonly #lines: LineCounter;

  constructor(name: string, lines: LineCounter) {
    this.#name = name;
    this.#lines = lines;
  }

  /** The refusal of what stands at an offset. */
  error(offset: number, what: string): DrError {
    const { line, col } = this.#lines.linePos(offset);
    return new DrError('E_PARAMETER', `${this.#name}:${line}:${col}: ${what}`, {
      context: { path: this.#name, line, column: col },
      hint: 'docs/failover/plans.md says what a plan may hold; `hvdr plan check FILE` reads it only.',
    });
  }
}

/** One value of the text. */
export class YamlValue {
  readonly #node: Node | null;
  readonly #offset: number;
  readonly #depth: number;
  readonly source: YamlSource;
  /** How to name it in a message: `steps[2].vm` */
  readonly place: string;

  constructor(source: YamlSource, node: unknown, offset: number, place: string, depth = 0) {
    this.source = source;
    // the parser gives nodes only; the kinds are told apart below
    this.#node = node as Node | null;
    this.#offset = this.#node?.range?.[0] ?? offset;
    this.#depth = depth;
    this.place = place;
    if (depth > DEPTH_MAX) throw this.error('is nested too deeply');
    const { anchor } = (this.#node ?? {}) as { anchor?: string };
    if (isAlias(this.#node) || anchor !== undefined) {
      throw this.error('uses an anchor or alias, which plans do not have');
    }
    if (this.#node?.tag !== undefined) throw this.error('has a tag, which plans do not have');
  }

  error(what: string): DrError {
    return this.source.error(this.#offset, `${this.place} ${what}`);
  }

  /** The values of a map by their keys. @throws DrError E_PARAMETER (no map, a key that is not `known`) */
  fields<K extends string>(known: readonly K[]): Partial<Record<K, YamlValue>> {
    const fields: Partial<Record<K, YamlValue>> = {};
    for (const { key, offset, value } of this.#pairs()) {
      const name = known.find((other) => other === key);
      if (name === undefined) {
        throw this.source.error(
          offset,
          `unknown key "${key}" in ${this.place}; known: ${known.join(', ')}`,
        );
      }
      fields[name] = value;
    }
    return fields;
  }

  /** A map of any keys that look like parameters to texts. */
  texts(): Readonly<Record<string, string>> {
    const texts: Record<string, string> = {};
    for (const { key, offset, value } of this.#pairs()) {
      if (!/^[a-z][a-z0-9_]*$/.test(key)) {
        throw this.source.error(offset, `"${key}" in ${this.place} is no name of a parameter`);
      }
      texts[key] = value.text();
    }
    return texts;
  }

  #pairs(): { key: string; offset: number; value: YamlValue }[] {
    if (!isMap(this.#node)) throw this.error('is no map of keys to values');
    const map: YAMLMap = this.#node;
    return map.items.map(({ key, value }) => {
      const keyNode = new YamlValue(this.source, key, this.#offset, 'a key', this.#depth + 1);
      const name = keyNode.text();
      const place = this.place === 'the plan' ? name : `${this.place}.${name}`;
      const offset = keyNode.#offset;
      return {
        key: name,
        offset,
        value: new YamlValue(this.source, value, offset, place, this.#depth + 1),
      };
    });
  }

  items(): YamlValue[] {
    if (!isSeq(this.#node)) throw this.error('is no list');
    return this.#node.items.map(
      (item, index) =>
        new YamlValue(this.source, item, this.#offset, `${this.place}[${index}]`, this.#depth + 1),
    );
  }

  /** A list, or one item without the list. */
  itemOrItems(): YamlValue[] {
    return isSeq(this.#node) ? this.items() : [this];
  }

  get isMap(): boolean {
    return isMap(this.#node);
  }

  /** A text as it stands there; numbers and truth values too. Not empty. */
  text(charactersMax = 1024): string {
    if (!isScalar(this.#node) || this.#node.value === null) throw this.error('is no text');
    const { value, source } = this.#node;
    const text = typeof value === 'string' ? value : (source ?? '');
    if (text.trim() === '') throw this.error('is empty');
    if (text.length > charactersMax) throw this.error(`is longer than ${charactersMax} characters`);
    return text;
  }

  whole(min: number, max: number): number {
    const text = this.text();
    const value = Number(text);
    if (/^\d{1,9}$/.test(text) && value >= min && value <= max) return value;
    throw this.error(`is no whole number from ${min} to ${max}`);
  }

  /** Milliseconds of `90`, `90s`, `15m`, `2h`; at most a day. */
  durationMs(): number {
    const [, digits, unit = 's'] = /^(\d{1,6})([smh])?$/.exec(this.text()) ?? [];
    const seconds = Number(digits) * ({ s: 1, m: 60, h: 3600 }[unit] ?? 1);
    if (seconds >= 1 && seconds <= 86_400) return seconds * 1000;
    throw this.error('is no time from 1 second to a day: 90, 90s, 15m, 2h');
  }

  choice<T extends string>(choices: readonly T[]): T {
    const text = this.text();
    const choice = choices.find((other) => other === text);
    if (choice === undefined) throw this.error(`is none of: ${choices.join(', ')}`);
    return choice;
  }

  flag(): boolean {
    const text = this.text();
    if (['yes', 'true'].includes(text)) return true;
    if (['no', 'false'].includes(text)) return false;
    throw this.error('is neither yes nor no');
  }
}

/**
 * The whole text as one value. `name` is for messages.
 * @throws DrError E_PARAMETER with line and column
 */
export function readYaml(text: string, name: string): YamlValue {
  const lines = new LineCounter();
  const source = new YamlSource(name, lines);
  if (Buffer.byteLength(text) > PLAN_BYTES_MAX) {
    throw new DrError('E_PARAMETER', `${name} has more than ${PLAN_BYTES_MAX} bytes`);
  }
  // the parser calls itself for each level and must not run out of stack
  if (/(?:[[{]\s*){64}|(?:[-?] ){64}/.test(text)) {
    throw new DrError('E_PARAMETER', `${name} is nested too deeply`);
  }
  const parsed = parse(text, name, lines);
  const [problem] = [...parsed.errors, ...parsed.warnings];
  if (problem !== undefined) {
    const [what = 'not legal'] = problem.message.split(/ at line \d|\n/);
    throw source.error(problem.pos[0], what);
  }
  return new YamlValue(source, parsed.contents, 0, 'the plan');
}

function parse(
  text: string,
  name: string,
  lineCounter: LineCounter,
): ReturnType<typeof parseDocument> {
  try {
    return parseDocument(text, {
      ...{ lineCounter, uniqueKeys: true, strict: true, schema: 'core', merge: false },
      ...{ prettyErrors: false, logLevel: 'error' },
    });
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    throw new DrError('E_PARAMETER', `${name} is no YAML: ${what}`, { cause: error });
  }
}
