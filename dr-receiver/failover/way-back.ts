// How a failover or failback that nobody has committed is taken back: a plan says it, and whoever carries it
// out goes the same way. Pure.

import type { Answer } from './machine.js';
import type { Command, FailoverRecord } from './model.js';

/** Fact of an unplanned failover: it takes the place of the VM that serves here. */
export const REPLACES = 'replaces';

/**
 * given-up: nothing came up, and nothing is left of it. kept: the same, and what served before it goes on
 * serving. undo, failback-undo: an operation of its own.
 */
export type WayBack = 'given-up' | 'kept' | 'undo' | 'failback-undo';

export function wayBack(
  command: Command,
  { through }: Extract<Answer, { readonly kind: 'takeBack' }>,
  failover: FailoverRecord,
): WayBack {
  const { operation, halted, instance } = failover;
  const isReplacing = operation?.facts[REPLACES] === 'yes';
  const isBeside = command === 'abort' && isReplacing;
  const isNothing = instance === undefined || isBeside;
  const isEarly = through === undefined && halted === undefined && isNothing;
  if (isEarly && operation !== undefined) return isReplacing ? 'kept' : 'given-up';
  return isFailback(failover) ? 'failback-undo' : 'undo';
}

export function isFailback({ phase, halted }: FailoverRecord): boolean {
  return ['failing-back', 'failed-back'].includes(halted?.phase ?? phase);
}
