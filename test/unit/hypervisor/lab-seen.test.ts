// A lab that looks at all of its VMs again and again, while others change them: it tells what is, although
// it does not read what has not changed.

import { readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { Guid } from '../../../shared/bytes/index.js';
import { systemClock, systemRandom } from '../../../shared/clock.js';
import { type FileSystem, nodeFileSystem } from '../../../shared/files/index.js';
import { Lab } from '../../../shared/hypervisor/lab/index.js';
import { WorkFolder } from '../../support/work-folder.js';

const HOUR_SECONDS = 3600;

describe('looks at all VMs of a lab', () => {
  const work = new WorkFolder('lab-seen');
  const opened: string[] = [];
  const fs: FileSystem = {
    ...nodeFileSystem,
    open: (path, options) => {
      opened.push(path);
      return nodeFileSystem.open(path, options);
    },
  };
  let count = 0;
  let folder: string;
  let lab: Lab;
  let vmId: Guid;
  let record: string;

  beforeEach(async () => {
    folder = work.file(`lab-${++count}`);
    lab = await Lab.create(folder, { fs, clock: systemClock, random: systemRandom });
    vmId = await lab.createVm({ name: 'one' });
    record = join(folder, 'vms', vmId, 'vm.json');
    opened.length = 0;
  });

  after(() => {
    work.dispose();
  });

  const names = async (): Promise<string[]> => (await lab.listVms()).map(({ name }) => name);
  const readings = (): number => opened.filter((path) => path === record).length;
  const age = (): void => {
    const atSeconds = Math.floor(systemClock.now() / 1000) - HOUR_SECONDS;
    utimesSync(record, atSeconds, atSeconds);
  };

  it('read a record once while nobody changes it', async () => {
    age();
    for (let look = 0; look < 3; look++) expect(await names()).to.deep.equal(['one']);
    expect(readings()).to.equal(1);
  });

  it('see what another process has changed, with as many bytes as before', async () => {
    age();
    expect(await names()).to.deep.equal(['one']);
    const seams = { fs: nodeFileSystem, clock: systemClock, random: systemRandom };
    const other = await Lab.open(folder, seams);
    await other.renameVm(vmId, 'two');
    expect(await names()).to.deep.equal(['two']);
    age();
    expect(await names()).to.deep.equal(['two']);
    await other.removeVm(vmId);
    expect(await names()).to.deep.equal([]);
  });

  it('read a record again that was written a moment ago: the next one may bear the same time', async () => {
    const atSeconds = systemClock.now() / 1000;
    utimesSync(record, atSeconds, atSeconds);
    expect(await names()).to.deep.equal(['one']);
    writeFileSync(record, readFileSync(record, 'utf8').replace('"one"', '"two"'));
    utimesSync(record, atSeconds, atSeconds);
    expect(await names()).to.deep.equal(['two']);
  });
});
