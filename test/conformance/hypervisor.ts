// What every hypervisor behind shared/hypervisor/{source,target}.ts promises. The suite plays the
// guest through the host under test and keeps a plain copy of each disk beside it.

import path from 'node:path';
import { expect } from 'chai';
import { guid, type Guid } from '../../shared/bytes/index.js';
import type { ReadableDisk } from '../../shared/disk/index.js';
import type { ErrorCode } from '../../shared/errors.js';
import type {
  ByteRange,
  Checkpoint,
  OwnerTag,
  SourceHypervisor,
  TargetHypervisor,
} from '../../shared/hypervisor/index.js';
import { refusal } from '../support/refusal.js';

export interface HypervisorUnderTest {
  readonly host: SourceHypervisor & TargetHypervisor;
  /** A VM that is off, with empty disks of these sizes and one adapter; its name is not taken. */
  makeVm(name: string, diskSizes: readonly number[]): Promise<Guid>;
  /** Durable on return. */
  guestWrite(vmId: Guid, diskIndex: number, offset: number, bytes: Uint8Array): Promise<void>;
  /** A discard. */
  guestZero(vmId: Guid, diskIndex: number, offset: number, lengthBytes: number): Promise<void>;
  guestRead(vmId: Guid, diskIndex: number, offset: number, lengthBytes: number): Promise<Buffer>;
  addSwitch(name: string): Promise<void>;
  /** A VHDX that belongs to no VM, with `bytes` at its beginning; its absolute path. */
  makeDiskFile(sizeBytes: number, bytes: Uint8Array): Promise<string>;
  /** An empty differencing VHDX over a file, with its content id; its absolute path. */
  makeChildFile(parentPath: string): Promise<string>;
  /** A checkpoint of the user's. */
  addUserCheckpoint(vmId: Guid): Promise<void>;
  /** Names of the files in the folder of a file. */
  filesBeside(file: string): Promise<readonly string[]>;
  /** The same host as another process sees it. */
  reopen(): Promise<SourceHypervisor & TargetHypervisor>;
  dispose(): Promise<void>;
}

const MIB = 1024 * 1024;
const SIZE = 8 * MIB + 5 * 512;
const MERGE_MS = 60_000;
const UNKNOWN = guid('11111111-2222-3333-4444-555555555555');
const TAG: OwnerTag = {
  protectionId: guid('aaaaaaaa-0000-4000-8000-000000000001'),
  operationId: guid('aaaaaaaa-0000-4000-8000-000000000002'),
};
const REQUEST = { tag: TAG, consistency: 'crash', timeoutMs: MERGE_MS } as const;

export function hypervisorConformance(
  name: string,
  make: () => Promise<HypervisorUnderTest>,
): void {
  describe(`conformance: ${name}`, function () {
    this.timeout(120_000);
    let under: HypervisorUnderTest;
    let host: HypervisorUnderTest['host'];
    beforeEach(async () => {
      under = await make();
      host = under.host;
    });
    afterEach(async () => {
      await under.dispose();
    });

    async function refuses(code: ErrorCode, action: () => Promise<unknown>): Promise<void> {
      expect((await refusal(action)).code).to.equal(code);
    }

    async function wholeDisk(disk: ReadableDisk): Promise<Buffer> {
      const bytes = Buffer.alloc(disk.sizeBytes);
      await disk.read(0, bytes);
      await disk.close();
      return bytes;
    }

    async function frozen(checkpoint: Checkpoint, index = 0): Promise<Buffer> {
      const diskId = checkpoint.disks[index]?.diskId ?? UNKNOWN;
      return wholeDisk(await host.openCheckpointDisk(checkpoint.vmId, checkpoint.id, diskId));
    }

    async function rangesOf(
      checkpoint: Checkpoint,
      trackingId: string,
      index = 0,
    ): Promise<ByteRange[]> {
      const diskId = checkpoint.disks[index]?.diskId ?? UNKNOWN;
      const ranges: ByteRange[] = [];
      const { vmId, id } = checkpoint;
      for await (const range of host.changedRanges(vmId, id, diskId, trackingId)) {
        expect(range.start, 'ascending, disjoint').to.be.greaterThan(ranges.at(-1)?.end ?? -1);
        expect(range.end).to.be.greaterThan(range.start);
        ranges.push(range);
      }
      expect(ranges.at(-1)?.end ?? 0).to.be.at.most(checkpoint.disks[index]?.sizeBytes ?? 0);
      return ranges;
    }

    const covers = (ranges: readonly ByteRange[], start: number, end: number): boolean =>
      ranges.some((range) => range.start <= start && end <= range.end);

    async function referencePoint(vmId: Guid): Promise<{ id: string; trackingIds: string[] }> {
      const checkpoint = await host.createCheckpoint(vmId, REQUEST);
      const point = await host.convertToReferencePoint(vmId, checkpoint.id);
      await host.waitForMerge(vmId, MERGE_MS);
      return { id: point.id, trackingIds: point.disks.map(({ trackingId }) => trackingId) };
    }

    describe('inventory and power', () => {
      it('lists the VMs by name and describes each', async () => {
        const b = await under.makeVm('b', [SIZE]);
        const a = await under.makeVm('a', [SIZE, 4 * MIB]);
        const listed = await host.listVms();
        expect(listed.map(({ id }) => id)).to.deep.equal([a, b]);
        expect(listed[0]?.powerState).to.equal('off');
        expect(await host.summaryOf(a)).to.deep.equal(listed[0]);
        expect(await host.summaryOf(UNKNOWN)).to.equal(undefined);
        const described = await host.describeVm(a);
        expect(described.disks.map(({ sizeBytes }) => sizeBytes)).to.deep.equal([SIZE, 4 * MIB]);
        expect(new Set(described.disks.map(({ diskId }) => diskId)).size).to.equal(2);
        expect(described.adapters[0]?.mac).to.match(/^[0-9A-F]{12}$/);
      });

      it('refuses a VM that is not there', async () => {
        await refuses('E_NOT_FOUND', () => host.describeVm(UNKNOWN));
        await refuses('E_NOT_FOUND', () => host.startVm(UNKNOWN));
        await refuses('E_NOT_FOUND', () => host.createCheckpoint(UNKNOWN, REQUEST));
      });

      it('starts, shows a heartbeat, shuts down and turns off; each is no error twice', async () => {
        const vmId = await under.makeVm('vm', [SIZE]);
        expect(await host.heartbeat(vmId)).to.equal('absent');
        for (let times = 0; times < 2; times++) await host.startVm(vmId);
        expect(await host.heartbeat(vmId)).to.equal('ok');
        expect((await host.listVms())[0]?.powerState).to.equal('running');
        for (let times = 0; times < 2; times++) await host.shutDownVm(vmId, 30_000);
        expect((await host.listVms())[0]?.powerState).to.equal('off');
        await host.startVm(vmId);
        for (let times = 0; times < 2; times++) await host.turnOffVm(vmId);
        expect(await host.heartbeat(vmId)).to.equal('absent');
      });
    });

    describe('checkpoints', () => {
      it('freeze all disks while the guest writes on', async () => {
        const vmId = await under.makeVm('vm', [SIZE, 4 * MIB]);
        await under.guestWrite(vmId, 0, 100, Buffer.alloc(5000, 1));
        await under.guestWrite(vmId, 1, 2 * MIB, Buffer.alloc(512, 2));
        const checkpoint = await host.createCheckpoint(vmId, REQUEST);
        expect(checkpoint.tag).to.deep.equal(TAG);
        expect(checkpoint.disks.map(({ sizeBytes }) => sizeBytes)).to.deep.equal([SIZE, 4 * MIB]);
        await under.guestWrite(vmId, 0, 0, Buffer.alloc(10_000, 9));
        await under.guestZero(vmId, 1, 2 * MIB, MIB);
        const first = Buffer.alloc(SIZE);
        first.fill(1, 100, 5100);
        const second = Buffer.alloc(4 * MIB);
        second.fill(2, 2 * MIB, 2 * MIB + 512);
        expect((await frozen(checkpoint, 0)).equals(first)).to.equal(true);
        expect((await frozen(checkpoint, 1)).equals(second)).to.equal(true);
        expect((await under.guestRead(vmId, 0, 0, 10_000)).every((byte) => byte === 9)).to.equal(
          true,
        );
        expect((await under.guestRead(vmId, 1, 2 * MIB, 512)).every((byte) => byte === 0)).to.equal(
          true,
        );
      });

      it('can be written around while a reader has one open', async () => {
        const vmId = await under.makeVm('vm', [SIZE]);
        const checkpoint = await host.createCheckpoint(vmId, REQUEST);
        const diskId = checkpoint.disks[0]?.diskId ?? UNKNOWN;
        const reader = await host.openCheckpointDisk(vmId, checkpoint.id, diskId);
        await under.guestWrite(vmId, 0, MIB, Buffer.alloc(MIB, 3));
        const seen = await wholeDisk(reader);
        expect(seen.every((byte) => byte === 0)).to.equal(true);
      });

      it('are found again by another process, with their tag, until they are given back', async () => {
        const vmId = await under.makeVm('vm', [SIZE]);
        const made = await host.createCheckpoint(vmId, REQUEST);
        const other = await under.reopen();
        expect(await other.listCheckpoints(vmId)).to.deep.equal([made]);
        await other.removeCheckpoint(vmId, made.id);
        await other.waitForMerge(vmId, MERGE_MS);
        await other.close();
        expect(await host.listCheckpoints(vmId)).to.deep.equal([]);
        await host.removeCheckpoint(vmId, made.id);
        await refuses('E_NOT_FOUND', () => host.convertToReferencePoint(vmId, made.id));
      });

      it('given back leave the guest what it has written meanwhile', async () => {
        const vmId = await under.makeVm('vm', [SIZE]);
        await under.guestWrite(vmId, 0, 0, Buffer.alloc(3 * MIB, 1));
        const { path: before } = (await host.describeVm(vmId)).disks[0] ?? {};
        const checkpoint = await host.createCheckpoint(vmId, REQUEST);
        await under.guestWrite(vmId, 0, MIB + 512, Buffer.alloc(512, 2));
        await under.guestZero(vmId, 0, 2 * MIB, 1000);
        await host.removeCheckpoint(vmId, checkpoint.id);
        await host.waitForMerge(vmId, MERGE_MS);
        const expected = Buffer.alloc(SIZE);
        expected.fill(1, 0, 3 * MIB);
        expected.fill(2, MIB + 512, MIB + 1024);
        expected.fill(0, 2 * MIB, 2 * MIB + 1000);
        expect((await under.guestRead(vmId, 0, 0, SIZE)).equals(expected)).to.equal(true);
        expect((await host.describeVm(vmId)).disks[0]?.path).to.equal(before);
      });

      it('keep the identity of the disks', async () => {
        const vmId = await under.makeVm('vm', [SIZE]);
        const ids = async (): Promise<string[]> =>
          (await host.describeVm(vmId)).disks.map(({ diskId }) => diskId);
        const before = await ids();
        const checkpoint = await host.createCheckpoint(vmId, REQUEST);
        expect(await ids()).to.deep.equal(before);
        expect(checkpoint.disks.map(({ diskId }) => diskId)).to.deep.equal(before);
        await host.removeCheckpoint(vmId, checkpoint.id);
        await host.waitForMerge(vmId, MERGE_MS);
        expect(await ids()).to.deep.equal(before);
      });
    });

    describe('change tracking', () => {
      it('reports every write and discard between reference point and checkpoint', async () => {
        const vmId = await under.makeVm('vm', [SIZE, 4 * MIB]);
        await under.guestWrite(vmId, 0, 0, Buffer.alloc(7 * MIB, 1));
        const { trackingIds } = await referencePoint(vmId);
        await under.guestWrite(vmId, 0, 3 * MIB + 1, Buffer.alloc(1, 2));
        await under.guestZero(vmId, 0, 5 * MIB, 200_000);
        await under.guestWrite(vmId, 0, SIZE - 512, Buffer.alloc(512, 2));
        const checkpoint = await host.createCheckpoint(vmId, REQUEST);
        const ranges = await rangesOf(checkpoint, trackingIds[0] ?? '');
        expect(covers(ranges, 3 * MIB + 1, 3 * MIB + 2)).to.equal(true);
        expect(covers(ranges, 5 * MIB, 5 * MIB + 200_000)).to.equal(true);
        expect(covers(ranges, SIZE - 512, SIZE)).to.equal(true);
        expect(await rangesOf(checkpoint, trackingIds[1] ?? '', 1)).to.deep.equal([]);
      });

      it('adds up over checkpoints that were given back', async () => {
        const vmId = await under.makeVm('vm', [SIZE]);
        const { trackingIds } = await referencePoint(vmId);
        for (const at of [1, 3, 5]) {
          await under.guestWrite(vmId, 0, at * MIB, Buffer.alloc(512, at));
          const given = await host.createCheckpoint(vmId, REQUEST);
          await host.removeCheckpoint(vmId, given.id);
          await host.waitForMerge(vmId, MERGE_MS);
        }
        const checkpoint = await host.createCheckpoint(vmId, REQUEST);
        const ranges = await rangesOf(checkpoint, trackingIds[0] ?? '');
        for (const at of [1, 3, 5]) {
          expect(covers(ranges, at * MIB, at * MIB + 512), `${at} MiB`).to.equal(true);
        }
      });

      it('survives that the process is another one and the VM was off', async () => {
        const vmId = await under.makeVm('vm', [SIZE]);
        await host.startVm(vmId);
        const { trackingIds } = await referencePoint(vmId);
        await under.guestWrite(vmId, 0, 6 * MIB, Buffer.alloc(512, 1));
        await host.turnOffVm(vmId);
        const other = await under.reopen();
        await other.startVm(vmId);
        const [point] = await other.listReferencePoints(vmId);
        expect(point?.disks.map(({ trackingId }) => trackingId)).to.deep.equal(trackingIds);
        expect(point?.tag).to.deep.equal(TAG);
        await other.close();
        const checkpoint = await host.createCheckpoint(vmId, REQUEST);
        const ranges = await rangesOf(checkpoint, trackingIds[0] ?? '');
        expect(covers(ranges, 6 * MIB, 6 * MIB + 512)).to.equal(true);
      });

      it('goes on from the newer of two reference points, which is the moment of its checkpoint', async () => {
        const vmId = await under.makeVm('vm', [SIZE]);
        const first = await referencePoint(vmId);
        await under.guestWrite(vmId, 0, MIB, Buffer.alloc(512, 1));
        const checkpoint = await host.createCheckpoint(vmId, REQUEST);
        await under.guestWrite(vmId, 0, 2 * MIB, Buffer.alloc(512, 2));
        const second = await host.convertToReferencePoint(vmId, checkpoint.id);
        await host.waitForMerge(vmId, MERGE_MS);
        await host.removeReferencePoint(vmId, first.id);
        await host.removeReferencePoint(vmId, first.id);
        expect((await host.listReferencePoints(vmId)).map(({ id }) => id)).to.deep.equal([
          second.id,
        ]);
        const next = await host.createCheckpoint(vmId, REQUEST);
        const ranges = await rangesOf(next, second.disks[0]?.trackingId ?? '');
        expect(covers(ranges, 2 * MIB, 2 * MIB + 512)).to.equal(true);
      });

      it('refuses an id that is unknown', async () => {
        const vmId = await under.makeVm('vm', [SIZE]);
        await referencePoint(vmId);
        const checkpoint = await host.createCheckpoint(vmId, REQUEST);
        await refuses('E_TRACKING_INVALID', () => rangesOf(checkpoint, 'nonsense'));
      });
    });

    describe('a fence', () => {
      const FENCE = { tag: TAG, epoch: 7n };

      it('keeps a VM from being started, for every process, until it is lifted', async () => {
        const vmId = await under.makeVm('vm', [SIZE]);
        const before = await host.describeVm(vmId);
        expect(await host.fenceOf(vmId)).to.equal(undefined);
        await host.fenceVm(vmId, FENCE);
        await refuses('E_FENCED', () => host.startVm(vmId));
        const other = await under.reopen();
        expect(await other.fenceOf(vmId)).to.deep.equal(FENCE);
        await refuses('E_FENCED', () => other.startVm(vmId));
        await other.close();
        const fenced = await host.describeVm(vmId);
        expect(fenced.isAutoStart).to.equal(false);
        expect(fenced.adapters.map(({ switchName }) => switchName)).to.deep.equal([undefined]);
        expect((await host.listVms())[0]?.powerState).to.equal('off');
        for (let times = 0; times < 2; times++) await host.unfenceVm(vmId);
        expect(await host.fenceOf(vmId)).to.equal(undefined);
        expect(await host.describeVm(vmId)).to.deep.equal(before);
        await host.startVm(vmId);
      });

      it('again, or of a later epoch, forgets nothing of what was before', async () => {
        const vmId = await under.makeVm('vm', [SIZE]);
        const before = await host.describeVm(vmId);
        for (let times = 0; times < 2; times++) await host.fenceVm(vmId, FENCE);
        const later = { tag: { ...TAG, operationId: UNKNOWN }, epoch: 2n ** 63n + 1n };
        await host.fenceVm(vmId, later);
        expect(await host.fenceOf(vmId)).to.deep.equal(later);
        await host.unfenceVm(vmId);
        expect(await host.describeVm(vmId)).to.deep.equal(before);
      });

      it('is for a VM that is off, and does not keep it from being read', async () => {
        const vmId = await under.makeVm('vm', [SIZE]);
        await host.startVm(vmId);
        await refuses('E_STATE', () => host.fenceVm(vmId, FENCE));
        expect(await host.fenceOf(vmId)).to.equal(undefined);
        await host.turnOffVm(vmId);
        await under.guestWrite(vmId, 0, 0, Buffer.from('kept'));
        await host.fenceVm(vmId, FENCE);
        const checkpoint = await host.createCheckpoint(vmId, REQUEST);
        expect((await frozen(checkpoint)).subarray(0, 4).toString()).to.equal('kept');
        await host.removeCheckpoint(vmId, checkpoint.id);
        await refuses('E_NOT_FOUND', () => host.fenceVm(UNKNOWN, FENCE));
        await refuses('E_NOT_FOUND', () => host.fenceOf(UNKNOWN));
      });
    });

    describe('what stands above a file', () => {
      async function above(
        checkpoint: Checkpoint,
        ancestorPath: string,
        index = 0,
      ): Promise<ByteRange[]> {
        const diskId = checkpoint.disks[index]?.diskId ?? UNKNOWN;
        const ranges: ByteRange[] = [];
        const { vmId, id } = checkpoint;
        for await (const range of host.rangesAbove(vmId, id, diskId, ancestorPath)) {
          expect(range.start, 'ascending, disjoint').to.be.greaterThan(ranges.at(-1)?.end ?? -1);
          expect(range.end).to.be.greaterThan(range.start);
          ranges.push(range);
        }
        expect(ranges.at(-1)?.end ?? 0).to.be.at.most(checkpoint.disks[index]?.sizeBytes ?? 0);
        return ranges;
      }

      /** A VM on a child of a file with a byte at each MiB; the file, and the VM. */
      async function overFile(): Promise<{ ancestor: string; vmId: Guid }> {
        const bytes = Buffer.alloc(SIZE);
        for (let at = 0; at < SIZE; at += MIB) bytes[at] = 1;
        const ancestor = await under.makeDiskFile(SIZE, bytes);
        const child = await under.makeChildFile(ancestor);
        const model = await host.describeVm(await under.makeVm('model', [SIZE]));
        const definition = { ...model, name: 'over' };
        const request = { definition, name: 'over', diskPaths: [child], tag: TAG };
        return { ancestor, vmId: await host.registerVm(request) };
      }

      it('is what was written, zeroed and discarded, through checkpoints of the user', async () => {
        const { ancestor, vmId } = await overFile();
        await under.guestWrite(vmId, 0, MIB, Buffer.alloc(4096, 2));
        await under.addUserCheckpoint(vmId);
        await under.guestZero(vmId, 0, 2 * MIB, 2 * MIB);
        await under.addUserCheckpoint(vmId);
        await under.guestWrite(vmId, 0, 5 * MIB, Buffer.alloc(4096));
        await under.guestWrite(vmId, 0, SIZE - 512, Buffer.alloc(512, 3));
        const checkpoint = await host.createCheckpoint(vmId, REQUEST);
        await under.guestWrite(vmId, 0, 7 * MIB, Buffer.alloc(4096, 4));
        const ranges = await above(checkpoint, ancestor);
        expect(covers(ranges, MIB, MIB + 4096)).to.equal(true);
        expect(covers(ranges, 2 * MIB, 4 * MIB)).to.equal(true);
        expect(covers(ranges, 5 * MIB, 5 * MIB + 4096)).to.equal(true);
        expect(covers(ranges, SIZE - 512, SIZE)).to.equal(true);
        // what came behind the checkpoint is not of it, and nothing else was touched
        const touches = (at: number): boolean =>
          ranges.some(({ start, end }) => start <= at && at < end);
        expect([0, 4 * MIB, 6 * MIB, 7 * MIB].map(touches)).to.deep.equal([
          false,
          false,
          false,
          false,
        ]);
      });

      it('is nothing for a guest that wrote nothing', async () => {
        const { ancestor, vmId } = await overFile();
        const checkpoint = await host.createCheckpoint(vmId, REQUEST);
        expect(await above(checkpoint, ancestor)).to.deep.equal([]);
      });

      it('is refused for a file that the disk does not stand on', async () => {
        const { ancestor, vmId } = await overFile();
        const checkpoint = await host.createCheckpoint(vmId, REQUEST);
        await refuses('E_NOT_FOUND', () => above(checkpoint, `${ancestor}.gone`));
        const other = (await host.describeVm(await under.makeVm('b', [SIZE]))).disks[0]?.path ?? '';
        await refuses('E_NOT_FOUND', () => above(checkpoint, other));
        await refuses('E_NOT_FOUND', () => above({ ...checkpoint, id: 'none' }, ancestor));
      });

      it('goes when the VM is removed, and the files that it was registered with stay', async () => {
        const { ancestor, vmId } = await overFile();
        const { path = '' } = (await host.describeVm(vmId)).disks[0] ?? {};
        await under.guestWrite(vmId, 0, MIB, Buffer.alloc(4096, 2));
        const before = await under.filesBeside(path);
        await under.addUserCheckpoint(vmId);
        await under.guestWrite(vmId, 0, 2 * MIB, Buffer.alloc(4096, 2));
        await under.addUserCheckpoint(vmId);
        await host.createCheckpoint(vmId, REQUEST);
        expect((await under.filesBeside(path)).length).to.be.greaterThan(before.length);
        await host.removeVm(vmId);
        expect(await under.filesBeside(path)).to.deep.equal(before);
        expect(before.length, ancestor).to.equal(2);
      });
    });

    describe('other files for the disks of a VM', () => {
      it('are taken over while it is off, and the former ones come back as they were', async () => {
        const vmId = await under.makeVm('vm', [SIZE]);
        await under.guestWrite(vmId, 0, 0, Buffer.from('former'));
        const { disks } = await host.describeVm(vmId);
        const original = disks[0]?.path ?? '';
        const { trackingIds } = await referencePoint(vmId);
        const child = await under.makeChildFile(original);
        for (let times = 0; times < 2; times++) await host.setDiskFiles(vmId, [child]);
        expect((await host.describeVm(vmId)).disks).to.deep.equal([{ ...disks[0], path: child }]);
        await host.startVm(vmId);
        await under.guestWrite(vmId, 0, 0, Buffer.from('latter'));
        await refuses('E_STATE', () => host.setDiskFiles(vmId, [original]));
        const checkpoint = await host.createCheckpoint(vmId, REQUEST);
        await refuses('E_TRACKING_INVALID', () => rangesOf(checkpoint, trackingIds[0] ?? ''));
        await host.turnOffVm(vmId);
        await refuses('E_STATE', () => host.setDiskFiles(vmId, [original]));
        await host.removeCheckpoint(vmId, checkpoint.id);
        await host.waitForMerge(vmId, MERGE_MS);
        expect((await host.describeVm(vmId)).disks[0]?.path).to.equal(child);
        await host.setDiskFiles(vmId, [original]);
        expect((await under.guestRead(vmId, 0, 0, 6)).toString()).to.equal('former');
        await host.setDiskFiles(vmId, [child]);
        expect((await under.guestRead(vmId, 0, 0, 6)).toString()).to.equal('latter');
      });

      it('are refused when they are of another disk, not there, or too few', async () => {
        const vmId = await under.makeVm('vm', [SIZE]);
        const original = (await host.describeVm(vmId)).disks[0]?.path ?? '';
        const stranger = await under.makeDiskFile(SIZE, Buffer.from('other'));
        await refuses('E_DISK_MISMATCH', () => host.setDiskFiles(vmId, [stranger]));
        await refuses('E_DISK_MISMATCH', () => host.setDiskFiles(vmId, []));
        await refuses('E_NOT_FOUND', () => host.setDiskFiles(vmId, [`${original}.gone`]));
        await under.addUserCheckpoint(vmId);
        const leaf = (await host.describeVm(vmId)).disks[0]?.path ?? '';
        await refuses('E_STATE', () => host.setDiskFiles(vmId, [leaf]));
        await under.guestWrite(vmId, 0, 0, Buffer.from('still'));
        expect((await under.guestRead(vmId, 0, 0, 5)).toString()).to.equal('still');
      });
    });

    describe('registering', () => {
      const definitionOf = async (vmId: Guid) => host.describeVm(vmId);

      it('gives a VM away by its tag, again and again', async () => {
        const model = await definitionOf(await under.makeVm('model', [SIZE]));
        const file = await under.makeDiskFile(SIZE, Buffer.from('given'));
        const vmId = await host.registerVm({
          definition: model,
          name: 'copy',
          diskPaths: [file],
          tag: TAG,
        });
        for (let times = 0; times < 2; times++) await host.dropTag(vmId);
        expect(await host.tagOf(vmId)).to.equal(undefined);
        expect(await host.findTagged(TAG)).to.equal(undefined);
        expect((await under.guestRead(vmId, 0, 0, 5)).toString()).to.equal('given');
        await refuses('E_NOT_FOUND', () => host.dropTag(UNKNOWN));
      });

      it('makes a VM over disks that stand ready, disconnected and off, with a tag', async () => {
        const model = await definitionOf(await under.makeVm('model', [SIZE]));
        const file = await under.makeDiskFile(SIZE, Buffer.from('ready'));
        const vmId = await host.registerVm({
          definition: model,
          name: 'copy',
          diskPaths: [file],
          tag: TAG,
        });
        expect(vmId).not.to.equal(model.id);
        expect(await host.tagOf(vmId)).to.deep.equal(TAG);
        expect(await host.tagOf(model.id)).to.equal(undefined);
        const found = { id: vmId, name: 'copy', powerState: 'off' };
        expect(await host.findTagged(TAG)).to.deep.equal(found);
        expect(await host.findTagged({ ...TAG, operationId: UNKNOWN })).to.equal(undefined);
        const copy = await definitionOf(vmId);
        expect(copy.disks[0]?.path).to.equal(file);
        expect(copy.adapters.map(({ switchName }) => switchName)).to.deep.equal([undefined]);
        expect(copy.adapters[0]?.mac).not.to.equal(model.adapters[0]?.mac);
        expect((await under.guestRead(vmId, 0, 0, 5)).toString()).to.equal('ready');
        await host.startVm(vmId);
        await under.guestWrite(vmId, 0, 0, Buffer.from('taken'));
        await refuses('E_HYPERVISOR', () => host.removeVm(vmId));
        await host.turnOffVm(vmId);
        await host.removeVm(vmId);
        await host.removeVm(vmId);
        expect((await host.listVms()).map(({ name: listed }) => listed)).to.deep.equal(['model']);
        const again = await host.registerVm({
          definition: model,
          name: 'copy',
          diskPaths: [file],
          tag: TAG,
          keepsMacAddresses: true,
        });
        expect((await under.guestRead(again, 0, 0, 5)).toString()).to.equal('taken');
        expect((await definitionOf(again)).adapters[0]?.mac).to.equal(model.adapters[0]?.mac);
      });

      it('refuses a taken name and a missing disk, and leaves nothing', async () => {
        const model = await definitionOf(await under.makeVm('model', [SIZE]));
        const file = await under.makeDiskFile(SIZE, Buffer.alloc(1));
        const request = { definition: model, tag: TAG };
        await refuses('E_EXISTS', () =>
          host.registerVm({ ...request, name: 'model', diskPaths: [file] }),
        );
        await refuses('E_NOT_FOUND', () =>
          host.registerVm({ ...request, name: 'other', diskPaths: [`${file}.gone`] }),
        );
        expect((await host.listVms()).length).to.equal(1);
      });

      it('says where the files of new VMs belong', async () => {
        expect(path.isAbsolute(await host.defaultVmFolder())).to.equal(true);
      });

      it('connects adapters and sets what a replica needs', async () => {
        const vmId = await under.makeVm('vm', [SIZE]);
        await under.addSwitch('dr');
        const adapterOf = async () => (await definitionOf(vmId)).adapters[0];
        const adapterId = (await adapterOf())?.id ?? UNKNOWN;
        await host.connectAdapter(vmId, adapterId, { switchName: 'dr', vlan: 30 });
        await host.setMacAddress(vmId, adapterId, '00155dabcdef');
        const settings = {
          isDhcp: false,
          addresses: ['192.0.2.10/24'],
          gateways: ['192.0.2.1'],
          dnsServers: ['192.0.2.53'],
        };
        await host.setGuestAddress(vmId, adapterId, settings);
        await host.startVm(vmId);
        const adapter = await adapterOf();
        expect([adapter?.switchName, adapter?.vlan]).to.deep.equal(['dr', 30]);
        expect([adapter?.mac, adapter?.isMacStatic]).to.deep.equal(['00155DABCDEF', true]);
        expect(adapter?.guest).to.deep.equal(settings);
        const running = { ...settings, addresses: ['192.0.2.11/24'] };
        await host.setGuestAddress(vmId, adapterId, running);
        expect((await adapterOf())?.guest).to.deep.equal(running);
        await host.connectAdapter(vmId, adapterId, undefined);
        expect((await adapterOf())?.switchName).to.equal(undefined);
        await refuses('E_NOT_FOUND', () =>
          host.connectAdapter(vmId, adapterId, { switchName: 'none', vlan: undefined }),
        );
        await refuses('E_NOT_FOUND', () => host.setMacAddress(vmId, UNKNOWN, '00155D000000'));
        const names = (await host.listSwitches()).map((item) => item.name);
        expect(names).to.include('dr');
      });
    });
  });
}
