// A lab VM beside plain copies of its disks: what the guest must see, what was frozen, and what may
// not be missing from the changes.

import { expect } from 'chai';
import { guid, type Guid } from '../../shared/bytes/index.js';
import { systemClock } from '../../shared/clock.js';
import type { FileSystem } from '../../shared/files/index.js';
import type { ByteRange, CheckpointRequest } from '../../shared/hypervisor/index.js';
import { Lab, type LabSeams } from '../../shared/hypervisor/lab/index.js';
import { SeededRandom } from './seeded-random.js';

export const LAB_FOLDER = '/lab';
const SECTOR = 512;

export const LAB_REQUEST: CheckpointRequest = {
  tag: {
    protectionId: guid('aaaaaaaa-0000-4000-8000-000000000001'),
    operationId: guid('aaaaaaaa-0000-4000-8000-000000000002'),
  },
  consistency: 'crash',
  timeoutMs: 30_000,
};

let sessions = 0;

/** Every session has other GUIDs, as in real life. */
export function labSeams(fs: FileSystem): LabSeams {
  return { fs, clock: systemClock, random: new SeededRandom(++sessions), lockTimeoutMs: 1000 };
}

export function openLab(fs: FileSystem): Promise<Lab> {
  return Lab.open(LAB_FOLDER, labSeams(fs));
}

/** The guest's view of all disks. */
export async function viewsOf(lab: Lab, vmId: Guid): Promise<Buffer[]> {
  const { disks } = await lab.describeVm(vmId);
  const views: Buffer[] = [];
  for (const [index, { sizeBytes }] of disks.entries()) {
    views.push(await lab.guestRead(vmId, index, 0, sizeBytes));
  }
  return views;
}

/** All disks of a checkpoint. */
export async function frozenViews(lab: Lab, vmId: Guid, checkpointId: string): Promise<Buffer[]> {
  const { disks } = await lab.describeVm(vmId);
  const views: Buffer[] = [];
  for (const { diskId } of disks) {
    const disk = await lab.openCheckpointDisk(vmId, checkpointId, diskId);
    const bytes = Buffer.alloc(disk.sizeBytes);
    await disk.read(0, bytes);
    await disk.close();
    views.push(bytes);
  }
  return views;
}

export function expectViews(
  found: readonly Buffer[],
  wanted: readonly Buffer[],
  what: string,
): void {
  expect(found.length, `${what}: number of disks`).to.equal(wanted.length);
  for (const [index, bytes] of found.entries()) {
    const other = wanted[index] ?? Buffer.alloc(0);
    if (bytes.equals(other)) continue;
    const at = firstDifference(bytes, other);
    expect.fail(`${what}: disk ${index} differs from byte ${at} on`);
  }
}

function firstDifference(a: Buffer, b: Buffer): number {
  let at = 0;
  while (at < a.length && a[at] === b[at]) at++;
  return at;
}

/** Fails when a sector that differs between the two moments is outside of what was reported. */
export function expectCovered(
  before: Buffer,
  after: Buffer,
  ranges: readonly ByteRange[],
  what: string,
): void {
  for (let at = 0; at < after.length; at += SECTOR) {
    const end = Math.min(after.length, at + SECTOR);
    if (before.subarray(at, end).equals(after.subarray(at, end))) continue;
    const isReported = ranges.some((range) => range.start <= at && end <= range.end);
    if (!isReported) expect.fail(`${what}: the change of sector at ${at} is not reported`);
  }
}

export async function changesOf(
  lab: Lab,
  vmId: Guid,
  checkpointId: string,
  diskId: Guid,
  trackingId: string,
): Promise<ByteRange[]> {
  const ranges: ByteRange[] = [];
  for await (const range of lab.changedRanges(vmId, checkpointId, diskId, trackingId)) {
    expect(range.start).to.be.greaterThan(ranges.at(-1)?.end ?? -1);
    ranges.push(range);
  }
  return ranges;
}
