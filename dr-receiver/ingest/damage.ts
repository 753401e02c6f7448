import { DeltaError } from '../../shared/delta/index.js';
import type { DrError } from '../../shared/errors.js';
import { isDamage } from '../store/damage.js';

/** Whether an error tells that files of an unfinished cycle are damaged or gone. */
export function isDamaged(error: unknown): error is DrError {
  return isDamage(error) && (error instanceof DeltaError || error.code === 'E_NOT_FOUND');
}
