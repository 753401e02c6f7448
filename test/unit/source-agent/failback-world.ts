// A primary lab and a DR lab with its receiver, joined by the control connection: a VM that was failed
// over, served and wrote there, and rounds of its failback, which the receiver's operations would drive.

import { join } from 'node:path';
import { defined } from '../../../shared/assert.js';
import { type Guid, guid, randomGuid } from '../../../shared/bytes/index.js';
import {
  connectDirectly,
  type FailbackCellsRequest,
  FailbackCellsResponse,
  type Handlers,
  type OperationPlan,
  replicationService,
  type ServiceClient,
  type SiteService,
  siteService,
} from '../../../shared/channel/index.js';
import { systemClock } from '../../../shared/clock.js';
import { CELL_BYTES, cellCount } from '../../../shared/delta/index.js';
import type { FileSystem } from '../../../shared/files/index.js';
import type { ReferencePoint, VmSummary } from '../../../shared/hypervisor/index.js';
import { Lab } from '../../../shared/hypervisor/lab/index.js';
import { silentLog } from '../../../shared/log.js';
import { failbackCells } from '../../../dr-receiver/failover/failback/cells-call.js';
import { ServingDisks } from '../../../dr-receiver/failover/failback/serving-disks.js';
import { instanceDiskPaths } from '../../../dr-receiver/failover/instance-files.js';
import type { SourceOrder, SourceSite } from '../../../dr-receiver/failover/ports.js';
import type { VmDesk } from '../../../dr-receiver/ingest/vm-desk.js';
import { replicationHandlers, siteHandlers } from '../../../dr-receiver/index.js';
import { Bandwidth } from '../../../source-agent/bandwidth.js';
import { runCycle } from '../../../source-agent/cycle.js';
import type { CycleResult } from '../../../source-agent/cycle-result.js';
import { commitBack, startBack, undoBack } from '../../../source-agent/failback/failback.js';
import { syncBack } from '../../../source-agent/failback/sync-back.js';
import { ReturnFile, type ReturnRecord } from '../../../source-agent/failback/return-record.js';
import { chainKey, type Ledger, type PointFacts, withChain } from '../../../source-agent/ledger.js';
import { LedgerStore } from '../../../source-agent/ledger-store.js';
import {
  AttachedAgent,
  type Job,
  ReceiverLink,
  type RemoteAction,
} from '../../../source-agent/index.js';
import { labSeams, viewsOf } from '../../support/lab-model.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { OPERATOR, openSite, type Site, SOURCE, SourceVm } from '../dr-receiver/source-double.js';
import { SETTINGS, STATE } from './agent-world.js';

export const OPERATION = guid('0b000000-0000-4000-8000-000000000001');
export const VM_NAME = 'SQL01';
const PRIMARY_LAB = '/lab';
const TARGET_LAB = '/dr-lab';
const SIZES = [12 * CELL_BYTES, 3 * CELL_BYTES + 512];

/** How a round is asked for. */
export interface RoundOptions {
  readonly compare?: 'changed' | 'full';
  readonly isLast?: boolean;
  readonly isUrgent?: boolean;
  readonly operationId?: Guid;
  readonly epoch?: bigint;
}

export interface PrimarySteps {
  readonly lab: Lab;
  readonly sync: (isLast: boolean) => Promise<number>;
  readonly start: () => Promise<void>;
  readonly commit: (point: PointFacts) => Promise<void>;
  readonly undo: () => Promise<void>;
}

export class FailbackWorld {
  readonly site: Site;
  readonly targetLab: Lab;
  readonly random = new SeededRandom(77);
  /** Of its job. */
  readonly bandwidth = new Bandwidth(systemClock, { bytesPerSecond: 0 });
  /** Bytes that answers to FailbackCells had. */
  wireBytes = 0;
  /** Called before cells are served. */
  onCells: (request: FailbackCellsRequest) => Promise<void> = () => Promise.resolve();
  /** Of which cells are told: those that a test drives by hand, or the receiver's own. */
  rounds: Map<Guid, ServingDisks> = new Map<Guid, ServingDisks>();
  since: ReferencePoint | undefined;
  files: FileSystem;
  lab: Lab;
  vm: VmSummary;
  readonly #stops: AbortController[] = [];
  readonly #running: Promise<void>[] = [];

  private constructor(site: Site, targetLab: Lab, files: FileSystem, lab: Lab, vm: VmSummary) {
    this.site = site;
    this.targetLab = targetLab;
    this.files = files;
    this.lab = lab;
    this.vm = vm;
  }

  /** Two points, and changes since; not failed over yet. */
  static async make(
    files: FileSystem = new MemoryFileSystem(),
    sizes: readonly number[] = SIZES,
  ): Promise<FailbackWorld> {
    const there = new MemoryFileSystem();
    const targetLab = await Lab.create(TARGET_LAB, labSeams(there));
    const lab = await Lab.create(PRIMARY_LAB, labSeams(files));
    await files.makeFolder(STATE);
    const site = await openSite(there, { failover: { host: targetLab } });
    const vmId = await lab.createVm({
      name: VM_NAME,
      disks: sizes.map((sizeBytes) => ({ source: { sizeBytes } })),
      adapters: [{}],
    });
    const vm = { id: vmId, name: VM_NAME, powerState: 'running' } as const;
    const world = new FailbackWorld(site, targetLab, files, lab, vm);
    await lab.startVm(vmId);
    for (const cell of [0, 1, 5]) await world.guestWrites(0, cell);
    await world.guestWrites(1, 3, 512);
    await world.cycle();
    for (const cell of [1, 2]) await world.guestWrites(0, cell);
    await world.cycle();
    return world;
  }

  /** Failed over as planned, with the agent's help; the VM has written where it serves. */
  static async planned(files?: FileSystem): Promise<FailbackWorld> {
    const world = await FailbackWorld.make(files);
    await world.guestWrites(0, 6);
    await world.attach(['shutdown', 'start', 'failback']);
    await world.operate('planned');
    // the rounds are driven by hand from here on, so its record does not know what the primary does
    world.site.receiver.sources.onClaim = undefined;
    for (const cell of [2, 9]) await world.servingWrites(0, cell);
    await world.servingWrites(1, 0);
    return world;
  }

  /** Failed over as planned, with the receiver's own operations to bring it home. */
  static async driven(): Promise<FailbackWorld> {
    const world = await FailbackWorld.make();
    await world.attach(['shutdown', 'start', 'failback']);
    world.rounds = world.site.receiver.servingRounds;
    await world.operate('planned', { boot_timeout: '1' });
    await world.servingWrites(0, 2);
    return world;
  }

  async guestWrites(disk: number, cell: number, lengthBytes = CELL_BYTES): Promise<void> {
    const bytes = this.random.bytes(lengthBytes);
    await this.lab.guestWrite(this.vm.id, disk, cell * CELL_BYTES, bytes);
  }

  async servingWrites(disk: number, cell: number): Promise<void> {
    const { id } = await this.targetLab.findVm(VM_NAME);
    await this.targetLab.guestWrite(id, disk, cell * CELL_BYTES, this.random.bytes(CELL_BYTES));
  }

  async servingViews(): Promise<Buffer[]> {
    return viewsOf(this.targetLab, (await this.targetLab.findVm(VM_NAME)).id);
  }

  views(): Promise<Buffer[]> {
    return viewsOf(this.lab, this.vm.id);
  }

  async desk(): Promise<VmDesk> {
    return defined(await this.site.receiver.desk(this.vm.id), 'the VM is known');
  }

  async epoch(): Promise<bigint> {
    return (await this.desk()).vm.protection.epoch;
  }

  job(remoteActions: readonly RemoteAction[] = []): Job {
    return {
      name: 'push',
      hypervisor: this.lab,
      link: this.link(),
      bandwidth: this.bandwidth,
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

  get siteClient(): ServiceClient<SiteService> {
    const handlers: Handlers<SiteService> = {
      ...siteHandlers(this.site.receiver),
      failbackCells: (request) => this.#counted(request),
    };
    return connectDirectly(siteService, handlers, SOURCE);
  }

  async *#counted(request: FailbackCellsRequest): AsyncGenerator<FailbackCellsResponse> {
    await this.onCells(request);
    for await (const answer of failbackCells(this.rounds, request)) {
      this.wireBytes += FailbackCellsResponse.encode(answer).finish().length;
      yield answer;
    }
  }

  link(): ReceiverLink {
    const { receiver } = this.site;
    return new ReceiverLink(() =>
      Promise.resolve({
        client: connectDirectly(replicationService, replicationHandlers(receiver), SOURCE),
        site: this.siteClient,
        close: () => Promise.resolve(),
      }),
    );
  }

  async cycle(): Promise<CycleResult> {
    const { hypervisor, link, bandwidth, stateFolder, cycle } = this.job();
    const { signal } = new AbortController();
    const seams = { hypervisor, link, fs: this.files, clock: systemClock, random: this.random };
    const [vm = this.vm] = await this.lab.listVms();
    return runCycle(vm, cycle, { ...seams, log: silentLog, bandwidth, stateFolder, signal });
  }

  async attach(
    remoteActions: readonly RemoteAction[],
    { isAtCommand = false } = {},
  ): Promise<() => Promise<void>> {
    const job = this.job(remoteActions);
    const stop = new AbortController();
    const { files: fs, random } = this;
    const agent = new AttachedAgent(
      { link: job.link, jobs: [job], isAtCommand },
      { fs, clock: systemClock, random, log: silentLog, signal: stop.signal },
    );
    const running = agent.run();
    this.#stops.push(stop);
    this.#running.push(running);
    await agent.attached;
    return async () => {
      stop.abort();
      await running;
    };
  }

  /** The agent that answers for the VM. */
  get source(): SourceSite {
    const found = this.site.receiver.sources.find(this.vm.id, SOURCE.principal);
    return defined(found, 'an agent is attached');
  }

  async order(options: RoundOptions = {}): Promise<SourceOrder> {
    const { operationId = OPERATION, epoch = await this.epoch() } = options;
    return { operationId, epoch };
  }

  /** One command of the operator, confirmed. */
  async operate(
    command: string,
    parameters: Readonly<Record<string, string>> = {},
  ): Promise<string | undefined> {
    const control = this.site.control(OPERATOR);
    const ask = { vm: VM_NAME, command, parameters, isPlan: true, confirmedHash: '' };
    let confirmedHash = '';
    for await (const { step } of control.operate(ask)) {
      if (step?.$case === 'plan') confirmedHash = step.value.hash;
    }
    for await (const { step } of control.operate({ ...ask, isPlan: false, confirmedHash })) {
      if (step?.$case === 'done') return step.value.state;
    }
    return undefined;
  }

  /** What a command would do. */
  async planOf(command: string): Promise<OperationPlan | undefined> {
    const ask = { vm: VM_NAME, command, parameters: {}, isPlan: true, confirmedHash: '' };
    for await (const { step } of this.site.control(OPERATOR).operate(ask)) {
      if (step?.$case === 'plan') return step.value;
    }
    return undefined;
  }

  /** The serving VM goes off, as for the last round. */
  async stopServing(): Promise<void> {
    await this.targetLab.turnOffVm((await this.targetLab.findVm(VM_NAME)).id);
  }

  /** Freezes the serving VM and lets `use` work with the round; one that fails is discarded. */
  async inRound<T>(use: (roundId: Guid) => Promise<T>): Promise<T> {
    const roundId = randomGuid(this.random);
    const { vm } = await this.desk();
    const instance = defined(vm.protection.failover.instance, 'the VM serves');
    const round = await ServingDisks.freeze({
      vm,
      instance,
      host: this.targetLab,
      seams: this.site.receiver.seams,
      materialisedPath: (diskId) => {
        const disk = instance.disks.find((each) => each.diskId === diskId);
        return instanceDiskPaths(vm.layout, defined(disk, 'the disk serves')).materialised;
      },
      since: this.since,
    });
    this.rounds.set(roundId, round);
    try {
      const result = await use(roundId);
      this.since = await round.release();
      return result;
    } catch (error) {
      await round.discard();
      throw error;
    } finally {
      this.rounds.delete(roundId);
    }
  }

  async points(): Promise<{ readonly pointId: Guid; readonly headPointId: Guid }> {
    const { protection } = (await this.desk()).vm;
    const { pointId } = defined(protection.failover.instance, 'the VM serves');
    return { pointId, headPointId: defined(protection.head, 'there are points').pointId };
  }

  /** One round by the attached agent; returns the cells that came. */
  async sync(options: RoundOptions = {}): Promise<number> {
    const { compare = 'changed', isLast = false, isUrgent = false } = options;
    const round = { ...(await this.points()), compare, isLast, isUrgent };
    const order = await this.order(options);
    return this.inRound((roundId) =>
      this.source.failbackSync(this.vm.id, order, { ...round, roundId }),
    );
  }

  /** The agent's own steps on another volume that holds the primary, without an attachment. */
  async stepsOn(fs: FileSystem): Promise<PrimarySteps> {
    const hypervisor = await Lab.open(PRIMARY_LAB, labSeams(fs));
    const epoch = (await this.epoch()) + 1n;
    const { storeId } = this.site.receiver.store;
    const of = { vm: this.vm, operationId: OPERATION, epoch, storeId };
    const { headPointId } = await this.points();
    const seams = {
      ...{ fs, clock: systemClock, random: this.random, log: silentLog, stateFolder: STATE },
      signal: new AbortController().signal,
      hypervisor,
      client: this.siteClient,
      onProgress: () => undefined,
      requireAllowed: () => undefined,
    };
    return {
      lab: hypervisor,
      sync: (isLast) => {
        const [roundId = OPERATION] = this.rounds.keys();
        return syncBack(of, { headPointId, roundId, compare: 'changed', isLast }, seams);
      },
      start: () => startBack(of, seams),
      commit: (point) => commitBack(of, OPERATION, point, seams),
      undo: () => undoBack(of, { failbackId: OPERATION, dropsWrites: true }, seams),
    };
  }

  /** F3: the primary is the active site, as the receiver's record would say. Returns the epoch. */
  async makeActive(): Promise<bigint> {
    const epoch = (await this.epoch()) + 1n;
    const order = { operationId: OPERATION, epoch };
    const word = { ...order, isSourceActive: true, isRetired: false };
    await this.source.tellEpoch(this.vm.id, word);
    return epoch;
  }

  /**
   * What F6 leaves at the receiver: the primary is active under the epoch that it was told, and the newest
   * point is `views`.
   */
  async recordPoint(views: readonly Buffer[]): Promise<PointFacts> {
    await this.detach();
    await this.operate('undo');
    const { vm } = await this.desk();
    const head = defined(vm.protection.head, 'there are points');
    const double = Object.assign(new SourceVm(1, [], VM_NAME), { vmId: this.vm.id });
    for (const [index, { diskId, generation }] of head.disks.entries()) {
      double.disks.push({ diskId, generation, bytes: views[index] ?? Buffer.alloc(0) });
    }
    const cells = views.map(({ length }) => [...Array(cellCount(length)).keys()]);
    const plan = double.plan(9, head.pointId, cells, { epoch: vm.protection.epoch });
    await double.replicate(this.site, plan);
    return { pointId: plan.pointId, consistentAtMs: 1_760_000_000_000 };
  }

  /** Protective files beside the disks of the primary. */
  async filesOfFailback(fs = this.files): Promise<string[]> {
    const found: string[] = [];
    const look = async (folder: string): Promise<void> => {
      for (const name of await fs.list(folder)) {
        const file = join(folder, name);
        if (name.endsWith('.failback.vhdx')) found.push(file);
        const status = await fs.status(file);
        if (status?.kind === 'folder') await look(file);
      }
    };
    await look(PRIMARY_LAB);
    return found;
  }

  /** Empty when there is none. */
  async ledgerText(): Promise<string> {
    const file = join(STATE, `${this.vm.id}.json`);
    if ((await this.files.status(file)) === undefined) return '';
    const opened = await this.files.open(file, { mode: 'read', lock: 'none' });
    const bytes = Buffer.alloc(await opened.size());
    await opened.read(0, bytes);
    await opened.close();
    return bytes.toString();
  }

  async ledger(fs = this.files): Promise<Ledger> {
    const seams = { fs, random: this.random, now: () => 0 };
    return defined(await LedgerStore.look(STATE, this.vm.id, seams), 'there is a ledger');
  }

  /** What another store said, with as much in its sets as this one's. */
  async tellOfStore(
    storeId: Guid,
    { epoch, isSourceActive }: { readonly epoch: bigint; readonly isSourceActive: boolean },
  ): Promise<void> {
    const seams = { fs: this.files, random: this.random, now: () => 0 };
    const { store, ledger } = await LedgerStore.open(STATE, this.vm.id, VM_NAME, seams);
    const [ours] = ledger.chains.values();
    const standing = {
      activeSite: isSourceActive ? 'source' : 'target',
      isRetired: false,
    } as const;
    const chain = { ...defined(ours, 'there is a chain'), key: chainKey(storeId), epoch, standing };
    await store.save(withChain(ledger, chain));
  }

  /** The store said that the VM runs at its site for good. */
  async retire(): Promise<void> {
    const seams = { fs: this.files, random: this.random, now: () => 0 };
    const { store, ledger } = await LedgerStore.open(STATE, this.vm.id, VM_NAME, seams);
    const [ours] = ledger.chains.values();
    const standing = { activeSite: 'target', isRetired: true } as const;
    await store.save(withChain(ledger, { ...defined(ours, 'there is a chain'), standing }));
  }

  async stage(fs = this.files): Promise<string | undefined> {
    const file = new ReturnFile(STATE, this.vm.id, { fs, random: this.random });
    return (await file.read())?.stage;
  }

  /** The record of the failback says something else. */
  async changeRecord(change: Partial<ReturnRecord>): Promise<void> {
    const file = new ReturnFile(STATE, this.vm.id, { fs: this.files, random: this.random });
    await file.write({ ...defined(await file.read(), 'a failback is open'), ...change });
  }

  /** All agents are gone. */
  async detach(): Promise<void> {
    for (const stop of this.#stops) stop.abort();
    await Promise.all(this.#running);
  }

  async close(): Promise<void> {
    await this.detach();
    await this.site.receiver.close();
  }
}
