// The protective disks of a failback: one over each disk of the primary's VM, filled with what the
// serving site has. The disks below are as they were, so dropping these undoes everything.

import { dirname, join } from 'node:path';
import { type Guid, guidToWire } from '../../shared/bytes/index.js';
import {
  type FailbackCellsResponse,
  FailbackMode,
  type ServiceClient,
  type SiteService,
} from '../../shared/channel/index.js';
import type { Random } from '../../shared/clock.js';
import {
  CELL_BYTES,
  cellLength,
  type CellRange,
  CellSet,
  hashCell,
  parseBatch,
} from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import { createVhdx, openVhdx, type VhdxDisk } from '../../shared/vhdx/index.js';
import { compareCells } from '../compare-cells.js';
import { protocolError } from '../receiver-view.js';
import { RemoteHashes } from '../remote-hashes.js';
import type { ReturnDisk } from './return-record.js';

/** Ranges that one request names. */
const RANGES_MAX = 65_536;

export interface FillSeams {
  readonly client: Pick<ServiceClient<SiteService>, 'failbackCells'>;
  readonly fs: FileSystem;
  readonly random: Random;
  readonly signal: AbortSignal;
  readonly onCells?: ((bytes: number) => void) | undefined;
}

/** Whose cells are fetched. */
export interface FillOf {
  readonly vmId: Guid;
  readonly operationId: Guid;
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
    await createVhdx(protective, { type: 'differencing', parentPath: original }, seams);
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
  of: FillOf,
  seams: FillSeams,
): Promise<number> {
  return withProtective(disk, seams, async (target) => {
    let count = 0;
    let mode: FailbackMode = FailbackMode.FAILBACK_MODE_CHANGED;
    // what the serving site changed comes with the first piece of our own list
    for (const given of piecesOf(own, true)) {
      count += await fetchCells(target, disk.diskId, mode, given, of, seams);
      mode = FailbackMode.FAILBACK_MODE_GIVEN;
    }
    return count;
  });
}

/** Compares all hashes and brings over the cells that differ. Durable on return. */
export async function fillCompared(
  disk: ReturnDisk,
  of: FillOf,
  seams: FillSeams,
): Promise<number> {
  return withProtective(disk, seams, async (target) => {
    const differing = await differingCells(target, disk.diskId, of, seams);
    let count = 0;
    const mode = FailbackMode.FAILBACK_MODE_GIVEN;
    for (const given of piecesOf(differing, false)) {
      count += await fetchCells(target, disk.diskId, mode, given, of, seams);
    }
    return count;
  });
}

/** Every byte here is the serving site's. @throws DrError E_DIFFERENT */
export async function requireLevel(disk: ReturnDisk, of: FillOf, seams: FillSeams): Promise<void> {
  const { fs, random } = seams;
  const ours = await openVhdx(disk.protective, { fs, random });
  try {
    const differing = await differingCells(ours, disk.diskId, of, seams);
    const [first] = differing.ranges();
    if (first === undefined) return;
    throw new DrError(
      'E_DIFFERENT',
      `${differing.count} cells of disk ${disk.diskId} differ from the site that serves, the first at guest offset ${first.start * CELL_BYTES}`,
      {
        context: { diskId: disk.diskId, cells: differing.count },
        done: 'the VM was not started here',
        hint: 'Abort the failback, and do it again with `--compare full`.',
      },
    );
  } finally {
    await ours.close();
  }
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
  of: FillOf,
  seams: FillSeams,
): Promise<CellSet> {
  const { signal } = seams;
  const answer = ask(diskId, FailbackMode.FAILBACK_MODE_HASHES, [], of, seams);
  const remote = RemoteHashes.of(recordsOf(answer, disk.sizeBytes), disk.sizeBytes);
  const cells = new CellSet();
  try {
    const onDiffers = (cell: number): void => {
      cells.add(cell, cell + 1);
    };
    await compareCells(disk, remote, { signal, onDiffers });
  } finally {
    await remote.close();
  }
  return cells;
}

function ask(
  diskId: Guid,
  mode: FailbackMode,
  given: readonly CellRange[],
  { vmId, operationId }: FillOf,
  { client, signal }: FillSeams,
): AsyncIterable<FailbackCellsResponse> {
  const request = {
    vmId: guidToWire(vmId),
    operationId: guidToWire(operationId),
    diskId: guidToWire(diskId),
    mode,
    given: given.map(({ start, end }) => ({ start: BigInt(start), end: BigInt(end) })),
  };
  return client.failbackCells(request, { signal });
}

async function* recordsOf(
  answer: AsyncIterable<FailbackCellsResponse>,
  sizeBytes: number,
): AsyncGenerator<{ readonly records: Buffer }> {
  for await (const { part } of answer) {
    if (part?.$case === 'geometry') checkSize(part.value.sizeBytes, sizeBytes);
    else if (part?.$case === 'records') yield { records: part.value };
    else throw protocolError('it tells no hashes');
  }
}

function checkSize(theirs: bigint, ours: number): void {
  if (theirs === BigInt(ours)) return;
  throw new DrError(
    'E_DISK_MISMATCH',
    `the disk has ${theirs} bytes at the site that serves, ${ours} here`,
    { done: 'nothing was written' },
  );
}

/** Takes cells into the disk, each checked against its hash. Returns how many. */
async function fetchCells(
  disk: VhdxDisk,
  diskId: Guid,
  mode: FailbackMode,
  given: readonly CellRange[],
  of: FillOf,
  seams: FillSeams,
): Promise<number> {
  let count = 0;
  let isEnded = false;
  for await (const { part } of ask(diskId, mode, given, of, seams)) {
    seams.signal.throwIfAborted();
    if (isEnded) throw protocolError('something follows the end of the disk');
    if (part?.$case === 'geometry') {
      checkSize(part.value.sizeBytes, disk.sizeBytes);
      continue;
    }
    if (part?.$case !== 'batch') throw protocolError('it sends no cells');
    const message = parseBatch(part.value);
    if (message.kind === 'begin') throw protocolError('it begins a cycle');
    if (message.kind === 'end') isEnded = true;
    else count += await takeCells(disk, message, seams);
  }
  if (!isEnded) throw protocolError('the disk has no end');
  return count;
}

async function takeCells(
  disk: VhdxDisk,
  { entries, payload }: Extract<ReturnType<typeof parseBatch>, { kind: 'cells' }>,
  { onCells }: FillSeams,
): Promise<number> {
  const { sizeBytes } = disk;
  let count = 0;
  let at = 0;
  for (const entry of entries) {
    const offset = entry.cell * CELL_BYTES;
    if (entry.kind === 'zero') {
      const end = Math.min(sizeBytes, offset + entry.count * CELL_BYTES);
      if (offset >= end) throw protocolError('a cell lies behind the disk');
      await disk.zero(offset, end - offset);
      count += entry.count;
      continue;
    }
    if (entry.kind !== 'data' || offset >= sizeBytes) throw protocolError('a cell is none');
    const bytes = payload.subarray(at, at + cellLength(entry.cell, sizeBytes));
    at += bytes.length;
    if (!hashCell(bytes).equals(entry.hash)) throw protocolError('a cell has another hash');
    await disk.write(offset, bytes);
    onCells?.(bytes.length);
    count++;
  }
  return count;
}
