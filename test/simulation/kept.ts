// Runs that broke a promise once, kept in seeds.json with their steps written out: each by its kind and
// the seed of its own random numbers. So they stay what they were, whatever kinds of steps are added.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkoutFolder } from '../support/checkout.js';
import type { PlannedStep } from './run.js';

export interface KeptRun {
  readonly seed: number;
  readonly steps: readonly PlannedStep[];
  readonly was: string;
}

/** As the file has them. */
export interface KeptEntry {
  readonly was: string;
  readonly seed: number;
  readonly steps: readonly (readonly [kind: string, seed: number])[];
}

export function asKept({ was, seed, steps }: KeptRun): KeptEntry {
  return { was, seed, steps: steps.map((step) => [step.kind, step.seed]) };
}

export function readKept(): KeptRun[] {
  const path = join(checkoutFolder, 'test', 'simulation', 'seeds.json');
  // our own checked-in file
  const entries = JSON.parse(readFileSync(path, 'utf8')) as readonly KeptEntry[];
  return entries.map(({ was, seed, steps }) => ({
    was,
    seed,
    steps: steps.map(([kind, own]) => ({ kind, seed: own })),
  }));
}
