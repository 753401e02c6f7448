// Which disks of a VM are replicated, and in which order: that of the VM's places.

import { DrError } from '../shared/errors.js';
import type { CheckpointDisk, VmDefinition } from '../shared/hypervisor/index.js';

/**
 * A VM that is replicated in part starts in part: one disk that cannot be is enough. Asked before a checkpoint is made,
 * which the guest would be quiesced for, and which its disks may not even take. @throws DrError E_HYPERVISOR
 */
export function refuseUnsupported({ name, disks }: VmDefinition): void {
  const refused = disks.find(({ unsupported }) => unsupported !== undefined);
  if (refused !== undefined) {
    throw new DrError(
      'E_HYPERVISOR',
      `the disk ${refused.path} of ${name} cannot be replicated: ${refused.unsupported ?? ''}`,
      {
        context: { diskId: refused.diskId },
        hint: 'Give the VM a VHDX in its place, or leave the VM out with exclude.',
      },
    );
  }
  if (disks.length === 0) {
    throw new DrError('E_HYPERVISOR', `${name} has no disk that could be replicated`, {
      hint: 'Leave the VM out with exclude.',
    });
  }
}

/** The disks of the checkpoint in the order of the VM's places. @throws DrError E_HYPERVISOR, E_CHECKPOINT */
export function orderedDisks(
  definition: VmDefinition,
  frozen: readonly CheckpointDisk[],
): CheckpointDisk[] {
  const { name } = definition;
  // a disk may have come while the checkpoint was made
  refuseUnsupported(definition);
  const ordered = definition.disks.flatMap(({ diskId }) =>
    frozen.filter((disk) => disk.diskId === diskId),
  );
  if (ordered.length !== frozen.length || ordered.length !== definition.disks.length) {
    throw new DrError(
      'E_CHECKPOINT',
      `the disks of ${name} changed while its checkpoint was made: ${definition.disks.length} now, ${frozen.length} frozen`,
      { hint: 'Nothing to do: the next cycle takes the disks as they are then.' },
    );
  }
  return ordered;
}
