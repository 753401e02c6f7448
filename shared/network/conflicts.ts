// Addresses that two would have: what rules give an adapter, against what others have or will have, and
// against the other adapters of the same VM. Pure.

import { DrError } from '../errors.js';
import type { AddressSettings } from '../hypervisor/index.js';
import { type IpAddress, isSameAddress, parseAddress } from '../ip-address.js';

export interface TakenAddress {
  /** For messages: the VM's name. */
  readonly holder: string;
  /** Without or with a prefix. */
  readonly address: string;
  /** The private switch on which it is: only who is on the same one meets it. */
  readonly privateSwitch?: string | undefined;
}

export interface AddressedAdapter {
  readonly name: string;
  readonly switchName: string | undefined;
  /** undefined: no rule gives it an address. */
  readonly guest: AddressSettings | undefined;
}

export interface ConflictRequest {
  readonly vmName: string;
  readonly adapters: readonly AddressedAdapter[];
  readonly others: readonly TakenAddress[];
  readonly isPrivate: (switchName: string) => boolean;
  /** Adapters that are not connected are never going to be: a test without a network. */
  readonly isApart: boolean;
}

/** E_REIP_CONFLICT for each address that somebody else has; the holder is named. */
export function conflictsOf(request: ConflictRequest): DrError[] {
  const conflicts: DrError[] = [];
  const own: { holder: string; address: string }[] = [];
  for (const adapter of request.adapters) {
    const { name, guest } = adapter;
    const who = `adapter ${name} of ${request.vmName}`;
    const met = request.others.filter((other) => canMeet(request, adapter, other));
    for (const address of guest?.addresses ?? []) {
      const holder = [...met, ...own].find((each) => isOneAddress(each.address, address))?.holder;
      const router = gatewayUser(request, address);
      if (holder !== undefined) {
        conflicts.push(
          conflict(name, address, holder, `${who} is to have ${address}, which ${holder} has`),
        );
      } else if (router !== undefined) {
        const why = `${who} is to have ${address}, which adapter ${router} uses as its gateway`;
        conflicts.push(conflict(name, address, router, why));
      }
    }
    own.push(...(guest?.addresses ?? []).map((address) => ({ holder: who, address })));
  }
  return conflicts;
}

function conflict(adapter: string, address: string, other: string, message: string): DrError {
  return new DrError('E_REIP_CONFLICT', message, { context: { adapter, address, other } });
}

function canMeet(
  { isPrivate, isApart }: ConflictRequest,
  { switchName }: AddressedAdapter,
  { privateSwitch }: TakenAddress,
): boolean {
  if (switchName === undefined) return !isApart && privateSwitch === undefined;
  if (privateSwitch === undefined) return !isPrivate(switchName);
  return privateSwitch.toLowerCase() === switchName.toLowerCase();
}

/** The adapter of the same VM that would send its packets to this address. */
function gatewayUser({ adapters }: ConflictRequest, address: string): string | undefined {
  return adapters.find(({ guest }) =>
    guest?.gateways.some((gateway) => isOneAddress(gateway, address)),
  )?.name;
}

/**
 * Whether two texts, with or without a prefix, are one address, however they are written. Link-local
 * addresses are each link's own, and never said to be taken.
 */
export function isOneAddress(one: string, other: string): boolean {
  const [left, right] = [one, other].map((text) => parseAddress(text.split('/')[0] ?? ''));
  if (left === undefined || right === undefined || isLinkLocal(left)) return false;
  return isSameAddress(left, right);
}

function isLinkLocal({ family, bytes: [first = 0, second = 0] }: IpAddress): boolean {
  return family === 6 && first === 0xfe && (second & 0xc0) === 0x80;
}
