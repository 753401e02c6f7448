// Finds the VM that an operator names, by name or id.

import { parseGuid } from '../shared/bytes/index.js';
import { DrError } from '../shared/errors.js';
import { matchesPattern } from '../shared/params/index.js';
import type { VmDesk } from './ingest/vm-desk.js';
import type { Receiver } from './receiver.js';

/** Made once: to make one takes longer than to compare a thousand names. */
const byName = new Intl.Collator();

/** All VMs that a name, id or pattern means; empty means all. @throws DrError E_NO_MATCH */
export async function findVms(receiver: Receiver, pattern: string): Promise<VmDesk[]> {
  const id = parseGuid(pattern);
  const found: VmDesk[] = [];
  for (const { vm } of await receiver.allDesks()) {
    const isMeant =
      pattern === '' || vm.vmId === id || matchesPattern(pattern, vm.protection.vmName);
    const desk = isMeant ? await receiver.desk(vm.vmId) : undefined;
    if (desk !== undefined) found.push(desk);
  }
  if (found.length > 0 || pattern === '' || pattern === '*') {
    return found.sort((a, b) => byName.compare(a.vm.protection.vmName, b.vm.protection.vmName));
  }
  throw new DrError('E_NO_MATCH', `no VM of this store is named ${pattern}`, {
    hint: '`hvdr status` lists the VMs of the store.',
  });
}

/** The one VM of this name or id. @throws DrError E_NOT_PROTECTED, E_USAGE */
export async function findVm(receiver: Receiver, name: string): Promise<VmDesk> {
  const id = parseGuid(name);
  // an id is enough to find its VM, a name may be that of any
  const byId = id === undefined ? undefined : await receiver.desk(id);
  if (byId !== undefined) return byId;
  const wanted = name.toLowerCase();
  const found = (await receiver.allDesks()).filter(
    ({ vm }) => vm.protection.vmName.toLowerCase() === wanted,
  );
  const only = found[0] === undefined ? undefined : await receiver.desk(found[0].vm.vmId);
  if (only !== undefined && found.length === 1) return only;
  if (only === undefined) {
    throw new DrError('E_NOT_PROTECTED', `no VM of this store is named ${name}`, {
      hint: '`hvdr status` lists the VMs of the store.',
    });
  }
  const ids = found.map(({ vm }) => `${vm.vmId}${isRetired(vm.protection) ? ' (retired)' : ''}`);
  const isOld = found.some(({ vm }) => isRetired(vm.protection));
  throw new DrError('E_USAGE', `${found.length} VMs are named ${name}: ${ids.join(', ')}`, {
    hint: `Name the VM by its id.${isOld ? ' A retired protection can be given up: `hvdr forget ID --plan`.' : ''}`,
  });
}

/** Its VM was moved for good; another protection may have the name. */
function isRetired({ failover }: VmDesk['vm']['protection']): boolean {
  return failover.phase === 'committed';
}
