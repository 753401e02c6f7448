// What a run does next: a pure function of the plan's tasks and of what the record says about them.

import { assert, defined } from '../assert.js';
import type { Plan, RunRecord, TaskRecord } from './model.js';
import type { Task } from './tasks.js';

type Records = RunRecord['tasks'];

/** Tasks to begin now, and tasks that will never be done, with the reason. */
export interface NextTasks {
  readonly begin: readonly Task[];
  readonly skip: readonly { readonly task: Task; readonly words: string }[];
}

const WAITING: TaskRecord = { status: 'waiting' };

export function recordOf(records: Records, key: string): TaskRecord {
  return records[key] ?? WAITING;
}

/** Ended, one way or the other. */
export function hasEnded({ status }: TaskRecord): boolean {
  return status !== 'waiting' && status !== 'running';
}

export function isDone({ status }: TaskRecord): boolean {
  return status === 'done' || status === 'already';
}

/** Work at a receiver, which concurrency is about. */
export function takesSlot({ step }: Task): boolean {
  return step.action.kind === 'vm';
}

/**
 * What follows from the records. Tasks begin in the order of `tasks`, as long as there is room among
 * the VMs of the plan and of each group around them.
 */
export function nextTasks(
  plan: Pick<Plan, 'concurrency' | 'groupConcurrency'>,
  tasks: readonly Task[],
  records: Records,
): NextTasks {
  const skip = skipped(tasks, records);
  if (skip.length > 0) return { begin: [], skip };
  const slots = new Slots(plan);
  for (const task of tasks) {
    if (takesSlot(task) && recordOf(records, task.key).status === 'running') slots.take(task);
  }
  const begin: Task[] = [];
  for (const task of tasks) {
    if (recordOf(records, task.key).status !== 'waiting' || !isReady(task, records)) continue;
    if (takesSlot(task)) {
      if (!slots.hasRoom(task)) continue;
      slots.take(task);
    }
    begin.push(task);
  }
  return { begin, skip };
}

function isReady({ after, needs, whenOff }: Task, records: Records): boolean {
  return (
    after.every((key) => hasEnded(recordOf(records, key))) &&
    needs.every((key) => isDone(recordOf(records, key))) &&
    whenOff.every((key) => {
      const record = recordOf(records, key);
      return record.isOff === true || hasEnded(record);
    })
  );
}

/** A VM that is leaving is waited for, because it is started again when it will not come. */
export function mayBeLeftOut({ key, part, step }: Task, records: Records): boolean {
  if (recordOf(records, key).status !== 'waiting') return false;
  return part !== 'come' || recordOf(records, `leave ${step.name}`).status !== 'running';
}

/** Waiting tasks of which something that they need will not be done. */
function skipped(tasks: readonly Task[], records: Records): NextTasks['skip'] {
  const names = new Map(tasks.map(({ key, step }) => [key, step.name]));
  return tasks.flatMap((task) => {
    if (!mayBeLeftOut(task, records)) return [];
    const missing = task.needs.find((key) =>
      ['failed', 'skipped'].includes(recordOf(records, key).status),
    );
    if (missing === undefined) return [];
    const name = defined(names.get(missing), 'a task needs tasks of its run');
    const how = recordOf(records, missing).status === 'failed' ? 'failed' : 'was left out';
    const words =
      name === task.step.name ? `it ${how} before` : `it depends on ${name}, which ${how}`;
    return [{ task, words }];
  });
}

class Slots {
  readonly #plan: Pick<Plan, 'concurrency' | 'groupConcurrency'>;
  #used = 0;
  readonly #usedByGroup = new Map<string, number>();

  constructor(plan: Pick<Plan, 'concurrency' | 'groupConcurrency'>) {
    this.#plan = plan;
  }

  hasRoom({ step }: Task): boolean {
    return (
      this.#used < this.#plan.concurrency &&
      step.groups.every((group) => {
        const limit = this.#plan.groupConcurrency.get(group);
        return limit === undefined || (this.#usedByGroup.get(group) ?? 0) < limit;
      })
    );
  }

  take({ step }: Task): void {
    this.#used++;
    assert(step.groups.length <= 32, 'groups are nested as deep as the text of a plan may be');
    for (const group of step.groups) {
      this.#usedByGroup.set(group, (this.#usedByGroup.get(group) ?? 0) + 1);
    }
  }
}
