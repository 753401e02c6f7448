// A source host with its agents, receivers on machines of their own, and the network between them:
// the real code of both sides over simulated seams. What happens is told by steps/; what must hold by
// checker.ts.

import { defined } from '../../shared/assert.js';
import type { Guid } from '../../shared/bytes/index.js';
import {
  connectDirectly,
  type ControlService,
  controlService,
  type ServiceClient,
} from '../../shared/channel/index.js';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { silentLog } from '../../shared/log.js';
import {
  controlHandlers,
  Receiver,
  replicationHandlers,
  Scrub,
  type ScrubOptions,
} from '../../dr-receiver/index.js';
import { Agent, type Job } from '../../source-agent/agent.js';
import { Bandwidth } from '../../source-agent/bandwidth.js';
import { ReceiverLink } from '../../source-agent/receiver-link.js';
import type { CycleOutcome } from '../../source-agent/run-report.js';
import type { MemoryFileSystem } from '../support/memory-file.js';
import { SeededRandom } from '../support/seeded-random.js';
import { Machine } from './disks.js';
import { Host, type Vm } from './host.js';
import { type Endpoint, FAIR, Network } from './network.js';
import { Promises } from './promises.js';
import { Scheduler, type SimulatedProcess } from './scheduler.js';
import { Site } from './site.js';

export const STATE_FOLDER = '/state';
export const STORE_FOLDER = '/store';
const TIMEOUT_MS = 120_000;
const RESTART_MS = 10_000;
const SETTLE_BYTES = 128 * 1024;
const REWRITE_ABOVE_BYTES = 3000;
const RECLAIM = { share: 0.05, minBytes: CELL_BYTES, rowLayers: 4 };

/** So short that a scrub is due whenever some time has passed. */
const SCRUB: ScrubOptions = { rateBytes: 1024 * 1024, periodMs: 3_600_000 };

export const SOURCE = {
  principal: 'site-a',
  keyId: 'key-a',
  role: 'source',
  vmPattern: '*',
  address: 'simulated',
} as const;
export const OPERATOR = {
  principal: 'operator',
  keyId: 'key-o',
  role: 'operator',
  vmPattern: '*',
  address: 'simulated',
} as const;

export interface AgentRun {
  readonly process: SimulatedProcess;
  readonly stop: AbortController;
}

export interface WorldOptions {
  readonly seed: number;
  readonly siteCount: number;
}

/** Counts of what happened, for reports. */
export class Counts {
  readonly #counts = new Map<string, number>();

  add(what: string): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1);
  }

  of(what: string): number {
    return this.#counts.get(what) ?? 0;
  }

  get entries(): readonly (readonly [string, number])[] {
    return [...this.#counts].sort(([one], [other]) => (one < other ? -1 : 1));
  }
}

export class World {
  readonly scheduler: Scheduler;
  readonly network: Network;
  readonly source: Machine;
  readonly host: Host;
  readonly sites: readonly Site[];
  readonly counts = new Counts();
  /** What must never happen, in the order in which it was found. */
  readonly violations: Error[] = [];
  /** Agents that run now. */
  readonly agents = new Set<AgentRun>();
  /** Commands of operators that run now. */
  readonly tools = new Set<SimulatedProcess>();
  /** The last outcome for a VM and a receiver: `site/vm`. */
  readonly outcomes = new Map<string, CycleOutcome>();
  /** VMs whose ledger rotted, was lost or went back: a compare is the price. */
  readonly excusedLedgers = new Set<Guid>();
  /** Former states of the source's volume, from which an operator restores. */
  readonly stateCopies: MemoryFileSystem[] = [];
  #agentCount = 0;
  #toolCount = 0;
  #number = 0;

  constructor({ seed, siteCount }: WorldOptions) {
    this.scheduler = new Scheduler(new SeededRandom(seed));
    this.network = new Network(this.scheduler);
    this.source = new Machine('source', this.scheduler);
    this.host = new Host(this.scheduler, () => this.source.wallMs);
    this.sites = Array.from({ length: siteCount }, (_, index) => this.#makeSite(`dr${index + 1}`));
  }

  #makeSite(name: string): Site {
    const promises = new Promises();
    const noting = <T>(work: (value: T) => void) => {
      return (value: T): void => {
        try {
          work(value);
        } catch (error) {
          this.noteBug(error);
        }
      };
    };
    const endpoint: Endpoint = {
      name,
      weather: FAIR,
      server: () => {
        const { process, receiver } = site;
        if (process === undefined || receiver === undefined || process.isDead) return undefined;
        return { process, handlers: replicationHandlers(receiver) };
      },
      onRequest: noting((request) => promises.onRequest(request)),
      onAnswer: noting((exchange) => promises.onAnswer(exchange)),
      onBug: (error) => {
        this.noteBug(error);
      },
    };
    const site = new Site(name, new Machine(name, this.scheduler), endpoint, promises);
    site.machine.onFailure = () => {
      promises.forgetPositions();
      site.hasFailed = true;
    };
    site.machine.onDurable = ({ kind, path, bytes }) => {
      if (kind !== 'write' || bytes === undefined || !path.endsWith('/journal')) return;
      const record = /"kind":"([a-z-]+)"/.exec(Buffer.from(bytes).toString('latin1'))?.[1];
      if (record === undefined) return;
      this.counts.add(`record ${record}`);
      if (record !== 'delist') return;
      // the answer to the commit before it may still be on its way
      const heads = site.receiver?.store.vms.map(({ protection }) => protection.head?.pointId);
      promises.forgetCounts((heads ?? []).filter((pointId) => pointId !== undefined));
    };
    return site;
  }

  /** Starts the receiver of a site, now and whenever it could not start or died. */
  startReceiver(site: Site): void {
    site.isStopped = false;
    if (site.process !== undefined) return;
    const process = site.machine.start(site.name);
    site.begins(process);
    process.onDeath(() => {
      site.ends();
      this.scheduler.after(this.scheduler.random.int(RESTART_MS), () => {
        if (!site.isStopped) this.startReceiver(site);
      });
    });
    const opening = Receiver.open({
      fs: site.machine.filesOf(process),
      clock: site.machine.clockOf(process),
      random: process.random,
      log: silentLog,
      storeFolder: STORE_FOLDER,
      settleBytes: SETTLE_BYTES,
      rewriteAboveBytes: REWRITE_ABOVE_BYTES,
      reclaim: RECLAIM,
      seedAccess: { folder: undefined, keys: undefined },
    });
    process.gate(opening).then(
      (receiver) => {
        site.receiver = receiver;
        site.scrub = new Scrub(receiver, SCRUB);
        site.refusal = undefined;
        this.counts.add('receiver started');
      },
      (error: unknown) => {
        this.noteRefusal(`${site.name} does not start`, error);
        if (error instanceof DrError) site.refusal = error;
        process.end();
      },
    );
  }

  /** Ends the receiver's process as an operator does. */
  async stopReceiver(site: Site): Promise<void> {
    const { process, receiver } = site;
    site.isStopped = true;
    if (process === undefined) return;
    if (receiver === undefined) process.end();
    else {
      await process.gate(receiver.close()).catch((error: unknown) => {
        this.noteRefusal(`${site.name} does not close`, error);
      });
      process.end();
    }
  }

  /** The receiver's own work for a while: slice by slice, with pauses; whatever comes meanwhile. */
  startMaintenance(site: Site, sliceCount: number, pauseMs: number): void {
    const { process, receiver } = site;
    if (process === undefined || receiver === undefined) return;
    const { maintenance } = receiver;
    const clock = site.machine.clockOf(process);
    const working = async (): Promise<void> => {
      for (let left = sliceCount; left > 0; left--) {
        if (!(await maintenance.maintain())) return;
        this.counts.add('reclaim slice');
        await clock.sleep(pauseMs);
      }
    };
    process.gate(working()).catch((error: unknown) => {
      this.noteRefusal(`maintenance of ${site.name}`, error);
    });
  }

  /** The scrub of a receiver, slice by slice, until nothing is due; false when its process ended. */
  async scrubAll(site: Site, onSlice: () => void = () => undefined): Promise<boolean> {
    const { process, receiver, scrub } = site;
    if (process === undefined || receiver === undefined || scrub === undefined) return false;
    const clock = site.machine.clockOf(process);
    await receiver.allDesks();
    for (;;) {
      const readBytes = await scrub.slice();
      onSlice();
      if (readBytes === undefined) return true;
      this.counts.add('scrub slice');
      await clock.sleep(scrub.pauseMs(readBytes));
    }
  }

  /** What an operator asks of a running receiver; undefined when none runs. */
  control(site: Site): ServiceClient<ControlService> | undefined {
    if (site.receiver === undefined) return undefined;
    return connectDirectly(controlService, controlHandlers(site.receiver), OPERATOR);
  }

  /** A DrError is an answer; anything else is a bug. */
  noteRefusal(what: string, error: unknown): void {
    if (error instanceof DrError) {
      this.scheduler.note(`${what}: ${error.code}`);
      this.counts.add(error.code);
    } else {
      this.noteBug(error);
    }
  }

  noteBug(error: unknown): void {
    this.violations.push(error instanceof Error ? error : new Error(String(error)));
  }

  /** Starts an agent with a job for each of `sites`; it ends by itself after its cycles. */
  startAgent(sites: readonly Site[], cycleCount: number, maxRestorePoints: number): AgentRun {
    const process = this.source.start(`agent${++this.#agentCount}`);
    const stop = new AbortController();
    const run: AgentRun = { process, stop };
    this.agents.add(run);
    process.onDeath(() => this.agents.delete(run));
    const fs = this.source.filesOf(process);
    const clock = this.source.clockOf(process);
    const jobs = sites.map((site): Job => ({
      name: site.name,
      hypervisor: this.host.connect(process),
      link: new ReceiverLink(() => this.network.connect(process, site.endpoint, SOURCE)),
      bandwidth: new Bandwidth(clock, { bytesPerSecond: 0 }),
      stateFolder: STATE_FOLDER,
      vmPattern: '*',
      exclude: [],
      takesRunning: true,
      cycle: {
        consistency: 'prefer',
        timeoutMs: TIMEOUT_MS,
        overlap: process.random.chance(0.5) ? 'skip' : 'wait',
        rpoSeconds: 900,
        maxRestorePoints,
        retentionGrid: '',
      },
      cycleCount,
      intervalMs: 60_000,
      isAbortingOnError: false,
    }));
    const working = (async () => {
      await fs.makeFolder(STATE_FOLDER);
      const agent = new Agent(jobs, {
        fs,
        clock,
        random: process.random,
        log: silentLog,
        signal: stop.signal,
        onOutcome: (vm, job, outcome) => {
          this.#noteOutcome(job.name, vm.id, outcome);
        },
      });
      return agent.run();
    })();
    process.gate(working).then(
      () => {
        process.end();
      },
      (error: unknown) => {
        this.noteRefusal(`${process.name} ends`, error);
        process.end();
      },
    );
    return run;
  }

  /** Starts a command of an operator's at the source, which may fail as commands do. */
  startTool(name: string, work: (process: SimulatedProcess) => Promise<void>): void {
    const process = this.source.start(`${name}${++this.#toolCount}`);
    this.tools.add(process);
    process.onDeath(() => this.tools.delete(process));
    process.gate(work(process)).then(
      () => {
        process.end();
      },
      (error: unknown) => {
        this.noteRefusal(process.name, error);
        process.end();
      },
    );
  }

  #noteOutcome(siteName: string, vmId: Guid, outcome: CycleOutcome): void {
    const { kind } = outcome;
    const what =
      kind === 'done' ? outcome.result.kind : kind === 'failed' ? outcome.error.code : kind;
    this.scheduler.note(`cycle of ${vmId} to ${siteName}: ${kind} ${what}`);
    this.counts.add(kind === 'done' ? `cycle ${what}` : what);
    if (kind === 'done' && outcome.result.disks.some(({ reusedBytes }) => reusedBytes > 0)) {
      this.counts.add('cycle with cells that were there');
    }
    this.outcomes.set(`${siteName}/${vmId}`, outcome);
    if (kind === 'done') this.host.writeOn(vmId);
  }

  outcome(site: Site, vm: Vm): CycleOutcome | undefined {
    return this.outcomes.get(`${site.name}/${vm.id}`);
  }

  /** Takes so many events, fewer when nothing waits. */
  async run(eventCount: number): Promise<void> {
    for (let i = 0; i < eventCount; i++) {
      if (this.violations.length > 0 || !(await this.scheduler.step())) return;
    }
  }

  /** Until `isDone`, which must come in some time. */
  async runUntil(isDone: () => boolean, what: string, eventsMax = 200_000): Promise<void> {
    for (let i = 0; !isDone(); i++) {
      if (this.violations.length > 0) return;
      if (i > eventsMax) throw new Error(`${what} does not end`);
      if (!(await this.scheduler.step())) {
        if (isDone()) return;
        throw new Error(`${what}: nothing is left that could happen`);
      }
    }
  }

  /** Until work of a process has ended or the process has; false when it died or the work was refused. */
  async untilDone(
    process: SimulatedProcess,
    work: Promise<unknown>,
    what: string,
  ): Promise<boolean> {
    const state: { end: 'done' | 'refused' | undefined } = { end: undefined };
    process.gate(work).then(
      () => {
        state.end = 'done';
      },
      (error: unknown) => {
        this.noteRefusal(what, error);
        state.end = 'refused';
      },
    );
    await this.runUntil(() => state.end !== undefined || process.isDead, what);
    return state.end === 'done';
  }

  /** For names that were never given before. */
  nextNumber(): number {
    return ++this.#number;
  }

  /** A site by chance. */
  pickSite(random: SeededRandom): Site {
    return defined(this.sites[random.int(this.sites.length)], 'there is a site');
  }

  pickVm(random: SeededRandom): Vm {
    return defined(this.host.vms[random.int(this.host.vms.length)], 'there is a VM');
  }
}
