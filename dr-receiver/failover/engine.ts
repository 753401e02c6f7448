// Works through the steps of an operation. An operation is a list of steps as data; what is decided is
// durable before its effect begins, what an effect found out is durable before the next one begins:
//
//   enter(step 1) ─▶ effect 1 ─▶ enter(step 2, found 1) ─▶ effect 2 ─▶ … ─▶ end(found n)
//
// Each effect can be repeated without harm, so after a crash the step in the journal is done again. What
// the journal is and how a patch changes it is the book's business (failover-book.ts, test-book.ts).

import { assert, defined } from '../../shared/assert.js';
import type { Run } from './run.js';
import { type StepRule, STEPS, type SteppedKind } from './steps.js';

/** What becomes of an operation whose step failed. */
export type AfterFailure =
  /** As if it had not begun. */
  | 'back'
  /** It stands at this step until somebody goes on or back. */
  | 'stay'
  /** Neither is safe alone: people decide. */
  | 'halt';

/** What a step does; its name, its words and what a crash means stand in steps.ts. */
export interface StepEffect<C, P> {
  /** Default: back where the step's rule says so, otherwise it stays. */
  readonly afterFailure?: AfterFailure | ((error: unknown) => AfterFailure);
  /** What is decided by entering the step: durable before run(). */
  readonly intent?: (context: C) => P;
  /** The effect; does no harm when it is repeated. Returns what it found out. */
  readonly run?: (context: C) => Promise<P | undefined>;
}

export interface Step<C, P> extends StepRule, StepEffect<C, P> {}

/** An operation: its steps, and what is so when the last one is entered. */
export interface OperationTable<C, P> {
  readonly kind: SteppedKind;
  readonly steps: readonly Step<C, P>[];
  readonly end: StepRule;
  readonly endPatch: (context: C) => P;
  /** It does not end with its last step, but stands there until somebody goes on or back. */
  readonly isStanding?: true;
}

/** The table of an operation with the effects of its steps; those without one are entered only. */
export function operationTable<C, P>(
  kind: SteppedKind,
  effects: Readonly<Record<string, StepEffect<C, P>>>,
  endPatch: (context: C) => P,
): OperationTable<C, P> {
  const rules = STEPS[kind];
  const end = defined(rules.at(-1), 'an operation has steps');
  const names = new Set(rules.slice(0, -1).map(({ name }) => name));
  assert(
    Object.keys(effects).every((name) => names.has(name)),
    `${kind} has these steps`,
  );
  const steps = rules.slice(0, -1).map((rule) => ({ ...rule, ...effects[rule.name] }));
  return { kind, steps, end, endPatch };
}

/** Where an operation stands written. Each call is durable on return, and refused once it is another's. */
export interface Book<P> {
  /** `found`: of the step before; `intent` is asked when nothing else changes the VM. */
  enter(step: string, found: readonly P[], intent?: () => P): Promise<void>;
}

/** A step did not succeed. */
export class StepFailure<C, P> extends Error {
  override readonly name = 'StepFailure';
  readonly step: Step<C, P>;

  constructor(step: Step<C, P>, cause: unknown) {
    super(`step ${step.name} failed`, { cause });
    this.step = step;
  }
}

/**
 * Runs the steps from `entered` on, whose intent is in the journal already, or all of them, and returns
 * what the last one found out.
 * @throws StepFailure; what the book throws, when the operation is another's or the journal fails; the
 *   reason of the run's signal between two steps
 */
export async function runSteps<C, P>(
  steps: readonly Step<C, P>[],
  context: C,
  book: Book<P>,
  run: Pick<Run, 'signal' | 'tell'>,
  entered?: string,
): Promise<readonly P[]> {
  const start = entered === undefined ? 0 : steps.findIndex(({ name }) => name === entered);
  if (start < 0) throw new Error(`there is no step ${String(entered)}`);
  let found: readonly P[] = [];
  for (const step of steps.slice(start)) {
    run.signal.throwIfAborted();
    const { intent } = step;
    if (step.name !== entered) {
      await book.enter(step.name, found, intent && (() => intent(context)));
    }
    run.tell(step.name, step.what);
    found = [];
    if (step.run === undefined) continue;
    try {
      const outcome = await step.run(context);
      if (outcome !== undefined) found = [outcome];
    } catch (error) {
      throw new StepFailure(step, error);
    }
  }
  return found;
}

export function afterFailure<C, P>({ step, cause }: StepFailure<C, P>): AfterFailure {
  const { afterFailure: own = step.recovery === 'back' ? 'back' : 'stay' } = step;
  return typeof own === 'function' ? own(cause) : own;
}
