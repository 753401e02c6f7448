// The examples of docs/failover/network.md do what the page says.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { Guid } from '../../../shared/bytes/index.js';
import type { AddressSettings, VmAdapter } from '../../../shared/hypervisor/index.js';
import {
  type NetworkPlan,
  type NetworkRequest,
  planNetwork,
  rulesBack,
} from '../../../shared/network/index.js';
import { checkoutFolder } from '../../support/checkout.js';

const PAGE = readFileSync(join(checkoutFolder, 'docs/failover/network.md'), 'utf8');

/** The rows of the table that follows a mark, without the marks of code. */
function rowsAfter(mark: string): string[][] {
  const [, rest = ''] = PAGE.split(`<!-- ${mark}:`);
  const [table = ''] = rest.slice(rest.indexOf('| --- |')).split('\n\n');
  return table
    .split('\n')
    .slice(1)
    .filter((line) => line.startsWith('|'))
    .map((line) => [...line.matchAll(/`([^`]*)`/g)].map(([, cell = '']) => cell));
}

function guestWith(text: string): AddressSettings {
  if (text === 'DHCP') return { isDhcp: true, addresses: [], gateways: [], dnsServers: [] };
  return {
    ...{ isDhcp: false, addresses: [text], dnsServers: ['10.1.0.2'] },
    gateways: text.includes(':') ? [] : ['10.1.0.1'],
  };
}

function adapterOn(switchName: string, guest: AddressSettings): VmAdapter {
  return {
    id: '00000000-0000-4000-8000-000000000001' as Guid,
    ...{ name: 'nic', mac: '00155D000001', isMacStatic: false, switchName, vlan: undefined, guest },
  };
}

function plan(adapter: VmAdapter, parameters: Partial<NetworkRequest['parameters']>): NetworkPlan {
  return planNetwork({
    ...{ vmName: 'web1', adapters: [adapter], kind: 'failover' },
    switches: ['LAN', 'DR', 'DR2'].map((name) => ({ name, isPrivate: false })),
    others: [{ holder: 'db1', address: '10.9.0.7' }],
    parameters: {
      ...{ network_map: '*=DR', unmapped: 'refuse', reip_rules: undefined },
      ...{ test_network: undefined, mac_policy: undefined, ...parameters },
    },
  });
}

/** As the page writes it. */
function guestText(made: NetworkPlan): string {
  if (made.kind === 'refused') return made.refusals.map(({ code }) => code).join(' ');
  const [{ guest, vlan } = { guest: undefined, vlan: undefined }] = made.adapters;
  if (guest === undefined) return 'as it was';
  if (guest.isDhcp) return 'DHCP';
  return [
    ...guest.addresses,
    ...guest.gateways.map((gateway) => `gateway ${gateway}`),
    ...(guest.dnsServers.length === 0 ? [] : ['DNS', ...guest.dnsServers]),
    ...(vlan === undefined ? [] : [`VLAN ${vlan}`]),
  ].join(' ');
}

describe('the page about networks', () => {
  for (const [map = '', unmapped = '', from = '', expected] of rowsAfter('maps')) {
    it(`map ${map}, unmapped=${unmapped}: from ${from} to ${String(expected)}`, () => {
      const made = plan(adapterOn(from, guestWith('DHCP')), {
        network_map: map,
        unmapped: unmapped as 'refuse',
      });
      const told =
        made.kind === 'refused'
          ? made.refusals.map(({ code }) => code).join(' ')
          : (made.adapters[0]?.switchName ?? 'none');
      expect(told).to.equal(expected);
    });
  }

  for (const [rules = '', has = '', expected] of rowsAfter('rules')) {
    it(`rules ${rules}: ${has} becomes ${String(expected)}`, () => {
      const made = plan(adapterOn('LAN', guestWith(has)), { reip_rules: rules });
      expect(guestText(made)).to.equal(expected);
    });
  }

  for (const [rules = '', had = '', expected] of rowsAfter('back')) {
    it(`the way home after ${rules}: ${String(expected)}`, () => {
      const original = [adapterOn('LAN', guestWith(had))];
      const moved = original.flatMap((each) => plan(each, { reip_rules: rules }).adapters);
      expect(rulesBack({ vmName: 'web1', original, moved }, undefined)).to.equal(expected);
    });
  }

  it('has examples of each', () => {
    const counts = ['maps', 'rules', 'back'].map((mark) => rowsAfter(mark).length);
    expect(counts).to.deep.equal([8, 10, 3]);
  });
});
