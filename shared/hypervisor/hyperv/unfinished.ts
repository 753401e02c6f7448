// VMs that a registration began and did not end, because its process died. They go with the next registration of their
// tag, or when somebody cleans up; their disks stay. A VM that somebody has made use of since is let be: it is known by
// what a registration never does.

import path from 'node:path';
import type { Guid } from '../../bytes/index.js';
import { lockedFile, makeLockFile } from '../../files/index.js';
import type { UnfinishedVm, UnfinishedVms } from '../target.js';
import type { OwnerTag } from '../vm.js';
import { removeWithRole } from './cluster-role.js';
import type { HyperVContext } from './context.js';
import { allMachines, loadMachine, machineOrNone, powerOf } from './machines.js';
import { operationOfUnfinishedName, unfinishedName, vmMarkOf } from './naming.js';
import type { MachineFacts } from './operations/machines.js';

/** A VM is built in less. */
const REGISTRATION_MS = 10 * 60_000;

export class HyperVUnfinishedVms implements UnfinishedVms {
  readonly #context: HyperVContext;

  constructor(context: HyperVContext) {
    this.#context = context;
  }

  async list(): Promise<readonly UnfinishedVm[]> {
    const found: UnfinishedVm[] = [];
    for (const { id, name } of await allMachines(this.#context)) {
      if (operationOfUnfinishedName(name) === undefined) continue;
      const machine = await machineOrNone(this.#context, id);
      if (machine === undefined) continue;
      found.push({
        vmId: id,
        name,
        diskPaths: machine.disks.map((disk) => disk.path),
        staysBecause: whyItStays(machine),
      });
    }
    return found;
  }

  async remove(vmId: Guid): Promise<void> {
    const { name } = await loadMachine(this.#context, vmId);
    const operationId = operationOfUnfinishedName(name);
    if (operationId === undefined) return;
    await whileRegistering(this.#context, operationId, 0, async () => {
      const machine = await machineOrNone(this.#context, vmId);
      if (machine?.name !== name) return;
      if (whyItStays(machine) !== undefined) return;
      await removeWithRole(this.#context, machine);
    });
  }
}

/** Before the next registration of the tag, whose turn it is. */
export async function removeUnfinishedOf(context: HyperVContext, tag: OwnerTag): Promise<void> {
  for (const { id: vmId, name } of await allMachines(context)) {
    if (name !== unfinishedName(tag)) continue;
    const machine = await machineOrNone(context, vmId);
    if (machine === undefined || whyItStays(machine) !== undefined) continue;
    await removeWithRole(context, machine);
  }
}

/**
 * A registration that is under way and one that died look the same, but only the first one holds its lock. Operations
 * share sixteen of them, so that none has to be removed.
 * @throws DrError E_LOCKED
 */
export async function whileRegistering<T>(
  context: HyperVContext,
  operationId: Guid,
  waitMs: number | undefined,
  action: () => Promise<T>,
): Promise<T> {
  const { fs, stateFolder } = context;
  await fs.makeFolder(stateFolder);
  const lockFile = path.join(stateFolder, `registering-${operationId.slice(0, 1)}`);
  await makeLockFile(fs, lockFile);
  const lock = await lockedFile(context, lockFile, waitMs ?? REGISTRATION_MS);
  try {
    return await action();
  } finally {
    await lock.close();
  }
}

/** undefined: nobody has made use of it, and it is ours. */
function whyItStays(machine: MachineFacts): string | undefined {
  const { state, parentCheckpointId, lastAppliedId, adapters, disks, notes } = machine;
  const power = powerOf(state);
  if (power !== 'off') return `it is ${power}, so somebody has started it`;
  // Hyper-V gives one out at the first start
  if (adapters.some(({ isMacDynamic, mac }) => isMacDynamic && !/^0*$/.test(mac))) {
    return 'it has a MAC address of this host, so somebody has started it';
  }
  if (parentCheckpointId !== undefined || lastAppliedId !== undefined) {
    return 'it has a checkpoint, which somebody has made';
  }
  // between the first two steps of a registration there is no mark yet, and nothing else either
  const isBare = notes === '' && disks.length === 0;
  const operationId = vmMarkOf(machine)?.tag.operationId;
  if (isBare || operationId === operationOfUnfinishedName(machine.name)) return undefined;
  return 'its notes do not say that it is of this product';
}
