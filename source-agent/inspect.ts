// A frozen look at a VM for work that makes no point: the same lease and the same kind of checkpoint
// as a cycle, given back at the end. The ledger is read, never changed.

import { type Guid, randomGuid } from '../shared/bytes/index.js';
import type { Clock, Random } from '../shared/clock.js';
import type { FileSystem } from '../shared/files/index.js';
import type { SourceHypervisor, VmSummary } from '../shared/hypervisor/index.js';
import type { Log } from '../shared/log.js';
import {
  type LeasedCheckpoint,
  removeKilledCheckpoint,
  withCheckpoint,
} from './checkpoint-lease.js';
import type { Ledger } from './ledger.js';
import { LedgerStore } from './ledger-store.js';
import { takeVmLease } from './vm-lease.js';

export interface InspectSeams {
  readonly hypervisor: SourceHypervisor;
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
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
export async function withInspection<T>(
  vm: VmSummary,
  seams: InspectSeams,
  use: (inspection: Inspection) => Promise<T>,
): Promise<T> {
  const { hypervisor, fs, clock, random, log, stateFolder, signal } = seams;
  const operationId: Guid = randomGuid(random);
  const vmLease = await takeVmLease(
    stateFolder,
    {
      vmId: vm.id,
      vmName: vm.name,
      operationId,
      holder: `process ${process.pid}`,
      waitMs: 0,
      signal,
    },
    { fs, clock },
  );
  try {
    const ledgerSeams = { fs, random, now: () => clock.now() };
    const { ledger } = await LedgerStore.open(stateFolder, vm.id, vm.name, ledgerSeams);
    await removeKilledCheckpoint(hypervisor, vm.id, vmLease.killed?.operationId, log);
    const tag = { protectionId: vm.id, operationId };
    return await withCheckpoint(
      hypervisor,
      { vmId: vm.id, tag, consistency: 'crash', timeoutMs: CHECKPOINT_TIMEOUT_MS },
      log,
      (lease) => use({ vm, ledger, lease }),
    );
  } finally {
    await vmLease.release();
  }
}
