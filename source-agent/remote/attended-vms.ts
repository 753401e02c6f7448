// The VMs for which an agent answers: those that its jobs take, and what the DR site may do with each.

import type { Guid } from '../../shared/bytes/index.js';
import { type AttachedVm, guidToWireVm } from './wire.js';
import type { FileSystem } from '../../shared/files/index.js';
import type { VmSummary } from '../../shared/hypervisor/index.js';
import { isMatched, type Job } from '../agent.js';
import { chainKey } from '../ledger.js';
import { toldEpoch } from '../ledger-store.js';
import type { RemoteAction } from './remote-actions.js';

export interface AttendedVm {
  readonly vm: VmSummary;
  /** The first of the jobs that take it. */
  readonly job: Job;
  /** What any of them allows. */
  readonly allowed: ReadonlySet<RemoteAction>;
}

/** @throws what listing VMs throws */
export async function attendedVms(jobs: readonly Job[]): Promise<ReadonlyMap<Guid, AttendedVm>> {
  const found = new Map<Guid, AttendedVm>();
  const lists = new Map<Job['hypervisor'], readonly VmSummary[]>();
  for (const job of jobs) {
    const { hypervisor, remoteActions = [] } = job;
    const vms = lists.get(hypervisor) ?? (await hypervisor.listVms());
    lists.set(hypervisor, vms);
    for (const vm of vms) {
      if (!isMatched(job, vm)) continue;
      const known = found.get(vm.id);
      const allowed = new Set([...(known?.allowed ?? []), ...remoteActions]);
      found.set(vm.id, { vm, job: known?.job ?? job, allowed });
    }
  }
  return found;
}

/** What the receiver is told of one. `storeId` undefined: which store it is, is not known yet. */
export async function describeAttended(
  { vm, job, allowed }: AttendedVm,
  storeId: Guid | undefined,
  fs: FileSystem,
): Promise<AttachedVm> {
  const { hypervisor, stateFolder } = job;
  const told =
    storeId === undefined ? undefined : await toldEpoch(fs, stateFolder, vm.id, chainKey(storeId));
  return guidToWireVm({
    vmId: vm.id,
    vmName: vm.name,
    powerState: vm.powerState,
    // one that is not off has no fence
    isFenced: vm.powerState === 'off' && (await hypervisor.fenceOf(vm.id)) !== undefined,
    epoch: told?.epoch ?? 0n,
    // asked for by an order only: it would make every look a piece of news
    heartbeat: '',
    remoteActions: [...allowed],
  });
}
