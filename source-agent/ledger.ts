// The ledger of one VM (design.md § 1): for every chain - one consumer of the VM's changes: a DR
// store, or a backup job - the cells that the consumer may still lack. Values and pure rules; ledger-store.ts
// makes them durable.
//
// The law (failover.md I3), for every chain and disk, at every moment at which a ledger is durable:
//
//   pending ∪ in flight ∪ (changes since the reference point)
//       ⊇ what differs between the confirmed point and the disk as it is now
//
// It also holds for every point that was offered since the last confirmation: each of them was the
// disk at a later moment than the confirmed point, and nothing was taken out of the sets since. So a
// receiver whose head is one of those - the answer to a commit was lost - gets a delta, not a
// compare.

import type { Guid } from '../shared/bytes/index.js';
import { type DirtyCells, noCells, union } from './dirty-cells.js';

export interface Geometry {
  readonly sizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
}

export function isSameGeometry(one: Geometry, other: Geometry): boolean {
  return (
    one.sizeBytes === other.sizeBytes &&
    one.logicalSectorBytes === other.logicalSectorBytes &&
    one.physicalSectorBytes === other.physicalSectorBytes
  );
}

/** What one chain lacks of one disk. */
export interface DiskDebt {
  readonly generation: number;
  readonly geometry: Geometry;
  readonly pending: DirtyCells;
  /** Why pending is 'all'; for people. */
  readonly because: string;
  /** undefined: the disk is not part of the cycle in flight. */
  readonly inFlight: DirtyCells | undefined;
}

/** What is known of a point that went into a backup job (ledger-jobs.ts). */
export interface JobFacts {
  /** Unique name of the job. */
  readonly name: string;
  /** Number of the point's files. */
  readonly seq: number;
  /** Every file of the point was handed on. */
  readonly isSent: boolean;
  readonly diskIds: readonly Guid[];
}

export interface PointFacts {
  readonly pointId: Guid;
  /** When the disks were frozen, by the source's clock. */
  readonly consistentAtMs: number;
  /** undefined: the point went to a DR store. */
  readonly job?: JobFacts | undefined;
}

export interface CycleInFlight extends PointFacts {
  readonly cycleId: Guid;
}

export interface KnownGeneration {
  readonly generation: number;
  readonly geometry: Geometry;
  /** A point with it was confirmed, so the next base of the disk needs another number. */
  readonly isUsed: boolean;
}

/** The last word of the receiver on which site is active, under the chain's epoch. */
export interface Standing {
  readonly activeSite: 'source' | 'target';
  /** The VM runs at the DR site for good: it is replicated there no more. */
  readonly isRetired: boolean;
}

export const SOURCE_ACTIVE: Standing = { activeSite: 'source', isRetired: false };

export interface Chain {
  readonly key: string;
  readonly epoch: bigint;
  readonly standing: Standing;
  readonly confirmed: PointFacts | undefined;
  /** Points sent since the last confirmation whose answer is not known; the newest last. */
  readonly offered: readonly PointFacts[];
  readonly inFlight: CycleInFlight | undefined;
  readonly disks: ReadonlyMap<Guid, DiskDebt>;
  /** Of every disk that was ever sent, so that no generation is used twice. */
  readonly generations: ReadonlyMap<Guid, KnownGeneration>;
}

export interface TrackedDisk {
  readonly diskId: Guid;
  readonly trackingId: string;
  readonly geometry: Geometry;
}

/** The reference point from which the next cycle asks for changes. */
export interface Reference {
  readonly id: string;
  readonly createdAtMs: number;
  readonly disks: readonly TrackedDisk[];
}

export interface Ledger {
  readonly vmId: Guid;
  /** For people. */
  readonly vmName: string;
  readonly reference: Reference | undefined;
  readonly chains: ReadonlyMap<string, Chain>;
}

/** More chains than this are a mistake; the one confirmed longest ago is forgotten. */
export const CHAINS_MAX = 64;
export const OFFERED_MAX = 16;

export function emptyLedger(vmId: Guid, vmName: string): Ledger {
  return { vmId, vmName, reference: undefined, chains: new Map() };
}

/** Names the chain of a DR store. */
export function chainKey(storeId: Guid): string {
  return `dr:${storeId}`;
}

export function newChain(key: string, epoch: bigint): Chain {
  return {
    key,
    epoch,
    standing: SOURCE_ACTIVE,
    confirmed: undefined,
    offered: [],
    inFlight: undefined,
    disks: new Map(),
    generations: new Map(),
  };
}

export function withChain(ledger: Ledger, chain: Chain): Ledger {
  const chains = new Map(ledger.chains);
  chains.set(chain.key, chain);
  if (chains.size > CHAINS_MAX) {
    const age = (other: Chain): number => other.confirmed?.consistentAtMs ?? 0;
    const others = [...chains.values()].filter((other) => other.key !== chain.key);
    const oldest = others.reduce((one, other) => (age(other) < age(one) ? other : one));
    chains.delete(oldest.key);
  }
  return { ...ledger, chains };
}

/** What changed on one disk since the reference point, as a checkpoint shows it. */
export interface DiskChanges {
  readonly diskId: Guid;
  readonly geometry: Geometry;
  readonly changed: DirtyCells;
  /** Why `changed` is 'all'; for people. */
  readonly because: string;
}

/** ORs changes into the set of every chain. A disk that a chain never sent needs no set. */
export function absorb(ledger: Ledger, changes: readonly DiskChanges[]): Ledger {
  const chains = new Map<string, Chain>();
  for (const [key, chain] of ledger.chains) {
    const disks = new Map(chain.disks);
    for (const { diskId, geometry, changed, because } of changes) {
      const debt = disks.get(diskId);
      if (debt === undefined) continue;
      if (!isSameGeometry(debt.geometry, geometry)) {
        disks.set(diskId, { ...debt, pending: 'all', because: 'its size changed' });
        continue;
      }
      const reason = debt.pending === 'all' ? debt.because : because;
      disks.set(diskId, { ...debt, pending: union(debt.pending, changed), because: reason });
    }
    chains.set(key, { ...chain, disks });
  }
  return { ...ledger, chains };
}

/** One disk of a cycle as it was planned. */
export interface DiskInFlight {
  readonly diskId: Guid;
  readonly generation: number;
  readonly geometry: Geometry;
  /** What the cycle brings level: the disk's whole debt, or 'all'. */
  readonly cells: DirtyCells;
}

/**
 * Moves what the cycle carries from pending to in flight. What an earlier cycle of the same job carries
 * stays in flight beside it, its point known as offered.
 */
export function begin(chain: Chain, cycle: CycleInFlight, sent: readonly DiskInFlight[]): Chain {
  const disks = new Map(chain.disks);
  const generations = new Map(chain.generations);
  for (const { diskId, generation, geometry, cells } of sent) {
    const debt = disks.get(diskId);
    const owed = union(debt?.pending ?? noCells(), debt?.inFlight ?? noCells());
    const inFlight = union(cells, owed);
    disks.set(diskId, { generation, geometry, pending: noCells(), because: '', inFlight });
    const known = generations.get(diskId);
    const isUsed = known?.generation === generation && known.isUsed;
    generations.set(diskId, { generation, geometry, isUsed });
  }
  return { ...chain, offered: offeredAfter(chain), inFlight: cycle, disks, generations };
}

/** The receiver has the point in flight. Disks that were no part of it are forgotten. */
export function confirm(chain: Chain): Chain {
  const { inFlight } = chain;
  if (inFlight === undefined) return chain;
  const disks = new Map<Guid, DiskDebt>();
  const generations = new Map(chain.generations);
  for (const [diskId, debt] of chain.disks) {
    if (debt.inFlight === undefined) continue;
    disks.set(diskId, { ...debt, inFlight: undefined });
    const { generation, geometry } = debt;
    generations.set(diskId, { generation, geometry, isUsed: true });
  }
  return {
    ...chain,
    confirmed: factsOf(inFlight),
    offered: [],
    inFlight: undefined,
    disks,
    generations,
  };
}

/** The cycle in flight failed, or nobody knows: everything that it carried is owed again. */
export function putBack(chain: Chain): Chain {
  const { inFlight } = chain;
  if (inFlight === undefined) return chain;
  const disks = new Map<Guid, DiskDebt>();
  for (const [diskId, debt] of chain.disks) {
    if (debt.inFlight === undefined) {
      disks.set(diskId, debt);
      continue;
    }
    const isAll = debt.inFlight === 'all' && debt.pending !== 'all';
    const because = isAll ? 'the last cycle did not end' : debt.because;
    const pending = union(debt.pending, debt.inFlight);
    disks.set(diskId, { ...debt, pending, because, inFlight: undefined });
  }
  return { ...chain, offered: offeredAfter(chain), inFlight: undefined, disks };
}

/** The points on offer when the one in flight is no longer the newest. */
function offeredAfter({ offered, inFlight }: Chain): readonly PointFacts[] {
  return inFlight === undefined ? offered : [...offered, factsOf(inFlight)].slice(-OFFERED_MAX);
}

function factsOf({ pointId, consistentAtMs, job }: CycleInFlight): PointFacts {
  return job === undefined ? { pointId, consistentAtMs } : { pointId, consistentAtMs, job };
}

/**
 * What became of the cycle in flight, by the receiver's head point: confirmed when it is the head;
 * otherwise put back. A head that was offered earlier becomes the confirmed point, with everything
 * still owed: more than needed, never less.
 */
export function settle(chain: Chain, headPointId: Guid | undefined): Chain {
  if (chain.inFlight !== undefined && chain.inFlight.pointId === headPointId) return confirm(chain);
  const settled = putBack(chain);
  const found = settled.offered.find((point) => point.pointId === headPointId);
  return found === undefined ? settled : { ...settled, confirmed: found };
}

/** These cells are owed besides: the receiver cannot read them any more. */
export function oweCells(chain: Chain, cells: ReadonlyMap<Guid, DirtyCells>): Chain {
  const disks = new Map(chain.disks);
  for (const [diskId, owed] of cells) {
    const debt = disks.get(diskId);
    // a disk without a set is compared, and the receiver's hashes tell
    if (debt !== undefined) disks.set(diskId, { ...debt, pending: union(debt.pending, owed) });
  }
  return { ...chain, disks };
}

/** Nothing is known any more of what the receiver lacks. */
export function oweAll(chain: Chain, because: string): Chain {
  const disks = new Map<Guid, DiskDebt>();
  for (const [diskId, debt] of chain.disks) {
    disks.set(diskId, { ...debt, pending: 'all', because, inFlight: undefined });
  }
  return { ...chain, confirmed: undefined, offered: [], inFlight: undefined, disks };
}
