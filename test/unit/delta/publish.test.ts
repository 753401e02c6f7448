// Files that appear together: the order of flush and rename, and what is left after each failure.

import { expect } from 'chai';

import { publishFile, publishTogether } from '../../../shared/delta/index.js';
import type { FileSystem } from '../../../shared/files/index.js';
import { FaultFileSystem } from '../../support/fault-file.js';
import { type CallKind, HookedFileSystem } from '../../support/hooked-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { refusal } from './builders.js';

const DELTA = '/a/d.cbt';
const MANIFEST = '/b/d.manifest';

async function volume(): Promise<MemoryFileSystem> {
  const fs = new MemoryFileSystem();
  await fs.makeFolder('/a');
  await fs.makeFolder('/b');
  return fs;
}

async function publish(
  fs: FileSystem,
  isReplacing = false,
  between: () => void = () => undefined,
): Promise<string> {
  return publishTogether({ fs, random: new SeededRandom(1) }, { isReplacing }, async (create) => {
    const delta = await create(DELTA);
    const manifest = await create(MANIFEST);
    await delta(Buffer.from('del'));
    await manifest(Buffer.from('manifest'));
    await delta(Buffer.from('ta'));
    between();
    return 'root';
  });
}

describe('publishing files together', () => {
  it('renames nothing before all files are written, flushed and closed', async () => {
    const fs = await volume();
    const order: string[] = [];
    const watched = new Set<CallKind>(['flush', 'close', 'rename', 'flushFolder']);
    const hooked = new HookedFileSystem(fs, async (call, run) => {
      const what = call.path.includes('d.cbt') ? ' delta' : ' manifest';
      if (watched.has(call.kind)) {
        order.push(call.kind === 'flushFolder' ? `${call.kind} ${call.path}` : call.kind + what);
      }
      return run();
    });
    expect(await publish(hooked)).to.equal('root');
    expect(order).to.deep.equal([
      'flush delta',
      'close delta',
      'flush manifest',
      'close manifest',
      'rename delta',
      'rename manifest',
      'flushFolder /a',
      'flushFolder /b',
    ]);
    expect(fs.paths.sort()).to.deep.equal([DELTA, MANIFEST]);
    expect(fs.content(DELTA)?.toString()).to.equal('delta');
    expect(fs.content(MANIFEST)?.toString()).to.equal('manifest');
  });

  it('a failure before the first rename changes nothing and leaves nothing', async () => {
    for (const [kind, nth] of [
      ['create', 1],
      ['create', 2],
      ['write', 1],
      ['write', 3],
      ['flush', 1],
      ['flush', 2],
      ['close', 1],
      ['close', 2],
      ['rename', 1],
    ] as const) {
      const fs = await volume();
      fs.put(DELTA, Buffer.from('old'));
      const faulty = new FaultFileSystem(fs);
      faulty.inject({ kind, nth });
      const error = await refusal('E_IO', () => publish(faulty, true));
      expect(error.done).to.equal('nothing was changed');
      expect(fs.paths, `${kind} ${nth}`).to.deep.equal([DELTA]);
      expect(fs.content(DELTA)?.toString()).to.equal('old');
    }
  });

  it('a failure after the first rename says which files have their names', async () => {
    for (const [kind, nth, names] of [
      ['rename', 2, [DELTA]],
      ['flushFolder', 1, [DELTA, MANIFEST]],
      ['flushFolder', 2, [DELTA, MANIFEST]],
    ] as const) {
      const fs = await volume();
      const faulty = new FaultFileSystem(fs);
      faulty.inject({ kind, nth });
      const error = await refusal('E_IO', () => publish(faulty));
      expect(error.done).to.equal(`in place, but not known to be durable: ${names.join(', ')}`);
      expect(fs.paths.sort()).to.deep.equal(names);
    }
  });

  it('a target that appeared meanwhile is replaced only when it is meant', async () => {
    for (const path of [DELTA, MANIFEST]) {
      const fs = await volume();
      const appear = (): void => {
        fs.put(path, Buffer.from('of another'));
      };
      const error = await refusal('E_EXISTS', () => publish(fs, false, appear));
      expect(error.context).to.deep.equal({ file: path });
      expect(fs.paths).to.deep.equal([path]);
      expect(fs.content(path)?.toString()).to.equal('of another');
      await publish(fs, true, appear);
      expect(fs.content(DELTA)?.toString()).to.equal('delta');
      expect(fs.content(MANIFEST)?.toString()).to.equal('manifest');
    }
  });

  it('one file alone, and none at all', async () => {
    const fs = await volume();
    const seams = { fs, random: new SeededRandom(1) };
    await publishFile(seams, DELTA, { isReplacing: false }, (sink) => sink(Buffer.from('x')));
    expect(fs.content(DELTA)?.toString()).to.equal('x');
    const nothing = (): Promise<number> => Promise.resolve(3);
    expect(await publishTogether(seams, { isReplacing: false }, nothing)).to.equal(3);
    expect(fs.paths).to.deep.equal([DELTA]);
  });
});
