// A fenced VM is one that serves at another site: nobody starts it here, and it reaches no network
// (failover.md § 4, P4). What it had before stands in its record until the fence is lifted.

import { DrError } from '../../errors.js';
import type { Fence } from '../source.js';
import type { FenceRecord, VmRecord } from './record.js';

/** The VM with the fence; the same value when it has that fence. @throws DrError E_STATE */
export function fencedVm(vm: VmRecord, { tag, epoch }: Fence): VmRecord {
  if (vm.powerState !== 'off') {
    throw new DrError('E_STATE', `the VM ${vm.name} is ${vm.powerState}, so it is not fenced`, {
      context: { vmId: vm.id, powerState: vm.powerState },
      hint: 'Shut it down first.',
    });
  }
  const { fence } = vm;
  const isSame =
    fence?.epoch === epoch &&
    fence.tag.protectionId === tag.protectionId &&
    fence.tag.operationId === tag.operationId;
  if (isSame) return vm;
  const before = fence ?? {
    isAutoStart: vm.isAutoStart,
    connections: vm.adapters.flatMap(({ id, switchName, vlan }) =>
      switchName === undefined ? [] : [{ adapterId: id, switchName, vlan }],
    ),
  };
  const { isAutoStart, connections } = before;
  return {
    ...vm,
    isAutoStart: false,
    adapters: vm.adapters.map((adapter) => ({
      ...adapter,
      switchName: undefined,
      vlan: undefined,
    })),
    fence: { tag, epoch, isAutoStart, connections },
  };
}

/** The VM as it was before its fence. An adapter that was connected meanwhile stays where it is. */
export function unfencedVm(vm: VmRecord): VmRecord {
  const { fence } = vm;
  if (fence === undefined) return vm;
  return {
    ...vm,
    isAutoStart: fence.isAutoStart,
    adapters: vm.adapters.map((adapter) => {
      const before = fence.connections.find(({ adapterId }) => adapterId === adapter.id);
      if (before === undefined || adapter.switchName !== undefined) return adapter;
      return { ...adapter, switchName: before.switchName, vlan: before.vlan };
    }),
    fence: undefined,
  };
}

/** @throws DrError E_FENCED */
export function refuseFenced(vm: VmRecord): void {
  const { fence } = vm;
  if (fence === undefined) return;
  throw new DrError('E_FENCED', `the VM ${vm.name} is fenced since epoch ${fence.epoch}`, {
    context: { vmId: vm.id, epoch: fence.epoch.toString(), ...tagFields(fence) },
    done: 'it was not started',
    hint: `\`hvdr status\` at the DR site shows who is active; undo the failover or fail back there. When that site is lost: \`hvdr unfence ${vm.name} --host … --force --reason TEXT\`.`,
  });
}

function tagFields({ tag }: FenceRecord): Readonly<Record<string, string>> {
  return { protectionId: tag.protectionId, operationId: tag.operationId };
}
