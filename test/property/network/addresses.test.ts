// Laws: addresses, prefixes and maps come back from their text; a map turned round twice is the map.

import { expect } from 'chai';
import fc from 'fast-check';
import {
  formatAddress,
  formatInterface,
  parseAddress,
  parseInterface,
} from '../../../shared/ip-address.js';
import { formatNetworkMap, invertMap, parseNetworkMap } from '../../../shared/network/index.js';

const bytes = (count: number): fc.Arbitrary<number[]> =>
  fc.array(fc.constantFrom(0, 0, 0, 1, 128, 255), { minLength: count, maxLength: count });
const address = fc.oneof(
  bytes(4).map((each) => ({ family: 4 as const, bytes: each })),
  bytes(16).map((each) => ({ family: 6 as const, bytes: each })),
);
const name = fc.stringMatching(/^[a-z"=,]([a-z "=,]{0,6}[a-z"=,])?$/);

describe('laws of addresses and network maps', () => {
  it('an address comes back from its text', () => {
    fc.assert(
      fc.property(address, (value) => {
        expect(parseAddress(formatAddress(value))).to.deep.equal(value);
      }),
    );
  });

  it('an IPv6 address is written as the URL standard writes it', () => {
    fc.assert(
      fc.property(bytes(16), (value) => {
        const text = formatAddress({ family: 6, bytes: value });
        expect(new URL(`http://[${text}]/`).hostname).to.equal(`[${text}]`);
      }),
    );
  });

  it('an address with a prefix comes back from its text', () => {
    fc.assert(
      fc.property(address, fc.integer({ min: 1, max: 32 }), (value, prefix) => {
        const whole = { address: value, prefix };
        expect(parseInterface(formatInterface(whole))).to.deep.equal(whole);
      }),
    );
  });

  it('a network map comes back from its text, and from being turned round twice', () => {
    const names = fc.uniqueArray(name, { minLength: 2, maxLength: 12 });
    fc.assert(
      fc.property(names, (all) => {
        const half = Math.floor(all.length / 2);
        const pairs = all.slice(0, half).map((source, index) => {
          const target = all[half + index];
          return [source, { source, target }] as const;
        });
        const map = { pairs: new Map(pairs), rest: undefined };
        expect(parseNetworkMap(formatNetworkMap(map))).to.deep.equal(map);
        expect(invertMap(invertMap(map))).to.deep.equal(map);
      }),
    );
  });

  it('a map that leads two switches to one, or has a default, is not turned round', () => {
    for (const text of ['a=x,b=X', 'a=x,*=y']) {
      expect(() => invertMap(parseNetworkMap(text))).to.throw('has no way back');
    }
  });
});
