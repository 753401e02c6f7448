// Stores with many protections and points, made through the receiver's own code, in process and with
// disks of one sector: what they hold costs nothing, so that only their number does.

import { assert, defined } from '../shared/assert.js';
import { connectDirectly, replicationService } from '../shared/channel/index.js';
import { type Clock, systemRandom } from '../shared/clock.js';
import { DEFAULT_POLICY, Receiver, replicationHandlers } from '../dr-receiver/index.js';
import { nodeFileSystem } from '../shared/files/index.js';
import { silentLog } from '../shared/log.js';
import {
  caller,
  type CyclePlan,
  type Services,
  SourceVm,
} from '../test/unit/dr-receiver/source-double.js';

const SOURCE = caller('bench');
const DISK_BYTES = 512;
/** VMs that get their points at the same time. */
const AT_ONCE = 16;

export interface HistoryExtent {
  readonly protections: number;
  readonly pointsEach: number;
}

/** One VM and its newest point. */
interface Source {
  readonly vm: SourceVm;
  last: CyclePlan | undefined;
}

export class HistoryStore {
  readonly folder: string;
  readonly extent: HistoryExtent;
  readonly #clock: Clock;
  readonly #sources: Source[];
  #cycleCount = 0;

  constructor(folder: string, extent: HistoryExtent, clock: Clock) {
    this.folder = folder;
    this.extent = extent;
    this.#clock = clock;
    this.#sources = Array.from({ length: extent.protections }, (_, index) => ({
      vm: new SourceVm(index + 1, [DISK_BYTES]),
      last: undefined,
    }));
  }

  /** Name of a VM that is there. */
  get vmName(): string {
    return defined(this.#sources[0], 'there is a VM').vm.name;
  }

  async make(): Promise<void> {
    await this.#withReceiver(async (site) => {
      const waiting = [...this.#sources];
      const one = async (): Promise<void> => {
        for (let source = waiting.pop(); source !== undefined; source = waiting.pop()) {
          for (let i = 0; i < this.extent.pointsEach; i++) await this.#cycle(site, source);
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, one));
    });
  }

  /** Seconds that a receiver takes to open the store. */
  async openSeconds(): Promise<number> {
    const startedAt = this.#clock.monotonic();
    let seconds = Number.NaN;
    await this.#withReceiver(() => {
      seconds = (this.#clock.monotonic() - startedAt) / 1000;
      return Promise.resolve();
    });
    return seconds;
  }

  /** Seconds of `count` cycles of one VM, each with its plan and with the pruning of a point. */
  async cycleSeconds(count: number): Promise<number> {
    let seconds = Number.NaN;
    await this.#withReceiver(async (site) => {
      const source = defined(this.#sources[0], 'there is a VM');
      const startedAt = this.#clock.monotonic();
      for (let i = 0; i < count; i++) await this.#cycle(site, source);
      seconds = (this.#clock.monotonic() - startedAt) / 1000;
    });
    return seconds;
  }

  async #cycle(site: Services, source: Source): Promise<void> {
    const { vm, last } = source;
    this.#cycleCount++;
    vm.write(0, 0, this.#cycleCount);
    const cells = last === undefined ? undefined : [0];
    const maxRestorePoints = this.extent.pointsEach;
    const plan = vm.plan(this.#cycleCount, last?.pointId, [cells], { maxRestorePoints });
    const { pointCount } = await vm.replicate(site, plan);
    // the first point of a day is kept besides
    assert(pointCount <= maxRestorePoints + 1, 'points are pruned');
    source.last = plan;
  }

  async #withReceiver(work: (site: Services) => Promise<void>): Promise<void> {
    const receiver = await Receiver.open({
      storeFolder: this.folder,
      fs: nodeFileSystem,
      clock: this.#clock,
      random: systemRandom,
      log: silentLog,
      policy: DEFAULT_POLICY,
    });
    try {
      const replication = connectDirectly(
        replicationService,
        replicationHandlers(receiver),
        SOURCE,
      );
      await work({
        replication: () => replication,
        control: () => {
          throw new Error('a source has no control service');
        },
      });
    } finally {
      await receiver.close();
    }
  }
}
