// What an error says about the files of a point.

import { DeltaError } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { VhdxError } from '../../shared/vhdx/index.js';

/** They say nothing about the bytes of a file, whatever class of error they come in. */
const NO_DAMAGE: readonly string[] = [
  ...['E_IO', 'E_CAPACITY', 'E_LOCKED', 'E_EXISTS'],
  ...['E_VHDX_POISONED', 'E_VHDX_HAS_CHILDREN', 'E_VHDX_LIMIT'],
];

/** Whether an error tells of a damaged or missing file, and not of a device that does not answer. */
export function isDamage(error: unknown): error is DrError {
  if (!(error instanceof DrError) || NO_DAMAGE.includes(error.code)) return false;
  if (error instanceof DeltaError || error instanceof VhdxError) return true;
  return ['E_POINT_CORRUPT', 'E_NOT_FOUND'].includes(error.code);
}
