// A fixed life of a protection, with a fault at one of its durable calls: everything that writes is in
// it, so that its calls are the durable steps of the product. After the fault, machines come up again
// and the work goes on; how, is the outcome.

import { defined } from '../../shared/assert.js';
import { DrError } from '../../shared/errors.js';
import { Checker } from '../simulation/checker.js';
import type { DurableKind, Machine } from '../simulation/disks.js';
import type { Site } from '../simulation/site.js';
import { World } from '../simulation/world.js';
import { SeededRandom } from '../support/seeded-random.js';
import type { Injection, Step } from './faults.js';
import { roleOf } from './roles.js';
import { type Act, live } from './life.js';

export interface ScenarioResult {
  /** Every durable call in order, by machine. */
  readonly calls: Readonly<Record<Step['side'], readonly Step[]>>;
  /** What became of the fault; undefined: it was never met. */
  readonly outcome: string | undefined;
}

const ATTEMPTS = 5;

/** @throws Broken when a promise is not kept */
export async function runScenario(injection?: Injection): Promise<ScenarioResult> {
  const scenario = new Scenario(injection);
  try {
    await scenario.run();
  } catch (error) {
    if (!(error instanceof Down)) throw error;
    const { calls } = scenario;
    return { calls, outcome: `the receiver does not start: ${error.refusal.code}` };
  }
  return { calls: scenario.calls, outcome: scenario.outcome };
}

/** The receiver does not come up any more, for a reason that an operator has to look at. */
class Down extends Error {
  readonly refusal: DrError;

  constructor(refusal: DrError) {
    super(refusal.message);
    this.refusal = refusal;
  }
}

class Scenario {
  readonly calls: Record<Step['side'], Step[]> = { source: [], receiver: [] };
  readonly #injection: Injection | undefined;
  readonly #world = new World({ seed: 1, siteCount: 1 });
  readonly #checker = new Checker(this.#world);
  readonly #site: Site;
  /** How the work went in which the fault came, one entry for each attempt. */
  #attempts: string[] | undefined;
  #isSprung = false;
  #isRestarted = false;
  /** The life is over: what is called from here on is no step of it. */
  #isOver = false;
  #attemptCount = 0;
  #finding = '';

  constructor(injection: Injection | undefined) {
    this.#injection = injection;
    this.#site = defined(this.#world.sites[0], 'there is one site');
    this.#listen('source', this.#world.source);
    this.#listen('receiver', this.#site.machine);
  }

  get outcome(): string | undefined {
    if (this.#attempts === undefined) return undefined;
    const [first = 'done', ...rest] = this.#attempts;
    const words: string[] = [];
    if (first.startsWith('done')) words.push('goes on');
    else words.push(first);
    const end = rest.at(-1);
    if (!first.startsWith('done') && end !== undefined) {
      words.push(end.startsWith('done') ? `then ${end.slice(5)}` : `stays ${end}`);
    }
    if (this.#isRestarted) words.push('after a restart of the receiver');
    if (this.#finding !== '') words.push(this.#finding);
    return words.join(', ');
  }

  #listen(side: Step['side'], machine: Machine): void {
    const counting = machine.onDurable;
    machine.onDurable = (call) => {
      counting(call);
      if (this.#isOver) return;
      const { kind, path } = call;
      this.calls[side].push({ side, kind, role: roleOf(path) });
      const isDue =
        this.#injection?.side === side && this.calls[side].length === this.#injection.call;
      if (isDue && !this.#isSprung) this.#spring(machine, kind, path);
    };
  }

  #spring(machine: Machine, kind: DurableKind, path: string): void {
    this.#isSprung = true;
    const { scheduler, network, host, source } = this.#world;
    switch (defined(this.#injection, 'a fault is injected').fault) {
      case 'power loss':
        machine.trap = () => {
          machine.trap = undefined;
          machine.cutPower('random');
          if (machine === source) host.losePower();
        };
        return;
      case 'SIGKILL':
        machine.trap = (process) => {
          machine.trap = undefined;
          process.end();
        };
        return;
      case 'disk full':
        machine.isFull = true;
        return;
      case 'fsync error':
        machine.faults.push({ kind, skip: 0 });
        return;
      case 'bit rot':
        scheduler.after(1, () => {
          const sizeBytes = machine.volume.sizeOf(path);
          if (sizeBytes === 0) return;
          machine.rot(path, scheduler.random.int(sizeBytes), scheduler.random.int(8));
          for (const { id } of host.vms) {
            if (machine === source) this.#world.excusedLedgers.add(id);
            else this.#site.noteRot(id, 'any');
          }
          this.#site.promises.isExcused = true;
        });
        return;
      case 'network cut':
        network.cut();
    }
  }

  async run(): Promise<void> {
    await this.#work('start', async () => {
      this.#world.startReceiver(this.#site);
      await this.#untilUp();
      return 'done';
    });
    await live({
      world: this.#world,
      site: this.#site,
      isSpoiled: () => this.#injection?.fault === 'bit rot' && this.#isSprung,
      cycle: () => this.#cycle(),
      operate: (what, act) => this.#operate(what, act),
    });
    this.#isOver = true;
    await this.#end();
  }

  async #untilUp(): Promise<void> {
    const { machine } = this.#site;
    const isUp = (): boolean => this.#site.receiver !== undefined;
    for (let i = 0; i < 60 && !isUp(); i++) await this.#world.scheduler.advance(1000);
    if (!isUp() && machine.isFull) this.#mend();
    const { refusal } = this.#site;
    if (!isUp() && refusal !== undefined && this.#site.promises.isExcused) throw new Down(refusal);
    await this.#world.runUntil(isUp, 'the start of the receiver', 3000);
  }

  #mend(): void {
    for (const machine of [this.#world.source, this.#site.machine]) {
      machine.isFull = false;
      machine.faults.length = 0;
      machine.trap = undefined;
    }
  }

  /** Does a piece of work, again and again until it is done; the attempts tell what a fault did to it. */
  async #work(what: string, attempt: () => Promise<string>): Promise<void> {
    const wasSprung = this.#isSprung;
    const attempts: string[] = [];
    while (attempts.length < ATTEMPTS && attempts.at(-1)?.startsWith('done') !== true) {
      this.#world.scheduler.random = new SeededRandom(++this.#attemptCount);
      attempts.push(await attempt());
      this.#mend();
      this.#throwViolation();
      // what an operator does about a device that failed once
      if (attempts.at(-1)?.includes('E_HALTED') === true) {
        this.#site.process?.end();
        this.#isRestarted = true;
      }
      if (what !== 'start') await this.#untilUp();
      await this.#world.scheduler.advance(60_000);
    }
    if (!wasSprung && this.#isSprung) this.#attempts = attempts;
    if (!wasSprung && this.#isSprung) await this.#checker.check(new SeededRandom(11));
  }

  #throwViolation(): void {
    const [violation] = this.#world.violations;
    if (violation !== undefined) throw violation;
  }

  #cycle(): Promise<void> {
    const world = this.#world;
    return this.#work('cycle', async () => {
      world.outcomes.clear();
      world.startAgent([this.#site], 1, 2);
      await world.runUntil(() => world.agents.size === 0, 'a cycle');
      const [outcome] = world.outcomes.values();
      if (outcome === undefined) return 'cut off';
      if (outcome.kind === 'failed') return `refused with ${outcome.error.code}`;
      return outcome.kind === 'done' ? `done ${outcome.result.kind}` : outcome.kind;
    });
  }

  /** An operator's work, with its process; cut off when that dies. */
  #operate(what: string, act: Act): Promise<void> {
    return this.#work(what, async () => {
      const { process } = this.#site;
      const state: { end: string | undefined } = { end: undefined };
      this.#act(act).then(
        () => {
          state.end = `done ${what}`;
        },
        (error: unknown) => {
          this.#world.noteRefusal(what, error);
          state.end = error instanceof DrError ? `refused with ${error.code}` : 'a bug';
        },
      );
      const isOver = (): boolean => state.end !== undefined || process?.isDead !== false;
      await this.#world.runUntil(isOver, what);
      return state.end ?? 'cut off';
    });
  }

  /** @throws DrError E_SOURCE_UNREACHABLE when no receiver runs */
  async #act(act: Act): Promise<void> {
    const { receiver } = this.#site;
    const control = this.#world.control(this.#site);
    if (control === undefined || receiver === undefined) {
      throw new DrError('E_SOURCE_UNREACHABLE', 'no receiver runs');
    }
    await act(control, receiver);
  }

  #verify(): Promise<void> {
    return this.#operate('verify', async (control) => {
      for await (const { step } of control.verify({
        vm: 'VM1',
        point: 'all',
        isRepair: false,
      })) {
        if (step?.$case !== 'done' || step.value.damagedPointIds.length === 0) continue;
        this.#finding = 'detected: E_POINT_CORRUPT';
      }
    });
  }

  /** One more cycle, after which nothing may be left of whatever was cut off before. */
  async #end(): Promise<void> {
    const [vm] = this.#world.host.vms;
    vm?.disks[0]?.write(12, 4711, this.#world.host.tick());
    await this.#cycle();
    await this.#verify();
    this.#checker.forget();
    await this.#checker.check(new SeededRandom(13));
    const halt = this.#site.receiver?.store.vms[0]?.halt;
    if (halt !== undefined) this.#finding = 'HALTED';
    else if (this.#site.rotten.size === 0) this.#checker.checkTidy();
  }
}
