// Which addresses operators may come from.

import { expect } from 'chai';
import { Networks, plainAddress } from '../../../shared/channel/networks.js';
import { DrError } from '../../../shared/errors.js';

describe('channel: networks', () => {
  it('hold loopback always, and what is named', () => {
    const none = new Networks([]);
    for (const address of ['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1']) {
      expect(none.has(address), address).to.equal(true);
    }
    for (const address of ['192.0.2.1', '2001:db8::1', '::', '0.0.0.0', '', 'localhost']) {
      expect(none.has(address), address).to.equal(false);
    }
    const some = new Networks(['192.0.2.0/24', '2001:db8::/32', '198.51.100.7']);
    for (const address of ['192.0.2.255', '::ffff:192.0.2.3', '2001:db8:9::1', '198.51.100.7']) {
      expect(some.has(address), address).to.equal(true);
    }
    for (const address of ['192.0.3.0', '198.51.100.8', '2001:db9::1']) {
      expect(some.has(address), address).to.equal(false);
    }
  });

  it('are refused when they are none', () => {
    const wrong = ['', 'x', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', '::/129', '10.0.0.0/-1'];
    for (const network of [...wrong, '10.0.0.0/8x', '10.0.0/8', 'fe80::1%eth0/64x']) {
      expect(() => new Networks([network]), network)
        .to.throw(DrError)
        .with.property('code', 'E_PARAMETER');
    }
  });

  it('are asked with addresses without zone and mapping', () => {
    expect(plainAddress('fe80::1%eth0')).to.equal('fe80::1');
    expect(plainAddress('::FFFF:10.0.0.1')).to.equal('10.0.0.1');
  });
});
