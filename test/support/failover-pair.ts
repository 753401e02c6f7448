// Both sites of a failover in one process: a lab with its agent at the primary, a receiver with a lab at the
// DR site, each on a volume of its own, joined by the control connection. A site whose power is gone is
// heard no more, whatever its program still says.

import { type Guid, guidToWire } from '../../shared/bytes/index.js';
import {
  type AttachRequest,
  type AttachResponse,
  connectDirectly,
  FailbackMode,
  replicationService,
  siteService,
} from '../../shared/channel/index.js';
import { systemClock } from '../../shared/clock.js';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import { silentLog } from '../../shared/log.js';
import { RETURN_CYCLE } from '../../dr-receiver/failover/machine.js';
import type { VmDesk } from '../../dr-receiver/ingest/vm-desk.js';
import { replicationHandlers, siteHandlers } from '../../dr-receiver/index.js';
import type { Job } from '../../source-agent/agent.js';
import { Bandwidth } from '../../source-agent/bandwidth.js';
import { runCycle } from '../../source-agent/cycle.js';
import { AttachedAgent, ReceiverLink } from '../../source-agent/index.js';
import { operateAt, type OperateRun } from '../unit/dr-receiver/failover/failover-double.js';
import { openSite, type Site, SOURCE } from '../unit/dr-receiver/source-double.js';
import { SETTINGS } from '../unit/source-agent/agent-world.js';
import type { FakeClock } from './fake-clock.js';
import { labSeams, viewsOf } from './lab-model.js';
import { MemoryFileSystem } from './memory-file.js';
import { SeededRandom } from './seeded-random.js';

export const PRIMARY_LAB = '/lab';
export const PAIR_TARGET_LAB = '/dr-lab';
export const PAIR_STATE = '/state';
export const PAIR_VM = 'VM1';
/** A VM at either site that nobody protects. */
export const BYSTANDER = 'bystander';
const SIZES = [12 * CELL_BYTES, 3 * CELL_BYTES + 512];

export interface GuestWrite {
  readonly disk: number;
  readonly at: number;
  readonly bytes: Buffer;
  /** The guest says that the range is zero; no bytes are written. */
  readonly isZeroed: boolean;
}

/** What a guest writes, of which some is zeros; the same seed writes the same. */
export function guestWritesOf(seed: number, count: number): GuestWrite[] {
  const random = new SeededRandom(seed);
  return Array.from({ length: count }, () => {
    const disk = random.int(SIZES.length);
    const sectors = Math.floor((SIZES[disk] ?? 0) / 512);
    const length = 1 + random.int(12);
    const at = random.int(sectors - length) * 512;
    const isEmpty = random.chance(0.3);
    const bytes = isEmpty ? Buffer.alloc(length * 512) : random.bytes(length * 512);
    return { disk, at, bytes, isZeroed: isEmpty && random.chance(0.5) };
  });
}

/** The guest's view at each point, taken when it was replicated. */
export type History = Map<Guid, readonly Buffer[]>;

export interface PairVolumes {
  readonly primary: FileSystem;
  readonly dr: FileSystem;
}

export interface PairOptions extends PairVolumes {
  readonly history: History;
  /** What the VM at the DR site saw when it was shut down for a failback that is not committed yet. */
  readonly returned?: readonly Buffer[] | undefined;
  readonly clock?: FakeClock;
  readonly seed?: number;
  /** Its power is gone. */
  readonly isPrimaryDead?: () => boolean;
  readonly isDrDead?: () => boolean;
  /** Default: yes. */
  readonly isAttached?: boolean;
}

/** Two labs, and a VM that runs at the primary and has been replicated `count` times. */
export async function pairVolumes(count = 3): Promise<{
  readonly primary: MemoryFileSystem;
  readonly dr: MemoryFileSystem;
  readonly history: History;
}> {
  const primary = new MemoryFileSystem();
  const dr = new MemoryFileSystem();
  const history: History = new Map();
  await primary.makeFolder(PAIR_STATE);
  for (const [fs, folder] of [
    [primary, PRIMARY_LAB],
    [dr, PAIR_TARGET_LAB],
  ] as const) {
    const lab = await Lab.create(folder, labSeams(fs));
    const bystander = await lab.createVm({ name: BYSTANDER, disks: [diskOf(CELL_BYTES)] });
    await lab.guestWrite(bystander, 0, 512, Buffer.alloc(512, 0xb5));
    if (fs === primary) {
      const vmId = await lab.createVm({ name: PAIR_VM, disks: SIZES.map(diskOf) });
      await lab.startVm(vmId);
    }
    await lab.close();
  }
  const pair = await FailoverPair.open({ primary, dr, history, isAttached: false });
  for (let n = 1; n <= count; n++) {
    await pair.guestWrites(n, 3);
    await pair.cycle();
  }
  await pair.close();
  return { primary, dr, history };
}

function diskOf(sizeBytes: number): {
  readonly source: { readonly sizeBytes: number };
  readonly blockSizeBytes: number;
} {
  return { source: { sizeBytes }, blockSizeBytes: 1024 * 1024 };
}

export class FailoverPair {
  readonly site: Site;
  readonly source: Lab;
  readonly target: Lab;
  readonly vmId: Guid;
  readonly options: PairOptions;
  /** The comparison at the end of a failback does not come over the line. */
  isLastRoundBroken = false;
  #returned: readonly Buffer[] | undefined;
  #agent: { readonly stop: AbortController; readonly ended: Promise<void> } | undefined;

  private constructor(
    options: PairOptions,
    parts: { site: Site; source: Lab; target: Lab; vmId: Guid },
  ) {
    this.options = options;
    this.#returned = options.returned;
    this.site = parts.site;
    this.source = parts.source;
    this.target = parts.target;
    this.vmId = parts.vmId;
  }

  static async open(options: PairOptions): Promise<FailoverPair> {
    const { primary, dr, clock, seed } = options;
    const source = await Lab.open(PRIMARY_LAB, labSeams(primary));
    const target = await Lab.open(PAIR_TARGET_LAB, labSeams(dr));
    const site = await openSite(dr, {
      failover: { host: target },
      ...(clock === undefined ? {} : { clock }),
      ...(seed === undefined ? {} : { seed }),
    });
    const { id } = await source.findVm(PAIR_VM);
    const pair = new FailoverPair(options, { site, source, target, vmId: id });
    if (options.isAttached !== false) await pair.attach();
    return pair;
  }

  get history(): History {
    return this.options.history;
  }

  async desk(): Promise<VmDesk> {
    const desk = await this.site.receiver.desk(this.vmId);
    if (desk === undefined) throw new Error('the VM has a protection');
    return desk;
  }

  async phase(): Promise<string> {
    return (await this.desk()).vm.protection.failover.phase;
  }

  async stateName(): Promise<string> {
    const desk = await this.desk();
    return (await this.site.receiver.failovers.standingOf(desk)).state;
  }

  get isAttached(): boolean {
    return this.#agent !== undefined;
  }

  /** The agent of the primary comes. Settles when the receiver has taken its VMs. */
  async attach(): Promise<void> {
    if (this.#agent !== undefined) return;
    const stop = new AbortController();
    const job = this.#job();
    const agent = new AttachedAgent(
      { link: job.link, jobs: [job] },
      { ...this.#agentSeams(), signal: stop.signal },
    );
    this.#agent = { stop, ended: agent.run() };
    await agent.attached;
  }

  /** It goes; orders under way end by themselves. */
  async detach(): Promise<void> {
    const agent = this.#agent;
    this.#agent = undefined;
    agent?.stop.abort();
    await agent?.ended;
  }

  /** @throws what a cycle throws */
  async cycle(): Promise<void> {
    const { id, name, powerState } = await this.source.findVm(PAIR_VM);
    const { hypervisor, link, bandwidth, stateFolder, cycle } = this.#job();
    const { signal } = new AbortController();
    const seams = { ...this.#agentSeams(), hypervisor, link, bandwidth, stateFolder, signal };
    await runCycle({ id, name, powerState }, cycle, seams);
    await this.learnPoints();
  }

  /**
   * Points that came since the last time show the guest as it is at the primary now; the point of a failback
   * as it was when it was shut down at the DR site.
   */
  async learnPoints(): Promise<void> {
    const desk = await this.desk();
    for (const { pointId, cycleKind } of desk.vm.protection.listed) {
      if (this.history.has(pointId)) continue;
      const returned = cycleKind === RETURN_CYCLE ? this.#returned : undefined;
      this.history.set(pointId, returned ?? (await this.sourceViews()));
    }
  }

  /** One command, confirmed. */
  async operate(
    command: string,
    parameters: Readonly<Record<string, string>> = {},
  ): Promise<OperateRun> {
    const { phase, operation } = (await this.desk()).vm.protection.failover;
    // of a commit that goes on, the VM may be gone
    const isProvisional = phase === 'failed-back' && operation === undefined;
    if (isProvisional) this.#returned = await this.targetViews();
    try {
      return await operateAt(this.site, command, parameters);
    } finally {
      if (this.options.isDrDead?.() !== true && this.options.isPrimaryDead?.() !== true) {
        await this.learnPoints();
      }
    }
  }

  sourceViews(): Promise<Buffer[]> {
    return viewsOf(this.source, this.vmId);
  }

  /** What the VM of a failover sees. */
  async targetViews(): Promise<Buffer[]> {
    const { id } = await this.target.findVm(PAIR_VM);
    return viewsOf(this.target, id);
  }

  /** The guest at the primary writes. */
  guestWrites(seed: number, count: number): Promise<void> {
    return this.#writes(this.source, this.vmId, seed, count);
  }

  /** The guest at the DR site writes. */
  async targetWrites(seed: number, count: number): Promise<void> {
    const { id } = await this.target.findVm(PAIR_VM);
    await this.#writes(this.target, id, seed, count);
  }

  async #writes(lab: Lab, vmId: Guid, seed: number, count: number): Promise<void> {
    for (const { disk, at, bytes, isZeroed } of guestWritesOf(seed, count)) {
      if (isZeroed) await lab.guestZero(vmId, disk, at, bytes.length);
      else await lab.guestWrite(vmId, disk, at, bytes);
    }
  }

  #agentSeams(): {
    fs: FileSystem;
    clock: typeof systemClock;
    random: SeededRandom;
    log: typeof silentLog;
  } {
    const random = new SeededRandom((this.options.seed ?? 1) * 7919 + ++sessions);
    return { fs: this.options.primary, clock: systemClock, random, log: silentLog };
  }

  #job(): Job {
    return {
      name: 'push',
      hypervisor: this.source,
      link: this.#link(),
      bandwidth: new Bandwidth(systemClock, { bytesPerSecond: 0 }),
      stateFolder: PAIR_STATE,
      vmPattern: PAIR_VM,
      exclude: [],
      takesRunning: true,
      cycle: { ...SETTINGS, maxRestorePoints: POINTS_MAX },
      cycleCount: 1,
      intervalMs: 300_000,
      isAbortingOnError: false,
      remoteActions: ['shutdown', 'start', 'failback'],
    };
  }

  #link(): ReceiverLink {
    const { receiver } = this.site;
    const site = connectDirectly(siteService, siteHandlers(receiver), SOURCE);
    const attach: typeof site.attach = (requests, options) =>
      this.#heard<AttachResponse>(site.attach(this.#heard<AttachRequest>(requests), options));
    const failbackCells: typeof site.failbackCells = (request, options) => {
      const isLast = request.mode === FailbackMode.FAILBACK_MODE_ROOT;
      if (isLast && this.isLastRoundBroken) throw new DrError('E_CHANNEL', 'the line is gone');
      return site.failbackCells(request, options);
    };
    return new ReceiverLink(() =>
      Promise.resolve({
        client: connectDirectly(replicationService, replicationHandlers(receiver), SOURCE),
        site: { ...site, attach, failbackCells },
        close: () => Promise.resolve(),
      }),
    );
  }

  /** Ends when the power of either site is gone. */
  async *#heard<T>(messages: AsyncIterable<T>): AsyncGenerator<T> {
    const { isPrimaryDead = alive, isDrDead = alive } = this.options;
    for await (const message of messages) {
      if (isPrimaryDead() || isDrDead()) return;
      yield message;
    }
  }

  get wireId(): Buffer {
    return guidToWire(this.vmId);
  }

  /** Lets what the journal says is under way come to its end; how it ended says the state. */
  async settle(): Promise<void> {
    const { failovers } = this.site.receiver;
    await failovers.resumeAll();
    await failovers.runOf(await this.desk())?.ended();
    await failovers.tick();
  }

  async close(): Promise<void> {
    await this.detach();
    await this.site.receiver.close();
    await this.source.close();
    await this.target.close();
  }
}

/** Enough that no point is forgotten before a test has compared it. */
const POINTS_MAX = 8;
const alive = (): boolean => false;
let sessions = 0;
