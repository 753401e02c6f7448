// The record of a run in the hands of its orchestrator: what it says of each task, and how a change of it
// is written down and told.

import type { Clock } from '../clock.js';
import type { Plan, RunRecord, TaskRecord } from './model.js';
import type { RunFile } from './run-file.js';
import { isDone, recordOf } from './schedule.js';
import { type Task, tasksOf } from './tasks.js';

export type RunChange =
  | { readonly kind: 'state' }
  | { readonly kind: 'task'; readonly task: Task; readonly record: TaskRecord };

export interface RunStateSeams {
  readonly clock: Clock;
  readonly file: Pick<RunFile, 'read' | 'begin' | 'write'>;
  /** Told after each change that was written. */
  readonly onChange?: (record: RunRecord, change: RunChange) => void;
}

export class RunState {
  readonly plan: Plan;
  readonly tasks: readonly Task[];
  #record: RunRecord;
  readonly #seams: RunStateSeams;

  constructor(plan: Plan, record: RunRecord, seams: RunStateSeams) {
    this.plan = plan;
    this.tasks = tasksOf(plan, record.kind);
    this.#record = record;
    this.#seams = seams;
  }

  get record(): RunRecord {
    return this.#record;
  }

  get isWhole(): boolean {
    return this.tasks.every((task) => isDone(this.of(task)));
  }

  tasksOf(step: string): readonly Task[] {
    return this.tasks.filter((task) => task.step.name === step);
  }

  vmOf(step: string): RunRecord['vms'][number] | undefined {
    return this.#record.vms.find((vm) => vm.step === step);
  }

  of(task: Task): TaskRecord {
    return recordOf(this.#record.tasks, task.key);
  }

  /** Of a step with two tasks, that of the later one which has begun. */
  lastRecordOf(step: string): TaskRecord {
    const records = this.tasksOf(step).map((task) => this.of(task));
    return records.findLast(({ status }) => status !== 'waiting') ?? { status: 'waiting' };
  }

  // Changes that stand in memory until the next write().

  put(task: Task, change: Partial<TaskRecord>): void {
    this.replace(task, { ...this.of(task), ...change });
  }

  replace(task: Task, record: TaskRecord): void {
    this.#record = { ...this.#record, tasks: { ...this.#record.tasks, [task.key]: record } };
  }

  set(change: Partial<RunRecord>): void {
    this.#record = { ...this.#record, ...change };
  }

  /** The first record of the run; durable on return. @throws DrError E_LOCKED */
  async begin(): Promise<void> {
    await this.#seams.file.begin(this.#record);
    this.#tell({ kind: 'state' });
  }

  /** Durable on return. */
  async change(change: Partial<RunRecord>): Promise<void> {
    this.set(change);
    await this.write();
    this.#tell({ kind: 'state' });
  }

  /** Durable on return. */
  async write(): Promise<void> {
    this.set({ changedAtMs: this.#seams.clock.now() });
    await this.#seams.file.write(this.#record);
  }

  tell(task: Task): void {
    this.#tell({ kind: 'task', task, record: this.of(task) });
  }

  #tell(change: RunChange): void {
    this.#seams.onChange?.(this.#record, change);
  }
}
