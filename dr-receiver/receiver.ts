// The receiver: a store, and a desk for each of its VMs. Who may do what is decided here, once, for
// every call (channel.md § 5); what the calls do is told in ingest/ and store/.

import { defined } from '../shared/assert.js';
import { actorOf } from './actor.js';
import { AttachedSources } from './attach/attached-sources.js';
import type { Guid } from '../shared/bytes/index.js';
import type { Caller, KeyRing } from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import type { Log } from '../shared/log.js';
import { matchesPattern } from '../shared/params/index.js';
import type { ServingDisks } from './failover/failback/serving-disks.js';
import { connectTcp, runScript } from '../shared/probe/index.js';
import { Failovers } from './failover/failovers.js';
import { planAdapters } from './failover/plan-adapters.js';
import type { TargetHost } from './failover/ports.js';
import { requireHost } from './failover/site.js';
import type { IngestSeams } from './ingest/incoming-cycle.js';
import type { CycleRequest } from './ingest/open-request.js';
import { type DeskOptions, type OpenOutcome, VmDesk } from './ingest/vm-desk.js';
import { Maintenance } from './maintenance/maintenance.js';
import type { ReclaimLimits } from './reclaim/plan.js';
import type { CommitAnswer } from './store/protection.js';
import type { Actor } from './store/records.js';
import { DEFAULT_RETENTION, type RetentionPolicy } from './store/retention.js';
import { Store, type StoreSeams, type StoreUse } from './store/store.js';
import type { VmStore } from './store/vm-store.js';

export interface ReceiverPolicy {
  readonly retention: RetentionPolicy;
  /** Of one principal. */
  readonly maxProtections: number;
  readonly maxStoredBytes: number;
}

export const DEFAULT_POLICY: ReceiverPolicy = {
  retention: DEFAULT_RETENTION,
  maxProtections: 1000,
  maxStoredBytes: 2 ** 50,
};

/** What a failover at this site works with, beside the store. */
export interface FailoverOptions {
  /** The hypervisor of this site; it is closed with the receiver. */
  readonly host: TargetHost;
  /** Where the scripts of drills stand. Default: there are none. */
  readonly scriptFolder?: string | undefined;
}

export interface ReceiverOptions extends IngestSeams, StoreSeams {
  readonly storeFolder: string;
  /** Default: write. With read, all that changes something is refused. */
  readonly use?: StoreUse | undefined;
  readonly policy?: ReceiverPolicy | undefined;
  /** Where seeds may be read from. Default: nowhere. */
  readonly seedAccess?: SeedAccess | undefined;
  /** Default: no VM can come up here. */
  readonly failover?: FailoverOptions | undefined;
  /** For reports. */
  readonly programVersion?: string | undefined;
  /** When space is reclaimed. Default: when it is worth its cost. */
  readonly reclaim?: ReclaimLimits | undefined;
  readonly log: Log;
}

export interface SeedAccess {
  /** Undefined: anywhere, for whoever can open the store's own files as well. */
  readonly folder: string | undefined;
  /** Keys that media may be sealed with, and whose principals may own a seeded VM. */
  readonly keys: KeyRing | undefined;
}

/** Who a VM is bound to when it is seen for the first time, and what it is bound by. */
type Binder = Pick<Caller, 'principal' | 'vmPattern' | 'role'>;
type NewVm = Pick<CycleRequest, 'vmId' | 'vmName' | 'epoch' | 'parentPointId'>;

/** Stored bytes are counted again after so long: in between they are at most more than they were. */
const RECOUNT_AFTER_MS = 1000;
const CLOCK_JUMP_MS = 60 * 60 * 1000;

export class Receiver {
  readonly store: Store;
  readonly seams: IngestSeams;
  readonly policy: ReceiverPolicy;
  readonly seedAccess: SeedAccess | undefined;
  readonly log: Log;
  /** Does nothing by itself before start(). */
  readonly maintenance: Maintenance;
  /** The agents of primary sites that are attached. */
  readonly sources = new AttachedSources();
  readonly failovers: Failovers;
  /** Serving VMs that are frozen for a failback, by operation: whoever orders a round puts it here. */
  readonly servingRounds = new Map<Guid, ServingDisks>();
  readonly #desks = new Map<Guid, VmDesk>();
  readonly #startedAt: { readonly wallMs: number; readonly monotonicMs: number };
  /** By owner: what was stored when it was counted, and what came since then. */
  readonly #usedBytes = new Map<string, number>();
  #usedAtMs = Number.NEGATIVE_INFINITY;
  #hasClockJumped = false;
  #protecting: Promise<unknown> = Promise.resolve();

  private constructor(store: Store, options: ReceiverOptions) {
    const { fs, clock, random, settleBytes, log, policy = DEFAULT_POLICY } = options;
    this.store = store;
    this.seams = { fs, clock, random, ...(settleBytes === undefined ? {} : { settleBytes }) };
    this.policy = policy;
    this.seedAccess = options.seedAccess;
    this.log = log;
    this.#startedAt = { wallMs: clock.now(), monotonicMs: clock.monotonic() };
    const { failover, programVersion = '' } = options;
    this.failovers = new Failovers(
      {
        ...{ host: failover?.host, scriptFolder: failover?.scriptFolder, programVersion },
        ...{ sources: this.sources, seams: this.seams, layout: store.layout },
        rounds: this.servingRounds,
        ...{ storeId: store.storeId, connect: connectTcp, runScript },
        log: log.child({ component: 'failover' }),
        planNetwork: (definition, wish) =>
          planAdapters(requireHost({ host: failover?.host }), definition, wish),
      },
      this,
    );
    this.sources.onClaim = (vmId) => {
      void this.failovers.onClaim(vmId).catch(() => undefined);
    };
    store.onOpened = (vm) => {
      this.#addDesk(vm);
    };
    this.maintenance = new Maintenance({
      desks: () => this.allDesks(),
      seams: this.seams,
      log: log.child({ component: 'maintenance' }),
      limits: options.reclaim,
    });
  }

  /**
   * Ready when the store is open, whatever it holds.
   * @throws DrError E_LOCKED, E_FILE_VERSION, E_FILE_DAMAGED, E_NOT_FOUND, E_IO
   */
  static async open(options: ReceiverOptions): Promise<Receiver> {
    const { storeFolder, use = 'write', fs, clock, random, rewriteAboveBytes } = options;
    const seams = { fs, clock, random, rewriteAboveBytes };
    const store = await Store.open(storeFolder, use, seams);
    for (const file of store.mended) options.log.warn('store.description-mended', { file });
    return new Receiver(store, options);
  }

  /** Also in place of one whose files could not be read. */
  #addDesk(vm: VmStore): void {
    if (vm.halt !== undefined) {
      this.log.error('protection.halted', { vmId: vm.vmId, reason: vm.halt.message });
    }
    const options: DeskOptions = {
      seams: this.seams,
      policy: this.policy.retention,
      isClockTrusted: () => this.isClockTrusted(),
      requireRoom: (owner, moreBytes) => {
        this.#requireRoom(owner, moreBytes);
      },
    };
    this.#desks.set(vm.vmId, new VmDesk(vm, options));
  }

  /** Once the wall clock went another way than the monotonic one, it is not trusted any more. */
  isClockTrusted(): boolean {
    const { clock } = this.seams;
    const wall = clock.now() - this.#startedAt.wallMs;
    const monotonic = clock.monotonic() - this.#startedAt.monotonicMs;
    if (Math.abs(wall - monotonic) > CLOCK_JUMP_MS) this.#hasClockJumped = true;
    return !this.#hasClockJumped;
  }

  /** Asked for each message: the sum of all desks is made anew now and then only. */
  #requireRoom(owner: string, moreBytes: number): void {
    const { maxStoredBytes } = this.policy;
    const nowMs = this.seams.clock.monotonic();
    if (nowMs - this.#usedAtMs >= RECOUNT_AFTER_MS) this.#countUsed(nowMs);
    let used = (this.#usedBytes.get(owner) ?? 0) + moreBytes;
    if (used > maxStoredBytes) {
      // something may have been given up meanwhile
      this.#countUsed(nowMs);
      used = (this.#usedBytes.get(owner) ?? 0) + moreBytes;
    }
    if (used <= maxStoredBytes) {
      this.#usedBytes.set(owner, used);
      return;
    }
    throw new DrError('E_CAPACITY', `${owner} may store ${maxStoredBytes} bytes here, no more`, {
      context: { principal: owner, limitBytes: maxStoredBytes },
      done: 'the cycle was stopped; no point was removed to make room',
      hint: 'Raise the quota of the receiver, or forget a protection.',
    });
  }

  #countUsed(nowMs: number): void {
    this.#usedBytes.clear();
    this.#usedAtMs = nowMs;
    for (const { vm, stagedBytes } of this.#desks.values()) {
      const { owner, storedBytes } = vm.protection;
      this.#usedBytes.set(owner, (this.#usedBytes.get(owner) ?? 0) + storedBytes + stagedBytes);
    }
  }

  /** Of the VMs that have been opened so far. */
  get desks(): readonly VmDesk[] {
    return [...this.#desks.values()];
  }

  /** Opens all VMs of the store, but for those that cannot be read. */
  async allDesks(): Promise<readonly VmDesk[]> {
    await this.store.openRest();
    return this.desks;
  }

  /** The desk of a VM, which is opened if it is not. */
  async desk(vmId: Guid): Promise<VmDesk | undefined> {
    return (await this.store.vm(vmId)) && this.#desks.get(vmId);
  }

  /** The desk of a VM that the caller may push for; undefined when there is none, or not for him. */
  async #deskOf(vmId: Guid, caller: Binder): Promise<VmDesk | undefined> {
    const desk = await this.desk(vmId);
    if (desk === undefined || caller.role === 'operator') return desk;
    const { owner } = desk.vm.protection;
    // Nobody is known as the owner of a VM whose journal cannot be read at all: then it answers
    // E_HALTED to whoever knows its id, instead of being protected anew.
    return owner === caller.principal || owner === '' ? desk : undefined;
  }

  requireRole(caller: Caller, roles: readonly Caller['role'][]): void {
    if (roles.includes(caller.role)) return;
    throw new DrError('E_AUTH', `a key with the role ${caller.role} may not do this`, {
      hint: `Use a key with the role ${roles.join(' or ')}.`,
    });
  }

  async findDesk(vmId: Guid, caller: Caller): Promise<VmDesk | undefined> {
    this.requireRole(caller, ['source', 'operator']);
    return this.#deskOf(vmId, caller);
  }

  /** @throws DrError E_NOT_PROTECTED */
  async requireDesk(vmId: Guid, caller: Caller): Promise<VmDesk> {
    const desk = await this.findDesk(vmId, caller);
    if (desk !== undefined) return desk;
    throw new DrError('E_NOT_PROTECTED', `no VM ${vmId} is protected here for ${caller.principal}`);
  }

  async open(request: CycleRequest, caller: Caller): Promise<OpenOutcome> {
    this.requireRole(caller, ['source', 'operator']);
    const { vmId, cycleId, vmName } = request;
    // what its owner has stored already is not known before
    await this.store.openRest();
    const desk = (await this.#deskOf(vmId, caller)) ?? (await this.#protect(request, caller));
    const outcome = await desk.vm.change(() => desk.open(request, caller.principal));
    this.log
      .child({ component: 'ingest', vmId, cycleId })
      .debug('cycle.opened', { vmName, kind: request.kind, outcome: outcome.kind });
    return outcome;
  }

  /** The first Open binds the VM to its principal. One at a time. */
  #protect(request: NewVm, caller: Binder): Promise<VmDesk> {
    const result = this.#protecting.then(() => this.#protectNow(request, caller));
    this.#protecting = result.catch(() => undefined);
    return result;
  }

  async #protectNow(request: NewVm, caller: Binder): Promise<VmDesk> {
    const { vmId, vmName, epoch } = request;
    const known = await this.#deskOf(vmId, caller);
    if (known !== undefined) return known;
    const isOther = (await this.desk(vmId)) !== undefined;
    if (isOther || !matchesPattern(caller.vmPattern, vmName)) {
      throw new DrError(
        'E_NOT_PROTECTED',
        `no VM ${vmId} is protected here for ${caller.principal}`,
        {
          hint: 'Check name and key: a key admits new VMs by its pattern of names only.',
        },
      );
    }
    const owned = this.desks.filter(({ vm }) => vm.protection.owner === caller.principal).length;
    if (owned >= this.policy.maxProtections) {
      throw new DrError(
        'E_CAPACITY',
        `${caller.principal} protects ${owned} VMs here, no more fit`,
        {
          context: { principal: caller.principal, limit: this.policy.maxProtections },
          hint: 'Raise the quota of the receiver, or forget a protection.',
        },
      );
    }
    if (request.parentPointId !== undefined) {
      // nothing is known of this VM, so there is no such point; the source learns it from Describe
      throw new DrError('E_BASE_LOST', `${vmName} has no restore point here`, {
        hint: 'Describe the VM, then send it whole.',
      });
    }
    const vm = await this.store.protect({
      kind: 'protect',
      atMs: this.seams.clock.now(),
      vmId,
      vmName,
      owner: caller.principal,
      epoch: epoch.toString(),
    });
    this.log.info('protection.began', { vmId, vmName, owner: caller.principal });
    return defined(this.#desks.get(vm.vmId), 'each open VM has its desk');
  }

  /** The desk of a VM that an operator brings a seed of, bound to the principal that will push it. */
  protectFor(
    vm: Pick<NewVm, 'vmId' | 'vmName'>,
    owner: Pick<Caller, 'principal' | 'vmPattern'>,
  ): Promise<VmDesk> {
    const request = { ...vm, epoch: 0n, parentPointId: undefined };
    return this.#protect(request, { ...owner, role: 'source' });
  }

  /**
   * Gives a protection up. `check` has the last word, inside the change; durable as soon as the mark is.
   * Returns why some files are still there; they go at the next start.
   * @throws DrError of `check`, E_NOT_PROTECTED, E_IO, E_CAPACITY
   */
  async forget(desk: VmDesk, actor: Actor, check: () => void): Promise<string | undefined> {
    const { vm } = desk;
    const { vmId } = vm;
    const { vmName, owner } = vm.protection;
    await this.maintenance.leave(vm, () =>
      vm.change(async () => {
        check();
        await desk.setAside();
        await vm.forget({ vmName, owner, atMs: this.seams.clock.now(), ...actor });
      }),
    );
    this.log.info('protection.forgotten', { vmId, vmName, owner, ...actor });
    try {
      await this.store.remove(vm);
      return undefined;
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      return error.message;
    } finally {
      this.#desks.delete(vmId);
    }
  }

  async commit(
    vmId: Guid,
    cycleId: Guid,
    roots: readonly Buffer[],
    caller: Caller,
  ): Promise<CommitAnswer> {
    const desk = await this.requireDesk(vmId, caller);
    await desk.lookBack(cycleId);
    const before = desk.vm.protection.head;
    const answer = await desk.vm.change(() => desk.commit(cycleId, roots, actorOf(caller)));
    await desk.markInherited(before);
    const { vmName } = desk.vm.protection;
    this.log
      .child({ component: 'ingest', vmId, cycleId })
      .info('point.committed', { vmName, pointId: answer.pointId, warnings: answer.warnings });
    const { alarm } = desk.vm.protection.warning;
    if (alarm?.pointId === answer.pointId) {
      const { pointId, cleanPointId, reasons } = alarm;
      this.log.error('alarm.raised', { vmId, vmName, pointId, cleanPointId, reasons });
    }
    return answer;
  }

  /** Ends at a safe point: what was taken is durable, open cycles can go on later. */
  async close(): Promise<void> {
    this.sources.close();
    await this.failovers.close();
    await this.maintenance.close();
    for (const desk of this.#desks.values()) await desk.close();
    await this.store.close();
    await this.failovers.site.host?.close();
  }
}
