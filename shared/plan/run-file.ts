// Runs on disk, one file for each plan: `PLAN.json` holds its last run, whole after a power cut at any
// moment; `PLAN.lock` is locked by the process that drives it. `lock` is held for the moment in which a
// run is begun, so that no VM comes into two of them.
//
// A run whose file says that it is under way and whose lock nobody holds was interrupted.

import { createHash } from 'node:crypto';
import path from 'node:path';
import { parseGuid } from '../bytes/index.js';
import type { Random } from '../clock.js';
import { DrError, isErrorCode } from '../errors.js';
import {
  type BlockFile,
  type FileSystem,
  readJson,
  removeLeftovers,
  writeJsonDurably,
  type JsonFormat,
} from '../files/index.js';
import {
  isFinished,
  PLAN_KINDS,
  type Pause,
  type RunRecord,
  type RunState,
  type RunVm,
  type TaskRecord,
  type TaskStatus,
} from './model.js';

const FORMAT: JsonFormat = { name: 'run of a plan', version: 1, limitBytes: 16 << 20 };
const STATES: readonly RunState[] = [
  ...(['READY', 'CHECKING', 'RUNNING', 'PAUSED', 'INTERRUPTED', 'TEST_DONE', 'CLEANUP'] as const),
  ...(['CLEANUP_INCOMPLETE', 'DONE', 'DONE_WITH_ERRORS', 'CANCELLED'] as const),
];
const STATUSES: readonly TaskStatus[] = [
  ...(['waiting', 'running', 'done', 'already', 'failed', 'skipped'] as const),
];

export interface RunSeams {
  readonly fs: FileSystem;
  readonly random: Random;
  /** Folder of the runs of this side. */
  readonly folder: string;
}

/** Letters of the plan's name for people, and a hash for what they leave out. */
function fileStem(planName: string): string {
  const readable = planName
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, 40);
  const hash = createHash('sha256').update(planName).digest('hex').slice(0, 12);
  return `${readable}.${hash}`;
}

/** The run of a plan, driven by this process until close(). */
export class RunFile {
  readonly #seams: RunSeams;
  readonly #path: string;
  readonly #lock: BlockFile;

  private constructor(seams: RunSeams, file: string, lock: BlockFile) {
    this.#seams = seams;
    this.#path = file;
    this.#lock = lock;
  }

  /**
   * Takes the run of a plan for this process.
   * @throws DrError E_LOCKED when another process drives it
   */
  static async open(planName: string, seams: RunSeams): Promise<RunFile> {
    const { fs, folder } = seams;
    await fs.makeFolder(folder);
    const stem = path.join(folder, fileStem(planName));
    const lock = await lockFile(fs, `${stem}.lock`).catch((error: unknown) => {
      if (!(error instanceof DrError) || error.code !== 'E_LOCKED') throw error;
      throw new DrError('E_LOCKED', `the plan ${planName} is being run by another process`, {
        context: { path: `${stem}.json` },
        cause: error,
      });
    });
    const file = `${stem}.json`;
    try {
      await removeLeftovers(fs, file);
      return new RunFile(seams, file, lock);
    } catch (error) {
      await lock.close();
      throw error;
    }
  }

  /** @throws DrError E_FILE_DAMAGED, E_FILE_VERSION */
  read(): Promise<RunRecord | undefined> {
    return readRun(this.#seams.fs, this.#path);
  }

  /** Replaces what was known of the run. Durable on return. */
  async write(record: RunRecord): Promise<void> {
    const { fs, random } = this.#seams;
    await writeJsonDurably(fs, this.#path, FORMAT, { ...record }, random);
  }

  /**
   * Writes the first record of a run whose VMs are in no other run that is not finished.
   * @throws DrError E_LOCKED, naming VM and plan
   */
  async begin(record: RunRecord): Promise<void> {
    const { fs, folder } = this.#seams;
    const guard = await lockFile(fs, path.join(folder, 'lock'));
    try {
      for (const other of await listRuns(this.#seams)) {
        if (isFinished(other) || other.planName === record.planName) continue;
        const taken = record.vms.find(({ vmId }) => other.vms.some((vm) => vm.vmId === vmId));
        if (taken === undefined) continue;
        throw new DrError(
          'E_LOCKED',
          `${taken.vmName} belongs to the run of the plan ${other.planName} that began at ` +
            `${new Date(other.startedAtMs).toISOString()} and is ${other.state}`,
          {
            context: { vm: taken.vmName, plan: other.planName, runId: other.runId },
            hint: 'Bring that run to its end with `hvdr plan resume FILE`, or give it up with `hvdr plan resume FILE --cancel`.',
          },
        );
      }
      await this.write(record);
    } finally {
      await guard.close();
    }
  }

  close(): Promise<void> {
    return this.#lock.close();
  }
}

async function lockFile(fs: FileSystem, file: string): Promise<BlockFile> {
  if ((await fs.status(file)) === undefined) {
    try {
      const made = await fs.open(file, { mode: 'create' });
      await made.close();
    } catch (error) {
      if (!(error instanceof DrError) || error.code !== 'E_EXISTS') throw error;
    }
  }
  return fs.open(file, { mode: 'write' });
}

/** The last run of every plan of this side. @throws DrError E_FILE_DAMAGED, E_FILE_VERSION */
export async function listRuns({ fs, folder }: Omit<RunSeams, 'random'>): Promise<RunRecord[]> {
  const names = (await fs.list(folder)).filter((name) => /^[a-z0-9].*\.json$/.test(name));
  const runs: RunRecord[] = [];
  for (const name of names) {
    const run = await readRun(fs, path.join(folder, name));
    if (run !== undefined) runs.push(run);
  }
  return runs;
}

async function readRun(fs: FileSystem, file: string): Promise<RunRecord | undefined> {
  const fields = await readJson(fs, file, FORMAT);
  return fields === undefined ? undefined : new Reader(file).run(fields);
}

type Fields = Readonly<Record<string, unknown>>;

/** Checks what the file says, field by field. */
class Reader {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  run(fields: Fields): RunRecord {
    const { outcome, pause, vms, tasks } = fields;
    return {
      runId: this.#guid(fields, 'runId'),
      planName: this.#text(fields, 'planName'),
      planHash: this.#text(fields, 'planHash'),
      kind: this.#oneOf(fields, 'kind', PLAN_KINDS),
      state: this.#oneOf(fields, 'state', STATES),
      outcome:
        outcome === undefined
          ? undefined
          : this.#oneOf(fields, 'outcome', ['done', 'with-errors', 'cancelled'] as const),
      startedAtMs: this.#whole(fields, 'startedAtMs'),
      changedAtMs: this.#whole(fields, 'changedAtMs'),
      vms: this.#list(vms, 'vms').map((vm) => this.#vm(vm)),
      pause: pause === undefined ? undefined : this.#pause(this.#fields(pause, 'pause')),
      tasks: Object.fromEntries(
        Object.entries(this.#fields(tasks, 'tasks')).map(([key, task]) => [
          key,
          this.#task(this.#fields(task, `tasks.${key}`)),
        ]),
      ),
    };
  }

  #vm(vm: Fields): RunVm {
    return {
      step: this.#text(vm, 'step'),
      vmId: this.#guid(vm, 'vmId'),
      vmName: this.#text(vm, 'vmName'),
      fromState: this.#text(vm, 'fromState'),
      toState: this.#text(vm, 'toState'),
      testsBefore: this.#texts(vm['testsBefore'], 'testsBefore'),
      ...(vm['confirmedHash'] === undefined
        ? {}
        : { confirmedHash: this.#text(vm, 'confirmedHash') }),
    };
  }

  #pause(pause: Fields): Pause {
    return {
      because: this.#oneOf(pause, 'because', ['message', 'error'] as const),
      step: this.#text(pause, 'step'),
      text: this.#text(pause, 'text'),
    };
  }

  #task(task: Fields): TaskRecord {
    const optional = (name: string, read: (fields: Fields, name: string) => unknown): object =>
      task[name] === undefined ? {} : { [name]: read(task, name) };
    const text = (fields: Fields, name: string): string => this.#text(fields, name);
    const whole = (fields: Fields, name: string): number => this.#whole(fields, name);
    const flag = (fields: Fields, name: string): boolean => fields[name] === true;
    const code = (fields: Fields, name: string): string => {
      const value = this.#text(fields, name);
      if (!isErrorCode(value)) throw this.#damaged(name);
      return value;
    };
    return {
      status: this.#oneOf(task, 'status', STATUSES),
      ...optional('startedAtMs', whole),
      ...optional('endedAtMs', whole),
      ...optional('words', text),
      ...optional('code', code),
      ...optional('operationId', text),
      ...optional('pointId', text),
      ...optional('ipMap', (fields, name) => this.#textMap(fields[name], name)),
      ...optional('isOff', flag),
      ...optional('isKept', flag),
    };
  }

  #fields(value: unknown, name: string): Fields {
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      return value as Fields;
    }
    throw this.#damaged(name);
  }

  #list(value: unknown, name: string): Fields[] {
    if (!Array.isArray(value)) throw this.#damaged(name);
    return value.map((item) => this.#fields(item, name));
  }

  #textMap(value: unknown, name: string): Readonly<Record<string, string>> {
    const fields = this.#fields(value, name);
    return Object.fromEntries(Object.keys(fields).map((key) => [key, this.#text(fields, key)]));
  }

  #texts(value: unknown, name: string): string[] {
    if (!Array.isArray(value)) throw this.#damaged(name);
    return value.map((item: unknown) => {
      if (typeof item !== 'string') throw this.#damaged(name);
      return item;
    });
  }

  #text(fields: Fields, name: string): string {
    const value = fields[name];
    if (typeof value === 'string') return value;
    throw this.#damaged(name);
  }

  #whole(fields: Fields, name: string): number {
    const value = fields[name];
    if (typeof value === 'number' && Number.isSafeInteger(value)) return value;
    throw this.#damaged(name);
  }

  #guid(fields: Fields, name: string): RunRecord['runId'] {
    const value = parseGuid(this.#text(fields, name));
    if (value === undefined) throw this.#damaged(name);
    return value;
  }

  #oneOf<T extends string>(fields: Fields, name: string, choices: readonly T[]): T {
    const choice = choices.find((other) => other === fields[name]);
    if (choice === undefined) throw this.#damaged(name);
    return choice;
  }

  #damaged(name: string): DrError {
    return new DrError(
      'E_FILE_DAMAGED',
      `${this.#file} is no run of a plan: ${name} is not legal`,
      {
        context: { path: this.#file },
      },
    );
  }
}
