// The ledger after a failback (failover.md § 4, F6).

import type { Guid } from '../../shared/bytes/index.js';
import { type DirtyCells, noCells } from '../dirty-cells.js';
import {
  type Chain,
  chainKey,
  type Ledger,
  type PointFacts,
  type Reference,
  withChain,
} from '../ledger.js';

/**
 * The store has the disks of `reference` as its point `confirmed`. For other stores every cell may have
 * changed: what came by the failback, no tracking has seen. undefined: the hypervisor lost the mark, so
 * the same goes for this store.
 */
export function ledgerAfter(
  ledger: Ledger,
  { storeId, epoch }: { readonly storeId: Guid; readonly epoch: bigint },
  confirmed: PointFacts,
  reference: Reference | undefined,
): Ledger {
  const ours = chainKey(storeId);
  let next: Ledger = { ...ledger, reference };
  for (const chain of ledger.chains.values()) {
    next = withChain(
      next,
      chain.key === ours
        ? {
            ...owing(
              chain,
              reference === undefined ? 'the hypervisor lost what changed since' : '',
            ),
            ...{ epoch, confirmed, offered: [], inFlight: undefined },
          }
        : { ...owing(chain, 'a failback wrote the disk'), inFlight: undefined },
    );
  }
  return next;
}

/** After a failback that ended without a point: every store has to compare. */
export function ledgerOwingAll(ledger: Ledger): Ledger {
  let next: Ledger = { ...ledger, reference: undefined };
  for (const chain of ledger.chains.values()) {
    const owed = { ...owing(chain, 'a failback wrote the disk'), inFlight: undefined };
    next = withChain(next, owed);
  }
  return next;
}

/** All cells, for a reason; none without. */
function owing(chain: Chain, because: string): Chain {
  const pending: DirtyCells = because === '' ? noCells() : 'all';
  const disks = new Map(
    [...chain.disks].map(([diskId, debt]) => [
      diskId,
      { ...debt, pending, because, inFlight: undefined },
    ]),
  );
  return { ...chain, disks };
}
