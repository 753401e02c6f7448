// What the primary's disks have that the newest point at the DR site lacks: the guest's last writes
// before it stopped. They are brought back to what the DR site has, as all that differs.

import type { Guid } from '../../shared/bytes/index.js';
import type { VmSummary } from '../../shared/hypervisor/index.js';
import { waitForMerge, withCheckpoint } from '../checkpoint-lease.js';
import { type DirtyCells, noCells, union } from '../dirty-cells.js';
import type { InspectSeams } from '../inspect.js';
import { type Chain, chainKey, emptyLedger, isSameGeometry } from '../ledger.js';
import { LedgerStore } from '../ledger-store.js';
import { changesSince } from '../tracked-changes.js';

const CHECKPOINT_TIMEOUT_MS = 10 * 60 * 1000;

export interface OwnChangesOf {
  readonly vm: VmSummary;
  readonly storeId: Guid;
  /** The newest point of that store. */
  readonly headPointId: Guid;
}

/**
 * By disk; 'all' where nobody knows. The caller has the VM's lease; the checkpoint for it bears
 * `operationId` and is merged again on return.
 * @throws DrError E_CHECKPOINT, E_STALLED, E_IO, …
 */
export async function ownChanges(
  { vm, storeId, headPointId }: OwnChangesOf,
  operationId: Guid,
  seams: InspectSeams,
): Promise<ReadonlyMap<Guid, DirtyCells>> {
  const { hypervisor, fs, random, clock, log, stateFolder } = seams;
  const ledgerSeams = { fs, random, now: () => clock.now() };
  const found = await LedgerStore.look(stateFolder, vm.id, ledgerSeams);
  const { chains, reference } = found ?? emptyLedger(vm.id, vm.name);
  const chain = knownAt(chains.get(chainKey(storeId)), headPointId);
  await waitForMerge(hypervisor, vm.id, CHECKPOINT_TIMEOUT_MS, seams);
  const wanted = {
    vmId: vm.id,
    tag: { protectionId: vm.id, operationId },
    consistency: 'crash',
    timeoutMs: CHECKPOINT_TIMEOUT_MS,
  } as const;
  const own = await withCheckpoint(hypervisor, wanted, log, async ({ checkpoint }) => {
    const frozen = { hypervisor, vmId: vm.id, checkpointId: checkpoint.id };
    const changes = await changesSince(frozen, checkpoint.disks, reference);
    return changes.map(({ diskId, geometry, changed }): [Guid, DirtyCells] => {
      const debt = chain?.disks.get(diskId);
      const isKnown = debt !== undefined && isSameGeometry(debt.geometry, geometry);
      const owed = isKnown ? union(debt.pending, debt.inFlight ?? noCells()) : 'all';
      return [diskId, union(changed, owed)];
    });
  });
  // whatever stands on the disks next needs them as they stay
  await waitForMerge(hypervisor, vm.id, CHECKPOINT_TIMEOUT_MS, seams);
  return new Map(own);
}

/** The sets of a chain say what a point lacks only for those that it knows (ledger.ts). */
function knownAt(chain: Chain | undefined, headPointId: Guid): Chain | undefined {
  if (chain === undefined) return undefined;
  const points = [chain.confirmed, chain.inFlight, ...chain.offered];
  return points.some((point) => point?.pointId === headPointId) ? chain : undefined;
}
