import { basename, dirname } from 'node:path';
import { expect } from 'chai';
import { guid, type Guid } from '../../../shared/bytes/index.js';
import { systemClock } from '../../../shared/clock.js';
import type { ErrorCode } from '../../../shared/errors.js';
import { openHypervisor } from '../../../shared/hypervisor/index.js';
import { CALLS, Lab } from '../../../shared/hypervisor/lab/index.js';
import { openVhdx } from '../../../shared/vhdx/index.js';
import { FakeClock } from '../../support/fake-clock.js';
import { changesOf, LAB_FOLDER, LAB_REQUEST, labSeams, openLab } from '../../support/lab-model.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { SeededRandom } from '../../support/seeded-random.js';

const MIB = 1024 * 1024;
const SIZE = 4 * MIB + 512;
const WAIT_MS = 30_000;

describe('the lab', () => {
  let fs: MemoryFileSystem;
  let lab: Lab;
  let vmId: Guid;
  let diskId: Guid;

  beforeEach(async () => {
    fs = new MemoryFileSystem();
    lab = await Lab.create(LAB_FOLDER, labSeams(fs));
    vmId = await lab.createVm({ name: 'vm', disks: [{ source: { sizeBytes: SIZE } }] });
    diskId = (await lab.describeVm(vmId)).disks[0]?.diskId ?? vmId;
  });

  async function refuses(code: ErrorCode, action: () => Promise<unknown>): Promise<string> {
    const error = await refusal(action);
    expect(error.code).to.equal(code);
    return error.message;
  }

  async function pointNow(): Promise<{ id: string; trackingId: string }> {
    const { id } = await lab.createCheckpoint(vmId, LAB_REQUEST);
    const point = await lab.convertToReferencePoint(vmId, id);
    await lab.waitForMerge(vmId, WAIT_MS);
    return { id: point.id, trackingId: point.disks[0]?.trackingId ?? '' };
  }

  async function ask(trackingId: string): Promise<number> {
    const { id } = await lab.createCheckpoint(vmId, LAB_REQUEST);
    try {
      const ranges = await changesOf(lab, vmId, id, diskId, trackingId);
      return ranges.reduce((sum, { start, end }) => sum + end - start, 0);
    } finally {
      await lab.removeCheckpoint(vmId, id);
      await lab.waitForMerge(vmId, WAIT_MS);
    }
  }

  const leafPath = async (): Promise<string> => (await lab.describeVm(vmId)).disks[0]?.path ?? '';

  describe('change tracking', () => {
    it('reports cells, as many as were written to and not more', async () => {
      const { trackingId } = await pointNow();
      expect(await ask(trackingId)).to.equal(0);
      await lab.guestWrite(vmId, 0, MIB + 100, Buffer.alloc(10, 1));
      await lab.guestZero(vmId, 0, SIZE - 1, 1);
      expect(await ask(trackingId)).to.equal(65536 + 512);
    });

    it('is invalid after a resize, and says so', async () => {
      const { trackingId } = await pointNow();
      await lab.resizeDisk(vmId, 0, 6 * MIB);
      expect(await refuses('E_TRACKING_INVALID', () => ask(trackingId))).to.contain('resized');
      await lab.resizeDisk(vmId, 0, SIZE);
      await refuses('E_TRACKING_INVALID', () => ask(trackingId));
      expect(await ask((await pointNow()).trackingId)).to.equal(0);
    });

    it('is invalid after a checkpoint was applied', async () => {
      await lab.addUserCheckpoint(vmId, 'base');
      const { trackingId } = await pointNow();
      await lab.applyUserCheckpoint(vmId, 'base');
      const message = await refuses('E_TRACKING_INVALID', () => ask(trackingId));
      expect(message).to.contain('base was applied');
    });

    it('is invalid after the disk file was written to by somebody else', async () => {
      const { trackingId } = await pointNow();
      await lab.guestWrite(vmId, 0, 0, Buffer.alloc(512, 1));
      const disk = await openVhdx(await leafPath(), {
        fs,
        random: new SeededRandom(4711),
        isWritable: true,
      });
      await disk.write(3 * MIB, Buffer.alloc(512, 7));
      await disk.close();
      const message = await refuses('E_TRACKING_INVALID', () => ask(trackingId));
      expect(message).to.contain('outside of the lab');
      // the guest's own writes after it do not make it valid again
      await lab.guestWrite(vmId, 0, 0, Buffer.alloc(512, 2));
      await refuses('E_TRACKING_INVALID', () => ask(trackingId));
    });

    it('is invalid after an older copy of the disk file was put back', async () => {
      await lab.guestWrite(vmId, 0, 0, Buffer.alloc(512, 1));
      const old = fs.content(await leafPath()) ?? Buffer.alloc(0);
      const { trackingId } = await pointNow();
      await lab.guestWrite(vmId, 0, MIB, Buffer.alloc(512, 2));
      fs.put(await leafPath(), old);
      await refuses('E_TRACKING_INVALID', () => ask(trackingId));
    });

    it('is invalid when a tracking file is gone, cut short or damaged', async () => {
      for (const damage of ['gone', 'short', 'flipped', 'head'] as const) {
        const { trackingId, id } = await pointNow();
        await lab.guestWrite(vmId, 0, 0, Buffer.alloc(512, 1));
        const { sequences } = (await lab.findVm('vm')).disks[0]?.tracking ?? { sequences: [] };
        const file = `${LAB_FOLDER}/vms/${vmId}/tracking/${diskId}.${sequences.at(-1) ?? 0}.track`;
        const bytes = fs.content(file) ?? Buffer.alloc(0);
        if (damage === 'gone') await fs.remove(file);
        if (damage === 'short') fs.put(file, bytes.subarray(0, 512));
        if (damage === 'flipped') bytes.writeUInt8(bytes.readUInt8(600) ^ 1, 600);
        if (damage === 'head') bytes.writeUInt8(bytes.readUInt8(60) ^ 1, 60);
        if (damage === 'flipped' || damage === 'head') fs.put(file, bytes);
        await refuses('E_TRACKING_INVALID', () => ask(trackingId));
        await lab.removeReferencePoint(vmId, id);
      }
    });

    it('that turns out to be damaged holds up no guest', async () => {
      await lab.guestWrite(vmId, 0, 0, Buffer.alloc(512, 1));
      const { trackingId } = await pointNow();
      await lab.guestWrite(vmId, 0, 0, Buffer.alloc(512, 2));
      const { sequences } = (await lab.findVm('vm')).disks[0]?.tracking ?? { sequences: [] };
      const file = `${LAB_FOLDER}/vms/${vmId}/tracking/${diskId}.${sequences.at(-1) ?? 0}.track`;
      const bytes = fs.content(file) ?? Buffer.alloc(0);
      bytes.writeUInt8(bytes.readUInt8(700) ^ 4, 700);
      fs.put(file, bytes);
      await lab.withGuestDisk(vmId, 0, async (disk) => {
        await Promise.all([0, 1, 2, 3].map((n) => disk.write(n * MIB, Buffer.alloc(512, n + 3))));
      });
      for (const n of [0, 1, 2, 3]) {
        expect((await lab.guestRead(vmId, 0, n * MIB, 1))[0]).to.equal(n + 3);
      }
      const message = await refuses('E_TRACKING_INVALID', () => ask(trackingId));
      expect(message).to.contain('damaged');
      const next = await pointNow();
      await lab.guestWrite(vmId, 0, MIB, Buffer.alloc(512, 9));
      expect(await ask(next.trackingId)).to.equal(65536);
    });

    it('is invalid for a reference point that was removed, and for one that is unknown', async () => {
      const first = await pointNow();
      const { id: checkpointId } = await lab.createCheckpoint(vmId, LAB_REQUEST);
      await lab.removeReferencePoint(vmId, first.id);
      const removed = () => changesOf(lab, vmId, checkpointId, diskId, first.trackingId);
      expect(await refuses('E_TRACKING_INVALID', removed)).to.contain('removed');
      const strange = `lab:${guid('11111111-2222-3333-4444-555555555555')}:1`;
      const unknown = () => changesOf(lab, vmId, checkpointId, diskId, strange);
      expect(await refuses('E_TRACKING_INVALID', unknown)).to.contain('unknown');
    });

    it('is invalid for a reference point that is younger than the checkpoint', async () => {
      await lab.setFault('foreign-checkpoint', undefined, vmId);
      const [older] = await lab.listCheckpoints(vmId);
      await lab.guestWrite(vmId, 0, 0, Buffer.alloc(1, 1));
      const { id } = await lab.createCheckpoint(vmId, LAB_REQUEST);
      const point = await lab.convertToReferencePoint(vmId, id);
      const trackingId = point.disks[0]?.trackingId ?? '';
      const query = () => changesOf(lab, vmId, older?.id ?? '', diskId, trackingId);
      expect(await refuses('E_TRACKING_INVALID', query)).to.contain('younger');
    });

    it('keeps as many generations as there are moments to ask from', async () => {
      const first = await pointNow();
      for (let cycle = 0; cycle < 5; cycle++) {
        await lab.guestWrite(vmId, 0, cycle * 70_000, Buffer.alloc(512, 1));
        await ask(first.trackingId);
      }
      expect(await ask(first.trackingId)).to.equal(5 * 65536);
      const names = await fs.list(`${LAB_FOLDER}/vms/${vmId}/tracking`);
      expect(names.length).to.be.at.most(3);
      await lab.removeReferencePoint(vmId, first.id);
      await ask((await pointNow()).trackingId);
      expect((await fs.list(`${LAB_FOLDER}/vms/${vmId}/tracking`)).length).to.be.at.most(2);
    });

    it('of 64 TiB costs what was written', async () => {
      const size = 64 * 1024 ** 4;
      const wide = await lab.createVm({ name: 'wide', disks: [{ source: { sizeBytes: size } }] });
      const { id } = await lab.createCheckpoint(wide, LAB_REQUEST);
      const point = await lab.convertToReferencePoint(wide, id);
      await lab.waitForMerge(wide, WAIT_MS);
      await lab.guestWrite(wide, 0, size - 512, Buffer.alloc(512, 1));
      await lab.guestWrite(wide, 0, size / 2, Buffer.alloc(512, 1));
      const next = await lab.createCheckpoint(wide, LAB_REQUEST);
      const [disk] = point.disks;
      const ranges = await changesOf(
        lab,
        wide,
        next.id,
        disk?.diskId ?? vmId,
        disk?.trackingId ?? '',
      );
      expect(ranges).to.deep.equal([
        { start: size / 2, end: size / 2 + 65536 },
        { start: size - 65536, end: size },
      ]);
      const folder = `${LAB_FOLDER}/vms/${wide}/tracking`;
      for (const name of await fs.list(folder)) {
        expect(fs.storedBytes(`${folder}/${name}`)).to.be.lessThan(200_000);
      }
    });
  });

  describe('scripted faults', () => {
    it('are listed, replaced and cleared, for one VM and for all', async () => {
      await lab.setFault('checkpoint-slow', '5', vmId);
      await lab.setFault('checkpoint-slow', '6', vmId);
      await lab.setFault('disk-full');
      expect(await (await openLab(fs)).listFaults()).to.deep.equal([
        { fault: 'checkpoint-slow', vmId, argument: '6' },
        { fault: 'disk-full', vmId: undefined, argument: undefined },
      ]);
      await lab.clearFault('checkpoint-slow', vmId);
      await lab.clearFault('disk-full');
      expect(await lab.listFaults()).to.deep.equal([]);
    });

    it('are refused when they are none or have a wrong argument', async () => {
      await refuses('E_PARAMETER', () => lab.setFault('no-such'));
      await refuses('E_PARAMETER', () => lab.setFault('checkpoint-slow'));
      await refuses('E_PARAMETER', () => lab.setFault('checkpoint-slow', 'long'));
      await refuses('E_PARAMETER', () => lab.setFault('disk-full', '7'));
      await refuses('E_PARAMETER', () => lab.setFault('die-before', 'lunch'));
      await refuses('E_NOT_FOUND', () => lab.setFault('disk-full', undefined, diskId));
    });

    const CASES: readonly (readonly [string, ErrorCode, () => Promise<unknown>])[] = [
      ['checkpoint-fails', 'E_CHECKPOINT', () => lab.createCheckpoint(vmId, LAB_REQUEST)],
      ['disk-full', 'E_CAPACITY', () => lab.createCheckpoint(vmId, LAB_REQUEST)],
      ['disk-full', 'E_CAPACITY', () => lab.guestWrite(vmId, 0, 0, Buffer.alloc(512, 1))],
      ['disk-full', 'E_CAPACITY', () => lab.addUserCheckpoint(vmId)],
      ['turn-off-fails', 'E_HYPERVISOR', () => lab.turnOffVm(vmId)],
      ['boot-fails', 'E_HYPERVISOR', () => lab.startVm(vmId)],
    ];
    for (const [fault, code, action] of CASES) {
      it(`${fault} ends in ${code}, and clearing it mends everything`, async () => {
        await lab.setFault(fault, undefined, vmId);
        await refuses(code, action);
        await lab.clearFault(fault, vmId);
        await action();
      });
    }

    it('quiesce-refused refuses application consistency only', async () => {
      await lab.setFault('quiesce-refused');
      const application = { ...LAB_REQUEST, consistency: 'application' } as const;
      await refuses('E_CONSISTENCY', () => lab.createCheckpoint(vmId, application));
      expect((await lab.createCheckpoint(vmId, LAB_REQUEST)).consistency).to.equal('crash');
    });

    it('convert-fails leaves the checkpoint', async () => {
      const { id } = await lab.createCheckpoint(vmId, LAB_REQUEST);
      await lab.setFault('convert-fails');
      await refuses('E_CHECKPOINT', () => lab.convertToReferencePoint(vmId, id));
      expect((await lab.listCheckpoints(vmId)).length).to.equal(1);
    });

    it('no-heartbeat and shutdown-ignored are the guest\u2019s', async () => {
      await lab.startVm(vmId);
      await lab.setFault('no-heartbeat');
      expect(await lab.heartbeat(vmId)).to.equal('absent');
      await lab.setFault('shutdown-ignored');
      await refuses('E_SHUTDOWN_TIMEOUT', () => lab.shutDownVm(vmId, 1));
      expect((await lab.listVms())[0]?.powerState).to.equal('running');
      await lab.turnOffVm(vmId);
    });

    it('boot-slow keeps a guest silent until its time is over, for every process', async () => {
      await lab.setFault('boot-slow', '5000');
      await lab.startVm(vmId);
      await lab.clearFault('boot-slow');
      expect(await (await openLab(fs)).heartbeat(vmId)).to.equal('absent');
      await lab.turnOffVm(vmId);
      await lab.startVm(vmId);
      expect(await lab.heartbeat(vmId)).to.equal('ok');
      await lab.turnOffVm(vmId);
    });

    it('foreign-checkpoint makes one that is not ours, which stays until the fault is cleared', async () => {
      await lab.setFault('foreign-checkpoint', undefined, vmId);
      const [foreign] = await lab.listCheckpoints(vmId);
      expect(foreign?.tag).to.equal(undefined);
      await refuses('E_CHECKPOINT', () => lab.removeCheckpoint(vmId, foreign?.id ?? ''));
      const ours = await lab.createCheckpoint(vmId, LAB_REQUEST);
      await lab.guestWrite(vmId, 0, 0, Buffer.alloc(512, 1));
      await lab.removeCheckpoint(vmId, ours.id);
      await lab.waitForMerge(vmId, WAIT_MS);
      await lab.clearFault('foreign-checkpoint', vmId);
      await lab.waitForMerge(vmId, WAIT_MS);
      expect(await lab.listCheckpoints(vmId)).to.deep.equal([]);
      expect((await lab.findVm('vm')).disks[0]?.files.length).to.equal(1);
      expect((await lab.guestRead(vmId, 0, 0, 1))[0]).to.equal(1);
    });

    it('tracking-lost invalidates what was, also after it was cleared', async () => {
      const { trackingId } = await pointNow();
      const { id } = await lab.createCheckpoint(vmId, LAB_REQUEST);
      await lab.setFault('tracking-lost', undefined, vmId);
      const query = () => changesOf(lab, vmId, id, diskId, trackingId);
      expect(await refuses('E_TRACKING_INVALID', query)).to.contain('tracking-lost');
      await lab.clearFault('tracking-lost', vmId);
      await refuses('E_TRACKING_INVALID', query);
      await lab.removeCheckpoint(vmId, id);
      expect(await ask((await pointNow()).trackingId)).to.equal(0);
    });

    it('checkpoint-slow takes the time, and gives up at the limit; the guest writes on', async () => {
      const clock = new FakeClock();
      const slow = await Lab.open(LAB_FOLDER, { ...labSeams(fs), clock });
      await slow.setFault('checkpoint-slow', '5000', vmId);
      const making = slow.createCheckpoint(vmId, LAB_REQUEST);
      await lab.guestWrite(vmId, 0, 0, Buffer.alloc(512, 1));
      await clock.advance(4999);
      expect(await lab.listCheckpoints(vmId)).to.deep.equal([]);
      await clock.advance(1);
      await making;
      const late = refusal(() => slow.createCheckpoint(vmId, { ...LAB_REQUEST, timeoutMs: 100 }));
      await clock.advance(100);
      expect((await late).code).to.equal('E_STALLED');
    });

    it('merge-delay keeps the merge away, not the guest', async () => {
      const clock = new FakeClock();
      const delayed = await Lab.open(LAB_FOLDER, { ...labSeams(fs), clock });
      await delayed.setFault('merge-delay', '5000', vmId);
      const { id } = await delayed.createCheckpoint(vmId, LAB_REQUEST);
      await delayed.removeCheckpoint(vmId, id);
      const early = refusal(() => delayed.waitForMerge(vmId, 1000));
      await clock.advance(1000);
      expect((await early).code).to.equal('E_STALLED');
      await delayed.guestWrite(vmId, 0, 0, Buffer.alloc(512, 3));
      expect((await delayed.findVm('vm')).disks[0]?.files.length).to.equal(2);
      const merging = delayed.waitForMerge(vmId, 60_000);
      await clock.advance(5000);
      await merging;
      expect((await delayed.findVm('vm')).disks[0]?.files.length).to.equal(1);
      expect((await delayed.guestRead(vmId, 0, 0, 1))[0]).to.equal(3);
    });

    it('die-before and die-after act once, at the call that they name', async () => {
      let deaths = 0;
      const dying = await Lab.open(LAB_FOLDER, {
        ...labSeams(fs),
        die: () => {
          deaths++;
          throw new Error('dead');
        },
      });
      const rejects = async (action: () => Promise<unknown>): Promise<boolean> =>
        action().then(
          () => false,
          () => true,
        );
      await lab.setFault('die-before', 'createCheckpoint', vmId);
      expect(await rejects(() => dying.createCheckpoint(vmId, LAB_REQUEST))).to.equal(true);
      expect((await lab.listCheckpoints(vmId)).length).to.equal(0);
      await lab.setFault('die-after', 'createCheckpoint');
      expect(await rejects(() => dying.createCheckpoint(vmId, LAB_REQUEST))).to.equal(true);
      expect((await lab.listCheckpoints(vmId)).length).to.equal(1);
      await dying.listCheckpoints(vmId);
      expect(deaths).to.equal(2);
      expect(await lab.listFaults()).to.deep.equal([]);
    });

    it('can name every call of both interfaces', () => {
      for (const call of CALLS) expect(call in lab, call).to.equal(true);
    });
  });

  describe('many at once', () => {
    it('two labs over one folder take turns', async () => {
      const other = await openLab(fs);
      await Promise.all(
        Array.from({ length: 12 }, (_, index) =>
          (index % 2 === 0 ? lab : other).guestWrite(
            vmId,
            0,
            index * 1000,
            Buffer.alloc(1000, index + 1),
          ),
        ),
      );
      for (let index = 0; index < 12; index++) {
        const bytes = await lab.guestRead(vmId, 0, index * 1000, 1000);
        expect(bytes.every((byte) => byte === index + 1)).to.equal(true);
      }
    });

    it('a holder that does not let go is named after the time that was given', async () => {
      const lock = await fs.open(`${LAB_FOLDER}/vms/${vmId}/lock`, { mode: 'write' });
      const hasty = await Lab.open(LAB_FOLDER, { ...labSeams(fs), lockTimeoutMs: 30 });
      const startedAt = systemClock.monotonic();
      await refuses('E_LOCKED', () => hasty.guestWrite(vmId, 0, 0, Buffer.alloc(1)));
      expect(systemClock.monotonic() - startedAt).to.be.greaterThan(25);
      await lock.close();
      await hasty.guestWrite(vmId, 0, 0, Buffer.alloc(1));
    });

    it('a merge waits for the reader of a frozen disk, the guest does not', async () => {
      const { id } = await lab.createCheckpoint(vmId, LAB_REQUEST);
      const reader = await lab.openCheckpointDisk(vmId, id, diskId);
      await lab.removeCheckpoint(vmId, id);
      await refuses('E_STALLED', () => lab.waitForMerge(vmId, 50));
      await lab.guestWrite(vmId, 0, 0, Buffer.alloc(512, 9));
      const seen = Buffer.alloc(512);
      await reader.read(0, seen);
      expect(seen.every((byte) => byte === 0)).to.equal(true);
      await reader.close();
      await lab.waitForMerge(vmId, WAIT_MS);
      expect((await lab.guestRead(vmId, 0, 0, 1))[0]).to.equal(9);
    });
  });

  describe('VMs', () => {
    it('keep the files of their disks when they are forgotten, without what checkpoints put above', async () => {
      const file = await leafPath();
      await lab.guestWrite(vmId, 0, 5, Buffer.from('kept'));
      await lab.addUserCheckpoint(vmId);
      await lab.createCheckpoint(vmId, LAB_REQUEST);
      await lab.guestWrite(vmId, 0, 5, Buffer.from('gone'));
      await lab.removeVm(vmId);
      expect(await fs.list(dirname(file))).to.deep.equal([basename(file)]);
      await lab.createVm({ name: 'another' });
      const disk = await openVhdx(file, { fs, random: new SeededRandom(1) });
      const bytes = Buffer.alloc(4);
      await disk.read(5, bytes);
      expect(bytes.toString()).to.equal('kept');
      expect(disk.layers.length).to.equal(1);
      await disk.close();
    });

    it('get the path of a disk back, in whatever order checkpoints go', async () => {
      const file = await leafPath();
      await lab.addUserCheckpoint(vmId, 'low');
      const { id } = await lab.createCheckpoint(vmId, LAB_REQUEST);
      await lab.guestWrite(vmId, 0, 5, Buffer.from('kept'));
      await lab.removeUserCheckpoint(vmId, 'low');
      await lab.waitForMerge(vmId, WAIT_MS);
      await lab.removeCheckpoint(vmId, id);
      await lab.waitForMerge(vmId, WAIT_MS);
      expect(await leafPath()).to.equal(file);
      expect((await lab.guestRead(vmId, 0, 5, 4)).toString()).to.equal('kept');
    });

    it('do not share a disk file', async () => {
      const definition = await lab.describeVm(vmId);
      const path = await leafPath();
      const request = { definition, name: 'copy', tag: LAB_REQUEST.tag };
      await refuses('E_HYPERVISOR', () => lab.registerVm({ ...request, diskPaths: [path] }));
      await refuses('E_HYPERVISOR', () => lab.registerVm({ ...request, diskPaths: [] }));
    });

    it('take a size of sectors of 4096 bytes and an odd number of 512', async () => {
      const other = await lab.createVm({
        name: 'sectors',
        disks: [
          { source: { sizeBytes: 3 * 4096 }, logicalSectorBytes: 4096 },
          { source: { sizeBytes: 7 * 512 }, type: 'fixed' },
        ],
      });
      const { disks } = await lab.describeVm(other);
      expect(disks.map((disk) => [disk.sizeBytes, disk.logicalSectorBytes])).to.deep.equal([
        [12288, 4096],
        [3584, 512],
      ]);
      for (const index of [0, 1]) {
        await lab.guestWrite(other, index, 1000, Buffer.alloc(100, 5));
        await lab
          .createCheckpoint(other, LAB_REQUEST)
          .then(({ id }) => lab.removeCheckpoint(other, id));
        await lab.waitForMerge(other, WAIT_MS);
        expect((await lab.guestRead(other, index, 1000, 1))[0]).to.equal(5);
      }
    });

    it('get and lose disks; a checkpoint holds them fast', async () => {
      await lab.addDisk(vmId, { source: { sizeBytes: MIB } });
      await lab.guestWrite(vmId, 1, 0, Buffer.from('second'));
      const checkpoint = await lab.addUserCheckpoint(vmId);
      await refuses('E_HYPERVISOR', () => lab.removeDisk(vmId, 1));
      await refuses('E_HYPERVISOR', () => lab.resizeDisk(vmId, 1, 2 * MIB));
      await lab.removeUserCheckpoint(vmId, checkpoint.id);
      await lab.waitForMerge(vmId, WAIT_MS);
      await lab.resizeDisk(vmId, 1, 2 * MIB);
      expect((await lab.guestRead(vmId, 1, 0, 6)).toString()).to.equal('second');
      await lab.removeDisk(vmId, 0);
      expect((await lab.describeVm(vmId)).disks.length).to.equal(1);
      expect((await fs.list(`${LAB_FOLDER}/vms/${vmId}/disks`)).length).to.equal(1);
    });

    it('refuse names that cannot stand in a table, and guest ranges beyond the disk', async () => {
      await refuses('E_PARAMETER', () => lab.createVm({ name: ' x' }));
      await refuses('E_PARAMETER', () => lab.createVm({ name: 'a\nb' }));
      await refuses('E_EXISTS', () => lab.createVm({ name: 'vm' }));
      await refuses('E_PARAMETER', () => lab.guestWrite(vmId, 0, SIZE, Buffer.alloc(1)));
      await refuses('E_NOT_FOUND', () => lab.guestWrite(vmId, 3, 0, Buffer.alloc(1)));
    });

    it('with a damaged or newer record are refused, not guessed at', async () => {
      const file = `${LAB_FOLDER}/vms/${vmId}/vm.json`;
      const good = fs.content(file)?.toString() ?? '';
      fs.put(file, Buffer.from(good.replace('"leaf"', '"loaf"')));
      expect(await refuses('E_FILE_DAMAGED', () => lab.describeVm(vmId))).to.contain('leaf');
      fs.put(file, Buffer.from(good.replace('"formatVersion": 1', '"formatVersion": 2')));
      await refuses('E_FILE_VERSION', () => lab.describeVm(vmId));
    });
  });

  describe('opening', () => {
    const seams = () => ({ ...labSeams(fs), log: undefined as never });

    it('by `lab:DIR` works on the lab in that folder', async () => {
      const host = await openHypervisor(`lab:${LAB_FOLDER}`, seams());
      expect(host.name).to.equal(`lab:${LAB_FOLDER}`);
      expect((await host.listVms()).map(({ name }) => name)).to.deep.equal(['vm']);
      await host.close();
    });

    it('refuses what is no lab, no hypervisor, or has no provider here', async () => {
      await refuses('E_NOT_FOUND', () => openHypervisor('lab:/nowhere', seams()));
      await refuses('E_USAGE', () => openHypervisor('lab:', seams()));
      await refuses('E_USAGE', () => openHypervisor('vmware', seams()));
      await refuses('E_HYPERVISOR', () => openHypervisor('hyperv', seams()));
    });

    it('twice as new is refused, and so is a folder with other things in it', async () => {
      await refuses('E_EXISTS', () => Lab.create(LAB_FOLDER, labSeams(fs)));
      fs.put('/other/file.txt', Buffer.from('x'));
      await refuses('E_EXISTS', () => Lab.create('/other', labSeams(fs)));
    });
  });
});
