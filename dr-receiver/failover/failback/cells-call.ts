// SiteService.FailbackCells: what the primary's agent fetches while the receiver's order to it is under
// way. It names cells and gets the serving VM's bytes of them; nothing here changes anything.

import { type Guid, guidFromWire } from '../../../shared/bytes/index.js';
import {
  type FailbackCellsRequest,
  type FailbackCellsResponse,
  FailbackMode,
} from '../../../shared/channel/index.js';
import {
  cellCount,
  cellMessages,
  CellSet,
  encodeManifestRecord,
  MANIFEST_RECORD_BYTES,
  type ManifestRecord,
  touchedMib,
  unionOfCells,
} from '../../../shared/delta/index.js';
import { DrError } from '../../../shared/errors.js';
import type { DiskRecord } from '../../store/records.js';
import { geometryToWire } from '../../wire.js';
import type { ServingDisks } from './serving-disks.js';

const GIVEN_RANGES_MAX = 65_536;
const RECORDS_PER_MESSAGE = 1600;

/** The rounds under way, by their own ids. */
export type ServingRounds = ReadonlyMap<Guid, ServingDisks>;

/**
 * The caller's right to the VM, and the operation, were checked.
 * @throws DrError E_STATE (the round is none of the VM, or is over), E_NOT_FOUND, E_PROTOCOL, E_IO
 */
export async function* failbackCells(
  rounds: ServingRounds,
  request: FailbackCellsRequest,
): AsyncGenerator<FailbackCellsResponse> {
  const { vmId, roundId: named, diskId, mode } = request;
  const roundId = guidOf(named, 'the round');
  const round = rounds.get(roundId);
  if (round?.protectionId !== guidOf(vmId, 'the VM')) throw isOver(roundId);
  if (mode === FailbackMode.FAILBACK_MODE_DISKS) {
    for (const { disk, lacking } of round.disks.values()) yield servingDisk(disk, lacking);
    return;
  }
  const { disk, frozen, lacking } = round.disk(guidOf(diskId, 'the disk'));
  yield { part: { $case: 'geometry', value: geometryToWire(disk) } };
  if (mode === FailbackMode.FAILBACK_MODE_HASHES) {
    for await (const value of packed(round.records(disk.diskId))) {
      yield { part: { $case: 'records', value } };
    }
    return;
  }
  if (mode === FailbackMode.FAILBACK_MODE_ROOT) {
    const value = await round.root(disk.diskId);
    yield { part: { $case: 'root', value } };
    return;
  }
  const given = givenCells(request, disk.sizeBytes);
  const cells = mode === FailbackMode.FAILBACK_MODE_GIVEN ? given : unionOfCells(lacking, given);
  for await (const value of cellMessages(frozen, 0, cells.ranges(), cells.isScattered)) {
    // what was read may have been read while the round ended
    if (rounds.get(roundId) !== round) throw isOver(roundId);
    yield { part: { $case: 'batch', value } };
  }
}

/** Whoever fetched for it has to stop: the cells of a later round are of another moment. */
function isOver(roundId: Guid): DrError {
  return new DrError('E_STATE', 'this round of the failback is over', {
    context: { roundId },
    hint: 'The receiver asks again when it goes on.',
  });
}

function servingDisk(disk: DiskRecord, lacking: CellSet): FailbackCellsResponse {
  const value = {
    geometry: geometryToWire(disk),
    cellCount: BigInt(lacking.count),
    touchedMib: BigInt(touchedMib(lacking)),
  };
  return { part: { $case: 'disk', value } };
}

function guidOf(bytes: Buffer, what: string): Guid {
  const id = guidFromWire(bytes);
  if (id !== undefined) return id;
  throw new DrError('E_PROTOCOL', `${what} is named by ${bytes.length} bytes`);
}

function givenCells({ given, mode }: FailbackCellsRequest, sizeBytes: number): CellSet {
  const isKnown =
    mode === FailbackMode.FAILBACK_MODE_CHANGED || mode === FailbackMode.FAILBACK_MODE_GIVEN;
  if (!isKnown) throw new DrError('E_PROTOCOL', `a failback has no mode ${mode}`);
  if (given.length > GIVEN_RANGES_MAX) {
    throw new DrError('E_LIMIT', `a failback names ${given.length} ranges at once`, {
      context: { limit: GIVEN_RANGES_MAX },
    });
  }
  const cells = new CellSet();
  const count = BigInt(cellCount(sizeBytes));
  let from = 0n;
  for (const { start, end } of given) {
    if (start < from || end <= start || end > count) {
      throw new DrError('E_PROTOCOL', 'a failback names cells that are none');
    }
    cells.add(Number(start), Number(end));
    from = end;
  }
  return cells;
}

async function* packed(records: AsyncIterable<ManifestRecord>): AsyncGenerator<Buffer> {
  const room = (): Buffer => Buffer.allocUnsafe(RECORDS_PER_MESSAGE * MANIFEST_RECORD_BYTES);
  let out = room();
  let count = 0;
  for await (const record of records) {
    encodeManifestRecord(record, out, count * MANIFEST_RECORD_BYTES);
    if (++count < RECORDS_PER_MESSAGE) continue;
    yield out;
    out = room();
    count = 0;
  }
  if (count > 0) yield out.subarray(0, count * MANIFEST_RECORD_BYTES);
}
