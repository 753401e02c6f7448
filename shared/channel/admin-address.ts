// What a listener for monitoring is asked for and gives, and where it may listen.

import { BlockList, isIP } from 'node:net';
import { DrError } from '../errors.js';
import type { Log } from '../log.js';

export interface AdminOptions {
  /** An address of loopback, or `localhost`. */
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly log: Log;
}

export interface AdminListener {
  readonly host: string;
  readonly port: number;
  /** What health checks are told from now on. SERVING in the beginning. */
  setServing(isServing: boolean): void;
  close(): Promise<void>;
}

/**
 * The address that stands for `host`, which must be one of this machine's loopback.
 * @throws DrError E_PARAMETER
 */
export function loopbackAddress(host: string): string {
  const plain = host === 'localhost' ? '127.0.0.1' : host.replace(/^\[(.*)\]$/, '$1');
  const version = isIP(plain);
  const loopback = new BlockList();
  loopback.addSubnet('127.0.0.0', 8, 'ipv4');
  loopback.addAddress('::1', 'ipv6');
  if (version !== 0 && loopback.check(plain, version === 4 ? 'ipv4' : 'ipv6')) return plain;
  throw new DrError('E_PARAMETER', `--admin-listen wants a loopback address, not ${host}`, {
    context: { host },
    hint: 'Use 127.0.0.1:PORT; what is served there is neither encrypted nor authenticated.',
  });
}
