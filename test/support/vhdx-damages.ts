// Every violation that § 9 of the reference lists for one file, as a named damage to a good one:
// what is changed, and the code, structure and offset by which it must be reported. Checksums are
// mended, so only the check itself can refuse. Chain violations (point 12) are in chain.test.ts,
// because they need several files.

import { BLOCK_DAMAGES } from './vhdx-block-damages.js';
import type { Damage } from './vhdx-damage.js';
import { HEAD_DAMAGES } from './vhdx-head-damages.js';

export const DAMAGES: readonly Damage[] = [...HEAD_DAMAGES, ...BLOCK_DAMAGES];
