// SiteService.FailbackCells as the primary's agent calls it: what the serving VM has, checked as it
// arrives. Only while the receiver's order to sync is under way.

import { type Guid, guidFromWire, guidToWire, ZERO_GUID } from '../../shared/bytes/index.js';
import {
  type FailbackCellsResponse,
  FailbackMode,
  type ServiceClient,
  type SiteService,
} from '../../shared/channel/index.js';
import {
  type BatchMessage,
  type CellRange,
  HASH_BYTES,
  MAX_DISK_BYTES,
  MAX_DISKS,
  parseBatch,
} from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import type { Bandwidth } from '../bandwidth.js';
import { protocolError } from '../receiver-view.js';
import { RemoteHashes } from '../remote-hashes.js';

export interface ServingSeams {
  readonly client: Pick<ServiceClient<SiteService>, 'failbackCells'>;
  /** What cells have to wait for; undefined: for nothing. */
  readonly bandwidth?: Pick<Bandwidth, 'take'> | undefined;
  readonly signal: AbortSignal;
}

/** Whose cells are asked for: those of one round, which the receiver's order named. */
export interface ServingVm {
  readonly vmId: Guid;
  readonly operationId: Guid;
  readonly roundId: Guid;
}

export interface DiskSize {
  readonly diskId: Guid;
  readonly sizeBytes: number;
}

/** A disk of the VM that serves, and what it has that this site lacks, as far as that is known there. */
export interface ServingDisk extends DiskSize {
  readonly cellCount: number;
  readonly touchedMib: number;
}

/** @throws DrError E_STATE (the round is over), E_PROTOCOL, E_CHANNEL */
export async function servingDisks(of: ServingVm, seams: ServingSeams): Promise<ServingDisk[]> {
  const disks: ServingDisk[] = [];
  const none = { diskId: ZERO_GUID, sizeBytes: 0 };
  for await (const { part } of ask(of, none, FailbackMode.FAILBACK_MODE_DISKS, [], seams)) {
    if (part?.$case !== 'disk' || disks.length >= MAX_DISKS)
      throw protocolError('it tells no disks');
    const { geometry, cellCount, touchedMib } = part.value;
    const diskId = geometry && guidFromWire(geometry.diskId);
    if (diskId === undefined || geometry === undefined) throw protocolError('a disk has no name');
    if (geometry.sizeBytes > BigInt(MAX_DISK_BYTES)) {
      throw protocolError(`a disk of ${geometry.sizeBytes} bytes`);
    }
    const sizeBytes = Number(geometry.sizeBytes);
    const counts = { cellCount: Number(cellCount), touchedMib: Number(touchedMib) };
    disks.push({ diskId, sizeBytes, ...counts });
  }
  return disks;
}

/** One hash over the hashes of all cells that are not zero; 32 bytes. @throws as servingDisks() */
export async function servingRoot(
  of: ServingVm,
  disk: DiskSize,
  seams: ServingSeams,
): Promise<Buffer> {
  let root: Buffer | undefined;
  for await (const { part } of ask(of, disk, FailbackMode.FAILBACK_MODE_ROOT, [], seams)) {
    if (isGeometry(part, disk)) continue;
    const isRoot = part?.$case === 'root' && part.value.length === HASH_BYTES;
    if (!isRoot || root !== undefined) throw protocolError('it tells no root');
    root = part.value;
  }
  if (root === undefined) throw protocolError('it tells no root');
  return root;
}

/** Of all cells that are not zero; the caller closes them. */
export function servingHashes(of: ServingVm, disk: DiskSize, seams: ServingSeams): RemoteHashes {
  const answer = ask(of, disk, FailbackMode.FAILBACK_MODE_HASHES, [], seams);
  return RemoteHashes.of(recordsOf(answer, disk), disk.sizeBytes);
}

async function* recordsOf(
  answer: AsyncIterable<FailbackCellsResponse>,
  disk: DiskSize,
): AsyncGenerator<{ readonly records: Buffer }> {
  for await (const { part } of answer) {
    if (isGeometry(part, disk)) continue;
    if (part?.$case !== 'records') throw protocolError('it tells no hashes');
    yield { records: part.value };
  }
}

/**
 * The cells that are named, and with `isWithChanged` what the serving site changed besides.
 * @throws as servingDisks(), E_DISK_MISMATCH
 */
export async function* servingCells(
  of: ServingVm,
  disk: DiskSize,
  {
    given,
    isWithChanged,
  }: { readonly given: readonly CellRange[]; readonly isWithChanged: boolean },
  seams: ServingSeams,
): AsyncGenerator<Extract<BatchMessage, { kind: 'cells' }>> {
  const mode = isWithChanged
    ? FailbackMode.FAILBACK_MODE_CHANGED
    : FailbackMode.FAILBACK_MODE_GIVEN;
  let isEnded = false;
  for await (const { part } of ask(of, disk, mode, given, seams)) {
    seams.signal.throwIfAborted();
    if (isEnded) throw protocolError('something follows the end of the disk');
    if (isGeometry(part, disk)) continue;
    if (part?.$case !== 'batch') throw protocolError('it sends no cells');
    const message = parseBatch(part.value);
    if (message.kind === 'begin') throw protocolError('it begins a cycle');
    if (message.kind === 'end') isEnded = true;
    else {
      await seams.bandwidth?.take(part.value.length, seams.signal);
      yield message;
    }
  }
  if (!isEnded) throw protocolError('the disk has no end');
}

function ask(
  { vmId, operationId, roundId }: ServingVm,
  { diskId }: DiskSize,
  mode: FailbackMode,
  given: readonly CellRange[],
  { client, signal }: ServingSeams,
): AsyncIterable<FailbackCellsResponse> {
  const request = {
    vmId: guidToWire(vmId),
    operationId: guidToWire(operationId),
    roundId: guidToWire(roundId),
    diskId: guidToWire(diskId),
    mode,
    given: given.map(({ start, end }) => ({ start: BigInt(start), end: BigInt(end) })),
  };
  return client.failbackCells(request, { signal });
}

/** @throws DrError E_DISK_MISMATCH when it is the geometry of a disk of another size */
function isGeometry(part: FailbackCellsResponse['part'], { diskId, sizeBytes }: DiskSize): boolean {
  if (part?.$case !== 'geometry') return false;
  if (part.value.sizeBytes === BigInt(sizeBytes)) return true;
  throw new DrError(
    'E_DISK_MISMATCH',
    `disk ${diskId} has ${part.value.sizeBytes} bytes at the site that serves, ${sizeBytes} here`,
    { done: 'nothing was written' },
  );
}
