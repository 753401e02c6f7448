// What an operation that stands somewhere is told anew by whoever asks for it again: a failback goes as far
// as it is asked to now, and its way back or its end may be forced.

import { DrError } from '../../shared/errors.js';
import type { Command, Operation } from './model.js';
import { valuesOf } from './operations/values.js';

/** Two who ask for the same get the same run. */
export function isSame(one: Operation['parameters'], other: Operation['parameters']): boolean {
  const valueIn = (given: Operation['parameters'], name: string): string | undefined =>
    given[name] ?? (name === 'stage' ? 'all' : undefined);
  const names = [...Object.keys(one), ...Object.keys(other)];
  return names.every((name) => valueIn(one, name) === valueIn(other, name));
}

export const TOO_LATE_TO_STAY =
  'the failback is past its sync stage: the VM is shut down here, or about to be. It can go on, or be taken back';

/** A failback that was switched already is asked to let the VM serve here. */
export function isTooLateToStay(
  { kind, step }: Pick<Operation, 'kind' | 'step'>,
  { stage }: Operation['parameters'],
): boolean {
  return kind === 'failback' && step !== 'F1' && stage === 'sync';
}

/** undefined: the operation goes on as it was begun. @throws DrError E_PARAMETER, E_STATE */
export function parametersOnResume(
  operation: Operation,
  command: Command,
  more: Operation['parameters'],
): Operation['parameters'] | undefined {
  const { kind, parameters } = operation;
  if (kind === 'failback' && command === 'failback') {
    if (isTooLateToStay(operation, more)) {
      throw new DrError('E_STATE', TOO_LATE_TO_STAY, { context: { step: operation.step } });
    }
    return { ...parameters, stage: 'all', ...more };
  }
  const isForcible = kind === 'failback-undo' || kind === 'failback-commit';
  if (!isForcible || command === 'resume') return undefined;
  const { force, reason = '' } = valuesOf(more);
  if (force && reason.trim() === '') {
    throw new DrError('E_PARAMETER', 'what is forced wants a reason');
  }
  return { ...parameters, ...more };
}
