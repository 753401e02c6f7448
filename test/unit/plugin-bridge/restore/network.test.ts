import { expect } from 'chai';
import { networkOf, type NetworkWish } from '../../../../plugin-bridge/restore/network.js';
import { defined } from '../../../../shared/assert.js';
import { DrError } from '../../../../shared/errors.js';
import { definitionWith } from '../../../support/backup-job.js';

interface Row {
  readonly is: string;
  readonly on: string | undefined;
  readonly wish?: Partial<NetworkWish>;
  readonly switches?: readonly string[];
  /** undefined: disconnected. */
  readonly then: string | undefined;
  readonly said?: RegExp;
}

const ROWS: readonly Row[] = [
  { is: 'no map, the same switch', on: 'LAN', then: 'LAN' },
  { is: 'no map, the same switch in other letters', on: 'lan', then: 'LAN' },
  {
    is: 'no adapter that was connected',
    on: undefined,
    wish: { network_map: '*=DR' },
    then: undefined,
  },
  {
    is: 'no map, no such switch',
    on: 'Prod',
    then: undefined,
    said: /^warning: .*no switch Prod, the host has LAN, DR; connect it/,
  },
  {
    is: 'a host without switches',
    on: 'Prod',
    switches: [],
    then: undefined,
    said: /^warning: .*has none/,
  },
  {
    is: 'a pair',
    on: 'Prod',
    wish: { network_map: 'prod=dr' },
    then: 'DR',
    said: /^info: .*is on DR: network_map prod=dr/,
  },
  {
    is: 'the default of the map',
    on: 'Prod',
    wish: { network_map: '*=DR' },
    then: 'DR',
    said: /^info/,
  },
  {
    is: 'a pair before the same switch',
    on: 'LAN',
    wish: { network_map: 'LAN=DR' },
    then: 'DR',
    said: /^info/,
  },
  {
    is: 'a pair that disconnects',
    on: 'LAN',
    wish: { network_map: 'LAN=' },
    then: undefined,
    said: /^info: .*network_map LAN= says so/,
  },
  {
    is: 'a pair to a switch that is not there',
    on: 'Prod',
    wish: { network_map: 'Prod=Gone' },
    then: undefined,
    said: /^warning: .*no switch Gone \(network_map Prod=Gone\)/,
  },
  { is: 'a map of others', on: 'LAN', wish: { network_map: 'Prod=DR' }, then: 'LAN' },
  {
    is: 'a map of others, with unmapped=disconnect',
    on: 'LAN',
    wish: { network_map: 'Prod=DR', unmapped: 'disconnect' },
    then: undefined,
    said: /^warning: .*unmapped=disconnect/,
  },
];

const [ADAPTER] = definitionWith('SQL01', []).adapters;

function networkFor({ on, wish, switches = ['LAN', 'DR'] }: Omit<Row, 'is' | 'then'>) {
  return networkOf({
    vmName: 'SQL01',
    adapters: [{ ...defined(ADAPTER, 'the VM has an adapter'), switchName: on }],
    switches: switches.map((name) => ({ name })),
    wish: { network_map: undefined, unmapped: 'refuse', mac_policy: undefined, ...wish },
  });
}

describe('the network of a restored VM', () => {
  for (const { is, then, said, ...row } of ROWS) {
    it(`${is}: ${then ?? 'disconnected'}`, () => {
      const { plan, said: lines } = networkFor(row);
      expect(plan).to.have.length(1);
      expect(plan[0]).to.include({ switchName: then, vlan: 7, mac: undefined });
      const text = lines.map(({ kind, text: line }) => `${kind}: ${line}`).join('\n');
      if (said === undefined) expect(text).to.equal('');
      else expect(text).to.match(said);
    });
  }

  it('is refused when the map is none', () => {
    expect(() => networkFor({ on: 'LAN', wish: { network_map: 'LAN' } })).to.throw(
      DrError,
      /pair 1/,
    );
  });
});
