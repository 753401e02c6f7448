// A receiver with a VM of two disks and six points, for what stands on its bases: failovers and tests.

import { expect } from 'chai';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import type { FileSystem } from '../../../shared/files/index.js';
import { openVhdx } from '../../../shared/vhdx/index.js';
import { instanceDiskPaths } from '../../../dr-receiver/failover/instance-files.js';
import type { DiskSeams } from '../../../dr-receiver/failover/instance-plan.js';
import type { InstanceDisk } from '../../../dr-receiver/failover/model.js';
import { listedPoint } from '../../../dr-receiver/store/point-sources.js';
import type { Point } from '../../../dr-receiver/store/point.js';
import type { VmStore } from '../../../dr-receiver/store/vm-store.js';
import { FakeClock } from '../../support/fake-clock.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { type CyclePlan, id, openSite, type Site, SourceVm } from './source-double.js';

export const OPERATION = id(0x777);
export const OTHER = id(0x778);
export const LIMITS = { share: 0, minBytes: 0, rowLayers: 8 };
const SIZES = [40 * CELL_BYTES, 6 * CELL_BYTES + 512];

export interface InstanceSite {
  readonly volume: MemoryFileSystem;
  readonly source: SourceVm;
  readonly plans: readonly CyclePlan[];
}

/** Six points; cells are written again, zeroed, and the short last one as well. */
export async function instanceSite(maxRestorePoints = 6): Promise<InstanceSite> {
  const volume = new MemoryFileSystem();
  const source = new SourceVm(1, SIZES);
  for (const cell of [0, 1, 3, 4, 9, 16, 17, 38]) source.write(0, cell, cell + 1);
  for (const cell of [0, 2, 6]) source.write(1, cell, cell + 50);
  const site = await openSite(volume, { clock: new FakeClock(), reclaim: LIMITS });
  const plans: CyclePlan[] = [];
  for (let n = 1; n <= 6; n++) {
    const changed = [
      [1, n, n + 14, 39],
      [n - 1, 6],
    ];
    const cells = n === 1 ? [undefined, undefined] : changed;
    if (n > 1) {
      source.write(0, 1, 100 + n);
      source.write(0, n, n % 3 === 0 ? 0 : 200 + n);
      source.write(0, n + 14, n % 2 === 0 ? 0 : 300 + n);
      source.write(0, 39, 400 + n);
      source.write(1, n - 1, 500 + n);
      source.write(1, 6, n === 4 ? 0 : 600 + n);
    }
    const plan = source.plan(n, plans.at(-1)?.pointId, cells, { maxRestorePoints });
    plans.push(plan);
    await source.replicate(site, plan);
  }
  await site.receiver.close();
  return { volume, source, plans };
}

export async function vmOf(site: Site): Promise<VmStore> {
  const [desk] = await site.receiver.allDesks();
  if (desk === undefined) throw new Error('there is a VM');
  return desk.vm;
}

export function planned({ plans }: InstanceSite, index: number): CyclePlan {
  const plan = plans[index];
  if (plan === undefined) throw new Error(`there is no plan ${index}`);
  return plan;
}

export function pointOf(vm: VmStore, plan: CyclePlan): Point {
  return listedPoint(vm, plan.pointId);
}

export function diskSeams(fs: FileSystem, more: Partial<DiskSeams> = {}): DiskSeams {
  return { fs, random: new SeededRandom(99), clock: new FakeClock(), ...more };
}

/** What a guest sees on the protective disks is the point. */
export async function expectDisks(
  fs: FileSystem,
  vm: VmStore,
  disks: readonly InstanceDisk[],
  images: readonly Buffer[],
): Promise<void> {
  for (const [index, disk] of disks.entries()) {
    const { protective } = instanceDiskPaths(vm.layout, disk);
    const open = await openVhdx(protective, { fs, random: new SeededRandom(5) });
    const bytes = Buffer.alloc(open.sizeBytes);
    await open.read(0, bytes);
    const names = open.layers.map(({ path }) => path.split('/').at(-1));
    await open.close();
    expect(names).to.deep.equal([disk.protective, disk.materialised, 'base.vhdx']);
    expect(bytes.equals(images[index] ?? Buffer.alloc(0)), `disk ${index}`).to.equal(true);
  }
}

export function instanceNames(volume: MemoryFileSystem): string[] {
  return volume.paths
    .filter((path) => path.includes('/disks/'))
    .map((path) => path.split('/').at(-1) ?? '')
    .filter((name) => !name.startsWith('base.'))
    .sort();
}
