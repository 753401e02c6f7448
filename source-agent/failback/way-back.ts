// What an undo of a failback does to a VM that was started on its protective disks: everything that could
// keep it off its former ones is looked for while it still runs, because an undo that gets stuck with the VM
// off leaves nobody who serves.

import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import type { VmSummary } from '../../shared/hypervisor/index.js';
import { powerOf } from '../start-block.js';
import type { FailbackHost } from './host.js';
import { removeOwnCheckpoints } from './marks.js';
import type { ReturnRecord } from './return-record.js';

/** What it writes is thrown away, so its guest is asked to stop, and not waited for any longer. */
const SHUTDOWN_TIMEOUT_MS = 2 * 60 * 1000;

/**
 * The VM can be put back on its former disks once it is off; nothing of it was changed.
 * @throws DrError E_STATE (it has checkpoints, a former disk is gone), E_DISK_MISMATCH, E_STALLED
 */
export async function requireWayBack(
  record: ReturnRecord,
  { id: vmId, name }: VmSummary,
  hypervisor: FailbackHost,
  fs: FileSystem,
): Promise<void> {
  const done = 'the VM stays as it is, on the disks that it came back on';
  // of a start that was killed: their files stand above the disks, as those of a user's do
  await removeOwnCheckpoints(vmId, record.operationId, hypervisor);
  const { disks } = await hypervisor.describeVm(vmId);
  const hasSame = record.disks.every(({ diskId }, index) => disks[index]?.diskId === diskId);
  if (!hasSame || disks.length !== record.disks.length) {
    throw new DrError('E_DISK_MISMATCH', `${name} has other disks than it came back with`, {
      context: { vmId, disks: disks.length, wanted: record.disks.length },
      done,
      hint: 'Give it the disks that it had, or keep it here: `hvdr failover permanent VM`.',
    });
  }
  for (const [index, { original, protective }] of record.disks.entries()) {
    const path = disks[index]?.path;
    if (path !== protective && path !== original) {
      throw new DrError(
        'E_STATE',
        `${name} has checkpoints, so its former disks cannot come back`,
        {
          context: { vmId, path: path ?? '' },
          done,
          hint: 'Remove its checkpoints at the primary site first.',
        },
      );
    }
    if ((await fs.status(original)) !== undefined) continue;
    throw new DrError('E_STATE', `${original}, a former disk of ${name}, is gone`, {
      context: { vmId, path: original },
      done,
      hint: 'Put it back where it was, or keep the VM here: `hvdr failover permanent VM`.',
    });
  }
}

/** Off on return: by its guest, if that answers and stops in time. @throws DrError E_HYPERVISOR */
export async function stopVm({ id }: VmSummary, hypervisor: FailbackHost): Promise<void> {
  const power = await powerOf(id, hypervisor);
  if (power === 'off') return;
  if (power === 'running' && (await hypervisor.heartbeat(id)) === 'ok') {
    try {
      await hypervisor.shutDownVm(id, SHUTDOWN_TIMEOUT_MS);
      return;
    } catch (error) {
      if (!(error instanceof DrError) || error.code !== 'E_SHUTDOWN_TIMEOUT') throw error;
    }
  }
  await hypervisor.turnOffVm(id);
}
