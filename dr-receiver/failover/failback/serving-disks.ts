// The VM that serves at this site, frozen, as a failback sees it (failover.md § 4 "failback"): what its
// disks have that the primary's lack, the hashes of all of it, and its bytes. The disks at the primary
// are those of the head; the serving VM was started from a point before or at the head. So what the
// primary lacks is
//
//   what the protective disk changed ∪ the cells of all deltas behind that point, up to the head
//
// read from the frozen disk, whatever they are now. A later round asks the hypervisor for what changed
// since the round before.

import { defined } from '../../../shared/assert.js';
import type { Guid } from '../../../shared/bytes/index.js';
import {
  type CellRange,
  CellSet,
  cellsOfRanges,
  type ManifestRecord,
  recordsOfCells,
  rootOfRecords,
  unionOfCells,
} from '../../../shared/delta/index.js';
import type { ReadableDisk } from '../../../shared/disk/index.js';
import { DrError } from '../../../shared/errors.js';
import type { Checkpoint, ReferencePoint } from '../../../shared/hypervisor/index.js';
import {
  closeLayers,
  layerIn,
  listedPoint,
  openLayers,
  pointRecords,
  type ReadSeams,
  segmentOf,
} from '../../store/point-sources.js';
import type { DiskRecord } from '../../store/records.js';
import type { VmStore } from '../../store/vm-store.js';
import type { Instance, InstanceDisk } from '../model.js';
import type { TargetHost } from '../ports.js';

const CHECKPOINT_TIMEOUT_MS = 10 * 60 * 1000;

export interface ServingOptions {
  readonly vm: VmStore;
  readonly instance: Instance;
  readonly host: TargetHost;
  readonly seams: ReadSeams;
  /** The file of a disk that is never written to, below the protective one. */
  readonly materialisedPath: (diskId: Guid) => string;
  /** What was frozen in the round before; undefined: this is the first one. */
  readonly since: ReferencePoint | undefined;
}

export interface ServingDisk {
  readonly disk: DiskRecord;
  readonly frozen: ReadableDisk;
  /** What the primary may lack, by all that is known here. */
  readonly lacking: CellSet;
  /** What may differ from the point that the VM was started from. */
  readonly changed: CellSet;
  /** The hypervisor has forgotten what changed since the round before, so `lacking` is not all of it. */
  readonly isSinceLost: boolean;
}

export class ServingDisks {
  readonly checkpoint: Checkpoint;
  readonly disks: ReadonlyMap<Guid, ServingDisk>;
  readonly #options: ServingOptions;
  readonly #vmId: Guid;
  readonly #roots = new Map<Guid, Promise<Buffer>>();

  private constructor(
    options: ServingOptions,
    checkpoint: Checkpoint,
    disks: ReadonlyMap<Guid, ServingDisk>,
  ) {
    this.#options = options;
    this.#vmId = checkpoint.vmId;
    this.checkpoint = checkpoint;
    this.disks = disks;
  }

  /**
   * Freezes the serving VM, whether it runs or not.
   * @throws DrError E_CHECKPOINT, E_DISK_MISMATCH (the disks of head and started point differ), E_IO, …
   */
  static async freeze(options: ServingOptions): Promise<ServingDisks> {
    const { vm, instance, host } = options;
    const vmId = defined(instance.vmId, 'a VM that serves is registered');
    const tag = { protectionId: vm.vmId, operationId: instance.operationId };
    await removeOwnCheckpoints(host, vmId, instance.operationId);
    const request = { tag, consistency: 'crash', timeoutMs: CHECKPOINT_TIMEOUT_MS } as const;
    const checkpoint = await host.createCheckpoint(vmId, request);
    const disks = new Map<Guid, ServingDisk>();
    try {
      for (const record of listedPoint(vm, instance.pointId).disks) {
        disks.set(record.diskId, await openDisk(options, checkpoint, record));
      }
    } catch (error) {
      for (const { frozen } of disks.values()) await frozen.close();
      await host.removeCheckpoint(vmId, checkpoint.id);
      throw error;
    }
    return new ServingDisks(options, checkpoint, disks);
  }

  /** What an earlier round brought may be gone here since, as when a user's checkpoint was applied. */
  get isSinceLost(): boolean {
    return [...this.disks.values()].some((disk) => disk.isSinceLost);
  }

  /** Of the VM at both sites, as it is protected. */
  get protectionId(): Guid {
    return this.#options.vm.vmId;
  }

  /** @throws DrError E_NOT_FOUND */
  disk(diskId: Guid): ServingDisk {
    const disk = this.disks.get(diskId);
    if (disk !== undefined) return disk;
    throw new DrError('E_NOT_FOUND', `the VM that serves has no disk ${diskId}`);
  }

  /** Hashes of all cells that are not zero, in ascending order; what was not changed is not read. */
  async *records(diskId: Guid): AsyncGenerator<ManifestRecord> {
    const { vm, instance, seams } = this.#options;
    const { disk, frozen, changed } = this.disk(diskId);
    const fresh = recordsOfCells(frozen, changed.ranges(), changed.isScattered);
    let next = await fresh.next();
    const isChanged = membershipOf(changed);
    for await (const record of pointRecords(seams, vm, instance.pointId, disk)) {
      while (next.done !== true && next.value.cell < record.cell) {
        yield next.value;
        next = await fresh.next();
      }
      if (!isChanged(record.cell)) yield record;
    }
    for (; next.done !== true; next = await fresh.next()) yield next.value;
  }

  /** Root of all cells of a disk; 32 bytes. It is frozen: whoever asks again gets what was read before. */
  root(diskId: Guid): Promise<Buffer> {
    const known = this.#roots.get(diskId) ?? rootOfRecords(this.records(diskId));
    this.#roots.set(diskId, known);
    return known;
  }

  /** The disks of the VM with the root of each, for its record. */
  async withRoots(disks: readonly InstanceDisk[]): Promise<readonly InstanceDisk[]> {
    const rooted: InstanceDisk[] = [];
    for (const disk of disks) {
      rooted.push({ ...disk, servedRoot: (await this.root(disk.diskId)).toString('hex') });
    }
    return rooted;
  }

  /** Ends the round: what changes from here on can be asked for in the next one. */
  async release(): Promise<ReferencePoint> {
    const { host, since } = this.#options;
    await this.#close();
    const reference = await host.convertToReferencePoint(this.#vmId, this.checkpoint.id);
    if (since !== undefined) await host.removeReferencePoint(this.#vmId, since.id);
    return reference;
  }

  /** Ends the round as if it had not been. */
  async discard(): Promise<void> {
    await this.#close();
    await this.#options.host.removeCheckpoint(this.#vmId, this.checkpoint.id);
  }

  async #close(): Promise<void> {
    for (const { frozen } of this.disks.values()) await frozen.close();
  }
}

/** What a receiver that died in a round left behind. */
export async function removeOwnCheckpoints(
  host: TargetHost,
  vmId: Guid,
  operationId: Guid,
): Promise<void> {
  for (const { id, tag } of await host.listCheckpoints(vmId)) {
    if (tag?.operationId === operationId) await host.removeCheckpoint(vmId, id);
  }
  await host.waitForMerge(vmId, CHECKPOINT_TIMEOUT_MS);
}

async function openDisk(
  options: ServingOptions,
  checkpoint: Checkpoint,
  disk: DiskRecord,
): Promise<ServingDisk> {
  const { host, since, materialisedPath } = options;
  const { vmId, id } = checkpoint;
  const frozen = await host.openCheckpointDisk(vmId, id, disk.diskId);
  try {
    if (frozen.sizeBytes !== disk.sizeBytes) {
      throw new DrError(
        'E_DISK_MISMATCH',
        `disk ${disk.diskId} has ${frozen.sizeBytes} bytes where it serves, and ${disk.sizeBytes} in the point that it was started from`,
        { hint: 'Make the failover permanent, or undo it.' },
      );
    }
    const above = host.rangesAbove(vmId, id, disk.diskId, materialisedPath(disk.diskId));
    const changed = await cellsOfRanges(above, disk.sizeBytes);
    const later = await changedSince(host, checkpoint, disk, since);
    const lacking = later ?? unionOfCells(changed, await cellsBehind(options, disk));
    const isSinceLost = since !== undefined && later === undefined;
    return { disk, frozen, changed, lacking, isSinceLost };
  } catch (error) {
    await frozen.close();
    throw error;
  }
}

/** undefined: the hypervisor does not know. */
async function changedSince(
  host: TargetHost,
  { vmId, id }: Checkpoint,
  { diskId, sizeBytes }: DiskRecord,
  since: ReferencePoint | undefined,
): Promise<CellSet | undefined> {
  const tracked = since?.disks.find((each) => each.diskId === diskId);
  if (tracked === undefined) return undefined;
  try {
    const ranges = host.changedRanges(vmId, id, diskId, tracked.trackingId);
    return await cellsOfRanges(ranges, sizeBytes);
  } catch (error) {
    if (error instanceof DrError && error.code === 'E_TRACKING_INVALID') return undefined;
    throw error;
  }
}

/** The cells of all deltas behind the point that the VM was started from, up to the head. */
async function cellsBehind(
  { vm, instance, seams }: ServingOptions,
  disk: DiskRecord,
): Promise<CellSet> {
  const head = defined(vm.protection.head, 'a VM that was failed over has points');
  if (head.pointId === instance.pointId) return new CellSet();
  const segment = segmentOf(vm, listedPoint(vm, instance.pointId), disk);
  const start = segment.layers.findIndex(({ pointId }) => pointId === instance.pointId);
  const end = segment.layers.findIndex(({ pointId }) => pointId === head.pointId);
  if (start < 0 || end < start) {
    throw new DrError(
      'E_DISK_MISMATCH',
      `disk ${disk.diskId} was replaced or resized between the point that serves and the newest one`,
      // a comparison would not help: no delta leads from one point to the other, so nothing could be committed
      { hint: 'Make the failover permanent, or undo it.' },
    );
  }
  const lease = await vm.leases.read([segment]);
  try {
    const layers = segment.layers.slice(start + 1, end + 1);
    const open = await openLayers(
      seams,
      layers.map((layer) => layerIn(vm.layout, segment, layer)),
    );
    try {
      let all = new CellSet();
      for (const { source } of open) {
        const cells = new CellSet();
        for await (const entry of source.entries()) {
          cells.add(entry.cell, entry.cell + (entry.kind === 'zero' ? entry.count : 1));
        }
        all = unionOfCells(all, cells);
      }
      return all;
    } finally {
      await closeLayers(open);
    }
  } finally {
    lease.release();
  }
}

/** Asked in ascending order. */
function membershipOf(cells: CellSet): (cell: number) => boolean {
  const ranges = cells.ranges();
  let range: IteratorResult<CellRange> = ranges.next();
  return (cell) => {
    while (range.done !== true && range.value.end <= cell) range = ranges.next();
    return range.done !== true && range.value.start <= cell;
  };
}
