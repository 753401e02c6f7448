// What a source has to be told still: paid when its agent is there, and at its first contact otherwise.

import { DrError } from '../../../shared/errors.js';
import type { VmDesk } from '../../ingest/vm-desk.js';
import { appendFailover } from '../failover-book.js';
import type { SourceDebt } from '../model.js';
import type { SourceSite } from '../ports.js';
import type { FailoverSite } from '../site.js';

async function pay(
  source: SourceSite,
  { vm }: VmDesk,
  { kind, operationId, failbackId }: SourceDebt,
): Promise<void> {
  const { vmId, protection } = vm;
  const order = { operationId, epoch: protection.epoch };
  switch (kind) {
    case 'fence':
      await source.tellEpoch(vmId, { ...order, isSourceActive: false, isRetired: false });
      await source.fence(vmId, order);
      return;
    case 'retire':
      await source.tellEpoch(vmId, { ...order, isSourceActive: false, isRetired: true });
      return;
    case 'unfence':
      // it would end the failback that is open there
      if (protection.failover.phase === 'failed-back') return;
      await source.tellEpoch(vmId, { ...order, isSourceActive: true, isRetired: false });
      await source.unfence(vmId, order);
      return;
    case 'start':
      await source.start(vmId, order);
      return;
    case 'dropFailback':
      await source.failbackUndo(vmId, { ...order, failbackId, dropsWrites: false });
      return;
  }
}

/** Tells the source what it is owed, in order, as far as it can be told now. */
export async function payDebts(site: FailoverSite, desk: VmDesk): Promise<void> {
  const { vm } = desk;
  for (const debt of vm.protection.failover.owed) {
    // what the VM there may have written goes with a command that somebody confirms
    if (debt.mayHaveRun === true) continue;
    const { owed, operation } = vm.protection.failover;
    // while the source was told the one before, something else may have begun
    if (!owed.includes(debt) || operation !== undefined) return;
    const source = site.sources.find(vm.vmId, vm.protection.owner);
    if (source === undefined) return;
    try {
      await pay(source, desk, debt);
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      const { code, message } = error;
      site.log.warn('failover.source-not-told', { vmId: vm.vmId, code, reason: message });
      // what comes after it does not need it
      if (debt.kind === 'dropFailback') continue;
      return;
    }
    await vm.change(async () => {
      const { failover, epoch } = vm.protection;
      // something else may be owed by now
      if (!failover.owed.includes(debt)) return;
      const owed = failover.owed.filter((each) => each !== debt);
      const by = { by: 'receiver' };
      await appendFailover(vm, site.seams.clock, { ...failover, owed }, epoch, by);
    });
  }
}
