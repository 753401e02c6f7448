// What a failback needs of the primary, asked before anything is made: whatever would fail at the VM's
// start on its protective disks fails here.

import type { Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type { PowerState, VmDisk, VmSummary } from '../../shared/hypervisor/index.js';
import { powerOf } from '../start-block.js';
import type { FailbackHost } from './host.js';
import type { ServingDisk } from './serving-site.js';

/** @throws DrError E_NOT_FOUND, E_SOURCE_ALIVE */
export async function requireOff({ id, name }: VmSummary, hypervisor: FailbackHost): Promise<void> {
  const powerState = await powerOf(id, hypervisor);
  if (powerState === undefined) throw new DrError('E_NOT_FOUND', `no VM ${name} is here any more`);
  if (powerState !== 'off') throw sourceAlive(name, powerState);
}

export function sourceAlive(vmName: string, powerState: PowerState): DrError {
  return new DrError('E_SOURCE_ALIVE', `${vmName} is ${powerState} at the primary site`, {
    done: 'nothing of it was changed',
    hint: 'Shut it down there, unless what it has written since is what you want to keep: then `hvdr resolve VM --keep source`.',
  });
}

/**
 * The disks that the VM has here, which can be put on other files.
 * @throws DrError E_STATE (it has checkpoints), E_DISK_MISMATCH, E_HYPERVISOR
 */
export async function requireMovableDisks(
  vmId: Guid,
  hypervisor: FailbackHost,
): Promise<readonly VmDisk[]> {
  const { disks } = await hypervisor.describeVm(vmId);
  const unsupported = disks.find((disk) => disk.unsupported !== undefined);
  if (unsupported !== undefined) {
    throw new DrError(
      'E_DISK_MISMATCH',
      `disk ${unsupported.diskId} cannot be failed back to: ${unsupported.unsupported ?? ''}`,
      { context: { vmId, diskId: unsupported.diskId }, done: 'nothing was changed' },
    );
  }
  // on the files that they stand on already, which changes nothing and tells what would be in the way
  await hypervisor.setDiskFiles(
    vmId,
    disks.map(({ path }) => path),
  );
  return disks;
}

/** @throws DrError E_DISK_MISMATCH naming every disk that stands in the way */
export function requireSameDisks(
  here: readonly VmDisk[],
  serving: readonly ServingDisk[],
  vmName: string,
): void {
  const faults: string[] = [];
  for (const { diskId, sizeBytes } of here) {
    const theirs = serving.find((other) => other.diskId === diskId);
    if (theirs === undefined) faults.push(`${diskId} is at the primary site only`);
    else if (theirs.sizeBytes !== sizeBytes) {
      const sizes = `${sizeBytes} bytes at the primary site, ${theirs.sizeBytes} where it serves`;
      faults.push(`${diskId} has ${sizes}`);
    }
  }
  for (const { diskId } of serving) {
    if (!here.some((own) => own.diskId === diskId)) {
      faults.push(`${diskId} is not at the primary site`);
    }
  }
  if (faults.length === 0) return;
  throw new DrError('E_DISK_MISMATCH', `the disks of ${vmName} differ: ${faults.join('; ')}`, {
    context: { disks: faults.length },
    done: 'nothing was changed at the primary site',
    hint: 'Give the VM at the primary site the same disks, or make the failover permanent.',
  });
}
