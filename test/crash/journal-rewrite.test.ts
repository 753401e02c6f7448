// Power loss at every step of a journal that is written anew, and a device that fails under it: after
// each the one journal or the other stands, with everything that was acknowledged, and the rule that a
// journal may not end before its snapshot holds as before.

import { expect } from 'chai';
import { VmLayout } from '../../dr-receiver/store/layout.js';
import type { JournalRecord } from '../../dr-receiver/store/records.js';
import { VmStore } from '../../dr-receiver/store/vm-store.js';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import { crashEverywhere } from '../support/crash-everywhere.js';
import { FaultFileSystem } from '../support/fault-file.js';
import type { CallKind } from '../support/hooked-file.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import {
  commitRecord,
  cycleId,
  pointId,
  protectRecord,
  STORE_ID,
  VM_ID,
} from '../support/protection-records.js';
import { SeededRandom } from '../support/seeded-random.js';

const FOLDER = '/vms/1';
/** Some fifteen commits. */
const REWRITE_ABOVE = 12_000;
let opened = 0;

async function openVm(fs: FileSystem, isReadOnly = false): Promise<VmStore> {
  const seams = {
    fs,
    random: new SeededRandom(++opened),
    storeId: STORE_ID,
    isReadOnly,
    rewriteAboveBytes: REWRITE_ABOVE,
  };
  const layout = new VmLayout(FOLDER);
  if ((await fs.status(layout.journal)) !== undefined || isReadOnly) {
    return VmStore.open(VM_ID, layout, seams);
  }
  return VmStore.create(layout, protectRecord(), seams);
}

/** Three points are kept. */
function commit(n: number): JournalRecord {
  return commitRecord(n, {
    delisted: n > 3 ? [pointId(n - 3)] : [],
    definition: 'ZGVm'.repeat(100),
    pointCount: Math.min(n, 3),
  });
}

async function commitTo(vm: VmStore, last: number): Promise<void> {
  const head = vm.protection.head?.pointId;
  const first = head === undefined ? 1 : Number.parseInt(head.slice(-12), 16) + 1;
  for (let n = first; n <= last; n++) await vm.change(() => vm.append(commit(n)));
}

/** A VM whose next commit makes its journal long enough. */
async function almostLong(): Promise<{ volume: MemoryFileSystem; count: number }> {
  const volume = new MemoryFileSystem();
  const vm = await openVm(volume);
  let count = 0;
  const length = (): number => volume.content(`${FOLDER}/journal`)?.length ?? 0;
  while (length() < REWRITE_ABOVE - 1500) await commitTo(vm, ++count);
  await vm.close();
  return { volume, count };
}

function archivesOf(volume: MemoryFileSystem): string[] {
  return volume.paths.filter((path) => /\/journal\.\d+$/.test(path));
}

/** Points `n - 2` to `n`, for an `n` from `least` to `most`. */
function expectPoints(vm: VmStore, least: number, most: number, place = ''): number {
  expect(vm.halt?.message, place).to.equal(undefined);
  const { listed, owner, segments } = vm.protection;
  expect(owner).to.equal('site-a');
  const n = Number.parseInt(listed.at(-1)?.pointId.slice(-12) ?? '0', 16);
  expect(n).to.be.within(least, most);
  expect(listed.map((point) => point.pointId)).to.deep.equal([n - 2, n - 1, n].map(pointId));
  expect(listed.every(({ definition }) => definition === 'ZGVm'.repeat(100))).to.equal(true);
  expect(segments.all[0]?.layers.length).to.equal(n);
  return n;
}

describe('journal rewrite', function () {
  this.timeout(300_000);

  it('keeps what was acknowledged through a power cut at every operation', async () => {
    const { volume, count } = await almostLong();
    let told = count;
    let hasRewritten = false;
    const states = await crashEverywhere({
      volume,
      seedCount: 2,
      run: async (fs) => {
        told = count;
        const vm = await openVm(fs);
        try {
          for (let n = count + 1; n <= count + 20; n++) {
            await commitTo(vm, n);
            told = n;
          }
        } finally {
          await vm.close();
        }
      },
      check: async (found) => {
        const least = told;
        hasRewritten ||= archivesOf(found).length > 0;
        const reader = await openVm(found, true);
        expectPoints(reader, least, count + 20);
        await reader.close();
        const vm = await openVm(found);
        const n = expectPoints(vm, least, count + 20);
        expect(vm.protection.answer(cycleId(n))).to.have.property('pointId', pointId(n));
        await commitTo(vm, n + 3);
        await vm.close();
        const again = await openVm(found);
        expectPoints(again, n + 3, n + 3);
        await again.close();
        expect(found.paths.filter((path) => path.endsWith('.unfinished'))).to.deep.equal([]);
      },
    });
    expect(hasRewritten).to.equal(true);
    expect(states).to.be.greaterThan(100);
  });

  it('stands every fault of a device, once or for good', async () => {
    const { volume, count } = await almostLong();
    const kinds: readonly CallKind[] = [
      ...(['open', 'create', 'read', 'write', 'size', 'flush'] as const),
      ...(['rename', 'remove', 'flushFolder', 'status', 'list'] as const),
    ];
    for (const kind of kinds) {
      for (const times of [1, Infinity]) {
        for (let trial = 0; trial < 24; trial++) {
          const nth = 1 + Math.floor(trial / 2);
          // a file that was opened and not handed out would stay locked here
          const isAfter = trial % 2 === 1 && kind !== 'open' && kind !== 'create';
          const copy = volume.clone();
          const faulty = new FaultFileSystem(copy);
          const vm = await openVm(faulty);
          faulty.inject({ kind, times, nth, isAfter });
          let told = count;
          for (let n = count + 1; n <= count + 20; n++) {
            try {
              await commitTo(vm, n);
              told = n;
            } catch (error) {
              if (!(error instanceof DrError)) throw error;
              break;
            }
          }
          faulty.mend();
          await vm.close();
          const found = await openVm(copy);
          const place = `${kind} ${nth}, times ${times}${isAfter ? ', its answer lost' : ''}`;
          expectPoints(found, told, told + 1, place);
          await found.close();
        }
      }
    }
  });

  it('halts a journal that ends before its snapshot, rewritten or not', async () => {
    const { volume, count } = await almostLong();
    const vm = await openVm(volume);
    await commitTo(vm, count + 20);
    await vm.close();
    const [archive = ''] = archivesOf(volume);
    const before = volume.content(archive) ?? Buffer.alloc(0);
    const whole = volume.content(`${FOLDER}/journal`) ?? Buffer.alloc(0);
    expect(archive).not.to.equal('');
    // the journal before the rewrite, with the snapshot after it
    volume.put(`${FOLDER}/journal`, before);
    const old = await openVm(volume);
    expect(old.halt?.code).to.equal('E_HALTED');
    expect(old.halt?.message).to.match(/its snapshot knows/);
    await old.close();
    // every cut of the new one: inside the state or behind it
    for (let length = 64; length < whole.length; length += 97) {
      const cut = volume.clone();
      cut.put(`${FOLDER}/journal`, whole.subarray(0, length));
      const halted = await openVm(cut);
      expect(halted.halt?.code, `length ${length}`).to.equal('E_HALTED');
      expect(cut.content(`${FOLDER}/journal`)?.length).to.equal(length);
      await halted.close();
    }
    // a snapshot from long before says nothing against it
    const other = await almostLong();
    const early = other.volume.content(`${FOLDER}/protection.json`) ?? Buffer.alloc(0);
    volume.put(`${FOLDER}/journal`, whole);
    volume.put(`${FOLDER}/protection.json`, early);
    const later = await openVm(volume);
    expectPoints(later, count + 20, count + 20);
    await later.close();
  });

  it('bounds the archives, and the journal follows what is alive', async () => {
    const volume = new MemoryFileSystem();
    const vm = await openVm(volume);
    await commitTo(vm, 400);
    await vm.close();
    const state = vm.protection.state;
    const found = await openVm(volume);
    expect(found.protection.state).to.deep.equal(state);
    await found.close();
    expect(archivesOf(volume).length).to.be.greaterThan(2);
    const stateBytes = JSON.stringify(state).length;
    const length = volume.content(`${FOLDER}/journal`)?.length ?? 0;
    expect(length).to.be.lessThan(2 * stateBytes + 2 * REWRITE_ABOVE);
  });
});
