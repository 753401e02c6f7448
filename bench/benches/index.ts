import type { Bench } from '../bench.js';
import { deltaApply, vhdxScattered } from './apply.js';
import { bacula } from './bacula.js';
import { deltaDiff } from './delta-diff.js';
import { earlyWarning } from './early-warning.js';
import { failoverRto } from './failover-rto.js';
import { fold } from './fold.js';
import { fullRandom, fullSparse } from './full-copy.js';
import { incremental, userAlternative } from './incremental.js';
import { manyVms } from './many-vms.js';
import { memoryFlat } from './memory-flat.js';
import { plan200 } from './plan-200.js';
import { pushMemory } from './push-memory.js';
import { roundTrip } from './round-trip.js';
import { scaleHistory } from './scale-history.js';
import { smallCycle } from './small-cycle.js';
import { start } from './start.js';
import { transportOnly } from './transport.js';
import { vhdxMerge } from './vhdx-merge.js';
import { vhdxRead } from './vhdx-read.js';
import { vhdxStream } from './vhdx-stream.js';
import { vhdxWrite } from './vhdx-write.js';

/** All benches, in the order of the table. */
export const ALL_BENCHES: readonly Bench[] = [
  fullRandom,
  fullSparse,
  incremental,
  userAlternative,
  smallCycle,
  manyVms,
  scaleHistory,
  roundTrip,
  transportOnly,
  bacula,
  pushMemory,
  vhdxRead,
  vhdxWrite,
  vhdxScattered,
  vhdxStream,
  vhdxMerge,
  fold,
  failoverRto,
  plan200,
  deltaApply,
  deltaDiff,
  earlyWarning,
  memoryFlat,
  start,
];
