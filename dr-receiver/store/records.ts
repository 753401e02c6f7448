// What a journal says: one record for each thing that happened to a protection. A record is JSON;
// parseRecord() checks every field, because a journal may come from another machine.

import { type Guid, parseGuid } from '../../shared/bytes/index.js';

export interface DiskGeometry {
  readonly diskId: Guid;
  readonly generation: number;
  readonly sizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
}

export type Transfer = 'base' | 'delta';

/** One disk of a point: what its cycle brought. */
export interface DiskRecord extends DiskGeometry {
  readonly transfer: Transfer;
  /** Manifest root, hex. */
  readonly root: string;
  readonly cellCount: number;
  readonly dataCellCount: number;
  /** Bytes of the data cells. */
  readonly dataBytes: number;
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
  readonly disks: readonly DiskRecord[];
  /** VM definition as protobuf, base64; data for the failover. */
  readonly definition: string;
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

export type JournalRecord =
  ProtectRecord | CommitRecord | PinRecord | VerifyRecord | PauseRecord | HaltRecord;

class Unusable extends Error {
  override readonly name = 'Unusable';
}

/** Fields of one object, each asked for once. */
class Fields {
  readonly #value: Readonly<Record<string, unknown>>;

  constructor(value: unknown, what: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new Unusable(`${what} is no object`);
    }
    this.#value = value as Readonly<Record<string, unknown>>;
  }

  has(name: string): boolean {
    return this.#value[name] !== undefined;
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

function asText(value: unknown): string {
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
      // before there were lists, a record was about one point
      return {
        kind,
        atMs,
        points: fields.has('points')
          ? fields.list('points', (item) => parseVerified(new Fields(item, 'a point')))
          : [parseVerified(fields)],
      };
    case 'pause':
      return { kind, atMs, isPaused: fields.flag('isPaused'), by: fields.text('by') };
    case 'halt':
      return { kind, atMs, reason: fields.text('reason') };
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
    disks: fields.list('disks', parseDisk),
    definition: fields.text('definition'),
    pinned: fields.list('pinned', (item) => {
      const pin = new Fields(item, 'a pin');
      return { pointId: pin.guid('pointId'), reason: pin.text('reason') };
    }),
    delisted: fields.list('delisted', (item) => asGuid(item, 'delisted')),
    pointCount: fields.number('pointCount'),
    warnings: fields.list('warnings', asText),
  };
}

function parseDisk(value: unknown): DiskRecord {
  const fields = new Fields(value, 'a disk');
  const transfer = fields.text('transfer');
  if (transfer !== 'base' && transfer !== 'delta') {
    throw new Unusable(`a disk has the transfer "${transfer}"`);
  }
  const root = fields.text('root');
  if (!/^[0-9a-f]{64}$/.test(root)) throw new Unusable('a root is no SHA-256');
  return {
    diskId: fields.guid('diskId'),
    generation: fields.number('generation'),
    sizeBytes: fields.number('sizeBytes'),
    logicalSectorBytes: fields.number('logicalSectorBytes'),
    physicalSectorBytes: fields.number('physicalSectorBytes'),
    transfer,
    root,
    cellCount: fields.number('cellCount'),
    dataCellCount: fields.number('dataCellCount'),
    dataBytes: fields.number('dataBytes'),
  };
}
