// Gives a receiver back what rotted there, from a frozen disk: the cells that it asks for and that
// still have the very hash. What has changed here since, or could not be mended there, and is part of
// the receiver's newest point, is owed to it: the next point brings it as changed cells.

import { type Guid, guidFromWire, guidToWire } from '../shared/bytes/index.js';
import type { RepairRequest, ReplicationService, ServiceClient } from '../shared/channel/index.js';
import {
  CELL_BYTES,
  cellCount,
  cellLength,
  CellSet,
  HASH_BYTES,
  hashCell,
} from '../shared/delta/index.js';
import type { ReadableDisk } from '../shared/disk/index.js';
import { protocolError } from './receiver-view.js';

/** More than a receiver of ours ever asks for. */
const WANTED_MAX = 100_000;

export interface RepairSource {
  /** As it travels. */
  readonly vmId: Buffer;
  readonly disks: readonly { readonly diskId: Guid; readonly sizeBytes: number }[];
  /** A frozen disk; the caller closes it. */
  openDisk(diskId: Guid): Promise<ReadableDisk>;
  /** Told before each cell is sent; may wait. */
  onCell(lengthBytes: number): Promise<void>;
}

export interface RepairOutcome {
  readonly wantedCount: number;
  readonly repairedCount: number;
  /** Cells of the receiver's newest point that stay damaged, by disk. */
  readonly stillBad: ReadonlyMap<Guid, CellSet>;
}

interface Wanted {
  readonly diskId: Guid;
  readonly generation: number;
  readonly cell: number;
  /** undefined: zeros. */
  readonly hash: Buffer | undefined;
  readonly isInHead: boolean;
}

type Client = Pick<ServiceClient<ReplicationService>, 'wanted' | 'repair'>;

/** @throws DrError of the receiver, of the disks; E_PROTOCOL */
export async function repairReceiver(
  client: Client,
  source: RepairSource,
  signal: AbortSignal,
): Promise<RepairOutcome> {
  const wanted = await askWanted(client, source.vmId, signal);
  if (wanted.length === 0) return { wantedCount: 0, repairedCount: 0, stillBad: new Map() };
  const { repairedCount } = await client.repair(cellsFor(source, wanted, signal), { signal });
  const left = repairedCount === 0 ? wanted : await askWanted(client, source.vmId, signal);
  return { wantedCount: wanted.length, repairedCount, stillBad: headCells(left, source) };
}

async function askWanted(client: Client, vmId: Buffer, signal: AbortSignal): Promise<Wanted[]> {
  const wanted: Wanted[] = [];
  for await (const { cells } of client.wanted({ vmId }, { signal })) {
    if (wanted.length + cells.length > WANTED_MAX) throw protocolError('it wants too many cells');
    for (const { diskId, generation, cell, hash, isInHead } of cells) {
      const id = guidFromWire(diskId);
      const isLegal = hash.length === 0 || hash.length === HASH_BYTES;
      if (id === undefined || !isLegal || cell > BigInt(Number.MAX_SAFE_INTEGER)) {
        throw protocolError('it wants a cell that is none');
      }
      const known = hash.length === 0 ? undefined : hash;
      wanted.push({ diskId: id, generation, cell: Number(cell), hash: known, isInHead });
    }
  }
  return wanted;
}

/** The wanted cells that the disks still have with their hashes. */
async function* cellsFor(
  source: RepairSource,
  wanted: readonly Wanted[],
  signal: AbortSignal,
): AsyncGenerator<RepairRequest> {
  const { vmId } = source;
  for (const { diskId, sizeBytes } of source.disks) {
    const ours = wanted
      .filter((one) => one.diskId === diskId && one.cell < cellCount(sizeBytes))
      .sort((a, b) => a.cell - b.cell);
    if (ours.length === 0) continue;
    const disk = await source.openDisk(diskId);
    let sent = -1;
    for (const { generation, cell, hash } of ours) {
      signal.throwIfAborted();
      // two layers may want one cell with one hash; the receiver puts it into both
      if (hash === undefined || cell === sent) continue;
      const data = Buffer.alloc(cellLength(cell, sizeBytes));
      await disk.read(cell * CELL_BYTES, data);
      if (!hashCell(data).equals(hash)) continue;
      sent = cell;
      await source.onCell(data.length);
      yield { vmId, diskId: guidToWire(diskId), generation, cell: BigInt(cell), data };
    }
  }
}

function headCells(wanted: readonly Wanted[], { disks }: RepairSource): ReadonlyMap<Guid, CellSet> {
  const found = new Map<Guid, CellSet>();
  for (const { diskId, sizeBytes } of disks) {
    const cells = new Set(
      wanted
        .filter((one) => one.isInHead && one.diskId === diskId)
        .map(({ cell }) => cell)
        .filter((cell) => cell < cellCount(sizeBytes)),
    );
    if (cells.size === 0) continue;
    const set = new CellSet();
    for (const cell of [...cells].sort((a, b) => a - b)) set.add(cell, cell + 1);
    found.set(diskId, set);
  }
  return found;
}
