// Plugin lines in the configuration files of a Director, found without a Director, and the folder from which a File
// Daemon loads its plugins. Reads what is needed for that: blocks, directives, quotes, comments. Whether a file is right
// beyond that is for `bacula-dir -t` and `bacula-fd -t` to say. Pure.

export interface FoundPlugin {
  /** Name of the FileSet; empty when it has none. */
  readonly fileSet: string;
  /** Which of the file's FileSets, counted from 0; names may be wrong. */
  readonly block: number;
  /** The value, as the Director understands it. */
  readonly command: string;
  /** Counted from 1. */
  readonly line: number;
  readonly isQuoted: boolean;
  /** The quoted string goes on in the next line, or never ends. */
  readonly isBroken: boolean;
  /** The first character of `command` in front of which a backslash was lost for nothing. */
  readonly lostBefore: string | undefined;
}

interface TextToken {
  readonly kind: 'text';
  readonly text: string;
  readonly line: number;
  readonly isQuoted: boolean;
  readonly isBroken: boolean;
  readonly lostBefore?: string | undefined;
}

type Token = TextToken | { readonly kind: '{' | '}' | '=' | 'end' };

/** All Plugin lines of FileSets, in their order. Those of Options are of another kind. */
export function findPlugins(text: string): FoundPlugin[] {
  const found: Omit<FoundPlugin, 'fileSet'>[] = [];
  const names: string[] = [];
  for (const { path, key, value } of directives(text)) {
    const [resource, inner, deeper] = path;
    if (resource?.keyword !== 'fileset' || deeper !== undefined) continue;
    const block = resource.number;
    const [first] = value;
    if (first === undefined) continue;
    if (inner === undefined && key === 'name') names[block] = first.text;
    if (inner?.keyword === 'include' && key === 'plugin') {
      const { line, isQuoted, isBroken, lostBefore } = first;
      const command = isQuoted ? first.text : value.map((token) => token.text).join(' ');
      found.push({ block, command, line, isQuoted, isBroken, lostBefore });
    }
  }
  return found.map((plugin) => ({ ...plugin, fileSet: names[plugin.block] ?? '' }));
}

/** What a File Daemon's file says of its plugins. */
export interface PluginFolder {
  /** Whether the file has the resource at all. */
  readonly isFileDaemon: boolean;
  /** undefined: it loads none. */
  readonly folder: string | undefined;
}

export function findPluginFolder(text: string): PluginFolder {
  let isFileDaemon = false;
  let folder: string | undefined;
  for (const { path, key, value } of directives(text)) {
    const [resource, inner] = path;
    // `Client` is the former name of the resource
    if (inner !== undefined || !['filedaemon', 'client'].includes(resource?.keyword ?? '')) {
      continue;
    }
    isFileDaemon = true;
    if (key === 'plugindirectory') folder = value.map((token) => token.text).join(' ');
  }
  return { isFileDaemon, folder };
}

interface Block {
  readonly keyword: string;
  /** How many blocks began before this one. */
  readonly number: number;
}

interface Directive {
  /** The blocks that it stands in, outermost first. */
  readonly path: readonly Block[];
  readonly key: string;
  readonly value: readonly TextToken[];
}

function* directives(text: string): Generator<Directive> {
  const path: Block[] = [];
  let blocks = 0;
  let words: string[] = [];
  let value: TextToken[] | undefined;
  for (const token of tokens(text)) {
    if (token.kind === 'text') {
      if (value === undefined) words.push(token.text);
      else value.push(token);
      continue;
    }
    if (token.kind === '=') {
      // a later one belongs to the value
      value ??= [];
      continue;
    }
    if (value !== undefined) yield { path: [...path], key: keyword(words), value };
    // the brace of a block may stand in the next line
    if (token.kind === 'end' && value === undefined) continue;
    if (token.kind === '{') path.push({ keyword: keyword(words), number: blocks++ });
    if (token.kind === '}') path.pop();
    [words, value] = [[], undefined];
  }
}

/** The Director ignores case and blanks in keywords. */
function keyword(words: readonly string[]): string {
  return words.join('').toLowerCase();
}

function* tokens(text: string): Generator<Token> {
  let line = 1;
  let at = 0;
  while (at < text.length) {
    const char = text[at] ?? '';
    if (char === '\n' || char === ';') {
      if (char === '\n') line++;
      at++;
      yield { kind: 'end' };
    } else if (/[\s\ufeff,]/.test(char)) {
      at++;
    } else if (char === '#') {
      while (at < text.length && text[at] !== '\n') at++;
    } else if (char === '{' || char === '}' || char === '=') {
      at++;
      yield { kind: char };
    } else if (char === '"') {
      const { value, end, ...string } = quotedText(text, at);
      yield { kind: 'text', text: value, line, isQuoted: true, ...string };
      line += text.slice(at, end).split('\n').length - 1;
      at = end;
    } else {
      const word = /^[^\s{}=;,#"]+/.exec(text.slice(at, at + 4096))?.[0] ?? char;
      yield { kind: 'text', text: word, line, isQuoted: false, isBroken: false };
      at += word.length;
    }
  }
  yield { kind: 'end' };
}

interface QuotedText extends Pick<FoundPlugin, 'isBroken' | 'lostBefore'> {
  readonly value: string;
  readonly end: number;
}

function quotedText(text: string, start: number): QuotedText {
  let value = '';
  let isBroken = false;
  let lostBefore: string | undefined;
  for (let at = start + 1; at < text.length; at++) {
    const char = text[at] ?? '';
    if (char === '"') return { value, end: at + 1, isBroken, lostBefore };
    if (char === '\n') isBroken = true;
    if (char === '\\') {
      const next = text[++at] ?? '';
      if (!/["\\]/.test(next)) lostBefore ??= next;
      value += next;
    } else {
      value += char;
    }
  }
  return { value, end: text.length, isBroken: true, lostBefore };
}
