// What a journal says: one record for each thing that happened to a protection. A record is JSON;
// parseRecord() checks every field, because a journal may come from another machine.

import { type Guid, parseGuid } from '../../shared/bytes/index.js';
import { parseRetentionGrid } from '../../shared/params/index.js';

export interface DiskGeometry {
  readonly diskId: Guid;
  readonly generation: number;
  readonly sizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
}

export type Transfer = 'base' | 'delta';

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

export interface ProtectRecord {
  readonly kind: 'protect';
  readonly atMs: number;
  readonly vmId: Guid;
  readonly vmName: string;
  readonly owner: string;
  readonly epoch: string;
}

export interface CommitRecord {
  readonly kind: 'commit';
  readonly atMs: number;
  readonly cycleId: Guid;
  readonly pointId: Guid;
  readonly parentPointId: Guid | null;
  readonly epoch: string;
  /** seed, delta or resync, as the source calls it. */
  readonly cycleKind: string;
  readonly by: string;
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
}

export interface PinRecord {
  readonly kind: 'pin';
  readonly atMs: number;
  readonly pointId: Guid;
  readonly isPinned: boolean;
  readonly by: string;
}

export interface VerifyRecord {
  readonly kind: 'verify';
  readonly atMs: number;
  readonly pointId: Guid;
  readonly isDamaged: boolean;
  /** Of the first finding; empty when there is none. */
  readonly finding: string;
}

export interface PauseRecord {
  readonly kind: 'pause';
  readonly atMs: number;
  readonly isPaused: boolean;
  readonly by: string;
}

export interface HaltRecord {
  readonly kind: 'halt';
  readonly atMs: number;
  readonly reason: string;
}

/** Points are forgotten without a commit: by age, or because an operator says so. */
export interface DelistRecord {
  readonly kind: 'delist';
  readonly atMs: number;
  readonly pointIds: readonly Guid[];
  readonly by: string;
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

export type JournalRecord =
  | ProtectRecord
  | CommitRecord
  | PinRecord
  | VerifyRecord
  | PauseRecord
  | HaltRecord
  | DelistRecord
  | CompactRecord
  | FoldBeginRecord
  | FoldEndRecord
  | DropRecord;

/** Why a record cannot be used. */
export class Unusable extends Error {
  override readonly name = 'Unusable';
}

/** Fields of one object, each asked for once. */
export class Fields {
  readonly #value: Readonly<Record<string, unknown>>;

  constructor(value: unknown, what: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new Unusable(`${what} is no object`);
    }
    this.#value = value as Readonly<Record<string, unknown>>;
  }

  text(name: string): string {
    const value = this.#value[name];
    if (typeof value !== 'string') throw new Unusable(`"${name}" is no text`);
    return value;
  }

  guid(name: string): Guid {
    return asGuid(this.#value[name], name);
  }

  guidOrNull(name: string): Guid | null {
    return this.#value[name] === null ? null : this.guid(name);
  }

  textOrNull(name: string): string | null {
    return this.#value[name] === null ? null : this.text(name);
  }

  object(name: string): Fields {
    return new Fields(this.#value[name], `"${name}"`);
  }

  has(name: string): boolean {
    return this.#value[name] !== undefined && this.#value[name] !== null;
  }

  number(name: string): number {
    const value = this.#value[name];
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
      throw new Unusable(`"${name}" is no whole number`);
    }
    return value;
  }

  flag(name: string): boolean {
    const value = this.#value[name];
    if (typeof value !== 'boolean') throw new Unusable(`"${name}" is neither true nor false`);
    return value;
  }

  list<T>(name: string, parse: (item: unknown) => T): readonly T[] {
    const value = this.#value[name];
    if (!Array.isArray(value)) throw new Unusable(`"${name}" is no list`);
    return value.map((item: unknown) => parse(item));
  }

  epoch(): string {
    const value = this.text('epoch');
    if (!/^\d{1,20}$/.test(value)) throw new Unusable('"epoch" is no number');
    return value;
  }
}

function asGuid(value: unknown, name: string): Guid {
  const parsed = typeof value === 'string' ? parseGuid(value) : undefined;
  if (parsed === undefined) throw new Unusable(`"${name}" is no GUID`);
  return parsed;
}

export function asNumber(value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new Unusable('an item is no whole number');
}

export function asText(value: unknown): string {
  if (typeof value !== 'string') throw new Unusable('an item is no text');
  return value;
}

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
        by: fields.text('by'),
      };
    case 'verify':
      return {
        kind,
        atMs,
        pointId: fields.guid('pointId'),
        isDamaged: fields.flag('isDamaged'),
        finding: fields.text('finding'),
      };
    case 'pause':
      return { kind, atMs, isPaused: fields.flag('isPaused'), by: fields.text('by') };
    case 'halt':
      return { kind, atMs, reason: fields.text('reason') };
    case 'delist':
      return { kind, atMs, pointIds: parseGuids(fields, 'pointIds'), by: fields.text('by') };
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

function parseCommit(fields: Fields, atMs: number): CommitRecord {
  return {
    kind: 'commit',
    atMs,
    cycleId: fields.guid('cycleId'),
    pointId: fields.guid('pointId'),
    parentPointId: fields.guidOrNull('parentPointId'),
    epoch: fields.epoch(),
    cycleKind: fields.text('cycleKind'),
    by: fields.text('by'),
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
  };
}

export function parseGrid(fields: Fields): string {
  const text = fields.text('retentionGrid');
  const rules = text === '' ? [] : parseRetentionGrid(text);
  if ('wrong' in rules) throw new Unusable(`the retention grid ${rules.wrong}`);
  return text;
}

export function parseDisk(value: unknown): DiskRecord {
  const fields = new Fields(value, 'a disk');
  return { ...parseGeometry(fields), transfer: parseTransfer(fields), ...parseContent(fields) };
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
