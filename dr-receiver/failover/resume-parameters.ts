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

/** undefined: the operation goes on as it was begun. @throws DrError E_PARAMETER */
export function parametersOnResume(
  { kind, parameters }: Operation,
  command: Command,
  more: Operation['parameters'],
): Operation['parameters'] | undefined {
  if (kind === 'failback' && command === 'failback') {
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
