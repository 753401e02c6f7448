// Deltas that came by the other road: what does not fit in every field is refused and changes nothing;
// what fits becomes the same point as by the direct road.

import { expect } from 'chai';
import { CELL_BYTES, encodeBatch, hashCell } from '../../../shared/delta/index.js';
import type { FileSystem } from '../../../shared/files/index.js';
import { crashEverywhere } from '../../support/crash-everywhere.js';
import { FaultFileSystem } from '../../support/fault-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { importDisk, pointOf } from './import-double.js';
import {
  type CyclePlan,
  expectPoint,
  id,
  openSite,
  pointIds,
  type Site,
  SourceVm,
} from './source-double.js';

const SLOW = process.env['SLOW'] === '1';

/** A VM with one point at the receiver, and the plan of the next. */
function makeVm(): { vm: SourceVm; first: CyclePlan; next: CyclePlan } {
  const vm = new SourceVm(1, [11 * CELL_BYTES, 2 * CELL_BYTES + 512], 'SQL01');
  for (const cell of [0, 1, 3, 4, 10]) vm.write(0, cell, cell + 1);
  for (const cell of [0, 2]) vm.write(1, cell, cell + 50);
  const first = vm.plan(1, undefined, [undefined, undefined]);
  vm.write(0, 1, 100);
  vm.write(0, 3, 0);
  vm.write(0, 4, 0);
  vm.write(0, 9, 101);
  vm.write(1, 2, 102);
  const next = vm.plan(2, first.pointId, [[1, 3, 4, 9], [2]]);
  return { vm, first, next };
}

describe('import of a delta', () => {
  let site: Site;
  const { vm, first, next } = makeVm();

  beforeEach(async () => {
    site = await openSite(new MemoryFileSystem());
    await vm.replicate(site, first);
  });

  afterEach(() => site.receiver.close());

  it('lists the point when all disks are there, all or none', async () => {
    const half = await importDisk(site, vm, next, 1);
    expect(half).to.include({ isCommitted: false, wasKnown: false });
    expect(half.missingDisks).to.deep.equal([0]);
    expect(await pointIds(site, vm.name)).to.deep.equal([first.pointId]);
    const whole = await importDisk(site, vm, next, 0);
    expect(whole.isCommitted).to.equal(true);
    expect(pointOf(whole)).to.equal(next.pointId);
    await expectPoint(site, vm, next);
    await expectPoint(site, vm, first);
  });

  it('has the same roots as the direct road', async () => {
    for (const disk of [0, 1]) await importDisk(site, vm, next, disk);
    const direct = await openSite(new MemoryFileSystem());
    await vm.replicate(direct, first);
    await vm.replicate(direct, next);
    const rootsOf = ({ receiver }: Site): string[] =>
      receiver.desks[0]?.vm.protection.head?.disks.map(({ root }) => root) ?? [];
    expect(rootsOf(site)).to.deep.equal(rootsOf(direct));
    expect(rootsOf(site)).to.have.length(2);
    await direct.receiver.close();
  });

  it('may be repeated at any time and changes nothing then', async () => {
    await importDisk(site, vm, next, 0);
    expect((await importDisk(site, vm, next, 0)).isCommitted).to.equal(false);
    await importDisk(site, vm, next, 1);
    for (const disk of [0, 1]) {
      expect(await importDisk(site, vm, next, disk)).to.include({
        isCommitted: true,
        wasKnown: true,
      });
    }
    expect(await pointIds(site, vm.name)).to.have.length(2);
  });

  it('names the field that does not fit, and takes nothing', async () => {
    const cases = [
      ['E_DISK_MISMATCH', 'vm', { header: { vmId: id(9) } }],
      ['E_DISK_MISMATCH', 'disk', { header: { diskId: id(9) } }],
      ['E_DISK_MISMATCH', 'disk', { disk: 0 }],
      ['E_DISK_MISMATCH', 'disk', { disk: 7 }],
      ['E_DISK_MISMATCH', 'generation', { header: { diskGeneration: 1 } }],
      ['E_DISK_MISMATCH', 'size', { header: { diskSizeBytes: 3 * CELL_BYTES } }],
      ['E_DISK_MISMATCH', 'logicalSector', { header: { logicalSectorBytes: 4096 } }],
      ['E_DISK_MISMATCH', 'physicalSector', { header: { physicalSectorBytes: 512 } }],
      ['E_STALE_EPOCH', 'epoch', { header: { epoch: 2n } }],
      ['E_DELTA_PARENT', 'parent', { header: { parentPoint: id(5) } }],
    ] as const;
    for (const [code, field, change] of cases) {
      const error = await refusal(() => importDisk(site, vm, next, 1, change));
      expect(error.code, field).to.equal(code);
      expect(error.context['field'], field).to.equal(field);
      expect(error.done).to.equal('nothing of the delta was taken');
    }
    expect(await pointIds(site, vm.name)).to.deep.equal([first.pointId]);
    for (const disk of [0, 1]) await importDisk(site, vm, next, disk);
    await expectPoint(site, vm, next);
  });

  it('says what is missing when it comes out of order', async () => {
    vm.write(0, 2, 200);
    const third = vm.plan(3, next.pointId, [[2], []]);
    const early = await refusal(() => importDisk(site, vm, third, 0));
    expect(early.code).to.equal('E_DELTA_PARENT');
    expect(early.hint).to.contain(first.pointId).and.to.contain(next.pointId);
    for (const plan of [next, third]) {
      for (const disk of [0, 1]) await importDisk(site, vm, plan, disk);
    }
    await expectPoint(site, vm, third);
    const other = vm.plan(4, first.pointId, [[2], []]);
    const late = await refusal(() => importDisk(site, vm, other, 0));
    expect(late.code).to.equal('E_DELTA_PARENT');
    expect(late.message).to.contain('older point');
  });

  it('is refused for a point that is there with other cells', async () => {
    for (const disk of [0, 1]) await importDisk(site, vm, next, disk);
    const error = await refusal(() => importDisk(site, vm, next, 1, { root: Buffer.alloc(32, 1) }));
    expect(error.code).to.equal('E_EXISTS');
  });

  it('does not complete a disk whose root, cells or shape are wrong', async () => {
    const bytes = Buffer.alloc(512, 7);
    const forged = encodeBatch({
      kind: 'cells',
      diskIndex: 1,
      entries: [{ kind: 'data', cell: 2, hash: hashCell(bytes) }],
      payload: bytes,
    });
    const lying = Buffer.from(forged);
    lying.writeUInt8(8, lying.length - 1);
    const named = encodeBatch({
      kind: 'cells',
      diskIndex: 1,
      entries: [{ kind: 'reuse', cell: 2, hash: hashCell(bytes) }],
      payload: Buffer.alloc(0),
    });
    const zeros = encodeBatch({
      kind: 'cells',
      diskIndex: 1,
      entries: [{ kind: 'zero', cell: 1, count: 9 }],
      payload: Buffer.alloc(0),
    });
    const cases: readonly (readonly [string, string, (all: Buffer[]) => Buffer[]])[] = [
      ['other cells', 'E_DELTA_MANIFEST', (all) => [forged, ...all.slice(1)]],
      ['a cell too few', 'E_DELTA_MANIFEST', (all) => all.slice(1)],
      ['a lying hash', 'E_DELTA_HASH', (all) => [lying, ...all.slice(1)]],
      ['a named cell', 'E_PROTOCOL', (all) => [named, ...all.slice(1)]],
      ['a run that leaves the disk', 'E_PROTOCOL', (all) => [zeros, ...all.slice(1)]],
      ['something behind the end', 'E_PROTOCOL', (all) => [...all, ...all]],
    ];
    for (const [what, code, messages] of cases) {
      const fresh = await openSite(new MemoryFileSystem());
      await vm.replicate(fresh, first);
      const error = await refusal(() => importDisk(fresh, vm, next, 1, { messages }));
      expect(error.code, what).to.equal(code);
      const half = await importDisk(fresh, vm, next, 0);
      expect(half.isCommitted, what).to.equal(what === 'something behind the end');
      expect(await pointIds(fresh, vm.name), what).to.have.length(half.isCommitted ? 2 : 1);
      await fresh.receiver.close();
    }
  });

  it('goes on where a broken stream ended', async () => {
    const broken = importDisk(site, vm, next, 0, { breakAfter: 3 });
    expect(await broken.then(() => '', String)).to.contain('the line broke');
    await importDisk(site, vm, next, 1);
    const done = await importDisk(site, vm, next, 0);
    expect(done.isCommitted).to.equal(true);
    await expectPoint(site, vm, next);
  });

  it('gives way to the source, which then goes on from its own point', async () => {
    await importDisk(site, vm, next, 0);
    const own = vm.plan(7, first.pointId, [[1, 2, 3, 4, 9], [2]]);
    await vm.replicate(site, own);
    const late = await refusal(() => importDisk(site, vm, next, 1));
    expect(late.code).to.equal('E_DELTA_PARENT');
    await expectPoint(site, vm, own);
  });

  it('is refused for a VM without a point, and for one that is paused', async () => {
    const empty = await openSite(new MemoryFileSystem());
    await vm.open(empty, first);
    expect((await refusal(() => importDisk(empty, vm, next, 0))).code).to.equal('E_NO_POINT');
    await empty.receiver.close();
    await site.control().pause({ vm: vm.name, isPaused: true });
    expect((await refusal(() => importDisk(site, vm, next, 0))).code).to.equal('E_STATE');
  });

  it('says that the volume is full, keeps the points, and goes on when there is room', async () => {
    const faults = new FaultFileSystem(new MemoryFileSystem());
    const full = await openSite(faults);
    await vm.replicate(full, first);
    faults.inject({ kind: 'write', path: /\.delta$/, code: 'E_CAPACITY', times: Infinity });
    expect((await refusal(() => importDisk(full, vm, next, 0))).code).to.equal('E_CAPACITY');
    faults.mend();
    await expectPoint(full, vm, first);
    for (const disk of [0, 1]) await importDisk(full, vm, next, disk);
    await expectPoint(full, vm, next);
    await full.receiver.close();
  });

  it('survives a power cut at every step', async function () {
    this.timeout(SLOW ? 600_000 : 120_000);
    const volume = new MemoryFileSystem();
    const before = await openSite(volume);
    await vm.replicate(before, first);
    await before.receiver.close();
    const work = async (fs: FileSystem): Promise<boolean> => {
      const at = await openSite(fs, { seed: 5 });
      try {
        await importDisk(at, vm, next, 1);
        return (await importDisk(at, vm, next, 0)).isCommitted;
      } finally {
        await at.receiver.close().catch(() => undefined);
      }
    };
    const stateCount = await crashEverywhere({
      volume,
      run: async (fs) => {
        await work(fs);
      },
      seedCount: SLOW ? 4 : 1,
      operationsMax: SLOW ? undefined : 30,
      check: async (found, { hasFinished }) => {
        const now = await openSite(found);
        const listed = await pointIds(now, vm.name);
        expect(listed).to.deep.equal([first.pointId, next.pointId].slice(0, listed.length));
        if (hasFinished) expect(listed).to.have.length(2);
        for (const plan of [first, next].slice(0, listed.length)) await expectPoint(now, vm, plan);
        await now.receiver.close();
        // the same commands once more complete it
        expect(await work(found)).to.equal(true);
        const end = await openSite(found);
        await expectPoint(end, vm, next);
        await end.receiver.close();
      },
    });
    expect(stateCount).to.be.above(30);
  });
});
