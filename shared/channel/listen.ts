// The receiver's end of a channel.

import { DrError } from '../errors.js';
import type { ChannelListener, ListenOptions } from './endpoint.js';

/** @throws DrError E_IO when the address cannot be listened on */
export function listen(options: ListenOptions): Promise<ChannelListener> {
  return Promise.reject(new DrError('E_IO', `cannot listen on ${options.host}`));
}
