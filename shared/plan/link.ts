// Makes of the tree of steps and groups what a run needs: steps that know for which others they wait.
// A group stands for all of its steps, wherever it is named.

import type { Action, OnError, Order, PlanStep } from './model.js';
import type { YamlValue } from './yaml-text.js';

export interface StepReference {
  readonly name: string;
  readonly where: YamlValue;
}

interface TreeBase {
  readonly name: string;
  readonly where: YamlValue;
  readonly needs: readonly StepReference[];
  readonly after: readonly StepReference[];
}

export type StepTree =
  | (TreeBase & { readonly action: Action; readonly onError: OnError })
  | (TreeBase & { readonly order: Order; readonly children: readonly StepTree[] });

/** A step while its edges are found. */
interface OpenStep {
  readonly name: string;
  readonly where: YamlValue;
  readonly action: Action;
  readonly onError: OnError;
  readonly groups: readonly string[];
  readonly after: Set<string>;
  readonly needs: Set<string>;
}

/**
 * The steps in an order in which each comes after those that it waits for.
 * @throws DrError E_PARAMETER: a name that no step has, a circle, a reference of the wrong kind
 */
export function linkSteps(trees: readonly StepTree[], order: Order): readonly PlanStep[] {
  const linker = new Linker();
  linker.collect(trees, []);
  linker.inOrder(trees, order);
  linker.refer(trees);
  linker.checkReferencesToVms();
  return linker.sorted();
}

class Linker {
  readonly #steps = new Map<string, OpenStep>();
  /** Steps below each name, of steps and groups; names in lower case. */
  readonly #below = new Map<string, readonly OpenStep[]>();

  collect(trees: readonly StepTree[], groups: readonly string[]): readonly OpenStep[] {
    return trees.flatMap((tree) => {
      const below = 'action' in tree ? [this.#open(tree, groups)] : this.#group(tree, groups);
      this.#below.set(tree.name.toLowerCase(), below);
      return below;
    });
  }

  #group(
    tree: Extract<StepTree, { children: unknown }>,
    groups: readonly string[],
  ): readonly OpenStep[] {
    return this.collect(tree.children, [...groups, tree.name]);
  }

  #open(tree: Extract<StepTree, { action: unknown }>, groups: readonly string[]): OpenStep {
    const { name, where, action, onError } = tree;
    const step = { name, where, action, onError, groups, after: new Set<string>() };
    const open: OpenStep = { ...step, needs: new Set() };
    this.#steps.set(name, open);
    return open;
  }

  inOrder(trees: readonly StepTree[], order: Order): void {
    trees.forEach((tree, index) => {
      const before = trees[index - 1];
      if (order === 'sequence' && before !== undefined) {
        for (const step of this.#belowOf(tree)) {
          for (const { name } of this.#belowOf(before)) step.after.add(name);
        }
      }
      if ('children' in tree) this.inOrder(tree.children, tree.order);
    });
  }

  refer(trees: readonly StepTree[]): void {
    for (const tree of trees) {
      for (const kind of ['needs', 'after'] as const) {
        for (const reference of tree[kind]) {
          const named = this.#named(reference);
          for (const step of this.#belowOf(tree)) {
            if (named.includes(step))
              throw reference.where.error(`makes ${step.name} wait for itself`);
            for (const { name } of named) step[kind].add(name);
          }
        }
      }
      if ('children' in tree) this.refer(tree.children);
    }
  }

  #belowOf({ name }: StepTree): readonly OpenStep[] {
    return this.#below.get(name.toLowerCase()) ?? [];
  }

  #named({ name, where }: StepReference): readonly OpenStep[] {
    const named = this.#below.get(name.toLowerCase());
    if (named === undefined) throw where.error(`names ${name}, and no step or group has that name`);
    return named;
  }

  /** What a script is about, and whose heartbeat is waited for, is one VM of the plan. */
  checkReferencesToVms(): void {
    for (const { action, where } of this.#steps.values()) {
      const reference = vmReferenceOf(action);
      if (reference === undefined) continue;
      if (this.#steps.get(reference)?.action.kind === 'vm') continue;
      throw where.error(`names ${reference}, which is no step of a VM`);
    }
  }

  sorted(): readonly PlanStep[] {
    const sorted: PlanStep[] = [];
    const done = new Set<string>();
    let left = [...this.#steps.values()];
    while (left.length > 0) {
      const isReady = ({ after, needs }: OpenStep): boolean =>
        [...after, ...needs].every((name) => done.has(name));
      const ready = left.filter(isReady);
      if (ready.length === 0) throw this.#circle(left);
      for (const step of ready) {
        const { name, action, after, needs, onError, groups } = step;
        sorted.push({ name, action, after, needs, onError, groups });
        done.add(name);
      }
      left = left.filter((step) => !done.has(step.name));
    }
    return sorted;
  }

  /** Among steps that all wait for another of them, going from one to the next meets one twice. */
  #circle(left: readonly OpenStep[]): Error {
    const names = new Set(left.map(({ name }) => name));
    const path: string[] = [];
    let step = left[0];
    while (step !== undefined && !path.includes(step.name)) {
      path.push(step.name);
      const next = [...step.needs, ...step.after].find((name) => names.has(name));
      step = next === undefined ? undefined : this.#steps.get(next);
    }
    const circle = path.slice(step === undefined ? 0 : path.indexOf(step.name));
    const words = [...circle, circle[0]].join(' waits for ');
    return (step ?? left[0])?.where.error(`waits for itself: ${words}`) ?? new Error(words);
  }
}

/** The step of a VM that an action refers to. */
export function vmReferenceOf(action: Action): string | undefined {
  if (action.kind === 'script') return action.script.about;
  if (action.kind !== 'wait-for') return undefined;
  const { condition } = action;
  if (condition.kind === 'heartbeat') return condition.step;
  return condition.kind === 'script' ? condition.script.about : undefined;
}
