// The agent of a primary site as the engine sees it: one VM, what it was asked, and what it refuses.

import type { Guid } from '../../../../shared/bytes/index.js';
import { DrError } from '../../../../shared/errors.js';
import type { Heartbeat, PowerState } from '../../../../shared/hypervisor/index.js';
import type {
  FailbackRound,
  FinalPoint,
  RemoteAction,
  SourceOrder,
  SourceSite,
  SourceVm,
} from '../../../../dr-receiver/failover/ports.js';

export class FakeSource implements SourceSite {
  powerState: PowerState = 'running';
  isFenced = false;
  /** Of a VM that runs. */
  heartbeat: Heartbeat = 'ok';
  epoch = 1n;
  isActive = true;
  isRetired = false;
  allowed: RemoteAction[] = ['shutdown', 'start'];
  /** What it goes on from after a failback. */
  committed: { readonly pointId: Guid; readonly consistentAtMs: number } | undefined;
  /** Names of calls, in order. */
  readonly calls: string[] = [];
  /** Calls that fail, with what. */
  readonly failures = new Map<string, DrError>();
  /** Replicates what is the last of it. */
  onFinalCycle: () => Promise<Guid> = () => Promise.reject(new Error('not part of this test'));

  #called(name: string, order?: SourceOrder): void {
    this.calls.push(name);
    const failure = this.failures.get(name);
    if (failure !== undefined) throw failure;
    if (order === undefined || order.epoch >= this.epoch) return;
    throw new DrError('E_STALE_EPOCH', `the order is of epoch ${order.epoch}`);
  }

  describe(): Promise<SourceVm> {
    const { powerState, isFenced, epoch, allowed } = this;
    const heartbeat = powerState === 'running' ? this.heartbeat : 'absent';
    return Promise.resolve({ powerState, heartbeat, isFenced, epoch, allowed });
  }

  async presync(_vmId: Guid, order: SourceOrder): Promise<void> {
    await Promise.resolve();
    this.#called('presync', order);
  }

  async shutDown(_vmId: Guid, order: SourceOrder): Promise<void> {
    await Promise.resolve();
    this.#called('shutDown', order);
    this.powerState = 'off';
  }

  async start(_vmId: Guid, order: SourceOrder): Promise<void> {
    await Promise.resolve();
    this.#called('start', order);
    if (this.isFenced) throw new DrError('E_FENCED', 'it is fenced');
    this.powerState = 'running';
  }

  async fence(_vmId: Guid, order: SourceOrder): Promise<void> {
    await Promise.resolve();
    this.#called('fence', order);
    if (this.powerState !== 'off') throw new DrError('E_STATE', 'it runs');
    this.isFenced = true;
  }

  async unfence(_vmId: Guid, order: SourceOrder): Promise<void> {
    await Promise.resolve();
    this.#called('unfence', order);
    this.isFenced = false;
  }

  async finalCycle(_vmId: Guid, order: SourceOrder): Promise<FinalPoint> {
    this.#called('finalCycle', order);
    return { pointId: await this.onFinalCycle(), isCompared: true };
  }

  async tellEpoch(
    _vmId: Guid,
    order: SourceOrder & { readonly isSourceActive: boolean; readonly isRetired: boolean },
  ): Promise<void> {
    await Promise.resolve();
    this.#called('tellEpoch', order);
    this.epoch = order.epoch;
    this.isActive = order.isSourceActive;
    this.isRetired = order.isRetired;
  }

  async failbackSync(_vmId: Guid, order: SourceOrder, { isLast }: FailbackRound): Promise<number> {
    await Promise.resolve();
    this.#called(isLast ? 'failbackSync last' : 'failbackSync', order);
    return 0;
  }

  async failbackStart(_vmId: Guid, order: SourceOrder): Promise<void> {
    await Promise.resolve();
    this.#called('failbackStart', order);
    this.isFenced = false;
    this.powerState = 'running';
  }

  async failbackCommit(
    _vmId: Guid,
    order: SourceOrder,
    point: { readonly pointId: Guid; readonly consistentAtMs: number },
  ): Promise<void> {
    await Promise.resolve();
    this.#called('failbackCommit', order);
    this.epoch = order.epoch;
    this.committed = point;
  }

  async failbackUndo(_vmId: Guid, order: SourceOrder): Promise<void> {
    await Promise.resolve();
    this.#called('failbackUndo', order);
    this.powerState = 'off';
    this.isFenced = true;
  }
}
