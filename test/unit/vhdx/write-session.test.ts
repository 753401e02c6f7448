// What writing leaves in the file: states, bitmaps, identities, space; and what it costs. Content
// against a model is in test/property, crashes and faults in test/crash.

import { expect } from 'chai';
import type { FileSystem } from '../../../shared/files/index.js';
import { checkVhdx, createVhdx, openVhdx, type VhdxDisk } from '../../../shared/vhdx/index.js';
import { CountingFileSystem } from '../../support/counting-file.js';
import { FaultFileSystem } from '../../support/fault-file.js';
import { fingerprint } from '../../support/fingerprint.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { HEADER_FIELD, HEADERS, MIB, VhdxForge } from '../../support/vhdx-forge.js';

const BASE = '/d/base.vhdx';
const CHILD = '/d/child.vhdx';
const [NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, FULL, PARTIAL] = [0, 1, 2, 3, 6, 7] as const;

let sessions = 0;
function seams<F extends FileSystem>(fs: F): { fs: F; random: SeededRandom } {
  return { fs, random: new SeededRandom(++sessions) };
}

async function session(
  fs: FileSystem,
  path: string,
  action: (disk: VhdxDisk) => Promise<unknown>,
): Promise<void> {
  const disk = await openVhdx(path, { ...seams(fs), isWritable: true });
  await action(disk);
  await disk.close();
}

/** An 8 MiB disk in blocks of 1 MiB, full of 0x11, and a child of it. */
async function pair(): Promise<{ fs: MemoryFileSystem; child: VhdxForge; base: VhdxForge }> {
  const fs = new MemoryFileSystem();
  await fs.makeFolder('/d');
  const request = { type: 'dynamic', sizeBytes: 8 * MIB, blockSizeBytes: MIB } as const;
  await createVhdx(BASE, request, seams(fs));
  await session(fs, BASE, (disk) => disk.write(0, Buffer.alloc(8 * MIB, 0x11)));
  const linked = { type: 'differencing', parentPath: BASE, blockSizeBytes: MIB } as const;
  await createVhdx(CHILD, linked, seams(fs));
  return { fs, child: new VhdxForge(fs, CHILD), base: new VhdxForge(fs, BASE) };
}

async function readAll(fs: FileSystem, path: string): Promise<Buffer> {
  const disk = await openVhdx(path, seams(fs));
  const bytes = Buffer.alloc(disk.sizeBytes);
  await disk.read(0, bytes);
  await disk.close();
  expect((await checkVhdx(path, seams(fs))).violations).to.deep.equal([]);
  return bytes;
}

function bits(forge: VhdxForge, block: number): Buffer {
  return forge.read(forge.batEntry(4096).offset + block * 256, 256);
}

describe('VHDX write session', () => {
  describe('in a differencing disk', () => {
    it('makes a block partially present by a write of a part, in whole physical sectors', async () => {
      const { fs, child } = await pair();
      await session(fs, CHILD, (disk) => disk.write(2 * MIB + 512, Buffer.alloc(512, 0x22)));
      expect(child.batEntry(2).state).to.equal(PARTIAL);
      expect(child.batEntry(4096).state).to.equal(FULL);
      expect(bits(child, 2)).to.deep.equal(Buffer.concat([Buffer.from([0xff]), Buffer.alloc(255)]));
      const bytes = await readAll(fs, CHILD);
      expect(bytes.subarray(2 * MIB + 512, 2 * MIB + 1024).every((b) => b === 0x22)).to.equal(true);
      expect(bytes.subarray(2 * MIB, 2 * MIB + 512).every((b) => b === 0x11)).to.equal(true);
    });

    it('makes a block fully present by a write of all of it, without a bitmap', async () => {
      const { fs, child } = await pair();
      await session(fs, CHILD, (disk) => disk.write(2 * MIB, Buffer.alloc(MIB, 0x22)));
      expect(child.batEntry(2).state).to.equal(FULL);
      expect(child.batEntry(4096).state).to.equal(NOT_PRESENT);
    });

    it('raises a block to fully present when its last sector is written', async () => {
      const { fs, child } = await pair();
      await session(fs, CHILD, async (disk) => {
        await disk.write(2 * MIB, Buffer.alloc(MIB - 4096, 0x22));
        await disk.write(3 * MIB - 4096, Buffer.alloc(4096, 0x22));
      });
      expect(child.batEntry(2).state).to.equal(FULL);
    });

    for (const state of [ZERO, UNMAPPED, UNDEFINED]) {
      it(`makes a block in state ${state} fully present by a write of a part: the rest stays zero`, async () => {
        const { fs, child } = await pair();
        child.setBat(2, state, 0);
        await session(fs, CHILD, (disk) => disk.write(2 * MIB + 4096, Buffer.alloc(4096, 0x22)));
        expect(child.batEntry(2).state).to.equal(FULL);
        const block = (await readAll(fs, CHILD)).subarray(2 * MIB, 3 * MIB);
        const expected = Buffer.alloc(MIB).fill(0x22, 4096, 8192);
        expect(block.equals(expected)).to.equal(true);
      });
    }

    it('hides the parent behind a block that is zeroed whole, and gives its space back', async () => {
      const { fs, child } = await pair();
      await session(fs, CHILD, (disk) => disk.write(2 * MIB, Buffer.alloc(MIB, 0x22)));
      const before = child.sizeBytes;
      await session(fs, CHILD, (disk) => disk.zero(2 * MIB, 2 * MIB));
      expect(child.batEntry(2)).to.deep.equal({ state: ZERO, offset: 0 });
      expect(child.batEntry(3)).to.deep.equal({ state: ZERO, offset: 0 });
      expect(child.sizeBytes).to.be.lessThan(before);
      const bytes = await readAll(fs, CHILD);
      expect(bytes.subarray(2 * MIB, 4 * MIB).every((b) => b === 0)).to.equal(true);
      expect(bytes.subarray(4 * MIB).every((b) => b === 0x11)).to.equal(true);
    });

    it('clears old bits before it uses them again', async () => {
      const { fs, child } = await pair();
      await session(fs, CHILD, (disk) => disk.write(2 * MIB, Buffer.alloc(MIB - 4096, 0x22)));
      // Somebody took the block out and left its bits.
      child.setBat(2, NOT_PRESENT, 0);
      await session(fs, CHILD, (disk) => disk.write(2 * MIB + 8192, Buffer.alloc(4096, 0x33)));
      const block = (await readAll(fs, CHILD)).subarray(2 * MIB, 3 * MIB);
      expect(block.equals(Buffer.alloc(MIB, 0x11).fill(0x33, 8192, 12288))).to.equal(true);
    });
  });

  describe('identity', () => {
    const guids = (forge: VhdxForge): string[] => {
      const { fileWriteGuid, dataWriteGuid } = HEADER_FIELD;
      return [fileWriteGuid, dataWriteGuid].map((field) =>
        forge.readGuid(forge.currentHeader + field),
      );
    };

    it('is new after a session that wrote, once for the session', async () => {
      const { fs, child } = await pair();
      const before = guids(child);
      const during: string[][] = [];
      await session(fs, CHILD, async (disk) => {
        for (let i = 0; i < 3; i++) {
          await disk.write(i * 4096, Buffer.alloc(4096, 1));
          await disk.flush();
          during.push(guids(child));
        }
      });
      expect(new Set(during.map((pair) => pair.join())).size).to.equal(1);
      expect(during[0]?.[0]).to.not.equal(before[0]);
      expect(during[0]?.[1]).to.not.equal(before[1]);
      expect(guids(child)).to.deep.equal(during[0]);
      for (const at of HEADERS) {
        expect(child.readGuid(at + HEADER_FIELD.logGuid)).to.match(/^[0-]+$/);
      }
    });

    it('stays when nothing was written: not a byte of the file changes', async () => {
      const { fs } = await pair();
      const before = fingerprint(fs, CHILD);
      await session(fs, CHILD, (disk) => disk.flush());
      await session(fs, CHILD, (disk) => disk.read(0, Buffer.alloc(4096)));
      expect(fingerprint(fs, CHILD)).to.equal(before);
    });
  });

  describe('space', () => {
    it('is not used again before the commit that freed it', async () => {
      const { fs, base } = await pair();
      await fs.remove(CHILD);
      const old = base.batEntry(3).offset;
      await session(fs, BASE, async (disk) => {
        await disk.zero(3 * MIB, MIB);
        await disk.write(3 * MIB, Buffer.alloc(MIB, 0x33));
        await disk.flush();
        expect(base.batEntry(3).offset).to.not.equal(old);
        await disk.zero(5 * MIB, MIB);
        await disk.write(5 * MIB, Buffer.alloc(512, 0x55));
        await disk.flush();
        expect(base.batEntry(5).offset).to.equal(old);
      });
      const bytes = await readAll(fs, BASE);
      expect(
        bytes.subarray(5 * MIB, 6 * MIB).equals(Buffer.alloc(MIB).fill(0x55, 0, 512)),
      ).to.equal(true);
    });

    it('that a crashed session left behind shows none of its bytes', async () => {
      const fs = new MemoryFileSystem();
      await fs.makeFolder('/d');
      const request = { type: 'dynamic', sizeBytes: 8 * MIB, blockSizeBytes: MIB } as const;
      await createVhdx(BASE, request, seams(fs));
      const base = new VhdxForge(fs, BASE);
      // Payload that was never published, behind everything that is.
      base.write(base.sizeBytes, Buffer.alloc(20 * MIB, 0xbd));
      await session(fs, BASE, async (disk) => {
        for (let block = 0; block < 8; block++)
          await disk.write(block * MIB + 700, Buffer.alloc(3, 7));
      });
      const bytes = await readAll(fs, BASE);
      expect(bytes.includes(0xbd)).to.equal(false);
    });

    it('behind the last block is given back at the end', async () => {
      const { fs, base } = await pair();
      await fs.remove(CHILD);
      const before = base.sizeBytes;
      await session(fs, BASE, (disk) => disk.zero(0, 8 * MIB));
      expect(base.sizeBytes).to.equal(before - 8 * MIB);
      expect((await readAll(fs, BASE)).every((b) => b === 0)).to.equal(true);
    });
  });

  it('commits many writes at once: flushes follow commits, not writes', async () => {
    const { fs } = await pair();
    const counting = new CountingFileSystem(fs);
    await session(counting, CHILD, async (disk) => {
      await disk.write(0, Buffer.alloc(512));
      counting.reset();
      for (let i = 0; i < 200; i++)
        await disk.write((i * 37 * 4096) % (8 * MIB), Buffer.alloc(4096, 1));
      await Promise.all([disk.flush(), disk.flush(), disk.flush()]);
      expect(counting.tally('flush', CHILD).count).to.be.lessThan(6);
    });
  });

  for (const kind of ['write', 'flush', 'truncate'] as const) {
    it(`is poisoned by a ${kind} that failed: nothing more is written, closing still works`, async () => {
      const { fs } = await pair();
      const faulty = new FaultFileSystem(fs);
      const disk = await openVhdx(CHILD, { ...seams(faulty), isWritable: true });
      // The first allocation sets the length of the file, so its truncation comes first of all.
      faulty.inject({ kind, path: /child/, nth: kind === 'truncate' ? 1 : 8 });
      const first = await refusal(async () => {
        for (let block = 0; block < 8; block++) {
          await disk.write(block * MIB, Buffer.alloc(MIB, 0x77));
          await disk.flush();
        }
      });
      expect(first.code).to.equal('E_IO');
      const writes = faulty.callCount('write');
      for (const action of [
        () => disk.write(0, Buffer.alloc(4096)),
        () => disk.zero(0, MIB),
        () => disk.flush(),
      ]) {
        expect((await refusal(action)).code).to.equal('E_VHDX_POISONED');
      }
      await disk.close();
      expect(faulty.callCount('write')).to.equal(writes);
      const bytes = await readAll(fs, CHILD);
      const values = new Set(bytes);
      expect([...values].every((value) => value === 0x11 || value === 0x77)).to.equal(true);
    });
  }
});
