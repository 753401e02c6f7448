// Power loss in the lab, at every durable step. What must hold whatever survives: the guest's bytes
// are the old or the new ones, what was frozen stays frozen, no change since the reference point is
// missing from the answer, and the same command again goes on.

import { expect } from 'chai';
import type { Guid } from '../../shared/bytes/index.js';
import type { Lab } from '../../shared/hypervisor/lab/index.js';
import { crashEverywhere } from '../support/crash-everywhere.js';
import { expectSound, prepareLab, scatter } from '../support/lab-life.js';
import {
  changesOf,
  expectViews,
  frozenViews,
  LAB_FOLDER,
  LAB_REQUEST,
  openLab,
  viewsOf,
} from '../support/lab-model.js';

const MIB = 1024 * 1024;
const IS_SLOW = process.env['SLOW'] === '1';
const OPERATIONS = IS_SLOW ? 5000 : 7;
const SEEDS = IS_SLOW ? 4 : 1;
const WAIT_MS = 30_000;

describe('crash: the lab', function () {
  this.timeout(3_600_000);

  it('a guest write: no byte reaches the disk without its mark', async () => {
    const prepared = await prepareLab();
    const { volume, vmId, now } = prepared;
    const next = now.map((view) => Buffer.from(view));
    const first = next[0] ?? Buffer.alloc(0);
    first.fill(0xee, 70_000, 70_000 + 100_000);
    first.fill(0, 2 * MIB, 2 * MIB + 200_000);
    first.fill(0xdd, first.length - 700);
    const checked = await crashEverywhere({
      volume,
      operationsMax: OPERATIONS,
      seedCount: SEEDS,
      run: async (fs) => {
        const lab = await openLab(fs);
        await lab.withGuestDisk(vmId, 0, async (disk) => {
          await disk.writeAll([
            { offset: 70_000, bytes: first.subarray(70_000, 170_000) },
            { offset: first.length - 700, bytes: first.subarray(first.length - 700) },
          ]);
          await disk.zero(2 * MIB, 200_000);
        });
      },
      check: async (found, { hasFinished }) => {
        const lab = await openLab(found);
        const views = await viewsOf(lab, vmId);
        for (const [index, view] of views.entries()) {
          for (let at = 0; at < view.length; at++) {
            const isOld = view[at] === now[index]?.[at];
            const isNew = view[at] === next[index]?.[at];
            if (hasFinished ? !isNew : !isOld && !isNew) expect.fail(`disk ${index} byte ${at}`);
          }
        }
        await expectSound(found, prepared, views);
      },
    });
    expect(checked).to.be.greaterThan(30);
  });

  it('a checkpoint: there and frozen, or not there at all', async () => {
    const prepared = await prepareLab();
    const { volume, vmId, now } = prepared;
    await crashEverywhere({
      volume,
      operationsMax: OPERATIONS,
      seedCount: SEEDS,
      run: async (fs) => {
        await (await openLab(fs)).createCheckpoint(vmId, LAB_REQUEST);
      },
      check: async (found, { hasFinished }) => {
        const lab = await openLab(found);
        const list = await lab.listCheckpoints(vmId);
        if (hasFinished) expect(list.length).to.equal(1);
        const views = now.map((view) => Buffer.from(view));
        expectViews(await viewsOf(lab, vmId), views, 'guest');
        await scatter(lab, vmId, views, 5);
        for (const { id } of list) {
          expectViews(await frozenViews(lab, vmId, id), now, 'frozen before the crash');
        }
        await expectSound(found, prepared, views);
      },
    });
  });

  for (const verb of ['convert', 'remove'] as const) {
    it(`${verb} and the merge: goes on where it stopped`, async () => {
      let checkpointId = '';
      const written: Buffer[] = [];
      const prepared = await prepareLab(async (lab, vmId) => {
        checkpointId = (await lab.createCheckpoint(vmId, LAB_REQUEST)).id;
        written.push(...(await viewsOf(lab, vmId)));
        await scatter(lab, vmId, written, 9);
      });
      const { volume, vmId } = prepared;
      await crashEverywhere({
        volume,
        operationsMax: OPERATIONS,
        seedCount: SEEDS,
        run: async (fs) => {
          const lab = await openLab(fs);
          if (verb === 'convert') await lab.convertToReferencePoint(vmId, checkpointId);
          else await lab.removeCheckpoint(vmId, checkpointId);
          await lab.waitForMerge(vmId, WAIT_MS);
          await lab.close();
        },
        check: async (found) => {
          const lab = await openLab(found);
          const isThere = (await lab.listCheckpoints(vmId)).length === 1;
          const points = (await lab.listReferencePoints(vmId)).length;
          if (verb === 'convert') expect(points).to.equal(isThere ? 1 : 2);
          expectViews(await viewsOf(lab, vmId), written, 'guest');
          const views = written.map((view) => Buffer.from(view));
          await scatter(lab, vmId, views, 6);
          await expectSound(found, prepared, views);
        },
      });
    });
  }

  it('user checkpoints: added, applied and removed as a whole, under a recovery checkpoint too', async () => {
    const written: Buffer[] = [];
    const prepared = await prepareLab(async (lab, vmId) => {
      await lab.addUserCheckpoint(vmId, 'low');
      written.push(...(await viewsOf(lab, vmId)));
      await scatter(lab, vmId, written, 9);
      await lab.createCheckpoint(vmId, LAB_REQUEST);
    });
    const { volume, vmId } = prepared;
    await crashEverywhere({
      volume,
      operationsMax: OPERATIONS,
      seedCount: SEEDS,
      run: async (fs) => {
        const lab = await openLab(fs);
        await lab.addUserCheckpoint(vmId, 'high');
        await lab.removeUserCheckpoint(vmId, 'low');
        await lab.close();
        await lab.waitForMerge(vmId, WAIT_MS);
      },
      check: async (found, { hasFinished }) => {
        const lab = await openLab(found);
        const names = (await lab.findVm('vm')).userCheckpoints.map(({ name }) => name);
        if (hasFinished) expect(names).to.deep.equal(['high']);
        expectViews(await viewsOf(lab, vmId), written, 'guest');
        const [recovery] = await lab.listCheckpoints(vmId);
        expectViews(await frozenViews(lab, vmId, recovery?.id ?? ''), written, 'recovery');
        const views = written.map((view) => Buffer.from(view));
        await scatter(lab, vmId, views, 6);
        for (const name of names) {
          const id = (await lab.findVm('vm')).userCheckpoints.find((one) => one.name === name)?.id;
          const wanted = name === 'high' ? written : prepared.now;
          expectViews(await frozenViews(lab, vmId, id ?? ''), wanted, name);
        }
        await expectSound(found, prepared, views, 1 + names.length);
      },
    });
  });

  it('the last merge, which gives a disk its first path back', async () => {
    let checkpointId = '';
    let paths: string[] = [];
    const pathsOf = async (lab: Lab, vmId: Guid): Promise<string[]> =>
      (await lab.describeVm(vmId)).disks.map(({ path }) => path);
    const prepared = await prepareLab(async (lab, vmId) => {
      paths = await pathsOf(lab, vmId);
      await lab.addUserCheckpoint(vmId, 'low');
      checkpointId = (await lab.createCheckpoint(vmId, LAB_REQUEST)).id;
      await lab.removeUserCheckpoint(vmId, 'low');
      await lab.waitForMerge(vmId, WAIT_MS);
    });
    const { volume, vmId, now } = prepared;
    await crashEverywhere({
      volume,
      operationsMax: OPERATIONS,
      seedCount: SEEDS,
      run: async (fs) => {
        const lab = await openLab(fs);
        await lab.removeCheckpoint(vmId, checkpointId);
        await lab.waitForMerge(vmId, WAIT_MS);
        await lab.close();
      },
      check: async (found) => {
        const views = now.map((view) => Buffer.from(view));
        const lab = await openLab(found);
        await scatter(lab, vmId, views, 6);
        await expectSound(found, prepared, views);
        expect(await pathsOf(await openLab(found), vmId)).to.deep.equal(paths);
      },
    });
  });

  it('going back to a checkpoint: at the old state or at the new one, never between', async () => {
    const written: Buffer[] = [];
    const prepared = await prepareLab(async (lab, vmId) => {
      await lab.addUserCheckpoint(vmId, 'back');
      written.push(...(await viewsOf(lab, vmId)));
      await scatter(lab, vmId, written, 9);
    });
    const { volume, vmId, now } = prepared;
    await crashEverywhere({
      volume,
      operationsMax: OPERATIONS,
      seedCount: SEEDS,
      run: async (fs) => {
        const lab = await openLab(fs);
        await lab.applyUserCheckpoint(vmId, 'back');
        await lab.waitForMerge(vmId, WAIT_MS);
      },
      check: async (found, { hasFinished }) => {
        const lab = await openLab(found);
        const views = await viewsOf(lab, vmId);
        const isBack = now.every((view, index) => views[index]?.equals(view) === true);
        expectViews(views, isBack ? now : written, 'guest');
        if (hasFinished) expect(isBack).to.equal(true);
        if (!isBack) {
          await expectSound(found, prepared, views, 2);
          return;
        }
        const checkpoint = await lab.createCheckpoint(vmId, LAB_REQUEST);
        const [disk] = prepared.point.disks;
        if (disk === undefined) throw new Error('no disk');
        const answer = changesOf(lab, vmId, checkpoint.id, disk.diskId, disk.trackingId);
        const code = await answer.then(
          () => 'none',
          (error: unknown) => (error as { code?: string }).code,
        );
        expect(code).to.equal('E_TRACKING_INVALID');
      },
    });
  });

  it('making, resizing and removing: a VM is there whole or not at all', async () => {
    const prepared = await prepareLab();
    const { volume, vmId, now } = prepared;
    const wanted = (size: number): Buffer => {
      const view = Buffer.alloc(size);
      now[1]?.copy(view);
      return view;
    };
    await crashEverywhere({
      volume,
      operationsMax: OPERATIONS,
      seedCount: SEEDS,
      run: async (fs) => {
        const lab = await openLab(fs);
        await lab.createVm({ name: 'new', disks: [{ source: { sizeBytes: MIB } }] });
        await lab.resizeDisk(vmId, 1, 2 * MIB);
        await lab.deleteVm(vmId);
      },
      check: async (found, { hasFinished }) => {
        const lab = await openLab(found);
        const names = (await lab.listVms()).map(({ name }) => name);
        if (hasFinished) expect(names).to.deep.equal(['new']);
        if (names.includes('vm')) {
          const size = (await lab.describeVm(vmId)).disks[1]?.sizeBytes ?? 0;
          expect([MIB, 2 * MIB]).to.include(size);
          const first = now[0] ?? Buffer.alloc(0);
          expectViews(await viewsOf(lab, vmId), [first, wanted(size)], 'guest');
          await lab.guestWrite(vmId, 1, 0, Buffer.alloc(512, 1));
          expect((await found.list(`${LAB_FOLDER}/vms/${vmId}/disks`)).length).to.equal(2);
        }
        if (!names.includes('new')) await lab.createVm({ name: 'new' });
        for (const name of await found.list(`${LAB_FOLDER}/vms`)) {
          const isThere = (await lab.listVms()).some(({ id }) => id === name);
          if (isThere) continue;
          const rest = await found.list(`${LAB_FOLDER}/vms/${name}`);
          if (names.includes('new')) continue; // tidied by the next creation
          expect(rest.filter((item) => /json|creating/.test(item))).to.deep.equal([]);
        }
      },
    });
  });
});
