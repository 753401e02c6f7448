// The steps that every cycle of a VM takes, whoever its point is for: a DR store (cycle.ts) or a backup
// job (file-cycle.ts).

import type { Guid } from '../shared/bytes/index.js';
import type { Clock, Random } from '../shared/clock.js';
import type { ReadableDisk } from '../shared/disk/index.js';
import { DrError } from '../shared/errors.js';
import type { FileSystem } from '../shared/files/index.js';
import type {
  CheckpointDisk,
  ReferencePoint,
  SourceHypervisor,
  VmSummary,
} from '../shared/hypervisor/index.js';
import type { Log } from '../shared/log.js';
import {
  type LeasedCheckpoint,
  removeLeftoversOf,
  removeReferencePoints,
} from './checkpoint-lease.js';
import type { Warn } from './cycle-result.js';
import { refuseDuringFailback } from './failback/return-record.js';
import type { Geometry, Ledger } from './ledger.js';
import { LedgerStore } from './ledger-store.js';
import { referenceOf } from './tracked-changes.js';
import { takeVmLease } from './vm-lease.js';

export interface StepSeams {
  readonly hypervisor: SourceHypervisor;
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  /** Ledgers, leases. Must exist. */
  readonly stateFolder: string;
  /** Aborting ends the cycle at the next safe point. */
  readonly signal: AbortSignal;
}

/** How a cycle meets others. */
export interface CycleManners {
  readonly cycleId: Guid;
  readonly overlap: 'skip' | 'wait';
  readonly timeoutMs: number;
}

/** Nobody else works on the VM meanwhile. @throws DrError E_LOCKED, E_IO; what `work` throws */
export async function underVmLease<T>(
  vm: VmSummary,
  { cycleId, overlap, timeoutMs }: CycleManners,
  { fs, clock, stateFolder, signal }: StepSeams,
  log: Log,
  work: () => Promise<T>,
): Promise<T> {
  const lease = await takeVmLease(
    stateFolder,
    {
      vmId: vm.id,
      vmName: vm.name,
      operationId: cycleId,
      holder: `process ${process.pid}`,
      waitMs: overlap === 'wait' ? timeoutMs : 0,
      signal,
    },
    { fs, clock },
  );
  try {
    log.debug('cycle.started', { vmName: vm.name });
    if (lease.killed !== undefined) {
      const { operationId, sinceMs } = lease.killed;
      const since = new Date(sinceMs).toISOString();
      log.warn('cycle.warning', { what: 'an earlier cycle was killed', operationId, since });
    }
    return await work();
  } finally {
    await lease.release();
  }
}

/**
 * The VM's ledger, and what a killed cycle left at the hypervisor is gone.
 * @throws DrError E_IO, E_STATE during a failback, what the hypervisor throws
 */
export async function openLedger(
  { id, name }: VmSummary,
  { hypervisor, fs, random, clock, stateFolder }: StepSeams,
  log: Log,
  warn: Warn,
): Promise<{ readonly store: LedgerStore; readonly ledger: Ledger }> {
  await refuseDuringFailback(stateFolder, { id, name }, { fs, random });
  const seams = { fs, random, now: () => clock.now() };
  const { store, ledger, setAside } = await LedgerStore.open(stateFolder, id, name, seams);
  if (setAside !== undefined) {
    const { path, error } = setAside;
    log.warn('ledger.set-aside', { path, error });
    warn('W_LEDGER', `the ledger could not be used (${error.message}); now at ${path}`);
  }
  await removeLeftoversOf(hypervisor, id, id, ledger.reference?.id, log);
  return { store, ledger };
}

/** Opens a frozen disk. @throws DrError E_DISK_MISMATCH when it has another size than it should */
export async function openFrozenDisk(
  lease: LeasedCheckpoint,
  diskId: Guid,
  { sizeBytes }: Geometry,
  vmName: string,
): Promise<ReadableDisk> {
  const opened = await lease.openDisk(diskId);
  if (opened.sizeBytes === sizeBytes) return opened;
  throw new DrError(
    'E_DISK_MISMATCH',
    `the disk ${diskId} of ${vmName} has ${opened.sizeBytes} bytes, its checkpoint says ${sizeBytes}`,
    { context: { diskId } },
  );
}

/** What becomes durable with the reference point. */
export interface Advance {
  readonly lease: LeasedCheckpoint;
  readonly ledger: Ledger;
  readonly disks: readonly CheckpointDisk[];
  readonly store: LedgerStore;
  /** Asked when the checkpoint has been converted: what else to record. */
  readonly record: (ledger: Ledger) => Ledger;
}

/**
 * The checkpoint becomes the reference point, which is recorded before the older one is destroyed. A
 * failure leaves the old reference point in force: the next delta is larger. Returns the ledger as it
 * is durable. @throws DrError E_IO, E_CAPACITY
 */
export async function advanceReference(
  vmId: Guid,
  { lease, ledger, disks, store, record }: Advance,
  hypervisor: SourceHypervisor,
  warn: Warn,
): Promise<Ledger> {
  let point: ReferencePoint;
  try {
    point = await lease.convert();
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    warn('W_CHECKPOINT', `the reference point stays the older one: ${error.message}`);
    return ledger;
  }
  const advanced = record({ ...ledger, reference: referenceOf(point, disks) });
  await store.save(advanced);
  try {
    await removeReferencePoints(hypervisor, vmId, vmId, point.id);
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    warn('W_CHECKPOINT', `the older reference point could not be removed: ${error.message}`);
  }
  return advanced;
}
