// The three ways in which parameters are written, each read to the same list. Pure.
//
//   Plugin string   podheitor-hyperv: vm=SQL* mode=rct-push exclude="a b,c"
//   config file     key=value a line; # begins a comment line; [section] in a daemon's file
//   flags           --push-cycles 4
//
// A value may stand in double or single quotes; inside, the quote itself is written twice. A
// backslash is a backslash: Windows paths need nothing special.

import { badSyntax } from './refusal.js';

export type Origin = 'default' | 'config file' | 'Plugin string' | 'flag';

export interface GivenParameter {
  readonly key: string;
  readonly value: string;
  readonly origin: Origin;
  /** For messages: "line 3 of /etc/hvdr.conf", "--push-cycles". */
  readonly place: string;
}

export type PluginNamespace = 'podheitor-hyperv' | 'podheitor-vsphere' | 'podheitor-proxmox';

const NAMESPACES: readonly PluginNamespace[] = [
  'podheitor-hyperv',
  'podheitor-vsphere',
  'podheitor-proxmox',
];
const PLUGIN_MAX = 64 * 1024;
export const CONFIG_FILE_MAX = 256 * 1024;
const PLACE = 'Plugin string';

/** @throws DrError E_PARAMETER */
export function parsePluginString(text: string): {
  readonly namespace: PluginNamespace;
  readonly given: readonly GivenParameter[];
} {
  if (text.length > PLUGIN_MAX) {
    throw badSyntax(`it has ${text.length} characters`, PLACE, `At most ${PLUGIN_MAX} are legal.`);
  }
  const colon = text.indexOf(':');
  const prefix = text.slice(0, Math.max(0, colon)).trim();
  const namespace = NAMESPACES.find((name) => name === prefix);
  if (namespace === undefined) {
    const hint = `It begins with one of ${NAMESPACES.map((name) => `${name}:`).join(', ')}.`;
    throw badSyntax('it names no plugin of this product', PLACE, hint);
  }
  const given: GivenParameter[] = [];
  let rest = text.slice(colon + 1).trimStart();
  while (rest !== '') {
    const key = /^[^\s=]*/.exec(rest)?.[0] ?? '';
    if (key === '' || rest[key.length] !== '=') {
      const hint = 'Write key=value pairs separated by blanks; quote values with blanks.';
      throw badSyntax(
        `a word after ${given.at(-1)?.key ?? 'the prefix'} is no key=value`,
        PLACE,
        hint,
      );
    }
    rest = rest.slice(key.length + 1);
    const { value, length } = pluginValue(rest, key);
    given.push({ key, value, origin: 'Plugin string', place: PLACE });
    rest = rest.slice(length).trimStart();
  }
  return { namespace, given };
}

function pluginValue(rest: string, key: string): { value: string; length: number } {
  const quote = rest[0];
  if (quote !== '"' && quote !== "'") {
    const value = /^\S*/.exec(rest)?.[0] ?? '';
    return { value, length: value.length };
  }
  const quoted = readQuoted(rest, quote);
  if (quoted === undefined) {
    throw badSyntax(`the quote of ${key.slice(0, 64)} is not closed`, PLACE, 'Close the quote.');
  }
  const after = rest[quoted.length];
  if (after !== undefined && !/\s/.test(after)) {
    const hint = 'A blank follows a closing quote; a quote inside is written twice.';
    throw badSyntax(`text follows the closing quote of ${key.slice(0, 64)}`, PLACE, hint);
  }
  return quoted;
}

/** The text between quotes at the start of `text`, and how much of it that took. */
function readQuoted(text: string, quote: string): { value: string; length: number } | undefined {
  let value = '';
  let at = 1;
  for (;;) {
    const end = text.indexOf(quote, at);
    if (end < 0) return undefined;
    value += text.slice(at, end);
    if (text[end + 1] !== quote) return { value, length: end + 1 };
    value += quote;
    at = end + 2;
  }
}

export interface ConfigSection {
  /** Empty: before the first section. */
  readonly name: string;
  readonly given: readonly GivenParameter[];
}

/** A config file with sections; without any, one section without a name. @throws DrError E_PARAMETER */
export function parseConfigSections(text: string, file: string): ConfigSection[] {
  let given: GivenParameter[] = [];
  const sections: { name: string; given: GivenParameter[] }[] = [{ name: '', given }];
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/);
  for (const [index, line] of lines.entries()) {
    const place = `line ${index + 1} of ${file}`;
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const header = /^\[([^\]]{1,64})\]$/.exec(trimmed)?.[1]?.trim();
    if (header !== undefined) {
      if (sections.some(({ name }) => name === header)) {
        throw badSyntax(`the section [${header}] is there already`, place, 'Rename one of them.');
      }
      given = [];
      sections.push({ name: header, given });
      continue;
    }
    const at = trimmed.indexOf('=');
    if (at <= 0) {
      const hint = 'Write key=value, or # and a comment.';
      throw badSyntax('the line is no key=value', place, hint);
    }
    const key = trimmed.slice(0, at).trim();
    const value = configValue(trimmed.slice(at + 1).trim(), key, place);
    given.push({ key, value, origin: 'config file', place });
  }
  return sections;
}

/** A config file as `config_file` names it: no sections. @throws DrError E_PARAMETER */
export function parseConfigFile(text: string, file: string): readonly GivenParameter[] {
  const [first, second] = parseConfigSections(text, file);
  if (second !== undefined) {
    const hint = 'Sections belong into the file of `hvdr daemon --config`.';
    throw badSyntax(`it has a section [${second.name}]`, file, hint);
  }
  return first?.given ?? [];
}

function configValue(text: string, key: string, place: string): string {
  const quote = text[0];
  if (quote !== '"' && quote !== "'") return text;
  const quoted = readQuoted(text, quote);
  if (quoted?.length !== text.length) {
    const hint = 'Close the quote at the end of the line; a quote inside is written twice.';
    throw badSyntax(`the quotes of ${key.slice(0, 64)} do not fit`, place, hint);
  }
  return quoted.value;
}

/** Options of the command line, by their names with dashes and without the leading ones. */
export function givenByFlags(options: Readonly<Record<string, string>>): GivenParameter[] {
  return Object.entries(options).map(([name, value]) => ({
    key: name.replaceAll('-', '_'),
    value,
    origin: 'flag',
    place: `--${name}`,
  }));
}
