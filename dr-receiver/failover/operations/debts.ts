// What a source has to be told still: paid when its agent is there, and at its first contact otherwise.

import { defined } from '../../../shared/assert.js';
import { DrError } from '../../../shared/errors.js';
import type { VmDesk } from '../../ingest/vm-desk.js';
import { appendFailover } from '../failover-book.js';
import type { SourceDebt } from '../model.js';
import type { SourceSite } from '../ports.js';
import type { FailoverSite } from '../site.js';

/** @throws DrError what the source answers */
export async function payDebt(
  source: SourceSite,
  { vm }: Pick<VmDesk, 'vm'>,
  { kind, operationId, failbackId, point }: SourceDebt,
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
    case 'commitFailback': {
      // the commit brings the epoch, and says nothing of who serves under it
      const { activeSite, phase } = protection.failover;
      const standing = {
        isSourceActive: activeSite === 'source',
        isRetired: phase === 'committed',
      };
      await source.tellEpoch(vmId, { ...order, ...standing });
      const returned = defined(point, 'a commit is owed with its point');
      await source.failbackCommit(vmId, { ...order, failbackId }, returned);
      return;
    }
  }
}

/**
 * Tells the source what it is owed, in order, as far as it can be told now. Returns false when it was asked
 * and did not take it.
 */
export async function payDebts(site: FailoverSite, desk: VmDesk): Promise<boolean> {
  const { vm } = desk;
  let isTaken = true;
  for (const debt of vm.protection.failover.owed) {
    // what the VM there may have written goes with a command that somebody confirms
    if (debt.mayHaveRun === true) continue;
    const { owed, operation } = vm.protection.failover;
    // while the source was told the one before, something else may have begun
    if (!owed.includes(debt) || operation !== undefined) return true;
    const source = site.sources.find(vm.vmId, vm.protection.owner);
    if (source === undefined) return true;
    try {
      await payDebt(source, desk, debt);
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      const { code, message } = error;
      site.log.warn('failover.source-not-told', { vmId: vm.vmId, code, reason: message });
      isTaken = false;
      // what comes after it does not need it
      if (debt.kind === 'dropFailback') continue;
      return false;
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
  return isTaken;
}
