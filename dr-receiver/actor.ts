// Who is entered in a journal for what a caller did.

import type { Caller } from '../shared/channel/index.js';
import type { Actor } from './store/records.js';

export function actorOf({ principal, keyId }: Caller): Actor {
  return { by: principal, keyId };
}
