// The config file of `hvdr receiver --config`: its options, one key=value a line. What it means is checked where the
// options are. Pure.

import path from 'node:path';
import type { ReceiverTexts } from '../dr-receiver/index.js';
import { DrError } from '../shared/errors.js';
import { type GivenParameter, parseConfigFile } from '../shared/params/index.js';

/** What a receiver is told, by options or by a file. */
export interface ReceiverConfig extends Partial<ReceiverTexts> {
  readonly store?: string;
  readonly host?: string;
  readonly pskFile?: readonly string[];
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsClientCa?: string;
  readonly operatorFrom?: readonly string[];
  readonly seedDir?: string;
  readonly scriptDir?: string;
}

/** Kinds of values: `path` is absolute in a file, because a service has no folder of its own. */
const KINDS: Readonly<Record<keyof ReceiverConfig, 'text' | 'texts' | 'path' | 'paths'>> = {
  store: 'path',
  host: 'text',
  listen: 'text',
  pskFile: 'paths',
  tlsCert: 'path',
  tlsKey: 'path',
  tlsClientCa: 'path',
  operatorFrom: 'texts',
  adminListen: 'text',
  minRestorePoints: 'text',
  retentionGrid: 'text',
  quota: 'text',
  quotaVms: 'text',
  scrubRate: 'text',
  scrubPeriod: 'text',
  scriptDir: 'path',
  seedDir: 'path',
};

const NAMES = Object.keys(KINDS) as readonly (keyof ReceiverConfig)[];

/** How an option is called in the file. */
export function keyOf(name: keyof ReceiverConfig): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** @throws DrError E_PARAMETER: no key=value, an unknown key, one given twice, a path that is not absolute */
export function parseReceiverConfig(text: string, file: string): ReceiverConfig {
  const found = new Map<keyof ReceiverConfig, string | readonly string[]>();
  for (const given of parseConfigFile(text, file)) {
    const name = NAMES.find((known) => keyOf(known) === given.key);
    if (name === undefined) {
      throw refused(given, 'is not known', `Known are ${NAMES.map(keyOf).join(', ')}.`);
    }
    if (found.has(name)) throw refused(given, 'is given twice', 'Give each key once.');
    const kind = KINDS[name];
    const words = kind === 'text' || kind === 'path' ? [given.value] : listOf(given.value);
    if (kind === 'path' || kind === 'paths') words.forEach((word) => checkPath(given, word));
    found.set(name, kind === 'text' || kind === 'path' ? given.value : words);
  }
  return Object.fromEntries(found);
}

function listOf(text: string): readonly string[] {
  return text
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');
}

function checkPath(given: GivenParameter, word: string): void {
  if (path.isAbsolute(word) || word.startsWith('env:')) return;
  throw refused(given, `${JSON.stringify(word)} is no absolute path`, 'Write the whole path.');
}

function refused({ key, place }: GivenParameter, why: string, hint: string): DrError {
  return new DrError('E_PARAMETER', `${place}: ${key.slice(0, 64)}: ${why}`, { hint });
}
