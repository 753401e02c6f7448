// F1 of a failback, and the end of it in F2: protective disks at the primary get what the serving site
// has. The lease of the VM is held all the time, so that no checkpoint of a cycle comes between the
// disks and what stands on them.

import type { Guid } from '../../shared/bytes/index.js';
import { CellSet } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { waitForMerge } from '../checkpoint-lease.js';
import { type DirtyCells, noCells } from '../dirty-cells.js';
import { staleEpoch } from '../start-block.js';
import type { FailbackOf, FailbackSeams } from './failback.js';
import { ownChanges } from './own-changes.js';
import {
  fillChanged,
  fillCompared,
  makeProtective,
  protectiveName,
  removeProtective,
  requireLevel,
} from './protective-disks.js';
import { requireMovableDisks, requireOff, requireSameDisks } from './requirements.js';
import { endingHint, ReturnFile, type ReturnRecord } from './return-record.js';
import { requireRoom } from './room.js';
import { servingDisks, type ServingVm } from './serving-site.js';
import { underLease } from './under-lease.js';

export interface SyncRequest {
  /** Of the order: cells of no other round are mixed with it. */
  readonly roundId: Guid;
  /** The newest point that the DR site has. */
  readonly headPointId: Guid;
  /** changed: by what both sides know of changes. full: by all hashes. */
  readonly compare: 'changed' | 'full';
  /** The serving VM is off: afterwards every byte has to be the same. */
  readonly isLast: boolean;
}

const MERGE_TIMEOUT_MS = 10 * 60 * 1000;

/**
 * One round. Returns the number of cells that came; durable then.
 * @throws DrError E_SOURCE_ALIVE (the VM is not off here), E_DISK_MISMATCH, E_STATE (it has checkpoints,
 *   another failback is not over, it was started already), E_CAPACITY, E_STALE_EPOCH, E_LOCKED - all
 *   before anything was made; E_DIFFERENT, E_CHANNEL, E_IO
 */
export async function syncBack(
  of: FailbackOf,
  request: SyncRequest,
  seams: FailbackSeams,
): Promise<number> {
  const { vm } = of;
  const { hypervisor } = seams;
  await requireOff(vm, hypervisor);
  return underLease(of, seams, async (leaseId) => {
    const file = new ReturnFile(seams.stateFolder, vm.id, seams);
    const known = await file.read();
    refuseOther(known, of);
    await requireOff(vm, hypervisor);
    const servingVm = servingOf(of, request);
    const isOpen = known?.operationId === of.operationId && known.stage !== 'preparing';
    const count = isOpen
      ? await laterRound(known, of, request, file, seams)
      : await firstRound(known, of, request, leaseId, file, seams);
    if (request.isLast) await finish(servingVm, file, seams);
    return count;
  });
}

function servingOf({ vm, operationId }: FailbackOf, { roundId }: SyncRequest): ServingVm {
  return { vmId: vm.id, operationId, roundId };
}

function refuseOther(
  known: ReturnRecord | undefined,
  { vm, operationId, storeId }: FailbackOf,
): void {
  if (known === undefined) return;
  const { stage } = known;
  const isSame = known.operationId === operationId && known.storeId === storeId;
  if (isSame && stage !== 'started') return;
  // one that its own DR site gave up before the VM was started leaves nothing that is missed
  if (known.storeId === storeId && stage !== 'started') return;
  const what = isSame ? 'was started here already' : `is in another failback, ${known.operationId}`;
  throw new DrError('E_STATE', `${vm.name} ${what}`, {
    context: { vmId: vm.id, stage, operationId: known.operationId, storeId: known.storeId },
    done: 'nothing was changed at the primary site',
    hint: endingHint(vm.name),
  });
}

async function firstRound(
  former: ReturnRecord | undefined,
  of: FailbackOf,
  request: SyncRequest,
  leaseId: Guid,
  file: ReturnFile,
  seams: FailbackSeams,
): Promise<number> {
  const { compare } = request;
  const servingVm = servingOf(of, request);
  if (former !== undefined) {
    // an order that comes late takes nothing away from the failback after its own
    await servingDisks(servingVm, seams);
    await removeProtective(former.disks, seams.fs);
    await file.remove();
  }
  const { record, own } = await prepare(of, request, leaseId, file, seams);
  let count = 0;
  for (const disk of record.disks) {
    const changed = own.get(disk.diskId) ?? noCells();
    count +=
      compare === 'full' || changed === 'all'
        ? await fillCompared(disk, servingVm, seams)
        : await fillChanged(disk, changed, servingVm, seams);
  }
  await file.write({ ...record, stage: 'syncing' });
  return count;
}

/** What is unknown is compared, and asks for its room when the comparison has told how much. */
async function prepare(
  of: FailbackOf,
  request: SyncRequest,
  leaseId: Guid,
  file: ReturnFile,
  seams: FailbackSeams,
): Promise<{ record: ReturnRecord; own: ReadonlyMap<Guid, DirtyCells> }> {
  const { vm, operationId, storeId } = of;
  const { hypervisor } = seams;
  const { headPointId } = request;
  // of a checkpoint that a killed cycle left: until then its file stands among the disks'
  await waitForMerge(hypervisor, vm.id, MERGE_TIMEOUT_MS, seams);
  const here = await requireMovableDisks(vm.id, hypervisor);
  const serving = await servingDisks(servingOf(of, request), seams);
  requireSameDisks(here, serving, vm.name);
  await keepFenced(of, seams);
  const own = await ownChanges({ vm, storeId, headPointId }, leaseId, seams);
  const disks = (await hypervisor.describeVm(vm.id)).disks.map(({ diskId, path }) => ({
    diskId,
    original: path,
    protective: protectiveName(path, diskId, operationId),
  }));
  await requireRoom(
    disks.map(({ diskId, original }) => {
      const changed = own.get(diskId) ?? noCells();
      const besides = serving.find((other) => other.diskId === diskId);
      return { file: original, cells: changed === 'all' ? new CellSet() : changed, besides };
    }),
    seams.fs,
  );
  const record: ReturnRecord = {
    vmId: vm.id,
    operationId,
    storeId,
    stage: 'preparing',
    disks,
    referenceId: undefined,
  };
  await file.write(record);
  await makeProtective(disks, seams);
  return { record, own };
}

/**
 * The primary's own changes are in hand: what the serving site changed since then is what is left. That is
 * not believed after a round that ended with a difference, or one that the serving site has no memory of.
 */
async function laterRound(
  known: ReturnRecord,
  of: FailbackOf,
  request: SyncRequest,
  file: ReturnFile,
  seams: FailbackSeams,
): Promise<number> {
  // somebody may have lifted it since the round before
  await keepFenced(of, seams);
  // whoever asks again may have let the serving VM run since
  if (known.stage === 'level') await file.write({ ...known, stage: 'syncing' });
  const servingVm = servingOf(of, request);
  let count = 0;
  for (const disk of known.disks) {
    count +=
      request.compare === 'full'
        ? await fillCompared(disk, servingVm, seams)
        : await fillChanged(disk, new CellSet(), servingVm, seams);
  }
  return count;
}

async function finish(servingVm: ServingVm, file: ReturnFile, seams: FailbackSeams): Promise<void> {
  const record = await file.read();
  if (record === undefined) throw new DrError('E_INTERNAL', 'a failback lost its record');
  for (const disk of record.disks) {
    await requireLevel(disk, servingVm, seams);
  }
  await file.write({ ...record, stage: 'level' });
}

/**
 * Nobody starts the VM here on its old disks while others are made over them. The fence is this
 * failback's: that it still stands proves that nobody did (failback.ts).
 */
async function keepFenced(
  { vm, operationId, epoch }: FailbackOf,
  { hypervisor, log }: FailbackSeams,
): Promise<void> {
  const present = await hypervisor.fenceOf(vm.id);
  if (present !== undefined && present.epoch > epoch) throw staleEpoch(vm, epoch, present.epoch);
  await hypervisor.fenceVm(vm.id, { tag: { protectionId: vm.id, operationId }, epoch });
  log.info('fence.set', { vmId: vm.id, vmName: vm.name, epoch });
}
