import { renameSync, utimesSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { ArrivalCheck, type ArrivedDisk } from '../../../../plugin-bridge/restore/arrival-check.js';
import { stampOf } from '../../../../plugin-bridge/restore/disks.js';
import { recordsOfCells, rootOfRecords } from '../../../../shared/delta/index.js';
import { nodeFileSystem as fs } from '../../../../shared/files/index.js';
import { streamVhdx } from '../../../../shared/vhdx/index.js';
import { SeededRandom } from '../../../support/seeded-random.js';
import { WorkFolder } from '../../../support/work-folder.js';
import { BufferDisk } from '../../delta/builders.js';

const MIB = 1024 * 1024;
const SIZE = 9 * MIB;

describe('the check of a base while it arrives', () => {
  const random = new SeededRandom(11);
  const bytes = Buffer.alloc(SIZE);
  random.fill(bytes.subarray(2 * MIB, 5 * MIB));
  const disk = BufferDisk.of(bytes);
  let file: Buffer;

  before(async () => {
    const { chunks } = await streamVhdx(disk, { random, blockSizeBytes: MIB });
    const parts: Buffer[] = [];
    for await (const chunk of chunks) parts.push(Buffer.from(chunk));
    file = Buffer.concat(parts);
  });

  async function checked(content: Buffer, pieceBytes = MIB): Promise<ArrivedDisk | undefined> {
    const check = new ArrivalCheck('a base');
    for (let at = 0; at < content.length; at += pieceBytes) {
      const piece = Buffer.from(content.subarray(at, at + pieceBytes));
      await check.add(piece);
      piece.fill(0xee);
    }
    return check.end();
  }

  const root = (): Promise<Buffer> =>
    rootOfRecords(recordsOfCells(disk, [{ start: 0, end: SIZE / 65_536 }], false));

  it('finds the size and the records of the disk, however the file is cut', async () => {
    const expected = { sizeBytes: SIZE, recordsRoot: await root() };
    for (const pieceBytes of [MIB, 7777, 3 * MIB + 1]) {
      expect(await checked(file, pieceBytes)).to.deep.equal(expected);
    }
  });

  it('finds other records when one byte of the data is another', async () => {
    const damaged = Buffer.from(file);
    const at = damaged.length - MIB + 12_345;
    damaged.writeUInt8(damaged.readUInt8(at) ^ 1, at);
    const found = await checked(damaged);
    expect(found?.sizeBytes).to.equal(SIZE);
    expect(found?.recordsRoot.equals(await root())).to.equal(false);
  });

  it('tells nothing of a file that is cut, or is no VHDX, and takes all of it', async () => {
    expect(await checked(file.subarray(0, file.length - 1))).to.equal(undefined);
    expect(await checked(random.fill(Buffer.alloc(3 * MIB)))).to.equal(undefined);
    expect(await checked(Buffer.alloc(0))).to.equal(undefined);
  });
});

describe('the stamp of a file', () => {
  it('stays with its name changed, and is another one for other bytes', async () => {
    const work = new WorkFolder('stamp');
    try {
      const [path, moved] = [work.file('disk'), work.file('moved')];
      writeFileSync(path, 'one');
      utimesSync(path, 1000, 1000);
      const stamp = await stampOf({ fs }, path);
      renameSync(path, moved);
      expect(await stampOf({ fs }, moved)).to.equal(stamp);
      expect(await stampOf({ fs }, path)).to.equal(undefined);
      writeFileSync(moved, 'two');
      expect(await stampOf({ fs }, moved)).not.to.equal(stamp);
    } finally {
      work.dispose();
    }
  });
});
