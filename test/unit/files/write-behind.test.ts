// Writes handed over to a file under construction: how many are under way, and what a failure does.

import { expect } from 'chai';
import { WriteBehind, type BlockFile } from '../../../shared/files/index.js';
import { DrError } from '../../../shared/errors.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';

/** A file whose writes end when the test says so. */
class HeldFile {
  readonly started: number[] = [];
  readonly #held: (() => void)[] = [];
  readonly #file: BlockFile;
  failAt: number | undefined;

  constructor(file: BlockFile) {
    this.#file = file;
  }

  get underWay(): number {
    return this.#held.length;
  }

  asFile(): BlockFile {
    const file = this.#file;
    return {
      path: file.path,
      read: (position, target) => file.read(position, target),
      write: async (position, source) => {
        this.started.push(position);
        await new Promise<void>((resolve) => {
          this.#held.push(resolve);
        });
        if (position === this.failAt) throw new DrError('E_CAPACITY', 'full');
        await file.write(position, source);
      },
      size: () => file.size(),
      truncate: (sizeBytes) => file.truncate(sizeBytes),
      reserve: () => Promise.resolve(false),
      flush: () => file.flush(),
      nextData: (position) => file.nextData(position),
      close: () => file.close(),
    };
  }

  endOne(): void {
    this.#held.shift()?.();
  }
}

const turns = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

async function heldFile(): Promise<HeldFile> {
  const fs = new MemoryFileSystem();
  return new HeldFile(await fs.open('/x', { mode: 'create' }));
}

describe('WriteBehind', () => {
  for (const concurrency of [1, 3]) {
    it(`keeps ${concurrency} write(s) under way, in the order of the calls`, async () => {
      const held = await heldFile();
      const output = new WriteBehind(held.asFile(), 1000, 1000, concurrency);
      const done = [0, 1, 2, 3, 4].map((place) => output.write(place, Buffer.of(place + 1)));
      for (let ended = 0; ended < 5; ended++) {
        await turns();
        expect(held.underWay).to.equal(Math.min(concurrency, 5 - ended));
        expect(held.started).to.deep.equal(
          [0, 1, 2, 3, 4].slice(0, Math.min(5, ended + concurrency)),
        );
        held.endOne();
      }
      await Promise.all(done);
      await output.drain();
      const bytes = Buffer.alloc(5);
      await held.asFile().read(0, bytes);
      expect([...bytes]).to.deep.equal([1, 2, 3, 4, 5]);
    });
  }

  it('takes a write that comes when all before it have ended', async () => {
    const held = await heldFile();
    const output = new WriteBehind(held.asFile(), 1000, 1000, 2);
    for (let place = 0; place < 3; place++) {
      const done = output.write(place, Buffer.of(7));
      await turns();
      held.endOne();
      await done;
      await output.settled();
    }
    expect(held.started).to.deep.equal([0, 1, 2]);
  });

  it('begins nothing after a failure, tells it to everybody, and still comes to an end', async () => {
    const held = await heldFile();
    held.failAt = 1;
    const output = new WriteBehind(held.asFile(), 1000, 1000, 2);
    const done = [0, 1, 2, 3].map((place) => output.write(place, Buffer.of(9)));
    await turns();
    held.endOne();
    await turns();
    for (let i = 0; i < 4; i++) {
      held.endOne();
      await turns();
    }
    await done[0];
    for (const write of [done[1], done[3]]) {
      expect((await refusal(() => write ?? Promise.resolve())).code).to.equal('E_CAPACITY');
    }
    expect(held.started).not.to.include(3);
    await output.settled();
    expect((await refusal(() => output.drain())).code).to.equal('E_CAPACITY');
  });
});
