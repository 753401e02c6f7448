// Who uses disks of operations, as the hypervisor says it: a VM with our tag, or one that has a file of
// ours, or a checkpoint above one, as a disk. What no record names any more may still run.

import type { Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import { tagOf } from './instance.js';
import { operationOfFile } from './instance-files.js';
import type { TargetHost } from './ports.js';

/** Names of VMs by the operation whose disks they have, or whose tag. @throws DrError E_HYPERVISOR */
export async function operationsInUse(host: TargetHost): Promise<ReadonlyMap<Guid, string>> {
  const users = new Map<Guid, string>();
  for (const { id, name } of await host.listVms()) {
    const tag = await tagOf(host, id);
    if (tag !== undefined) users.set(tag.operationId, name);
    for (const path of await diskPathsOf(host, id)) {
      const operationId = operationOfFile(path.split(/[\\/]/).at(-1) ?? '');
      if (operationId !== undefined) users.set(operationId, name);
    }
  }
  return users;
}

/** A VM with a disk, or what its user's checkpoints stand on, at such a path. @throws DrError E_HYPERVISOR */
export async function userOf(
  host: TargetHost,
  isWanted: (path: string) => boolean,
): Promise<{ readonly name: string; readonly path: string } | undefined> {
  for (const { id, name } of await host.listVms()) {
    const path = (await diskPathsOf(host, id)).find(isWanted);
    if (path !== undefined) return { name, path };
  }
  return undefined;
}

/** None when somebody removed the VM meanwhile. */
async function diskPathsOf(host: TargetHost, vmId: Guid): Promise<readonly string[]> {
  try {
    return (await host.describeVm(vmId)).disks.map(({ path }) => path);
  } catch (error) {
    if (error instanceof DrError && error.code === 'E_NOT_FOUND') return [];
    throw error;
  }
}
