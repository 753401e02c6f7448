// What a full pass reads of a frozen disk: only what holds data, where the tables of its files can be relied on.

import { closeSync, copyFileSync, openSync, writeSync } from 'node:fs';
import { expect } from 'chai';
import { guid, type Guid } from '../../../../shared/bytes/index.js';
import { systemRandom } from '../../../../shared/clock.js';
import type { ReadableDisk } from '../../../../shared/disk/index.js';
import { nodeFileSystem } from '../../../../shared/files/index.js';
import { frozenMap } from '../../../../shared/hypervisor/hyperv/frozen-map.js';
import type { HyperV } from '../../../../shared/hypervisor/hyperv/index.js';
import { createVhdx, openVhdx } from '../../../../shared/vhdx/index.js';
import { buildDouble, HyperVRig } from '../../../support/hyperv-host/rig.js';
import { WorkFolder } from '../../../support/work-folder.js';

const MIB = 1024 * 1024;
const SIZE = 256 * MIB;
const PLACES = [0, 100 * MIB + 512, SIZE - 512];
const REQUEST = {
  tag: {
    protectionId: guid('aaaaaaaa-0000-4000-8000-000000000001'),
    operationId: guid('aaaaaaaa-0000-4000-8000-000000000002'),
  },
  consistency: 'crash',
  timeoutMs: 60_000,
} as const;

describe('a full pass over a frozen disk of Hyper-V', function () {
  this.timeout(120_000);
  const tools = new WorkFolder('hyperv-map');
  let double = '';
  let rig: HyperVRig;
  let host: HyperV;
  let vmId: Guid;
  let checkpointId = '';
  let diskId: Guid;
  let path = '';

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
    for (const at of PLACES) await rig.fake.lab.guestWrite(vmId, 0, at, Buffer.alloc(512, 7));
    const [disk] = (await host.describeVm(vmId)).disks;
    diskId = disk?.diskId ?? vmId;
    path = disk?.path ?? '';
    const checkpoint = await host.createCheckpoint(vmId, REQUEST);
    checkpointId = checkpoint.id;
  });
  afterEach(() => rig.dispose());

  async function dataBytes(disk: ReadableDisk): Promise<number> {
    let bytes = 0;
    for await (const { start, end, kind } of disk.extents(0, SIZE)) {
      if (kind === 'data') bytes += end - start;
    }
    return bytes;
  }

  async function withDisk(use: (disk: ReadableDisk) => Promise<void>): Promise<void> {
    const disk = await host.openCheckpointDisk(vmId, checkpointId, diskId);
    try {
      await use(disk);
    } finally {
      await disk.close();
    }
  }

  it('reads the blocks that hold data, and no other', async () => {
    await withDisk(async (disk) => {
      expect(await dataBytes(disk)).to.be.within(PLACES.length * 512, SIZE / 2);
      for await (const { start, end, kind } of disk.extents(0, SIZE)) {
        const inside = PLACES.some((at) => start <= at && at < end);
        expect(inside).to.equal(kind === 'data');
      }
      for (const at of PLACES) {
        const bytes = Buffer.alloc(512);
        await disk.read(at, bytes);
        expect(bytes.equals(Buffer.alloc(512, 7))).to.equal(true);
      }
    });
  });

  it('reads everything when Windows has data where the tables have none', async () => {
    const image = openSync(`${path}.image`, 'r+');
    writeSync(image, Buffer.alloc(32 * MIB, 9), 0, 32 * MIB, 192 * MIB);
    closeSync(image);
    await withDisk(async (disk) => {
      expect(await dataBytes(disk)).to.equal(SIZE);
    });
  });

  it('reads everything when our engine does not take the file, which virtdisk.dll does', async () => {
    const file = openSync(path, 'r+');
    writeSync(file, Buffer.alloc(MIB, 0xff), 0, MIB, 0);
    closeSync(file);
    const seams = { fs: nodeFileSystem, random: systemRandom };
    const disk = await rig.nativeDisks().openFrozen(path, {
      openMap: (of) => frozenMap(seams, of),
    });
    try {
      expect(await dataBytes(disk)).to.equal(SIZE);
    } finally {
      await disk.close();
    }
  });

  it('relies on no table of a file whose log is still to be replayed', async () => {
    const seams = { fs: nodeFileSystem, random: systemRandom };
    const file = rig.work.file('open.vhdx');
    await createVhdx(file, { type: 'dynamic', sizeBytes: SIZE }, seams);
    const writer = await openVhdx(file, { ...seams, isWritable: true });
    await writer.write(0, Buffer.alloc(512, 7));
    await writer.flush();
    const copy = rig.work.file('copy.vhdx');
    copyFileSync(file, copy);
    await writer.close();
    expect(await frozenMap(seams, copy)).to.equal(undefined);
    const map = await frozenMap(seams, file);
    expect(map?.sizeBytes).to.equal(SIZE);
    await map?.close();
  });
});
