// One cycle of one VM towards one receiver (failover.md § 4 "cycle"). The order of steps is what
// keeps every change from being lost; docs/source-agent.md tells what a kill between any two means.
//
//    1 lease · leftovers removed        5 ledger: changes into every chain, this chain in flight, fsync
//    2 Describe · in-flight settled     6 Open · Push until every disk is durable there
//    3 VM can be taken · checkpoint     7 Commit is asked; meanwhile: checkpoint → reference point,
//    4 changes since the reference        recorded, the older one destroyed
//                                       8 the answer: in flight cleared, fsync
//
// The receiver's answer to Commit is not awaited before the checkpoint is given back: from step 5 on
// the ledger carries what is unacknowledged.

import { type Guid, guidToWire, randomGuid } from '../shared/bytes/index.js';
import type { CommitResponse } from '../shared/channel/index.js';
import type { Clock, Random } from '../shared/clock.js';
import { cellCount } from '../shared/delta/index.js';
import type { ReadableDisk } from '../shared/disk/index.js';
import { DrError } from '../shared/errors.js';
import type { FileSystem } from '../shared/files/index.js';
import type { OwnerTag, SourceHypervisor, VmSummary } from '../shared/hypervisor/index.js';
import type { Log } from '../shared/log.js';
import type { Bandwidth } from './bandwidth.js';
import {
  type LeasedCheckpoint,
  type WantedConsistency,
  waitForMerge,
  withCheckpoint,
} from './checkpoint-lease.js';
import { type CycleIdentity, manifestHeader, openRequest } from './cycle-messages.js';
import { NOTES_MAX, whyCompared, whyUnused, whyWhole } from './cycle-notes.js';
import { type CycleResult, CycleStopped, type CycleWarning, type Warn } from './cycle-result.js';
import { advanceReference, openFrozenDisk, openLedger, underVmLease } from './cycle-steps.js';
import type { DirtyCells } from './dirty-cells.js';
import { CompressionChoice } from './compression-choice.js';
import { orderedDisks, refuseUnsupported } from './disk-order.js';
import { DiskStream } from './disk-stream.js';
import {
  absorb,
  begin,
  type Chain,
  chainKey,
  confirm,
  type Ledger,
  newChain,
  oweCells,
  settle,
  withChain,
} from './ledger.js';
import { heed } from './heard.js';
import type { LedgerStore } from './ledger-store.js';
import { checkReceiver, type CyclePlan, type DiskPlan, planCycle } from './plan.js';
import { ProgressWatch } from './progress-watch.js';
import { commitCycle, type PushDisk, pushDisks, type PushSeams } from './push.js';
import type { ReceiverLink } from './receiver-link.js';
import { repairReceiver } from './repair.js';
import { checkCommit, type ReceiverView, receiverView } from './receiver-view.js';
import { changesSince } from './tracked-changes.js';

export interface CycleSeams {
  readonly hypervisor: SourceHypervisor;
  readonly link: ReceiverLink;
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly bandwidth: Bandwidth;
  /** Ledgers, leases. Must exist. */
  readonly stateFolder: string;
  /** Aborting ends the cycle at the next safe point. */
  readonly signal: AbortSignal;
  /** Bytes handed to the transport, as they go. */
  readonly onSent?: ((vmId: Guid, bytes: number) => void) | undefined;
  /** Told whenever the cycle gets on. */
  readonly onProgress?: (() => void) | undefined;
}

export interface CycleSettings {
  readonly consistency: WantedConsistency;
  /** An operation without progress for so long is given up. */
  readonly timeoutMs: number;
  readonly overlap: 'skip' | 'wait';
  readonly rpoSeconds: number;
  readonly maxRestorePoints: number;
  /** Refuse a VM that has points at the receiver already. Default: no. */
  readonly isSeedOnly?: boolean | undefined;
  /** As `24h/1h,7d/1d`; empty: none. */
  readonly retentionGrid: string;
}

const NOTE_MAX = 500;
/** So long an answer to Commit is waited for when the run is to stop. */
const COMMIT_GRACE_MS = 10_000;
/** The share of the RPO from which on a point's age is mentioned. */
const RPO_NEAR = 0.8;

/**
 * Runs one cycle. @throws CycleStopped when the signal ended it; DrError of every step, and then
 * what the cycle carried is still owed to the receiver
 */
export async function runCycle(
  vm: VmSummary,
  settings: CycleSettings,
  seams: CycleSeams,
): Promise<CycleResult> {
  const cycle = new Cycle(vm, settings, seams);
  try {
    return await cycle.run();
  } catch (error) {
    // A refusal of the work itself is told even when a stop came as well.
    if (seams.signal.aborted && !(error instanceof DrError)) throw new CycleStopped(vm.name);
    throw error;
  }
}

/** What steps 1 and 2 found. */
interface Ready {
  readonly store: LedgerStore;
  readonly ledger: Ledger;
  readonly chain: Chain;
  readonly receiver: ReceiverView;
}

class Cycle {
  readonly #vm: VmSummary;
  readonly #settings: CycleSettings;
  readonly #seams: CycleSeams;
  readonly #cycleId: Guid;
  readonly #tag: OwnerTag;
  readonly #log: Log;
  readonly #startedAt: number;
  readonly #warnings: CycleWarning[] = [];
  #bytesSent = 0;
  /** Of the operation under way. */
  #watched: ProgressWatch | undefined;

  constructor(vm: VmSummary, settings: CycleSettings, seams: CycleSeams) {
    this.#vm = vm;
    this.#settings = settings;
    this.#seams = seams;
    this.#cycleId = randomGuid(seams.random);
    this.#tag = { protectionId: vm.id, operationId: this.#cycleId };
    this.#log = seams.log.child({ component: 'agent', vmId: vm.id, cycleId: this.#cycleId });
    this.#startedAt = seams.clock.monotonic();
  }

  run(): Promise<CycleResult> {
    const { timeoutMs, overlap } = this.#settings;
    const manners = { cycleId: this.#cycleId, timeoutMs, overlap };
    return underVmLease(this.#vm, manners, this.#seams, this.#log, () => this.#underLease());
  }

  async #underLease(): Promise<CycleResult> {
    const { hypervisor, signal } = this.#seams;
    const ready = await this.#prepare();
    refuseUnsupported(await hypervisor.describeVm(this.#vm.id));
    signal.throwIfAborted();
    await waitForMerge(hypervisor, this.#vm.id, this.#settings.timeoutMs, this.#seams);
    this.#seams.onProgress?.();
    return withCheckpoint(
      hypervisor,
      {
        vmId: this.#vm.id,
        tag: this.#tag,
        consistency: this.#settings.consistency,
        timeoutMs: this.#settings.timeoutMs,
      },
      this.#log,
      (lease) => this.#withCheckpoint(lease, ready),
    );
  }

  /** Steps 1 and 2. Nothing is made anywhere before the receiver has answered. */
  async #prepare(): Promise<Ready> {
    const { hypervisor } = this.#seams;
    const { id, name } = this.#vm;
    const opened = await openLedger(this.#vm, this.#seams, this.#log, this.#warn);
    const { store } = opened;
    const watch = this.#watch('describe');
    const receiver = await this.#call(watch, (client, signal) =>
      client.describe({ vmId: guidToWire(id), vmName: name }, { signal }),
    ).then(receiverView);
    const key = chainKey(receiver.storeId);
    const hearing = { vm: this.#vm, operationId: this.#cycleId, store, hypervisor };
    const ledger = await heed(receiver, opened.ledger, { ...hearing, log: this.#log });
    const chain = ledger.chains.get(key) ?? newChain(key, receiver.epoch);
    checkReceiver(receiver, chain, name);
    if (this.#settings.isSeedOnly === true && receiver.headPointId !== undefined) {
      throw new DrError('E_EXISTS', `${name} has restore points at the receiver already`, {
        context: { vmId: id, head: receiver.headPointId },
        done: 'nothing was sent',
        hint: '`hvdr push` goes on from the newest point; there is nothing to seed.',
      });
    }
    return { store, ledger, chain: settle(chain, receiver.headPointId), receiver };
  }

  async #withCheckpoint(lease: LeasedCheckpoint, ready: Ready): Promise<CycleResult> {
    const { hypervisor, signal } = this.#seams;
    const { store, receiver } = ready;
    const { checkpoint, loweredBecause } = lease;
    this.#seams.onProgress?.();
    if (loweredBecause !== undefined) {
      this.#warn('W_CRASH_CONSISTENT', `the point is crash-consistent only: ${loweredBecause}`);
    }
    const definition = await hypervisor.describeVm(this.#vm.id);
    const disks = orderedDisks(definition, checkpoint.disks);
    const frozen = { hypervisor, vmId: this.#vm.id, checkpointId: checkpoint.id };
    const changes = await changesSince(frozen, disks, ready.ledger.reference);

    let ledger = absorb(withChain(ready.ledger, ready.chain), changes);
    const known = ledger.chains.get(ready.chain.key) ?? ready.chain;
    const absorbed = await this.#repaired(lease, known, ready);
    const plan = planCycle({ disks, chain: absorbed, receiver });
    this.#logPlan(plan);
    const pointId = randomGuid(this.#seams.random);
    const consistentAtMs = Math.max(0, Math.round(checkpoint.createdAtMs));
    const inFlight = { cycleId: this.#cycleId, pointId, consistentAtMs };
    const sent = plan.disks.map(({ diskId, generation, geometry, send }) => {
      const cells: DirtyCells = send.how === 'dirty' ? send.cells : 'all';
      return { diskId, generation, geometry, cells };
    });
    signal.throwIfAborted();
    ledger = withChain(ledger, begin(absorbed, inFlight, sent));
    await store.save(ledger);

    const identity = { vm: this.#vm, cycleId: this.#cycleId, pointId, epoch: receiver.epoch };
    const request = openRequest(identity, plan, definition, checkpoint, this.#settings);
    const compression = new CompressionChoice();
    const disksToPush = await this.#streams(lease, plan, identity, compression);
    const work = { vmId: this.#vm.id, cycleId: this.#cycleId, request, disks: disksToPush };
    const onSent = (bytes: number): void => {
      this.#bytesSent += bytes;
      this.#seams.onSent?.(this.#vm.id, bytes);
    };
    const pushing = this.#pushSeams(this.#watch('the push'), signal);
    const outcome = await pushDisks({ ...work, compression, onSent }, pushing);

    // What is left is short, and the point is worth having: a stop waits for it, but not for long.
    // The ledger carries the cycle, so that the next one learns from the receiver how it ended.
    const ended = new AbortController();
    const patient = this.#pushSeams(this.#watch('the commit'), this.#lateStop(ended.signal));
    const asked =
      outcome.kind === 'committed' ? Promise.resolve(outcome.answer) : commitCycle(work, patient);
    const commit = asked.then((response) => checkCommit(response, pointId));
    let isCommitted = false;
    commit.then(
      () => {
        isCommitted = true;
      },
      // seen when it is awaited below
      () => undefined,
    );
    const confirmed = (before: Ledger): Ledger => {
      const flown = before.chains.get(ready.chain.key);
      return flown?.inFlight === undefined ? before : withChain(before, confirm(flown));
    };
    // An answer that is there already is recorded together with the reference point.
    const record = (before: Ledger): Ledger => (isCommitted ? confirmed(before) : before);
    let answer: CommitResponse;
    try {
      const advance = { lease, ledger, disks, store, record };
      ledger = await advanceReference(this.#vm.id, advance, hypervisor, this.#warn);
      answer = await commit;
    } finally {
      ended.abort();
    }
    const last = confirmed(ledger);
    if (last !== ledger) await store.save(last);
    return this.#result(plan, pointId, lease, ready, answer, work.disks);
  }

  /**
   * Gives the receiver back what rotted there, and owes it what could not be given back. A repair that
   * fails costs no cycle: the receiver marks the point that comes.
   */
  async #repaired(lease: LeasedCheckpoint, chain: Chain, { receiver }: Ready): Promise<Chain> {
    if (receiver.wantedCellCount === 0) return chain;
    const { bandwidth, signal } = this.#seams;
    const watch = this.#watch('the repair');
    const opened = new Map<Guid, Promise<ReadableDisk>>();
    const openDisk = (diskId: Guid): Promise<ReadableDisk> => {
      const disk = opened.get(diskId) ?? lease.openDisk(diskId);
      opened.set(diskId, disk);
      return disk;
    };
    const onCell = async (lengthBytes: number): Promise<void> => {
      await bandwidth.take(lengthBytes, signal);
      watch.touch();
    };
    const vmId = guidToWire(this.#vm.id);
    const source = { vmId, disks: lease.checkpoint.disks, openDisk, onCell };
    try {
      const { wantedCount, repairedCount, stillBad } = await this.#call(watch, (client, inner) =>
        repairReceiver(client, source, inner),
      );
      let anewCount = 0;
      for (const cells of stillBad.values()) anewCount += cells.count;
      const text = `the receiver had ${wantedCount} damaged cells: ${repairedCount} were mended, ${anewCount} are sent anew`;
      // what only older points have, and nobody can mend, is no news of this cycle
      if (repairedCount + anewCount > 0) this.#warn('W_REPAIR', text);
      return oweCells(chain, stillBad);
    } catch (error) {
      if (!(error instanceof DrError) || signal.aborted) throw error;
      this.#warn('W_REPAIR', `damaged cells of the receiver were not mended: ${error.message}`);
      return chain;
    }
  }

  /** Aborts some time after the cycle's signal did, unless `ended` came before. */
  #lateStop(ended: AbortSignal): AbortSignal {
    const { clock, signal } = this.#seams;
    const late = new AbortController();
    const wait = (): void => {
      clock.sleep(COMMIT_GRACE_MS, ended).then(
        () => {
          late.abort(signal.reason);
        },
        () => undefined, // the answer was there first
      );
    };
    if (signal.aborted) wait();
    else signal.addEventListener('abort', wait, { once: true });
    ended.addEventListener('abort', () => {
      signal.removeEventListener('abort', wait);
    });
    return late.signal;
  }

  async #streams(
    lease: LeasedCheckpoint,
    plan: CyclePlan,
    identity: CycleIdentity,
    compression: CompressionChoice,
  ): Promise<PushDisk[]> {
    const disks: PushDisk[] = [];
    for (const [diskIndex, disk] of plan.disks.entries()) {
      const opened = await openFrozenDisk(lease, disk.diskId, disk.geometry, this.#vm.name);
      const stream = new DiskStream({
        diskIndex,
        disk: opened,
        header: manifestHeader(disk, plan, identity),
        ...rangesToRead(disk),
        compression,
        // a compare of equal disks reads for long and sends nothing
        onPiece: () => this.#watched?.touch(),
      });
      disks.push({ plan: disk, stream });
    }
    return disks;
  }

  #result(
    plan: CyclePlan,
    pointId: Guid,
    { checkpoint }: LeasedCheckpoint,
    { chain, receiver }: Ready,
    answer: CommitResponse,
    disks: readonly PushDisk[],
  ): CycleResult {
    const { clock } = this.#seams;
    const { rpoSeconds } = this.#settings;
    const consistentAtMs = Math.max(0, Math.round(checkpoint.createdAtMs));
    const since = chain.confirmed?.consistentAtMs ?? consistentAtMs;
    const ageSeconds = Math.max(0, Math.round((clock.now() - since) / 1000));
    if (ageSeconds > rpoSeconds) {
      this.#warn('W_RPO', `the newest point was ${ageSeconds} s old, the goal is ${rpoSeconds} s`);
    }
    const told = answer.warnings.slice(0, NOTES_MAX).map((text) => text.slice(0, NOTE_MAX));
    if (answer.hasRaisedAlarm) {
      this.#warn('W_ENCRYPTION', told.shift() ?? 'the receiver has raised an alarm');
    }
    const notes = [...whyWhole(plan), ...whyUnused(plan, receiver), ...told];
    // a ledger that could not be used has been told already, and says why
    if (!this.#warnings.some(({ code }) => code === 'W_LEDGER')) {
      for (const why of whyCompared(plan, chain)) this.#warn('W_RESYNC', why);
    }
    if (ageSeconds <= rpoSeconds && ageSeconds > rpoSeconds * RPO_NEAR) {
      notes.push(`the newest point was ${ageSeconds} s old, near the goal of ${rpoSeconds} s`);
    }
    const result: CycleResult = {
      vmId: this.#vm.id,
      vmName: this.#vm.name,
      kind: plan.kind,
      pointId,
      cycleId: this.#cycleId,
      bytesSent: this.#bytesSent,
      disks: disks.map(({ plan: { diskId, send, because }, stream: { counts } }) => ({
        diskId,
        how: send.how,
        because,
        dataBytes: counts.dataBytes,
        reusedBytes: counts.reusedBytes,
        repeatedBytes: counts.repeatedBytes,
      })),
      consistency: checkpoint.consistency,
      consistentAtMs,
      ageSeconds,
      durationMs: Math.round(clock.monotonic() - this.#startedAt),
      warnings: this.#warnings,
      notes,
    };
    const { kind, bytesSent, durationMs } = result;
    this.#log.info('cycle.committed', { kind, pointId, bytesSent, ageSeconds, durationMs });
    return result;
  }

  #call<T>(
    watch: ProgressWatch,
    call: (client: Awaited<ReturnType<ReceiverLink['client']>>, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { link, signal } = this.#seams;
    return watch.guard(signal, async (inner) => {
      for (let isRetry = false; ; isRetry = true) {
        const client = await link.client();
        try {
          return await call(client, inner);
        } catch (error) {
          if (!(error instanceof DrError) || error.code !== 'E_CHANNEL') throw error;
          await link.drop(client);
          // a connection that idled may have died unnoticed; a new one that breaks is a failure
          if (isRetry) throw error;
        }
      }
    });
  }

  #pushSeams(watch: ProgressWatch, signal: AbortSignal): PushSeams {
    const { link, clock, random, bandwidth } = this.#seams;
    return { link, clock, random, bandwidth, log: this.#log, watch, signal };
  }

  #watch(what: string): ProgressWatch {
    const { clock } = this.#seams;
    const name = `${what} of ${this.#vm.name}`;
    const { timeoutMs } = this.#settings;
    this.#watched = new ProgressWatch(clock, timeoutMs, name, this.#seams.onProgress);
    return this.#watched;
  }

  readonly #warn: Warn = (code, text) => {
    this.#warnings.push({ code, text });
    this.#log.warn('cycle.warning', { code, text });
  };

  #logPlan({ kind, disks }: CyclePlan): void {
    // A compare is worth a line in the morning, an ordinary delta is not.
    const level = kind === 'resync' ? 'info' : 'debug';
    this.#log[level]('cycle.planned', {
      kind,
      disks: disks.map(({ diskId, send, because, reuseCycleId, reusePoint }) => ({
        diskId,
        how: send.how,
        because,
        isReusing: reuseCycleId !== undefined || reusePoint !== undefined,
      })),
    });
  }
}

function rangesToRead({
  send,
  geometry,
}: DiskPlan): Pick<ConstructorParameters<typeof DiskStream>[0], 'ranges' | 'meanRunCells'> {
  if (send.how !== 'dirty') {
    const end = cellCount(geometry.sizeBytes);
    return { ranges: () => (end === 0 ? [] : [{ start: 0, end }]), meanRunCells: end };
  }
  const { cells } = send;
  let runCount = 0;
  for (const range of cells.ranges()) if (range.end > range.start) runCount++;
  return { ranges: () => cells.ranges(), meanRunCells: cells.count / Math.max(1, runCount) };
}
