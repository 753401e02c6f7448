// What can happen in a simulated world, by whose acts it is. Each step has its own random numbers, so
// that others can be left out, and kinds of steps added, without changing it.

import type { SeededRandom } from '../../support/seeded-random.js';
import { AGENT_STEPS } from './agents.js';
import { GUEST_STEPS } from './guest.js';
import { IMPORT_STEPS } from './imports.js';
import { MACHINE_STEPS } from './machines.js';
import { OPERATOR_STEPS } from './operators.js';
import { RECEIVER_STEPS } from './receiver.js';
import { REPAIR_STEPS } from './repair.js';
import { SEED_STEPS } from './seeds.js';
import type { StepKind } from './step.js';

export type { StepContext, StepKind } from './step.js';

export const STEPS: readonly StepKind[] = [
  ...GUEST_STEPS,
  ...AGENT_STEPS,
  ...RECEIVER_STEPS,
  ...MACHINE_STEPS,
  ...OPERATOR_STEPS,
  ...REPAIR_STEPS,
  ...SEED_STEPS,
  ...IMPORT_STEPS,
];

/** @throws Error for a name that no kind has */
export function kindNamed(name: string): StepKind {
  const found = STEPS.find((kind) => kind.name === name);
  if (found === undefined) throw new Error(`no step is named "${name}"`);
  return found;
}

/** What can happen in one seed. */
export function kindsOf(random: SeededRandom): readonly StepKind[] {
  return STEPS.filter(({ isOptional }) => isOptional !== true || random.chance(0.5));
}

export function chooseKind(kinds: readonly StepKind[], random: SeededRandom): StepKind {
  let at = random.int(kinds.reduce((sum, { weight }) => sum + weight, 0));
  for (const kind of kinds) {
    at -= kind.weight;
    if (at < 0) return kind;
  }
  throw new Error('the weights make up their sum');
}
