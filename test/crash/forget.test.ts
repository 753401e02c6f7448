// Power loss during every operation of the file system that `forget` and `flatten` make. After a restart
// the protection is there with all that it was, or it is gone for good; a VM that stays starts, and sees
// its bytes, whenever the power went.

import { expect } from 'chai';
import type { FileSystem } from '../../shared/files/index.js';
import { crashEverywhere } from '../support/crash-everywhere.js';
import type { MemoryFileSystem } from '../support/memory-file.js';
import { FailoverBench, failoverVolume } from '../unit/dr-receiver/failover/failover-double.js';
import { readPoint, STORE } from '../unit/dr-receiver/source-double.js';

/** Of several hundred; SLOW=1 tries all. */
const OPERATIONS = process.env['SLOW'] === '1' ? undefined : 60;

describe('crash: a protection is forgotten', function () {
  this.timeout(600_000);

  const act = async (fs: FileSystem, ...commands: readonly string[]): Promise<void> => {
    const bench = await FailoverBench.open(fs, { seed: 5 });
    try {
      for (const command of commands) {
        if (command !== 'off') await bench.operate(command);
        else await bench.lab.turnOffVm((await bench.lab.findVm('VM1')).id);
      }
    } finally {
      await bench.close().catch(() => undefined);
    }
  };

  /** Files; an empty folder says nothing. */
  const namesBelow = async (found: MemoryFileSystem, folder: string): Promise<string[]> => {
    const names: string[] = [];
    for (const name of await found.list(folder))
      names.push(...(await found.list(`${folder}/${name}`)));
    return names;
  };

  const expectViews = async (bench: FailoverBench, wanted: readonly Buffer[]): Promise<void> => {
    const { id } = await bench.lab.findVm('VM1');
    if ((await bench.lab.listVms())[0]?.powerState === 'off') await bench.lab.startVm(id);
    const views = await bench.view(id);
    for (const [disk, view] of views.entries()) {
      expect(view.equals(wanted[disk] ?? Buffer.alloc(0)), `disk ${disk}`).to.equal(true);
    }
    await bench.lab.turnOffVm(id);
  };

  it('an ordinary protection: all of it is there, or nothing, and it can be protected anew', async () => {
    const { volume, source, plans } = await failoverVolume();
    await crashEverywhere({
      volume,
      operationsMax: OPERATIONS,
      seedCount: 2,
      run: (fs) => act(fs, 'forget'),
      check: async (found, { hasFinished }) => {
        const bench = await FailoverBench.open(found, { seed: 6 });
        try {
          const desks = await bench.site.receiver.allDesks();
          if (desks.length > 0) {
            expect(hasFinished).to.equal(false);
            for (const plan of plans) {
              for (const [disk, image] of plan.images.entries()) {
                const read = await readPoint(bench.site, 'VM1', plan.pointId, disk);
                expect(read.equals(image), `point ${plan.pointId}`).to.equal(true);
              }
            }
            await bench.operate('forget');
          }
          expect(await namesBelow(found, `${STORE}/vms`)).to.deep.equal([]);
          await source.replicate(bench.site, source.plan(8, undefined, [undefined, undefined]));
          expect((await bench.desk()).vm.protection.listed).to.have.length(1);
          const control = bench.site.control();
          const { items } = await control.collectGarbage({ isPlan: false, olderThanMs: 0n });
          expect(items.filter(({ kind }) => kind.startsWith('foreign'))).to.deep.equal([]);
        } finally {
          await bench.close();
        }
      },
    });
  });

  const committed = async (...more: string[]): Promise<[MemoryFileSystem, readonly Buffer[]]> => {
    const { volume, plans } = await failoverVolume();
    await act(volume, 'unplanned', 'permanent', 'off', ...more);
    return [volume, plans.at(-1)?.images ?? []];
  };

  it('flatten: the VM starts with its bytes, and flatten can be given again', async () => {
    const [volume, images] = await committed();
    await crashEverywhere({
      volume,
      operationsMax: OPERATIONS,
      seedCount: 1,
      run: (fs) => act(fs, 'flatten'),
      check: async (found) => {
        const bench = await FailoverBench.open(found, { seed: 6 });
        try {
          await expectViews(bench, images);
          await bench.operate('flatten');
          await bench.operate('forget');
          await expectViews(bench, images);
        } finally {
          await bench.close();
        }
      },
    });
  });

  it('of a VM that stays: it starts with its bytes', async () => {
    const [volume, images] = await committed('flatten');
    await crashEverywhere({
      volume,
      operationsMax: OPERATIONS,
      seedCount: 2,
      run: (fs) => act(fs, 'forget'),
      check: async (found) => {
        const bench = await FailoverBench.open(found, { seed: 6 });
        try {
          await expectViews(bench, images);
          const desks = await bench.site.receiver.allDesks();
          if (desks.length > 0) await bench.operate('forget');
          await expectViews(bench, images);
        } finally {
          await bench.close();
        }
      },
    });
  });
});
