// A primary host with its agent, and a receiver, both in memory, joined by the control connection.

import { guidToWire, type Guid } from '../../shared/bytes/index.js';
import {
  type Caller,
  connectDirectly,
  replicationService,
  siteService,
} from '../../shared/channel/index.js';
import { silentLog } from '../../shared/log.js';
import { replicationHandlers, siteHandlers } from '../../dr-receiver/index.js';
import type { SourceOrder, SourceSite } from '../../dr-receiver/failover/ports.js';
import type { Job } from '../../source-agent/agent.js';
import { AttachedAgent, ReceiverLink, type RemoteAction } from '../../source-agent/index.js';
import { Bandwidth } from '../../source-agent/bandwidth.js';
import { runCycle } from '../../source-agent/cycle.js';
import { FakeClock } from '../support/fake-clock.js';
import { FakeSourceHypervisor, type FakeVm, testGuid } from '../support/fake-source-hypervisor.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { SeededRandom } from '../support/seeded-random.js';
import { openSite, type Site, SOURCE } from './dr-receiver/source-double.js';
import { SETTINGS, STATE } from './source-agent/agent-world.js';

export const OPERATION = testGuid(0x0b1);

export function orderOf(epoch: bigint, operationId: Guid = OPERATION): SourceOrder {
  return { operationId, epoch };
}

export class AttachWorld {
  readonly clock = new FakeClock();
  readonly random = new SeededRandom(5);
  readonly hypervisor = new FakeSourceHypervisor(this.clock);
  readonly files = new MemoryFileSystem();
  readonly vm: FakeVm;
  readonly site: Site;
  readonly #stops: AbortController[] = [];
  readonly #running: Promise<void>[] = [];

  private constructor(site: Site) {
    this.site = site;
    this.vm = this.hypervisor.addVm(1, 'SQL01', [65_536 * 8]);
  }

  /** With one point of the VM at the receiver. */
  static async make(): Promise<AttachWorld> {
    const world = new AttachWorld(await openSite(new MemoryFileSystem()));
    await world.files.makeFolder(STATE);
    world.hypervisor.write(world.vm, 0, 65_536, Buffer.alloc(65_536, 7));
    await world.cycle();
    return world;
  }

  job(remoteActions: readonly RemoteAction[] = [], as: Caller = SOURCE): Job {
    return {
      name: 'push',
      hypervisor: this.hypervisor,
      link: this.link(as),
      bandwidth: new Bandwidth(this.clock, { bytesPerSecond: 0 }),
      stateFolder: STATE,
      vmPattern: '*',
      exclude: [],
      takesRunning: true,
      cycle: SETTINGS,
      cycleCount: 1,
      intervalMs: 300_000,
      isAbortingOnError: false,
      remoteActions,
    };
  }

  link(as: Caller): ReceiverLink {
    const { receiver } = this.site;
    return new ReceiverLink(() =>
      Promise.resolve({
        client: connectDirectly(replicationService, replicationHandlers(receiver), as),
        site: connectDirectly(siteService, siteHandlers(receiver), as),
        close: () => Promise.resolve(),
      }),
    );
  }

  async cycle(): Promise<void> {
    const { id, name, powerState } = this.vm;
    const { hypervisor, link, bandwidth, stateFolder, cycle } = this.job();
    const { clock, random, files: fs } = this;
    const { signal } = new AbortController();
    const seams = { hypervisor, link, fs, clock, random, log: silentLog, bandwidth };
    await this.running(
      runCycle({ id, name, powerState }, cycle, { ...seams, stateFolder, signal }),
    );
  }

  /** An agent that is attached. */
  async attach(
    remoteActions: readonly RemoteAction[] = [],
    { as = SOURCE, isAtCommand = false } = {},
  ): Promise<{ readonly stop: () => Promise<void> }> {
    const job = this.job(remoteActions, as);
    const stop = new AbortController();
    const agent = new AttachedAgent(
      { link: job.link, jobs: [job], isAtCommand },
      {
        fs: this.files,
        clock: this.clock,
        random: this.random,
        log: silentLog,
        signal: stop.signal,
      },
    );
    const running = agent.run();
    this.#stops.push(stop);
    this.#running.push(running);
    await this.running(agent.attached);
    return {
      stop: () => {
        stop.abort();
        return this.running(running);
      },
    };
  }

  find(owner = SOURCE.principal): SourceSite | undefined {
    return this.site.receiver.sources.find(this.vm.id, owner);
  }

  /** The agent that answers for the VM. */
  get source(): SourceSite {
    const found = this.find();
    if (found === undefined) throw new Error('no agent is attached');
    return found;
  }

  /** How many points the receiver has. */
  async pointCount(): Promise<number> {
    const desk = await this.site.receiver.desk(this.vm.id);
    return desk?.vm.protection.listed.length ?? 0;
  }

  get wireId(): Buffer {
    return guidToWire(this.vm.id);
  }

  /** Lets the clock run while `work` is under way. */
  async running<T>(work: Promise<T>): Promise<T> {
    const state = { isDone: false };
    const ended = work.finally(() => {
      state.isDone = true;
    });
    ended.catch(() => undefined);
    while (!state.isDone) await this.clock.advance(10);
    return ended;
  }

  async close(): Promise<void> {
    for (const stop of this.#stops) stop.abort();
    await this.running(Promise.all(this.#running));
    await this.site.receiver.close();
  }
}
