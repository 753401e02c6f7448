// A VM with three adapters goes to a site with other networks: switches by the map, addresses by the rules,
// each refusal by its name; what is explained is what comes, and the way home restores what was.

import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { Site } from '../support/site.js';
import { WorkFolder } from '../support/work-folder.js';

interface ShownAdapter {
  readonly mac: string;
  readonly switchName?: string;
  readonly vlan?: number;
  readonly guest: {
    readonly isDhcp: boolean;
    readonly addresses: readonly string[];
    readonly gateways: readonly string[];
    readonly dnsServers: readonly string[];
  };
}

interface Explained {
  readonly adapters: readonly {
    readonly nic: number;
    readonly after: { readonly switch: string | null; readonly addresses: readonly string[] };
    readonly because: readonly string[];
  }[];
  readonly refusals: readonly Readonly<Record<string, string>>[];
  readonly networkMap?: string;
  readonly reipRules?: string;
}

const MAP = 'LAN=dr-lan, v6="DR-V6", san=';
const RULES =
  'SQL*#1:10.1.0.*>10.9.0.*/24/10.9.0.1;dns=10.9.0.2,10.9.0.3;vlan=30,' +
  'SQL01#2:2001:db8:1::*>[2001:DB8:9:0::*]/64/2001:db8:9::1';
const SCRIPT = '#!/bin/sh\ncat > "$(dirname "$0")/context.json"\n';

describe('network map and re-IP', function () {
  this.timeout(240_000);
  const work = new WorkFolder('network');
  const site = new Site(work.path);
  site.drHost = 'lab:dr';
  let home: readonly ShownAdapter[] = [];

  before(async () => {
    await site.prepare();
    await site.hvdr(
      ...['psk', 'generate', '--out', 'keys/viewer.psk', '--principal', 'watch'],
      ...['--role', 'viewer'],
    );
    await site.hvdr('lab', 'init', 'dr');
    await site.hvdr('lab', 'switch', 'dr', 'add', 'DR-LAN');
    await site.hvdr('lab', 'switch', 'dr', 'add', 'DR-V6');
    await site.hvdr('lab', 'switch', 'dr', 'add', 'bubble', '--private');
    await site.hvdr(
      ...['lab', 'create-vm', 'lab', 'SQL01', '--disk', '3M', '--switch', 'lan,v6,san'],
      ...['--ip', '10.1.0.5/24,10.1.0.1', '2001:db8:1::5/64,2001:db8:1::1'],
    );
    await site.hvdr('lab', 'create-vm', 'lab', 'SQL02', '--disk', '1M', '--switch', 'lan');
    mkdirSync(join(work.path, 'scripts'));
    const script = join(work.path, 'scripts', 'tell.sh');
    writeFileSync(script, SCRIPT);
    chmodSync(script, 0o755);
    await site.startReceiver('--script-dir', 'scripts');
    await site.push('SQL01');
    await site.push('SQL02');
    home = await adaptersOf('lab', 'SQL01');
  });

  after(async () => {
    await site.stopReceiver();
  });

  const access = (key: string): string[] => [
    ...['--dr-host', '127.0.0.1', '--dr-port', String(site.port), '--psk-file', `keys/${key}.psk`],
  ];
  const atPrimary = ['--host', 'lab:lab', '--state-dir', 'state'];
  const adaptersOf = async (lab: string, vm: string): Promise<readonly ShownAdapter[]> => {
    const shown = await site.hvdr('lab', 'show', lab, vm, '--json');
    return (JSON.parse(shown.stdout.toString()) as { adapters: ShownAdapter[] }).adapters;
  };
  const failover = (...args: string[]): ReturnType<Site['hvdr']> =>
    site.hvdr('failover', ...args, ...access('operator'));
  /** Exit code and what was told of a command that is refused. */
  const refused = async (...args: string[]): Promise<string> => {
    const run = await site.try('failover', ...args, ...access('operator'));
    return `${run.code} ${run.stderr}`;
  };
  const explain = async (
    ...args: string[]
  ): Promise<{ readonly code: number | null; readonly told: Explained }> => {
    const run = await site.try(...args, ...access('viewer'), '--json');
    return { code: run.code, told: JSON.parse(run.stdout.toString()) as Explained };
  };

  it('explains switch and address of each adapter, by which rule and why not by others', async () => {
    const { code, told } = await explain(
      ...['network', 'explain', 'SQL01', '--network-map', MAP, '--reip-rules', RULES],
    );
    expect(code).to.equal(0);
    expect(told.adapters.map(({ after }) => after.switch)).to.deep.equal([
      ...['DR-LAN', 'DR-V6', null],
    ]);
    expect(told.adapters[1]?.because).to.include.members([
      'network_map v6=DR-V6',
      '2001:db8:1::5: rule 1 is for adapter 1',
    ]);
    expect(told.adapters[1]?.after.addresses).to.deep.equal(['2001:db8:9::5/64']);
    const text = await site.hvdr(
      ...['reip', 'explain', 'SQL01', '--reip-rules', RULES, ...access('viewer')],
    );
    expect(text.stdout.toString())
      .to.include('10.1.0.5/24, gateway 10.1.0.1 → 10.9.0.5/24, gateway 10.9.0.1, DNS 10.9.0.2')
      .and.include('adapter 3 (Network Adapter 3): DHCP → as the guest has it');
  });

  it('explains a test, and the way back', async () => {
    const test = ['network', 'explain', 'SQL01', '--purpose', 'test', '--test-network'];
    expect((await explain(...test, 'Bubble')).told.adapters[0]?.after.switch).to.equal('bubble');
    const open = await explain(...test, 'DR-LAN');
    expect(open.code).to.equal(30);
    expect(open.told.refusals[0]).to.include({ code: 'E_NOT_ISOLATED', switch: 'DR-LAN' });

    const back = ['reip', 'explain', 'SQL01', '--purpose', 'reprotect', '--reip-rules', RULES];
    const given = ['--network-map', 'lan=DR-LAN,v6=DR-V6,san=DR-LAN'];
    const ambiguous = await explain(...back, ...given);
    expect(ambiguous.code).to.equal(30);
    expect(ambiguous.told.refusals[0]?.['message']).to.include('came from san to DR-LAN');
    const { told, code } = await explain(
      ...['reip', 'explain', 'SQL01', '--purpose', 'reprotect', '--reip-rules', RULES],
    );
    expect(code).to.equal(0);
    expect(told.reipRules).to.equal(
      'SQL01#1:10.9.0.5>10.1.0.5/24/10.1.0.1;dns=,' +
        'SQL01#2:2001:db8:9::5>2001:db8:1::5/64/2001:db8:1::1',
    );
    const failback = await explain('network', 'explain', 'SQL01', '--purpose', 'failback');
    expect(failback.told.adapters.map(({ after }) => after.switch)).to.deep.equal([
      ...['lan', 'v6', 'san'],
    ]);
  });

  it('names the rule and the field that are wrong, and the adapter', async () => {
    const rules = 'X*:10.9.0.1/24,SQL01#1:*>10.9.0.255/24';
    const { code, told } = await explain('reip', 'explain', 'SQL01', '--reip-rules', rules);
    expect(code).to.equal(31);
    expect(told.refusals[0]).to.include({
      ...{ code: 'E_REIP_INVALID', rule: '2', field: 'target', adapter: 'Network Adapter' },
    });
    expect(told.refusals.length).to.equal(1);
  });

  it('refuses what is not mapped, not isolated, not legal, or has a holder, and changes nothing', async () => {
    const unplanned = ['unplanned', 'SQL01', '--unmapped', 'refuse'];
    expect(await refused(...unplanned, '--network-map', 'v6=DR-V6,san='))
      .to.match(/^30 /)
      .and.include('E_NET_UNMAPPED: adapter Network Adapter of SQL01 is on the switch lan');
    expect(await refused(...unplanned, '--network-map', '*=gone')).to.include('which is not there');
    expect(await refused('unplanned', 'SQL01', '--unmapped', 'same-name'))
      .to.match(/^30 /)
      .and.include('the switch lan, which is not there');
    expect(await refused(...unplanned, '--network-map', 'lan=DR-LAN,LAN=DR-V6')).to.include(
      'names one source twice',
    );
    const mapped = [...unplanned, '--network-map', MAP, '--reip-rules'];
    expect(await refused(...mapped, 'SQL01#1:10.9.0.9/24/10.8.0.1'))
      .to.match(/^31 /)
      .and.include('E_REIP_INVALID: re-IP rule 1: gateway 10.8.0.1 is not in the network');
    await site.hvdr(
      ...['lab', 'create-vm', 'dr', 'HOLDER', '--switch', 'DR-LAN,DR-V6'],
      ...['--ip', '10.9.0.4/24', '2001:DB8:9:0:0:0:0:5/64'],
    );
    expect(await refused(...mapped, RULES))
      .to.match(/^31 /)
      .and.include('E_REIP_CONFLICT')
      .and.include('is to have 2001:db8:9::5/64, which HOLDER has');
    await site.hvdr('lab', 'remove', 'dr', 'HOLDER', '--yes');
    const test = ['test', 'SQL01', '--test-network'];
    expect(await refused(...test, 'DR-LAN'))
      .to.match(/^30 /)
      .and.include('is not private');
    expect(await refused(...test, 'bubble', '--network-map', 'lan=bubble'))
      .to.match(/^30 /)
      .and.include('E_NOT_ISOLATED');
    const list = await site.hvdr('lab', 'list', 'dr', '--json');
    expect((JSON.parse(list.stdout.toString()) as { vms: unknown[] }).vms).to.deep.equal([]);
  });

  it('a test runs on its private switch only, with another MAC, and its addresses hinder nobody', async () => {
    const test = await failover(
      ...['test', 'SQL01', '--test-network', 'bubble', '--reip-rules', RULES, '--keep', '--json'],
    );
    const last = test.stdout.toString().trim().split('\n').at(-1) ?? '';
    const { instance, operation } = JSON.parse(last) as { instance: string; operation: string };
    const adapters = await adaptersOf('dr', instance);
    for (const [index, { switchName, mac, vlan }] of adapters.entries()) {
      expect(switchName).to.equal('bubble');
      expect(mac).not.to.equal(home[index]?.mac);
      expect(vlan).to.equal(index === 0 ? 30 : undefined);
    }
    expect(adapters[0]?.guest.addresses).to.deep.equal(['10.9.0.5/24']);
    const plan = await failover(
      ...['unplanned', 'SQL01', '--network-map', MAP, '--reip-rules', RULES, '--plan'],
    );
    expect(plan.stdout.toString()).not.to.include('E_REIP_CONFLICT');
    await failover('test', 'SQL01', '--stop', operation);
  });

  it('the check of a plan finds two members on one address', async () => {
    const plan = [
      ...['version: 1', 'name: Both', 'parameters:', "  network_map: '*=DR-LAN'", 'steps:'],
      ...['  - vm: SQL01', '    parameters: {reip_rules: "SQL01#1:10.9.0.7/24"}'],
      ...['  - vm: SQL02', '    parameters: {reip_rules: "SQL02:10.9.0.7/16"}', ''],
    ];
    writeFileSync(work.file('both.yaml'), plan.join('\n'));
    const run = await site.try(
      ...['plan', 'check', 'both.yaml', '--kind', 'unplanned', ...access('operator')],
    );
    expect(`${run.stdout.toString()}${run.stderr}`).to.include(
      'adapter Network Adapter of SQL02 is to have 10.9.0.7/16, as is SQL01',
    );
    expect(run.code).not.to.equal(0);
  });

  it('comes up with the switches of the map and the addresses of the rules; scripts are told', async () => {
    await failover(
      ...['unplanned', 'SQL01', '--network-map', MAP, '--reip-rules', RULES],
      ...['--checks', 'heartbeat,script:tell.sh'],
    );
    const [first, second, third] = await adaptersOf('dr', 'SQL01');
    expect(first).to.deep.include({ switchName: 'DR-LAN', vlan: 30, mac: home[0]?.mac });
    expect(first?.guest).to.deep.equal({
      ...{ isDhcp: false, addresses: ['10.9.0.5/24'], gateways: ['10.9.0.1'] },
      dnsServers: ['10.9.0.2', '10.9.0.3'],
    });
    expect(second).to.deep.include({ switchName: 'DR-V6', mac: home[1]?.mac });
    expect(second?.guest).to.deep.include({
      ...{ addresses: ['2001:db8:9::5/64'], gateways: ['2001:db8:9::1'] },
    });
    expect(third?.switchName).to.equal(undefined);
    expect(third?.guest.isDhcp).to.equal(true);
    const context = JSON.parse(readFileSync(work.file('scripts/context.json'), 'utf8')) as object;
    expect(context).to.deep.include({
      kind: 'unplanned',
      ipMap: { '10.1.0.5': '10.9.0.5', '2001:db8:1::5': '2001:db8:9::5' },
    });
    const shown = await site.hvdr('lab', 'show', 'dr', 'SQL01');
    expect(shown.stdout.toString()).to.include('on DR-LAN, VLAN 30, 10.9.0.5/24, gateway 10.9.0.1');
  });

  it('another VM of the store does not get an address that a VM there was given', async () => {
    const rules = ['--unmapped', 'disconnect', '--network-map', '*=DR-LAN', '--reip-rules'];
    expect(await refused('unplanned', 'SQL02', ...rules, 'SQL02:10.9.0.5/24'))
      .to.match(/^31 /)
      .and.include('is to have 10.9.0.5/24, which SQL01 has');
    const holder = await explain('reip', 'explain', 'SQL02', '--reip-rules', 'SQL02:10.9.0.5/24');
    expect(holder.told.refusals[0]).to.include({ other: 'SQL01', address: '10.9.0.5/24' });
  });

  it('goes home with the settings that it had', async () => {
    await failover('undo', 'SQL01', '--yes', ...atPrimary);
    await site.hvdr('lab', 'start', 'lab', 'SQL01');
    expect(await adaptersOf('lab', 'SQL01')).to.deep.equal(home);
  });

  it('a guest that does not take its address is told, and nobody else gets that address', async () => {
    await site.hvdr('lab', 'fault', 'dr', 'set', 'address-ignored');
    const told = await refused(
      ...['planned', 'SQL01', '--network-map', MAP, '--reip-rules', RULES, '--mac-policy', 'new'],
      ...['--check-timeout', '1', ...atPrimary],
    );
    expect(told)
      .to.match(/^31 /)
      .and.include('E_REIP_GUEST: SQL01 runs here')
      .and.include('Network Adapter should have 10.9.0.5/24 and has 10.1.0.5');
    const adapters = await adaptersOf('dr', 'SQL01');
    expect(adapters.map(({ switchName }) => switchName)).to.deep.equal([
      ...['DR-LAN', 'DR-V6', undefined],
    ]);
    expect(adapters[0]?.mac).not.to.equal(home[0]?.mac);
    expect(
      await refused(
        'unplanned',
        'SQL02',
        '--network-map',
        '*=DR-LAN',
        '--reip-rules',
        'SQL02:10.9.0.5/24',
      ),
    )
      .to.match(/^31 /)
      .and.include('which SQL01 has');
    await failover('undo', 'SQL01', '--yes', ...atPrimary);
    expect(await adaptersOf('lab', 'SQL01')).to.deep.equal(home);
  });

  it('who stays is turned round by what he came with', async () => {
    await site.hvdr('lab', 'fault', 'dr', 'clear', 'address-ignored');
    await failover(
      ...['unplanned', 'SQL02', '--network-map', '*=DR-LAN', '--reip-rules', 'SQL02:10.9.0.8/24'],
    );
    await failover('permanent', 'SQL02', '--yes');
    const back = ['network', 'explain', 'SQL02', '--purpose', 'reprotect'];
    const { code, told } = await explain(...back);
    expect(code).to.equal(0);
    expect(told).to.include({ networkMap: 'DR-LAN=lan', reipRules: 'SQL02#1:10.9.0.8>dhcp' });
    expect(told.adapters[0]?.after.switch).to.equal('lan');
    const given = await explain(...back, '--reip-rules-back', 'SQL02:10.1.0.9/24');
    expect(given.told.adapters[0]?.after.addresses).to.deep.equal(['10.1.0.9/24']);
  });

  it('explains beside a store on which no receiver runs', async () => {
    await site.stopReceiver();
    const run = await site.hvdr(
      ...['network', 'explain', 'SQL01', '--unmapped', 'disconnect'],
      ...['--store', 'store', '--host', 'lab:dr'],
    );
    expect(run.stdout.toString()).to.include('network_map does not name lan, unmapped=disconnect');
  });
});
