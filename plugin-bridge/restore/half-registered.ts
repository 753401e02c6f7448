// VMs that a restore left with its mark: it died between registering and the end, so nobody has them yet.
// Their disks were checked before; the VM itself may lack its network. The next restore, or `hvdr gc`,
// takes them away, so that the name and the files are free again.

import { join } from 'node:path';
import type { Guid } from '../../shared/bytes/index.js';
import type { FileSystem } from '../../shared/files/index.js';
import type { VmSummary } from '../../shared/hypervisor/index.js';
import type { RestoreHost } from './register.js';
import { operationOf } from './session.js';
import { ifNobodyLives, isSessionName } from './session-files.js';

export interface HalfRegisteredVm {
  readonly vm: VmSummary;
  /** Session of the job that left it. */
  readonly folder: string;
  /** By the owner, who has started it: it is the owner's, and stays. */
  readonly isInUse: boolean;
  readonly isDone: boolean;
}

type Inventory = Pick<RestoreHost, 'listVms' | 'tagOf' | 'removeVm' | 'dropTag'>;

/**
 * Removes what sessions without a living backend left at the host, unless `isPlan`; their disks stay.
 * @throws DrError E_IO, E_HYPERVISOR, E_FILE_DAMAGED
 */
export async function collectHalfRegistered(
  { fs, host }: { readonly fs: FileSystem; readonly host: () => Promise<Inventory> },
  stateFolder: string,
  /** `ownJob`: unique name of the job that goes on with its session. */
  { isPlan, ownJob }: { readonly isPlan: boolean; readonly ownJob?: string },
): Promise<HalfRegisteredVm[]> {
  if ((await fs.status(stateFolder)) === undefined) return [];
  const found: HalfRegisteredVm[] = [];
  for (const name of await fs.list(stateFolder)) {
    if (!isSessionName(name)) continue;
    const folder = join(stateFolder, name);
    await ifNobodyLives(fs, folder, async () => {
      const session = await operationOf(fs, folder);
      if (session === undefined || session.jobName === ownJob) return;
      const vms = await markedVms(await host(), session.operationId);
      for (const vm of vms) found.push(await settle(await host(), vm, folder, isPlan));
    });
  }
  return found;
}

async function markedVms(host: Inventory, operationId: Guid): Promise<VmSummary[]> {
  const marked: VmSummary[] = [];
  for (const vm of await host.listVms()) {
    if ((await host.tagOf(vm.id))?.operationId === operationId) marked.push(vm);
  }
  return marked;
}

async function settle(
  host: Inventory,
  vm: VmSummary,
  folder: string,
  isPlan: boolean,
): Promise<HalfRegisteredVm> {
  const isInUse = vm.powerState !== 'off';
  if (!isPlan) await (isInUse ? host.dropTag(vm.id) : host.removeVm(vm.id));
  return { vm, folder, isInUse, isDone: !isPlan };
}
