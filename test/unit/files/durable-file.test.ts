import { expect } from 'chai';
import {
  isLeftoverOf,
  readJson,
  readSmall,
  removeLeftovers,
  writeDurably,
  writeJsonDurably,
  type JsonFormat,
} from '../../../shared/files/index.js';
import { refused } from '../../conformance/file-system.js';
import { CountingFileSystem } from '../../support/counting-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';

const FORMAT: JsonFormat = { name: 'test description', version: 3, limitBytes: 4096 };

describe('durable small files', () => {
  it('creates, replaces and reads back', async () => {
    const volume = new MemoryFileSystem();
    expect(await readSmall(volume, '/a', 10)).to.equal(undefined);
    await writeDurably(volume, '/a', Buffer.from('one'));
    await writeDurably(volume, '/a', Buffer.from('two'));
    expect((await readSmall(volume, '/a', 10))?.toString()).to.equal('two');
    expect(await volume.list('/')).to.deep.equal(['a']);
  });

  it('reads nothing of a file that is larger than its limit', async () => {
    const volume = new MemoryFileSystem();
    volume.put('/a', Buffer.alloc(11));
    const counting = new CountingFileSystem(volume);
    await refused(readSmall(counting, '/a', 10), 'E_FILE_DAMAGED');
    expect(counting.tally('read').count).to.equal(0);
    expect(await readSmall(counting, '/a', 11)).to.have.length(11);
  });

  it('knows its own leftovers and no other names', () => {
    expect(isLeftoverOf('a', '.a.01234567.unfinished')).to.equal(true);
    expect(isLeftoverOf('a.b', '.a.b.01234567.unfinished')).to.equal(true);
    expect(isLeftoverOf('a', '.a.b.01234567.unfinished')).to.equal(false);
    expect(isLeftoverOf('a', '.ab.01234567.unfinished')).to.equal(false);
    expect(isLeftoverOf('a', '.a.0123456G.unfinished')).to.equal(false);
    expect(isLeftoverOf('a', 'a.01234567.unfinished')).to.equal(false);
    expect(isLeftoverOf('a', '.a.unfinished')).to.equal(false);
    expect(isLeftoverOf('a', 'a')).to.equal(false);
  });

  it('removes leftovers of one file only', async () => {
    const volume = new MemoryFileSystem();
    for (const name of ['/a', '/.a.01234567.unfinished', '/.b.01234567.unfinished']) {
      volume.put(name, Buffer.from('x'));
    }
    expect(await removeLeftovers(volume, '/a')).to.equal(1);
    expect(await volume.list('/')).to.deep.equal(['.b.01234567.unfinished', 'a']);
  });

  it('keeps the fields of a JSON file', async () => {
    const volume = new MemoryFileSystem();
    expect(await readJson(volume, '/a', FORMAT)).to.equal(undefined);
    await writeJsonDurably(volume, '/a', FORMAT, { id: 'x', list: [1, 2] });
    expect(await readJson(volume, '/a', FORMAT)).to.deep.equal({ id: 'x', list: [1, 2] });
    expect(volume.content('/a')?.toString()).to.contain('"formatVersion": 3');
  });

  it('refuses a version that it does not know, and names both', async () => {
    const volume = new MemoryFileSystem();
    for (const version of [2, 4]) {
      volume.put('/a', Buffer.from(JSON.stringify({ formatVersion: version })));
      const error = await refused(readJson(volume, '/a', FORMAT), 'E_FILE_VERSION');
      expect(error.context).to.deep.include({ version, knownVersion: 3 });
    }
  });

  it('refuses what is no object of ours', async () => {
    const volume = new MemoryFileSystem();
    const texts = [
      '',
      '{',
      'null',
      '[]',
      '7',
      '{}',
      '{"formatVersion":"3"}',
      '{"formatVersion":3.5}',
    ];
    const inputs = [...texts.map((text) => Buffer.from(text)), Buffer.from([0x22, 0xff, 0x22])];
    for (const input of inputs) {
      volume.put('/a', input);
      await refused(readJson(volume, '/a', FORMAT), 'E_FILE_DAMAGED');
    }
  });
});
