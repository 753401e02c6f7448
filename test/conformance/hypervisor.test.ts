import { dirname, resolve } from 'node:path';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { nodeFileSystem, type FileSystem } from '../../shared/files/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import { createVhdx, openVhdx } from '../../shared/vhdx/index.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { WorkFolder } from '../support/work-folder.js';
import { hypervisorConformance, type HypervisorUnderTest } from './hypervisor.js';

async function makeLab(
  fs: FileSystem,
  folder: string,
  dispose: () => void,
): Promise<HypervisorUnderTest> {
  const seams = { fs, clock: systemClock, random: systemRandom };
  await fs.makeFolder(folder);
  const lab = await Lab.create(`${folder}/lab`, seams);
  return {
    host: lab,
    makeVm: (name, diskSizes) =>
      lab.createVm({
        name,
        disks: diskSizes.map((sizeBytes) => ({ source: { sizeBytes } })),
        adapters: [{ switchName: 'production' }],
      }),
    guestWrite: (...write) => lab.guestWrite(...write),
    guestZero: (...range) => lab.guestZero(...range),
    guestRead: (...range) => lab.guestRead(...range),
    addSwitch: (name) => lab.addSwitch({ name, isPrivate: false }),
    makeDiskFile: async (sizeBytes, bytes) => {
      await fs.makeFolder(`${folder}/ready`);
      const file = resolve(folder, 'ready', 'disk.vhdx');
      await createVhdx(file, { type: 'dynamic', sizeBytes }, seams);
      const disk = await openVhdx(file, { ...seams, isWritable: true });
      await disk.write(0, bytes);
      await disk.close();
      return file;
    },
    makeChildFile: async (parentPath) => {
      const file = parentPath.replace(/\.vhdx$/, '.child.vhdx');
      await createVhdx(file, { type: 'differencing', parentPath }, seams);
      return file;
    },
    addUserCheckpoint: async (vmId) => {
      await lab.addUserCheckpoint(vmId);
    },
    filesBeside: (file) => fs.list(dirname(file)),
    reopen: () => Lab.open(`${folder}/lab`, seams),
    dispose: async () => {
      await lab.close();
      dispose();
    },
  };
}

hypervisorConformance('the lab in memory', () =>
  makeLab(new MemoryFileSystem(), '/host', () => undefined),
);

hypervisorConformance('the lab in a folder', () => {
  const work = new WorkFolder('lab-conformance');
  return makeLab(nodeFileSystem, work.path, () => work.dispose());
});
