// IP addresses with their prefix as values: `192.0.2.10/24`, `2001:db8::10/64`. Text is taken in any
// legal form and given back in one (RFC 5952 for IPv6).

import { isIPv4, isIPv6 } from 'node:net';

export interface IpAddress {
  readonly family: 4 | 6;
  /** Four or sixteen. */
  readonly bytes: readonly number[];
}

export interface IpInterface {
  readonly address: IpAddress;
  /** Bits. */
  readonly prefix: number;
}

export function bitsOf(family: 4 | 6): number {
  return family === 4 ? 32 : 128;
}

/** undefined: it is no address. Zones (`%eth0`) are none of ours. */
export function parseAddress(text: string): IpAddress | undefined {
  if (isIPv4(text)) return { family: 4, bytes: text.split('.').map(Number) };
  if (!isIPv6(text) || text.includes('%')) return undefined;
  return { family: 6, bytes: groupsOf(text).flatMap((group) => [group >> 8, group & 255]) };
}

/** The eight groups of a legal IPv6 address. */
function groupsOf(text: string): number[] {
  const [head = '', tail] = text.split('::');
  const left = groupsIn(head);
  if (tail === undefined) return left;
  const right = groupsIn(tail);
  return [...left, ...Array<number>(8 - left.length - right.length).fill(0), ...right];
}

function groupsIn(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((part) => {
    if (!part.includes('.')) return [Number.parseInt(part, 16)];
    const [a = 0, b = 0, c = 0, d = 0] = part.split('.').map(Number);
    return [(a << 8) | b, (c << 8) | d];
  });
}

export function formatAddress({ family, bytes }: IpAddress): string {
  if (family === 4) return bytes.join('.');
  const groups = Array.from(
    { length: 8 },
    (_, index) => ((bytes[2 * index] ?? 0) << 8) | (bytes[2 * index + 1] ?? 0),
  );
  const { start, length } = longestZeros(groups);
  const text = (part: readonly number[]): string => part.map((each) => each.toString(16)).join(':');
  if (length < 2) return text(groups);
  return `${text(groups.slice(0, start))}::${text(groups.slice(start + length))}`;
}

/** The first of the longest runs of zeros. */
function longestZeros(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let length = 0;
  for (const [index, group] of groups.entries()) {
    length = group === 0 ? length + 1 : 0;
    if (length > best.length) best = { start: index - length + 1, length };
  }
  return best;
}

/** `address/prefix`; for IPv4 the prefix may be a dotted mask. undefined: it is none. */
export function parseInterface(text: string): IpInterface | undefined {
  const at = text.indexOf('/');
  if (at < 0) return undefined;
  const address = parseAddress(text.slice(0, at));
  const prefix = address && parsePrefix(text.slice(at + 1), address.family);
  return address !== undefined && prefix !== undefined ? { address, prefix } : undefined;
}

export function parsePrefix(text: string, family: 4 | 6): number | undefined {
  if (/^\d{1,3}$/.test(text)) {
    const bits = Number(text);
    return bits >= 1 && bits <= bitsOf(family) ? bits : undefined;
  }
  if (family === 6 || !isIPv4(text)) return undefined;
  const mask = text.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  const zeros = 2 ** 32 - mask;
  const hostBits = Math.log2(zeros);
  return Number.isInteger(hostBits) && hostBits < 32 ? 32 - hostBits : undefined;
}

export function formatInterface({ address, prefix }: IpInterface): string {
  return `${formatAddress(address)}/${prefix}`;
}

export function isSameAddress(one: IpAddress, other: IpAddress): boolean {
  return one.family === other.family && one.bytes.every((byte, at) => byte === other.bytes[at]);
}

/** Whether two addresses lie in one network of so many bits. */
export function isInNetwork(one: IpAddress, other: IpAddress, prefix: number): boolean {
  if (one.family !== other.family) return false;
  return one.bytes.every((byte, at) => {
    const bits = Math.max(0, Math.min(8, prefix - 8 * at));
    const mask = (0xff00 >> bits) & 0xff;
    return (byte & mask) === ((other.bytes[at] ?? 0) & mask);
  });
}

/** Why no host can have the address; undefined: one can. */
export function unusable({ address, prefix }: IpInterface): string | undefined {
  const { family, bytes } = address;
  const [first = 0] = bytes;
  if (bytes.every((byte) => byte === 0)) return 'is the address of nobody';
  if (family === 4 ? first === 127 : bytes.slice(0, 15).every((b) => b === 0) && bytes[15] === 1) {
    return 'is a loopback address';
  }
  if (family === 4 ? first >= 224 && first < 240 : first === 255) return 'is a multicast address';
  if (family === 4 && first >= 240) return 'is reserved';
  if (prefix >= bitsOf(family) - 1) return undefined;
  const isFirst = hostBits(address, prefix).every((bit) => bit === 0);
  // RFC 4291 § 2.6.1
  if (family === 6) return isFirst ? 'is the address of all routers of the network' : undefined;
  if (isFirst) return 'is the address of the network';
  if (hostBits(address, prefix).every((bit) => bit === 1)) return 'is the broadcast address';
  return undefined;
}

function hostBits({ family, bytes }: IpAddress, prefix: number): number[] {
  const bits: number[] = [];
  for (let bit = prefix; bit < bitsOf(family); bit++) {
    bits.push(((bytes[bit >> 3] ?? 0) >> (7 - (bit & 7))) & 1);
  }
  return bits;
}
