// The state of a protection by its name: what failover.md § 2 calls it, out of the points, the cycle
// under way and the record.

import type { Phase, StateName } from './model.js';

export interface StateInput {
  readonly phase: Phase;
  readonly isHalted: boolean;
  readonly hasPoint: boolean;
  /** A first cycle is under way, or was begun. */
  readonly isSeeding: boolean;
  /** Every disk is being compared, or has to be. */
  readonly isComparing: boolean;
}

const NAMES: Readonly<Record<Exclude<Phase, 'ordinary'>, StateName>> = {
  'failing-over': 'FAILING_OVER',
  'failed-over': 'FAILED_OVER',
  undoing: 'UNDOING',
  committed: 'COMMITTED',
  'failing-back': 'FAILING_BACK',
  'failed-back': 'FAILED_BACK',
  'split-brain': 'SPLIT_BRAIN',
  halted: 'HALTED',
};

export function stateName(input: StateInput): StateName {
  const { phase, isHalted, hasPoint, isSeeding, isComparing } = input;
  if (isHalted) return 'HALTED';
  if (phase !== 'ordinary') return NAMES[phase];
  if (!hasPoint) return isSeeding ? 'SEEDING' : 'UNPROTECTED';
  return isComparing ? 'RESYNC' : 'PROTECTED';
}
