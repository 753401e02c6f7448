// A sealed VHDX in a file of the caller's, built with interruptions: the same file as in one go, and its
// places are told without it.

import { expect } from 'chai';
import { openVhdx, SealedPlaces, SealedVhdxWriter } from '../../../shared/vhdx/index.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { SeededRandom } from '../../support/seeded-random.js';

const MIB = 1024 * 1024;
const PIECE = 64 * 1024;

interface Write {
  readonly offset: number;
  readonly bytes: Buffer;
}

function writes(random: SeededRandom, sizeBytes: number): Write[] {
  const out: Write[] = [];
  for (let offset = 0; offset < sizeBytes; offset += PIECE) {
    if (random.chance(0.6)) continue;
    out.push({ offset, bytes: random.bytes(Math.min(PIECE, sizeBytes - offset)) });
  }
  return out;
}

describe('sealed VHDX in a file of its owner', () => {
  for (const blockSizeBytes of [MIB, 2 * MIB, 32 * MIB]) {
    it(`goes on where it was, and hides what was written behind: blocks of ${blockSizeBytes}`, async () => {
      for (let seed = 1; seed <= 4; seed++) {
        const random = new SeededRandom(seed);
        const sizeBytes = 9 * MIB + 512 * 7;
        const list = writes(random, sizeBytes);
        const disk = { type: 'dynamic', sizeBytes, blockSizeBytes } as const;
        const files = new MemoryFileSystem();
        const file = await files.open('/base.vhdx', { mode: 'create' });
        let writer = SealedVhdxWriter.into(file, { ...disk, random });
        for (let done = 0; done < list.length;) {
          const until = Math.min(list.length, done + random.between(1, 20));
          for (const { offset, bytes } of list.slice(done, until))
            await writer.write(offset, bytes);
          done = until;
          // written and lost: other bytes, at places that come later
          for (const { offset, bytes } of list.slice(done, done + random.int(5))) {
            await writer.write(offset, Buffer.alloc(bytes.length, 0xee));
          }
          await writer.abort();
          writer = SealedVhdxWriter.into(file, { ...disk, random });
          let end = 0;
          for (const { offset, bytes } of list.slice(0, done)) {
            end = await writer.skip(offset, bytes.length);
          }
          await file.truncate(end);
        }
        const sealed = await writer.finish();
        expect(sealed.lengthBytes).to.equal(await file.size());
        const places = new SealedPlaces({ sizeBytes, blockSizeBytes });
        for (const { offset, bytes } of list) {
          const found = Buffer.alloc(bytes.length);
          await file.read(places.of(offset), found);
          expect(found.equals(bytes), `offset ${offset}`).to.equal(true);
        }
        await file.close();
        const expected = Buffer.alloc(sizeBytes);
        for (const { offset, bytes } of list) bytes.copy(expected, offset);
        const read = await openVhdx('/base.vhdx', { fs: files, random });
        const found = Buffer.alloc(sizeBytes);
        await read.read(0, found);
        await read.close();
        expect(found.equals(expected)).to.equal(true);
      }
    });
  }

  it('leaves the file to its owner when it is given up', async () => {
    const files = new MemoryFileSystem();
    const file = await files.open('/base.vhdx', { mode: 'create' });
    const random = new SeededRandom(1);
    const writer = SealedVhdxWriter.into(file, { type: 'dynamic', sizeBytes: MIB, random });
    await writer.write(0, Buffer.alloc(PIECE, 1));
    await writer.abort();
    expect(files.paths).to.deep.equal(['/base.vhdx']);
    await file.close();
  });
});
