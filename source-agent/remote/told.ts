// What the receiver tells of which site is active, made durable in the ledger.

import type { Guid } from '../../shared/bytes/index.js';
import type { VmSummary } from '../../shared/hypervisor/index.js';
import type { AttachSeams } from './seams.js';
import { chainKey, newChain, type Standing, withChain } from '../ledger.js';
import { LedgerStore } from '../ledger-store.js';
import { staleEpoch } from '../start-block.js';
import { takeVmLease } from '../vm-lease.js';

export interface Word extends Standing {
  readonly operationId: Guid;
  readonly epoch: bigint;
}

/** A cycle that is under way when the epoch changes is refused by the receiver soon. */
const LEASE_WAIT_MS = 5 * 60_000;

/** Durable on return. @throws DrError E_STALE_EPOCH, E_LOCKED, E_IO */
export async function keepWord(
  vm: VmSummary,
  storeId: Guid,
  { operationId, epoch, activeSite, isRetired }: Word,
  stateFolder: string,
  { fs, clock, random, log, signal }: AttachSeams,
): Promise<void> {
  const { id: vmId, name: vmName } = vm;
  const holder = `process ${process.pid}`;
  const request = { vmId, vmName, operationId, holder, waitMs: LEASE_WAIT_MS, signal };
  const lease = await takeVmLease(stateFolder, request, { fs, clock });
  try {
    const ledgerSeams = { fs, random, now: () => clock.now() };
    const { store, ledger, setAside } = await LedgerStore.open(
      stateFolder,
      vmId,
      vmName,
      ledgerSeams,
    );
    if (setAside !== undefined) {
      log.warn('ledger.set-aside', { path: setAside.path, error: setAside.error });
    }
    const key = chainKey(storeId);
    const known = ledger.chains.get(key);
    if (known !== undefined) {
      const { standing } = known;
      const isSame = standing.activeSite === activeSite && standing.isRetired === isRetired;
      if (known.epoch === epoch && isSame) return;
      // within an epoch the active site stays, and what is retired stays retired
      const isContrary =
        known.epoch === epoch &&
        (standing.activeSite !== activeSite || (standing.isRetired && !isRetired));
      if (epoch < known.epoch || isContrary) throw staleEpoch(vm, epoch, known.epoch);
    }
    const chain = known ?? newChain(key, epoch);
    await store.save(withChain(ledger, { ...chain, epoch, standing: { activeSite, isRetired } }));
    log.info('epoch.told', { vmId, vmName, epoch, activeSite, isRetired });
  } finally {
    await lease.release();
  }
}
