// The error of this folder: what is wrong with a delta, a manifest, or the way they fit a disk.

import { DrError } from '../errors.js';

export class DeltaError extends DrError {
  override readonly name = 'DeltaError';
}

/** What became of the target when reading `name` failed half way through an apply. */
export const TARGET_INCOMPLETE = 'the target is between two points; applying again completes it';
