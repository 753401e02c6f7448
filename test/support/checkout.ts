// Where things lie, seen from the compiled tests. Works for any output folder of tsc that stands
// directly in the checkout (dist, dist-…).

import { statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Absolute path of the compiled tree that this test is part of. */
export const builtFolder: string = fileURLToPath(new URL('../../', import.meta.url));

/** Absolute path of the checkout: sources, bin, docs. */
export const checkoutFolder: string = resolve(builtFolder, '..');

/** Folder of the sample files: $HVDR_SAMPLES, else ../shared/samples beside the checkout. */
export const samplesFolder: string =
  process.env['HVDR_SAMPLES'] ?? join(checkoutFolder, '..', 'shared', 'samples');

/** The command line as it is run: bound from what this tree was compiled to. */
export const mainProgram: string = join(builtFolder, 'programs', 'main.js');

const madeAt = (path: string): number | undefined =>
  statSync(path, { throwIfNoEntry: false })?.mtimeMs;
const compiledAt = madeAt(join(builtFolder, '.tsbuildinfo'));
// a copy of a part of the tree has neither
if (compiledAt !== undefined && !((madeAt(mainProgram) ?? 0) >= compiledAt)) {
  throw new Error('the programs are older than what they are made of: npm run build');
}
