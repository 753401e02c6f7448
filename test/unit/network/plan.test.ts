// The network of a VM at another site, by table: what each rule of the parameters does.

import { expect } from 'chai';
import type { Guid } from '../../../shared/bytes/index.js';
import type { VmAdapter } from '../../../shared/hypervisor/index.js';
import { ipMapOf, type NetworkRequest, planNetwork } from '../../../shared/network/index.js';

const ID = '00000000-0000-4000-8000-000000000001' as Guid;

function adapter(changes: Partial<VmAdapter> = {}): VmAdapter {
  return {
    id: ID,
    name: 'nic',
    mac: '00155D000001',
    isMacStatic: false,
    switchName: 'LAN',
    vlan: 7,
    guest: {
      isDhcp: false,
      addresses: ['10.1.0.5/24'],
      gateways: ['10.1.0.1'],
      dnsServers: ['10.1.0.2'],
    },
    ...changes,
  };
}

function addressed(...addresses: string[]): VmAdapter {
  return adapter({ guest: { isDhcp: false, addresses, gateways: [], dnsServers: [] } });
}

interface Case extends Partial<Omit<NetworkRequest, 'parameters'>> {
  readonly map?: string;
  readonly rules?: string;
  readonly more?: Partial<NetworkRequest['parameters']>;
}

function plan({ map, rules, more, ...request }: Case): ReturnType<typeof planNetwork> {
  return planNetwork({
    vmName: 'web1',
    adapters: [adapter()],
    switches: [
      { name: 'DR', isPrivate: false },
      { name: 'LAN', isPrivate: false },
      { name: 'bubble', isPrivate: true },
    ],
    kind: 'failover',
    others: [],
    ...request,
    parameters: {
      network_map: map ?? '*=DR',
      unmapped: 'refuse',
      test_network: undefined,
      mac_policy: undefined,
      reip_rules: rules,
      ...more,
    },
  });
}

/** `switch`, or `switch vlan`, of each adapter; or the codes of the refusals. */
function connections(asked: Case): string[] {
  const result = plan(asked);
  if (result.kind === 'refused') return result.refusals.map(({ code }) => code);
  return result.adapters.map(({ switchName, vlan }) => `${switchName ?? 'none'} ${vlan ?? 'none'}`);
}

/** What the guests get; or the refusals. */
function guests(asked: Case): string[] {
  const result = plan(asked);
  if (result.kind === 'refused') {
    return result.refusals.map(({ code, message }) => `${code} ${message}`);
  }
  return result.adapters.map(({ guest }) => {
    if (guest === undefined) return 'unchanged';
    const { isDhcp, addresses, gateways, dnsServers } = guest;
    return [isDhcp ? 'dhcp' : addresses.join('+'), gateways.join('+'), dnsServers.join('+')].join(
      ' ',
    );
  });
}

describe('the network of a VM at another site', () => {
  const CONNECTIONS: readonly [rule: string, asked: Case, expected: string[]][] = [
    ['a pair maps a switch whatever the case', { map: ' lan = dr ' }, ['DR 7']],
    ['names may be quoted', { map: '"LAN"="DR"' }, ['DR 7']],
    ['a pair goes before the default', { map: '*=bubble,LAN=DR' }, ['DR 7']],
    ['the default maps the rest', { map: 'x=bubble,*=DR' }, ['DR 7']],
    ['an empty target disconnects', { map: 'LAN=' }, ['none none']],
    ['a source stands once', { map: 'LAN=DR,lan=bubble' }, ['E_PARAMETER', 'E_NET_UNMAPPED']],
    ['an unmapped switch is refused', { map: 'x=DR' }, ['E_NET_UNMAPPED']],
    [
      'unmapped=disconnect disconnects',
      { map: 'x=DR', more: { unmapped: 'disconnect' } },
      ['none none'],
    ],
    [
      'unmapped=same-name keeps the name',
      { map: 'x=DR', more: { unmapped: 'same-name' } },
      ['LAN 7'],
    ],
    ['a target must be there', { map: 'LAN=gone' }, ['E_NET_UNMAPPED']],
    [
      'all refusals are told',
      { map: 'LAN=gone', adapters: [adapter(), adapter({ switchName: 'x' })] },
      ['E_NET_UNMAPPED', 'E_NET_UNMAPPED'],
    ],
    ['a rule sets the VLAN', { rules: 'web*:*>10.2.0.*/24/10.2.0.1;vlan=9' }, ['DR 9']],
    ['VLAN 0 of a rule is none', { rules: 'web*:*>10.2.0.*/24;vlan=0' }, ['DR none']],
    ['a test without a switch has no network', { kind: 'test' }, ['none none']],
    [
      'a test runs on a private switch',
      { kind: 'test', more: { test_network: 'Bubble' } },
      ['bubble 7'],
    ],
    [
      'a test takes no public switch',
      { kind: 'test', more: { test_network: 'LAN' } },
      ['E_NOT_ISOLATED'],
    ],
    [
      'a test takes no mapped switch',
      { kind: 'test', map: 'LAN=bubble', more: { test_network: 'bubble' } },
      ['E_NOT_ISOLATED'],
    ],
    ['a failback goes to the own switch', { kind: 'failback', map: 'LAN=DR' }, ['LAN 7']],
  ];
  for (const [rule, asked, expected] of CONNECTIONS) {
    it(rule, () => {
      expect(connections(asked)).to.deep.equal(expected);
    });
  }

  it('names the switches that are there', () => {
    const result = plan({ map: '*=gone' });
    expect(result.kind === 'refused' && result.refusals[0]?.hint).to.include('DR, LAN, bubble');
  });

  it('keeps the MAC of a failover and gives a test a new one', () => {
    const macs = (asked: Case): unknown => {
      const result = plan(asked);
      return result.kind === 'planned' && result.adapters.map(({ mac }) => mac);
    };
    expect(macs({})).to.deep.equal(['00155D000001']);
    expect(macs({ kind: 'test' })).to.deep.equal([undefined]);
    expect(macs({ more: { mac_policy: 'new' } })).to.deep.equal([undefined]);
    expect(macs({ kind: 'test', more: { mac_policy: 'keep' } })).to.deep.equal(['00155D000001']);
  });

  const ADDRESSES: readonly [rule: string, asked: Case, expected: string[]][] = [
    ['without rules nothing changes', {}, ['unchanged']],
    ['the short form', { rules: 'web1:10.2.0.9/24/10.2.0.1' }, ['10.2.0.9/24 10.2.0.1 10.1.0.2']],
    [
      'a dotted mask',
      { rules: 'web1:10.2.0.9/255.255.255.0/10.2.0.1' },
      ['10.2.0.9/24 10.2.0.1 10.1.0.2'],
    ],
    [
      'stars copy the part of the host',
      { rules: 'web*:10.1.0.*>10.2.0.*/24/10.2.0.1' },
      ['10.2.0.5/24 10.2.0.1 10.1.0.2'],
    ],
    [
      'DNS servers, more than one',
      { rules: 'web1:10.2.0.9/24/10.2.0.1;dns=10.2.0.2,2001:db8::2,x:10.3.0.9/24/10.3.0.1' },
      ['10.2.0.9/24 10.2.0.1 10.2.0.2+2001:db8::2'],
    ],
    [
      'the first that fits holds',
      { rules: 'x:10.9.0.1/24,web?:10.2.0.8/24,web1:10.2.0.9/24' },
      ['10.2.0.8/24  10.1.0.2'],
    ],
    ['DHCP', { rules: 'web1:*>dhcp' }, ['dhcp  ']],
    [
      'IPv6, bare and in brackets, formatted as RFC 5952 says',
      {
        adapters: [addressed('2001:db8:1::5/64')],
        rules: 'web1:2001:db8:1::*>[2001:DB8:2:0::*]/64/2001:db8:2::1',
      },
      ['2001:db8:2::5/64 2001:db8:2::1 '],
    ],
    [
      'several addresses of an adapter, each by its rule; the rest stays',
      {
        adapters: [addressed('10.1.0.5/24', '10.1.1.5/24', '192.0.2.1/24')],
        rules: 'web1:10.1.0.*>10.2.0.*/24/,web1:10.1.1.*>10.2.1.*/24/10.2.1.1',
      },
      ['10.2.0.5/24+10.2.1.5/24+192.0.2.1/24 10.2.1.1 '],
    ],
    [
      'several adapters, by number',
      {
        adapters: [adapter(), adapter({ name: 'second' })],
        rules: 'web1#2:*>10.3.0.*/24/10.3.0.1',
      },
      ['unchanged', '10.3.0.5/24 10.3.0.1 10.1.0.2'],
    ],
    [
      'the short form is for VMs with one adapter',
      { adapters: [adapter(), adapter()], rules: 'web1:10.2.0.9/24/10.2.0.1' },
      ['unchanged', 'unchanged'],
    ],
    ['a failback leaves the addresses', { kind: 'failback', rules: 'web1:*>dhcp' }, ['unchanged']],
    [
      'two VMs on one address are both named',
      {
        rules: 'web1:10.2.0.9/24/10.2.0.1',
        others: [{ holder: 'db1', address: '10.2.0.9/16' }],
      },
      ['E_REIP_CONFLICT adapter nic of web1 is to have 10.2.0.9/24, which db1 has'],
    ],
    [
      'two adapters on one address',
      {
        adapters: [adapter({ name: 'a' }), adapter({ name: 'b' })],
        rules: 'web1:*>10.2.0.9/24/',
      },
      ['E_REIP_CONFLICT adapter b of web1 is to have 10.2.0.9/24, which adapter a of web1 has'],
    ],
    [
      'one IPv6 address in two forms is one',
      {
        adapters: [addressed('2001:db8::5/64')],
        rules: 'web1:*:*:*:*:*:*:*:*>2001:db8:2::9/64',
        others: [{ holder: 'db1', address: '2001:DB8:2:0:0:0:0.0.0.9' }],
      },
      ['E_REIP_CONFLICT adapter nic of web1 is to have 2001:db8:2::9/64, which db1 has'],
    ],
    [
      'who is on a private switch is met by nobody else',
      {
        rules: 'web1:10.2.0.9/24',
        others: [{ holder: 'web1-test', address: '10.2.0.9', privateSwitch: 'bubble' }],
      },
      ['10.2.0.9/24  10.1.0.2'],
    ],
    [
      'two tests on one private switch meet',
      {
        kind: 'test',
        more: { test_network: 'bubble' },
        rules: 'web1:10.2.0.9/24',
        others: [
          { holder: 'db1', address: '10.2.0.9' },
          { holder: 'db1-test', address: '10.2.0.9', privateSwitch: 'Bubble' },
        ],
      },
      ['E_REIP_CONFLICT adapter nic of web1 is to have 10.2.0.9/24, which db1-test has'],
    ],
    [
      'a link-local address is the own one of each link',
      {
        adapters: [addressed('fe80::1/64', '10.1.0.5/24')],
        rules: 'web1:10.1.0.5>10.2.0.9/24',
        others: [{ holder: 'db1', address: 'fe80::1' }],
      },
      ['10.2.0.9/24+fe80::1/64  '],
    ],
    [
      'the gateway of another adapter is no address of the VM',
      {
        adapters: [adapter({ name: 'a' }), adapter({ name: 'b' })],
        rules: 'web1#1:10.2.0.9/24/10.2.0.1,web1#2:10.2.0.1/24',
      },
      [
        'E_REIP_CONFLICT adapter b of web1 is to have 10.2.0.1/24, which adapter a uses as its gateway',
      ],
    ],
    ['no DNS server, when the rule says so', { rules: 'web1:10.2.0.9/24;dns=' }, ['10.2.0.9/24  ']],
  ];
  for (const [rule, asked, expected] of ADDRESSES) {
    it(`re-IP: ${rule}`, () => {
      expect(guests(asked)).to.deep.equal(expected);
    });
  }

  const INVALID: readonly [rules: string, told: string][] = [
    ['web1:10.2.0.0/24', 're-IP rule 1: target 10.2.0.0/24 is the address of the network'],
    ['web1:10.2.0.255/24', 're-IP rule 1: target 10.2.0.255/24 is the broadcast address'],
    ['web1:224.0.0.5/24', 're-IP rule 1: target 224.0.0.5/24 is a multicast address'],
    ['web1:127.0.0.5/24', 're-IP rule 1: target 127.0.0.5/24 is a loopback address'],
    ['web1:::1/64', 're-IP rule 1: target ::1/64 is a loopback address'],
    ['web1:2001:db8::/64', 're-IP rule 1: target 2001:db8::/64 is the address of all routers'],
    ['web1:10.2.0.9/24/10.3.0.1', 're-IP rule 1: gateway 10.3.0.1 is not in the network of'],
    ['web1:10.2.0.9/24/10.2.0.9', 're-IP rule 1: gateway 10.2.0.9 is the address of the VM itself'],
    ['web1:10.2.0.9/24/10.2.0.255', 're-IP rule 1: gateway 10.2.0.255 is the broadcast address'],
    ['x:10.9.0.9/24,web1:10.2.0.9/33', 're-IP rule 2: mask "33" is none'],
    ['web1:10.2.0.9/255.0.255.0', 're-IP rule 1: mask "255.0.255.0" is none'],
    ['web1:10.2.0.300/24', 're-IP rule 1: target "10.2.0.300" is no address'],
    ['web1:10.2.0.*/24', 're-IP rule 1: target copies a part'],
    ['web1#0:10.2.0.9/24', 're-IP rule 1: nic "0" is no number from 1'],
    ['web1:10.2.0.9/24;dns=x', 're-IP rule 1: dns "x" is no address'],
    ['web1:10.2.0.9/24;vlan=4095', 're-IP rule 1: vlan "4095" is no number'],
    ['web1:10.2.0.9/24;mtu=9', 're-IP rule 1: option "mtu" is neither dns nor vlan'],
    ['web1:10.2.0.9/24/2001:db8::1', 're-IP rule 1: gateway is of another family'],
    ['10.2.0.9/24', 're-IP rule 1: vm is missing'],
  ];
  for (const [rules, told] of INVALID) {
    it(`re-IP refuses ${rules}`, () => {
      expect(guests({ rules })[0]).to.include(`E_REIP_INVALID ${told}`);
    });
  }

  it('names the adapter of a rule that gives what no host can have, and still plans the others', () => {
    const adapters = [adapter({ name: 'a' }), adapter({ name: 'b' })];
    const result = plan({ adapters, rules: 'web1#2:10.2.0.255/24,web1#1:10.2.0.9/24' });
    if (result.kind === 'planned') throw new Error('it was not refused');
    const context = { rule: 1, field: 'target', adapter: 'b' };
    expect(result.refusals.map((each) => each.context)).to.deep.equal([context]);
    expect(result.adapters[0]?.guest?.addresses).to.deep.equal(['10.2.0.9/24']);
  });

  it('tells which addresses lead to which, whatever their order, and what nobody uses', () => {
    const adapters = [addressed('192.0.2.1/24', '10.1.0.5/24')];
    const result = plan({
      adapters,
      map: 'x=DR,*=DR',
      rules: 'web1:10.1.0.*>10.2.0.*/24,db1:*>dhcp',
    });
    expect(ipMapOf(result.adapters)).to.deep.equal({
      '192.0.2.1': '192.0.2.1',
      '10.1.0.5': '10.2.0.5',
    });
    expect(result.notes).to.deep.equal([
      'network_map x=DR concerns no adapter of the VM',
      're-IP rule 2 (db1:*>dhcp) concerns no adapter of the VM',
    ]);
  });

  it('tells which rule fits, and why others do not', () => {
    const result = plan({ rules: 'db*:10.9.0.1/24,web1:10.2.0.9/24' });
    expect(result.kind === 'planned' && result.adapters[0]?.because).to.deep.equal([
      'network_map *=DR',
      '10.1.0.5: rule 1 is for VMs named db*',
      '10.1.0.5: rule 2 (web1:10.2.0.9/24) fits: 10.2.0.9/24',
      'no IPv6 address: rule 1 is for VMs named db*',
      'no IPv6 address: rule 2 gives an address of IPv4',
    ]);
  });
});
