// The record of one VM as its journal tells it: a pure fold over the records. Nothing here touches a
// file; what the journal does not say is not known.

import type { Guid } from '../../shared/bytes/index.js';
import type { CommitRecord, DiskRecord, JournalRecord, VerifyRecord } from './records.js';

/** One point, listed or forgotten. What a forgotten one brought is still under its successors. */
export interface Point {
  readonly pointId: Guid;
  readonly parentPointId: Guid | undefined;
  readonly cycleId: Guid;
  readonly cycleKind: string;
  readonly committedAtMs: number;
  readonly consistentAtMs: number;
  readonly isApplicationConsistent: boolean;
  readonly disks: readonly DiskRecord[];
  /** VM definition as protobuf, base64; given up when the point is forgotten. */
  definition: string;
  isListed: boolean;
  /** Why it is pinned; undefined: it is not. */
  pinReason: string | undefined;
  /** 0: never. */
  verifiedAtMs: number;
  /** First finding of the last verification; undefined: nothing was found. */
  damage: string | undefined;
}

export interface CommitAnswer {
  readonly pointId: Guid;
  readonly committedAtMs: number;
  readonly pointCount: number;
  readonly warnings: readonly string[];
}

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
  maxRestorePoints = 0;
  rpoSeconds = 0;
  /** All points in the order of their commits; each has the one before it as parent. */
  readonly points: Point[] = [];
  readonly #byId = new Map<Guid, Point>();
  #storedBytes = 0;
  readonly #answers = new Map<Guid, CommitAnswer>();

  constructor(vmId: Guid) {
    this.vmId = vmId;
  }

  get head(): Point | undefined {
    return this.points.at(-1);
  }

  /** The oldest first. */
  get listed(): Point[] {
    return this.points.filter((point) => point.isListed);
  }

  point(pointId: Guid): Point | undefined {
    return this.#byId.get(pointId);
  }

  /** What the commit of this cycle was answered; undefined when it was none of the last ones. */
  answer(cycleId: Guid): CommitAnswer | undefined {
    return this.#answers.get(cycleId);
  }

  /** Bytes of all points, forgotten ones included. */
  get storedBytes(): number {
    return this.#storedBytes;
  }

  /** Takes the next record. Returns why it contradicts the ones before, or undefined. */
  apply(record: JournalRecord): string | undefined {
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
        const point = this.#byId.get(record.pointId);
        if (point === undefined) return `there is no point ${record.pointId}`;
        point.pinReason = record.isPinned ? `pinned by ${record.by}` : undefined;
        return undefined;
      }
      case 'verify':
        return this.#verify(record);
      case 'pause':
        this.isPaused = record.isPaused;
        return undefined;
      case 'halt':
        this.haltReason = record.reason;
        return undefined;
    }
  }

  #verify({ points, atMs }: VerifyRecord): string | undefined {
    const stranger = points.find(({ pointId }) => !this.#byId.has(pointId));
    if (stranger !== undefined) return `there is no point ${stranger.pointId}`;
    for (const { pointId, isDamaged, finding } of points) {
      this.#mark(pointId, {
        damage: isDamaged ? finding : undefined,
        ...(isDamaged ? {} : { verifiedAtMs: atMs }),
      });
    }
    return undefined;
  }

  #commit(record: CommitRecord): string | undefined {
    const { pointId, cycleId } = record;
    const parentPointId = record.parentPointId ?? undefined;
    if (parentPointId !== this.head?.pointId) return `point ${pointId} does not follow the head`;
    if (this.#byId.has(pointId)) return `point ${pointId} is there twice`;
    for (const id of [...record.delisted, ...record.pinned.map((pin) => pin.pointId)]) {
      if (!this.#byId.has(id)) return `there is no point ${id}`;
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
      definition: record.definition,
      isListed: true,
      pinReason: undefined,
      verifiedAtMs: 0,
      damage: undefined,
    };
    this.points.push(point);
    for (const { dataBytes } of record.disks) this.#storedBytes += dataBytes;
    this.#byId.set(pointId, point);
    for (const { pointId: id, reason } of record.pinned) this.#mark(id, { pinReason: reason });
    for (const id of record.delisted) this.#mark(id, { isListed: false, definition: '' });
    this.vmName = record.vmName;
    this.epoch = BigInt(record.epoch);
    this.maxRestorePoints = record.maxRestorePoints;
    this.rpoSeconds = record.rpoSeconds;
    this.#answers.set(cycleId, {
      pointId,
      committedAtMs: record.atMs,
      pointCount: record.pointCount,
      warnings: record.warnings,
    });
    for (const oldest of this.#answers.keys()) {
      if (this.#answers.size <= ANSWERS_KEPT) break;
      this.#answers.delete(oldest);
    }
    return undefined;
  }

  #mark(
    pointId: Guid,
    change: Partial<
      Pick<Point, 'isListed' | 'pinReason' | 'definition' | 'damage' | 'verifiedAtMs'>
    >,
  ): void {
    const point = this.#byId.get(pointId);
    if (point !== undefined) Object.assign(point, change);
  }
}
