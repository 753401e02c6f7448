// The command line of `npm run bench`. Pure.

import { parseSize } from '../shared/sizes.js';
import { DrError } from '../shared/errors.js';

export interface BenchArguments {
  /** Benches to run, in the order of the list; empty: all. */
  readonly names: readonly string[];
  readonly rounds: number | undefined;
  /** Size of the data in place of each bench's own. */
  readonly sizeBytes: number | undefined;
  /** Shortens benches that go on for a fixed time. */
  readonly isQuick: boolean;
  /** Leaves our own contenders out, and the goals with them. */
  readonly isPeersOnly: boolean;
  /** Folder under which the work folder is made. */
  readonly folder: string | undefined;
  /** The product to measure: a launcher, or a compiled cli/main.js. */
  readonly product: string | undefined;
  /** File to which the JSON lines are appended. */
  readonly record: string | undefined;
  /** File of JSON lines to word as Markdown in place of a run. */
  readonly markdown: string | undefined;
  readonly json: boolean;
  readonly list: boolean;
  readonly help: boolean;
}

export const BENCH_HELP = `Usage: npm run bench -- [options] [name...]

Runs the benches (all without a name), each in turns with its peers, and prints medians.

  --list            names, what they ask, and the disk space they need
  --rounds N        measurements of each contender (default: the bench's own, mostly 5)
  --size SIZE       try with this much data in place of the bench's own; the figures are no result
  --quick           benches that go on for a fixed time end early; the figures are no result
  --peers           the other programs only: no product, no goals
  --dir DIR         where the work folder is made; it is removed afterwards
                    (default: the system's temporary folder, or dist/ when that is another volume)
  --json            JSON lines on stdout in place of tables
  --record FILE     append the JSON lines to FILE as well
  --markdown FILE   do not measure: word the JSON lines of FILE as Markdown
  --product PATH    measure this launcher or compiled cli/main.js (default: bin/hvdr)
  --help

Exit codes: 0 all goals met; 1 a goal was missed; 2 wrong usage; others as of hvdr.
`;

const ROUNDS_MAX = 1000;
const SIZE_MIN_BYTES = 16 * 1024 ** 2;
const SIZE_MAX_BYTES = 64 * 1024 ** 3;
const VALUE_OPTIONS: readonly string[] = [
  '--rounds',
  '--size',
  '--dir',
  '--record',
  '--markdown',
  '--product',
];

/** @throws DrError E_USAGE */
export function parseBenchArguments(
  words: readonly string[],
  known: readonly string[],
): BenchArguments {
  const values = new Map<string, string>();
  const switches = new Set<string>();
  const names: string[] = [];
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index] ?? '';
    if (['--json', '--list', '--peers', '--quick', '--help'].includes(word)) {
      switches.add(word);
    } else if (VALUE_OPTIONS.includes(word)) {
      index += 1;
      const value = words[index];
      if (value === undefined) throw new DrError('E_USAGE', `${word} wants a value`);
      values.set(word, value);
    } else if (word.startsWith('-')) {
      throw new DrError('E_USAGE', `there is no option ${word}`, { hint: 'try --help' });
    } else if (known.includes(word)) {
      names.push(word);
    } else {
      throw new DrError('E_USAGE', `there is no bench "${word}"`, {
        hint: `these are known: ${known.join(', ')}`,
      });
    }
  }
  return {
    names,
    rounds: parseRounds(values.get('--rounds')),
    sizeBytes: parseDataSize(values.get('--size')),
    isQuick: switches.has('--quick'),
    isPeersOnly: switches.has('--peers'),
    folder: values.get('--dir'),
    product: values.get('--product'),
    record: values.get('--record'),
    markdown: values.get('--markdown'),
    json: switches.has('--json'),
    list: switches.has('--list'),
    help: switches.has('--help'),
  };
}

function parseDataSize(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const sizeBytes = parseSize(text, '--size', { min: SIZE_MIN_BYTES, max: SIZE_MAX_BYTES });
  if (sizeBytes % SIZE_MIN_BYTES === 0) return sizeBytes;
  throw new DrError('E_USAGE', `--size ${text} is no multiple of 16M`);
}

function parseRounds(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const rounds = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (rounds < 1 || rounds > ROUNDS_MAX) {
    throw new DrError('E_USAGE', `--rounds ${text} is not a number from 1 to ${ROUNDS_MAX}`);
  }
  return rounds;
}
