// `npm run bench`: chooses the benches, gives each a folder, and prints what came out. The figures
// go to stdout, progress to stderr.

import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';
import { BENCH_HELP, type BenchArguments, parseBenchArguments } from './arguments.js';
import { type Bench, GIB, type PreparedBench, spaceFor } from './bench.js';
import { ALL_BENCHES } from './benches/index.js';
import { describeMachine, describeRevision } from './machine.js';
import { SYSTEM_PYTHON } from './peers.js';
import { Product } from './product.js';
import {
  type BenchRecord,
  jsonLine,
  machineLine,
  markdownReport,
  parseRecord,
  textReport,
} from './report.js';
import { runRounds } from './rounds.js';
import { defaultParent, makeWorkFolder, requireSpace } from './work-folder.js';

/** What the benches of Debian's programs need. */
const PACKAGES =
  'qemu-utils openssl nbdkit libnbd-bin python3-libnbd gnutls-bin rsync restic diffutils, and what npm run demo:bacula names';
const ROUNDS = 5;
const EXIT_GOAL_MISSED = 1;
const STDOUT = 1;
const STDERR = 2;

const builtFolder = fileURLToPath(new URL('.', import.meta.url));
const checkout = resolve(builtFolder, '..', '..');

function print(text: string): void {
  writeSync(STDOUT, `${text}\n`);
}

function note(text: string): void {
  writeSync(STDERR, `${text}\n`);
}

/** A program, or `python:MODULE` for a module of Debian's Python. */
function isInstalled(program: string): boolean {
  const module = /^python:(.+)$/.exec(program)?.[1];
  const { status } =
    module === undefined
      ? spawnSync('sh', ['-c', 'command -v "$1"', 'which', program])
      : spawnSync(SYSTEM_PYTHON, ['-c', `import ${module}`]);
  return status === 0;
}

function requirePrograms(programs: readonly string[]): void {
  for (const program of programs) {
    if (!isInstalled(program)) {
      throw new DrError('E_TOOL_MISSING', `the peer program ${program} is not installed`, {
        hint: `Debian: apt-get install ${PACKAGES}`,
      });
    }
  }
}

async function runBench(
  bench: Bench,
  options: {
    workFolder: string;
    product: Product;
    rounds: number | undefined;
    sizeBytes: number | undefined;
    isPeersOnly: boolean;
    isQuick: boolean;
  },
): Promise<BenchRecord> {
  const { workFolder, product } = options;
  const sizeBytes = options.sizeBytes ?? bench.sizeBytes ?? 0;
  const spaceBytes = spaceFor(bench, sizeBytes);
  const rounds = options.rounds ?? bench.rounds ?? ROUNDS;
  requirePrograms(bench.programs);
  requireSpace(workFolder, spaceBytes, `bench ${bench.name}`);
  note(`${bench.name}: makes its input (up to ${(spaceBytes / GIB).toFixed(1)} GiB)`);
  const folder = join(workFolder, bench.name);
  mkdirSync(folder);
  let whole: PreparedBench | undefined;
  try {
    whole = await bench.prepare({
      folder,
      product,
      clock: systemClock,
      sizeBytes,
      isQuick: options.isQuick,
    });
    const prepared = options.isPeersOnly ? withoutOurs(whole) : whole;
    const onStep = (text: string): void => note(`${bench.name}: ${text}`);
    const results = await runRounds(prepared, { folder, rounds, clock: systemClock, onStep });
    return {
      format: 'hvdr-bench',
      version: 1,
      bench: bench.name,
      question: bench.question,
      time: new Date(systemClock.now()).toISOString(),
      machine: describeMachine(folder),
      revision: describeRevision(checkout),
      settings: {
        rounds,
        ...prepared.settings,
        ...(options.sizeBytes !== undefined && { 'only a try': 'the data have another size' }),
        ...(options.isQuick && { 'only a try': 'what goes on for a fixed time was cut short' }),
      },
      ...results,
    };
  } finally {
    await whole?.close?.();
    rmSync(folder, { recursive: true, force: true });
  }
}

function withoutOurs({ contenders, settings }: PreparedBench): PreparedBench {
  return { contenders: contenders.filter(({ role }) => role !== 'ours'), goals: [], settings };
}

/** Words a kept record; of a bench that was run several times, the last. */
function printMarkdown(path: string): void {
  const latest = new Map<string, BenchRecord>();
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    if (line === '') continue;
    const record = parseRecord(line);
    if (record === undefined) {
      throw new DrError('E_USAGE', `${path} holds a line that is no bench record of version 1`);
    }
    latest.set(record.bench, record);
  }
  for (const { name } of ALL_BENCHES) {
    const record = latest.get(name);
    if (record !== undefined) print(markdownReport(record));
  }
}

async function main(words: readonly string[]): Promise<number> {
  const wanted = parseBenchArguments(
    words,
    ALL_BENCHES.map(({ name }) => name),
  );
  if (wanted.help) {
    print(BENCH_HELP.trimEnd());
  } else if (wanted.list) {
    for (const { name, question, spaceBytes } of ALL_BENCHES) {
      print(`${name} (${(spaceBytes / GIB).toFixed(1)} GiB): ${question}`);
    }
  } else if (wanted.markdown !== undefined) {
    printMarkdown(wanted.markdown);
  } else {
    return measureAll(wanted);
  }
  return 0;
}

async function measureAll(wanted: BenchArguments): Promise<number> {
  const chosen = ALL_BENCHES.filter(
    ({ name }) => wanted.names.length === 0 || wanted.names.includes(name),
  );
  const fixed = chosen.find((bench) => bench.sizeBytes === undefined);
  if (wanted.sizeBytes !== undefined && fixed !== undefined) {
    throw new DrError(
      'E_USAGE',
      `bench ${fixed.name} has a fixed size, --size does not go with it`,
    );
  }
  const entry = resolve(wanted.product ?? join(checkout, 'bin', 'hvdr'));
  if (!existsSync(entry)) throw new DrError('E_NOT_FOUND', `there is no ${entry}`);
  const product = new Product(entry, builtFolder);
  const workFolder = makeWorkFolder(resolve(wanted.folder ?? defaultParent(checkout)));
  const spaceBytes = Math.max(
    ...chosen.map((bench) => spaceFor(bench, wanted.sizeBytes ?? bench.sizeBytes ?? 0)),
  );
  note(
    `${chosen.length} benches in ${workFolder.path}, at most ${(spaceBytes / GIB).toFixed(1)} GiB at a time`,
  );
  if (!wanted.json) print(machineLine(describeMachine(workFolder.path)));
  let areMet = true;
  try {
    for (const bench of chosen) {
      const record = await runBench(bench, {
        workFolder: workFolder.path,
        product,
        rounds: wanted.rounds,
        sizeBytes: wanted.sizeBytes,
        isPeersOnly: wanted.isPeersOnly,
        isQuick: wanted.isQuick,
      });
      areMet &&= record.goals.every(({ isMet }) => isMet);
      print(wanted.json ? jsonLine(record) : `\n${textReport(record)}`);
      if (wanted.record !== undefined) appendFileSync(wanted.record, `${jsonLine(record)}\n`);
    }
  } finally {
    workFolder.remove();
  }
  return areMet ? 0 : EXIT_GOAL_MISSED;
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  // leaving through exit() removes the work folder
  process.once(signal, () => process.exit(signal === 'SIGINT' ? 130 : 143));
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof DrError)) throw error;
  note(error.line);
  process.exitCode = error.exitCode;
}
