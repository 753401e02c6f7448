import { expect } from 'chai';
import { AssertionError } from '../../../shared/assert.js';
import { openRawDisk, type Extent } from '../../../shared/disk/index.js';
import { refused } from '../../conformance/file-system.js';
import { CountingFileSystem } from '../../support/counting-file.js';
import { CrashFileSystem } from '../../support/crash-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';

async function extentsOf(extents: AsyncIterable<Extent>): Promise<string[]> {
  const out: string[] = [];
  for await (const { start, end, kind } of extents) out.push(`${kind} ${start}-${end}`);
  return out;
}

async function sparseVolume(): Promise<MemoryFileSystem> {
  const volume = new MemoryFileSystem();
  const file = await volume.open('/d', { mode: 'create' });
  await file.truncate(100_000);
  await file.write(8192, Buffer.alloc(4096, 1));
  await file.write(40_960, Buffer.alloc(4096, 2));
  await file.close();
  return volume;
}

describe('raw disks', () => {
  it('read, write and keep their size, whatever that is', async () => {
    const volume = new MemoryFileSystem();
    volume.put('/d', Buffer.alloc(1001, 7));
    const disk = await openRawDisk('/d', { fs: volume, isWritable: true });
    expect(disk.sizeBytes).to.equal(1001);
    await disk.write(999, Buffer.from([1, 2]));
    const target = Buffer.alloc(3);
    await disk.read(998, target);
    expect([...target]).to.deep.equal([7, 1, 2]);
    await disk.close();
  });

  it('tell holes from data, cut to what was asked', async () => {
    const disk = await openRawDisk('/d', { fs: await sparseVolume() });
    expect(await extentsOf(disk.extents(0, disk.sizeBytes))).to.deep.equal([
      'zero 0-8192',
      'data 8192-12288',
      'zero 12288-40960',
      'data 40960-45056',
      'zero 45056-100000',
    ]);
    expect(await extentsOf(disk.extents(10_000, 20_000))).to.deep.equal([
      'data 10000-12288',
      'zero 12288-20000',
    ]);
    expect(await extentsOf(disk.extents(500, 500))).to.deep.equal([]);
  });

  it('zero what may hold data and leave holes alone', async () => {
    const counting = new CountingFileSystem(await sparseVolume());
    const disk = await openRawDisk('/d', { fs: counting, isWritable: true });
    await disk.zero(10_000, 80_000);
    expect(counting.tally('write').lengthBytes).to.equal(12_288 - 10_000 + 4096);
    const target = Buffer.alloc(100_000);
    await disk.read(0, target);
    expect(target.subarray(8192, 10_000).every((byte) => byte === 1)).to.equal(true);
    expect(target.subarray(10_000).every((byte) => byte === 0)).to.equal(true);
    expect(disk.sizeBytes).to.equal(100_000);
  });

  it('keep what was written before a flush', async () => {
    const volume = new MemoryFileSystem();
    volume.put('/d', Buffer.alloc(1024));
    const crash = new CrashFileSystem({ volume });
    const disk = await openRawDisk('/d', { fs: crash, isWritable: true });
    await disk.write(0, Buffer.alloc(512, 1));
    await disk.flush();
    await disk.write(512, Buffer.alloc(512, 2));
    const found = crash.survivors(1, 'none').content('/d');
    expect([found?.[0], found?.[512]]).to.deep.equal([1, 0]);
  });

  it('refuse to make up bytes when the file was cut short', async () => {
    const volume = new MemoryFileSystem();
    volume.put('/d', Buffer.alloc(1024, 1));
    const disk = await openRawDisk('/d', { fs: volume });
    const file = await volume.open('/d', { mode: 'write', lock: 'none' });
    await file.truncate(1000);
    await disk.read(0, Buffer.alloc(1000));
    await refused(disk.read(512, Buffer.alloc(512)), 'E_IO');
  });

  it('stop our own code at the ends of the disk', async () => {
    const volume = new MemoryFileSystem();
    volume.put('/d', Buffer.alloc(1024));
    const disk = await openRawDisk('/d', { fs: volume, isWritable: true });
    const calls = [
      () => disk.read(1000, Buffer.alloc(25)),
      () => disk.read(-1, Buffer.alloc(1)),
      () => disk.write(1024, Buffer.alloc(1)),
      () => disk.zero(0, 1025),
    ];
    for (const call of calls) {
      const error: unknown = await call().catch((reason: unknown) => reason);
      expect(error).to.be.instanceOf(AssertionError);
    }
  });

  it('lock their file: many read, one writes', async () => {
    const volume = new MemoryFileSystem();
    volume.put('/d', Buffer.alloc(1024));
    const reader = await openRawDisk('/d', { fs: volume });
    await (await openRawDisk('/d', { fs: volume })).close();
    await refused(openRawDisk('/d', { fs: volume, isWritable: true }), 'E_LOCKED');
    await reader.close();
    await (await openRawDisk('/d', { fs: volume, isWritable: true })).close();
  });
});
