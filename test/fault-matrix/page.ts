// docs/fault-matrix.md: for each durable step and each fault, what became of it and how often that was
// tried. Written by `npm run fault-matrix`; a test compares its steps with those of a run.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkoutFolder } from '../support/checkout.js';
import { FAULTS, type FaultKind, isPossible, type Step, stepName } from './scenario.js';

const PAGE = join(checkoutFolder, 'docs', 'fault-matrix.md');

/** By step and fault: each outcome with its count. */
export class Matrix {
  readonly #cells = new Map<string, Map<string, number>>();
  readonly #steps = new Map<string, Step>();

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
      'listed by hand. In the run one VM is seeded, changes, grows, forgets points, is reclaimed, verified and',
      'pinned. The fault comes at the first, a middle and the last call of each step. After each: everything',
      'acknowledged is there, every listed point reads back to the bytes of its moment or is refused, and no change',
      'is lost.',
      '',
      '| word | means |',
      '| --- | --- |',
      '| goes on | the work under way came to its end, over a restart of the other side if need be |',
      '| cut off, then … | the process died; the next one did it, a cycle as `delta`, `resync` (a compare) or `seed` |',
      '| refused with E_…, then … | the work failed with this error, and was done when the cause was gone |',
      '| stays … | it is refused until an operator acts |',
      '| detected: … | the files that rotted are refused when they are read; nothing wrong is given out |',
      '| HALTED | nothing of the VM is changed until an operator has looked |',
      '',
      `${this.injectionCount} injections at ${this.#steps.size} steps; the number before each outcome says how often it came.`,
    ];
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
