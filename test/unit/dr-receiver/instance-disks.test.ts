// Disks that a VM at this site runs on: as of a point, over the base, beside pruning and reclaiming.

import { expect } from 'chai';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import { Lab } from '../../../shared/hypervisor/lab/index.js';
import { createVhdx, openVhdx } from '../../../shared/vhdx/index.js';
import { materialisePoint } from '../../../dr-receiver/failover/disks.js';
import {
  instanceDiskPaths,
  leftoverInstanceFiles,
  removeInstanceDisks,
} from '../../../dr-receiver/failover/instance-files.js';
import { instanceSpace } from '../../../dr-receiver/failover/instance-space.js';
import { type Instance, ORDINARY, type TestSession } from '../../../dr-receiver/failover/model.js';
import type { VmStore } from '../../../dr-receiver/store/vm-store.js';
import { FakeClock } from '../../support/fake-clock.js';
import { FaultFileSystem } from '../../support/fault-file.js';
import { HookedFileSystem } from '../../support/hooked-file.js';
import { labSeams } from '../../support/lab-model.js';
import { refusal } from '../../support/refusal.js';
import { SeededRandom } from '../../support/seeded-random.js';
import {
  diskSeams,
  expectDisks,
  instanceNames,
  instanceSite,
  LIMITS,
  OPERATION,
  OTHER,
  planned,
  pointOf,
  vmOf,
} from './instance-site.js';
import { expectPoint, openSite, pointIds, type Site } from './source-double.js';

const DAY_MS = 24 * 60 * 60 * 1000;

async function reclaimAll({ receiver }: Site): Promise<void> {
  while (await receiver.maintenance.maintain()) {
    // until nothing is left to do
  }
}

function instanceOf(pointId: Instance['pointId'], disks: Instance['disks']): Instance {
  return {
    operationId: OPERATION,
    pointId,
    vmName: 'VM1',
    vmId: undefined,
    disks,
    poweredOnAtMs: 0,
    checks: 'pending',
    isPlanned: false,
    servedUntilMs: 0,
  };
}

function sessionOf(instance: Instance): TestSession {
  return {
    operationId: instance.operationId,
    phase: 'running',
    step: 'T5',
    startedAtMs: 1,
    deadlineMs: 0,
    by: 'operator',
    isKept: false,
    parameters: {},
    instance,
    cause: undefined,
  };
}

async function setInstance(vm: VmStore, instance: Instance | undefined): Promise<void> {
  const failover = { ...ORDINARY, instance };
  const { epoch } = vm.protection;
  await vm.change(() =>
    vm.append({ kind: 'failover', atMs: 1, by: 'operator', epoch: epoch.toString(), failover }),
  );
}

async function setSession(vm: VmStore, test: TestSession | null): Promise<void> {
  const session = { atMs: 1, by: 'operator', operationId: OPERATION, test, proof: null };
  await vm.change(() => vm.append({ kind: 'test', ...session }));
}

describe('the disks of a point for a VM that runs here', () => {
  it('show the point, whichever it is, and leave the base and the points as they were', async () => {
    const given = await instanceSite();
    const site = await openSite(given.volume);
    const vm = await vmOf(site);
    const bases = given.volume.paths.filter((path) => path.endsWith('base.vhdx'));
    const before = bases.map((path) => Buffer.from(given.volume.content(path) ?? ''));
    for (const index of given.plans.keys()) {
      const plan = planned(given, index);
      const seams = diskSeams(given.volume);
      const disks = await materialisePoint(vm, pointOf(vm, plan), OPERATION, seams);
      await expectDisks(given.volume, vm, disks, plan.images);
      expect(instanceNames(given.volume)).to.deep.equal([
        `${OPERATION}.0.protective.vhdx`,
        `${OPERATION}.0.vhdx`,
        `${OPERATION}.1.protective.vhdx`,
        `${OPERATION}.1.vhdx`,
      ]);
      await removeInstanceDisks(given.volume, vm, OPERATION);
      expect(instanceNames(given.volume)).to.deep.equal([]);
    }
    expect(bases.map((path) => given.volume.content(path))).to.deep.equal(before);
    for (const plan of given.plans) await expectPoint(site, given.source, plan);
    await site.receiver.close();
  });

  it('are kept when the call comes again, with what a guest wrote; other points get others', async () => {
    const given = await instanceSite();
    const site = await openSite(given.volume);
    const vm = await vmOf(site);
    const { volume } = given;
    const plan = planned(given, 4);
    const disks = await materialisePoint(vm, pointOf(vm, plan), OPERATION, diskSeams(volume));
    const [disk] = disks;
    if (disk === undefined) throw new Error('there are two disks');
    const { protective, materialised } = instanceDiskPaths(vm.layout, disk);
    const sealed = Buffer.from(volume.content(materialised) ?? '');
    const images = plan.images.map((image) => Buffer.from(image));
    images[0]?.write('guest', 2 * CELL_BYTES);
    const open = await openVhdx(protective, {
      ...{ fs: volume, random: new SeededRandom(7), isWritable: true },
    });
    await open.write(2 * CELL_BYTES, Buffer.from('guest'));
    // whoever runs on it has it open
    const again = await materialisePoint(vm, pointOf(vm, plan), OPERATION, diskSeams(volume));
    await open.close();
    expect(again).to.deep.equal(disks);
    await materialisePoint(vm, pointOf(vm, plan), OPERATION, diskSeams(volume));
    await expectDisks(volume, vm, disks, images);
    expect(volume.content(materialised)?.equals(sealed)).to.equal(true);
    const beside = planned(given, 1);
    const others = await materialisePoint(vm, pointOf(vm, beside), OTHER, diskSeams(volume));
    await expectDisks(volume, vm, others, beside.images);
    await expectDisks(volume, vm, disks, images);
    await removeInstanceDisks(volume, vm, OTHER);
    await expectDisks(volume, vm, disks, images);
    // the same operation cannot take another point from under a guest
    const error = await refusal(() =>
      materialisePoint(vm, pointOf(vm, beside), OPERATION, diskSeams(volume)),
    );
    expect(error.code).to.equal('E_STATE');
    await expectDisks(volume, vm, disks, images);
    await site.receiver.close();
  });

  it('are made anew where one is missing or of another point, and nobody wrote to it', async () => {
    const given = await instanceSite();
    const site = await openSite(given.volume);
    const vm = await vmOf(site);
    const { volume } = given;
    const seams = diskSeams(volume);
    const first = planned(given, 2);
    const [disk] = await materialisePoint(vm, pointOf(vm, first), OPERATION, seams);
    if (disk === undefined) throw new Error('there are two disks');
    const second = planned(given, 5);
    const disks = await materialisePoint(vm, pointOf(vm, second), OPERATION, seams);
    await expectDisks(volume, vm, disks, second.images);
    const { protective, materialised } = instanceDiskPaths(vm.layout, disk);
    for (const path of [protective, materialised]) {
      await volume.remove(path);
      await materialisePoint(vm, pointOf(vm, second), OPERATION, seams);
      await expectDisks(volume, vm, disks, second.images);
    }
    await site.receiver.close();
  });

  it('need room, which is asked for before anything is made', async () => {
    const given = await instanceSite();
    const site = await openSite(given.volume);
    const vm = await vmOf(site);
    const point = pointOf(vm, planned(given, 5));
    const space = await instanceSpace(diskSeams(given.volume), vm, point, OPERATION);
    const denseSeams = diskSeams(given.volume, { areHolesFree: false });
    const dense = await instanceSpace(denseSeams, vm, point, OPERATION);
    expect(dense.neededBytes).to.be.greaterThan(space.neededBytes);
    let freeBytes = space.neededBytes - 1;
    const fs = new HookedFileSystem(given.volume, (_call, run) => run());
    fs.freeBytes = () => Promise.resolve(freeBytes);
    const error = await refusal(() => materialisePoint(vm, point, OPERATION, diskSeams(fs)));
    expect([error.code, error.context['neededBytes'], error.context['freeBytes']]).to.deep.equal([
      'E_CAPACITY',
      space.neededBytes,
      freeBytes,
    ]);
    expect(instanceNames(given.volume)).to.deep.equal([]);
    expect(vm.baseHolds.operationIds).to.deep.equal([]);
    freeBytes++;
    const disks = await materialisePoint(vm, point, OPERATION, diskSeams(fs));
    await expectDisks(given.volume, vm, disks, planned(given, 5).images);
    await site.receiver.close();
  });

  it('are not made of a delta whose bytes are others, and nothing of them stays', async () => {
    const given = await instanceSite();
    const site = await openSite(given.volume);
    const vm = await vmOf(site);
    const [segment] = vm.protection.segments.all.slice(-1);
    const layer = segment?.layers.at(-1);
    if (segment === undefined || layer === undefined) throw new Error('there are layers');
    const { data } = vm.layout.files(segment, layer.cycleId, 'delta');
    const bytes = given.volume.content(data) ?? Buffer.alloc(0);
    bytes.writeUInt8(bytes.readUInt8(7) ^ 1, 7);
    given.volume.put(data, bytes);
    const seams = diskSeams(given.volume);
    const point = pointOf(vm, planned(given, 5));
    const error = await refusal(() => materialisePoint(vm, point, OPERATION, seams));
    expect(error.code).to.equal('E_POINT_CORRUPT');
    expect(instanceNames(given.volume)).to.deep.equal([]);
    expect(vm.baseHolds.operationIds).to.deep.equal([]);
    const good = planned(given, 4);
    const disks = await materialisePoint(vm, pointOf(vm, good), OPERATION, seams);
    await expectDisks(given.volume, vm, disks, good.images);
    await site.receiver.close();
  });

  for (const kind of ['failover', 'test'] as const) {
    it(`of a ${kind} hold the base, while points are pruned and deltas merged`, async () => {
      const given = await instanceSite(2);
      const clock = new FakeClock();
      const site = await openSite(given.volume, { clock, reclaim: LIMITS });
      const vm = await vmOf(site);
      const { name } = given.source;
      const listed = await pointIds(site, name);
      // a change of a quarter of a disk pins the point before it
      for (const point of listed) {
        await site.control().pinPoint({ vm: name, point, isPinned: false });
      }
      const used = planned(given, 4);
      expect(listed).to.include(used.pointId);
      const seams = diskSeams(given.volume);
      const disks = await materialisePoint(vm, pointOf(vm, used), OPERATION, seams);
      const instance = instanceOf(used.pointId, disks);
      if (kind === 'failover') {
        await setInstance(vm, instance);
      } else {
        await setSession(vm, sessionOf(instance));
      }
      await clock.advance(20 * DAY_MS);
      await reclaimAll(site);
      await expectDisks(given.volume, vm, disks, used.images);
      const { waiting } = site.receiver.maintenance.statusOf(vm);
      expect(waiting.join()).to.match(/hangs on its base/);
      // known after a restart, too
      await site.receiver.close();
      const later = await openSite(given.volume, { clock, reclaim: LIMITS });
      const laterVm = await vmOf(later);
      await reclaimAll(later);
      await expectDisks(given.volume, laterVm, disks, used.images);
      for (const segment of laterVm.protection.segments.all) {
        expect(laterVm.baseHolds.isHeld(segment, laterVm.protection)).to.equal(true);
      }
      if (kind === 'failover') {
        await setInstance(laterVm, undefined);
      } else {
        await setSession(laterVm, null);
      }
      await removeInstanceDisks(given.volume, laterVm, OPERATION);
      await reclaimAll(later);
      const first = planned(given, 0).pointId;
      for (const { layers } of laterVm.protection.segments.all) {
        expect(layers.map(({ pointId }) => pointId)).not.to.include(first);
      }
      for (const plan of given.plans) {
        if (!(await pointIds(later, name)).includes(plan.pointId)) continue;
        await expectPoint(later, given.source, plan);
      }
      await later.receiver.close();
    });
  }

  it('are right while the base is being folded into, wherever that was cut off, and it goes no further', async () => {
    const given = await instanceSite(2);
    let foldCount = 0;
    for (let nth = 1; ; nth++) {
      const volume = given.volume.clone();
      const faulty = new FaultFileSystem(volume);
      const clock = new FakeClock();
      const site = await openSite(faulty, { clock, reclaim: LIMITS });
      const vm = await vmOf(site);
      for (const point of await pointIds(site, given.source.name)) {
        await site.control().pinPoint({ vm: given.source.name, point, isPinned: false });
      }
      await clock.advance(20 * DAY_MS);
      faulty.inject({ kind: 'write', path: /base\.vhdx$/, nth, times: Infinity });
      await reclaimAll(site);
      const isUnderWay = vm.protection.segments.all.some(({ folding }) => folding !== undefined);
      faulty.mend();
      if (isUnderWay) {
        foldCount++;
        const plan = planned(given, 4);
        const seams = diskSeams(volume);
        const disks = await materialisePoint(vm, pointOf(vm, plan), OPERATION, seams);
        await expectDisks(volume, vm, disks, plan.images);
        // the hypervisor replays no log of a file that it opens for reading
        for (const disk of disks) {
          const { base } = instanceDiskPaths(vm.layout, disk);
          const open = await openVhdx(base, { fs: volume, random: new SeededRandom(1) });
          expect(open.top.structures.replay).to.equal(undefined);
          await open.close();
        }
        await clock.advance(DAY_MS);
        await reclaimAll(site);
        await expectDisks(volume, vm, disks, plan.images);
        await removeInstanceDisks(volume, vm, OPERATION);
        await clock.advance(DAY_MS);
        await reclaimAll(site);
        for (const { folding } of vm.protection.segments.all) expect(folding).to.equal(undefined);
        await expectPoint(site, given.source, plan);
      }
      await site.receiver.close();
      if (!isUnderWay) break;
    }
    expect(foldCount).to.be.greaterThan(5);
  });

  it('that no record names are leftovers, which gc names and removes when they are old', async () => {
    const given = await instanceSite();
    const site = await openSite(given.volume);
    const vm = await vmOf(site);
    const plan = planned(given, 3);
    const seams = diskSeams(given.volume);
    const disks = await materialisePoint(vm, pointOf(vm, plan), OPERATION, seams);
    const [disk] = disks;
    if (disk === undefined) throw new Error('there are two disks');
    // what a hypervisor leaves above
    const { protective } = instanceDiskPaths(vm.layout, disk);
    const above = protective.replace('.vhdx', `_${OTHER}.01234567.avhdx`);
    await createVhdx(
      above,
      { type: 'differencing', parentPath: protective },
      { fs: given.volume, random: new SeededRandom(3) },
    );
    // while it is made, and after its operation began
    expect(await leftoverInstanceFiles(given.volume, vm)).to.deep.equal([]);
    await setInstance(vm, instanceOf(plan.pointId, disks));
    await site.receiver.close();
    const host = await Lab.create('/dr-lab', labSeams(given.volume));
    const later = await openSite(given.volume, { failover: { host } });
    const laterVm = await vmOf(later);
    expect(await leftoverInstanceFiles(given.volume, laterVm)).to.deep.equal([]);
    await setInstance(laterVm, undefined);
    const names = (await leftoverInstanceFiles(given.volume, laterVm)).map(({ name }) => name);
    expect(names).to.have.length(5);
    expect(names[0]).to.match(/\.avhdx$/);
    const shown = await later.control().collectGarbage({ isPlan: true, olderThanMs: 0n });
    expect(shown.items.map(({ kind, isRemovable }) => [kind, isRemovable])).to.deep.equal(
      names.map(() => ['instance-disk', true]),
    );
    await later.control().collectGarbage({ isPlan: false, olderThanMs: 0n });
    expect(instanceNames(given.volume)).to.deep.equal([]);
    await expectPoint(later, given.source, plan);
    await later.receiver.close();
  });

  it('that no record names stay as long as nobody can say whether a VM runs on them', async () => {
    const given = await instanceSite();
    const site = await openSite(given.volume);
    const vm = await vmOf(site);
    const plan = planned(given, 3);
    const seams = diskSeams(given.volume);
    await materialisePoint(vm, pointOf(vm, plan), OPERATION, seams);
    await site.receiver.close();
    const later = await openSite(given.volume);
    const { items } = await later.control().collectGarbage({ isPlan: false, olderThanMs: 0n });
    expect(items.map(({ isRemovable }) => isRemovable)).to.deep.equal([false, false, false, false]);
    expect(items[0]?.because).to.include('was not told the hypervisor');
    await later.receiver.close();
  });
});
