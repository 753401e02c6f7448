// The double that judges crash safety is judged here: it must show every outcome that its model
// allows, none that it forbids, and find the classic mistakes.

import { expect } from 'chai';
import type { BlockFile, FileSystem } from '../../../shared/files/index.js';
import { CrashError, CrashFileSystem } from '../../support/crash-file.js';
import { crashEverywhere } from '../../support/crash-everywhere.js';
import { FaultFileSystem } from '../../support/fault-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';

async function withFile(crash: CrashFileSystem, content: Buffer): Promise<BlockFile> {
  const file = await crash.open('/a', { mode: 'create' });
  await file.write(0, content);
  await file.flush();
  await crash.flushFolder('/');
  return file;
}

/** The first byte of each sector, over many seeds: "1020" and so on. */
function outcomes(crash: CrashFileSystem, seedCount = 400): Set<string> {
  const seen = new Set<string>();
  for (let seed = 0; seed < seedCount; seed++) {
    const bytes = crash.survivors(seed, 'random').content('/a');
    let text = '';
    for (let i = 0; i < (bytes?.length ?? 0); i += 512) text += String(bytes?.[i]);
    seen.add(bytes === undefined ? 'gone' : text);
  }
  return seen;
}

describe('crash double', () => {
  it('keeps any subset of unflushed sectors, also inside one write', async () => {
    const crash = new CrashFileSystem();
    const file = await withFile(crash, Buffer.alloc(1536));
    await file.write(0, Buffer.alloc(1536, 1));
    const all = ['000', '001', '010', '011', '100', '101', '110', '111'];
    expect([...outcomes(crash)].sort()).to.deep.equal(all);
  });

  it('gives a sector one of its versions, never a mix of two', async () => {
    const crash = new CrashFileSystem();
    const file = await withFile(crash, Buffer.alloc(512));
    await file.write(0, Buffer.alloc(256, 1));
    await file.write(256, Buffer.alloc(256, 2));
    const seen = new Set<string>();
    for (let seed = 0; seed < 200; seed++) {
      const bytes = crash.survivors(seed, 'random').content('/a');
      seen.add(`${String(bytes?.[0])}${String(bytes?.[256])}`);
    }
    // "02" would be the second write without the first, in one sector.
    expect([...seen].sort()).to.deep.equal(['00', '10', '12']);
  });

  it('makes durable what had returned before the flush, and nothing else', async () => {
    const crash = new CrashFileSystem();
    const file = await withFile(crash, Buffer.alloc(1024));
    await file.write(0, Buffer.alloc(512, 1));
    const underWay = file.write(512, Buffer.alloc(512, 2));
    await file.flush();
    await underWay;
    expect([...outcomes(crash)].sort()).to.deep.equal(['10', '12']);
    await file.flush();
    expect([...outcomes(crash)]).to.deep.equal(['12']);
  });

  it('keeps or loses sizes on their own', async () => {
    const crash = new CrashFileSystem();
    const file = await withFile(crash, Buffer.alloc(1024, 1));
    await file.truncate(512);
    await file.write(1024, Buffer.alloc(512, 2));
    const seen = [...outcomes(crash)].sort();
    // Cut or not; then extended in zeros, with the data, or not at all.
    expect(seen).to.deep.equal(['1', '100', '102', '11', '110', '112']);
  });

  it('forgets names until their folder was flushed, whatever was flushed of the file', async () => {
    const crash = new CrashFileSystem();
    const file = await crash.open('/a', { mode: 'create' });
    await file.write(0, Buffer.alloc(512, 1));
    await file.flush();
    expect([...outcomes(crash)].sort()).to.deep.equal(['1', 'gone']);
    await crash.flushFolder('/');
    expect([...outcomes(crash)]).to.deep.equal(['1']);
    await crash.remove('/a');
    expect([...outcomes(crash)].sort()).to.deep.equal(['1', 'gone']);
  });

  it('may show the new name of a file whose data was lost', async () => {
    const crash = new CrashFileSystem();
    const file = await crash.open('/b', { mode: 'create' });
    await file.write(0, Buffer.alloc(512, 1));
    await crash.rename('/b', '/a');
    const found = crash.survivors(1, 'names');
    expect(found.paths).to.deep.equal(['/a']);
    expect(found.content('/a')).to.have.length(0);
  });

  it('needs both folders for a rename between two', async () => {
    const crash = new CrashFileSystem();
    await crash.makeFolder('/x');
    await withFile(crash, Buffer.alloc(512, 1));
    await crash.rename('/a', '/x/a');
    await crash.flushFolder('/x');
    expect(crash.survivors(1, 'none').paths).to.deep.equal(['/a']);
    await crash.flushFolder('/');
    expect(crash.survivors(1, 'none').paths).to.deep.equal(['/x/a']);
  });

  it('rejects every call after the crash, but close()', async () => {
    const crash = new CrashFileSystem({ crashAt: 2 });
    const file = await crash.open('/a', { mode: 'create' });
    const calls: (() => Promise<unknown>)[] = [
      () => file.write(0, Buffer.from('x')),
      () => file.write(0, Buffer.from('x')),
      () => file.read(0, Buffer.alloc(1)),
      () => file.size(),
      () => file.truncate(0),
      () => file.flush(),
      () => file.nextData(0),
      () => crash.open('/a', { mode: 'read' }),
      () => crash.status('/a'),
      () => crash.list('/'),
      () => crash.rename('/a', '/b'),
      () => crash.remove('/a'),
      () => crash.flushFolder('/'),
    ];
    for (const call of calls) {
      const error: unknown = await call().catch((reason: unknown) => reason);
      expect(error).to.be.instanceOf(CrashError);
    }
    await file.close();
    expect(crash.operationCount).to.equal(2);
  });

  it('gives the same state for the same seed', async () => {
    const crash = new CrashFileSystem();
    const file = await withFile(crash, Buffer.alloc(64 * 512));
    await file.write(0, Buffer.alloc(64 * 512, 1));
    const contents = [3, 3, 4].map((seed) => crash.survivors(seed, 'random').content('/a'));
    expect(contents[0]?.equals(contents[1] ?? Buffer.alloc(0))).to.equal(true);
    expect(contents[0]?.equals(contents[2] ?? Buffer.alloc(0))).to.equal(false);
  });

  const OLD = Buffer.alloc(2048, 1);
  const NEW = Buffer.alloc(2048, 2);
  type Step = 'write' | 'flush' | 'rename' | 'flushFolder';
  const replaceBy = async (fileSystem: FileSystem, steps: readonly Step[]): Promise<void> => {
    const file = await fileSystem.open('/new', { mode: 'create' });
    for (const step of steps) {
      if (step === 'write') await file.write(0, NEW);
      if (step === 'flush') await file.flush();
      if (step === 'rename') await fileSystem.rename('/new', '/a');
      if (step === 'flushFolder') await fileSystem.flushFolder('/');
    }
  };
  const judge = async (steps: readonly Step[]): Promise<unknown> => {
    const volume = new MemoryFileSystem();
    volume.put('/a', OLD);
    return crashEverywhere({
      volume,
      run: (fileSystem) => replaceBy(fileSystem, steps),
      check: async (found, { hasFinished }) => {
        await Promise.resolve();
        const bytes = found.content('/a') ?? Buffer.alloc(0);
        expect(bytes.equals(NEW) || (!hasFinished && bytes.equals(OLD))).to.equal(true);
      },
    }).catch((error: unknown) => error);
  };

  it('accepts write, flush, rename, flush of the folder', async () => {
    expect(await judge(['write', 'flush', 'rename', 'flushFolder'])).to.be.a('number');
  });

  const mistakes: Step[][] = [
    ['write', 'rename', 'flushFolder'],
    ['write', 'rename', 'flush', 'flushFolder'],
    ['write', 'flush', 'rename'],
    ['flush', 'write', 'rename', 'flushFolder'],
    ['write', 'flush', 'flushFolder', 'rename'],
  ];
  for (const steps of mistakes) {
    it(`finds the mistake in: ${steps.join(', ')}`, async () => {
      expect(await judge(steps)).to.be.instanceOf(Error);
    });
  }

  it('finds code that believes the second flush after a failed one', async () => {
    const crash = new CrashFileSystem();
    const fileSystem = new FaultFileSystem(crash);
    const file = await fileSystem.open('/a', { mode: 'create' });
    await fileSystem.flushFolder('/');
    await file.write(0, NEW);
    fileSystem.inject({ kind: 'flush' });
    const failure: unknown = await file.flush().catch((error: unknown) => error);
    expect(failure).to.have.property('code', 'E_IO');
    await file.flush();
    expect(crash.survivors(1, 'none').content('/a')).to.have.length(0);
  });
});
