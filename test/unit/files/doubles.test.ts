// The fault and counting doubles, the clock and the randomness of the tests.

import { expect } from 'chai';
import { CountingFileSystem } from '../../support/counting-file.js';
import { FakeClock } from '../../support/fake-clock.js';
import { FaultFileSystem } from '../../support/fault-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { refused } from '../../conformance/file-system.js';

describe('fault double', () => {
  it('fails the n-th matching call, so many times, and no other', async () => {
    const fileSystem = new FaultFileSystem(new MemoryFileSystem());
    const a = await fileSystem.open('/a', { mode: 'create' });
    const b = await fileSystem.open('/b', { mode: 'create' });
    fileSystem.inject({ kind: 'write', path: /a$/, nth: 2, times: 2, code: 'E_CAPACITY' });
    const one = Buffer.from('1');
    await a.write(0, one);
    await b.write(0, one);
    await b.write(0, one);
    await refused(a.write(0, one), 'E_CAPACITY');
    await refused(a.write(0, one), 'E_CAPACITY');
    await a.write(0, one);
    expect(fileSystem.failureCount).to.equal(2);
    expect(fileSystem.callCount('write')).to.equal(6);
  });

  it('lets a part of a failed write arrive', async () => {
    const volume = new MemoryFileSystem();
    const fileSystem = new FaultFileSystem(volume);
    const file = await fileSystem.open('/a', { mode: 'create' });
    fileSystem.inject({ kind: 'write', partialBytes: 2 });
    await refused(file.write(1, Buffer.from('xyz')), 'E_IO');
    expect(volume.content('/a')?.toString('latin1')).to.equal('\0xy');
  });

  it('turns one bit over in what is read, not in what is stored', async () => {
    const volume = new MemoryFileSystem();
    volume.put('/a', Buffer.from([0, 0, 0, 0]));
    const fileSystem = new FaultFileSystem(volume);
    fileSystem.flipBit({ path: /a/, position: 2, bit: 3 });
    const file = await fileSystem.open('/a', { mode: 'read' });
    const target = Buffer.alloc(3);
    await file.read(1, target);
    expect([...target]).to.deep.equal([0, 8, 0]);
    expect([...(volume.content('/a') ?? [])]).to.deep.equal([0, 0, 0, 0]);
  });
});

describe('counting double', () => {
  it('counts calls and bytes per kind and path', async () => {
    const fileSystem = new CountingFileSystem(new MemoryFileSystem());
    const a = await fileSystem.open('/a', { mode: 'create' });
    const b = await fileSystem.open('/b', { mode: 'create' });
    await a.write(0, Buffer.alloc(10));
    await a.write(10, Buffer.alloc(20));
    await b.write(0, Buffer.alloc(5));
    await a.read(0, Buffer.alloc(7));
    expect(fileSystem.tally('write')).to.deep.equal({ count: 3, lengthBytes: 35 });
    expect(fileSystem.tally('write', '/a')).to.deep.equal({ count: 2, lengthBytes: 30 });
    expect(fileSystem.tally('write', /b$/)).to.deep.equal({ count: 1, lengthBytes: 5 });
    expect(fileSystem.tally('read')).to.deep.equal({ count: 1, lengthBytes: 7 });
    fileSystem.reset();
    expect(fileSystem.calls).to.have.length(0);
  });
});

describe('memory double', () => {
  it('takes memory for what was written, not for the size', async () => {
    const volume = new MemoryFileSystem();
    const file = await volume.open('/a', { mode: 'create' });
    await file.truncate(64 * 2 ** 40);
    await file.write(63 * 2 ** 40, Buffer.alloc(4096, 1));
    expect(volume.storedBytes('/a')).to.equal(4096);
    expect(await file.nextData(0)).to.deep.equal({
      start: 63 * 2 ** 40,
      end: 63 * 2 ** 40 + 4096,
    });
  });

  it('clones without a tie between the two', async () => {
    const volume = new MemoryFileSystem();
    volume.put('/a', Buffer.from('abc'));
    const copy = volume.clone();
    const first = await volume.open('/a', { mode: 'write' });
    const second = await copy.open('/a', { mode: 'write' });
    await first.write(0, Buffer.from('X'));
    await second.write(1, Buffer.from('Y'));
    expect(volume.content('/a')?.toString()).to.equal('Xbc');
    expect(copy.content('/a')?.toString()).to.equal('aYc');
  });
});

describe('clock and randomness of the tests', () => {
  it('wakes sleepers in the order of their deadlines, at their time', async () => {
    const clock = new FakeClock(1000);
    const woken: string[] = [];
    const sleeper = async (name: string, durationMs: number): Promise<void> => {
      await clock.sleep(durationMs);
      woken.push(`${name}@${clock.monotonic()}`);
    };
    const all = [sleeper('late', 50), sleeper('early', 10), sleeper('never', 1000)];
    await clock.advance(100);
    await Promise.all(all.slice(0, 2));
    expect(woken).to.deep.equal(['early@10', 'late@50']);
    expect(clock.now()).to.equal(1100);
    expect(clock.sleeperCount).to.equal(1);
  });

  it('ends a sleep with the reason of its signal', async () => {
    const clock = new FakeClock();
    const controller = new AbortController();
    const sleep = clock.sleep(10, controller.signal).catch((error: unknown) => error);
    controller.abort(new Error('enough'));
    expect(await sleep).to.have.property('message', 'enough');
    expect(clock.sleeperCount).to.equal(0);
  });

  it('gives the same values for the same seed, spread over their range', () => {
    const [a, b, c] = [new SeededRandom(5), new SeededRandom(5), new SeededRandom(6)];
    expect(a.bytes(33).equals(b.bytes(33))).to.equal(true);
    expect(a.bytes(33).equals(c.bytes(33))).to.equal(false);
    const counts = new Array<number>(10).fill(0);
    for (let i = 0; i < 10_000; i++) {
      const value = a.int(10);
      counts[value] = (counts[value] ?? 0) + 1;
    }
    for (const count of counts) expect(count).to.be.within(850, 1150);
    for (let i = 0; i < 1000; i++) expect(a.int(2 ** 53)).to.be.within(0, 2 ** 53 - 1);
  });
});
