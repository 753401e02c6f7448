// Compares a point of a receiver with the VM as it is now, by hashes; no data moves. What differs must
// stand in the ledger as changed: a cell that differs and that nobody saw change is a divergence.

import { type Guid, guidFromWire, guidToWire } from '../shared/bytes/index.js';
import type { ReplicationService, ServiceClient } from '../shared/channel/index.js';
import { CELL_BYTES, cellsOfRanges } from '../shared/delta/index.js';
import { isAllZero, type ReadableDisk } from '../shared/disk/index.js';
import { DrError } from '../shared/errors.js';
import type { CheckpointDisk, SourceHypervisor, VmSummary } from '../shared/hypervisor/index.js';
import { compareCells } from './compare-cells.js';
import { type DirtyCells, union } from './dirty-cells.js';
import type { Inspection } from './inspect.js';
import { chainKey, isSameGeometry } from './ledger.js';
import { receiverView, type ReceiverDisk } from './receiver-view.js';
import { RemoteHashes } from './remote-hashes.js';

/** Places that are named one by one. */
const PLACES_MAX = 100;

export interface ComparedDisk {
  readonly diskId: Guid;
  readonly comparedBytes: number;
  readonly differingCells: number;
  /** Differing cells that the ledger knows as changed. */
  readonly changedCells: number;
  /** Cells that are known as damaged at the receiver. */
  readonly damagedCells: number;
  /** Guest offsets of the first ones. */
  readonly damagedAt: readonly number[];
  /** Differing cells that nobody saw change; undefined: the ledger cannot tell. */
  readonly divergedCells: number | undefined;
  /** Guest offsets of the first ones. */
  readonly divergedAt: readonly number[];
  /** Why the disk was not compared, or why nothing follows from what differs. */
  readonly note: string;
}

/** Whether the cell was known to have changed. */
type Judge = (cell: number) => boolean;

export interface CompareWork {
  readonly client: ServiceClient<ReplicationService>;
  readonly hypervisor: SourceHypervisor;
  /** undefined: the receiver's head. */
  readonly pointId: Guid | undefined;
  readonly signal: AbortSignal;
  readonly onCompared: (bytes: number) => void;
}

/**
 * The point that a person names: an id or its beginning; undefined for `latest`. A source is told of
 * the 64 newest.
 * @throws DrError E_NO_POINT
 */
export async function pointNamed(
  vm: VmSummary,
  name: string,
  { client, signal }: Pick<CompareWork, 'client' | 'signal'>,
): Promise<Guid | undefined> {
  if (name === 'latest') return undefined;
  const request = { vmId: guidToWire(vm.id), vmName: vm.name };
  const { pointIds } = await client.describe(request, { signal });
  const found = pointIds
    .map((bytes) => guidFromWire(bytes))
    .filter((id) => id?.startsWith(name.toLowerCase()) === true);
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  throw new DrError('E_NO_POINT', `${found.length} points of ${vm.name} begin with ${name}`, {
    hint: 'Give point=latest, or an id that `hvdr points VM` lists.',
  });
}

/** @throws DrError E_NO_POINT; those of the receiver and of the disks */
export async function compareWithReceiver(
  { vm, ledger, lease }: Inspection,
  work: CompareWork,
): Promise<ComparedDisk[]> {
  const { client, signal } = work;
  const vmId = guidToWire(vm.id);
  const receiver = receiverView(await client.describe({ vmId, vmName: vm.name }, { signal }));
  const { headPointId } = receiver;
  const pointId = work.pointId ?? headPointId;
  if (pointId === undefined) {
    throw new DrError('E_NO_POINT', `the receiver has no point of ${vm.name}`, {
      hint: 'Push the VM first.',
    });
  }
  const chain = ledger.chains.get(chainKey(receiver.storeId));
  const isKnown =
    pointId === headPointId &&
    chain !== undefined &&
    [chain.confirmed, chain.inFlight, ...chain.offered].some((one) => one?.pointId === pointId);
  const compared: ComparedDisk[] = [];
  for (const disk of lease.checkpoint.disks) {
    const atHead = receiver.disks.find(({ diskId }) => diskId === disk.diskId);
    if (atHead === undefined || !isSameGeometry(atHead.geometry, disk)) {
      const note =
        'the receiver has no such disk, or in another size; the next cycle sends it whole';
      compared.push(notCompared(disk.diskId, note));
      continue;
    }
    if (receiver.lostDiskIds.includes(disk.diskId)) {
      const note = 'the receiver cannot read its copy any more; the next cycle sends it whole';
      compared.push(notCompared(disk.diskId, note));
      continue;
    }
    const debt = chain?.disks.get(disk.diskId);
    const owed = debt === undefined ? 'all' : union(debt.pending, debt.inFlight ?? debt.pending);
    const dirty = isKnown
      ? union(owed, await changesOf(work.hypervisor, disk, ledger, lease))
      : 'all';
    const opened = await lease.openDisk(disk.diskId);
    const result = await compareDisk(opened, atHead, pointId, vmId, dirty, work);
    const note = dirty === 'all' ? noteOf(isKnown, pointId === headPointId) : '';
    compared.push({ ...result, note });
  }
  return compared;
}

function noteOf(isKnown: boolean, isHead: boolean): string {
  if (!isHead) return 'what changed since an older point is not known, so nothing follows from it';
  if (!isKnown) return 'the ledger does not know this point, so nothing follows from what differs';
  return 'the ledger does not know what changed, so nothing follows from what differs';
}

function notCompared(diskId: Guid, note: string): ComparedDisk {
  return {
    diskId,
    comparedBytes: 0,
    differingCells: 0,
    changedCells: 0,
    damagedCells: 0,
    damagedAt: [],
    divergedCells: undefined,
    divergedAt: [],
    note,
  };
}

/** Changes since the reference point of the ledger. */
async function changesOf(
  hypervisor: SourceHypervisor,
  disk: CheckpointDisk,
  { reference }: Inspection['ledger'],
  { checkpoint }: Inspection['lease'],
): Promise<DirtyCells> {
  const known = reference?.disks.find(({ diskId }) => diskId === disk.diskId);
  if (known === undefined || !isSameGeometry(known.geometry, disk)) return 'all';
  try {
    const { vmId, id } = checkpoint;
    const ranges = hypervisor.changedRanges(vmId, id, disk.diskId, known.trackingId);
    return await cellsOfRanges(ranges, disk.sizeBytes);
  } catch (error) {
    if (!(error instanceof DrError) || error.code !== 'E_TRACKING_INVALID') throw error;
    return 'all';
  }
}

async function compareDisk(
  disk: ReadableDisk,
  atHead: ReceiverDisk,
  pointId: Guid,
  vmId: Buffer,
  dirty: DirtyCells,
  { client, signal, onCompared }: CompareWork,
): Promise<Omit<ComparedDisk, 'note'>> {
  const { diskId, generation } = atHead;
  const remote = RemoteHashes.open(
    client,
    { vmId, diskId, generation, diskSizeBytes: disk.sizeBytes, of: { pointId } },
    signal,
  );
  const count = new Count(dirty === 'all' ? undefined : judgeOf(dirty));
  try {
    await compareCells(disk, remote, {
      signal,
      onCompared,
      onDiffers: (cell, theirs) => {
        count.differs(cell, theirs);
      },
    });
  } finally {
    await remote.close();
  }
  return { diskId, comparedBytes: disk.sizeBytes, ...count.result() };
}

/** Tells of cells in ascending order whether they are in the set. */
function judgeOf(dirty: Exclude<DirtyCells, 'all'>): Judge {
  const ranges = dirty.ranges()[Symbol.iterator]();
  let range = ranges.next();
  return (cell) => {
    while (range.done !== true && range.value.end <= cell) range = ranges.next();
    return range.done !== true && range.value.start <= cell;
  };
}

class Count {
  readonly #judge: Judge | undefined;
  #differing = 0;
  #changed = 0;
  #damaged = 0;
  #diverged = 0;
  readonly #at: number[] = [];
  readonly #damagedAt: number[] = [];

  constructor(judge: Judge | undefined) {
    this.#judge = judge;
  }

  differs(cell: number, theirs: Buffer | undefined): void {
    this.#differing++;
    const isChanged = this.#judge?.(cell) === true;
    if (isChanged) this.#changed++;
    if (theirs !== undefined && isAllZero(theirs)) {
      // the receiver says itself that it cannot read this cell
      this.#damaged++;
      if (this.#damagedAt.length < PLACES_MAX) this.#damagedAt.push(cell * CELL_BYTES);
      return;
    }
    if (isChanged || this.#judge === undefined) return;
    this.#diverged++;
    if (this.#at.length < PLACES_MAX) this.#at.push(cell * CELL_BYTES);
  }

  result(): Pick<
    ComparedDisk,
    | 'differingCells'
    | 'changedCells'
    | 'damagedCells'
    | 'damagedAt'
    | 'divergedCells'
    | 'divergedAt'
  > {
    return {
      differingCells: this.#differing,
      changedCells: this.#changed,
      damagedCells: this.#damaged,
      damagedAt: this.#damagedAt,
      divergedCells: this.#judge === undefined ? undefined : this.#diverged,
      divergedAt: this.#at,
    };
  }
}
