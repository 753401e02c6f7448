// A failback at the primary (failover.md § 4 "failback", F1 to F6), as the receiver orders it, step by
// step. Each step may come again after whatever crash and then changes nothing, or goes on.
//
//   sync-back.ts   F1, F2   protective disks get what the serving site has          preparing … level
//   startBack()    F4       the VM starts on them                                   started
//   commitBack()   F6       the ledger goes on from the point that equals them      no record
//   undoBack()              off, fenced, on the former disks                        no record
//
// From its first sync to its end the VM has a record (return-record.ts), and no cycle runs.

import type { Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type { VmSummary } from '../../shared/hypervisor/index.js';
import type { InspectSeams } from '../inspect.js';
import { LedgerStore } from '../ledger-store.js';
import { liftFence, powerOf } from '../start-block.js';
import { referenceOf } from '../tracked-changes.js';
import type { FailbackHost } from './host.js';
import { ledgerAfter } from './ledger-after.js';
import { markStart, removeMarks } from './marks.js';
import { underLease } from './under-lease.js';
import { type FillSeams, removeProtective } from './protective-disks.js';
import { requireMovableDisks, sourceAlive } from './requirements.js';
import { endingHint, ReturnFile, type ReturnRecord } from './return-record.js';
import { requireWayBack, stopVm } from './way-back.js';

export interface FailbackSeams extends InspectSeams, FillSeams {
  readonly hypervisor: FailbackHost;
}

/** What the steps need that fetch nothing. */
export type EndSeams = Omit<FailbackSeams, 'client' | 'onProgress'>;

/** What an undo needs: `requireAllowed` throws when this site does not let its VM be stopped. */
export type UndoSeams = EndSeams & { readonly requireAllowed: () => void };

/** Which failback of which VM, towards which store. */
export interface FailbackOf {
  readonly vm: VmSummary;
  readonly operationId: Guid;
  readonly epoch: bigint;
  readonly storeId: Guid;
}

/**
 * F4: the VM starts here on the protective disks, with its own network.
 * @throws DrError E_STATE (no last round was level, or its fence was lifted since), E_SOURCE_ALIVE (it runs on its former disks),
 *   E_STALE_EPOCH (its fence is of a later epoch), E_LOCKED, E_HYPERVISOR, E_IO
 */
export function startBack(of: FailbackOf, seams: EndSeams): Promise<void> {
  const { vm, epoch } = of;
  const { hypervisor, log } = seams;
  return underLease(of, seams, async () => {
    const file = new ReturnFile(seams.stateFolder, vm.id, seams);
    const record = await requireRecord(file, of, ['level', 'started']);
    const power = await powerOf(vm.id, hypervisor);
    if (power !== 'off') {
      const isBack = record.stage === 'started' && !(await isOnFormer(record, hypervisor));
      if (isBack && power === 'running') return;
      throw sourceAlive(vm.name, power ?? 'unknown');
    }
    await requireUntouched(record, of, file, hypervisor);
    // what would keep the disks where they are is told while nothing has to be put back
    if (record.stage === 'level') await requireMovableDisks(vm.id, hypervisor);
    // from here on an undo has to put the former disks back
    if (record.stage === 'level') await file.write({ ...record, stage: 'started' });
    await onProtective({ ...record, stage: 'started' }, of, file, seams);
    await liftFence(vm, epoch, hypervisor, log);
    await hypervisor.startVm(vm.id);
  });
}

/**
 * The fence of the last round stands, so nobody started the VM on its former disks since; once it is on the
 * protective ones its former disks do not matter any more. Otherwise only another last round makes it level.
 * @throws DrError E_STATE
 */
async function requireUntouched(
  record: ReturnRecord,
  { vm, operationId }: FailbackOf,
  file: ReturnFile,
  hypervisor: FailbackHost,
): Promise<void> {
  const fence = await hypervisor.fenceOf(vm.id);
  if (fence?.tag.operationId === operationId) return;
  if (record.stage === 'started' && !(await isOnFormer(record, hypervisor))) return;
  await file.write({ ...record, stage: 'syncing' });
  throw new DrError(
    'E_STATE',
    `the fence of ${vm.name} was lifted since its disks were compared with the site that serves`,
    {
      context: { vmId: vm.id, operationId },
      done: 'the VM was not started: what it may have written meanwhile is under its new disks',
      hint: 'Its disks have to be compared again: `hvdr abort VM`, then fail it back again.',
    },
  );
}

/** Puts the VM on its protective disks, from which on its changes are known. */
async function onProtective(
  record: ReturnRecord,
  { vm, operationId }: FailbackOf,
  file: ReturnFile,
  { hypervisor }: EndSeams,
): Promise<void> {
  if (record.referenceId !== undefined) return;
  // what a start that was killed left would keep the disks where they are
  await removeMarks(vm.id, operationId, hypervisor);
  // read before anything else can lift it: as long as it stands, nothing was started since the last round
  const fence = await hypervisor.fenceOf(vm.id);
  await hypervisor.setDiskFiles(
    vm.id,
    record.disks.map(({ protective }) => protective),
  );
  // without a mark the commit owes all cells, which a comparison finds
  if (fence?.tag.operationId !== operationId) return;
  const referenceId = await markStart(vm.id, operationId, hypervisor);
  await file.write({ ...record, referenceId });
}

async function isOnFormer(record: ReturnRecord, hypervisor: FailbackHost): Promise<boolean> {
  const { disks } = await hypervisor.describeVm(record.vmId);
  return disks.some(({ path }) => record.disks.some(({ original }) => original === path));
}

/**
 * F6: the receiver has the disks as the VM started with them as its point `pointId`; the ledger goes on
 * from there, so that the next cycle is a delta. Done already when no failback is open.
 * @throws DrError E_STATE (another one than `failbackId` is open), E_STALE_EPOCH, E_LOCKED, E_IO
 */
export function commitBack(
  of: FailbackOf,
  failbackId: Guid | undefined,
  point: { readonly pointId: Guid; readonly consistentAtMs: number },
  seams: EndSeams,
): Promise<void> {
  const { vm } = of;
  const { fs, clock, random, stateFolder, hypervisor, log } = seams;
  return underLease(of, seams, async () => {
    const file = new ReturnFile(stateFolder, vm.id, seams);
    const open = await file.read();
    if (open === undefined) return;
    requireMeant(open, of, failbackId);
    const begun = { ...of, operationId: open.operationId };
    const { referenceId } = await requireRecord(file, begun, ['started']);
    const ledgerSeams = { fs, random, now: () => clock.now() };
    const { store, ledger, setAside } = await LedgerStore.open(
      stateFolder,
      vm.id,
      vm.name,
      ledgerSeams,
    );
    if (setAside !== undefined) {
      log.warn('ledger.set-aside', { path: setAside.path, error: setAside.error });
    }
    const references = await hypervisor.listReferencePoints(vm.id);
    const reference = references.find(({ id }) => id === referenceId);
    const { disks } = await hypervisor.describeVm(vm.id);
    const since = reference && referenceOf(reference, disks);
    await store.save(ledgerAfter(ledger, of, point, since));
    for (const { id, tag } of references) {
      const isFormer = tag?.protectionId === vm.id && id !== referenceId;
      if (isFormer) await hypervisor.removeReferencePoint(vm.id, id);
    }
    await file.remove();
  });
}

export interface UndoWish {
  /** undefined: whichever of the store is open. */
  readonly failbackId: Guid | undefined;
  /** Somebody has given up what the VM wrote since it was started here. */
  readonly dropsWrites: boolean;
}

/**
 * The VM is off, on its former disks, and fenced; the protective ones are gone. Done already when
 * nothing of the store is open. A VM that somebody started on its former disks stays as it is.
 * @throws DrError E_STATE (another failback is open; what the VM wrote was not given up; it has
 *   checkpoints), E_REMOTE_ACTION, E_SOURCE_ALIVE, E_STALE_EPOCH, E_DISK_MISMATCH, E_LOCKED - all with the
 *   VM as it was; E_HYPERVISOR, E_IO
 */
export function undoBack(
  of: FailbackOf,
  { failbackId, dropsWrites }: UndoWish,
  seams: UndoSeams,
): Promise<void> {
  const { vm } = of;
  return underLease(of, seams, async () => {
    const file = new ReturnFile(seams.stateFolder, vm.id, seams);
    const record = await file.read();
    if (record?.storeId !== of.storeId) return;
    requireMeant(record, of, failbackId);
    if (!dropsWrites) await requireNeverRan(record, of, seams);
    const begun = { ...of, operationId: record.operationId };
    if (record.stage === 'started') await offProtective(record, begun, seams);
    await removeProtective(record.disks, seams.fs);
    await file.remove();
  });
}

async function offProtective(
  record: ReturnRecord,
  { vm, operationId, epoch }: FailbackOf,
  { hypervisor, fs, log, requireAllowed }: UndoSeams,
): Promise<void> {
  const power = await powerOf(vm.id, hypervisor);
  if (await isOnFormer(record, hypervisor)) {
    if (power !== 'off') throw sourceAlive(vm.name, power ?? 'unknown');
  } else {
    // it may have written here, and what it wrote is this site's
    requireAllowed();
    await requireWayBack(record, vm, hypervisor, fs);
    await stopVm(vm, hypervisor);
  }
  await hypervisor.fenceVm(vm.id, { tag: { protectionId: vm.id, operationId }, epoch });
  log.info('fence.set', { vmId: vm.id, vmName: vm.name, epoch });
  await removeMarks(vm.id, operationId, hypervisor);
  await hypervisor.setDiskFiles(
    vm.id,
    record.disks.map(({ original }) => original),
  );
}

/**
 * A commit or an undo is an operation of its own, and says which failback it ends.
 * @throws DrError E_STATE when another one is open
 */
function requireMeant(
  { operationId, stage }: ReturnRecord,
  { vm, storeId }: FailbackOf,
  failbackId: Guid | undefined,
): void {
  if (failbackId === undefined || failbackId === operationId) return;
  throw new DrError('E_STATE', `${vm.name} is in another failback, ${operationId}`, {
    context: { vmId: vm.id, stage, operationId, storeId, failbackId },
    done: 'nothing was changed at the primary site',
    hint: endingHint(vm.name),
  });
}

/** @throws DrError E_STATE when the VM was started on its protective disks, or may have been */
async function requireNeverRan(
  { stage, operationId }: ReturnRecord,
  { vm }: FailbackOf,
  { hypervisor }: EndSeams,
): Promise<void> {
  if (stage !== 'started') return;
  const fence = await hypervisor.fenceOf(vm.id);
  // its own fence is lifted right before the start
  if (fence?.tag.operationId === operationId) return;
  throw new DrError('E_STATE', `${vm.name} ran here by failback ${operationId}`, {
    context: { vmId: vm.id, stage, operationId },
    done: 'what it wrote is kept; nothing was changed at the primary site',
    hint: endingHint(vm.name),
  });
}

async function requireRecord(
  file: ReturnFile,
  of: FailbackOf,
  stages: readonly ReturnRecord['stage'][],
): Promise<ReturnRecord> {
  const record = await file.read();
  if (record !== undefined && isOf(record, of) && stages.includes(record.stage)) return record;
  const { vm, operationId } = of;
  throw new DrError(
    'E_STATE',
    `the disks of ${vm.name} are not ready for this step of the failback`,
    {
      context: { operationId, open: record?.operationId ?? 'none', stage: record?.stage ?? 'none' },
      done: 'nothing was changed at the primary site',
    },
  );
}

function isOf(record: ReturnRecord, { operationId, storeId }: FailbackOf): boolean {
  return record.operationId === operationId && record.storeId === storeId;
}
