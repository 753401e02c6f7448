// A device that fails: full at any write, a flush that reports an error at any place, followed by a
// power cut. The error is typed, nothing more is written through that handle, what had been
// acknowledged is there after the next open, and with room again the work can be done.

import { expect } from 'chai';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import { checkVhdx, createVhdx, mergeVhdx, openVhdx } from '../../shared/vhdx/index.js';
import { CrashFileSystem, SURVIVOR_STYLES } from '../support/crash-file.js';
import { FaultFileSystem, type Fault } from '../support/fault-file.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { SeededRandom } from '../support/seeded-random.js';

const MIB = 1024 * 1024;
const SIZE = 6 * MIB;
const BASE = '/d/base.vhdx';
const CHILD = '/d/child.vhdx';
const FAULTS: readonly { name: string; fault: Omit<Fault, 'nth'> }[] = [
  { name: 'disk full at a write', fault: { kind: 'write', code: 'E_CAPACITY', times: Infinity } },
  {
    name: 'disk full half-way through a write',
    fault: { kind: 'write', code: 'E_CAPACITY', partialBytes: 1000 },
  },
  { name: 'disk full when the file grows', fault: { kind: 'truncate', code: 'E_CAPACITY' } },
  { name: 'a flush that fails', fault: { kind: 'flush' } },
  { name: 'a read that fails', fault: { kind: 'read' } },
];

let sessions = 0;
function seams(fs: FileSystem): { fs: FileSystem; random: SeededRandom } {
  return { fs, random: new SeededRandom(++sessions) };
}

async function prepared(): Promise<{ volume: MemoryFileSystem; content: Buffer }> {
  const volume = new MemoryFileSystem();
  await volume.makeFolder('/d');
  const content = Buffer.alloc(SIZE);
  await createVhdx(BASE, { type: 'dynamic', sizeBytes: SIZE, blockSizeBytes: MIB }, seams(volume));
  const child = { type: 'differencing', parentPath: BASE, blockSizeBytes: MIB } as const;
  content.fill(1, 0, 2 * MIB);
  await writeOnce(volume, BASE, content.subarray(0, 2 * MIB), 0);
  await createVhdx(CHILD, child, seams(volume));
  content.fill(2, MIB, MIB + 5000);
  await writeOnce(volume, CHILD, content.subarray(MIB, MIB + 5000), MIB);
  return { volume, content };
}

async function writeOnce(fs: FileSystem, file: string, bytes: Buffer, at: number): Promise<void> {
  const disk = await openVhdx(file, { ...seams(fs), isWritable: true });
  await disk.write(at, bytes);
  await disk.close();
}

async function readAll(fs: FileSystem, file: string): Promise<Buffer> {
  const disk = await openVhdx(file, seams(fs));
  const bytes = Buffer.alloc(SIZE);
  await disk.read(0, bytes);
  await disk.close();
  return bytes;
}

/** Two flushed batches; `acknowledged` follows what a flush promised. */
async function work(
  fs: FileSystem,
  acknowledged: Buffer,
  done: { poisoned: unknown },
): Promise<void> {
  const disk = await openVhdx(CHILD, { ...seams(fs), isWritable: true });
  try {
    for (const fill of [10, 20]) {
      const changes = [
        { start: fill * 1000, end: fill * 1000 + 3000 },
        { start: 3 * MIB + fill, end: 4 * MIB + fill },
      ];
      for (const { start, end } of changes) {
        await disk.write(start, Buffer.alloc(end - start, fill));
      }
      await disk.flush();
      for (const { start, end } of changes) acknowledged.fill(fill, start, end);
    }
  } catch (error) {
    try {
      await disk.write(0, Buffer.alloc(512, 99));
      await disk.flush();
    } catch (second) {
      done.poisoned = second;
    }
    throw error;
  } finally {
    await disk.close();
  }
}

async function expectIntact(fs: FileSystem, file: string, acknowledged: Buffer): Promise<void> {
  const { violations } = await checkVhdx(file, seams(fs));
  expect(violations).to.deep.equal([]);
  const found = await readAll(fs, file);
  // Bytes since the last acknowledgement may be there or not; they are the fills of this test.
  for (let at = 0; at < SIZE; at++) {
    const value = found[at];
    if (value === acknowledged[at] || value === 10 || value === 20 || value === 99) continue;
    expect.fail(`byte ${at} is ${value ?? -1}, acknowledged was ${acknowledged[at] ?? -1}`);
  }
}

describe('fault: a device that fails under a VHDX', function () {
  this.timeout(600_000);
  for (const { name, fault } of FAULTS) {
    it(`${name}: typed error, nothing acknowledged lost, the work can be done again`, async () => {
      const { volume, content } = await prepared();
      let failures = 0;
      for (let nth = 1; ; nth++) {
        const crash = new CrashFileSystem({ volume });
        const faulty = new FaultFileSystem(crash);
        faulty.inject({ ...fault, nth });
        const acknowledged = Buffer.from(content);
        const done: { poisoned: unknown } = { poisoned: undefined };
        let failure: unknown;
        try {
          await work(faulty, acknowledged, done);
        } catch (error) {
          failure = error;
        }
        if (faulty.failureCount === 0) break;
        failures++;
        expect(failure, `failure ${nth}`).to.be.instanceOf(DrError);
        const code = failure instanceof DrError ? failure.code : '';
        expect(code).to.equal(fault.code ?? 'E_IO');
        if (done.poisoned !== undefined && fault.kind !== 'read') {
          expect(done.poisoned).to.have.property('code', 'E_VHDX_POISONED');
        }
        crash.crashNow();
        for (const style of SURVIVOR_STYLES) {
          const survivors = crash.survivors(nth, style);
          await expectIntact(survivors, CHILD, acknowledged);
          await work(survivors, Buffer.from(acknowledged), done);
          const found = await readAll(survivors, CHILD);
          expect(found.subarray(3 * MIB + 20, 4 * MIB + 20).every((byte) => byte === 20)).to.equal(
            true,
          );
        }
      }
      expect(failures).to.be.greaterThan(fault.kind === 'truncate' ? 0 : 2);
    });
  }

  it('a merge on a full disk or a failing device stops with a typed error and finishes later', async () => {
    const { volume, content } = await prepared();
    for (const kind of ['write', 'flush', 'rename', 'flushFolder', 'create'] as const) {
      for (let nth = 1; ; nth++) {
        const fs = new FaultFileSystem(volume.clone());
        fs.inject({ kind, nth, code: kind === 'write' ? 'E_CAPACITY' : 'E_IO' });
        let failure: unknown;
        try {
          await mergeVhdx(CHILD, seams(fs));
        } catch (error) {
          failure = error;
        }
        if (fs.failureCount === 0) break;
        expect(failure, `${kind} ${nth}`).to.be.instanceOf(DrError);
        fs.mend();
        expect((await readAll(fs, CHILD)).equals(content), `${kind} ${nth}`).to.equal(true);
        const isDue = (await fs.list('/d')).length > 1;
        if (isDue) await mergeVhdx(CHILD, seams(fs));
        expect((await readAll(fs, CHILD)).equals(content), `${kind} ${nth}`).to.equal(true);
        expect(await fs.list('/d')).to.deep.equal(['child.vhdx']);
      }
    }
  });
});
