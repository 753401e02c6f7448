// Typed calls over real sockets: every kind of method, both ways, and how they end.

import { expect } from 'chai';
import { DrError } from '../../../shared/errors.js';
import { refusal } from '../../support/refusal.js';
import { all, each, echoService, type Loopback, loopback } from '../../support/channel.js';

describe('channel: sealed calls', () => {
  let loop: Loopback;

  beforeEach(async () => {
    loop = await loopback();
  });

  afterEach(async () => {
    await loop.close();
  });

  it('carry every kind of method', async () => {
    const client = (await loop.connect()).client(echoService);
    expect((await client.unary(Buffer.from('ping'))).toString()).to.equal('ping');
    const parts = each(Buffer.from('a'), Buffer.from('b'), Buffer.from('c'));
    expect((await client.collect(parts)).toString()).to.equal('abc');
    const spread = await all(client.spread(Buffer.from('xyz')));
    expect(spread.map(String)).to.deep.equal(['x', 'y', 'z']);
    const both = await all(client.both(each(Buffer.from('1'), Buffer.from('2'))));
    expect(both.map(String)).to.deep.equal(['1', '2']);
    expect(loop.server.committed).to.deep.equal(['unary', 'collect', 'both']);
  });

  it('carry empty and the largest messages', async () => {
    const client = (await loop.connect()).client(echoService);
    for (const size of [0, 1, 16_384, 1 << 20, (1 << 20) + (64 << 10)]) {
      const message = Buffer.alloc(size, size % 251);
      expect((await client.unary(message)).equals(message), `${size} bytes`).to.equal(true);
    }
  });

  it('are refused by the sender when a message is too long', async () => {
    const client = (await loop.connect()).client(echoService);
    const error = await refusal(() => client.unary(Buffer.alloc((1 << 20) + (64 << 10) + 1)));
    expect(error.code).to.equal('E_LIMIT');
  });

  it('carry a whole error of a handler', async () => {
    await loop.close();
    const failure = new DrError('E_STALE_EPOCH', 'epoch 3 has ended', {
      done: 'nothing was written',
      hint: 'ask',
      context: { epoch: 2n ** 63n, vm: 'SQL01', count: 3, isOld: true },
    });
    loop = await loopback({ handlers: { unary: () => Promise.reject(failure) } });
    const client = (await loop.connect()).client(echoService);
    const error = await refusal(() => client.unary(Buffer.alloc(0)));
    expect(error).to.include({
      code: 'E_STALE_EPOCH',
      message: 'epoch 3 has ended',
      done: 'nothing was written',
      hint: 'ask',
    });
    expect(error.context).to.deep.equal({ epoch: 2n ** 63n, vm: 'SQL01', count: 3, isOld: true });
  });
});
