// `reip_rules` (failover.md § 7): which address a guest gets at the DR site. Two forms, rules separated
// by commas, the first that fits holds:
//
//   vm:address/mask/gateway                             a VM with one adapter
//   vm[#nic]:source>target/prefix/gateway[;dns=a,b…][;vlan=n]
//
// vm is a name or wildcard. nic counts from 1. source is an address, with `*` for any part of it; `*` in
// target and gateway copies the part of the guest's address; `*` alone is any IPv4 address, or one that
// the guest does not tell. target may be `dhcp`. An empty `dns` is no server at all, vlan 0 is untagged. IPv6 addresses stand bare or in brackets. A part between
// commas that begins with nothing but an address goes on with the `dns` before it: no rule looks like that.

import { DrError } from '../errors.js';
import { matchesPattern } from '../params/index.js';
import {
  formatAddress,
  formatInterface,
  type IpAddress,
  type IpInterface,
  isInNetwork,
  isSameAddress,
  parseAddress,
  parsePrefix,
  unusable,
} from '../ip-address.js';

/** An address in which parts may be open. */
export interface AddressPattern {
  readonly family: 4 | 6;
  /** Octets of IPv4 or groups of IPv6; undefined: `*`. */
  readonly parts: readonly (number | undefined)[];
}

export interface ReipRule {
  /** From 1. */
  readonly number: number;
  readonly text: string;
  readonly vmPattern: string;
  /** From 1; undefined: any, or the only one. */
  readonly nic: number | undefined;
  /** undefined: the short form, for VMs with one adapter and any address. */
  readonly source: AddressPattern | undefined;
  readonly target: 'dhcp' | { readonly address: AddressPattern; readonly prefix: number };
  readonly gateway: AddressPattern | undefined;
  /** undefined: as the guest has them. */
  readonly dnsServers: readonly string[] | undefined;
  /** 0: untagged. undefined: as the adapter has it. */
  readonly vlan: number | undefined;
}

/** @throws DrError E_REIP_INVALID that names the rule and the field */
export function parseReipRules(text: string): readonly ReipRule[] {
  const rules: string[] = [];
  for (const part of text.split(',').map((each) => each.trim())) {
    const last = rules.at(-1);
    const goesOn = last !== undefined && /;\s*dns\s*=[^;]*$/i.test(last);
    const [server = ''] = part.split(';');
    if (goesOn && parseBracketed(server) !== undefined) rules[rules.length - 1] = `${last},${part}`;
    else rules.push(part);
  }
  return rules.map((rule, index) => parseRule(rule, index + 1));
}

function parseBracketed(text: string): IpAddress | undefined {
  return parseAddress(text.trim().replace(/^\[(.*:.*)\]$/, '$1'));
}

function invalid(number: number, field: string, why: string): DrError {
  return new DrError('E_REIP_INVALID', `re-IP rule ${number}: ${field} ${why}`, {
    context: { rule: number, field },
    hint: 'Rules are vm:address/mask/gateway or vm[#nic]:source>target/prefix/gateway[;dns=…][;vlan=…].',
  });
}

function parseRule(text: string, number: number): ReipRule {
  const at = text.indexOf(':');
  if (at <= 0) throw invalid(number, 'vm', 'is missing');
  const [, vmPattern = '', nicText] = /^(.+?)(?:#(.*))?$/.exec(text.slice(0, at).trim()) ?? [];
  const [body = '', ...options] = text.slice(at + 1).split(';');
  const arrow = body.indexOf('>');
  const source =
    arrow < 0 ? undefined : parsePattern(body.slice(0, arrow).trim(), number, 'source');
  const [targetText = '', maskText, gatewayText, ...more] = body
    .slice(arrow + 1)
    .trim()
    .split('/');
  if (more.length > 0) throw invalid(number, 'target', 'has too many parts');
  const rule = { number, text, vmPattern, nic: parseNic(nicText, number), source };
  const settings = parseOptions(options, number);
  if (targetText.trim().toLowerCase() === 'dhcp') {
    if (maskText !== undefined) throw invalid(number, 'target', 'is dhcp, and has a mask');
    return { ...rule, target: 'dhcp', gateway: undefined, ...settings };
  }
  const address = parsePattern(targetText.trim(), number, 'target');
  const prefix = parsePrefix(maskText?.trim() ?? '', address.family);
  if (prefix === undefined) throw invalid(number, 'mask', `"${maskText ?? ''}" is none`);
  const gateway =
    gatewayText === undefined || gatewayText.trim() === ''
      ? undefined
      : parsePattern(gatewayText.trim(), number, 'gateway');
  if (gateway !== undefined && gateway.family !== address.family) {
    throw invalid(number, 'gateway', 'is of another family than the address');
  }
  const isOpen = [...address.parts, ...(gateway?.parts ?? [])].includes(undefined);
  if (isOpen && source === undefined) {
    throw invalid(number, 'target', 'copies a part, and the rule names no source');
  }
  if (source !== undefined && isOpen && source.family !== address.family) {
    throw invalid(number, 'target', 'copies parts of an address of the other family');
  }
  return { ...rule, target: { address, prefix }, gateway, ...settings };
}

function parseNic(text: string | undefined, number: number): number | undefined {
  if (text === undefined) return undefined;
  const nic = Number(text);
  if (/^\d{1,2}$/.test(text) && nic >= 1) return nic;
  throw invalid(number, 'nic', `"${text}" is no number from 1`);
}

function parseOptions(
  options: readonly string[],
  number: number,
): Pick<ReipRule, 'dnsServers' | 'vlan'> {
  let dnsServers: readonly string[] | undefined;
  let vlan: number | undefined;
  for (const option of options) {
    const [given = '', value = ''] = option.split('=').map((part) => part.trim());
    const name = given.toLowerCase();
    if (name === 'dns') {
      const servers = value === '' ? [] : value.split(',');
      dnsServers = servers.map((each) => {
        const address = parseBracketed(each);
        if (address === undefined) throw invalid(number, 'dns', `"${each}" is no address`);
        return formatAddress(address);
      });
    } else if (name === 'vlan') {
      vlan = Number(value);
      if (!/^\d{1,4}$/.test(value) || vlan > 4094) {
        throw invalid(number, 'vlan', `"${value}" is no number from 1 to 4094, nor 0 for none`);
      }
    } else {
      throw invalid(number, 'option', `"${name}" is neither dns nor vlan`);
    }
  }
  return { dnsServers, vlan };
}

function parsePattern(text: string, number: number, field: string): AddressPattern {
  if (text === '*') return { family: 4, parts: [undefined, undefined, undefined, undefined] };
  const octets = text.split('.');
  if (octets.length === 4 && !text.includes(':')) {
    const parts = octets.map((octet) => {
      if (octet === '*') return undefined;
      const value = Number(octet);
      if (/^\d{1,3}$/.test(octet) && value < 256) return value;
      throw invalid(number, field, `"${text}" is no address`);
    });
    return { family: 4, parts };
  }
  const address = text.includes('*') ? openIpv6(text) : wholeIpv6(text);
  if (address !== undefined) return address;
  throw invalid(number, field, `"${text}" is no address`);
}

function wholeIpv6(text: string): AddressPattern | undefined {
  const address = parseAddress(text.replace(/^\[(.*)\]$/, '$1'));
  if (address?.family !== 6) return undefined;
  return { family: 6, parts: groupsOf(address) };
}

/** Open groups are written `*`; the `::` may stand between closed ones. */
function openIpv6(text: string): AddressPattern | undefined {
  const plain = text.replace(/^\[(.*)\]$/, '$1');
  const [head = '', tail, ...more] = plain.split('::');
  const groups = (part: string): (number | undefined)[] | undefined => {
    if (part === '') return [];
    const found: (number | undefined)[] = [];
    for (const group of part.split(':')) {
      if (group === '*') found.push(undefined);
      else if (/^[0-9a-fA-F]{1,4}$/.test(group)) found.push(Number.parseInt(group, 16));
      else return undefined;
    }
    return found;
  };
  const left = groups(head);
  const right = tail === undefined ? [] : groups(tail);
  if (left === undefined || right === undefined || more.length > 0) return undefined;
  const missing = 8 - left.length - right.length;
  if (tail === undefined ? missing !== 0 : missing < 1) return undefined;
  return { family: 6, parts: [...left, ...Array<number>(missing).fill(0), ...right] };
}

function groupsOf({ family, bytes }: IpAddress): number[] {
  if (family === 4) return [...bytes];
  return Array.from(
    { length: 8 },
    (_, at) => ((bytes[2 * at] ?? 0) << 8) | (bytes[2 * at + 1] ?? 0),
  );
}

function addressFrom(family: 4 | 6, parts: readonly number[]): IpAddress {
  return { family, bytes: family === 4 ? parts : parts.flatMap((part) => [part >> 8, part & 255]) };
}

export interface ReipAsk {
  readonly vmName: string;
  /** From 1. */
  readonly nic: number;
  readonly nicCount: number;
  readonly family: 4 | 6;
  /** Of the guest at the primary site; undefined: it tells none. */
  readonly address: IpAddress | undefined;
}

export type ReipResult =
  | {
      readonly kind: 'address';
      readonly rule: ReipRule;
      readonly address: IpInterface;
      readonly gateway: IpAddress | undefined;
    }
  | { readonly kind: 'dhcp'; readonly rule: ReipRule };

/** Why a rule does not fit; undefined: it does. */
export function misfitOf(rule: ReipRule, ask: ReipAsk): string | undefined {
  if (!matchesPattern(rule.vmPattern, ask.vmName)) return `is for VMs named ${rule.vmPattern}`;
  if (rule.nic !== undefined && rule.nic !== ask.nic) return `is for adapter ${rule.nic}`;
  const { source, target } = rule;
  if (source === undefined) {
    if (ask.nicCount > 1 && rule.nic === undefined) {
      return `is for VMs with one adapter, and ${ask.vmName} has ${ask.nicCount}`;
    }
    const isOther = target !== 'dhcp' && target.address.family !== ask.family;
    return isOther ? `gives an address of IPv${target.address.family}` : undefined;
  }
  if (source.family !== ask.family) return `is for addresses of IPv${source.family}`;
  const { address } = ask;
  if (address === undefined) {
    const isAny = source.parts.every((part) => part === undefined) && !isOpen(rule);
    return isAny ? undefined : 'wants to know the address of the guest, which is not known';
  }
  const groups = groupsOf(address);
  const isMeant = source.parts.every((part, at) => part === undefined || part === groups[at]);
  return isMeant ? undefined : `is for other addresses than ${formatAddress(address)}`;
}

function isOpen({ target, gateway }: ReipRule): boolean {
  if (target === 'dhcp') return false;
  return [...target.address.parts, ...(gateway?.parts ?? [])].includes(undefined);
}

/** What a rule that fits gives. @throws DrError E_REIP_INVALID */
export function applyRule(rule: ReipRule, ask: ReipAsk): ReipResult {
  const { number, target, gateway } = rule;
  if (target === 'dhcp') return { kind: 'dhcp', rule };
  const from = ask.address === undefined ? [] : groupsOf(ask.address);
  const filled = ({ family, parts }: AddressPattern): IpAddress =>
    addressFrom(
      family,
      parts.map((part, at) => part ?? from[at] ?? 0),
    );
  const address = { address: filled(target.address), prefix: target.prefix };
  const why = unusable(address);
  if (why !== undefined) throw invalid(number, 'target', `${formatInterface(address)} ${why}`);
  if (gateway === undefined) return { kind: 'address', rule, address, gateway: undefined };
  const next = filled(gateway);
  const whyNot = unusable({ address: next, prefix: target.prefix });
  if (whyNot !== undefined) throw invalid(number, 'gateway', `${formatAddress(next)} ${whyNot}`);
  if (isSameAddress(next, address.address)) {
    throw invalid(number, 'gateway', `${formatAddress(next)} is the address of the VM itself`);
  }
  if (!isInNetwork(next, address.address, target.prefix)) {
    throw invalid(
      number,
      'gateway',
      `${formatAddress(next)} is not in the network of ${formatInterface(address)}`,
    );
  }
  return { kind: 'address', rule, address, gateway: next };
}
