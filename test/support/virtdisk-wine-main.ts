// Started by test/interop/virtdisk-wine.test.ts in Node for Windows: runs every case of the binding against the double as
// a DLL, and tries what only Windows has: the functions of kernel32.dll themselves on real handles, and Wine's own
// virtdisk.dll. Arguments: the double, a folder. stdout: one JSON object, what became of each case.

import { writeSync } from 'node:fs';
import { expect } from 'chai';
import { DrError } from '../../shared/errors.js';
import {
  NativeVirtualDisks,
  VirtualDiskError,
} from '../../shared/hypervisor/hyperv/native/index.js';
import { NativeLibrary, WINDOWS_LIBRARIES } from '../../shared/hypervisor/hyperv/native/library.js';
import { enableManageVolume } from '../../shared/hypervisor/hyperv/native/privilege.js';
import { SeededRandom } from './seeded-random.js';
import { VIRTDISK_CASES, runVirtdiskCase } from './virtdisk-cases.js';
import { SMALL_LIMITS, VirtdiskRig } from './virtdisk-rig.js';
import { WINDOWS_ONLY_CASES } from './virtdisk-windows-titles.js';

const [double = '', folder = ''] = process.argv.slice(2);
const SIZE = 300 * 1024;

const content = (): Buffer => new SeededRandom(5).fill(Buffer.alloc(SIZE));
const onRealHandles = { libraries: { virtdisk: double, kernel: 'kernel32.dll' } };

async function failureOf(work: Promise<unknown>): Promise<VirtualDiskError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof VirtualDiskError) return error;
    throw error;
  }
  throw new Error('was not refused');
}

const WINDOWS_ONLY: Readonly<
  Record<keyof typeof WINDOWS_ONLY_CASES, (rig: VirtdiskRig) => Promise<void>>
> = {
  readsReal: async (rig) => {
    const path = rig.disk('real.vhdx', content(), 'handle real');
    const disk = await rig.disks(onRealHandles).openFrozen(path);
    const found = Buffer.alloc(SIZE);
    const half = 1000 + SIZE / 2;
    await Promise.all([
      disk.read(0, found.subarray(0, half)),
      disk.read(half, found.subarray(half)),
    ]);
    await disk.close();
    expect(found.equals(content())).to.equal(true);
  },

  writesReal: async (rig) => {
    const path = rig.disk('real.vhdx', content(), 'handle real');
    const disk = await rig.disks(onRealHandles).openWritable(path);
    const model = content();
    model.fill(7, 5000, 90_000);
    await disk.write(5000, model.subarray(5000, 90_000));
    await disk.flush();
    await disk.close();
    expect(rig.image(path).equals(model)).to.equal(true);
  },

  failsReal: async (rig) => {
    const path = rig.disk('short.vhdx', content(), 'handle real', 'size 409600');
    const disk = await rig.disks(onRealHandles).openFrozen(path);
    const error = await failureOf(disk.read(400 * 1024 - 4096, Buffer.alloc(4096)));
    expect([error.code, error.context['win32Name']]).to.deep.equal(['E_IO', 'ERROR_HANDLE_EOF']);
    const found = Buffer.alloc(10);
    await disk.read(0, found);
    expect(found.equals(content().subarray(0, 10))).to.equal(true);
    await disk.close();
  },

  switchesReal: async () => {
    const library = await NativeLibrary.load(WINDOWS_LIBRARIES);
    expect(enableManageVolume(library)).to.equal(true);
  },

  refusesByWine: async (rig) => {
    const disks = new NativeVirtualDisks({ limits: SMALL_LIMITS });
    const { canQueryChanges } = await disks.capabilities();
    expect(canQueryChanges).to.equal(false);
    const path = rig.disk('a.vhdx', content());
    const ranges = disks.changedRanges(path, 'rct1')[Symbol.asyncIterator]();
    expect((await failureOf(ranges.next())).fault).to.equal('not-available');
    for (const work of [
      () => disks.inspect(path),
      () => disks.openFrozen(path),
      () => disks.grow(path, SIZE),
    ]) {
      const error = await failureOf(work());
      // its functions are stubs: some say so, some find fault with their arguments
      expect(error.fault).to.be.oneOf(['not-available', 'refused']);
    }
  },
};

async function outcome(work: (rig: VirtdiskRig) => Promise<void>): Promise<string> {
  const rig = new VirtdiskRig(folder, { virtdisk: double, kernel: double }, 'kernel32.dll');
  try {
    await work(rig);
    return 'passed';
  } catch (error) {
    if (error instanceof DrError) return error.line;
    return error instanceof Error ? (error.stack ?? error.message) : String(error);
  } finally {
    rig.dispose();
  }
}

const outcomes: Record<string, string> = {};
for (const name of Object.keys(VIRTDISK_CASES)) {
  outcomes[name] = await outcome((rig) => runVirtdiskCase(name, rig));
}
for (const [key, work] of Object.entries(WINDOWS_ONLY)) outcomes[key] = await outcome(work);
writeSync(1, JSON.stringify(outcomes));
