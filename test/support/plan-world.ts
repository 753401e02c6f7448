// A plan, a receiver that is a double, a clock that is moved, and a folder of runs: what a test of
// runs needs. An orchestrator can be stopped at any write of its record, as by a crash.

import {
  type Plan,
  type PlanKind,
  parsePlan,
  type RunEnd,
  type RunRecord,
} from '../../shared/plan/index.js';
import { beginRun, resumeRun, type RunSeams } from '../../shared/plan/orchestrator.js';
import { RunFile } from '../../shared/plan/run-file.js';
import { FakeClock } from './fake-clock.js';
import { FakeVmCommands } from './fake-vm-commands.js';
import { MemoryFileSystem } from './memory-file.js';
import { SeededRandom } from './seeded-random.js';

export class Crash extends Error {
  override readonly name = 'Crash';
}

export type CrashAt = { readonly write: number; readonly side: 'before' | 'after' } | undefined;

export class PlanWorld {
  readonly clock = new FakeClock();
  readonly fs = new MemoryFileSystem();
  readonly commands = new FakeVmCommands(this.clock);
  readonly plan: Plan;
  readonly scripts: string[] = [];
  readonly seen: string[] = [];
  connect: RunSeams['connect'] = () => Promise.resolve();
  script: () => number = () => 0;
  writeCount = 0;
  readonly #random = new SeededRandom(5);

  constructor(text: string) {
    this.plan = parsePlan(text, 'plan.yaml');
    for (const { action } of this.plan.steps) {
      if (action.kind === 'vm') this.commands.add(action.vm);
    }
    for (const name of ['dns.sh', 'ready.sh']) this.fs.put(`/scripts/${name}`, Buffer.from(''));
  }

  async begin(
    kind: PlanKind,
    options: {
      isPartial?: boolean;
      isKept?: boolean;
      confirmed?: string;
      crash?: CrashAt;
      signal?: AbortSignal;
    } = {},
  ): Promise<RunEnd> {
    const { isPartial = false, isKept = false, confirmed = 'any' } = options;
    return this.#withFile(options, (seams) =>
      beginRun(this.plan, { kind, planHash: 'h', isPartial, isKept, confirmed }, seams),
    );
  }

  async resume(
    how: 'retry' | 'skip' | 'cancel' = 'retry',
    options: { isKept?: boolean; planHash?: string; crash?: CrashAt } = {},
  ): Promise<RunEnd> {
    const { isKept = false, planHash = 'h' } = options;
    return this.#withFile(options, (seams) =>
      resumeRun(this.plan, { how, isKept, planHash }, seams),
    );
  }

  /** The run as a new process finds it. */
  async record(): Promise<RunRecord | undefined> {
    const file = await this.#open();
    try {
      return await file.read();
    } finally {
      await file.close();
    }
  }

  #open(): Promise<RunFile> {
    const seams = { fs: this.fs, random: this.#random, folder: '/state/plans' };
    return RunFile.open(this.plan.name, seams);
  }

  async #withFile(
    { crash, signal }: { crash?: CrashAt; signal?: AbortSignal },
    work: (seams: RunSeams) => Promise<RunEnd>,
  ): Promise<RunEnd> {
    const file = await this.#open();
    const stop = new AbortController();
    const written = async (write: () => Promise<void>): Promise<void> => {
      this.writeCount++;
      const isHere = crash?.write === this.writeCount;
      if (isHere && crash.side === 'before') throw new Crash();
      await write();
      if (isHere) throw new Crash();
    };
    const seams: RunSeams = {
      ...{ commands: this.commands, clock: this.clock, fs: this.fs, random: this.#random },
      connect: (to, limit) => this.connect(to, limit),
      runScript: ({ file: script }) => {
        this.scripts.push(script);
        this.commands.effects.push({ vm: script, what: 'script', atMs: this.clock.monotonic() });
        return Promise.resolve({ exitCode: this.script(), isTimedOut: false, output: '' });
      },
      heartbeatOf: () => Promise.resolve(true),
      ...{ scriptFolder: '/scripts', signal: signal ?? stop.signal },
      file: {
        read: () => file.read(),
        begin: (record) => written(() => file.begin(record)),
        write: (record) => written(() => file.write(record)),
      },
      onChange: (record, change) => {
        this.seen.push(
          change.kind === 'state' ? record.state : `${change.task.key}: ${change.record.status}`,
        );
      },
    };
    let isOver = 0;
    const running = work(seams).finally(() => isOver++);
    running.catch(() => undefined);
    for (let step = 0; step < 20_000 && isOver === 0; step++) await this.clock.advance(1000);
    try {
      if (isOver === 0) throw new Error('the run does not come to its end');
      return await running;
    } finally {
      // what a dead orchestrator waited for is not waited for any more
      stop.abort(new Error('the orchestrator is gone'));
      await file.close();
    }
  }
}
