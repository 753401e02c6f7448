import { DeltaError } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';

/** Whether an error tells that files of an unfinished cycle are damaged or gone. */
export function isDamaged(error: unknown): error is DrError {
  return error instanceof DeltaError || (error instanceof DrError && error.code === 'E_NOT_FOUND');
}
