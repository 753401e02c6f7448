// A new VM as a role of the cluster that its host is a node of (hyperv.md § 3.6): only where every node reaches all that
// it consists of. Taking the role away comes before taking the VM away, else the cluster keeps a role without a VM.

import path from 'node:path';
import type { Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import type { HyperVContext } from './context.js';
import { addClusterRole, listSharedVolumes, removeClusterRole } from './operations/cluster.js';
import { getHost } from './operations/host.js';
import { removeMachine, type MachineSummary } from './operations/machines.js';

const NO_ROLE =
  'It is no role of the cluster, which will not start it on another node. To make it one: ' +
  'Add-ClusterVirtualMachineRole -VMId (Get-VM -Name NAME).VMId';

/** The folder on a shared volume for the configuration of a VM over these files; undefined: it cannot be a role. */
export async function sharedFolderFor(
  { runner }: Pick<HyperVContext, 'runner'>,
  diskPaths: readonly string[],
): Promise<string | undefined> {
  const { clusterNode, defaultVmFolder } = await runner.run(getHost, {});
  const [first] = diskPaths;
  if (clusterNode === undefined || first === undefined) return undefined;
  const { folders } = await runner.run(listSharedVolumes, {});
  const volumeOf = (file: string): string | undefined =>
    folders.find((folder) => folder !== '' && isUnder(file, folder));
  if (diskPaths.some((file) => volumeOf(file) === undefined)) return undefined;
  return volumeOf(defaultVmFolder) === undefined ? volumeOf(first) : defaultVmFolder;
}

function isUnder(file: string, folder: string): boolean {
  const between = path.relative(folder, file);
  return !path.isAbsolute(between) && between.split(path.sep)[0] !== '..';
}

/** It serves without one too: a refusal is returned as a remark for its notes. */
export async function giveRole(
  { runner }: Pick<HyperVContext, 'runner'>,
  vmId: Guid,
  name: string,
): Promise<readonly string[]> {
  try {
    await runner.run(addClusterRole, { vmId, name });
    return [];
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    return [`${NO_ROLE} (${error.message.replaceAll(/\s+/g, ' ')})`];
  }
}

export async function removeWithRole(
  { runner }: Pick<HyperVContext, 'runner'>,
  { id, isClustered }: Pick<MachineSummary, 'id' | 'isClustered'>,
): Promise<void> {
  if (isClustered) await runner.run(removeClusterRole, { vmId: id });
  await runner.run(removeMachine, { vmId: id });
}
