// The initiator's end of a channel.

import { DrError } from '../errors.js';
import type { ChannelConnection, ConnectOptions } from './endpoint.js';

/** @throws DrError E_SOURCE_UNREACHABLE, E_AUTH, E_VERSION */
export function connect(options: ConnectOptions): Promise<ChannelConnection> {
  return Promise.reject(new DrError('E_SOURCE_UNREACHABLE', `${options.host} does not answer`));
}
