// The cache of BAT and bitmap pages: bounded, one copy of each page, changed pages stay.

import { expect } from 'chai';
import type { BlockFile } from '../../../shared/files/index.js';
import { CACHE_CHUNK_BYTES } from '../../../shared/vhdx/geometry.js';
import { PageCache } from '../../../shared/vhdx/page-cache.js';
import { CountingFileSystem } from '../../support/counting-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';

const CHUNK = CACHE_CHUNK_BYTES;

async function opened(bytes: Buffer): Promise<{ file: BlockFile; fs: CountingFileSystem }> {
  const memory = new MemoryFileSystem();
  memory.put('/a', bytes);
  const fs = new CountingFileSystem(memory);
  return { fs, file: await fs.open('/a', { mode: 'write' }) };
}

describe('VHDX page cache', () => {
  it('reads a chunk once, however many ask for it at a time', async () => {
    const { fs, file } = await opened(Buffer.alloc(3 * CHUNK, 7));
    const cache = new PageCache(file);
    expect(cache.peek(CHUNK + 5)).to.equal(undefined);
    const chunks = await Promise.all([CHUNK, CHUNK + 1, 2 * CHUNK - 1].map((at) => cache.load(at)));
    expect(new Set(chunks).size).to.equal(1);
    expect(cache.peek(CHUNK + 4096)).to.equal(chunks[0]);
    expect(fs.tally('read').count).to.equal(1);
  });

  it('shows zeros behind the end of the file', async () => {
    const { file } = await opened(Buffer.alloc(CHUNK + 100, 7));
    const chunk = await new PageCache(file).load(CHUNK + 200);
    expect(chunk[99]).to.equal(7);
    expect(chunk.subarray(100).every((byte) => byte === 0)).to.equal(true);
  });

  it('does not grow with what is read', async () => {
    const { file } = await opened(Buffer.alloc(4096));
    const cache = new PageCache(file);
    for (let i = 0; i < 1000; i++) await cache.load(i * CHUNK);
    let present = 0;
    for (let i = 0; i < 1000; i++) if (cache.peek(i * CHUNK) !== undefined) present++;
    expect(present).to.equal(256);
    expect(cache.peek(999 * CHUNK)).to.not.equal(undefined);
  });

  it('keeps changed pages until they are in their place, lowest first', async () => {
    const { file } = await opened(Buffer.alloc(4096));
    const cache = new PageCache(file);
    for (const at of [5 * CHUNK + 8192, CHUNK + 10]) {
      const chunk = await cache.load(at);
      chunk[at % CHUNK] = 0x5a;
      cache.markDirty(at);
      cache.markDirty(at + 1);
    }
    for (let i = 100; i < 1000; i++) await cache.load(i * CHUNK);
    expect(cache.dirtyPageCount).to.equal(2);
    const pages = cache.dirtyPages();
    expect(pages.map(({ offset }) => offset)).to.deep.equal([CHUNK, 5 * CHUNK + 8192]);
    expect(pages.map(({ bytes }) => [bytes.length, bytes[10], bytes[0]])).to.deep.equal([
      [4096, 0x5a, 0],
      [4096, 0, 0x5a],
    ]);
    cache.clearDirty();
    expect(cache.dirtyPageCount).to.equal(0);
    for (let i = 100; i < 1000; i++) await cache.load(i * CHUNK);
    expect(cache.peek(CHUNK)).to.equal(undefined);
  });

  it('fails a load with the error of the file, and reads again next time', async () => {
    const { file } = await opened(Buffer.alloc(CHUNK, 3));
    let isBroken = true;
    const failing: BlockFile = Object.assign(Object.create(file) as BlockFile, {
      read: (position: number, target: Uint8Array) =>
        isBroken ? Promise.reject(new Error('broken')) : file.read(position, target),
    });
    const cache = new PageCache(failing);
    const results = await Promise.allSettled([cache.load(0), cache.load(1)]);
    expect(results.map(({ status }) => status)).to.deep.equal(['rejected', 'rejected']);
    isBroken = false;
    expect((await cache.load(0))[0]).to.equal(3);
  });
});
