import type { Bench } from '../bench.js';
import { deltaApply, vhdxScattered } from './apply.js';
import { deltaDiff } from './delta-diff.js';
import { memoryFlat } from './memory-flat.js';
import { start } from './start.js';
import { vhdxMerge } from './vhdx-merge.js';
import { vhdxRead } from './vhdx-read.js';
import { vhdxStream } from './vhdx-stream.js';
import { vhdxWrite } from './vhdx-write.js';

/** All benches, in the order of the table. */
export const ALL_BENCHES: readonly Bench[] = [
  vhdxRead,
  vhdxWrite,
  vhdxScattered,
  vhdxStream,
  vhdxMerge,
  deltaApply,
  deltaDiff,
  memoryFlat,
  start,
];
