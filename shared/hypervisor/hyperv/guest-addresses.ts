// The addresses of a guest, in the words of Hyper-V: a mask for IPv4, a prefix length for IPv6 (hyperv.md § 3.4).

import { DrError } from '../../errors.js';
import { formatAddress, parseAddress } from '../../ip-address.js';
import type { AddressSettings } from '../vm.js';
import type { GuestAdapter } from './operations/guest.js';

const IPV4 = 4096;
const IPV6 = 4097;
const BOTH = 4098;

export interface AddressWish {
  readonly isDhcp: boolean;
  readonly addresses: readonly string[];
  readonly subnets: readonly string[];
  readonly gateways: readonly string[];
  readonly dnsServers: readonly string[];
  readonly protocol: number;
}

/** @throws DrError E_REIP_INVALID */
export function wishOf(settings: AddressSettings): AddressWish {
  const split = settings.addresses.map((text) => {
    const [address = '', length = ''] = text.split('/');
    const prefix = Number(length);
    const isIpv6 = address.includes(':');
    const isLegal = /^\d{1,3}$/.test(length) && prefix <= (isIpv6 ? 128 : 32) && address !== '';
    if (!isLegal) throw new DrError('E_REIP_INVALID', `${JSON.stringify(text)} is no address`);
    return { address, isIpv6, subnet: isIpv6 ? length : maskOf(prefix) };
  });
  const hasIpv6 = split.some(({ isIpv6 }) => isIpv6);
  const hasIpv4 = split.some(({ isIpv6 }) => !isIpv6);
  return {
    isDhcp: settings.isDhcp,
    addresses: split.map(({ address }) => address),
    subnets: split.map(({ subnet }) => subnet),
    gateways: settings.gateways,
    dnsServers: settings.dnsServers,
    protocol: hasIpv6 === hasIpv4 ? BOTH : hasIpv6 ? IPV6 : IPV4,
  };
}

/** What the guest says; an address without a readable subnet is left out. */
export function settingsOf(guest: GuestAdapter): AddressSettings {
  return {
    isDhcp: guest.isDhcp,
    addresses: guest.addresses.flatMap((address, index) => {
      const prefix = prefixOf(guest.subnets[index] ?? '');
      return prefix === undefined ? [] : [`${address}/${String(prefix)}`];
    }),
    gateways: guest.gateways,
    dnsServers: guest.dnsServers,
  };
}

/** Whether the guest has every address that was asked for; it may have others, such as link-local ones. */
export function hasAddresses(guest: AddressSettings, wish: AddressSettings): boolean {
  if (wish.isDhcp) return guest.isDhcp;
  const has = new Set(guest.addresses.map(oneText));
  return wish.addresses.every((text) => has.has(oneText(text)));
}

/** An address has many texts, and Windows writes another one than people do. A zone is the guest's own number. */
function oneText(text: string): string {
  const [address = '', length = ''] = text.split('/');
  const parsed = parseAddress(address.split('%')[0] ?? '');
  return parsed === undefined ? text.toLowerCase() : `${formatAddress(parsed)}/${Number(length)}`;
}

function maskOf(prefix: number): string {
  const bits = '1'.repeat(prefix).padEnd(32, '0');
  return [0, 8, 16, 24].map((at) => String(Number.parseInt(bits.slice(at, at + 8), 2))).join('.');
}

function prefixOf(subnet: string): number | undefined {
  if (/^\d{1,3}$/.test(subnet)) return Number(subnet);
  const parts = subnet.split('.').map(Number);
  if (parts.length !== 4 || !parts.every((part) => Number.isInteger(part) && part <= 255)) {
    return undefined;
  }
  const bits = parts.map((part) => part.toString(2).padStart(8, '0')).join('');
  return /^1*0*$/.test(bits) ? bits.replaceAll('0', '').length : undefined;
}
