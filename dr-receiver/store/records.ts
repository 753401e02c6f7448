// What a journal says: one record for each thing that happened to a protection. A record is JSON;
// parseRecord() checks every field, because a journal may come from another machine.

import type { Guid } from '../../shared/bytes/index.js';
import { parseRetentionGrid } from '../../shared/params/index.js';
import type { FailoverRecord, Proof, TestSession } from '../failover/model.js';
import { parseFailover, parseProof, parseTest } from '../failover/record.js';
import { asGuid, asText, Fields, Unusable } from './fields.js';

export interface DiskGeometry {
  readonly diskId: Guid;
  readonly generation: number;
  readonly sizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
}

export type Transfer = 'base' | 'delta';

/** What the cells that a cycle brought of a disk looked like (docs/early-warning.md). Whole numbers. */
export interface DiskSigns {
  /** Data cells that were screened. */
  readonly screened: number;
  /** Data cells of the disk with a block that looks random, estimated. */
  readonly random: number;
  /** Of those, the ones that were compared with what stood there before. */
  readonly compared: number;
  /** Of the compared ones: content before, bytes that look encrypted now. */
  readonly turned: number;
  /** Of the compared ones: nothing was there before. */
  readonly fresh: number;
  /** Other data cells of which it was asked what they replaced, and those that replaced data. */
  readonly others: number;
  readonly rewritten: number;
}

/** What a commit means for the early warning; left out when there is nothing to say. */
export interface CommitWarning {
  /** Thousandths of what raises an alarm: of this cycle alone. */
  readonly pressure: number;
  /** Summed up over the cycles. */
  readonly score: number;
  /** The last point before the score rose; null: there was none. */
  readonly cleanPointId: Guid | null;
  /** This commit raises an alarm. */
  readonly isAlarm: boolean;
  readonly reasons: readonly string[];
}

/** What a manifest says of the data beside it. */
export interface Content {
  /** Manifest root, hex. */
  readonly root: string;
  readonly cellCount: number;
  readonly dataCellCount: number;
  /** Bytes of the data cells. */
  readonly dataBytes: number;
}

/** One disk of a point: what its cycle brought. */
export interface DiskRecord extends DiskGeometry, Content {
  readonly transfer: Transfer;
  readonly signs?: DiskSigns;
}

/** Names a base and the deltas that stand on it. */
export interface SegmentKey {
  readonly diskId: Guid;
  readonly generation: number;
  /** The cycle that brought the base. */
  readonly baseCycleId: Guid;
}

/** A point that a commit pins by itself, and why. */
export interface PinnedBy {
  readonly pointId: Guid;
  readonly reason: string;
}

/** Who did it: the principal, and the key with which it was asked. */
export interface Actor {
  readonly by: string;
  /** Absent in records of former releases, and where no key was needed. */
  readonly keyId?: string | undefined;
}

export interface ProtectRecord {
  readonly kind: 'protect';
  readonly atMs: number;
  readonly vmId: Guid;
  readonly vmName: string;
  readonly owner: string;
  readonly epoch: string;
}

export interface CommitRecord extends Actor {
  readonly kind: 'commit';
  readonly atMs: number;
  readonly cycleId: Guid;
  readonly pointId: Guid;
  readonly parentPointId: Guid | null;
  readonly epoch: string;
  /** seed, delta or resync, as the source calls it. */
  readonly cycleKind: string;
  readonly vmName: string;
  readonly consistentAtMs: number;
  readonly isApplicationConsistent: boolean;
  readonly maxRestorePoints: number;
  readonly rpoSeconds: number;
  /** A legal grid; absent: none was asked for. */
  readonly retentionGrid?: string | undefined;
  readonly disks: readonly DiskRecord[];
  /** VM definition as protobuf, base64; data for the failover. null: that of the point before. */
  readonly definition: string | null;
  readonly pinned: readonly PinnedBy[];
  readonly delisted: readonly Guid[];
  /** What the source was answered. */
  readonly pointCount: number;
  readonly warnings: readonly string[];
  readonly warning?: CommitWarning;
}

export interface PinRecord extends Actor {
  readonly kind: 'pin';
  readonly atMs: number;
  readonly pointId: Guid;
  readonly isPinned: boolean;
}

export interface VerifiedPoint {
  readonly pointId: Guid;
  readonly isDamaged: boolean;
  /** Of the first finding; empty when there is none. */
  readonly finding: string;
}

/** What a verification or the scrub found of some points. */
export interface VerifyRecord {
  readonly kind: 'verify';
  readonly atMs: number;
  readonly points: readonly VerifiedPoint[];
}

/** Points of one record at most, so that it keeps far below the bound of a record. */
export const VERIFIED_POINTS_MAX = 500;

export interface PauseRecord extends Actor {
  readonly kind: 'pause';
  readonly atMs: number;
  readonly isPaused: boolean;
}

export interface HaltRecord {
  readonly kind: 'halt';
  readonly atMs: number;
  readonly reason: string;
  /** The epoch that the source named, when that is why. */
  readonly sourceEpoch?: string | undefined;
}

/**
 * An operator lets a halted protection go on, at the epoch that its source knows. The next cycle has to
 * compare every disk.
 */
export interface UnhaltRecord extends Actor {
  readonly kind: 'unhalt';
  readonly atMs: number;
  readonly epoch: string;
}

/** An operator gives the VM to another principal. */
export interface RebindRecord extends Actor {
  readonly kind: 'rebind';
  readonly atMs: number;
  readonly owner: string;
}

/** Somebody says that the alarm which this point raised is over. */
export interface ClearAlarmRecord extends Actor {
  readonly kind: 'clear-alarm';
  readonly atMs: number;
  readonly pointId: Guid;
}

/** Points are forgotten without a commit: by age, or because an operator says so. */
export interface DelistRecord extends Actor {
  readonly kind: 'delist';
  readonly atMs: number;
  readonly pointIds: readonly Guid[];
}

/** Deltas that lie in a row became one, which stands in a cycle folder of its own. */
export interface CompactRecord extends SegmentKey, Content {
  readonly kind: 'compact';
  readonly atMs: number;
  /** The folder of the new delta. */
  readonly cycleId: Guid;
  /** The points that the parts led to, the oldest first, at least two. Only the last is listed. */
  readonly pointIds: readonly Guid[];
}

/**
 * The base is about to take in all deltas up to a point, in place: from here on it has, cell by cell,
 * the bytes of its old manifest or of the announced one, and the deltas hide every cell of which that
 * is not known. What follows is what the announced manifest says.
 */
export interface FoldBeginRecord extends SegmentKey, Content {
  readonly kind: 'fold-begin';
  readonly atMs: number;
  readonly pointId: Guid;
}

/** The base is durable at the point that the fold was leading to; the deltas up to it are needless. */
export interface FoldEndRecord extends SegmentKey {
  readonly kind: 'fold-end';
  readonly atMs: number;
  readonly pointId: Guid;
}

/** A base and its deltas are given up: no listed point stands on them. */
export interface DropRecord extends SegmentKey {
  readonly kind: 'drop';
  readonly atMs: number;
}

/** What is so from here on about failover: the record as a whole, before the effect of each step. */
export interface FailoverStepRecord extends Actor {
  readonly kind: 'failover';
  readonly atMs: number;
  readonly epoch: string;
  readonly failover: FailoverRecord;
}

/** A test session as it is from here on; null: it is over. With it, how the VM was proven. */
export interface TestRecord extends Actor {
  readonly kind: 'test';
  readonly atMs: number;
  readonly operationId: Guid;
  readonly test: TestSession | null;
  readonly proof: Proof | null;
}

export type JournalRecord =
  | ProtectRecord
  | CommitRecord
  | PinRecord
  | VerifyRecord
  | PauseRecord
  | HaltRecord
  | UnhaltRecord
  | RebindRecord
  | DelistRecord
  | CompactRecord
  | FoldBeginRecord
  | FoldEndRecord
  | DropRecord
  | ClearAlarmRecord
  | FailoverStepRecord
  | TestRecord;

/** The record in a JSON value, or why there is none that this program knows. */
export function parseRecord(value: unknown): JournalRecord | { readonly wrong: string } {
  try {
    return parse(new Fields(value, 'the record'));
  } catch (error) {
    if (error instanceof Unusable) return { wrong: error.message };
    throw error;
  }
}

function parse(fields: Fields): JournalRecord {
  const atMs = fields.number('atMs');
  const kind = fields.text('kind');
  switch (kind) {
    case 'protect':
      return {
        kind,
        atMs,
        vmId: fields.guid('vmId'),
        vmName: fields.text('vmName'),
        owner: fields.text('owner'),
        epoch: fields.epoch(),
      };
    case 'commit':
      return parseCommit(fields, atMs);
    case 'pin':
      return {
        kind,
        atMs,
        pointId: fields.guid('pointId'),
        isPinned: fields.flag('isPinned'),
        ...parseActor(fields),
      };
    case 'verify':
      // before there were lists, a record was about one point
      return {
        kind,
        atMs,
        points: fields.has('points')
          ? fields.list('points', (item) => parseVerified(new Fields(item, 'a point')))
          : [parseVerified(fields)],
      };
    case 'pause':
      return { kind, atMs, isPaused: fields.flag('isPaused'), ...parseActor(fields) };
    case 'halt':
      return {
        kind,
        atMs,
        reason: fields.text('reason'),
        ...(fields.has('sourceEpoch') ? { sourceEpoch: fields.epoch('sourceEpoch') } : {}),
      };
    case 'unhalt':
      return { kind, atMs, epoch: fields.epoch(), ...parseActor(fields) };
    case 'rebind':
      return { kind, atMs, owner: fields.text('owner'), ...parseActor(fields) };
    case 'clear-alarm':
      return { kind, atMs, pointId: fields.guid('pointId'), ...parseActor(fields) };
    case 'failover':
      return {
        kind,
        atMs,
        epoch: fields.epoch(),
        failover: parseFailover(fields.object('failover')),
        ...parseActor(fields),
      };
    case 'test':
      return {
        kind,
        atMs,
        operationId: fields.guid('operationId'),
        test: fields.has('test') ? parseTest(fields.object('test')) : null,
        proof: fields.has('proof') ? parseProof(fields.object('proof')) : null,
        ...parseActor(fields),
      };
    case 'delist':
      return { kind, atMs, pointIds: parseGuids(fields, 'pointIds'), ...parseActor(fields) };
    case 'compact':
      return {
        kind,
        atMs,
        ...parseSegmentKey(fields),
        ...parseContent(fields),
        cycleId: fields.guid('cycleId'),
        pointIds: parseGuids(fields, 'pointIds'),
      };
    case 'fold-begin':
      return {
        kind,
        atMs,
        ...parseSegmentKey(fields),
        ...parseContent(fields),
        pointId: fields.guid('pointId'),
      };
    case 'fold-end':
      return { kind, atMs, ...parseSegmentKey(fields), pointId: fields.guid('pointId') };
    case 'drop':
      return { kind, atMs, ...parseSegmentKey(fields) };
    default:
      throw new Unusable(`the kind "${kind}" is not known; a newer release may have written it`);
  }
}

function parseVerified(fields: Fields): VerifiedPoint {
  return {
    pointId: fields.guid('pointId'),
    isDamaged: fields.flag('isDamaged'),
    finding: fields.text('finding'),
  };
}

function parseCommit(fields: Fields, atMs: number): CommitRecord {
  const warning = fields.optional('warning', parseWarning);
  return {
    kind: 'commit',
    atMs,
    cycleId: fields.guid('cycleId'),
    pointId: fields.guid('pointId'),
    parentPointId: fields.guidOrNull('parentPointId'),
    epoch: fields.epoch(),
    cycleKind: fields.text('cycleKind'),
    ...parseActor(fields),
    vmName: fields.text('vmName'),
    consistentAtMs: fields.number('consistentAtMs'),
    isApplicationConsistent: fields.flag('isApplicationConsistent'),
    maxRestorePoints: fields.number('maxRestorePoints'),
    rpoSeconds: fields.number('rpoSeconds'),
    retentionGrid: fields.has('retentionGrid') ? parseGrid(fields) : undefined,
    disks: fields.list('disks', parseDisk),
    definition: fields.textOrNull('definition'),
    pinned: fields.list('pinned', (item) => {
      const pin = new Fields(item, 'a pin');
      return { pointId: pin.guid('pointId'), reason: pin.text('reason') };
    }),
    delisted: parseGuids(fields, 'delisted'),
    pointCount: fields.number('pointCount'),
    warnings: fields.list('warnings', asText),
    ...(warning === undefined ? {} : { warning }),
  };
}

function parseWarning(value: unknown): CommitWarning {
  const fields = new Fields(value, 'the early warning');
  return {
    pressure: fields.number('pressure'),
    score: fields.number('score'),
    cleanPointId: fields.guidOrNull('cleanPointId'),
    isAlarm: fields.flag('isAlarm'),
    reasons: fields.list('reasons', asText),
  };
}

function parseSigns(value: unknown): DiskSigns {
  const fields = new Fields(value, 'the signs of a disk');
  return {
    screened: fields.number('screened'),
    random: fields.number('random'),
    compared: fields.number('compared'),
    turned: fields.number('turned'),
    fresh: fields.number('fresh'),
    others: fields.number('others'),
    rewritten: fields.number('rewritten'),
  };
}

function parseActor(fields: Fields): Actor {
  const by = fields.text('by');
  return fields.has('keyId') ? { by, keyId: fields.text('keyId') } : { by };
}

export function parseGrid(fields: Fields): string {
  const text = fields.text('retentionGrid');
  const rules = text === '' ? [] : parseRetentionGrid(text);
  if ('wrong' in rules) throw new Unusable(`the retention grid ${rules.wrong}`);
  return text;
}

export function parseDisk(value: unknown): DiskRecord {
  const fields = new Fields(value, 'a disk');
  const signs = fields.optional('signs', parseSigns);
  return {
    ...parseGeometry(fields),
    transfer: parseTransfer(fields),
    ...parseContent(fields),
    ...(signs === undefined ? {} : { signs }),
  };
}

export function parseTransfer(fields: Fields): Transfer {
  const transfer = fields.text('transfer');
  if (transfer !== 'base' && transfer !== 'delta') {
    throw new Unusable(`a disk has the transfer "${transfer}"`);
  }
  return transfer;
}

export function parseGeometry(fields: Fields): DiskGeometry {
  return {
    diskId: fields.guid('diskId'),
    generation: fields.number('generation'),
    sizeBytes: fields.number('sizeBytes'),
    logicalSectorBytes: fields.number('logicalSectorBytes'),
    physicalSectorBytes: fields.number('physicalSectorBytes'),
  };
}

export function parseContent(fields: Fields): Content {
  const root = fields.text('root');
  if (!/^[0-9a-f]{64}$/.test(root)) throw new Unusable('a root is no SHA-256');
  return {
    root,
    cellCount: fields.number('cellCount'),
    dataCellCount: fields.number('dataCellCount'),
    dataBytes: fields.number('dataBytes'),
  };
}

export function parseSegmentKey(fields: Fields): SegmentKey {
  return {
    diskId: fields.guid('diskId'),
    generation: fields.number('generation'),
    baseCycleId: fields.guid('baseCycleId'),
  };
}

function parseGuids(fields: Fields, name: string): readonly Guid[] {
  return fields.list(name, (item) => asGuid(item, name));
}
