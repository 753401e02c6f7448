// A lab VM of two disks with a reference point and changes since, and the check that everything works
// from some state of its volume on. Crash and fault tests share it.

import { expect } from 'chai';
import type { Guid } from '../../shared/bytes/index.js';
import type { FileSystem } from '../../shared/files/index.js';
import type { ReferencePoint } from '../../shared/hypervisor/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import {
  changesOf,
  expectCovered,
  expectViews,
  frozenViews,
  LAB_FOLDER,
  LAB_REQUEST,
  labSeams,
  openLab,
  viewsOf,
} from './lab-model.js';
import { MemoryFileSystem } from './memory-file.js';
import { SeededRandom } from './seeded-random.js';

const MIB = 1024 * 1024;
const SIZES = [3 * MIB + 512 * 5, MIB];
const WAIT_MS = 30_000;

export interface LabLife {
  readonly volume: MemoryFileSystem;
  readonly vmId: Guid;
  /** At the reference point, and now. */
  readonly before: readonly Buffer[];
  readonly now: readonly Buffer[];
  readonly point: ReferencePoint;
}

export async function scatter(
  lab: Lab,
  vmId: Guid,
  views: readonly Buffer[],
  seed: number,
): Promise<void> {
  const random = new SeededRandom(seed);
  for (let step = 0; step < 4; step++) {
    const index = random.int(views.length);
    const view = views[index] ?? Buffer.alloc(0);
    const start = random.int(view.length - 1);
    const length = Math.min(view.length - start, 1 + random.int(150_000));
    if (step === 3) {
      view.fill(0, start, start + length);
      await lab.guestZero(vmId, index, start, length);
    } else {
      const bytes = Buffer.alloc(length, 1 + random.int(255));
      bytes.copy(view, start);
      await lab.guestWrite(vmId, index, start, bytes);
    }
  }
}

export async function prepareLab(
  then?: (lab: Lab, vmId: Guid) => Promise<unknown>,
): Promise<LabLife> {
  const volume = new MemoryFileSystem();
  const lab = await Lab.create(LAB_FOLDER, labSeams(volume));
  const vmId = await lab.createVm({
    name: 'vm',
    disks: SIZES.map((sizeBytes) => ({ source: { sizeBytes }, blockSizeBytes: MIB })),
  });
  const views = SIZES.map((size) => Buffer.alloc(size));
  await scatter(lab, vmId, views, 1);
  const { id } = await lab.createCheckpoint(vmId, LAB_REQUEST);
  const before = views.map((view) => Buffer.from(view));
  const point = await lab.convertToReferencePoint(vmId, id);
  await lab.waitForMerge(vmId, WAIT_MS);
  await scatter(lab, vmId, views, 2);
  await then?.(lab, vmId);
  await lab.close();
  return { volume, vmId, before, now: views, point };
}

/** Everything works from here on: changes reported, a cycle, a write, a merge, one file a disk. */
export async function expectSound(
  found: FileSystem,
  { vmId, before, point }: LabLife,
  views: readonly Buffer[],
  fileCount = 1,
): Promise<void> {
  const lab = await openLab(found);
  for (const { id } of await lab.listCheckpoints(vmId)) await lab.removeCheckpoint(vmId, id);
  const checkpoint = await lab.createCheckpoint(vmId, LAB_REQUEST);
  expectViews(await frozenViews(lab, vmId, checkpoint.id), views, 'frozen');
  for (const [index, { diskId, trackingId }] of point.disks.entries()) {
    const ranges = await changesOf(lab, vmId, checkpoint.id, diskId, trackingId);
    const [old, last] = [before[index], views[index]];
    if (old === undefined || last === undefined) throw new Error('no such disk');
    expectCovered(old, last, ranges, `disk ${index}`);
  }
  const after = views.map((view) => Buffer.from(view));
  await scatter(lab, vmId, after, 77);
  expectViews(await frozenViews(lab, vmId, checkpoint.id), views, 'frozen after a write');
  const next = await lab.convertToReferencePoint(vmId, checkpoint.id);
  await lab.waitForMerge(vmId, WAIT_MS);
  expectViews(await viewsOf(lab, vmId), after, 'merged');
  const last = await lab.createCheckpoint(vmId, LAB_REQUEST);
  for (const [index, { diskId, trackingId }] of next.disks.entries()) {
    const ranges = await changesOf(lab, vmId, last.id, diskId, trackingId);
    const [old, end] = [views[index], after[index]];
    if (old === undefined || end === undefined) throw new Error('no such disk');
    expectCovered(old, end, ranges, `disk ${index}, second cycle`);
  }
  await lab.removeCheckpoint(vmId, last.id);
  await lab.waitForMerge(vmId, WAIT_MS);
  await lab.close();
  const record = await lab.findVm('vm');
  expect(record.disks.map(({ files }) => files.length)).to.deep.equal(SIZES.map(() => fileCount));
  const names = await found.list(`${LAB_FOLDER}/vms/${vmId}/disks`);
  expect(names.length, names.join(' ')).to.equal(SIZES.length * fileCount);
}
