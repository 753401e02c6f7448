// A device that fails or is full under the lab, at every call in turn: the caller gets a typed error,
// and when the device works again everything goes on, with no change missing.

import { expect } from 'chai';
import type { Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type { Lab } from '../../shared/hypervisor/lab/index.js';
import { FaultFileSystem, type Fault } from '../support/fault-file.js';
import { expectSound, prepareLab, scatter } from '../support/lab-life.js';
import { frozenViews, LAB_REQUEST, openLab, viewsOf } from '../support/lab-model.js';
import { SeededRandom } from '../support/seeded-random.js';

const IS_SLOW = process.env['SLOW'] === '1';
const TRIALS = IS_SLOW ? 400 : 10;
const WAIT_MS = 200;
const KINDS = ['write', 'flush', 'open', 'rename', 'remove', 'flushFolder', 'truncate'] as const;

type Operation = (lab: Lab, vmId: Guid, checkpointId: string) => Promise<unknown>;

const OPERATIONS: Readonly<Record<string, Operation>> = {
  'a guest write': (lab, vmId) => lab.guestWrite(vmId, 0, 100_000, Buffer.alloc(300_000, 7)),
  'a discard': (lab, vmId) => lab.guestZero(vmId, 0, 0, 2 * 1024 * 1024),
  'a user checkpoint': (lab, vmId) => lab.addUserCheckpoint(vmId, 'one'),
  'a checkpoint given back': async (lab, vmId, checkpointId) => {
    await lab.removeCheckpoint(vmId, checkpointId);
    await lab.waitForMerge(vmId, WAIT_MS);
  },
  'a checkpoint converted, and the next one': async (lab, vmId, checkpointId) => {
    await lab.convertToReferencePoint(vmId, checkpointId);
    await lab.waitForMerge(vmId, WAIT_MS);
    await lab.createCheckpoint(vmId, LAB_REQUEST);
  },
};

describe('fault: a merge in the background', () => {
  it('is told of as pending, with why the last attempt failed, until it is done', async () => {
    let checkpointId = '';
    const { volume, vmId } = await prepareLab(async (lab, id) => {
      checkpointId = (await lab.createCheckpoint(id, LAB_REQUEST)).id;
      await scatter(lab, id, await viewsOf(lab, id), 3);
    });
    const faulty = new FaultFileSystem(volume);
    const lab = await openLab(faulty);
    expect(await lab.pendingMerges(vmId)).to.deep.equal([]);
    faulty.inject({ kind: 'write', path: /x$/, times: Number.POSITIVE_INFINITY, code: 'E_IO' });
    await lab.removeCheckpoint(vmId, checkpointId);
    await lab.close();
    const [pending] = await lab.pendingMerges(vmId);
    expect(pending?.state).to.be.oneOf(['due', 'begun']);
    expect(pending?.failure?.code).to.be.oneOf(['E_IO', 'E_VHDX_POISONED']);
    expect(pending?.failure?.message).to.contain('injected by the test');
    faulty.mend();
    await lab.waitForMerge(vmId, 60_000);
    expect(await lab.pendingMerges(vmId)).to.deep.equal([]);
    await lab.close();
  });

  it('is told of as pending, without a failure, while a delay holds it up', async () => {
    const { volume, vmId } = await prepareLab();
    const lab = await openLab(volume);
    await lab.setFault('merge-delay', '3600000', vmId);
    const checkpoint = await lab.createCheckpoint(vmId, LAB_REQUEST);
    await lab.removeCheckpoint(vmId, checkpoint.id);
    await lab.close();
    const [pending] = await lab.pendingMerges(vmId);
    expect(pending).to.include({ state: 'due', failure: undefined });
    expect(pending?.notBeforeMs).to.be.a('number');
  });
});

describe('fault: a device that fails under the lab', function () {
  this.timeout(1_800_000);

  for (const [name, operation] of Object.entries(OPERATIONS)) {
    it(`${name}: a typed error, and it goes on when the cause is gone`, async () => {
      let checkpointId = '';
      const prepared = await prepareLab(async (lab, vmId) => {
        checkpointId = (await lab.createCheckpoint(vmId, LAB_REQUEST)).id;
        await scatter(lab, vmId, await viewsOf(lab, vmId), 9);
      });
      const { volume, vmId } = prepared;
      const rehearsal = new FaultFileSystem(volume.clone());
      await operation(await openLab(rehearsal), vmId, checkpointId);
      const random = new SeededRandom(name.length);
      let failureCount = 0;
      for (let trial = 0; trial < TRIALS; trial++) {
        const kind = random.pick(KINDS.filter((one) => rehearsal.callCount(one) > 0));
        const fault: Fault = {
          kind,
          nth: 1 + random.int(rehearsal.callCount(kind)),
          times: random.chance(0.5) ? 1 : Number.POSITIVE_INFINITY,
          code: random.chance(0.5) ? 'E_IO' : 'E_CAPACITY',
          partialBytes: random.pick([0, 512]),
          // a handle that was opened and never given to anybody would hold its lock for ever
          isAfter: kind !== 'open' && random.chance(0.2),
        };
        const found = volume.clone();
        const faulty = new FaultFileSystem(found);
        const lab = await openLab(faulty);
        const frozen = await frozenViews(lab, vmId, checkpointId);
        faulty.inject(fault);
        try {
          await operation(lab, vmId, checkpointId);
        } catch (error) {
          failureCount++;
          if (!(error instanceof DrError)) throw error;
          expect(error.code, JSON.stringify(fault)).to.match(
            /^E_(IO|CAPACITY|STALLED|VHDX_POISONED)$/,
          );
        }
        faulty.mend();
        await lab.close();
        const after = await openLab(found);
        if ((await after.listCheckpoints(vmId)).some(({ id }) => id === checkpointId)) {
          const now = await frozenViews(after, vmId, checkpointId);
          expect(now.every((view, index) => frozen[index]?.equals(view))).to.equal(true);
        }
        const userCount = (await after.findVm('vm')).userCheckpoints.length;
        try {
          await expectSound(found, prepared, await viewsOf(after, vmId), 1 + userCount);
        } catch (error) {
          throw new Error(`trial ${trial}, ${JSON.stringify(fault)}: ${String(error)}`, {
            cause: error,
          });
        }
      }
      expect(failureCount).to.be.greaterThan(0);
    });
  }
});
