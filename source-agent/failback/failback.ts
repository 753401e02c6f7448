// A failback at the primary (failover.md § 4 "failback", F1 to F6), as the receiver orders it, step by
// step. Each step may come again after whatever crash and then changes nothing, or goes on.

import { defined } from '../../shared/assert.js';
import type { Guid } from '../../shared/bytes/index.js';
import { CellSet } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import type {
  OwnerTag,
  SourceHypervisor,
  TargetHypervisor,
  VmSummary,
} from '../../shared/hypervisor/index.js';
import { waitForMerge } from '../checkpoint-lease.js';
import { type DirtyCells, noCells, union } from '../dirty-cells.js';
import { type InspectSeams, withInspection } from '../inspect.js';
import { type Chain, chainKey, isSameGeometry, type Ledger, withChain } from '../ledger.js';
import { LedgerStore } from '../ledger-store.js';
import { changesSince, referenceOf } from '../tracked-changes.js';
import { takeVmLease } from '../vm-lease.js';
import {
  fillChanged,
  fillCompared,
  type FillSeams,
  makeProtective,
  protectiveName,
  removeProtective,
  requireLevel,
} from './protective-disks.js';
import { ReturnFile, type ReturnRecord } from './return-record.js';

export interface FailbackSeams extends InspectSeams, FillSeams {
  readonly hypervisor: SourceHypervisor & TargetHypervisor;
}

/** Which failback of which VM, towards which store. */
export interface FailbackOf {
  readonly vm: VmSummary;
  readonly operationId: Guid;
  readonly epoch: bigint;
  readonly storeId: Guid;
}

export interface SyncRequest {
  /** changed: by what both sides know of changes. full: by all hashes. */
  readonly compare: 'changed' | 'full';
  /** The serving VM is off: afterwards every byte has to be the same. */
  readonly isLast: boolean;
}

const MERGE_TIMEOUT_MS = 10 * 60 * 1000;

/**
 * F1, and the end of it in F2: the protective disks have what the serving site has. Returns the number
 * of cells that came.
 * @throws DrError E_SOURCE_ALIVE (the VM is not off here), E_DISK_MISMATCH, E_DIFFERENT, E_STATE, …
 */
export async function syncBack(
  of: FailbackOf,
  { compare, isLast }: SyncRequest,
  seams: FailbackSeams,
): Promise<number> {
  const { vm, operationId } = of;
  const file = new ReturnFile(seams.stateFolder, vm.id, seams);
  const known = await file.read();
  await requireOff(vm, seams.hypervisor);
  if (known?.operationId === operationId && known.stage === 'level') return 0;
  let record: ReturnRecord;
  let own: ReadonlyMap<Guid, DirtyCells> = new Map();
  if (known?.operationId === operationId && known.stage === 'syncing') record = known;
  else ({ record, own } = await prepare(of, known, file, seams));
  const fillOf = { vmId: vm.id, operationId };
  let count = 0;
  for (const disk of record.disks) {
    const changed = own.get(disk.diskId) ?? noCells();
    const isCompared = record.stage === 'preparing' && (compare === 'full' || changed === 'all');
    count += isCompared
      ? await fillCompared(disk, fillOf, seams)
      : await fillChanged(disk, changed === 'all' ? new CellSet() : changed, fillOf, seams);
  }
  if (isLast) for (const disk of record.disks) await requireLevel(disk, fillOf, seams);
  await file.write({ ...record, stage: isLast ? 'level' : 'syncing' });
  return count;
}

async function requireOff(vm: VmSummary, hypervisor: SourceHypervisor): Promise<void> {
  const now = (await hypervisor.listVms()).find(({ id }) => id === vm.id);
  if (now === undefined) throw new DrError('E_NOT_FOUND', `no VM ${vm.name} is here`);
  if (now.powerState === 'off') return;
  throw new DrError('E_SOURCE_ALIVE', `${vm.name} is ${now.powerState} at the primary site`, {
    done: 'nothing of it was changed',
  });
}

/** Protective files, empty, and what changed here that the DR site's newest point does not have. */
async function prepare(
  { vm, operationId, storeId }: FailbackOf,
  former: ReturnRecord | undefined,
  file: ReturnFile,
  seams: FailbackSeams,
): Promise<{ record: ReturnRecord; own: ReadonlyMap<Guid, DirtyCells> }> {
  const { hypervisor, fs, clock, signal } = seams;
  if (former !== undefined) {
    if (former.stage === 'started' || former.stage === 'level') {
      throw new DrError(
        'E_STATE',
        `another failback of ${vm.name}, ${former.operationId}, is not over`,
        { hint: 'Undo or commit it first, from the DR site.' },
      );
    }
    await removeProtective(former.disks, fs);
    await file.remove();
  }
  // before anything stands on the disks: the checkpoint for it is merged into them again
  const own = await ownChanges(vm, storeId, seams);
  await waitForMerge(hypervisor, vm.id, MERGE_TIMEOUT_MS, { clock, signal });
  const { disks } = await hypervisor.describeVm(vm.id);
  const record: ReturnRecord = {
    vmId: vm.id,
    operationId,
    stage: 'preparing',
    disks: disks.map(({ diskId, path }) => ({
      diskId,
      original: path,
      protective: protectiveName(path, diskId, operationId),
    })),
    referenceId: undefined,
  };
  await file.write(record);
  await makeProtective(record.disks, seams);
  return { record, own };
}

/** What the chain of this store owes, and what changed since the reference point. */
function ownChanges(
  vm: VmSummary,
  storeId: Guid,
  seams: FailbackSeams,
): Promise<ReadonlyMap<Guid, DirtyCells>> {
  return withInspection(vm, seams, async ({ ledger, lease }) => {
    const { checkpoint } = lease;
    const frozen = {
      hypervisor: seams.hypervisor,
      vmId: vm.id,
      checkpointId: checkpoint.id,
    };
    const chain = ledger.chains.get(chainKey(storeId));
    const changes = await changesSince(frozen, checkpoint.disks, ledger.reference);
    return new Map(
      changes.map(({ diskId, geometry, changed }) => {
        const debt = chain?.disks.get(diskId);
        const isKnown = debt !== undefined && isSameGeometry(debt.geometry, geometry);
        const owed = isKnown ? union(debt.pending, debt.inFlight ?? noCells()) : 'all';
        return [diskId, union(changed, owed)];
      }),
    );
  });
}

/** F4: the VM starts here on the protective disks, with its own network. */
export async function startBack(of: FailbackOf, seams: FailbackSeams): Promise<void> {
  const { vm, operationId } = of;
  const { hypervisor } = seams;
  const file = new ReturnFile(seams.stateFolder, vm.id, seams);
  const record = await requireRecord(file, of, ['level', 'started']);
  const started: ReturnRecord = { ...record, stage: 'started' };
  // from here on an undo has to put the former disks back
  if (record.stage === 'level') await file.write(started);
  const now = (await hypervisor.listVms()).find(({ id }) => id === vm.id);
  if (now?.powerState === 'running') return;
  await hypervisor.setDiskFiles(
    vm.id,
    record.disks.map(({ protective }) => protective),
  );
  if (record.referenceId === undefined) {
    const referenceId = await markStart(vm, { protectionId: vm.id, operationId }, hypervisor);
    await file.write({ ...started, referenceId });
  }
  await hypervisor.unfenceVm(vm.id);
  await hypervisor.startVm(vm.id);
}

/** A reference point of the disks as the VM starts with them: what it changes is known from then on. */
async function markStart(
  vm: VmSummary,
  tag: OwnerTag,
  hypervisor: SourceHypervisor,
): Promise<string> {
  const isOurs = (found: OwnerTag | undefined): boolean => found?.operationId === tag.operationId;
  for (const { id, tag: found } of await hypervisor.listCheckpoints(vm.id)) {
    if (isOurs(found)) await hypervisor.removeCheckpoint(vm.id, id);
  }
  for (const { id, tag: found } of await hypervisor.listReferencePoints(vm.id)) {
    if (isOurs(found)) await hypervisor.removeReferencePoint(vm.id, id);
  }
  await hypervisor.waitForMerge(vm.id, MERGE_TIMEOUT_MS);
  const request = { tag, consistency: 'crash', timeoutMs: MERGE_TIMEOUT_MS } as const;
  const { id } = await hypervisor.createCheckpoint(vm.id, request);
  const point = await hypervisor.convertToReferencePoint(vm.id, id);
  await hypervisor.waitForMerge(vm.id, MERGE_TIMEOUT_MS);
  return point.id;
}

/**
 * F6: the receiver has the disks as the VM started with them as its point `pointId`; the ledger goes on
 * from there, so that the next cycle is a delta.
 */
export async function commitBack(
  of: FailbackOf,
  point: { readonly pointId: Guid; readonly consistentAtMs: number },
  seams: FailbackSeams,
): Promise<void> {
  const { vm, operationId } = of;
  const { fs, clock, random, stateFolder, signal, hypervisor } = seams;
  const file = new ReturnFile(stateFolder, vm.id, seams);
  // done before, and the answer was lost
  if ((await file.read()) === undefined) return;
  const { referenceId } = await requireRecord(file, of, ['started']);
  const holder = `process ${process.pid}`;
  const request = { vmId: vm.id, vmName: vm.name, operationId, holder, waitMs: 0, signal };
  const lease = await takeVmLease(stateFolder, request, { fs, clock });
  try {
    const ledgerSeams = { fs, random, now: () => clock.now() };
    const { store, ledger } = await LedgerStore.open(stateFolder, vm.id, vm.name, ledgerSeams);
    const references = await hypervisor.listReferencePoints(vm.id);
    const reference = references.find(({ id }) => id === referenceId);
    const { disks } = await hypervisor.describeVm(vm.id);
    const since = reference && referenceOf(reference, disks);
    await store.save(ledgerFrom(ledger, of, point, since));
    for (const { id, tag } of references) {
      const isFormer = tag?.protectionId === vm.id && id !== referenceId;
      if (isFormer) await hypervisor.removeReferencePoint(vm.id, id);
    }
    await file.remove();
  } finally {
    await lease.release();
  }
}

/** For other stores every cell may have changed: what came by the failback, no tracking has seen. */
function ledgerFrom(
  ledger: Ledger,
  { storeId, epoch }: FailbackOf,
  confirmed: Chain['confirmed'],
  reference: Ledger['reference'],
): Ledger {
  const ours = chainKey(storeId);
  let next: Ledger = { ...ledger, reference };
  for (const chain of ledger.chains.values()) {
    const isOurs = chain.key === ours;
    const pending: DirtyCells = isOurs && reference !== undefined ? noCells() : 'all';
    const because = isOurs ? 'the hypervisor lost what changed since' : 'a failback wrote the disk';
    const disks = new Map(
      [...chain.disks].map(([diskId, debt]) => [
        diskId,
        { ...debt, pending, because: pending === 'all' ? because : '', inFlight: undefined },
      ]),
    );
    const changed: Chain = isOurs
      ? { ...chain, epoch, confirmed, offered: [], inFlight: undefined, disks }
      : { ...chain, disks, inFlight: undefined };
    next = withChain(next, changed);
  }
  return next;
}

/** The VM is off, on its former disks, and fenced; the protective ones are gone. */
export async function undoBack(of: FailbackOf, seams: FailbackSeams): Promise<void> {
  const { vm, operationId, epoch } = of;
  const { hypervisor } = seams;
  const file = new ReturnFile(seams.stateFolder, vm.id, seams);
  const record = await file.read();
  if (record?.operationId !== operationId) return;
  if (record.stage === 'started') {
    await hypervisor.turnOffVm(vm.id);
    for (const { id, tag } of await hypervisor.listReferencePoints(vm.id)) {
      if (tag?.operationId === operationId) await hypervisor.removeReferencePoint(vm.id, id);
    }
    await hypervisor.setDiskFiles(
      vm.id,
      record.disks.map(({ original }) => original),
    );
    await hypervisor.fenceVm(vm.id, { tag: { protectionId: vm.id, operationId }, epoch });
  }
  await removeProtective(record.disks, seams.fs);
  await file.remove();
}

async function requireRecord(
  file: ReturnFile,
  { vm, operationId }: FailbackOf,
  stages: readonly ReturnRecord['stage'][],
): Promise<ReturnRecord> {
  const record = await file.read();
  if (record?.operationId === operationId && stages.includes(record.stage)) {
    return defined(record, 'there is a record');
  }
  throw new DrError(
    'E_STATE',
    `the disks of ${vm.name} are not ready for this step of the failback`,
    { context: { operationId, stage: record?.stage ?? 'none' } },
  );
}
