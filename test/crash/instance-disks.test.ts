// Power loss and failing devices while the disks of a VM at this site are made, and while they are taken
// away: afterwards they are whole, or can be made whole or taken away; base and points are as they were.

import { expect } from 'chai';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import { materialisePoint } from '../../dr-receiver/failover/disks.js';
import { removeInstanceDisks } from '../../dr-receiver/failover/instance-files.js';
import { crashEverywhere } from '../support/crash-everywhere.js';
import { FaultFileSystem } from '../support/fault-file.js';
import type { MemoryFileSystem } from '../support/memory-file.js';
import {
  diskSeams,
  expectDisks,
  instanceNames,
  type InstanceSite,
  instanceSite,
  LIMITS,
  OPERATION,
  planned,
  pointOf,
  vmOf,
} from '../unit/dr-receiver/instance-site.js';
import { expectPoint, openSite } from '../unit/dr-receiver/source-double.js';

const SLOW = process.env['SLOW'] === '1';
const POINT = 4;

async function make(fs: FileSystem, given: InstanceSite): Promise<void> {
  const site = await openSite(fs, { reclaim: LIMITS });
  const vm = await vmOf(site);
  const point = pointOf(vm, planned(given, POINT));
  await materialisePoint(vm, point, OPERATION, diskSeams(fs));
  await site.receiver.close();
}

async function remove(fs: FileSystem): Promise<void> {
  const site = await openSite(fs, { reclaim: LIMITS });
  await removeInstanceDisks(fs, await vmOf(site), OPERATION);
  await site.receiver.close();
}

/** Made again they are whole, taken away they are gone, and nothing else has changed. */
async function expectEither(found: MemoryFileSystem, given: InstanceSite): Promise<void> {
  const site = await openSite(found, { reclaim: LIMITS });
  const vm = await vmOf(site);
  const plan = planned(given, POINT);
  for (const path of given.volume.paths.filter((each) => each.endsWith('base.vhdx'))) {
    const before = given.volume.content(path) ?? Buffer.alloc(0);
    expect(found.content(path)?.equals(before), path).to.equal(true);
  }
  const point = pointOf(vm, plan);
  const disks = await materialisePoint(vm, point, OPERATION, diskSeams(found));
  await expectDisks(found, vm, disks, plan.images);
  await removeInstanceDisks(found, vm, OPERATION);
  expect(instanceNames(found)).to.deep.equal([]);
  for (const each of given.plans) await expectPoint(site, given.source, each);
  await site.receiver.close();
}

describe('the disks of a VM at this site and power loss', function () {
  this.timeout(SLOW ? 3_600_000 : 480_000);

  it('while they are made', async () => {
    const given = await instanceSite();
    const states = await crashEverywhere({
      volume: given.volume,
      seedCount: SLOW ? 4 : 1,
      operationsMax: SLOW ? undefined : 20,
      run: (fs) => make(fs, given),
      check: (found) => expectEither(found, given),
    });
    expect(states).to.be.greaterThan(20);
  });

  it('while they are taken away', async () => {
    const given = await instanceSite();
    const volume = given.volume.clone();
    await make(volume, given);
    await crashEverywhere({
      volume,
      seedCount: SLOW ? 4 : 1,
      operationsMax: SLOW ? undefined : 20,
      run: remove,
      check: async (found, { hasFinished }) => {
        if (hasFinished) expect(instanceNames(found)).to.deep.equal([]);
        await expectEither(found, given);
      },
    });
  });

  it('and a device that fails while they are made: a typed error, and nothing holds the base', async () => {
    const given = await instanceSite();
    for (const kind of ['create', 'write', 'flush', 'rename', 'flushFolder'] as const) {
      for (let nth = 1; ; nth++) {
        const volume = given.volume.clone();
        const site = await openSite(volume, { reclaim: LIMITS });
        const vm = await vmOf(site);
        const point = pointOf(vm, planned(given, POINT));
        const faulty = new FaultFileSystem(volume);
        faulty.inject({ kind, nth });
        let failure: unknown;
        try {
          await materialisePoint(vm, point, OPERATION, diskSeams(faulty));
        } catch (error) {
          failure = error;
        }
        if (failure !== undefined) {
          expect(failure).to.be.instanceOf(DrError);
          const held = vm.baseHolds.operationIds.length > 0;
          expect(held || instanceNames(volume).length === 0, `${kind} ${nth}`).to.equal(true);
        }
        await site.receiver.close();
        if (failure === undefined) break;
        await expectEither(volume, given);
      }
    }
  });
});
