// What is seen of the guest, and the addresses that it is given (hyperv.md § 3.4).

import type { Guid } from '../../../bytes/index.js';
import type { Operation } from '../powershell/operation.js';
import { CHANGE_MS, LOOK_MS, methodAnswer, type MethodAnswer } from './answers.js';

export interface GuestSigns {
  /** OperationalStatus of the heartbeat component, [0]: 2 is well. Empty: there is none. */
  readonly heartbeat: readonly number[];
  /** The same of the component that exchanges keys: addresses are applied only in contact with it. */
  readonly keyExchange: readonly number[];
}

export const getGuestSigns: Operation<{ readonly vmId: Guid }, GuestSigns> = {
  name: 'guest.signs',
  timeoutMs: LOOK_MS,
  read: (fields) => ({
    heartbeat: fields.wholes('heartbeat'),
    keyExchange: fields.wholes('keyExchange'),
  }),
};

export interface GuestAdapter {
  readonly adapterId: Guid;
  readonly isDhcp: boolean;
  readonly addresses: readonly string[];
  /** A mask for IPv4, a prefix length for IPv6; index by index. */
  readonly subnets: readonly string[];
  readonly gateways: readonly string[];
  readonly dnsServers: readonly string[];
}

export const getGuestAdapters: Operation<{ readonly vmId: Guid }, readonly GuestAdapter[]> = {
  name: 'guest.adapters',
  timeoutMs: LOOK_MS,
  read: (fields) =>
    fields.list('adapters', (item) => ({
      adapterId: item.guid('adapterId'),
      isDhcp: item.boolean('isDhcp'),
      addresses: item.strings('addresses'),
      subnets: item.strings('subnets'),
      gateways: item.strings('gateways'),
      dnsServers: item.strings('dnsServers'),
    })),
};

export interface GuestAdapterWish {
  readonly [name: string]: string | boolean | number | readonly string[];
  readonly vmId: Guid;
  readonly adapterId: Guid;
  readonly isDhcp: boolean;
  readonly addresses: readonly string[];
  readonly subnets: readonly string[];
  readonly gateways: readonly string[];
  readonly dnsServers: readonly string[];
  /** 4096 IPv4, 4097 IPv6, 4098 both. */
  readonly protocol: number;
}

export const setGuestAdapter: Operation<GuestAdapterWish, MethodAnswer> = {
  name: 'guest.setAdapter',
  timeoutMs: CHANGE_MS,
  read: methodAnswer,
};
