// The journal of a VM: every byte of it cut, flipped and overwritten. It is read as it was up to a torn
// tail, or refused with file and place; never silently something else.

import { expect } from 'chai';
import { Journal } from '../../../dr-receiver/store/journal.js';
import type { JournalMark } from '../../../dr-receiver/store/journal-read.js';
import type { FileSystem } from '../../../shared/files/index.js';
import { CrashFileSystem } from '../../support/crash-file.js';
import { FaultFileSystem } from '../../support/fault-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { id } from './source-double.js';

const PATH = '/vm/journal';
const HEADER = { vmId: id(1), storeId: id(2) };
const PAYLOADS = [
  { n: 1 },
  { n: 2, text: 'JREC in a text' },
  { n: 3 },
  { n: 4, more: 'x'.repeat(700) },
];

async function build(): Promise<{ files: MemoryFileSystem; ends: number[]; mark: JournalMark }> {
  const files = new MemoryFileSystem();
  await files.makeFolder('/vm');
  const seams = { fs: files, random: new SeededRandom(1) };
  const [first, ...others] = PAYLOADS;
  await Journal.create(seams, PATH, HEADER, first ?? {});
  const { journal } = await open(files);
  const size = (): number => files.content(PATH)?.length ?? 0;
  const ends = [size()];
  for (const payload of others) {
    await journal.append(payload);
    ends.push(size());
  }
  const { mark } = journal;
  await journal.close();
  return { files, ends, mark };
}

async function open(
  files: FileSystem,
  mark?: JournalMark,
  isReadOnly = false,
): Promise<{ journal: Journal; seen: unknown[] }> {
  const seen: unknown[] = [];
  const journal = await Journal.open({
    fs: files,
    path: PATH,
    expected: HEADER,
    mark,
    isReadOnly,
    onRecord: (payload) => {
      seen.push(payload);
      return undefined;
    },
  });
  return { journal, seen };
}

describe('journal', () => {
  it('gives back what was appended, over restarts', async () => {
    const { files, mark } = await build();
    const { journal, seen } = await open(files, mark);
    expect(seen).to.deep.equal(PAYLOADS);
    await journal.append({ n: 5 });
    await journal.close();
    expect((await open(files, mark)).seen).to.deep.equal([...PAYLOADS, { n: 5 }]);
  });

  it('cut at any byte is the records before, or damage when a snapshot knows more', async () => {
    const { files, ends, mark } = await build();
    const whole = files.content(PATH) ?? Buffer.alloc(0);
    for (let length = 0; length < whole.length; length++) {
      const cut = new MemoryFileSystem();
      cut.put(PATH, whole.subarray(0, length));
      const count = ends.filter((end) => end <= length).length;
      if (count === 0) {
        expect((await refusal(() => open(cut))).code).to.equal('E_HALTED');
        continue;
      }
      const { journal, seen } = await open(cut);
      expect(seen, `length ${length}`).to.deep.equal(PAYLOADS.slice(0, count));
      await journal.append({ n: 9 });
      await journal.close();
      const again = await open(cut);
      expect(again.seen).to.deep.equal([...PAYLOADS.slice(0, count), { n: 9 }]);
      cut.put(PATH, whole.subarray(0, length));
      const halted = await refusal(() => open(cut, mark));
      expect(halted.code).to.equal('E_HALTED');
      expect(halted.message).to.contain(PATH);
    }
  });

  it('with any bit turned over is refused; in the last record it may be taken for a torn tail', async () => {
    const { files, ends, mark } = await build();
    const whole = files.content(PATH) ?? Buffer.alloc(0);
    const lastStart = ends.at(-2) ?? 0;
    for (let at = 0; at < whole.length; at++) {
      for (const bit of [0, 5]) {
        const bytes = Buffer.from(whole);
        bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << bit), at);
        const flipped = new MemoryFileSystem();
        flipped.put(PATH, bytes);
        const error = await refusal(() => open(flipped, mark));
        expect(error.code, `byte ${at}`).to.equal('E_HALTED');
        expect(error.context['file']).to.equal(PATH);
        if (at < lastStart) {
          expect((await refusal(() => open(flipped))).code, `byte ${at}`).to.equal('E_HALTED');
        } else {
          expect((await open(flipped)).seen).to.deep.equal(PAYLOADS.slice(0, -1));
        }
      }
    }
  });

  it('refuses records that are missing, doubled or exchanged, and other journals', async () => {
    const { files, ends } = await build();
    const whole = files.content(PATH) ?? Buffer.alloc(0);
    const [a = 0, b = 0, c = 0] = ends;
    const part = (start: number, end?: number): Buffer => whole.subarray(start, end);
    const wrong: Record<string, Buffer> = {
      missing: Buffer.concat([part(0, a), part(b)]),
      doubled: Buffer.concat([part(0, b), part(a, b), part(b)]),
      exchanged: Buffer.concat([part(0, a), part(b, c), part(a, b), part(c)]),
      zeroed: Buffer.concat([part(0, a), Buffer.alloc(b - a), part(b)]),
      'a gap': Buffer.concat([part(0, a), Buffer.alloc(3), part(a)]),
      'much behind it': Buffer.concat([whole, Buffer.alloc(2 * 1024 * 1024)]),
    };
    for (const [what, bytes] of Object.entries(wrong)) {
      const found = new MemoryFileSystem();
      found.put(PATH, bytes);
      const error = await refusal(() => open(found));
      expect(error.code, what).to.equal('E_HALTED');
      expect(error.message, what).to.match(/at byte \d+/);
    }
    const other = await refusal(() =>
      Journal.open({
        fs: files,
        path: PATH,
        expected: { ...HEADER, vmId: id(3) },
        mark: undefined,
        isReadOnly: true,
        onRecord: () => undefined,
      }),
    );
    expect(other.code).to.equal('E_HALTED');
  });

  it('of another version is refused as such', async () => {
    const { files } = await build();
    const bytes = Buffer.from(files.content(PATH) ?? []);
    bytes.writeUInt32LE(2, 8);
    const { crc32c } = await import('../../../shared/bytes/index.js');
    bytes.writeUInt32LE(crc32c(bytes.subarray(0, 60)), 60);
    files.put(PATH, bytes);
    expect((await refusal(() => open(files))).code).to.equal('E_FILE_VERSION');
  });

  it('opened for reading passes over a torn tail and changes nothing', async () => {
    const { files } = await build();
    const torn = (files.content(PATH) ?? Buffer.alloc(0)).subarray(0, -5);
    files.put(PATH, torn);
    const { journal, seen } = await open(files, undefined, true);
    expect(seen.length).to.equal(PAYLOADS.length - 1);
    await journal.close();
    expect(files.content(PATH)?.equals(torn)).to.equal(true);
  });

  it('appends nothing after a failed flush, and goes on after a full disk', async () => {
    const { files } = await build();
    const faulty = new FaultFileSystem(files);
    const { journal } = await open(faulty);
    faulty.inject({ kind: 'write', code: 'E_CAPACITY', partialBytes: 50 });
    expect((await refusal(() => journal.append({ n: 5 }))).code).to.equal('E_CAPACITY');
    await journal.append({ n: 6 });
    faulty.inject({ kind: 'flush' });
    expect((await refusal(() => journal.append({ n: 7 }))).code).to.equal('E_IO');
    expect((await refusal(() => journal.append({ n: 8 }))).code).to.equal('E_HALTED');
    expect(journal.failure?.code).to.equal('E_HALTED');
    await journal.close();
    const { seen } = await open(files);
    expect(seen.slice(0, 5)).to.deep.equal([...PAYLOADS, { n: 6 }]);
  });

  it('keeps through a power cut what it shows, also when the process died before its flush', async () => {
    const { files } = await build();
    // what is durable, told apart from what the system shows
    const power = new CrashFileSystem({ volume: files });
    const faulty = new FaultFileSystem(power);
    const { journal } = await open(faulty);
    faulty.inject({ kind: 'flush' });
    expect((await refusal(() => journal.append({ n: 5 }))).code).to.equal('E_IO');
    await journal.close();
    const again = await open(power);
    expect(again.seen).to.deep.equal([...PAYLOADS, { n: 5 }]);
    await again.journal.close();
    const { seen } = await open(power.survivors(1, 'none'));
    expect(seen).to.deep.equal(again.seen);
  });
});
