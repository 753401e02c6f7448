// What a cycle says of itself to people, from its plan.

import type { Chain } from './ledger.js';
import type { CyclePlan } from './plan.js';
import type { ReceiverView } from './receiver-view.js';

/** Of what a cycle or a receiver says to people, so much is passed on. */
export const NOTES_MAX = 16;

/** Why a cycle could not tell what had changed although points were there before; each reason once. */
export function whyCompared(plan: CyclePlan, chain: Chain): string[] {
  if (plan.kind === 'seed') {
    if (chain.confirmed === undefined) return [];
    return [`the receiver has lost its points: ${chain.confirmed.pointId} was confirmed before`];
  }
  const reasons = plan.disks.flatMap(({ send, because }) =>
    send.how === 'compare' ? [`compared by hashes: ${because}`] : [],
  );
  return [...new Set(reasons)].slice(0, NOTES_MAX);
}

/** Why a seed did not help. */
export function whyUnused({ kind, disks }: CyclePlan, { unfinished }: ReceiverView): string[] {
  const isUnused = disks.every(({ reuseCycleId }) => reuseCycleId === undefined);
  if (kind !== 'seed' || unfinished === undefined || !isUnused) return [];
  return ['what was staged at the receiver is of no disk of this VM: other ids, or other sizes'];
}

/** Which disks were sent whole beside others that were not, as added and resized ones are. */
export function whyWhole(plan: CyclePlan): string[] {
  if (plan.kind === 'seed') return [];
  return plan.disks
    .flatMap(({ diskId, send, because }) =>
      send.how === 'whole' ? [`disk ${diskId} was sent whole: ${because}`] : [],
    )
    .slice(0, NOTES_MAX);
}
