// Addresses of peers: which networks they are in, and who counts as one peer when connections are
// counted.

import { BlockList, isIP } from 'node:net';
import { DrError } from '../errors.js';

/** `::ffff:192.0.2.1` as `192.0.2.1`; zones of link-local addresses are cut. */
export function plainAddress(address: string): string {
  const bare = address.replace(/%.*$/, '');
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(bare);
  return mapped?.[1] ?? bare;
}

/** An IPv4 address, or the /64 of an IPv6 address, which is one customer's to fill. */
export function peerGroup(address: string): string {
  const plain = plainAddress(address);
  if (isIP(plain) !== 6) return plain;
  const [head = '', tail] = plain.toLowerCase().split('::');
  const first = head === '' ? [] : head.split(':');
  const last = tail === undefined || tail === '' ? [] : tail.split(':');
  const missing = tail === undefined ? 0 : Math.max(0, 8 - first.length - last.length);
  const groups = [...first, ...Array.from({ length: missing }, () => '0'), ...last];
  return `${groups
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':')}::/64`;
}

export class Networks {
  readonly #list = new BlockList();

  /** Loopback and `networks` (`ADDRESS/LENGTH`). @throws DrError E_PARAMETER */
  constructor(networks: readonly string[]) {
    for (const network of ['127.0.0.0/8', '::1/128', ...networks]) this.#add(network);
  }

  has(address: string): boolean {
    const plain = plainAddress(address);
    const version = isIP(plain);
    return version !== 0 && this.#list.check(plain, version === 4 ? 'ipv4' : 'ipv6');
  }

  #add(network: string): void {
    const [address = '', length, ...rest] = network.split('/');
    const version = isIP(address);
    const bits = version === 4 ? 32 : 128;
    const prefix = length === undefined ? bits : Number(length);
    const isLegal =
      version !== 0 &&
      rest.length === 0 &&
      (length === undefined || /^\d{1,3}$/.test(length)) &&
      prefix <= bits;
    if (!isLegal) {
      throw new DrError('E_PARAMETER', `${network} is no network`, {
        hint: 'Write it like 192.0.2.0/24 or 2001:db8::/32.',
      });
    }
    this.#list.addSubnet(address, prefix, version === 4 ? 'ipv4' : 'ipv6');
  }
}
