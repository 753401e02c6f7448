// Where things lie, seen from the compiled tests. Works for any output folder of tsc that stands
// directly in the checkout (dist, dist-…).

import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Absolute path of the compiled tree that this test is part of. */
export const builtFolder: string = fileURLToPath(new URL('../../', import.meta.url));

/** Absolute path of the checkout: sources, bin, docs. */
export const checkoutFolder: string = resolve(builtFolder, '..');

/** Folder of the sample files: $HVDR_SAMPLES, else ../shared/samples beside the checkout. */
export const samplesFolder: string =
  process.env['HVDR_SAMPLES'] ?? join(checkoutFolder, '..', 'shared', 'samples');
