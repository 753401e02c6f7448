// A primary host, a receiver and a file system in memory, and the agent between them.

import { type Guid } from '../../../shared/bytes/index.js';
import { connectDirectly, replicationService } from '../../../shared/channel/index.js';
import type { FileSystem } from '../../../shared/files/index.js';
import { silentLog } from '../../../shared/log.js';
import type { Job } from '../../../source-agent/agent.js';
import { Bandwidth } from '../../../source-agent/bandwidth.js';
import { type CycleSeams, type CycleSettings, runCycle } from '../../../source-agent/cycle.js';
import type { CycleResult } from '../../../source-agent/cycle-result.js';
import { ReceiverLink } from '../../../source-agent/receiver-link.js';
import { FakeClock } from '../../support/fake-clock.js';
import {
  FakeSourceHypervisor,
  type FakeVm,
  testGuid,
} from '../../support/fake-source-hypervisor.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { NaiveReceiver } from '../../support/naive-receiver.js';
import { SeededRandom } from '../../support/seeded-random.js';

export const STATE = '/state';

const CALLER = {
  principal: 'host-a',
  keyId: 'key-1',
  role: 'source',
  vmPattern: '*',
  address: 'direct',
} as const;

export const SETTINGS: CycleSettings = {
  consistency: 'prefer',
  timeoutMs: 3_600_000,
  overlap: 'skip',
  rpoSeconds: 900,
  maxRestorePoints: 5,
  retentionGrid: '',
};

export class AgentWorld {
  readonly clock = new FakeClock();
  readonly random = new SeededRandom(7);
  readonly hypervisor = new FakeSourceHypervisor(this.clock);
  readonly receiver = new NaiveReceiver(testGuid(0xabc));
  readonly files: FileSystem;

  constructor(files: FileSystem = new MemoryFileSystem()) {
    this.files = files;
  }

  seams(replaced: Partial<CycleSeams> = {}, receiver = this.receiver): CycleSeams {
    return {
      hypervisor: this.hypervisor,
      link: linkTo(receiver),
      fs: this.files,
      clock: this.clock,
      random: this.random,
      log: silentLog,
      bandwidth: new Bandwidth(this.clock, { bytesPerSecond: 0 }),
      stateFolder: STATE,
      signal: new AbortController().signal,
      ...replaced,
    };
  }

  async cycle(
    vm: FakeVm,
    settings: Partial<CycleSettings> = {},
    replaced: Partial<CycleSeams> = {},
    receiver = this.receiver,
  ): Promise<CycleResult> {
    await this.files.makeFolder(STATE);
    const { id, name, powerState } = vm;
    return this.running(
      runCycle(
        { id, name, powerState },
        { ...SETTINGS, ...settings },
        this.seams(replaced, receiver),
      ),
    );
  }

  /** Lets the clock run while `work` is under way, so that pauses and limits take no time. */
  async running<T>(work: Promise<T>, stepMs = 1000): Promise<T> {
    const state = { isDone: false };
    const ended = work.finally(() => {
      state.isDone = true;
    });
    ended.catch(() => undefined);
    while (!state.isDone) await this.clock.advance(stepMs / 100);
    return ended;
  }
}

export function linkTo(receiver: NaiveReceiver): ReceiverLink {
  return new ReceiverLink(() =>
    Promise.resolve({
      client: connectDirectly(replicationService, receiver.handlers, CALLER),
      close: () => Promise.resolve(),
    }),
  );
}

/** A job of all VMs of the world, one cycle each. */
export function jobOf(world: AgentWorld, part: Partial<Job> = {}): Job {
  return {
    name: 'push',
    hypervisor: world.hypervisor,
    link: linkTo(world.receiver),
    bandwidth: new Bandwidth(world.clock, { bytesPerSecond: 0 }),
    stateFolder: STATE,
    vmPattern: '*',
    exclude: [],
    takesRunning: true,
    cycle: SETTINGS,
    cycleCount: 1,
    intervalMs: 300_000,
    isAbortingOnError: false,
    ...part,
  };
}

/** What differs between the receiver's head and the disks; '' when nothing does. */
export function difference(receiver: NaiveReceiver, vmId: Guid, disks: readonly Buffer[]): string {
  const head = receiver.head(vmId);
  if (head === undefined) return 'there is no point';
  if (head.disks.length !== disks.length) return `${head.disks.length} disks`;
  for (const [index, disk] of head.disks.entries()) {
    const wanted = disks[index] ?? Buffer.alloc(0);
    if (disk.bytes.equals(wanted)) continue;
    const at = disk.bytes.findIndex((byte, position) => byte !== wanted[position]);
    return `disk ${index} differs at ${at}, cell ${Math.floor(at / 65536)}`;
  }
  return '';
}
