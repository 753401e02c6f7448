// The VM here is seen running while the primary is the active site: somebody lifted the fence of a failback,
// and started it. The state stays, because its own commands lead out of it: an undo keeps what is here, and
// a commit, which wants the VM here off, what the primary has. Nothing ends by itself from then on.

import type { VmDesk } from '../../ingest/vm-desk.js';
import { appendFailover } from '../failover-book.js';
import { powerStateOf } from '../instance.js';
import type { FailoverRecord, Instance } from '../model.js';
import type { FailoverSite } from '../site.js';

/** One look, which is one question to the hypervisor. @throws DrError E_HYPERVISOR, E_IO */
export async function seeSecondVm(
  { host, seams, log }: FailoverSite,
  { vm }: VmDesk,
): Promise<void> {
  const instance = goneHome(vm.protection.failover);
  if (host === undefined || instance?.vmId === undefined) return;
  const powerState = await powerStateOf(host, instance.vmId);
  if (powerState === undefined || powerState === 'off') return;
  await vm.change(async () => {
    const { failover, epoch, vmName } = vm.protection;
    // meanwhile it may have become the one that serves
    const now = goneHome(failover);
    if (now?.operationId !== instance.operationId) return;
    const { clock } = seams;
    const seen = { ...now, ranBesideAtMs: clock.now() };
    await appendFailover(vm, clock, { ...failover, instance: seen }, epoch, { by: 'receiver' });
    log.error('failback.runs-beside', { vmId: vm.vmId, vmName, powerState });
  });
}

/** The VM here that has to be off, and was not seen otherwise. */
function goneHome({ phase, activeSite, instance }: FailoverRecord): Instance | undefined {
  const isHome = activeSite === 'source' && (phase === 'failing-back' || phase === 'failed-back');
  return isHome && instance?.ranBesideAtMs === undefined ? instance : undefined;
}
