// The protective disks of a failback: one over each disk of the primary's VM, filled with what the
// serving site has. The disks below are as they were, so dropping these undoes everything.

import { dirname, join } from 'node:path';
import type { Guid } from '../../shared/bytes/index.js';
import type { Random } from '../../shared/clock.js';
import {
  type BatchMessage,
  CELL_BYTES,
  cellCount,
  cellLength,
  type CellRange,
  CellSet,
  hashCell,
  recordsOfCells,
  rootOfRecords,
} from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import { createVhdx, openVhdx, type VhdxDisk } from '../../shared/vhdx/index.js';
import { compareCells } from '../compare-cells.js';
import { protocolError } from '../receiver-view.js';
import type { ReturnDisk } from './return-record.js';
import { requireRoom } from './room.js';
import {
  servingCells,
  servingHashes,
  servingRoot,
  type ServingSeams,
  type ServingVm,
} from './serving-site.js';

/** Ranges that one request names. */
const RANGES_MAX = 65_536;
/** The smallest that a VHDX may have: a cell that changed alone costs no more than this. */
const BLOCK_BYTES = 1024 * 1024;

export interface FillSeams extends ServingSeams {
  readonly fs: FileSystem;
  readonly random: Random;
  /** Told whenever something was fetched or compared. */
  readonly onProgress: () => void;
}

export function protectiveName(original: string, diskId: Guid, operationId: Guid): string {
  return join(dirname(original), `${diskId}.${operationId}.failback.vhdx`);
}

/** Makes empty protective files, in place of those that an earlier attempt left. */
export async function makeProtective(
  disks: readonly ReturnDisk[],
  seams: { readonly fs: FileSystem; readonly random: Random },
): Promise<void> {
  await removeProtective(disks, seams.fs);
  for (const { original, protective } of disks) {
    const blockSizeBytes = BLOCK_BYTES;
    const empty = { type: 'differencing', parentPath: original, blockSizeBytes } as const;
    await createVhdx(protective, empty, seams);
    await seams.fs.flushFolder(dirname(protective));
  }
}

/** No error for those that are gone. */
export async function removeProtective(
  disks: readonly ReturnDisk[],
  fs: FileSystem,
): Promise<void> {
  for (const { protective } of disks) {
    if ((await fs.status(protective)) === undefined) continue;
    await fs.remove(protective);
    await fs.flushFolder(dirname(protective));
  }
}

/**
 * Brings over what the serving site changed since the primary's disks were those of its head, and the
 * cells of `own`, which changed here. Durable on return. Returns the number of cells that came.
 */
export async function fillChanged(
  disk: ReturnDisk,
  own: CellSet,
  of: ServingVm,
  seams: FillSeams,
): Promise<number> {
  return withProtective(disk, seams, async (target) => {
    let count = 0;
    let isWithChanged = true;
    // what the serving site changed comes with the first piece of our own list
    for (const given of piecesOf(own, true)) {
      count += await fetchCells(target, disk.diskId, { given, isWithChanged }, of, seams);
      isWithChanged = false;
    }
    return count;
  });
}

/**
 * Compares all hashes and brings over the cells that differ. Durable on return.
 * @throws DrError E_CAPACITY before any of them is fetched, …
 */
export async function fillCompared(
  disk: ReturnDisk,
  of: ServingVm,
  seams: FillSeams,
): Promise<number> {
  return withProtective(disk, seams, async (target) => {
    const differing = await differingCells(target, disk.diskId, of, seams);
    await requireRoom([{ file: disk.protective, cells: differing }], seams.fs);
    let count = 0;
    for (const given of piecesOf(differing, false)) {
      const wanted = { given, isWithChanged: false };
      count += await fetchCells(target, disk.diskId, wanted, of, seams);
    }
    return count;
  });
}

/**
 * Every byte here is the serving site's. One hash tells; those of the cells travel only when it differs.
 * @throws DrError E_DIFFERENT
 */
export async function requireLevel(
  disk: ReturnDisk,
  of: ServingVm,
  seams: FillSeams,
): Promise<void> {
  const { fs, random } = seams;
  const ours = await openVhdx(disk.protective, { fs, random });
  try {
    const theirs = await servingRoot(of, sizeOf(ours, disk.diskId), seams);
    if (theirs.equals(await rootOf(ours, seams))) return;
    const differing = await differingCells(ours, disk.diskId, of, seams);
    const [first] = differing.ranges();
    const where =
      first === undefined ? '' : `, the first at guest offset ${first.start * CELL_BYTES}`;
    throw new DrError(
      'E_DIFFERENT',
      `${differing.count} cells of disk ${disk.diskId} differ from the site that serves${where}`,
      {
        context: { diskId: disk.diskId, cells: differing.count },
        done: 'the VM was not started here',
        hint: 'The next round compares every disk by its hashes.',
      },
    );
  } finally {
    await ours.close();
  }
}

function rootOf(disk: VhdxDisk, { signal, onProgress }: FillSeams): Promise<Buffer> {
  const end = cellCount(disk.sizeBytes);
  const all = end === 0 ? [] : [{ start: 0, end }];
  return rootOfRecords(recordsOfCells(disk, all, false), () => {
    signal.throwIfAborted();
    onProgress();
  });
}

function sizeOf({ sizeBytes }: VhdxDisk, diskId: Guid): { diskId: Guid; sizeBytes: number } {
  return { diskId, sizeBytes };
}

async function withProtective<T>(
  { protective }: ReturnDisk,
  { fs, random }: FillSeams,
  use: (disk: VhdxDisk) => Promise<T>,
): Promise<T> {
  const disk = await openVhdx(protective, { fs, random, isWritable: true });
  let result: T;
  try {
    result = await use(disk);
    await disk.flush();
  } catch (error) {
    await disk.close().catch(() => undefined);
    throw error;
  }
  await disk.close();
  return result;
}

/** The ranges in pieces that fit into a request; with `isAtLeastOne` one piece that may be empty. */
function* piecesOf(cells: CellSet, isAtLeastOne: boolean): Generator<CellRange[]> {
  let piece: CellRange[] = [];
  let isAny = false;
  for (const range of cells.ranges()) {
    piece.push(range);
    if (piece.length < RANGES_MAX) continue;
    yield piece;
    isAny = true;
    piece = [];
  }
  if (piece.length > 0 || (isAtLeastOne && !isAny)) yield piece;
}

async function differingCells(
  disk: VhdxDisk,
  diskId: Guid,
  of: ServingVm,
  seams: FillSeams,
): Promise<CellSet> {
  const { signal, onProgress } = seams;
  const remote = servingHashes(of, sizeOf(disk, diskId), seams);
  const cells = new CellSet();
  try {
    const onDiffers = (cell: number): void => {
      cells.add(cell, cell + 1);
    };
    await compareCells(disk, remote, { signal, onDiffers, onCompared: onProgress });
  } finally {
    await remote.close();
  }
  return cells;
}

/** Takes cells into the disk, each checked against its hash. Returns how many. */
async function fetchCells(
  disk: VhdxDisk,
  diskId: Guid,
  wanted: { readonly given: readonly CellRange[]; readonly isWithChanged: boolean },
  of: ServingVm,
  seams: FillSeams,
): Promise<number> {
  let count = 0;
  for await (const message of servingCells(of, sizeOf(disk, diskId), wanted, seams)) {
    count += await takeCells(disk, message);
    seams.onProgress();
  }
  return count;
}

async function takeCells(
  disk: VhdxDisk,
  { entries, payload }: Extract<BatchMessage, { kind: 'cells' }>,
): Promise<number> {
  const { sizeBytes } = disk;
  let count = 0;
  let at = 0;
  for (const entry of entries) {
    const offset = entry.cell * CELL_BYTES;
    if (offset >= sizeBytes) throw protocolError('a cell lies behind the disk');
    if (entry.kind === 'zero') {
      const end = Math.min(sizeBytes, offset + entry.count * CELL_BYTES);
      await disk.zero(offset, end - offset);
      count += entry.count;
      continue;
    }
    if (entry.kind !== 'data') throw protocolError('a cell is none');
    const bytes = payload.subarray(at, at + cellLength(entry.cell, sizeBytes));
    at += bytes.length;
    if (!hashCell(bytes).equals(entry.hash)) throw protocolError('a cell has another hash');
    await disk.write(offset, bytes);
    count++;
  }
  return count;
}
