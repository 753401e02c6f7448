// The failover cluster that a host is a node of (hyperv.md § 3.6, § 5). Asked only where there is one.

import type { Guid } from '../../../bytes/index.js';
import type { Operation } from '../powershell/operation.js';
import { CHANGE_MS, done, LOOK_MS } from './answers.js';

export interface ClusterGroup {
  readonly name: string;
  readonly ownerNode: string;
  /** `Online`, `Offline`, `Failed`, `PartialOnline`, `Pending`; another name is passed on. */
  readonly state: string;
}

/** undefined: the VM has no role. */
export const getClusterGroup: Operation<
  { readonly vmId: Guid },
  { readonly group: ClusterGroup | undefined }
> = {
  name: 'cluster.group',
  timeoutMs: LOOK_MS,
  read: (fields) => ({
    group: fields.optionalObject('group', (group) => ({
      name: group.string('name', 255),
      ownerNode: group.string('ownerNode', 255),
      state: group.string('state', 32),
    })),
  }),
};

const change = (name: string): Operation<{ readonly vmId: Guid }, void> => ({
  name,
  timeoutMs: CHANGE_MS,
  read: done,
});

/** Of a VM on shared volumes; the role is offline. */
export const addClusterRole: Operation<{ readonly vmId: Guid; readonly name: string }, void> = {
  name: 'cluster.addRole',
  timeoutMs: CHANGE_MS,
  read: done,
};

/** Where the volumes stand that every node reaches. */
export const listSharedVolumes: Operation<
  Record<string, never>,
  { readonly folders: readonly string[] }
> = {
  name: 'cluster.sharedVolumes',
  timeoutMs: LOOK_MS,
  read: (fields) => ({ folders: fields.strings('folders') }),
};

export const removeClusterRole = change('cluster.removeRole');
/** A clustered VM is started and stopped by its group, else the cluster undoes it. */
export const startClusterGroup = change('cluster.start');
export const stopClusterGroup = change('cluster.stop');
export const updateClusterRole = change('cluster.updateRole');
