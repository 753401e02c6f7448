// Small pieces become large ones, in order, and a failure of the sink comes back.

import { expect } from 'chai';
import { GatheredSink } from '../../../../plugin-bridge/restore/gathered-sink.js';
import { SeededRandom } from '../../../support/seeded-random.js';

const MIB = 1024 * 1024;

describe('a sink that gathers', () => {
  it('hands the same bytes on, in pieces of a mebibyte, whatever comes in', async () => {
    const random = new SeededRandom(7);
    const taken: Buffer[] = [];
    const output = new GatheredSink(async (chunk) => {
      const copy = Buffer.from(chunk);
      await Promise.resolve();
      // nobody changed the bytes while they were written
      expect(copy.equals(chunk)).to.equal(true);
      taken.push(copy);
    });
    const given: Buffer[] = [];
    for (const lengthBytes of [1, 65_536, 65_536, 0, 2 * MIB + 3, 700_000, 17]) {
      const bytes = random.fill(Buffer.alloc(lengthBytes));
      given.push(Buffer.from(bytes));
      await output.add(bytes);
      bytes.fill(0);
    }
    await output.end();
    expect(Buffer.concat(taken).equals(Buffer.concat(given))).to.equal(true);
    expect(taken.slice(0, -1).every(({ length }) => length === MIB)).to.equal(true);
  });

  it('writes nothing for nothing', async () => {
    const output = new GatheredSink(() => Promise.reject(new Error('not called')));
    await output.end();
  });

  it('tells what the sink threw, at the next piece or at the end, and settles', async () => {
    const output = new GatheredSink(() => Promise.reject(new Error('the volume is full')));
    await output.add(Buffer.alloc(MIB));
    const error = await output.end().catch((thrown: unknown) => thrown);
    expect(error).to.be.instanceOf(Error);
    await output.settled();
  });
});
