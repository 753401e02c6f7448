// The record of one VM as its journal tells it: a pure fold over the records. Nothing here touches a
// file; what the journal does not say is not known.

import type { Guid } from '../../shared/bytes/index.js';
import { type FailoverRecord, ORDINARY, type Proof, type TestSession } from '../failover/model.js';
import { CommitHistory } from './commit-history.js';
import { WarningState } from '../warning/warning-state.js';
import type { CommitAnswer, Point } from './point.js';
import type { CommitRecord, JournalRecord, VerifyRecord } from './records.js';
import { Segments } from './segments.js';
import { type State, StateParts, type StateRecord } from './state-record.js';

export type { CommitAnswer, Point } from './point.js';

/** How many answers are kept for sources that lost theirs. */
const ANSWERS_KEPT = 64;

export class Protection {
  readonly vmId: Guid;
  vmName = '';
  owner = '';
  epoch = 0n;
  isPaused = false;
  /** Why an operator must look; undefined: all is well. */
  haltReason: string | undefined;
  /** The epoch of the source that brought the halt about. */
  haltEpoch: bigint | undefined;
  /** An operator let a halted protection go on: no delta counts before every disk was compared. */
  isCompareDue = false;
  maxRestorePoints = 0;
  rpoSeconds = 0;
  /** What the source asks for besides: a legal grid, or empty. */
  retentionGrid = '';
  readonly segments = new Segments();
  readonly history = new CommitHistory();
  readonly warning = new WarningState();
  failover: FailoverRecord = ORDINARY;
  /** When a test passed or failed for the last time. */
  proof: Proof | undefined;
  /** By id, in the order of their commits. */
  readonly #points = new Map<Guid, Point>();
  #head: Point | undefined;
  readonly #answers = new Map<Guid, CommitAnswer>();
  readonly #tests = new Map<Guid, TestSession>();
  /** While a journal that begins with a state is read. */
  #parts: StateParts | undefined;

  constructor(vmId: Guid) {
    this.vmId = vmId;
  }

  /** The newest point, always listed. */
  get head(): Point | undefined {
    return this.#head;
  }

  /** The oldest first. */
  get listed(): Point[] {
    return [...this.#points.values()];
  }

  /** A listed point. */
  point(pointId: Guid): Point | undefined {
    return this.#points.get(pointId);
  }

  /** Test sessions, by operation. */
  get tests(): ReadonlyMap<Guid, TestSession> {
    return this.#tests;
  }

  /** What the commit of this cycle was answered; undefined when it was none of the last ones. */
  answer(cycleId: Guid): CommitAnswer | undefined {
    return this.#answers.get(cycleId);
  }

  /** Data bytes of all layers, those included that only forgotten points need. */
  get storedBytes(): number {
    return this.segments.storedBytes;
  }

  /** Takes the next record. Returns why it contradicts the ones before, or undefined. */
  apply(record: JournalRecord | StateRecord): string | undefined {
    if (record.kind === 'state') return this.#takePart(record);
    if (this.#parts !== undefined) return this.unfinished();
    if ((this.owner === '') !== (record.kind === 'protect')) {
      return record.kind === 'protect'
        ? 'the protection begins twice'
        : 'the first record does not begin the protection';
    }
    switch (record.kind) {
      case 'protect':
        if (record.vmId !== this.vmId) return `the record is of VM ${record.vmId}`;
        if (record.owner === '') return 'the protection has no owner';
        this.vmName = record.vmName;
        this.owner = record.owner;
        this.epoch = BigInt(record.epoch);
        return undefined;
      case 'commit':
        return this.#commit(record);
      case 'pin': {
        const point = this.#points.get(record.pointId);
        if (point === undefined) return `there is no point ${record.pointId}`;
        point.pinReason = record.isPinned ? `pinned by ${record.by}` : undefined;
        point.isPinAutomatic = false;
        return undefined;
      }
      case 'verify':
        this.#verify(record);
        return undefined;
      case 'delist':
        return this.#delist(record.pointIds);
      case 'compact':
      case 'fold-begin':
      case 'fold-end':
      case 'drop':
        return this.segments.apply(record, (pointId) => this.#points.has(pointId));
      case 'pause':
        this.isPaused = record.isPaused;
        return undefined;
      case 'halt':
        this.haltReason = record.reason;
        this.haltEpoch = record.sourceEpoch === undefined ? undefined : BigInt(record.sourceEpoch);
        return undefined;
      case 'unhalt':
        if (BigInt(record.epoch) < this.epoch) return `epoch ${record.epoch} is over`;
        if (this.haltReason === undefined && BigInt(record.epoch) === this.epoch) {
          return 'the protection is not halted';
        }
        this.haltReason = undefined;
        this.haltEpoch = undefined;
        this.epoch = BigInt(record.epoch);
        this.isCompareDue = true;
        return undefined;
      case 'rebind':
        if (record.owner === '') return 'the protection has no owner';
        this.owner = record.owner;
        return undefined;
      case 'failover':
        if (BigInt(record.epoch) < this.epoch) return `epoch ${record.epoch} is over`;
        this.epoch = BigInt(record.epoch);
        this.failover = record.failover;
        this.#markFinal();
        return undefined;
      case 'test':
        if (record.test === null) this.#tests.delete(record.operationId);
        else if (record.test.operationId !== record.operationId) return 'the test is another one';
        else this.#tests.set(record.operationId, record.test);
        this.proof = record.proof ?? this.proof;
        return undefined;
      case 'clear-alarm': {
        const wrong = this.warning.clear(record);
        this.#settleDoubts();
        return wrong;
      }
    }
  }

  /** From the moment on at which this site is the active one, the last delta was the last. */
  #markFinal(): void {
    const { operation, activeSite } = this.failover;
    if (operation?.kind !== 'planned' || activeSite !== 'target') return;
    const point = operation.pointId && this.#points.get(operation.pointId);
    if (point !== undefined) point.isFinal = true;
  }

  #verify({ points, atMs }: VerifyRecord): void {
    for (const { pointId, isDamaged, finding } of points) {
      // it may have been forgotten while it was read
      const point = this.#points.get(pointId);
      if (point === undefined) continue;
      if (!isDamaged) point.verifiedAtMs = atMs;
      point.damage = isDamaged ? finding : undefined;
    }
  }

  /** Why the records so far are not a whole. */
  unfinished(): string | undefined {
    return this.#parts === undefined ? undefined : 'the state with which it begins is cut off';
  }

  /** All that the journal says, for a journal that is written anew. */
  get state(): State {
    const { vmName, owner, epoch, isPaused, maxRestorePoints, rpoSeconds, retentionGrid } = this;
    return {
      head: {
        ...{ vmName, owner, isPaused, maxRestorePoints, rpoSeconds, retentionGrid },
        epoch: epoch.toString(),
        haltReason: this.haltReason ?? null,
        haltEpoch: this.haltEpoch?.toString() ?? null,
        isCompareDue: this.isCompareDue,
        history: this.history.state,
        warning: this.warning.record,
        failover: this.failover,
        proof: this.proof,
      },
      points: this.listed,
      segments: this.segments.all,
      answers: [...this.#answers].map(([cycleId, answer]) => ({ cycleId, ...answer })),
      tests: [...this.#tests.values()],
    };
  }

  #takePart(record: StateRecord): string | undefined {
    if (this.owner !== '') return 'a state stands behind other records';
    this.#parts ??= new StateParts();
    const wrong = this.#parts.add(record);
    if (wrong !== undefined || !this.#parts.isComplete) return wrong;
    const state = this.#parts.state();
    if ('wrong' in state) return state.wrong;
    this.#parts = undefined;
    return this.#restore(state);
  }

  #restore({ head, points, segments, answers, tests }: State): string | undefined {
    if (head.owner === '') return 'the protection has no owner';
    const wrong = this.segments.restore(segments);
    if (wrong !== undefined) return wrong;
    for (const point of points) {
      const { pointId } = point;
      if (this.#points.has(pointId)) return `point ${pointId} is there twice`;
      this.#points.set(pointId, { ...point });
    }
    const lost = this.segments.missing(points);
    if (lost !== undefined) return lost;
    this.#head = [...this.#points.values()].at(-1);
    this.vmName = head.vmName;
    this.owner = head.owner;
    this.epoch = BigInt(head.epoch);
    this.isPaused = head.isPaused;
    this.haltReason = head.haltReason ?? undefined;
    this.haltEpoch = head.haltEpoch === null ? undefined : BigInt(head.haltEpoch);
    this.isCompareDue = head.isCompareDue;
    this.maxRestorePoints = head.maxRestorePoints;
    this.rpoSeconds = head.rpoSeconds;
    this.retentionGrid = head.retentionGrid;
    if (head.history !== undefined) this.history.restore(head.history);
    if (head.warning !== undefined) this.warning.restore(head.warning);
    this.failover = head.failover;
    for (const test of tests) {
      if (this.#tests.has(test.operationId)) return `test ${test.operationId} is there twice`;
      this.#tests.set(test.operationId, test);
    }
    this.proof = head.proof;
    for (const { cycleId, ...answer } of answers) this.#answers.set(cycleId, answer);
    return undefined;
  }

  #commit(record: CommitRecord): string | undefined {
    const { pointId, cycleId } = record;
    const parentPointId = record.parentPointId ?? undefined;
    if (parentPointId !== this.#head?.pointId) return `point ${pointId} does not follow the head`;
    if (this.#points.has(pointId)) return `point ${pointId} is there twice`;
    const wrong = this.segments.apply(record, () => false);
    if (wrong !== undefined) return wrong;
    for (const { pointId: id, reason } of record.pinned) {
      const pinned = this.#points.get(id);
      if (pinned === undefined) return `there is no point ${id}`;
      pinned.pinReason = reason;
      pinned.isPinAutomatic = true;
    }
    const point: Point = {
      pointId,
      parentPointId,
      cycleId,
      cycleKind: record.cycleKind,
      committedAtMs: record.atMs,
      consistentAtMs: record.consistentAtMs,
      isApplicationConsistent: record.isApplicationConsistent,
      disks: record.disks,
      definition: this.#definitionOf(record),
      pinReason: undefined,
      isPinAutomatic: false,
      isDoubtful: true,
      isFinal: false,
      verifiedAtMs: 0,
      damage: undefined,
    };
    this.#points.set(pointId, point);
    this.#head = point;
    this.warning.commit(record);
    this.#settleDoubts();
    this.vmName = record.vmName;
    this.epoch = BigInt(record.epoch);
    this.isCompareDue = false;
    this.maxRestorePoints = record.maxRestorePoints;
    this.rpoSeconds = record.rpoSeconds;
    this.retentionGrid = record.retentionGrid ?? '';
    this.history.commit(record.atMs, record.rpoSeconds);
    this.#answers.set(cycleId, {
      pointId,
      committedAtMs: record.atMs,
      pointCount: record.pointCount,
      warnings: record.warnings,
      hasRaisedAlarm: record.warning?.isAlarm === true,
    });
    for (const oldest of this.#answers.keys()) {
      if (this.#answers.size <= ANSWERS_KEPT) break;
      this.#answers.delete(oldest);
    }
    return this.#delist(record.delisted);
  }

  /** A rise of the score that came to nothing leaves no doubt behind. */
  #settleDoubts(): void {
    if (!this.warning.isQuiet) return;
    for (const point of this.#points.values()) point.isDoubtful = false;
  }

  /** Most points have the definition of the one before: it is kept once. */
  #definitionOf({ definition }: CommitRecord): string {
    const before = this.#head?.definition;
    return definition === null || definition === before ? (before ?? '') : definition;
  }

  #delist(pointIds: readonly Guid[]): string | undefined {
    for (const pointId of pointIds) {
      if (pointId === this.#head?.pointId) return 'the head cannot be forgotten';
      if (!this.#points.delete(pointId)) return `there is no point ${pointId}`;
    }
    return undefined;
  }
}
