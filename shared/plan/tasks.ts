// What a run of a plan has to do, as tasks with edges. Each kind of run has a form of its own:
//
//   unplanned, test      a task for each step, in the order of the plan
//   planned              for each VM first `leave`, in reverse order (it is shut down, and its last delta
//                        sent), then `come`, in the order of the plan with all other steps
//   undo                 the VMs alone, in reverse order
//   permanent, failback  the VMs alone, in the order of the plan
//
// Of VMs alone, the steps between them count as if they were not there.

import { defined } from '../assert.js';
import type { Plan, PlanKind, PlanStep } from './model.js';

export interface Task {
  /** `run SQL01`, `leave SQL01`, `come SQL01`; names the task in the record of a run. */
  readonly key: string;
  readonly part: 'run' | 'leave' | 'come';
  readonly step: PlanStep;
  /** Tasks that must have ended, however. */
  readonly after: readonly string[];
  /** Tasks that must be done. */
  readonly needs: readonly string[];
  /** Tasks of which the VM at the primary site must be off, or that have ended. */
  readonly whenOff: readonly string[];
}

/** The tasks of a run, each behind those that it waits for. */
export function tasksOf(plan: Plan, kind: PlanKind): readonly Task[] {
  switch (kind) {
    case 'unplanned':
    case 'test':
      return plan.steps.map((step) => runTask(step, step));
    case 'planned':
      return plannedTasks(plan);
    case 'permanent':
    case 'failback':
      return vmStepsAlone(plan.steps).map((edges) => runTask(edges.step, edges));
    case 'undo':
      return reversed(vmStepsAlone(plan.steps)).map((edges) => runTask(edges.step, edges));
  }
}

interface Edges {
  readonly after: Iterable<string>;
  readonly needs: Iterable<string>;
}

interface StepEdges {
  readonly step: PlanStep;
  readonly after: ReadonlySet<string>;
  readonly needs: ReadonlySet<string>;
}

const keys = (part: Task['part'], names: Iterable<string>): readonly string[] =>
  [...names].map((name) => `${part} ${name}`);

function runTask(step: PlanStep, { after, needs }: Edges): Task {
  return {
    ...{ key: `run ${step.name}`, part: 'run', step, whenOff: [] },
    ...{ after: keys('run', after), needs: keys('run', needs) },
  };
}

function plannedTasks({ steps }: Plan): readonly Task[] {
  const leaving = reversed(vmStepsAlone(steps)).map(({ step, after, needs }): Task => {
    const whenOff = keys('leave', [...after, ...needs]);
    return { key: `leave ${step.name}`, part: 'leave', step, after: [], needs: [], whenOff };
  });
  const coming = steps.map((step): Task => {
    const own = step.action.kind === 'vm' ? [`leave ${step.name}`] : [];
    return {
      ...{ key: `come ${step.name}`, part: 'come', step, whenOff: [] },
      ...{ after: keys('come', step.after), needs: [...own, ...keys('come', step.needs)] },
    };
  });
  return [...leaving, ...coming];
}

/** The steps of VMs; what waited for another step waits for the VMs for which that one waited. */
function vmStepsAlone(steps: readonly PlanStep[]): readonly StepEdges[] {
  const byName = new Map<string, StepEdges & { readonly isVm: boolean }>();
  for (const step of steps) {
    const after = new Set<string>();
    const needs = new Set<string>();
    const take = (from: ReadonlySet<string>, isNeed: boolean): void => {
      for (const name of from) {
        const before = defined(byName.get(name), 'steps stand behind those that they wait for');
        if (before.isVm) (isNeed ? needs : after).add(name);
        else {
          for (const inner of before.needs) (isNeed ? needs : after).add(inner);
          for (const inner of before.after) after.add(inner);
        }
      }
    };
    take(step.needs, true);
    take(step.after, false);
    byName.set(step.name, { step, after, needs, isVm: step.action.kind === 'vm' });
  }
  return [...byName.values()].filter(({ isVm }) => isVm);
}

function reversed(steps: readonly StepEdges[]): readonly StepEdges[] {
  const turned = new Map(
    steps.map(({ step }) => [
      step.name,
      { step, after: new Set<string>(), needs: new Set<string>() },
    ]),
  );
  for (const { step, after, needs } of steps) {
    for (const name of after) turned.get(name)?.after.add(step.name);
    for (const name of needs) turned.get(name)?.needs.add(step.name);
  }
  return [...turned.values()].reverse();
}
