// The config file of a receiver: its keys are the options of the command, and what is wrong names its line.

import { expect } from 'chai';
import { keyOf, parseReceiverConfig } from '../../../cli/receiver-config.js';

const parse = (...lines: string[]) => parseReceiverConfig(lines.join('\n'), 'receiver.conf');

describe("a receiver's config file", () => {
  it('says what the options say, lists with commas', () => {
    expect(
      parse(
        ...['# ours', 'store=/srv/dr', 'psk_file=/k/a.psk, /k/b.psk', 'listen=[::]:9847'],
        ...['retention_grid=24h/1h,7d/1d', 'operator_from=10.0.0.0/8,fd00::/8', 'quota=2T'],
      ),
    ).to.deep.equal({
      store: '/srv/dr',
      pskFile: ['/k/a.psk', '/k/b.psk'],
      listen: '[::]:9847',
      retentionGrid: '24h/1h,7d/1d',
      operatorFrom: ['10.0.0.0/8', 'fd00::/8'],
      quota: '2T',
    });
  });

  it('takes a key out of the environment', () => {
    expect(parse('psk_file=env:SITE_A').pskFile).to.deep.equal(['env:SITE_A']);
  });

  it('refuses what it does not know, what is given twice, and relative paths', () => {
    const cases: readonly (readonly [text: string, pattern: RegExp])[] = [
      ['stor=/srv/dr', /line 1 of receiver.conf: stor: is not known/],
      ['\nstore=/a\nstore=/b', /line 3 of receiver.conf: store: is given twice/],
      ['store=dr', /store: "dr" is no absolute path/],
      ['psk_file=/a.psk,b.psk', /psk_file: "b.psk" is no absolute path/],
      ['[a]\nstore=/a', /has a section/],
      ['store', /no key=value/],
    ];
    for (const [text, pattern] of cases) {
      expect(() => parse(text), text)
        .to.throw(pattern)
        .with.property('code', 'E_PARAMETER');
    }
  });

  it('calls options as the command line does', () => {
    expect(keyOf('tlsClientCa')).to.equal('tls_client_ca');
  });
});
