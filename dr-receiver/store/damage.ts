// What an error says about the files of a point.

import { DeltaError } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { VhdxError } from '../../shared/vhdx/index.js';

/** Whether an error tells of a damaged or missing file, and not of a device that does not answer. */
export function isDamage(error: unknown): error is DrError {
  if (error instanceof DeltaError || error instanceof VhdxError) return true;
  return error instanceof DrError && ['E_POINT_CORRUPT', 'E_NOT_FOUND'].includes(error.code);
}
