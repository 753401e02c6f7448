// VMs that a registration left half made at a hypervisor, as `hvdr gc` takes them away. Their disks stay, and are named:
// whoever began the registration has them, or goes on with them.

import { DrError } from '../shared/errors.js';
import type { TargetHypervisor, UnfinishedVm, UnfinishedVms } from '../shared/hypervisor/index.js';

/** One line of the answer, of either side. */
export interface GarbageItem {
  readonly side: 'receiver' | 'source';
  readonly kind: string;
  readonly vm: string;
  readonly what: string;
  readonly sizeBytes: number;
  readonly isRemovable: boolean;
  readonly isRemoved: boolean;
  readonly because: string;
}

export async function unfinishedVmItems(
  { unfinished }: Pick<TargetHypervisor, 'unfinished'>,
  { isPlan }: { readonly isPlan: boolean },
): Promise<GarbageItem[]> {
  if (unfinished === undefined) return [];
  const items: GarbageItem[] = [];
  for (const vm of await unfinished.list()) {
    const stays = vm.staysBecause ?? (isPlan ? undefined : await remove(unfinished, vm));
    const isRemovable = stays === undefined;
    const because = stays ?? 'whoever registered it did not end';
    items.push({
      ...{ side: 'source', kind: 'unfinished VM', vm: vm.name, what: vm.vmId, sizeBytes: 0 },
      ...{ isRemovable, isRemoved: isRemovable && !isPlan },
      because: vm.diskPaths.length === 0 ? because : `${because}; ${disksOf(vm)}`,
    });
  }
  return items;
}

/** Why it stays after all. */
async function remove(
  unfinished: UnfinishedVms,
  { vmId }: UnfinishedVm,
): Promise<string | undefined> {
  try {
    await unfinished.remove(vmId);
  } catch (error) {
    if (error instanceof DrError && error.code === 'E_LOCKED')
      return 'VMs are being registered now';
    throw error;
  }
  const left = (await unfinished.list()).find((vm) => vm.vmId === vmId);
  return left === undefined ? undefined : (left.staysBecause ?? 'it is being worked on');
}

function disksOf({ diskPaths }: UnfinishedVm): string {
  return `its disks stay: ${diskPaths.join(', ')}`;
}
