// Finds out that the peer has gone without a word: a ping now and then on the HTTP/2 session.

import type { Http2Session } from 'node:http2';
import type { Clock } from '../clock.js';
import { slept } from './slept.js';

const PING_MS = 30_000;

/** Calls `onDead` when a ping was not answered until the next one is due. Ends with `signal`. */
export async function keepAlive(
  session: Http2Session,
  clock: Clock,
  signal: AbortSignal,
  onDead: () => void,
): Promise<void> {
  let isAnswered = true;
  while (await slept(clock, PING_MS, signal)) {
    if (!isAnswered) return onDead();
    isAnswered = false;
    if (session.destroyed) return;
    session.ping((error) => {
      if (error === null) isAnswered = true;
    });
  }
}
