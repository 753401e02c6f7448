// The binding of virtdisk.dll against its double, as a shared object of this Linux: the same calls, structures and
// errors as on Windows, which virtdisk-wine.test.ts repeats with a DLL.

import { expect } from 'chai';
import { VirtualDiskHandle } from '../../shared/hypervisor/hyperv/native/handle.js';
import { NativeLibrary } from '../../shared/hypervisor/hyperv/native/library.js';
import { nativeBytes, newStruct } from '../../shared/hypervisor/hyperv/native/layouts.js';
import { TransferSlot } from '../../shared/hypervisor/hyperv/native/transfer.js';
import { needTool } from '../support/need.js';
import { VIRTDISK_CASES, runVirtdiskCase } from '../support/virtdisk-cases.js';
import { VirtdiskRig, buildLinuxDouble } from '../support/virtdisk-rig.js';
import { WorkFolder } from '../support/work-folder.js';

describe('virtdisk.dll, as a shared object', function () {
  const work = new WorkFolder('virtdisk');
  const double = work.file('virtdisk.so');
  let rig: VirtdiskRig;

  before(async function () {
    needTool(this, 'gcc');
    await buildLinuxDouble(double);
  });

  beforeEach(() => {
    rig = new VirtdiskRig(work.path, { virtdisk: double, kernel: double }, 'libc.so.6');
  });

  afterEach(() => {
    rig.dispose();
  });

  after(() => {
    work.dispose();
  });

  for (const name of Object.keys(VIRTDISK_CASES)) {
    it(name, () => runVirtdiskCase(name, rig));
  }

  it('has aligned memory and an OVERLAPPED before it, wherever the collector puts them', async () => {
    const library = await NativeLibrary.load(rig.libraries);
    // some of so many lie right before a page border
    const slots = Array.from({ length: 200 }, () => new TransferSlot(library, 4096));
    const places = new Set<bigint>();
    for (const { data, overlapped, event } of slots) {
      expect(library.addressOf(data) % 4096n).to.equal(0n);
      expect([data.length, overlapped.length]).to.deep.equal([4096, 32]);
      expect(library.addressOf(overlapped) + 32n <= library.addressOf(data)).to.equal(true);
      places.add(library.addressOf(data));
      library.call('CloseHandle', event);
    }
    expect(places.size).to.equal(slots.length);
  });

  it('is refused by the double when it passes what Windows would not take', async () => {
    const library = await NativeLibrary.load(rig.libraries);
    const path = rig.disk('a.vhdx', Buffer.alloc(8192));
    const parameters = newStruct('OPEN_VIRTUAL_DISK_PARAMETERS');
    parameters.writeUInt32LE(2, 0);
    const open = (mask: number, flags: number): number => {
      const type = newStruct('VIRTUAL_STORAGE_TYPE');
      return library.call('OpenVirtualDisk', type, path, mask, flags, parameters, nativeBytes(8));
    };
    expect([open(0xd_0000, 0), open(0, 4)]).to.deep.equal([87, 87]);
    const disk = await VirtualDiskHandle.open(library, path, { kind: 'read' });
    const attach = newStruct('ATTACH_VIRTUAL_DISK_PARAMETERS');
    attach.writeUInt32LE(1, 0);
    const attachWith = (flags: number): number =>
      library.call('AttachVirtualDisk', disk.handle, null, flags, 0, attach, null);
    const permanent = 0x4;
    expect([attachWith(0x9 | permanent), attachWith(0x1)]).to.deep.equal([87, 87]);
    await disk.attach({ isWritable: false });
    const slot = new TransferSlot(library, 8192);
    const read = (offset: number, target: Buffer, lengthBytes: number): number => {
      slot.aim(offset);
      const { overlapped } = slot;
      const isDone = library.call('ReadFile', disk.handle, target, lengthBytes, null, overlapped);
      return isDone === 0 ? library.call('GetLastError') : 0;
    };
    expect(read(512, slot.data, 512)).to.equal(0);
    expect(read(100, slot.data, 512)).to.equal(87);
    expect(read(512, slot.data, 100)).to.equal(87);
    expect(read(512, slot.data.subarray(16), 512)).to.equal(87);
    expect(read(8192, slot.data, 512)).to.equal(38);
    await disk.close();
    expect(rig.complaints().join().split('\n')).to.have.length(8);
  });
});
