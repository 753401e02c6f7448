// The reference point of the disks with which a VM starts after a failback: what it changes is known from
// then on, so that the first cycle after the commit is a delta.

import type { Guid } from '../../shared/bytes/index.js';
import type { SourceHypervisor } from '../../shared/hypervisor/index.js';

const MERGE_TIMEOUT_MS = 10 * 60 * 1000;

/** Returns its id. The VM is off. @throws DrError E_CHECKPOINT, E_STALLED */
export async function markStart(
  vmId: Guid,
  operationId: Guid,
  hypervisor: SourceHypervisor,
): Promise<string> {
  const tag = { protectionId: vmId, operationId };
  const request = { tag, consistency: 'crash', timeoutMs: MERGE_TIMEOUT_MS } as const;
  const { id } = await hypervisor.createCheckpoint(vmId, request);
  const point = await hypervisor.convertToReferencePoint(vmId, id);
  await hypervisor.waitForMerge(vmId, MERGE_TIMEOUT_MS);
  return point.id;
}

/** Checkpoints of the operation; no file is being merged on return. */
export async function removeOwnCheckpoints(
  vmId: Guid,
  operationId: Guid,
  hypervisor: SourceHypervisor,
): Promise<void> {
  for (const { id, tag } of await hypervisor.listCheckpoints(vmId)) {
    if (tag?.operationId === operationId) await hypervisor.removeCheckpoint(vmId, id);
  }
  await hypervisor.waitForMerge(vmId, MERGE_TIMEOUT_MS);
}

/** Checkpoints and reference points of the operation; their files are merged on return. */
export async function removeMarks(
  vmId: Guid,
  operationId: Guid,
  hypervisor: SourceHypervisor,
): Promise<void> {
  await removeOwnCheckpoints(vmId, operationId, hypervisor);
  for (const { id, tag } of await hypervisor.listReferencePoints(vmId)) {
    if (tag?.operationId === operationId) await hypervisor.removeReferencePoint(vmId, id);
  }
}
