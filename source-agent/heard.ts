// What a receiver says at Describe of which site is active, as far as it is news to the source. It is
// durable in the ledger before anything follows from it, and what follows is a fence set or lifted: no
// VM is ever stopped or started here.

import { type Guid } from '../shared/bytes/index.js';
import { DrError } from '../shared/errors.js';
import type { SourceHypervisor, VmSummary } from '../shared/hypervisor/index.js';
import type { Log } from '../shared/log.js';
import { type Chain, chainKey, type Ledger, SOURCE_ACTIVE, withChain } from './ledger.js';
import type { LedgerStore } from './ledger-store.js';
import { isGivenBack, isTakenOver } from './plan.js';
import type { ReceiverView } from './receiver-view.js';
import { blockStart, liftFence } from './start-block.js';

export interface Hearing {
  readonly vm: VmSummary;
  readonly operationId: Guid;
  /** Whose lease the caller has. */
  readonly store: LedgerStore;
  readonly hypervisor: SourceHypervisor;
  readonly log: Log;
}

/** Returns the ledger as it is afterwards. @throws DrError E_IO, what the hypervisor throws */
export async function heed(
  receiver: ReceiverView,
  ledger: Ledger,
  hearing: Hearing,
): Promise<Ledger> {
  const known = ledger.chains.get(chainKey(receiver.storeId));
  if (isTakenOver(receiver, known)) return takenOver(receiver, known, ledger, hearing);
  if (known !== undefined && isGivenBack(receiver, known)) {
    return givenBack(receiver, known, ledger, hearing);
  }
  return ledger;
}

/** What runs is left alone and not written down: people decide, and nothing was agreed to. */
async function takenOver(
  { epoch }: ReceiverView,
  known: Chain | undefined,
  ledger: Ledger,
  { vm, operationId, store, hypervisor, log }: Hearing,
): Promise<Ledger> {
  const isFenced = await blockStart(vm, { epoch, operationId }, hypervisor, log);
  if (!isFenced || known === undefined) return ledger;
  const standing = { activeSite: 'target', isRetired: known.standing.isRetired } as const;
  const next = withChain(ledger, { ...known, epoch, standing });
  await store.save(next);
  log.info('epoch.told', { vmId: vm.id, vmName: vm.name, epoch, ...standing });
  return next;
}

async function givenBack(
  { epoch }: ReceiverView,
  known: Chain,
  ledger: Ledger,
  { vm, store, hypervisor, log }: Hearing,
): Promise<Ledger> {
  const next = withChain(ledger, { ...known, epoch, standing: SOURCE_ACTIVE });
  await store.save(next);
  log.info('epoch.told', { vmId: vm.id, vmName: vm.name, epoch, ...SOURCE_ACTIVE });
  // no store speaks for another one
  const isServedElsewhere = [...next.chains.values()].some(
    ({ standing }) => standing.activeSite === 'target',
  );
  if (isServedElsewhere) return next;
  try {
    await liftFence(vm, epoch, hypervisor, log);
  } catch (error) {
    // one that is not this store's to lift stands, and is no reason to miss a point
    if (!(error instanceof DrError)) throw error;
    if (error.code !== 'E_STALE_EPOCH' && error.code !== 'E_STATE') throw error;
    log.warn('fence.kept', { vmId: vm.id, vmName: vm.name, epoch, error });
  }
  return next;
}
