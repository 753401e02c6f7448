// A VM that is a role of a failover cluster: the node that owns it does the work, and power goes by its group
// (hyperv.md § 3.6, § 5). Nothing here is asked for a VM that is not clustered.

import type { Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import type { HyperVContext } from './context.js';
import { getClusterGroup, startClusterGroup, stopClusterGroup } from './operations/cluster.js';
import { getHost } from './operations/host.js';
import type { MachineSummary } from './operations/machines.js';

const OFFLINE = 'Offline';
const OFFLINE_MS = 5 * 60_000;
const POLL_MS = 500;

type Clustered = Pick<MachineSummary, 'id' | 'name' | 'isClustered'>;

/** @throws DrError E_HYPERVISOR (context: ownerNode) when another node owns the VM */
export async function requireOwner(context: HyperVContext, machine: Clustered): Promise<void> {
  if (!machine.isClustered) return;
  const { runner } = context;
  const { group } = await runner.run(getClusterGroup, { vmId: machine.id });
  if (group === undefined) return;
  const { clusterNode } = await runner.run(getHost, {});
  const { ownerNode } = group;
  if (clusterNode?.toLowerCase() === ownerNode.toLowerCase()) return;
  throw new DrError('E_HYPERVISOR', `the VM ${machine.name} is owned by the node ${ownerNode}`, {
    context: { vmId: machine.id, ownerNode, node: clusterNode ?? '' },
    hint: `The agent on ${ownerNode} does the work; nothing is wrong when it runs there.`,
  });
}

/** Brings the role online. False when the VM has none, and is started by itself. */
export async function startRole(
  { runner }: Pick<HyperVContext, 'runner'>,
  machine: Clustered,
): Promise<boolean> {
  if (!(await hasRole({ runner }, machine))) return false;
  await runner.run(startClusterGroup, { vmId: machine.id });
  return true;
}

/**
 * Takes the role offline, so that no node of the cluster starts its VM again. Its VM is saved, or what the role says
 * for such a case.
 * @throws DrError E_HYPERVISOR
 */
export async function stopRole(
  context: Pick<HyperVContext, 'runner' | 'clock'>,
  machine: Clustered,
): Promise<void> {
  const { runner, clock } = context;
  const vmId = machine.id;
  if (!(await hasRole(context, machine))) return;
  await runner.run(stopClusterGroup, { vmId });
  const deadline = clock.monotonic() + OFFLINE_MS;
  for (;;) {
    const { group } = await runner.run(getClusterGroup, { vmId });
    if (group === undefined || group.state === OFFLINE) return;
    if (clock.monotonic() >= deadline) {
      throw new DrError(
        'E_HYPERVISOR',
        `the role of the VM ${machine.name} was not offline in ${OFFLINE_MS} ms`,
        {
          context: { vmId, role: group.name, state: group.state },
          done: 'it was told to go offline',
          hint: 'Take the role offline in the Failover Cluster Manager, and try again.',
        },
      );
    }
    await clock.sleep(POLL_MS);
  }
}

async function hasRole(
  { runner }: Pick<HyperVContext, 'runner'>,
  { id, isClustered }: { readonly id: Guid; readonly isClustered: boolean },
): Promise<boolean> {
  if (!isClustered) return false;
  const { group } = await runner.run(getClusterGroup, { vmId: id });
  return group !== undefined;
}
