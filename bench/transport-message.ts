// The message that both contenders of transport-only send again and again.

import { MIB } from './bench.js';
import { RandomBytes } from './data.js';

export const TRANSPORT_MESSAGE_BYTES = MIB;

/** 1 MiB of random bytes, the same in every process. */
export function transportMessage(): Buffer {
  return new RandomBytes('transport').next(TRANSPORT_MESSAGE_BYTES);
}
