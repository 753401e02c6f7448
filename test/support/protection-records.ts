// Journal records of a protection for tests of the store: a VM with disks that nobody reads, made of
// numbers. What a record says of its files is not looked at by the store's model.

import { type Guid, guid } from '../../shared/bytes/index.js';
import type {
  CommitRecord,
  CompactRecord,
  DiskRecord,
  FoldBeginRecord,
  ProtectRecord,
  SegmentKey,
} from '../../dr-receiver/store/records.js';

/** A GUID that tells what it is of and the number. */
export function numbered(what: number, n: number): Guid {
  const high = what.toString(16).padStart(8, '0');
  return guid(`${high}-0000-4000-9000-${n.toString(16).padStart(12, '0')}`);
}

export const VM_ID = numbered(1, 1);
export const STORE_ID = numbered(2, 1);
export const pointId = (n: number): Guid => numbered(3, n);
export const cycleId = (n: number): Guid => numbered(4, n);
export const diskId = (n: number): Guid => numbered(5, n);
export const rootOf = (n: number): string => n.toString(16).padStart(64, '0');

export function protectRecord(): ProtectRecord {
  return { kind: 'protect', atMs: 1, vmId: VM_ID, vmName: 'VM', owner: 'site-a', epoch: '1' };
}

export function diskRecord(n: number, fields: Partial<DiskRecord> = {}): DiskRecord {
  return {
    diskId: diskId(1),
    generation: 0,
    sizeBytes: 1024 * 1024,
    logicalSectorBytes: 512,
    physicalSectorBytes: 4096,
    transfer: n === 1 ? 'base' : 'delta',
    root: rootOf(n),
    cellCount: 2,
    dataCellCount: 1,
    dataBytes: 65_536,
    ...fields,
  };
}

/** Commit `n` of a VM, from 1; it follows commit n - 1. */
export function commitRecord(n: number, fields: Partial<CommitRecord> = {}): CommitRecord {
  return {
    kind: 'commit',
    atMs: 1000 * n,
    cycleId: cycleId(n),
    pointId: pointId(n),
    parentPointId: n === 1 ? null : pointId(n - 1),
    epoch: '1',
    cycleKind: n === 1 ? 'seed' : 'delta',
    by: 'site-a',
    vmName: 'VM',
    consistentAtMs: 1000 * n,
    isApplicationConsistent: true,
    maxRestorePoints: 5,
    rpoSeconds: 900,
    disks: [diskRecord(n)],
    definition: n === 1 ? 'ZGVm' : null,
    pinned: [],
    delisted: [],
    pointCount: n,
    warnings: [],
    ...fields,
  };
}

/** The segment of disk 1 that commit 1 began. */
export const FIRST_SEGMENT: SegmentKey = {
  diskId: diskId(1),
  generation: 0,
  baseCycleId: cycleId(1),
};

const CONTENT = { cellCount: 3, dataCellCount: 2, dataBytes: 131_072 };

/** The deltas to `points` become one. */
export function compactRecord(n: number, ...points: readonly number[]): CompactRecord {
  return {
    kind: 'compact',
    atMs: 1,
    ...FIRST_SEGMENT,
    ...CONTENT,
    root: rootOf(10_000 + n),
    cycleId: cycleId(10_000 + n),
    pointIds: points.map(pointId),
  };
}

export function foldBeginRecord(point: number): FoldBeginRecord {
  return {
    kind: 'fold-begin',
    atMs: 1,
    ...FIRST_SEGMENT,
    ...CONTENT,
    root: rootOf(20_000 + point),
    pointId: pointId(point),
  };
}
