// A Plugin line of a FileSet. It is read twice, and each reader takes something away: the Director's
// parser of configuration files, then the parser of plugin commands in the File Daemon. Pure.
//
//   what is meant      exclude = a b, "c"        dr_psk_file = D:\keys\dr.psk
//   plugin command     podheitor-hyperv: exclude="a b, \"c\"" dr_psk_file="D:\\keys\\dr.psk"
//   FileSet            Plugin = "podheitor-hyperv: exclude=\"a b, \\\"c\\\"\" dr_psk_file=\"D:\\\\keys\\\\dr.psk\""
//
// The command parser cuts at blanks outside of double quotes; a backslash makes the next character an
// ordinary one, in quotes and outside; single quotes are ordinary; the first = ends the key. Text is
// UTF-8 and passes as bytes; there is no way to write a control character.

import { DrError } from '../shared/errors.js';
import type { PluginNamespace } from '../shared/params/index.js';

/** What the readers of a Plugin line are known to take; longer ones are cut in messages at the least. */
export const PLUGIN_COMMAND_MAX = 4096;

export interface PluginParameter {
  readonly key: string;
  readonly value: string;
}

/** The command as the File Daemon gets it. @throws DrError E_PARAMETER for what cannot be written */
export function pluginCommand(
  plugin: PluginNamespace,
  parameters: readonly PluginParameter[],
): string {
  const words = parameters.map(({ key, value }) => `${key}=${commandValue(key, value)}`);
  const command = [`${plugin}:`, ...words].join(' ');
  const bytes = Buffer.byteLength(command);
  if (bytes > PLUGIN_COMMAND_MAX) {
    throw new DrError('E_PARAMETER', `the Plugin line takes ${bytes} bytes`, {
      context: { limit: PLUGIN_COMMAND_MAX },
      hint: `At most ${PLUGIN_COMMAND_MAX} are legal; put parameters into a file and name it as config_file.`,
    });
  }
  return command;
}

function commandValue(key: string, value: string): string {
  if (hasControl(value) || /\p{Surrogate}/u.test(value)) {
    throw new DrError('E_PARAMETER', `${key}: a control character cannot stand in a Plugin line`, {
      context: { parameter: key },
      hint: 'Put the value into a file and name it as config_file.',
    });
  }
  const escaped = value.replace(/["\\]/g, '\\$&');
  return escaped === value && /^\S+$/.test(value) ? value : `"${escaped}"`;
}

/** Line ends, tabs and the like, which Bacula's protocols end lines with or turn into blanks. */
export function hasControl(text: string): boolean {
  return Array.from(text).some((char) => char < ' ' || char === '\u007f');
}

/** A string of a Director's configuration file, with its quotes. */
export function directorString(text: string): string {
  return `"${text.replace(/["\\]/g, '\\$&')}"`;
}

/** The words of a command behind `plugin:`, as the parser of the File Daemon cuts them. */
export function cutCommand(text: string): string[] {
  const words: string[] = [];
  let word = '';
  let isWord = false;
  let isQuoted = false;
  const chars = Array.from(text);
  for (let at = 0; at < chars.length; at++) {
    const char = chars[at] ?? '';
    if (!isQuoted && isBlank(char)) {
      if (isWord) words.push(word);
      [word, isWord] = ['', false];
      continue;
    }
    isWord = true;
    if (char === '"') isQuoted = !isQuoted;
    else if (char === '\\') word += chars[++at] ?? '';
    else word += char;
  }
  if (isWord) words.push(word);
  return words;
}

/** Of ASCII only: others belong to the text. */
function isBlank(char: string): boolean {
  return /^[ \t\n\v\f\r]$/.test(char);
}

/** A word of a command as a parameter; a word without = counts as `key=1`. */
export function parameterOf(word: string): PluginParameter {
  const at = word.indexOf('=');
  return at < 0 ? { key: word, value: '1' } : { key: word.slice(0, at), value: word.slice(at + 1) };
}

export interface FileSetWish {
  readonly name: string;
  /** Plugin commands, one for each line. */
  readonly commands: readonly string[];
}

/** A FileSet for the Director, ready to be pasted. @throws DrError E_PARAMETER for a bad name */
export function fileSetText({ name, commands }: FileSetWish): string {
  if (!/^[A-Za-z][A-Za-z0-9 ._:-]{0,126}$/.test(name)) {
    throw new DrError('E_PARAMETER', 'the Director takes no FileSet of that name', {
      hint: 'Letters, digits, blanks and . _ : - are legal, at most 127; a letter comes first.',
    });
  }
  const lines = commands.map((command) => `    ${pluginLine(command)}\n`);
  return (
    `FileSet {\n  Name = ${directorString(name)}\n` +
    `  Include {\n    Options { Signature = SHA1 }\n${lines.join('')}  }\n}`
  );
}

export function pluginLine(command: string): string {
  return `Plugin = ${directorString(command)}`;
}
