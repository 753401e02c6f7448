// The way home: what a move made of the adapters of a VM, turned round, is what they were.

import { expect } from 'chai';
import type { Guid } from '../../../shared/bytes/index.js';
import { DrError } from '../../../shared/errors.js';
import type { AddressSettings, VmAdapter } from '../../../shared/hypervisor/index.js';
import {
  mapBack,
  planNetwork,
  type PlannedAdapter,
  rulesBack,
} from '../../../shared/network/index.js';

const ID = '00000000-0000-4000-8000-000000000001' as Guid;
const DHCP: AddressSettings = { isDhcp: true, addresses: [], gateways: [], dnsServers: [] };

function nic(switchName: string | undefined, guest: Partial<AddressSettings>): VmAdapter {
  const settings = { ...DHCP, isDhcp: false, ...guest };
  return {
    ...{ id: ID, name: switchName ?? 'loose', mac: '00155D000001', isMacStatic: false },
    ...{ switchName, vlan: undefined, guest: settings },
  };
}

const LAN = nic('LAN', {
  addresses: ['10.1.0.5/24'],
  gateways: ['10.1.0.1'],
  dnsServers: ['10.1.0.2'],
});

interface Move {
  readonly vmName?: string;
  readonly adapters: readonly VmAdapter[];
  readonly map?: string;
  readonly rules?: string;
}

function planned({
  vmName = 'web1',
  adapters,
  map = '*=DR',
  rules,
}: Move): readonly PlannedAdapter[] {
  const names = ['LAN', 'SAN', 'DR', 'DR2'];
  const plan = planNetwork({
    ...{ vmName, adapters, kind: 'failover', others: [] },
    switches: names.map((name) => ({ name, isPrivate: false })),
    parameters: {
      ...{ network_map: map, unmapped: 'disconnect', reip_rules: rules },
      ...{ test_network: undefined, mac_policy: undefined },
    },
  });
  if (plan.kind === 'refused') throw plan.refusals[0] ?? new Error('refused without a reason');
  return plan.adapters;
}

/** Map and rules of the way back, or the code and the message of the refusal. */
function back(move: Move): { map: string; rules: string } {
  const { vmName = 'web1', adapters } = move;
  const request = { vmName, original: adapters, moved: planned(move) };
  const told = (ask: () => string | undefined): string => {
    try {
      return ask() ?? 'none';
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      return `${error.code}: ${error.message}`;
    }
  };
  return {
    map: told(() => mapBack(request, undefined)),
    rules: told(() => rulesBack(request, undefined)),
  };
}

/** Addresses and gateways count, their order and how they are written do not. */
function spelled(guest: AddressSettings | undefined): unknown {
  const sorted = (texts: readonly string[] = []): string[] =>
    texts.map((text) => text.toLowerCase()).toSorted();
  const { addresses, gateways } = guest ?? DHCP;
  return { ...guest, addresses: sorted(addresses), gateways: sorted(gateways) };
}

describe('the way back of a network', () => {
  const MAPS: readonly [rule: string, move: Move, expected: string][] = [
    ['a pair is turned round', { adapters: [LAN], map: 'LAN=DR' }, 'DR=LAN'],
    ['a default leads back to what it stood for', { adapters: [LAN], map: '*=DR' }, 'DR=LAN'],
    ['two adapters of one switch go back to it', { adapters: [LAN, LAN] }, 'DR=LAN'],
    [
      'two switches on one have no way back',
      { adapters: [LAN, nic('SAN', {})] },
      'E_NET_UNMAPPED: adapter SAN of web1 came from SAN to DR, where another one came from LAN',
    ],
    [
      'what was disconnected has no way back',
      { adapters: [LAN], map: 'LAN=' },
      'E_NET_UNMAPPED: adapter LAN of web1 was on LAN, and is not connected now',
    ],
    ['what never was connected needs none', { adapters: [LAN, nic(undefined, {})] }, 'DR=LAN'],
  ];
  for (const [rule, move, expected] of MAPS) {
    it(`map: ${rule}`, () => {
      expect(back(move).map).to.equal(expected);
    });
  }

  const RULES: readonly [rule: string, move: Move, expected: string][] = [
    ['without rules nothing is to be done', { adapters: [LAN] }, 'none'],
    [
      'address, prefix and gateway come back',
      { adapters: [LAN], rules: 'web1:10.1.0.*>10.2.0.*/16/10.2.0.1' },
      'web1#1:10.2.0.5>10.1.0.5/24/10.1.0.1',
    ],
    [
      'DNS servers and VLAN come back',
      {
        adapters: [{ ...LAN, vlan: 7 }],
        rules: 'web1:10.2.0.9/24/10.2.0.1;dns=10.2.0.2,10.2.0.3;vlan=9',
      },
      'web1#1:10.2.0.9>10.1.0.5/24/10.1.0.1;dns=10.1.0.2;vlan=7',
    ],
    [
      'no DNS server and no VLAN come back as well',
      {
        adapters: [nic('LAN', { addresses: ['10.1.0.5/24'] })],
        rules: 'web1:10.2.0.9/24;dns=10.2.0.2;vlan=9',
      },
      'web1#1:10.2.0.9>10.1.0.5/24;dns=;vlan=0',
    ],
    [
      'IPv6, and the family that has not changed',
      {
        adapters: [
          nic('LAN', {
            addresses: ['10.1.0.5/24', '2001:DB8:1::5/64'],
            gateways: ['10.1.0.1', '2001:db8:1::1'],
          }),
        ],
        rules: 'web1:2001:db8:1::*>2001:db8:2::*/64/2001:db8:2::1',
      },
      'web1#1:2001:db8:2::5>2001:db8:1::5/64/2001:db8:1::1',
    ],
    [
      'DHCP comes back',
      { adapters: [nic('LAN', { isDhcp: true })], rules: 'web1:10.2.0.9/24/10.2.0.1' },
      'web1#1:10.2.0.9>dhcp',
    ],
    [
      'the only address of a family comes back from DHCP',
      { adapters: [LAN], rules: 'web1:*>dhcp' },
      'web1#1:*>10.1.0.5/24/10.1.0.1;dns=10.1.0.2',
    ],
    [
      'two addresses do not come back from DHCP',
      {
        adapters: [nic('LAN', { addresses: ['10.1.0.5/24', '10.1.0.6/24'] })],
        rules: 'web1:*>dhcp',
      },
      'E_REIP_INVALID: adapter LAN of web1 has its address by DHCP, which stands for 10.1.0.5/24 and 10.1.0.6/24',
    ],
    [
      'two addresses that became one do not come back',
      {
        adapters: [nic('LAN', { addresses: ['10.1.0.5/24', '10.1.0.6/24'] })],
        rules: 'web1:*>10.2.0.9/24',
      },
      'E_REIP_INVALID: adapter LAN of web1 has 10.2.0.9/24, which stands for 10.1.0.5/24 and for 10.1.0.6/24',
    ],
    [
      'an address that nobody knew does not come back',
      { adapters: [nic('LAN', {})], rules: 'web1:10.2.0.9/24' },
      'E_REIP_INVALID: adapter LAN of web1 told no address at the primary that it could get back',
    ],
    [
      'a gateway outside of its network is told, not dropped',
      {
        adapters: [nic('LAN', { addresses: ['10.1.0.5/24'], gateways: ['192.0.2.1'] })],
        rules: 'web1:10.2.0.9/24',
      },
      'E_REIP_INVALID: adapter LAN of web1 has settings that no rules lead back to',
    ],
    [
      'each of several adapters by its number',
      {
        adapters: [LAN, nic('SAN', { addresses: ['10.3.0.5/24'] })],
        map: 'LAN=DR,SAN=DR2',
        rules: 'w*#2:*>10.4.0.*/24',
      },
      'web1#2:10.4.0.5>10.3.0.5/24',
    ],
    [
      'a name that means something in a rule',
      { vmName: 'a:b#c', adapters: [LAN], rules: 'a?b?c:10.2.0.9/24' },
      'a?b?c#1:10.2.0.9>10.1.0.5/24/10.1.0.1',
    ],
  ];
  for (const [rule, move, expected] of RULES) {
    it(`re-IP: ${rule}`, () => {
      const { rules } = back(move);
      expect(rules).to.equal(expected);
    });
  }

  it('there and back again is where it was', () => {
    for (const [, move] of RULES) {
      const there = planned(move);
      const { map, rules } = back(move);
      if (map.startsWith('E_') || rules.startsWith('E_')) continue;
      const adapters = move.adapters.map((adapter, index) => ({
        ...adapter,
        switchName: there[index]?.switchName,
        vlan: there[index]?.vlan,
        guest: there[index]?.guest ?? adapter.guest,
      }));
      const home = planned({ ...move, adapters, map, ...(rules === 'none' ? {} : { rules }) });
      for (const [index, was] of move.adapters.entries()) {
        expect(home[index]?.switchName).to.equal(was.switchName);
        expect(home[index]?.vlan).to.equal(was.vlan);
        const guest = home[index]?.guest ?? adapters[index]?.guest;
        expect(spelled(guest)).to.deep.equal(spelled(was.guest));
      }
    }
  });

  it('what is given for the way back goes before what is derived, and is read first', () => {
    const adapters = [LAN, nic('SAN', {})];
    const request = { vmName: 'web1', original: adapters, moved: planned({ adapters }) };
    expect(mapBack(request, ' DR = LAN ')).to.equal('DR=LAN');
    expect(rulesBack(request, 'web1:*>dhcp')).to.equal('web1:*>dhcp');
    expect(() => mapBack(request, 'DR')).to.throw('network_map: pair 1');
    expect(() => rulesBack(request, 'web1:10.1.0.9/99')).to.throw('re-IP rule 1: mask');
  });
});
