// What every part of the provider works with.

import type { Clock, Random } from '../../clock.js';
import type { FileSystem } from '../../files/index.js';
import type { VirtualDisks } from './native/index.js';
import type { OperationRunner } from './powershell/operation.js';

export interface HyperVSeams {
  readonly runner: OperationRunner;
  readonly virtualDisks: VirtualDisks;
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  /** Where the provider keeps what Hyper-V cannot keep for it (memory.ts); absolute. */
  readonly stateFolder: string;
}

export type HyperVContext = HyperVSeams;
