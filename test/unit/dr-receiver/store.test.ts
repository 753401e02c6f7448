// The store as a folder: who may open it, and what it refuses to be.

import { expect } from 'chai';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import { silentLog } from '../../../shared/log.js';
import { Receiver } from '../../../dr-receiver/index.js';
import { FakeClock } from '../../support/fake-clock.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { openSite, pointIds, SourceVm, STORE } from './source-double.js';

const DESCRIPTIONS = [`${STORE}/store.json`, `${STORE}/store.json.copy`] as const;

function openForReading(fs: MemoryFileSystem): Promise<Receiver> {
  const seams = { fs, clock: new FakeClock(), random: new SeededRandom(99), log: silentLog };
  return Receiver.open({ ...seams, storeFolder: STORE, use: 'read' });
}

describe('store', () => {
  it('is worked on by one receiver, or read by many', async () => {
    const files = new MemoryFileSystem();
    const site = await openSite(files);
    expect((await refusal(() => openSite(files))).code).to.equal('E_LOCKED');
    expect((await refusal(() => openForReading(files))).code).to.equal('E_LOCKED');
    await site.receiver.close();
    const readers = [await openForReading(files), await openForReading(files)];
    expect((await refusal(() => openSite(files))).code).to.equal('E_LOCKED');
    for (const reader of readers) await reader.close();
    await (await openSite(files)).receiver.close();
  });

  it('keeps its id, and nothing of another folder is taken for a store', async () => {
    const files = new MemoryFileSystem();
    const first = await openSite(files);
    const { storeId } = first.receiver.store;
    await first.receiver.close();
    const again = await openSite(files);
    expect(again.receiver.store.storeId).to.equal(storeId);
    const foreign = new MemoryFileSystem();
    foreign.put(`${STORE}/letter.txt`, Buffer.from('dear'));
    expect((await refusal(() => openSite(foreign))).code).to.equal('E_EXISTS');
    expect((await refusal(() => openForReading(foreign))).code).to.equal('E_NOT_FOUND');
    expect(foreign.paths).to.deep.equal([`${STORE}/letter.txt`]);
  });

  it('of another version, without an id, or without its description is refused', async () => {
    for (const [text, code] of [
      ['{"formatVersion":2,"storeId":"00000000-0000-4000-9000-000000000001"}', 'E_FILE_VERSION'],
      ['{"formatVersion":1,"storeId":"nobody"}', 'E_FILE_DAMAGED'],
      ['nonsense', 'E_FILE_DAMAGED'],
    ] as const) {
      const files = new MemoryFileSystem();
      await (await openSite(files)).receiver.close();
      for (const name of DESCRIPTIONS) files.put(name, Buffer.from(text));
      expect((await refusal(() => openSite(files))).code).to.equal(code);
    }
    const files = new MemoryFileSystem();
    const site = await openSite(files);
    const vm = new SourceVm(1, [CELL_BYTES]);
    await vm.replicate(site, vm.plan(1, undefined, [undefined]));
    await site.receiver.close();
    for (const name of DESCRIPTIONS) await files.remove(name);
    expect((await refusal(() => openSite(files))).code).to.equal('E_FILE_DAMAGED');
  });

  it('mends the one of its two descriptions that is gone or rotted, and keeps its id', async () => {
    for (const name of DESCRIPTIONS) {
      const files = new MemoryFileSystem();
      const first = await openSite(files);
      const { storeId } = first.receiver.store;
      await first.receiver.close();
      const sound = files.content(name);
      const length = sound?.length ?? 0;
      for (const spoil of [
        () => files.remove(name),
        ...Array.from({ length }, (_, at) => () => {
          const bytes = Buffer.from(sound ?? []);
          bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
          files.put(name, bytes);
          return Promise.resolve();
        }),
      ]) {
        await spoil();
        const spoilt = files.content(name);
        const reader = await openForReading(files);
        expect(reader.store.storeId).to.equal(storeId);
        await reader.close();
        expect(files.content(name), 'a reader changes nothing').to.deep.equal(spoilt);
        const site = await openSite(files);
        expect(site.receiver.store.storeId).to.equal(storeId);
        await site.receiver.close();
        const now = files.content(name);
        expect(now === undefined ? '' : JSON.parse(now.toString())).to.deep.include({ storeId });
      }
    }
  });

  it('is refused when its two descriptions name different stores', async () => {
    const files = new MemoryFileSystem();
    const other = new MemoryFileSystem();
    await (await openSite(files)).receiver.close();
    await (await openSite(other)).receiver.close();
    files.put(DESCRIPTIONS[1], other.content(DESCRIPTIONS[1]) ?? Buffer.alloc(0));
    expect((await refusal(() => openSite(files))).code).to.equal('E_FILE_DAMAGED');
  });

  it('is read without changing a byte of it', async () => {
    const files = new MemoryFileSystem();
    const site = await openSite(files);
    const vm = new SourceVm(1, [3 * CELL_BYTES]);
    vm.write(0, 1, 1);
    await vm.replicate(site, vm.plan(1, undefined, [undefined]));
    await site.receiver.close();
    const before = new Map(files.paths.map((path) => [path, files.content(path)]));
    const reader = await openForReading(files);
    expect((await reader.allDesks())[0]?.vm.protection.listed.length).to.equal(1);
    await reader.close();
    expect(files.paths).to.deep.equal([...before.keys()]);
    for (const [path, bytes] of before) {
      expect(files.content(path)?.equals(bytes ?? Buffer.alloc(0)), path).to.equal(true);
    }
  });

  it('moves to another place and works there', async () => {
    const files = new MemoryFileSystem();
    const site = await openSite(files);
    const vm = new SourceVm(1, [3 * CELL_BYTES]);
    const plan = vm.plan(1, undefined, [undefined]);
    await vm.replicate(site, plan);
    await site.receiver.close();
    const moved = await openSite(files.clone());
    expect(await pointIds(moved, vm.name)).to.deep.equal([plan.pointId]);
  });
});
