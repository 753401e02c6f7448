// Cycles that the DR site asks for in a planned failover: while the guest runs, until little is left,
// and the last one of a VM that is off.

import { type Guid, guidToWire } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type { CheckpointDisk } from '../../shared/hypervisor/index.js';
import { runCycle } from '../cycle.js';
import type { CycleResult } from '../cycle-result.js';
import { isNone, union, noCells } from '../dirty-cells.js';
import { withInspection } from '../inspect.js';
import { chainKey } from '../ledger.js';
import { receiverView } from '../receiver-view.js';
import { powerOf } from '../start-block.js';
import { changesSince } from '../tracked-changes.js';
import type { AttachSeams } from './seams.js';
import type { AttendedVm } from './attended-vms.js';

const PRESYNC_CYCLES_MAX = 3;
/** What is left then is sent while the VM is off. */
const SMALL_BYTES = 64 << 20;
/** A hypervisor that could not mark the moment of the first one costs a second. */
const FINAL_CYCLES_MAX = 2;

export async function presync(
  attended: AttendedVm,
  seams: AttachSeams,
  onProgress: () => void,
): Promise<void> {
  for (let count = 0; count < PRESYNC_CYCLES_MAX; count++) {
    const { bytesSent } = await cycleOf(attended, seams, onProgress);
    if (bytesSent < SMALL_BYTES) return;
  }
}

/**
 * The receiver's head has every byte of the VM, which is off and fenced, on return.
 * @throws DrError E_STATE (it is not), E_FINAL_SYNC_FAILED, what a cycle throws
 */
export async function finalCycle(
  attended: AttendedVm,
  storeId: Guid,
  seams: AttachSeams,
  onProgress: () => void,
): Promise<Guid> {
  await requireFenced(attended);
  const before = await levelPoint(attended, storeId, seams);
  // an earlier attempt whose answer was lost
  if (before !== undefined) return before;
  for (let count = 0; count < FINAL_CYCLES_MAX; count++) {
    const { pointId } = await cycleOf(attended, seams, onProgress);
    await requireFenced(attended);
    if ((await levelPoint(attended, storeId, seams)) === pointId) return pointId;
  }
  const { vm } = attended;
  throw new DrError(
    'E_FINAL_SYNC_FAILED',
    `${vm.name} has changes that its last cycle did not bring`,
    {
      context: { vmId: vm.id },
      done: 'it is still off and fenced at the primary site',
    },
  );
}

function cycleOf(
  { vm, job }: AttendedVm,
  { fs, clock, random, log, signal }: AttachSeams,
  onProgress: () => void,
): Promise<CycleResult> {
  const { hypervisor, link, bandwidth, stateFolder, cycle } = job;
  return runCycle(
    vm,
    { ...cycle, overlap: 'wait', isSeedOnly: false },
    { hypervisor, link, fs, clock, random, log, bandwidth, stateFolder, signal, onProgress },
  );
}

async function requireFenced({ vm, job: { hypervisor } }: AttendedVm): Promise<void> {
  const powerState = await powerOf(vm.id, hypervisor);
  const isFenced = (await hypervisor.fenceOf(vm.id)) !== undefined;
  if (powerState === 'off' && isFenced) return;
  throw new DrError('E_STATE', `the last cycle of ${vm.name} needs it off and fenced`, {
    context: { vmId: vm.id, powerState: powerState ?? 'none', isFenced },
    done: 'nothing was sent',
  });
}

/** The receiver's head, when the VM as it is now has nothing that the head lacks. */
async function levelPoint(
  { vm, job }: AttendedVm,
  storeId: Guid,
  seams: AttachSeams,
): Promise<Guid | undefined> {
  const { hypervisor, stateFolder, link } = job;
  const client = await link.client();
  const head = receiverView(
    await client.describe({ vmId: guidToWire(vm.id), vmName: vm.name }, { signal: seams.signal }),
  );
  const { headPointId } = head;
  if (headPointId === undefined) return undefined;
  return withInspection(vm, { ...seams, hypervisor, stateFolder }, async ({ ledger, lease }) => {
    const chain = ledger.chains.get(chainKey(storeId));
    if (chain?.confirmed?.pointId !== headPointId || chain.inFlight !== undefined) return undefined;
    const { checkpoint } = lease;
    const frozen = { hypervisor, vmId: vm.id, checkpointId: checkpoint.id };
    const changes = await changesSince(frozen, checkpoint.disks, ledger.reference);
    const isLevel = changes.every(({ diskId, changed }) => {
      const debt = chain.disks.get(diskId);
      const owed = debt === undefined ? 'all' : union(debt.pending, debt.inFlight ?? noCells());
      return isNone(changed) && isNone(owed);
    });
    return isLevel && isSameSet(checkpoint.disks, head.disks) ? headPointId : undefined;
  });
}

function isSameSet(
  disks: readonly CheckpointDisk[],
  atHead: readonly { readonly diskId: Guid }[],
): boolean {
  const ids = new Set(atHead.map(({ diskId }) => diskId));
  return disks.length === ids.size && disks.every(({ diskId }) => ids.has(diskId));
}
