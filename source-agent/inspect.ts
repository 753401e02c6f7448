// A VM frozen for work that makes no point: the same lease and the same kind of checkpoint as a cycle,
// given back at the end. Nothing that another agent may use is taken away, and no ledger is changed.

import { type Guid, randomGuid } from '../shared/bytes/index.js';
import type { Clock, Random } from '../shared/clock.js';
import type { FileSystem } from '../shared/files/index.js';
import type { SourceHypervisor, VmSummary } from '../shared/hypervisor/index.js';
import type { Log } from '../shared/log.js';
import {
  type LeasedCheckpoint,
  removeKilledCheckpoint,
  waitForMerge,
  type WantedConsistency,
  withCheckpoint,
} from './checkpoint-lease.js';
import { refuseDuringFailback } from './failback/return-record.js';
import { emptyLedger, type Ledger } from './ledger.js';
import { LedgerStore } from './ledger-store.js';
import { takeVmLease } from './vm-lease.js';

export interface InspectSeams {
  readonly hypervisor: SourceHypervisor;
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Must exist. */
  readonly stateFolder: string;
  readonly signal: AbortSignal;
}

export interface Inspection {
  readonly vm: VmSummary;
  readonly ledger: Ledger;
  readonly lease: LeasedCheckpoint;
}

const CHECKPOINT_TIMEOUT_MS = 10 * 60 * 1000;

/** @throws DrError E_LOCKED while a cycle of the VM runs, E_CHECKPOINT, …; what `use` throws */
export async function withFrozenVm<T>(
  vm: VmSummary,
  wanted: { readonly consistency: WantedConsistency; readonly timeoutMs: number },
  seams: InspectSeams,
  use: (lease: LeasedCheckpoint) => Promise<T>,
): Promise<T> {
  const { hypervisor, clock, log, signal } = seams;
  return withVmLease(vm, seams, async (operationId) => {
    await refuseDuringFailback(seams.stateFolder, vm, seams);
    await waitForMerge(hypervisor, vm.id, wanted.timeoutMs, { clock, signal });
    const tag = { protectionId: vm.id, operationId };
    return withCheckpoint(hypervisor, { vmId: vm.id, tag, ...wanted }, log, use);
  });
}

/**
 * Nobody else works on the VM while `use` does, and the checkpoint of whoever was killed at it is gone.
 * `use` is given the operation whose tag its own checkpoints bear, so that they are found the same way.
 * @throws DrError E_LOCKED when somebody else works on it after `waitMs` still, E_IO, …; what `use` throws
 */
export async function withVmLease<T>(
  vm: VmSummary,
  { hypervisor, fs, clock, random, log, stateFolder, signal }: InspectSeams,
  use: (operationId: Guid) => Promise<T>,
  waitMs = 0,
): Promise<T> {
  const operationId = randomGuid(random);
  const holder = `process ${process.pid}`;
  const lease = await takeVmLease(
    stateFolder,
    { vmId: vm.id, vmName: vm.name, operationId, holder, waitMs, signal },
    { fs, clock },
  );
  try {
    await removeKilledCheckpoint(hypervisor, vm.id, lease.killed?.operationId, log);
    return await use(operationId);
  } finally {
    await lease.release();
  }
}

/** The same with what the ledger knows. @throws as withFrozenVm */
export function withInspection<T>(
  vm: VmSummary,
  seams: InspectSeams,
  use: (inspection: Inspection) => Promise<T>,
): Promise<T> {
  const wanted = { consistency: 'crash', timeoutMs: CHECKPOINT_TIMEOUT_MS } as const;
  return withFrozenVm(vm, wanted, seams, async (lease) => {
    const { fs, random, clock, stateFolder } = seams;
    const ledgerSeams = { fs, random, now: () => clock.now() };
    const found = await LedgerStore.look(stateFolder, vm.id, ledgerSeams);
    return use({ vm, ledger: found ?? emptyLedger(vm.id, vm.name), lease });
  });
}
