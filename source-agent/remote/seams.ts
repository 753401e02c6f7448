import type { Clock, Random } from '../../shared/clock.js';
import type { FileSystem } from '../../shared/files/index.js';
import type { Log } from '../../shared/log.js';

export interface AttachSeams {
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Aborting ends the attachment, and orders at their next safe point. */
  readonly signal: AbortSignal;
}
