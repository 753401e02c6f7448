// What the provider does when the host has trouble, when others work on the same VM, and when it dies in the middle.
// The host is the fake one; nothing here says how a real one behaves.

import { expect } from 'chai';
import type { Guid } from '../../../../shared/bytes/index.js';
import { guid } from '../../../../shared/bytes/index.js';
import type { ErrorCode } from '../../../../shared/errors.js';
import { DrError } from '../../../../shared/errors.js';
import { acceptanceOf, type HyperV } from '../../../../shared/hypervisor/hyperv/index.js';
import type {
  Arguments,
  Operation,
  OperationRunner,
} from '../../../../shared/hypervisor/hyperv/powershell/operation.js';
import type { ByteRange, Checkpoint, VmDefinition } from '../../../../shared/hypervisor/index.js';
import type { FakeHyperVHost } from '../../../support/hyperv-host/host.js';
import { buildDouble, HyperVRig } from '../../../support/hyperv-host/rig.js';
import { refusal } from '../../../support/refusal.js';
import { WorkFolder } from '../../../support/work-folder.js';

const MIB = 1024 * 1024;
const SIZE = 4 * MIB;
const MERGE_MS = 60_000;
const TAG = {
  protectionId: guid('aaaaaaaa-0000-4000-8000-000000000001'),
  operationId: guid('aaaaaaaa-0000-4000-8000-000000000002'),
};
const REQUEST = { tag: TAG, consistency: 'crash', timeoutMs: MERGE_MS } as const;
const APPLICATION = { ...REQUEST, consistency: 'application' } as const;

/** Components of the synchronisation of time, on by default, and of the guest services, off by default. */
const TIME_SERVICE = '2497F4DE-E9FA-4204-80E4-4B75C46419C0';

/** Of secure boot, for Linux. */
const LINUX_TEMPLATE = '272e7447-90a4-4563-a4b9-8e4ab00526ce';
const GUEST_SERVICE = '6C09BB55-D683-4DA0-8931-C9BF705F6480';

describe('the provider of Hyper-V', function () {
  this.timeout(120_000);
  const tools = new WorkFolder('hyperv-double');
  let double = '';
  let rig: HyperVRig;
  let host: HyperV;
  let vmId: Guid;

  before(async () => {
    double = await buildDouble(tools.file('virtdisk.so'));
  });
  after(() => {
    tools.dispose();
  });
  beforeEach(async () => {
    rig = await HyperVRig.create(double);
    host = rig.open();
    vmId = await rig.makeVm('vm', [SIZE]);
  });
  afterEach(() => rig.dispose());

  const refuses = async (code: ErrorCode, action: () => Promise<unknown>): Promise<DrError> => {
    const error = await refusal(action);
    expect(error.code, error.line).to.equal(code);
    return error;
  };

  const write = (at: number, value: number): Promise<void> =>
    rig.fake.lab.guestWrite(vmId, 0, at, Buffer.alloc(512, value));

  async function rangesOf(
    checkpoint: Checkpoint,
    trackingId: string,
    by: HyperV = host,
  ): Promise<ByteRange[]> {
    const [disk] = checkpoint.disks;
    if (disk === undefined) throw new Error('a checkpoint without disks');
    const ranges: ByteRange[] = [];
    for await (const range of by.changedRanges(vmId, checkpoint.id, disk.diskId, trackingId)) {
      ranges.push(range);
    }
    return ranges;
  }

  const covers = (ranges: readonly ByteRange[], at: number): boolean =>
    ranges.some(({ start, end }) => start <= at && at + 512 <= end);

  /** A reference point, and its tracking id. */
  async function mark(by: HyperV = host): Promise<{ id: string; trackingId: string }> {
    const { id } = await by.createCheckpoint(vmId, REQUEST);
    const point = await by.convertToReferencePoint(vmId, id);
    await by.waitForMerge(vmId, MERGE_MS);
    return { id: point.id, trackingId: point.disks[0]?.trackingId ?? '' };
  }

  describe('asked for a checkpoint', () => {
    it('tells a guest that would not quiesce from a host that failed', async () => {
      await host.startVm(vmId);
      rig.fake.trouble.jobFails.set('checkpoint.create', { text: 'VSS failed.', code: 32_768 });
      const error = await refuses('E_CONSISTENCY', () => host.createCheckpoint(vmId, APPLICATION));
      expect(error.message).to.contain('VSS failed.');
      await refuses('E_CHECKPOINT', () => host.createCheckpoint(vmId, REQUEST));
      rig.fake.trouble.jobFails.clear();
      expect(await host.listCheckpoints(vmId)).to.deep.equal([]);
      expect((await host.createCheckpoint(vmId, APPLICATION)).consistency).to.equal('application');
    });

    it('gives one back that came out weaker than it was asked for', async () => {
      await host.startVm(vmId);
      rig.fake.trouble.obtained = 'crash';
      await refuses('E_CONSISTENCY', () => host.createCheckpoint(vmId, APPLICATION));
      expect(await host.listCheckpoints(vmId)).to.deep.equal([]);
      rig.fake.trouble.obtained = 'unknown';
      await host.waitForMerge(vmId, MERGE_MS);
      // a host that says nothing: what was asked for and made is what there is, also for who looks later
      expect((await host.createCheckpoint(vmId, APPLICATION)).consistency).to.equal('application');
      expect((await host.listCheckpoints(vmId))[0]?.consistency).to.equal('application');
    });

    it('waits while vmms refuses because the disks are being merged', async () => {
      // 5 is how the service of checkpoints says the same
      for (const returnValue of [32_774, 32_775, 5]) {
        const refused = { returnValue, times: 3 };
        rig.fake.trouble.refusals.set('checkpoint.create', refused);
        const made = await host.createCheckpoint(vmId, REQUEST);
        expect(made.tag).to.deep.equal(TAG);
        expect(refused.times).to.equal(0);
        const again = { returnValue, times: 2 };
        rig.fake.trouble.refusals.set('referencePoint.destroy', again);
        const point = await host.convertToReferencePoint(vmId, made.id);
        await host.removeReferencePoint(vmId, point.id);
        expect(again.times).to.equal(0);
        await host.waitForMerge(vmId, MERGE_MS);
      }
    });

    it('gives up on a VM that stays busy, and at once on one that is being migrated', async () => {
      rig.fake.trouble.activities.push(32_772);
      const stalled = await refuses('E_STALLED', () => host.createCheckpoint(vmId, REQUEST));
      expect(stalled.message).to.contain('its disks are being merged');
      rig.fake.trouble.activities = [32_774];
      const moving = await refuses('E_HYPERVISOR', () => host.createCheckpoint(vmId, REQUEST));
      expect(moving.message).to.contain('migrated');
      expect(await host.listCheckpoints(vmId)).to.deep.equal([]);
    });

    it('finds it when the job has vanished with what it knew', async () => {
      rig.fake.trouble.areJobsForgotten = true;
      const { id } = await host.createCheckpoint(vmId, REQUEST);
      const point = await host.convertToReferencePoint(vmId, id);
      expect(point.tag).to.deep.equal(TAG);
      expect(point.disks.length).to.equal(1);
    });

    it('says which node owns a clustered VM, and begins nothing', async () => {
      rig.fake.overlayOf(vmId).isClustered = true;
      rig.fake.trouble.ownerNode = 'HV02';
      const error = await refuses('E_HYPERVISOR', () => host.createCheckpoint(vmId, REQUEST));
      expect(error.context).to.include({ ownerNode: 'HV02', node: 'HV01' });
      expect(rig.fake.trace).not.to.include('checkpoint.create');
      rig.fake.trouble.ownerNode = 'hv01';
      await host.createCheckpoint(vmId, REQUEST);
    });
  });

  describe('beside another product', () => {
    it('never touches its checkpoint, and works all the same', async () => {
      const foreign = await rig.fake.addForeignCheckpoint(vmId);
      const { id } = await host.createCheckpoint(vmId, REQUEST);
      const tags = (await host.listCheckpoints(vmId)).map((each) => [each.id, each.tag]);
      expect(tags).to.deep.equal([
        [foreign, undefined],
        [id, TAG],
      ]);
      await refuses('E_CHECKPOINT', () => host.removeCheckpoint(vmId, foreign));
      await refuses('E_CHECKPOINT', () => host.convertToReferencePoint(vmId, foreign));
      await host.removeCheckpoint(vmId, id);
      expect((await host.listCheckpoints(vmId)).map((each) => each.id)).to.deep.equal([foreign]);
    });

    it('takes none of its checkpoints for one that it was refused', async () => {
      const { trouble } = rig.fake;
      for (const fails of ['refusal', 'job', 'crash'] as const) {
        vmId = await rig.makeVm(fails, [SIZE]);
        if (fails === 'refusal') {
          trouble.refusals.set('checkpoint.create', { returnValue: 32_769, times: 1 });
          await refuses('E_CHECKPOINT', () => host.createCheckpoint(vmId, REQUEST));
        } else if (fails === 'job') {
          trouble.jobFails.set('checkpoint.create', { text: 'No room.', code: 32_768 });
          await refuses('E_CHECKPOINT', () => host.createCheckpoint(vmId, REQUEST));
          trouble.jobFails.clear();
        } else {
          // after it was asked for, before it has a name
          const runner = new DyingRunner(rig.fake.runner(), 'checkpoint.create');
          await rig
            .open({ runner })
            .createCheckpoint(vmId, REQUEST)
            .catch(() => undefined);
          for (const { id } of await host.listCheckpoints(vmId)) {
            await host.removeCheckpoint(vmId, id);
          }
          await host.waitForMerge(vmId, MERGE_MS);
          await mark();
        }
        const foreign = await rig.fake.addForeignCheckpoint(vmId);
        const [listed] = await host.listCheckpoints(vmId);
        expect([listed?.id, listed?.tag], fails).to.deep.equal([foreign, undefined]);
        await refuses('E_CHECKPOINT', () => host.removeCheckpoint(vmId, foreign));
      }
    });

    it('knows a checkpoint for its own that comes late, to a caller that waits so long', async () => {
      const runner = new DyingRunner(rig.fake.runner(), 'checkpoint.create');
      const slow = rig.open({ runner, behindMs: 30 * 60_000 });
      const request = { ...REQUEST, timeoutMs: 60 * 60_000 };
      await slow.createCheckpoint(vmId, request).catch(() => undefined);
      const [listed, second] = await host.listCheckpoints(vmId);
      expect([listed?.tag, second]).to.deep.equal([TAG, undefined]);
    });

    it('takes none of its reference points for what became of a conversion that failed', async () => {
      const { id } = await host.createCheckpoint(vmId, REQUEST);
      rig.fake.trouble.jobFails.set('checkpoint.convert', { text: 'In use.', code: 32_768 });
      await refuses('E_CHECKPOINT', () => host.convertToReferencePoint(vmId, id));
      rig.fake.trouble.jobFails.clear();
      await host.removeCheckpoint(vmId, id);
      await host.waitForMerge(vmId, MERGE_MS);
      const made = await rig.fake.lab.createCheckpoint(vmId, REQUEST);
      const foreign = await rig.fake.lab.convertToReferencePoint(vmId, made.id);
      const [listed] = await host.listReferencePoints(vmId);
      expect(labIdOf(listed?.id ?? '')).to.equal(foreign.id);
      expect(listed?.tag).to.equal(undefined);
      await refuses('E_CHECKPOINT', () => host.removeReferencePoint(vmId, listed?.id ?? ''));
    });

    it('never removes a reference point that is not of ours', async () => {
      const { lab } = rig.fake;
      const made = await lab.createCheckpoint(vmId, REQUEST);
      await lab.convertToReferencePoint(vmId, made.id);
      const [point] = await host.listReferencePoints(vmId);
      expect(point?.tag).to.equal(undefined);
      await refuses('E_CHECKPOINT', () => host.removeReferencePoint(vmId, point?.id ?? ''));
      expect((await host.listReferencePoints(vmId)).length).to.equal(1);
    });
  });

  describe('about changes', () => {
    it('has a second witness for an acceptance, and the hand at its disks', async () => {
      const { trackingId } = await mark();
      await write(MIB, 7);
      const checkpoint = await host.createCheckpoint(vmId, REQUEST);
      const [disk] = checkpoint.disks;
      const hand = acceptanceOf(host);
      const ranges: ByteRange[] = [];
      const asked = [vmId, checkpoint.id, disk?.diskId ?? vmId, trackingId] as const;
      for await (const range of hand?.otherRanges(...asked) ?? []) ranges.push(range);
      expect(covers(ranges, MIB)).to.equal(true);
      expect(host.replica).not.to.equal(undefined);
    });

    it('gets the same from virtdisk.dll, in parts, and from vmms', async () => {
      rig.fake.frozen.lines.push('page 1');
      const { trackingId } = await mark();
      for (const at of [0, MIB, 3 * MIB]) await write(at, 7);
      const checkpoint = await host.createCheckpoint(vmId, REQUEST);
      const ranges = await rangesOf(checkpoint, trackingId);
      expect([0, MIB, 3 * MIB].map((at) => covers(ranges, at))).to.deep.equal([true, true, true]);
      const native = rig.nativeDisks();
      const virtualDisks = Object.assign(Object.create(native) as typeof native, {
        capabilities: async () => ({ ...(await native.capabilities()), canQueryChanges: false }),
      });
      const other = rig.open({ virtualDisks });
      expect(await rangesOf(checkpoint, trackingId, other)).to.deep.equal(ranges);
      expect(rig.fake.trace).to.include('disk.changes');
      // so many changes that vmms cannot tell of the whole disk at once
      rig.fake.trouble.windowBytesMax = MIB;
      expect(await rangesOf(checkpoint, trackingId, other)).to.deep.equal(ranges);
      rig.fake.trouble.windowBytesMax = 0;
      await refuses('E_HYPERVISOR', () => rangesOf(checkpoint, trackingId, other));
    });

    for (const [code, what] of [
      ['0xC03A0029', 'an id that nobody knows'],
      ['0xC03A002A', 'tracking that is off'],
      ['0xC03A0030', 'an id whose data are gone'],
      ['0xC03A0034', 'another disk under the path'],
    ] as const) {
      it(`knows nothing after ${what}`, async () => {
        const { trackingId } = await mark();
        rig.fake.frozen.lines.push(`fail QueryChangesVirtualDisk ${code}`);
        const checkpoint = await host.createCheckpoint(vmId, REQUEST);
        await refuses('E_TRACKING_INVALID', () => rangesOf(checkpoint, trackingId));
      });
    }

    it('knows nothing after a checkpoint of the user was applied', async () => {
      const { name } = await rig.fake.lab.addUserCheckpoint(vmId);
      const { trackingId } = await mark();
      await rig.fake.applyUserCheckpoint(vmId, name);
      const checkpoint = await host.createCheckpoint(vmId, REQUEST);
      const error = await refuses('E_TRACKING_INVALID', () => rangesOf(checkpoint, trackingId));
      expect(error.message).to.contain('a checkpoint was applied');
    });

    it('knows nothing after the same checkpoint was applied once more', async () => {
      const { name } = await rig.fake.lab.addUserCheckpoint(vmId);
      await rig.fake.applyUserCheckpoint(vmId, name);
      const { trackingId } = await mark();
      await write(MIB, 7);
      const before = await host.createCheckpoint(vmId, REQUEST);
      expect(covers(await rangesOf(before, trackingId), MIB)).to.equal(true);
      await host.removeCheckpoint(vmId, before.id);
      await host.waitForMerge(vmId, MERGE_MS);
      await rig.fake.applyUserCheckpoint(vmId, name);
      const checkpoint = await host.createCheckpoint(vmId, REQUEST);
      // virtdisk.dll may answer all the same, with what was written to the file that is there now
      rig.fake.frozen.answer(checkpoint.id, trackingId);
      const error = await refuses('E_TRACKING_INVALID', () => rangesOf(checkpoint, trackingId));
      expect(error.message).to.contain('does not stand on');
    });

    it('knows nothing of a reference point that it does not remember', async () => {
      const { trackingId } = await mark();
      const elsewhere = rig.open({ stateFolder: rig.work.file('another-state') });
      const checkpoint = await elsewhere.createCheckpoint(vmId, REQUEST);
      const error = await refuses('E_TRACKING_INVALID', () =>
        rangesOf(checkpoint, trackingId, elsewhere),
      );
      expect(error.message).to.contain('not known here');
    });

    it('knows nothing after a disk was resized', async () => {
      const { trackingId } = await mark();
      await rig.fake.lab.resizeDisk(vmId, 0, SIZE + MIB);
      const checkpoint = await host.createCheckpoint(vmId, REQUEST);
      const error = await refuses('E_TRACKING_INVALID', () => rangesOf(checkpoint, trackingId));
      expect(error.message).to.contain('its size was');
    });

    it('refuses a reference point that does not track every disk, and removes it', async () => {
      rig.fake.trouble.isTrackingIdMissing = true;
      const { id } = await host.createCheckpoint(vmId, REQUEST);
      await refuses('E_CHECKPOINT', () => host.convertToReferencePoint(vmId, id));
      expect(await host.listReferencePoints(vmId)).to.deep.equal([]);
    });
  });

  describe('on two nodes of a cluster', () => {
    let other: HyperV;

    beforeEach(() => {
      const stateFolder = rig.work.file('state-of-hv02');
      other = rig.open({ runner: rig.fake.runner('HV02'), stateFolder });
    });

    it('goes on after a live migration with what the other node had begun', async () => {
      const { id } = await mark();
      // made a role after its first cycle: what is known goes along
      rig.fake.overlayOf(vmId).isClustered = true;
      const first = await mark();
      await host.removeReferencePoint(vmId, id);
      await write(MIB, 7);
      rig.fake.trouble.ownerNode = 'HV02';
      const [point] = await other.listReferencePoints(vmId);
      expect([point?.id, point?.tag]).to.deep.equal([first.id, TAG]);
      const checkpoint = await other.createCheckpoint(vmId, REQUEST);
      expect(covers(await rangesOf(checkpoint, first.trackingId, other), MIB)).to.equal(true);
      const next = await other.convertToReferencePoint(vmId, checkpoint.id);
      await other.waitForMerge(vmId, MERGE_MS);
      await other.removeReferencePoint(vmId, first.id);
      rig.fake.trouble.ownerNode = 'HV01';
      const left = (await host.listReferencePoints(vmId)).map((each) => [each.id, each.tag]);
      expect(left).to.deep.equal([[next.id, TAG]]);
    });

    it('goes on with deltas when it is no role any more, and when it is one again', async () => {
      const overlay = rig.fake.overlayOf(vmId);
      overlay.isClustered = true;
      let known = await mark();
      for (const isClustered of [false, true]) {
        overlay.isClustered = isClustered;
        await write(MIB, 7);
        const checkpoint = await host.createCheckpoint(vmId, REQUEST);
        expect(covers(await rangesOf(checkpoint, known.trackingId, host), MIB)).to.equal(true);
        const point = await host.convertToReferencePoint(vmId, checkpoint.id);
        await host.waitForMerge(vmId, MERGE_MS);
        const ours = (await host.listReferencePoints(vmId)).find(({ id }) => id === point.id);
        expect(ours?.tag).to.deep.equal(TAG);
        known = { id: point.id, trackingId: point.disks[0]?.trackingId ?? '' };
      }
    });

    it('takes along what it knows when the configuration is moved, and says so where that cannot be', async () => {
      const overlay = rig.fake.overlayOf(vmId);
      overlay.isClustered = true;
      const first = await mark();
      await write(MIB, 7);
      overlay.configurationFolder = rig.work.file('moved');
      const [point] = await host.listReferencePoints(vmId);
      expect([point?.id, point?.tag]).to.deep.equal([first.id, TAG]);
      const checkpoint = await host.createCheckpoint(vmId, REQUEST);
      expect(covers(await rangesOf(checkpoint, first.trackingId), MIB)).to.equal(true);
      // taken over: the other node, which does not know of the former place, has it as well
      expect((await other.listReferencePoints(vmId))[0]?.tag).to.deep.equal(TAG);
      overlay.configurationFolder = rig.work.file('moved-again');
      const ofOther = await refuses('E_TRACKING_INVALID', () =>
        rangesOf(checkpoint, first.trackingId, other),
      );
      expect(ofOther.message)
        .to.contain(rig.work.file('moved-again'))
        .and.contain('its configuration was moved');
      await host.removeCheckpoint(vmId, checkpoint.id);
      await host.removeReferencePoint(vmId, first.id);
      expect(await other.listReferencePoints(vmId)).to.deep.equal([]);
    });

    it('cleans up after a node that died between a checkpoint and its name', async () => {
      rig.fake.overlayOf(vmId).isClustered = true;
      for (let calls = 1; (await other.listCheckpoints(vmId)).length === 0; calls++) {
        const runner = new DyingRunner(rig.fake.runner('HV01'), calls);
        await rig
          .open({ runner })
          .createCheckpoint(vmId, REQUEST)
          .catch(() => undefined);
      }
      rig.fake.trouble.ownerNode = 'HV02';
      for (const { id, tag } of await other.listCheckpoints(vmId)) {
        expect(tag).to.deep.equal(TAG);
        await other.removeCheckpoint(vmId, id);
      }
      expect(await other.listCheckpoints(vmId)).to.deep.equal([]);
    });
  });

  describe('whose VM is a role of a cluster', () => {
    const powerOf = async (): Promise<string | undefined> =>
      (await host.summaryOf(vmId))?.powerState;

    beforeEach(async () => {
      rig.fake.overlayOf(vmId).isClustered = true;
      await host.startVm(vmId);
    });

    it('turns it off for good: its role goes first', async () => {
      await host.turnOffVm(vmId);
      expect(await powerOf()).to.equal('off');
      expect(rig.fake.overlayOf(vmId).isOnline).to.equal(false);
      await host.startVm(vmId);
      expect(await powerOf()).to.equal('running');
    });

    it('cuts the power all the same when its role waits for the guest', async () => {
      rig.fake.trouble.rolesWaitForGuest = true;
      await host.turnOffVm(vmId);
      expect(await powerOf()).to.equal('off');
      expect(rig.fake.overlayOf(vmId).isOnline).to.equal(false);
    });

    it('fences its role with it, which goes online with the next start', async () => {
      // the cluster does not say when it notices that a guest has shut down
      await rig.fake.lab.turnOffVm(vmId);
      await host.fenceVm(vmId, { tag: TAG, epoch: 1n });
      expect(rig.fake.overlayOf(vmId).isOnline).to.equal(false);
      await refuses('E_FENCED', () => host.startVm(vmId));
      await host.unfenceVm(vmId);
      expect(await powerOf()).to.equal('off');
      await host.startVm(vmId);
      expect(rig.fake.overlayOf(vmId).isOnline).to.equal(true);
    });
  });

  it('a reader that is still open keeps the checkpoint, until it is closed', async () => {
    const { id, disks } = await host.createCheckpoint(vmId, REQUEST);
    const [disk] = disks;
    if (disk === undefined) throw new Error('a checkpoint without disks');
    const reader = await host.openCheckpointDisk(vmId, id, disk.diskId);
    const error = await refuses('E_CHECKPOINT', () => host.removeCheckpoint(vmId, id));
    expect(error.message).to.contain('being used');
    await refuses('E_CHECKPOINT', () => host.convertToReferencePoint(vmId, id));
    await reader.close();
    await host.removeCheckpoint(vmId, id);
    await host.waitForMerge(vmId, MERGE_MS);
    expect(await host.listCheckpoints(vmId)).to.deep.equal([]);
  });

  describe('asked for a VM like another', () => {
    /** What the copy is to start with, and what it has of it. */
    async function copyOf(
      sourceId: Guid,
      sizes: readonly number[],
    ): Promise<{ source: VmDefinition; copy: VmDefinition }> {
      const source = await host.describeVm(sourceId);
      const diskPaths: string[] = [];
      for (const size of sizes) diskPaths.push(await rig.makeDiskFile(size, Buffer.from('ready')));
      const request = { definition: source, name: 'copy', diskPaths, tag: TAG };
      return { source, copy: await host.describeVm(await host.registerVm(request)) };
    }

    it('gives it the firmware, serial numbers, memory and integration services of its source', async () => {
      const overlay = rig.fake.overlayOf(vmId);
      overlay.services.set(TIME_SERVICE, false).set(GUEST_SERVICE, true);
      overlay.secureBootTemplateId = LINUX_TEMPLATE;
      overlay.dynamicMemory = [String(512 * MIB), String(8192 * MIB)];
      const { source, copy } = await copyOf(vmId, [SIZE]);
      expect(source.hyperV?.secureBootTemplate).to.equal(LINUX_TEMPLATE);
      expect(source.hyperV?.firmwareIds?.chassisSerialNumber).to.contain(vmId);
      expect(source.hyperV?.integrationServices).to.deep.include.members([
        { id: TIME_SERVICE.toLowerCase(), isEnabled: false },
        { id: GUEST_SERVICE.toLowerCase(), isEnabled: true },
      ]);
      // which names the disks and adapters of its own VM
      const bootOrder: readonly never[] = [];
      expect({ ...copy.hyperV, bootOrder }).to.deep.equal({ ...source.hyperV, bootOrder });
    });

    it('starts it from the disk that its source starts from', async () => {
      const twoId = await rig.makeVm('two', [SIZE, 2 * SIZE]);
      const [adapter] = (await host.describeVm(twoId)).adapters;
      rig.fake.overlayOf(twoId).bootOrder = [
        { kind: 'disk', device: '0/1' },
        { kind: 'adapter', device: adapter?.id ?? '' },
        { kind: 'disk', device: '0/0' },
      ];
      const { source, copy } = await copyOf(twoId, [SIZE, 2 * SIZE]);
      const [first, second] = source.disks;
      expect(source.hyperV?.bootOrder).to.deep.equal([
        { kind: 'disk', diskId: second?.diskId },
        { kind: 'adapter', adapterId: adapter?.id },
        { kind: 'disk', diskId: first?.diskId },
      ]);
      expect(copy.hyperV?.bootOrder).to.deep.equal([
        { kind: 'disk', diskId: copy.disks[1]?.diskId },
        { kind: 'adapter', adapterId: copy.adapters[0]?.id },
        { kind: 'disk', diskId: copy.disks[0]?.diskId },
      ]);
    });

    it('gives it an empty TPM, and says in its notes that the keys stayed behind', async () => {
      rig.fake.overlayOf(vmId).hasTpm = true;
      const { copy } = await copyOf(vmId, [SIZE]);
      expect(copy.hyperV?.hasTpm).to.equal(true);
      const { notes } = rig.fake.overlayOf(copy.id);
      expect(notes).to.match(/^Its virtual TPM is new and empty.*recovery key once\.$/m);
      expect(await host.tagOf(copy.id)).to.deep.equal(TAG);
    });

    it('comes up without what a guest starts without, and says so in its notes', async () => {
      rig.fake.overlayOf(vmId).hasTpm = true;
      rig.fake.trouble.refusesTpm = true;
      rig.fake.trouble.refusals.set('machine.setFirmwareIds', { returnValue: 32_773, times: 1 });
      const { copy } = await copyOf(vmId, [SIZE]);
      expect(copy.hyperV?.hasTpm).to.equal(false);
      const lines = rig.fake.overlayOf(copy.id).notes.split('\n');
      expect(lines[0]).to.contain('serial numbers of its source').and.contain('32773');
      expect(lines[1]).to.contain('Enable-VMTPM').and.contain('the host has no guardian for it');
      expect(await host.tagOf(copy.id)).to.deep.equal(TAG);
      await host.startVm(copy.id);
    });

    it('gives one of generation 1 its legacy adapter', async () => {
      const source = await host.describeVm(vmId);
      const [adapter] = source.adapters;
      if (adapter === undefined) throw new Error('a VM without adapters');
      const adapters = [{ ...adapter, isLegacy: true }, adapter];
      const request = {
        definition: { ...source, generation: 1, adapters } as const,
        ...{ name: 'old', tag: TAG },
        diskPaths: [await rig.makeDiskFile(SIZE, Buffer.from('ready'))],
      };
      const old = await host.describeVm(await host.registerVm(request));
      expect(old.adapters.map(({ isLegacy }) => isLegacy)).to.deep.equal([true, undefined]);
    });

    it('takes no shielded VM for one that can be copied', async () => {
      rig.fake.overlayOf(vmId).isShielded = true;
      const [disk] = (await host.describeVm(vmId)).disks;
      expect(disk?.unsupported).to.contain('shielded');
    });

    it('turns secure boot off where its source has it off', async () => {
      rig.fake.overlayOf(vmId).isSecureBoot = false;
      expect((await copyOf(vmId, [SIZE])).copy.hyperV?.isSecureBoot).to.equal(false);
    });

    it('puts its disks where they are at the source, at other controllers too', async () => {
      const source = await host.describeVm(vmId);
      const [disk] = source.disks;
      if (disk === undefined) throw new Error('a VM without disks');
      const places = [
        { controller: 'ide', controllerNumber: 0, controllerLocation: 1 },
        { controller: 'scsi', controllerNumber: 0, controllerLocation: 63 },
        { controller: 'scsi', controllerNumber: 3, controllerLocation: 7 },
      ] as const;
      const disks = places.map((place) => ({ ...disk, ...place }));
      const diskPaths: string[] = [];
      for (const { sizeBytes } of disks) {
        diskPaths.push(await rig.makeDiskFile(sizeBytes, Buffer.from('ready')));
      }
      const definition = { ...source, generation: 1, disks } as const;
      const request = { definition, name: 'spread', diskPaths, tag: TAG };
      const made = await host.describeVm(await host.registerVm(request));
      expect(made.disks.map(({ path }) => path)).to.deep.equal(diskPaths);
      for (const [index, place] of places.entries()) expect(made.disks[index]).to.include(place);
    });

    it('keeps the order of the kinds of devices of generation 1', async () => {
      const source = await host.describeVm(vmId);
      const classes = ['IDE', 'LegacyNetworkAdapter', 'CD', 'Floppy'] as const;
      const bootOrder = classes.map((deviceClass) => ({ kind: 'class', deviceClass }) as const);
      const { hyperV } = source;
      if (hyperV === undefined) throw new Error('a VM of Hyper-V has settings of it');
      const request = {
        definition: { ...source, generation: 1, hyperV: { ...hyperV, bootOrder } } as const,
        ...{ name: 'old', tag: TAG },
        diskPaths: [await rig.makeDiskFile(SIZE, Buffer.from('ready'))],
      };
      const oldId = await host.registerVm(request);
      expect((await host.describeVm(oldId)).hyperV?.bootOrder).to.deep.equal(bootOrder);
    });
  });

  describe('registering at a node of a cluster', () => {
    async function request(
      name: string,
    ): Promise<Parameters<HyperV['registerVm']>[0] & { readonly joinsCluster: true }> {
      const diskPaths = [await rig.makeDiskFile(SIZE, Buffer.from('ready'))];
      const definition = await host.describeVm(vmId);
      return { definition, name, diskPaths, tag: TAG, joinsCluster: true };
    }

    it('makes a VM that serves a role, which goes before its VM does', async () => {
      rig.fake.sharedVolumes.push(rig.work.file('other'), rig.work.file('ready'));
      const madeId = await host.registerVm(await request('serves'));
      expect(rig.fake.overlayOf(madeId)).to.include({ isClustered: true, isOnline: false });
      await host.startVm(madeId);
      expect(rig.fake.overlayOf(madeId).isOnline).to.equal(true);
      await host.turnOffVm(madeId);
      rig.fake.trace.length = 0;
      await host.removeVm(madeId);
      const went = rig.fake.trace.filter((name) => name.includes('remove'));
      expect(went).to.deep.equal(['cluster.removeRole', 'machine.remove']);
    });

    it('makes none of a test, nor of what another node could not reach', async () => {
      rig.fake.sharedVolumes.push(rig.work.file('ready'));
      const testId = await host.registerVm({ ...(await request('test')), joinsCluster: false });
      expect(rig.fake.overlayOf(testId).isClustered).to.equal(false);
      rig.fake.sharedVolumes.splice(0, 1, rig.work.file('read'));
      const localId = await host.registerVm(await request('local'));
      expect(rig.fake.overlayOf(localId).isClustered).to.equal(false);
    });

    it('lets a VM serve without a role that the cluster refuses, and says so in its notes', async () => {
      rig.fake.sharedVolumes.push(rig.work.file('ready'));
      rig.fake.trouble.refusesRoles = true;
      const madeId = await host.registerVm(await request('serves'));
      const { isClustered, notes } = rig.fake.overlayOf(madeId);
      expect(isClustered).to.equal(false);
      expect(notes).to.match(/^It is no role of the cluster.*Add-ClusterVirtualMachineRole.*$/m);
      expect(await host.tagOf(madeId)).to.deep.equal(TAG);
    });

    it('takes role and VM away when it failed after that, or died', async () => {
      rig.fake.sharedVolumes.push(rig.work.file('ready'));
      const wish = await request('serves');
      const renaming = rig.fake.runner();
      const failing: OperationRunner = {
        run: (operation, args) =>
          operation.name === 'machine.rename'
            ? Promise.reject(new DrError('E_HYPERVISOR', 'not now'))
            : renaming.run(operation, args),
        close: () => renaming.close(),
      };
      await refuses('E_HYPERVISOR', () => rig.open({ runner: failing }).registerVm(wish));
      expect(rig.fake.trace.slice(-2)).to.deep.equal(['cluster.removeRole', 'machine.remove']);
      for (let calls = 1; (await host.findTagged(TAG)) === undefined; calls++) {
        const dying = rig.open({ runner: new DyingRunner(rig.fake.runner(), calls) });
        await dying.registerVm(wish).catch(() => undefined);
      }
      expect((await rig.fake.lab.listVms()).length).to.equal(2);
    });

    it('tells its cluster when the VM gets other files', async () => {
      rig.fake.sharedVolumes.push(rig.work.file('ready'));
      const wish = await request('serves');
      const madeId = await host.registerVm(wish);
      const child = await rig.makeChildFile(wish.diskPaths[0] ?? '');
      await host.setDiskFiles(madeId, [child]);
      expect(rig.fake.trace).to.include('cluster.updateRole');
    });
  });

  it('sets an IPv6 address in any text, and forgets one that the guest refused', async () => {
    const [adapter] = (await host.describeVm(vmId)).adapters;
    const adapterId = adapter?.id ?? vmId;
    const settings = (address: string) => ({
      ...{ isDhcp: false, addresses: [address], gateways: [], dnsServers: [] },
    });
    const guestHas = async (): Promise<readonly string[] | undefined> =>
      (await host.describeVm(vmId)).adapters[0]?.guest.addresses;
    await host.startVm(vmId);
    await host.setGuestAddress(vmId, adapterId, settings('2001:db8::0a/64'));
    const before = await guestHas();
    expect(before).to.deep.equal(['2001:0DB8:0000:0000:0000:0000:0000:000A/64']);
    rig.fake.trouble.jobFails.set('guest.setAdapter', { text: 'Refused.', code: 32_768 });
    await refuses('E_REIP_GUEST', () =>
      host.setGuestAddress(vmId, adapterId, settings('192.0.2.7/24')),
    );
    rig.fake.trouble.jobFails.clear();
    await host.turnOffVm(vmId);
    await host.startVm(vmId);
    expect(await guestHas()).to.deep.equal(before);
  });

  it('puts a disk where a new VM of generation 1 has its DVD drive', async () => {
    const definition = await host.describeVm(vmId);
    const place = { controller: 'ide', controllerNumber: 1, controllerLocation: 0 } as const;
    const disks = definition.disks.map((disk) => ({ ...disk, ...place }));
    const file = await rig.makeDiskFile(SIZE, Buffer.from('ready'));
    const madeId = await host.registerVm({
      definition: { ...definition, generation: 1, disks },
      ...{ name: 'old', diskPaths: [file], tag: TAG },
    });
    expect((await host.describeVm(madeId)).disks[0]).to.include(place);
  });

  it('takes no copy of a VM, which has its notes too, for one of ours', async () => {
    const definition = await host.describeVm(vmId);
    const file = await rig.makeDiskFile(SIZE, Buffer.from('ready'));
    const request = { definition, name: 'ours', diskPaths: [file], tag: TAG };
    const oursId = await host.registerVm(request);
    await host.fenceVm(oursId, { tag: TAG, epoch: 1n });
    const copyId = await rig.makeVm('a copy', [SIZE]);
    rig.fake.overlayOf(copyId).notes = rig.fake.overlayOf(oursId).notes;
    expect((await host.findTagged(TAG))?.id).to.equal(oursId);
    expect(await host.tagOf(copyId)).to.equal(undefined);
    expect(await host.fenceOf(copyId)).to.equal(undefined);
    await host.startVm(copyId);
    await refuses('E_FENCED', () => host.startVm(oursId));
    // an edit takes no fence away
    const overlay = rig.fake.overlayOf(oursId);
    overlay.notes = overlay.notes.replaceAll('"vmId"', '"vm"');
    await refuses('E_FENCED', () => host.startVm(oursId));
  });

  it('takes a VM away whose registering failed half-way, also when that died', async () => {
    const definition = await host.describeVm(vmId);
    const file = await rig.makeDiskFile(SIZE, Buffer.from('ready'));
    const request = { definition, name: 'copy', diskPaths: [file], tag: TAG };
    for (let calls = 1; ; calls++) {
      const dying = new DyingRunner(rig.fake.runner(), calls);
      const isDone = await rig
        .open({ runner: dying })
        .registerVm(request)
        .then(
          () => true,
          () => false,
        );
      const tagged = await host.findTagged(TAG);
      const listed = (await host.listVms()).map(({ name }) => name).filter((each) => each !== 'vm');
      // there is the whole VM, or none that anybody takes for it
      expect(tagged === undefined ? [] : ['copy']).to.deep.equal(listed);
      if (tagged !== undefined) {
        expect((await host.describeVm(tagged.id)).disks[0]?.path).to.equal(file);
        await host.removeVm(tagged.id);
      }
      if (isDone) break;
    }
    const madeId = await host.registerVm(request);
    expect((await rig.fake.lab.listVms()).length).to.equal(2);
    await host.removeVm(madeId);
  });

  it('owns the reference point of a conversion that died, when the next conversion asks for no list', async () => {
    const { id } = await host.createCheckpoint(vmId, REQUEST);
    const runner = new DyingRunner(rig.fake.runner(), 'checkpoint.convert');
    await rig
      .open({ runner })
      .convertToReferencePoint(vmId, id)
      .catch(() => undefined);
    const next = rig.open();
    const { id: nextId } = await next.createCheckpoint(vmId, REQUEST);
    await next.convertToReferencePoint(vmId, nextId);
    const tags = (await next.listReferencePoints(vmId)).map(({ tag }) => tag);
    expect(tags).to.deep.equal([TAG, TAG]);
  });

  it('gives a checkpoint back only when the conversion that a killed process asked for is over', async () => {
    const { id } = await host.createCheckpoint(vmId, REQUEST);
    const slow = new SlowConversion(rig.fake);
    await rig
      .open({ runner: slow })
      .convertToReferencePoint(vmId, id)
      .catch(() => undefined);
    const next = rig.open({ runner: slow });
    await next.removeCheckpoint(vmId, id);
    expect(await next.listCheckpoints(vmId)).to.deep.equal([]);
    expect((await next.listReferencePoints(vmId)).map(({ tag }) => tag)).to.deep.equal([TAG]);
  });

  it('dies after any call of a cycle: the next one cleans up, and loses no change', async () => {
    let calls = 1;
    for (let isDone = false; !isDone; calls++) {
      const before = await mark();
      await write(MIB, calls);
      isDone = await cycle(rig.open({ runner: new DyingRunner(rig.fake.runner(), calls) })).then(
        () => true,
        () => false,
      );
      await write(2 * MIB, calls);
      const next = rig.open();
      for (const { id, tag } of await next.listCheckpoints(vmId)) {
        expect(tag, `an orphan after ${String(calls)} calls`).to.deep.equal(TAG);
        await next.removeCheckpoint(vmId, id);
      }
      await next.waitForMerge(vmId, MERGE_MS);
      const points = await next.listReferencePoints(vmId);
      for (const { tag } of points) expect(tag).to.deep.equal(TAG);
      const checkpoint = await next.createCheckpoint(vmId, REQUEST);
      const isThere = points.some(({ id }) => id === before.id);
      if (isThere) {
        const ranges = await rangesOf(checkpoint, before.trackingId, next);
        expect(covers(ranges, MIB) && covers(ranges, 2 * MIB), String(calls)).to.equal(true);
      } else {
        // the cycle had its own point before it gave the old one back
        expect(points.length).to.equal(1);
        const ranges = await rangesOf(checkpoint, points[0]?.disks[0]?.trackingId ?? '', next);
        expect(covers(ranges, 2 * MIB)).to.equal(true);
      }
      await next.removeCheckpoint(vmId, checkpoint.id);
      await next.waitForMerge(vmId, MERGE_MS);
      for (const { id } of points) await next.removeReferencePoint(vmId, id);
      expect(await next.listReferencePoints(vmId)).to.deep.equal([]);
    }
    expect(calls, 'a cycle has many calls').to.be.greaterThan(20);
  });

  /** A delta cycle, as the agent runs one. */
  async function cycle(by: HyperV): Promise<void> {
    const [old] = await by.listReferencePoints(vmId);
    const checkpoint = await by.createCheckpoint(vmId, REQUEST);
    await rangesOf(checkpoint, old?.disks[0]?.trackingId ?? '', by);
    const point = await by.convertToReferencePoint(vmId, checkpoint.id);
    await by.waitForMerge(vmId, MERGE_MS);
    if (old !== undefined && old.id !== point.id) await by.removeReferencePoint(vmId, old.id);
  }

  it('asks for what a full and a delta cycle take, in this order', async () => {
    const { trace } = rig.fake;
    trace.length = 0;
    const changing = (): string[] => trace.filter((name) => CHANGES.has(name));
    const full = await mark();
    expect(changing()).to.deep.equal(GOLDEN.map(([name]) => name));
    trace.length = 0;
    await cycle(host);
    // the old point goes last: until the new one is recorded, its id is what the next cycle asks with
    expect(changing()).to.deep.equal([...GOLDEN.map(([name]) => name), 'referencePoint.destroy']);
    expect((await host.listReferencePoints(vmId)).map(({ id }) => id)).not.to.include(full.id);
  });
});

/** What a cycle changes at the host, and why there. */
const GOLDEN = [
  ['checkpoint.create', 'the one moment of all disks'],
  ['checkpoint.rename', 'from now on it is known for ours, without our memory'],
  [
    'checkpoint.convert',
    'deletes the checkpoint and begins the merge, after every handle was closed',
  ],
] as const;

const CHANGES = new Set([
  ...['checkpoint.create', 'checkpoint.rename', 'checkpoint.convert', 'checkpoint.destroy'],
  ...['referencePoint.destroy', 'job.cancel'],
]);

/** What the lab calls an object of the fake host. */
function labIdOf(instanceId: string): string {
  return instanceId.slice(instanceId.indexOf(':') + 1).toLowerCase();
}

/** The process dies after so many calls, or after that one: the last one has its effect, and nobody hears of it. */
class DyingRunner implements OperationRunner {
  readonly #runner: OperationRunner;
  readonly #last: string | undefined;
  #left: number;

  constructor(runner: OperationRunner, end: number | string) {
    this.#runner = runner;
    this.#last = typeof end === 'string' ? end : undefined;
    this.#left = typeof end === 'number' ? end : Infinity;
  }

  async run<A extends Arguments, R>(operation: Operation<A, R>, args: A): Promise<R> {
    if (this.#left <= 0) throw new Error('dead');
    const answer = await this.#runner.run(operation, args);
    this.#left = operation.name === this.#last ? 0 : this.#left - 1;
    if (this.#left === 0) throw new Error('dies');
    return answer;
  }

  close(): Promise<void> {
    return this.#runner.close();
  }
}

/** Whoever asks for a conversion dies, and vmms is at it until its status was looked at three times. */
class SlowConversion implements OperationRunner {
  readonly #fake: FakeHyperVHost;
  readonly #runner: OperationRunner;
  #end: (() => Promise<unknown>) | undefined;
  #looksLeft = 3;

  constructor(fake: FakeHyperVHost) {
    this.#fake = fake;
    this.#runner = fake.runner();
  }

  async run<A extends Arguments, R>(operation: Operation<A, R>, args: A): Promise<R> {
    const isAtWork = this.#end !== undefined;
    if (operation.name === 'checkpoint.convert') {
      this.#end = () => this.#runner.run(operation, args);
      this.#fake.trouble.activities = [32_770];
      throw new Error('dies');
    }
    if (isAtWork && operation.name === 'checkpoint.destroy') throw new Error('vmms is at it');
    if (isAtWork && operation.name === 'machine.status' && --this.#looksLeft === 0) {
      this.#fake.trouble.activities = [];
      await this.#end?.();
      this.#end = undefined;
    }
    return this.#runner.run(operation, args);
  }

  close(): Promise<void> {
    return this.#runner.close();
  }
}
