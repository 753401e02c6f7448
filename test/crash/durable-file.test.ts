import { expect } from 'chai';
import {
  readSmall,
  removeLeftovers,
  writeDurably,
  type FileSystem,
} from '../../shared/files/index.js';
import { CrashFileSystem, SURVIVOR_STYLES } from '../support/crash-file.js';
import { crashEverywhere } from '../support/crash-everywhere.js';
import { FaultFileSystem, type Fault } from '../support/fault-file.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { SeededRandom } from '../support/seeded-random.js';

const PATH = '/store/state.json';
// Several sectors each, so that a torn write would show.
const OLD = new SeededRandom(1).bytes(3000);
const NEW = new SeededRandom(2).bytes(5000);

function before(hasOld: boolean): MemoryFileSystem {
  const volume = new MemoryFileSystem();
  volume.addFolder('/store');
  if (hasOld) volume.put(PATH, OLD);
  return volume;
}

async function found(fileSystem: FileSystem): Promise<'old' | 'new' | 'nothing' | 'torn'> {
  const bytes = await readSmall(fileSystem, PATH, 1 << 20);
  if (bytes === undefined) return 'nothing';
  if (bytes.equals(OLD)) return 'old';
  return bytes.equals(NEW) ? 'new' : 'torn';
}

const write = async (fileSystem: FileSystem): Promise<void> => {
  await writeDurably(fileSystem, PATH, NEW, new SeededRandom(7));
};

describe('crash: durable small files', () => {
  for (const hasOld of [true, false]) {
    const oldState = hasOld ? 'old' : 'nothing';

    it(`holds ${oldState} or new, never a mix; new after success (before: ${oldState})`, async () => {
      const seen = new Set<string>();
      const stateCount = await crashEverywhere({
        volume: before(hasOld),
        run: write,
        seedCount: 40,
        check: async (volume, place) => {
          const state = await found(volume);
          seen.add(state);
          expect(state).to.be.oneOf(place.hasFinished ? ['new'] : [oldState, 'new']);
        },
      });
      expect(stateCount).to.be.greaterThan(300);
      expect([...seen].sort()).to.deep.equal(['new', oldState].sort());
    });

    it(`survives a second crash in the retry (before: ${oldState})`, async () => {
      await crashEverywhere({
        volume: before(hasOld),
        run: write,
        seedCount: 3,
        check: async (volume, place) => {
          await crashEverywhere({
            volume,
            firstSeed: place.seed,
            seedCount: 3,
            run: async (fileSystem) => {
              await removeLeftovers(fileSystem, PATH);
              await writeDurably(fileSystem, PATH, NEW, new SeededRandom(8));
            },
            check: async (again, second) => {
              const allowed = second.hasFinished ? ['new'] : [oldState, 'new'];
              expect(await found(again)).to.be.oneOf(allowed);
              if (second.hasFinished) expect(await again.list('/store')).to.have.length(1);
            },
          });
        },
      });
    });
  }

  it('leaves nothing behind that removeLeftovers does not find', async () => {
    await crashEverywhere({
      volume: before(true),
      run: write,
      check: async (volume) => {
        await removeLeftovers(volume, PATH);
        expect(await volume.list('/store')).to.deep.equal(['state.json']);
      },
    });
  });

  const faults: (Fault & { readonly allowed: readonly string[] })[] = [
    { kind: 'create', code: 'E_CAPACITY', allowed: ['old'] },
    { kind: 'write', code: 'E_CAPACITY', allowed: ['old'] },
    { kind: 'write', code: 'E_CAPACITY', partialBytes: 700, allowed: ['old'] },
    { kind: 'write', isAfter: true, allowed: ['old'] },
    { kind: 'flush', allowed: ['old'] },
    { kind: 'flush', isAfter: true, allowed: ['old'] },
    { kind: 'close', allowed: ['old'] },
    { kind: 'rename', allowed: ['old'] },
    { kind: 'rename', isAfter: true, allowed: ['old', 'new'] },
    { kind: 'flushFolder', allowed: ['old', 'new'] },
    { kind: 'flushFolder', isAfter: true, allowed: ['old', 'new'] },
  ];
  for (const { allowed, ...fault } of faults) {
    const when = fault.isAfter === true ? 'after the work' : 'before the work';
    const part = fault.partialBytes === undefined ? '' : ', in part';
    it(`reports a failed ${fault.kind} (${when}${part}); ${allowed.join(' or ')} stays`, async () => {
      const crash = new CrashFileSystem({ volume: before(true) });
      const fileSystem = new FaultFileSystem(crash);
      fileSystem.inject(fault);
      const failure = await write(fileSystem).then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(failure).to.have.property('code', fault.code ?? 'E_IO');
      expect(fileSystem.failureCount).to.equal(1);
      // What a reader sees now, and what is found after a power cut.
      expect(await found(crash)).to.be.oneOf(allowed);
      for (const style of SURVIVOR_STYLES) {
        for (let seed = 0; seed < 10; seed++) {
          expect(await found(crash.survivors(seed, style))).to.be.oneOf(allowed);
        }
      }
    });
  }

  it('takes its new file away when the disk is full', async () => {
    const volume = before(true);
    const fileSystem = new FaultFileSystem(volume);
    fileSystem.inject({ kind: 'write', code: 'E_CAPACITY', partialBytes: 100 });
    const failure: unknown = await write(fileSystem).catch((error: unknown) => error);
    expect(failure).to.have.property('code', 'E_CAPACITY');
    expect(await volume.list('/store')).to.deep.equal(['state.json']);
  });
});
