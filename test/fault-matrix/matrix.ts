// Tries every fault at every durable step of the scenario.

import { FAULTS, type Injection, isPossible, type Step, stepName } from './faults.js';
import type { Matrix } from './page.js';
import { runScenario } from './scenario.js';

/** A step with the calls at which it comes. */
export interface Place {
  readonly step: Step;
  readonly calls: readonly number[];
}

/** The steps of a run without a fault. */
export async function rehearse(): Promise<readonly Place[]> {
  const { calls } = await runScenario();
  const places = new Map<string, { step: Step; calls: number[] }>();
  for (const side of ['source', 'receiver'] as const) {
    for (const [index, step] of calls[side].entries()) {
      const name = stepName(step);
      const place = places.get(name) ?? { step, calls: [] };
      places.set(name, place);
      place.calls.push(index + 1);
    }
  }
  return [...places.values()];
}

/** Which call of a step: one in the middle, the first, the last. */
export const PASSES = ['middle', 'first', 'last'] as const;

function callOf(calls: readonly number[], pass: (typeof PASSES)[number]): number | undefined {
  const middle = Math.floor(calls.length / 2);
  switch (pass) {
    case 'middle':
      return calls[middle];
    case 'first':
      return calls.length > 1 ? calls[0] : undefined;
    case 'last':
      // of two calls the middle one is the last
      return calls.length > 2 ? calls.at(-1) : undefined;
  }
}

export function injectionsAt(
  { step, calls }: Place,
  pass: (typeof PASSES)[number],
): readonly Injection[] {
  const call = callOf(calls, pass);
  if (call === undefined) return [];
  return FAULTS.filter((fault) => isPossible(fault, step)).map((fault) => ({
    side: step.side,
    call,
    fault,
  }));
}

/** @throws Error that names the injection when a promise was not kept */
export async function tryInjection(injection: Injection): Promise<string> {
  const { side, call, fault } = injection;
  try {
    const { outcome } = await runScenario(injection);
    if (outcome === undefined) throw new Error('the call did not come');
    return outcome;
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw new Error(`${fault} at call ${call} of the ${side}: ${text}`, { cause: error });
  }
}

/** Adds one pass over all steps. */
export async function fillMatrix(
  matrix: Matrix,
  places: readonly Place[],
  pass: (typeof PASSES)[number],
  onStep: (step: Step, left: number) => void,
): Promise<void> {
  for (const [index, place] of places.entries()) {
    matrix.addStep(place.step);
    onStep(place.step, places.length - index);
    for (const injection of injectionsAt(place, pass)) {
      matrix.add(place.step, injection.fault, await tryInjection(injection));
    }
  }
}
