// Makes a copy of the compiled code with one mutant in it, and runs the simulation of the copy.

import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { builtFolder, checkoutFolder } from '../support/checkout.js';
import { type Mutant, MUTANTS } from './mutants.js';

const FOLDERS = ['shared', 'source-agent', 'dr-receiver', 'test/simulation', 'test/support'];
const NOTICED = join(checkoutFolder, 'test', 'simulation', 'noticed.json');
const PAGE = join(checkoutFolder, 'docs', 'testing.md');
const TABLE_BEGIN = '<!-- mutants: written by `npm run simulate -- --mutants` -->';
const TABLE_END = '<!-- end of mutants -->';
const HOW_CHARACTERS = 90;

/** The first failure of a run of seeds. */
export interface Noticed {
  readonly seed: number;
  readonly step: number;
  readonly message: string;
}

/** Breaks the compiled code in `folder`. @throws Error when a patch does not apply */
export function applyMutant(folder: string, { name, patches }: Mutant): void {
  for (const { file, find, replace } of patches) {
    const path = join(folder, file);
    const text = readFileSync(path, 'utf8');
    const count = text.split(find).length - 1;
    if (count !== 1) {
      throw new Error(
        `mutant ${name}: its text stands ${count} times in ${file}; the code has changed, adapt the patch`,
      );
    }
    writeFileSync(
      path,
      text.replace(find, () => replace),
    );
  }
}

/** Copies the compiled code that the simulation runs. */
export function copyBuilt(target: string): void {
  for (const folder of FOLDERS) {
    cpSync(join(builtFolder, folder), join(target, folder), { recursive: true });
  }
}

/** Runs seeds `from` on, at most `seedCount`; undefined: none of them noticed it. */
export function runMutant(mutant: Mutant, from: number, seedCount: number): Noticed | undefined {
  const copy = join(checkoutFolder, '.cache', 'mutants', mutant.name);
  rmSync(copy, { recursive: true, force: true });
  mkdirSync(copy, { recursive: true });
  try {
    copyBuilt(copy);
    applyMutant(copy, mutant);
    const script = join(copy, 'test', 'simulation', 'main.js');
    const args = [script, '--first', '--from', String(from), '--seeds', String(seedCount)];
    const run = spawnSync(process.execPath, args, { encoding: 'utf8', maxBuffer: 2 ** 28 });
    if (run.status === 0) return undefined;
    const line = run.stdout.split('\n').find((each) => each.startsWith('{"seed"'));
    if (run.status !== 1 || line === undefined) {
      throw new Error(`mutant ${mutant.name} does not run: ${run.stderr.slice(-2000)}`);
    }
    return JSON.parse(line) as Noticed;
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

export function mutantNamed(name: string): Mutant {
  const found = MUTANTS.find((mutant) => mutant.name === name);
  if (found !== undefined) return found;
  throw new Error(`no mutant ${name}; there are ${MUTANTS.map((each) => each.name).join(', ')}`);
}

/** What was written down, by mutant. */
export function readNoticed(): Readonly<Record<string, Noticed>> {
  return JSON.parse(readFileSync(NOTICED, 'utf8')) as Readonly<Record<string, Noticed>>;
}

/** The table of docs/testing.md. */
export function mutantTable(noticed: Readonly<Record<string, Noticed>>): string {
  const rows = MUTANTS.map(({ name, what }) => {
    const found = noticed[name];
    if (found === undefined) return `| \`${name}\` | ${what} | not noticed | |`;
    const how = found.message
      .replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, '…')
      .replace(/\/\S+/g, '…')
      .replaceAll('|', '/');
    const short = how.length > HOW_CHARACTERS ? `${how.slice(0, HOW_CHARACTERS)} …` : how;
    return `| \`${name}\` | ${what} | seed ${found.seed}, step ${found.step} | ${short} |`;
  });
  return [
    '| mutant | what is broken | noticed by | as |',
    '| --- | --- | --- | --- |',
    ...rows,
  ].join('\n');
}

/** The table as it stands in the page. */
export function tableInPage(): string {
  const text = readFileSync(PAGE, 'utf8');
  const [, rest = ''] = text.split(TABLE_BEGIN);
  return (rest.split(TABLE_END)[0] ?? '').trim();
}

export function writeNoticed(noticed: Readonly<Record<string, Noticed>>): void {
  writeFileSync(NOTICED, `${JSON.stringify(noticed, undefined, 2)}\n`);
  const text = readFileSync(PAGE, 'utf8');
  const begin = text.indexOf(TABLE_BEGIN) + TABLE_BEGIN.length;
  const end = text.indexOf(TABLE_END);
  if (end < begin) throw new Error(`${PAGE} has no place for the table of mutants`);
  writeFileSync(PAGE, `${text.slice(0, begin)}\n\n${mutantTable(noticed)}\n\n${text.slice(end)}`);
}
