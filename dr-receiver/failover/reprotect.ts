// What a retired protection tells of itself to its successor, which goes the other way, and the note that
// there is one. Everything else of a reprotect happens at the other site (docs/failover/reprotect.md).

import { guidToWire, ZERO_GUID } from '../../shared/bytes/index.js';
import type { ReprotectFacts } from '../../shared/channel/index.js';
import type { Clock } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import type { VmAdapter } from '../../shared/hypervisor/index.js';
import { formatNetworkMap, invertMap, type NetworkMap } from '../../shared/network/index.js';
import type { VmDesk } from '../ingest/vm-desk.js';
import type { VmStore } from '../store/vm-store.js';
import { definitionOf } from './definition.js';
import { appendFailover } from './failover-book.js';
import { type Asked, valuesOf } from './operations/work.js';
import { type FailoverSite, requireHost } from './site.js';

/** Of a protection that is COMMITTED. @throws DrError E_STATE, E_NOT_FOUND, E_POINT_CORRUPT, E_HYPERVISOR */
export async function reprotectFacts(
  site: FailoverSite,
  { vm }: VmDesk,
): Promise<ReprotectFacts> {
  const { failover, vmName } = vm.protection;
  const { instance, reprotected } = failover;
  if (instance?.vmId === undefined) {
    throw new DrError('E_STATE', `${vmName} has no VM at this site`, { context: { vmId: vm.vmId } });
  }
  const here = await requireHost(site).describeVm(instance.vmId);
  const point = vm.protection.point(instance.pointId) ?? vm.protection.head;
  if (point === undefined) throw new DrError('E_NO_POINT', `${vmName} has no restore point`);
  const there = definitionOf(vm, point);
  return {
    vmId: guidToWire(vm.vmId),
    instanceVmId: guidToWire(here.id),
    ...wayBack(there.adapters, here.adapters),
    diskIds: there.disks.map(({ diskId }) => {
      const isThere = here.disks.some((disk) => disk.diskId === diskId);
      return guidToWire(isThere ? diskId : ZERO_GUID);
    }),
    reprotectedAtMs: BigInt(reprotected?.atMs ?? 0),
  };
}

/** Adapters of the VM keep their order at the other site; those that somebody added have no way back. */
function wayBack(
  there: readonly VmAdapter[],
  here: readonly VmAdapter[],
): Pick<ReprotectFacts, 'networkMap' | 'networkRefusal'> {
  const pairs = new Map<string, { source: string; target: string }>();
  try {
    for (const [index, { switchName: target }] of here.entries()) {
      const source = there[index]?.switchName;
      if (target === undefined) continue;
      if (source === undefined) {
        throw new DrError('E_NET_UNMAPPED', `the switch ${target} has no counterpart`);
      }
      const known = pairs.get(source.toLowerCase());
      if (known !== undefined && known.target.toLowerCase() !== target.toLowerCase()) {
        throw new DrError(
          'E_NET_UNMAPPED',
          `${source} leads to ${known.target} and to ${target}, so it is not clear what leads back`,
        );
      }
      pairs.set(source.toLowerCase(), { source, target });
    }
    const forward: NetworkMap = { pairs, rest: undefined };
    return { networkMap: formatNetworkMap(invertMap(forward)), networkRefusal: '' };
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    return { networkMap: '', networkRefusal: error.message };
  }
}

/** Durable on return; noted once, whoever asks again. */
export async function noteReprotected(clock: Clock, vm: VmStore, asked: Asked): Promise<void> {
  const { safety_hold: holdSeconds } = valuesOf(asked.parameters);
  await vm.change(async () => {
    const { failover, epoch } = vm.protection;
    if (failover.phase !== 'committed') {
      throw new DrError('E_UNCOMMITTED', `${vm.protection.vmName} is not committed any more`);
    }
    if (failover.reprotected !== undefined) return;
    const atMs = clock.now();
    const reprotected = { atMs, safetyUntilMs: atMs + holdSeconds * 1000 };
    await appendFailover(vm, clock, { ...failover, reprotected }, epoch, asked);
  });
}
