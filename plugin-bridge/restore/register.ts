// The restored VM at its hypervisor. Whose place it may take is a table; registering goes by an owner tag,
// so that it can be done again after a crash, and the VM is its owner's alone at the end.

import type { Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type {
  SourceHypervisor,
  TargetHypervisor,
  VmDefinition,
  VmSummary,
} from '../../shared/hypervisor/index.js';
import { applyNetwork } from '../../shared/network/index.js';
import { networkOf, type NetworkWish } from './network.js';
import type { RestoreSession } from './session.js';

export interface RestoreHost extends SourceHypervisor, TargetHypervisor {}

export interface NameWish {
  /** Of the VM that was backed up. */
  readonly vmId: Guid;
  readonly vmName: string;
  readonly newVmName: string | undefined;
  readonly mayReplace: boolean;
}

export type NameDecision =
  | { readonly kind: 'free'; readonly name: string }
  | { readonly kind: 'replace'; readonly name: string; readonly former: VmSummary }
  | { readonly kind: 'refused'; readonly error: DrError };

export function isSameName(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}

/** Whose place the VM takes (docs/bacula-restore.md "The VM"). Pure. */
export function decideName(wish: NameWish, vms: readonly VmSummary[]): NameDecision {
  const { vmId, vmName, newVmName, mayReplace } = wish;
  const name = newVmName ?? vmName;
  const [former, ...others] = vms.filter((vm) => isSameName(vm.name, name));
  if (former === undefined) return { kind: 'free', name };
  if (others.length > 0) return refused(name, `${others.length + 1} VMs have the name`, former);
  if (newVmName !== undefined) {
    return refused(name, 'a VM has the new name', former, 'Give another `new_vm_name`.');
  }
  if (mayReplace) return { kind: 'replace', name, former };
  if (former.id !== vmId) return refused(name, 'another VM has the name', former);
  if (former.powerState !== 'off') return refused(name, `it is ${former.powerState}`, former);
  return { kind: 'replace', name, former };
}

function refused(name: string, why: string, former: VmSummary, hint?: string): NameDecision {
  return { kind: 'refused', error: vmError(`${name} is not replaced: ${why}`, former, hint) };
}

function vmError(message: string, former: VmSummary, hint?: string): DrError {
  return new DrError('E_RESTORE_VM', message, {
    context: { vmId: former.id, vmName: former.name, powerState: former.powerState },
    done: 'no VM was registered or changed',
    ...(hint === undefined ? {} : { hint }),
  });
}

/** @throws DrError E_RESTORE_VM */
export async function plannedName(host: RestoreHost, wish: NameWish): Promise<NameDecision> {
  const decision = decideName(wish, await host.listVms());
  if (decision.kind === 'refused') throw decision.error;
  if (decision.kind === 'replace') await requireOwn(host, decision.former);
  return decision;
}

/** A VM that serves at the other site, or that a failover made, is not the restore's to replace. */
async function requireOwn(host: RestoreHost, former: VmSummary): Promise<void> {
  if ((await host.fenceOf(former.id)) !== undefined) {
    throw vmError(
      `${former.name} is not replaced: it serves at the other site, and is fenced here`,
      former,
      'Bring it back with `hvdr failback`, or restore it under a `new_vm_name`.',
    );
  }
  if ((await host.tagOf(former.id)) === undefined) return;
  throw vmError(
    `${former.name} is not replaced: an operation of this product made it and owns it`,
    former,
    '`hvdr status` says which; or restore it under a `new_vm_name`.',
  );
}

export interface Registration {
  readonly host: RestoreHost;
  readonly session: RestoreSession;
  readonly definition: VmDefinition;
  /** One for each disk of the definition. */
  readonly diskPaths: readonly string[];
  readonly wish: NameWish;
  readonly network: NetworkWish;
  readonly say: (kind: 'info' | 'warning', text: string) => void;
}

/** Registers the VM, off; durable on return. @throws DrError E_RESTORE_VM, E_HYPERVISOR */
export async function registerRestored(work: Registration): Promise<void> {
  const { host, session, wish, definition } = work;
  const tag = { protectionId: wish.vmId, operationId: session.operationId };
  const known = session.registered.find(({ vmId }) => vmId === wish.vmId)?.registeredId;
  const vmId = known ?? (await host.findTagged(tag))?.id ?? (await makeVm(work, tag));
  if (known === undefined) {
    try {
      await connect(work, vmId);
    } catch (error) {
      // with the session goes who knows of the mark
      await host.removeVm(vmId).catch(() => undefined);
      throw error;
    }
    await session.addRegistered({ vmId: wish.vmId, registeredId: vmId });
  }
  if ((await host.summaryOf(vmId)) === undefined) return;
  await host.dropTag(vmId);
  work.say('info', `${wish.newVmName ?? definition.name} is registered at ${host.name}, off`);
}

async function makeVm(
  { host, definition, diskPaths, wish, network, say }: Registration,
  tag: { protectionId: Guid; operationId: Guid },
): Promise<Guid> {
  const decision = await plannedName(host, wish);
  if (decision.kind === 'refused') throw decision.error;
  if (decision.kind === 'replace') {
    const { former } = decision;
    const { disks } = await host.describeVm(former.id);
    if (former.powerState !== 'off') await host.turnOffVm(former.id);
    await host.removeVm(former.id);
    const places = disks.map((disk) => disk.path).join(', ');
    say('warning', `${former.name} was replaced; its former disks were not removed: ${places}`);
  }
  return host.registerVm({
    definition: wish.newVmName === undefined ? definition : asAnother(definition),
    name: decision.name,
    diskPaths,
    tag,
    joinsCluster: wish.newVmName === undefined,
    keepsMacAddresses: wish.newVmName === undefined && network.mac_policy !== 'new',
  });
}

/** Beside the first it is a machine of its own, to its host and to whatever knows machines by their serial numbers. */
function asAnother(definition: VmDefinition): VmDefinition {
  const { hyperV } = definition;
  return {
    ...definition,
    isAutoStart: false,
    ...(hyperV === undefined ? {} : { hyperV: { ...hyperV, firmwareIds: undefined } }),
  };
}

/** A second VM beside the first keeps off the network until somebody has given it its own addresses. */
async function connect(
  { host, definition, wish, network, say }: Registration,
  vmId: Guid,
): Promise<void> {
  if (wish.newVmName !== undefined) {
    if (definition.adapters.length > 0) {
      say(
        'info',
        `the adapters of ${wish.newVmName} are not connected: its guest has the addresses of ${wish.vmName}`,
      );
    }
    return;
  }
  const { adapters } = definition;
  const { vmName } = wish;
  const switches = await host.listSwitches();
  const { plan, said } = networkOf({ vmName, adapters, switches, wish: network });
  for (const { kind, text } of said) say(kind, text);
  await applyNetwork(host, vmId, plan);
}

/** @throws DrError E_RESTORE_VM when a VM uses the file */
export async function refuseInUse(host: RestoreHost, file: string): Promise<void> {
  for (const vm of await host.listVms()) {
    const { disks } = await host.describeVm(vm.id);
    if (!disks.some((disk) => isSameName(disk.path, file))) continue;
    throw vmError(
      `${file} is a disk of the VM ${vm.name}`,
      vm,
      'Give another `restore_path`, or restore to `/`, which makes a folder of its own.',
    );
  }
}
