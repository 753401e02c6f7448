// docs/fault-matrix.md: for each durable step and each fault, what became of it and how often that was
// tried. Written by `npm run fault-matrix`; a test compares its steps with those of a run.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkoutFolder } from '../support/checkout.js';
import { FAULTS, type FaultKind, isPossible, type Step, stepName } from './faults.js';

const PAGE = join(checkoutFolder, 'docs', 'fault-matrix.md');

/** Kinds of ends, the first that is meant counts. */
const ENDS: readonly (readonly [string, (outcome: string) => boolean])[] = [
  [
    'an operator has to look',
    (outcome) => /HALTED|does not start/.test(outcome) || /^stays|, stays/.test(outcome),
  ],
  ['rot found, the rest goes on', (outcome) => outcome.includes('detected')],
  ['goes on', (outcome) => outcome.startsWith('goes on')],
  ['cut off, done by the next', (outcome) => outcome.startsWith('cut off')],
  ['refused, then done', () => true],
];

/** By step and fault: each outcome with its count. */
export class Matrix {
  readonly #cells = new Map<string, Map<string, number>>();
  readonly #steps = new Map<string, Step>();

  /** At which calls the faults came. */
  readonly passes: string[] = [];

  addStep(step: Step): void {
    this.#steps.set(stepName(step), step);
  }

  add(step: Step, fault: FaultKind, outcome: string): void {
    const key = `${stepName(step)}\n${fault}`;
    const cell = this.#cells.get(key) ?? new Map<string, number>();
    this.#cells.set(key, cell);
    cell.set(outcome, (cell.get(outcome) ?? 0) + 1);
  }

  get injectionCount(): number {
    let sum = 0;
    for (const cell of this.#cells.values()) for (const count of cell.values()) sum += count;
    return sum;
  }

  text(): string {
    const lines = [
      '# Fault matrix',
      '',
      'What becomes of a fault at each durable step, as it was tried: `npm run fault-matrix` writes this page. A',
      'step is a call that changes files, told by what the file is for; the steps are recorded from a run, not',
      'listed by hand. In the run one VM is seeded from files at the DR site, changes, grows, forgets points, is',
      'pinned until its journal is written anew, given to another owner and back, paused, reclaimed (compact, fold,',
      'drop), scrubbed, loses a cell to rot and gets it back from the source, verified and tidied up. A delta that is',
      'imported takes the same steps as a cycle. The fault comes at one call of each step:',
      `${this.passes.join(', ')}. After each: everything acknowledged is there, every listed point reads back to the`,
      'bytes of its moment or is refused, and no change is lost. What was not seen in any of them: an acknowledged',
      'point that was gone, a byte of another moment, a change that would never be sent.',
      '',
      '| word | means |',
      '| --- | --- |',
      '| goes on | the work under way came to its end, over a restart of the other side if need be |',
      '| cut off, then … | the process died; the next one did it, a cycle as `delta`, `resync` (a compare) or `seed` |',
      '| refused with E_…, then … | the work failed with this error, and was done when the cause was gone |',
      '| … after a restart of the receiver | a flush of the journal failed: nobody knows what of it is on the device, so the VM is halted until the receiver has read it anew |',
      '| stays … | it is refused until an operator acts |',
      '| detected: … | the files that rotted are refused when they are read; nothing wrong is given out |',
      '| HALTED | nothing of the VM is changed until an operator has looked |',
      '',
      `${this.injectionCount} injections at ${this.#steps.size} steps; the number before each outcome says how often it came.`,
    ];
    lines.push('', ...this.#summary());
    for (const side of ['source', 'receiver'] as const) {
      lines.push('', `## Steps of the ${side}`, '');
      lines.push(`| step | ${FAULTS.join(' | ')} |`, `| --- |${' --- |'.repeat(FAULTS.length)}`);
      for (const step of this.#steps.values()) {
        if (step.side !== side) continue;
        const cells = FAULTS.map((fault) => this.#cell(step, fault));
        lines.push(`| ${step.kind} of ${step.role} | ${cells.join(' | ')} |`);
      }
    }
    return `${lines.join('\n')}\n`;
  }

  /** How often which kind of end came, over all steps. */
  #summary(): string[] {
    const lines = [
      `| fault | ${ENDS.map(([name]) => name).join(' | ')} |`,
      `| --- |${' ---: |'.repeat(ENDS.length)}`,
    ];
    for (const fault of FAULTS) {
      const counts = ENDS.map(() => 0);
      for (const [key, cell] of this.#cells) {
        if (!key.endsWith(`\n${fault}`)) continue;
        for (const [outcome, count] of cell) {
          const place = ENDS.findIndex(([, isMeant]) => isMeant(outcome));
          counts[place] = (counts[place] ?? 0) + count;
        }
      }
      lines.push(`| ${fault} | ${counts.join(' | ')} |`);
    }
    return lines;
  }

  #cell(step: Step, fault: FaultKind): string {
    if (!isPossible(fault, step)) return '–';
    const outcomes = this.#cells.get(`${stepName(step)}\n${fault}`) ?? new Map<string, number>();
    return [...outcomes]
      .sort(([, one], [, other]) => other - one)
      .map(([outcome, count]) => `${count}× ${outcome}`)
      .join('; ');
  }
}

export function writePage(matrix: Matrix): void {
  writeFileSync(PAGE, matrix.text());
}

/** The steps that the page has, by name. */
export function stepsOfPage(): string[] {
  let side = '';
  const steps: string[] = [];
  for (const line of readFileSync(PAGE, 'utf8').split('\n')) {
    side = /^## Steps of the (\w+)$/.exec(line)?.[1] ?? side;
    const step = /^\| (\w+ of [^|]+) \|/.exec(line)?.[1];
    if (side !== '' && step !== undefined) steps.push(`${side}: ${step}`);
  }
  return steps.sort();
}

/** The outcomes that the page tells of a step and a fault. */
export function outcomesOfPage(step: Step, fault: FaultKind): string {
  let side = '';
  for (const line of readFileSync(PAGE, 'utf8').split('\n')) {
    side = /^## Steps of the (\w+)$/.exec(line)?.[1] ?? side;
    if (side !== step.side || !line.startsWith(`| ${step.kind} of ${step.role} |`)) continue;
    return line.split(' | ')[1 + FAULTS.indexOf(fault)] ?? '';
  }
  return '';
}
