// One cycle of one VM into a backup job (design.md § 1 "The ledger"). The order of steps:
//
//    1 lease · leftovers removed           5 config · per disk data, manifest · rct-state last
//    2 what counted, by the job            6 ledger: sent, with checkpoint → reference point
//    3 checkpoint · changes since the        recorded, the older one destroyed
//      reference point
//    4 ledger: changes into every chain, this one in flight, fsync: before anything is read
//
// Whether the job counts is learnt at the start of a later one (ledger-jobs.ts).

import { type Guid, randomGuid } from '../shared/bytes/index.js';
import {
  CatalogNames,
  encodeRctState,
  encodeVmConfig,
  type RctDisk,
  vmFolder,
} from '../shared/catalog/index.js';
import { DrError } from '../shared/errors.js';
import type { CheckpointDisk, OwnerTag, VmSummary } from '../shared/hypervisor/index.js';
import type { Log } from '../shared/log.js';
import type { Bandwidth } from './bandwidth.js';
import {
  type LeasedCheckpoint,
  type WantedConsistency,
  waitForMerge,
  withCheckpoint,
} from './checkpoint-lease.js';
import { type CycleResult, CycleStopped, type CycleWarning, type Warn } from './cycle-result.js';
import {
  advanceReference,
  openFrozenDisk,
  openLedger,
  type StepSeams,
  underVmLease,
} from './cycle-steps.js';
import { type DirtyCells, noCells } from './dirty-cells.js';
import { orderedDisks, refuseUnsupported } from './disk-order.js';
import { type FileDisk, type FilePoint, type SendFile, sendDisk } from './file-disk.js';
import type { FileSink } from './file-sink.js';
import { absorb, begin, type Chain, type Ledger, newChain, withChain } from './ledger.js';
import {
  type Basis,
  basisOf,
  fullChainKey,
  jobChainKey,
  jobGeneration,
  type JobRequest,
  nextSeq,
  whyWholeDisk,
  withSent,
} from './ledger-jobs.js';
import type { LedgerStore } from './ledger-store.js';
import { ProgressWatch } from './progress-watch.js';
import { changesSince, geometryOf } from './tracked-changes.js';

export interface FileCycleSeams extends StepSeams {
  readonly sink: FileSink;
  readonly log: Log;
  readonly bandwidth: Bandwidth;
}

export interface FileCycleSettings {
  readonly job: JobRequest;
  readonly consistency: WantedConsistency;
  /** An operation without progress for so long is given up. */
  readonly timeoutMs: number;
  readonly overlap: 'skip' | 'wait';
  /** undefined: nobody asks how old the newest point became. */
  readonly rpoSeconds: number | undefined;
}

/**
 * Runs one cycle of `vm`, one of `all` VMs of its host. @throws CycleStopped when the signal ended it;
 * DrError of every step, and then what the cycle carried is still owed to the job
 */
export async function runFileCycle(
  vm: VmSummary,
  all: readonly VmSummary[],
  settings: FileCycleSettings,
  seams: FileCycleSeams,
): Promise<CycleResult> {
  const cycle = new FileCycle(vm, new CatalogNames(vmFolder(vm, all)), settings, seams);
  try {
    return await cycle.run();
  } catch (error) {
    if (seams.signal.aborted && !(error instanceof DrError)) throw new CycleStopped(vm.name);
    throw error;
  }
}

/** A point as it is about to be sent. */
interface Planned extends FilePoint {
  readonly basis: Basis;
  readonly disks: readonly FileDisk[];
  readonly consistentAtMs: number;
}

class FileCycle {
  readonly #vm: VmSummary;
  readonly #names: CatalogNames;
  readonly #settings: FileCycleSettings;
  readonly #seams: FileCycleSeams;
  readonly #cycleId: Guid;
  readonly #tag: OwnerTag;
  readonly #log: Log;
  readonly #watch: ProgressWatch;
  readonly #startedAt: number;
  readonly #warnings: CycleWarning[] = [];
  #bytesSent = 0;

  constructor(
    vm: VmSummary,
    names: CatalogNames,
    settings: FileCycleSettings,
    seams: FileCycleSeams,
  ) {
    const { clock, random, log } = seams;
    this.#vm = vm;
    this.#names = names;
    this.#settings = settings;
    this.#seams = seams;
    this.#cycleId = randomGuid(random);
    this.#tag = { protectionId: vm.id, operationId: this.#cycleId };
    this.#log = log.child({ component: 'agent', vmId: vm.id, cycleId: this.#cycleId });
    this.#watch = new ProgressWatch(clock, settings.timeoutMs, `the backup of ${vm.name}`);
    this.#startedAt = clock.monotonic();
  }

  run(): Promise<CycleResult> {
    const manners = { cycleId: this.#cycleId, ...this.#settings };
    return underVmLease(this.#vm, manners, this.#seams, this.#log, () => this.#underLease());
  }

  async #underLease(): Promise<CycleResult> {
    const { hypervisor, signal } = this.#seams;
    const { consistency, timeoutMs } = this.#settings;
    const opened = await openLedger(this.#vm, this.#seams, this.#log, this.#warn);
    refuseUnsupported(await hypervisor.describeVm(this.#vm.id));
    signal.throwIfAborted();
    await waitForMerge(hypervisor, this.#vm.id, timeoutMs, this.#seams);
    const options = { vmId: this.#vm.id, tag: this.#tag, consistency, timeoutMs };
    return withCheckpoint(hypervisor, options, this.#log, (lease) =>
      this.#withCheckpoint(lease, opened.store, opened.ledger),
    );
  }

  async #withCheckpoint(
    lease: LeasedCheckpoint,
    store: LedgerStore,
    found: Ledger,
  ): Promise<CycleResult> {
    const { hypervisor, signal, sink } = this.#seams;
    const { checkpoint, loweredBecause } = lease;
    if (loweredBecause !== undefined) {
      this.#warn('W_CRASH_CONSISTENT', `the point is crash-consistent only: ${loweredBecause}`);
    }
    const definition = await hypervisor.describeVm(this.#vm.id);
    const disks = orderedDisks(definition, checkpoint.disks);
    const frozen = { hypervisor, vmId: this.#vm.id, checkpointId: checkpoint.id };
    const changes = await changesSince(frozen, disks, found.reference);
    const basis = absorbed(found, this.#basis(found), changes);
    const point = this.#plan(basis.basis, disks, checkpoint.createdAtMs);
    signal.throwIfAborted();
    let ledger = this.#begun(basis.ledger, point);
    await store.save(ledger);

    await this.#send(this.#names.config, encodeVmConfig(definition), point);
    const sent: RctDisk[] = [];
    for (const disk of point.disks) sent.push(await this.#sendDisk(lease, disk, point));
    const { name: job, level } = this.#settings.job;
    const state = encodeRctState({
      vmId: this.#vm.id,
      vmName: this.#vm.name,
      pointId: point.pointId,
      parentPointId: sent.some(({ kind }) => kind === 'delta') ? point.parentPointId : undefined,
      job,
      level,
      consistency: checkpoint.consistency,
      consistentAtMs: point.consistentAtMs,
      seq: point.seq,
      disks: sent,
    });
    await this.#send(this.#names.state, state, point);

    const record = (before: Ledger): Ledger => this.#recorded(before, point);
    const advance = { lease, ledger, disks, store, record };
    ledger = await advanceReference(this.#vm.id, advance, hypervisor, this.#warn);
    const last = record(ledger);
    if (last !== ledger) await store.save(last);
    await sink.pluginObject?.({
      path: this.#names.state,
      name: this.#vm.name,
      category: 'Virtual Machine',
      type: 'Hyper-V',
      uuid: this.#vm.id,
      sizeBytes: this.#bytesSent,
      status: this.#warnings.length === 0 ? 'OK' : 'WARNING',
    });
    return this.#result(point, lease);
  }

  #basis({ chains }: Ledger): Basis {
    const { job: request } = this.#settings;
    const chainOf = (key: string): Chain => chains.get(key) ?? newChain(key, 0n);
    const job = chainOf(jobChainKey(request.name));
    const full = chainOf(fullChainKey(request.name));
    return basisOf({ job, full }, request);
  }

  #plan(basis: Basis, disks: readonly CheckpointDisk[], createdAtMs: number): Planned {
    const consistentAtMs = Math.max(0, Math.round(createdAtMs));
    return {
      basis,
      vmId: this.#vm.id,
      pointId: randomGuid(this.#seams.random),
      parentPointId: basis.parent?.pointId,
      seq: nextSeq(basis, consistentAtMs),
      names: this.#names,
      consistentAtMs,
      disks: disks.map((disk) => planDisk(disk, basis)),
    };
  }

  /** In flight in the job's chain; of a Full in that of the Full as well. */
  #begun(ledger: Ledger, { basis, disks, pointId, seq, consistentAtMs }: Planned): Ledger {
    const { name, level } = this.#settings.job;
    const diskIds = disks.map(({ diskId }) => diskId);
    const job = { name, seq, isSent: false, diskIds };
    const cycle = { cycleId: this.#cycleId, pointId, consistentAtMs, job };
    const flying = (chain: Chain): Chain => {
      const sent = disks.map(({ diskId, geometry, generation }) => {
        // a set that is there is what a failed job has to give back; without one it is everything
        const cells: DirtyCells = chain.disks.has(diskId) ? noCells() : 'all';
        return { diskId, geometry, generation, cells };
      });
      return begin(chain, cycle, sent);
    };
    const begun = withChain(ledger, flying(basis.job));
    return level === 'full' ? withChain(begun, flying(basis.full)) : begun;
  }

  #recorded(ledger: Ledger, { pointId }: Planned): Ledger {
    let recorded = ledger;
    const { name } = this.#settings.job;
    for (const key of [jobChainKey(name), fullChainKey(name)]) {
      const chain = recorded.chains.get(key);
      if (chain?.inFlight?.pointId !== pointId || chain.inFlight.job?.isSent === true) continue;
      recorded = withChain(recorded, withSent(chain, pointId));
    }
    return recorded;
  }

  async #sendDisk(lease: LeasedCheckpoint, disk: FileDisk, point: Planned): Promise<RctDisk> {
    const { fs, random, stateFolder } = this.#seams;
    const opened = await openFrozenDisk(lease, disk.diskId, disk.geometry, this.#vm.name);
    const send: SendFile = (path, sizeBytes, content) =>
      this.#sendContent(path, sizeBytes, content, point);
    return sendDisk(disk, opened, point, { fs, random, stateFolder, send });
  }

  #send(path: string, bytes: Buffer, point: Planned): Promise<void> {
    return this.#sendContent(path, bytes.length, only(bytes), point);
  }

  async #sendContent(
    path: string,
    sizeBytes: number,
    content: AsyncIterable<Buffer>,
    { consistentAtMs }: Planned,
  ): Promise<void> {
    const { sink, signal } = this.#seams;
    const entry = { path, sizeBytes, modifiedAtMs: consistentAtMs };
    this.#watch.touch();
    await this.#watch.guard(signal, (inner) => sink.file(entry, this.#paced(content, inner)));
  }

  async *#paced(content: AsyncIterable<Buffer>, signal: AbortSignal): AsyncGenerator<Buffer> {
    for await (const chunk of content) {
      await this.#seams.bandwidth.take(chunk.length, signal);
      this.#watch.touch();
      yield chunk;
      signal.throwIfAborted();
      this.#bytesSent += chunk.length;
      this.#watch.touch();
    }
  }

  #result(point: Planned, { checkpoint }: LeasedCheckpoint): CycleResult {
    const { clock } = this.#seams;
    const { level } = this.#settings.job;
    const { basis, disks, pointId, consistentAtMs } = point;
    const since = basis.parent?.consistentAtMs ?? consistentAtMs;
    const ageSeconds = Math.max(0, Math.round((clock.now() - since) / 1000));
    const { rpoSeconds } = this.#settings;
    if (rpoSeconds !== undefined && ageSeconds > rpoSeconds) {
      this.#warn('W_RPO', `the newest point was ${ageSeconds} s old, the goal is ${rpoSeconds} s`);
    }
    const isWhole = disks.every(({ cells }) => cells === undefined);
    const isNothing = disks.every(({ cells }) => cells?.count === 0);
    const reported = disks.map(({ diskId, cells, because, geometry }) => ({
      diskId,
      how: cells === undefined ? ('whole' as const) : ('dirty' as const),
      because,
      dataBytes: cells === undefined ? geometry.sizeBytes : cells.count * 65536,
      reusedBytes: 0,
      repeatedBytes: 0,
    }));
    const whole = disks.filter(({ cells }) => cells === undefined && basis.because === '');
    const isAsked = level === 'full' && basis.parent === undefined;
    const notes = isAsked
      ? []
      : basis.because !== '' && basis.parent === undefined
        ? [`every disk went whole: ${basis.because}`]
        : whole.map(({ diskId, because }) => `disk ${diskId} went whole: ${because}`);
    const kind = isWhole ? 'seed' : isNothing ? 'nothing' : 'delta';
    const durationMs = Math.round(clock.monotonic() - this.#startedAt);
    const bytesSent = this.#bytesSent;
    this.#log.info('cycle.committed', { kind, pointId, bytesSent, ageSeconds, durationMs });
    return {
      vmId: this.#vm.id,
      vmName: this.#vm.name,
      kind,
      pointId,
      cycleId: this.#cycleId,
      bytesSent,
      disks: reported,
      consistency: checkpoint.consistency,
      consistentAtMs,
      ageSeconds,
      durationMs,
      warnings: this.#warnings,
      notes,
    };
  }

  readonly #warn: Warn = (code, text) => {
    this.#warnings.push({ code, text });
    this.#log.warn('cycle.warning', { code, text });
  };
}

/** The basis with the changes in its sets. */
function absorbed(
  found: Ledger,
  basis: Basis,
  changes: Parameters<typeof absorb>[1],
): { readonly ledger: Ledger; readonly basis: Basis } {
  const ledger = absorb(withChain(withChain(found, basis.job), basis.full), changes);
  const job = ledger.chains.get(basis.job.key) ?? basis.job;
  const full = ledger.chains.get(basis.full.key) ?? basis.full;
  const sets = basis.sets === basis.full ? full : job;
  return { ledger, basis: { ...basis, job, full, sets } };
}

function planDisk(disk: CheckpointDisk, basis: Basis): FileDisk {
  const { diskId } = disk;
  const geometry = geometryOf(disk);
  const because = whyWholeDisk(basis, diskId, geometry);
  const debt = basis.sets.disks.get(diskId);
  if (because !== undefined || debt === undefined || debt.pending === 'all') {
    const generation = jobGeneration(basis.job, diskId, geometry);
    const why = because ?? 'nothing is known of it';
    return { diskId, geometry, generation, cells: undefined, because: why };
  }
  const { generation, pending: cells } = debt;
  return { diskId, geometry, generation, cells, because: `${cells.count} cells changed` };
}

// eslint-disable-next-line @typescript-eslint/require-await -- the contract iterates asynchronously
async function* only(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}
