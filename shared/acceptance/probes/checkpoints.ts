// Recovery checkpoints: what they read, what becomes of them, whose disks they are.

import type { Guid } from '../../bytes/index.js';
import { type Bench, firstDifference, MIB, pattern, diskAt } from '../bench.js';

const SIZES = [24 * MIB, 16 * MIB + 512 * 7];

export async function checkpoints(bench: Bench): Promise<void> {
  const { host } = bench;
  const { vmId, files } = await bench.makeVm({ diskBytes: SIZES });
  const wanted = await Promise.all(files.map((file) => bench.idOf(file)));
  const before = await basePaths(bench, vmId);
  const reported = (await host.describeVm(vmId)).disks.map(({ diskId }) => diskId);
  await bench.withCheckpoint(vmId, async (checkpoint) => {
    bench.check(
      'checkpoint-of-off-vm',
      checkpoint.disks.length === SIZES.length,
      `${checkpoint.disks.length} of ${SIZES.length} disks, ${checkpoint.consistency}-consistent`,
    );
    const frozenIds = checkpoint.disks.map(({ diskId }) => diskId);
    bench.check(
      'disk-id-kept',
      [reported, frozenIds].every((ids) => ids.join() === wanted.join()),
      `written ${wanted.join(', ')}; the VM has ${reported.join(', ')}; the checkpoint ${frozenIds.join(', ')}`,
    );
    for (const [index, sizeBytes] of SIZES.entries()) {
      await readsBack(bench, checkpoint, index, contentOf(index, sizeBytes));
    }
  });
  await onBaseAgain(bench, vmId, before, 'a removal');

  const point = await bench.referencePoint(vmId);
  const ids = point.disks.map(({ trackingId }) => trackingId);
  bench.check(
    'conversion-tracks',
    point.disks.map(({ diskId }) => diskId).join() === wanted.join() &&
      ids.every((id) => id !== ''),
    `${ids.filter((id) => id !== '').length} of ${SIZES.length} disks have an id`,
  );
  await onBaseAgain(bench, vmId, before, 'a conversion');
}

function contentOf(index: number, sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  pattern(index, MIB).copy(bytes);
  return bytes;
}

async function readsBack(
  bench: Bench,
  checkpoint: Parameters<Bench['openFrozen']>[0],
  index: number,
  wanted: Buffer,
): Promise<void> {
  const disk = await bench.openFrozen(checkpoint, index);
  try {
    const at = await firstDifference(disk, wanted);
    let data = 0;
    let hidden: number | undefined;
    for await (const { start, end, kind } of disk.extents(0, disk.sizeBytes)) {
      if (kind === 'data') data += end - start;
      // what is called zero is never read, so it has to be
      else if (hidden === undefined && start < MIB) hidden = start;
    }
    const evidence =
      at !== undefined
        ? `disk ${index} differs at byte ${at}`
        : hidden !== undefined
          ? `disk ${index}: the map has no data at byte ${hidden}, which was written`
          : `${SIZES.length} disks equal what was written; the map of disk ${index} has ${data} bytes of data`;
    bench.check('frozen-read', at === undefined && hidden === undefined, evidence);
  } finally {
    await disk.close();
  }
}

async function basePaths({ host }: Bench, vmId: Guid): Promise<readonly string[]> {
  return (await host.describeVm(vmId)).disks.map(({ path }) => path);
}

async function onBaseAgain(
  bench: Bench,
  vmId: Guid,
  before: readonly string[],
  after: string,
): Promise<void> {
  const now = await basePaths(bench, vmId);
  const left = (await bench.host.listCheckpoints(vmId)).length;
  const isSo = now.join() === before.join() && left === 0;
  bench.check(
    'merge-ends',
    isSo,
    isSo
      ? 'the VM is on its base files after a removal and after a conversion'
      : `after ${after}: ${left} checkpoints, disks ${now.join(', ')}`,
  );
}

export async function userCheckpoints(bench: Bench): Promise<void> {
  const { port } = bench;
  const { vmId } = await bench.makeVm({ diskBytes: [16 * MIB] });
  const users = await port.addUserCheckpoint(vmId);
  await port.writeOffline(vmId, 0, 4 * MIB, pattern(9, 64 * 1024));
  const wanted = contentOf(0, 16 * MIB);
  pattern(9, 64 * 1024).copy(wanted, 4 * MIB);
  await bench.withCheckpoint(vmId, async (checkpoint) => {
    const disk = await bench.openFrozen(checkpoint);
    try {
      const at = await firstDifference(disk, wanted);
      bench.check(
        'user-checkpoints',
        at === undefined,
        at === undefined ? 'base and its later writes read as one disk' : `differs at byte ${at}`,
      );
    } finally {
      await disk.close();
    }
  });
  const left = await port.listUserCheckpoints(vmId);
  if (!left.includes(users)) bench.check('user-checkpoints', false, "the user's checkpoint went");
  await port.removeUserCheckpoint(vmId, users);
  await bench.host.waitForMerge(vmId, bench.seams.timeoutMs);
}

export async function reverting(bench: Bench): Promise<void> {
  const { port } = bench;
  const { vmId } = await bench.makeVm({ diskBytes: [16 * MIB] });
  const users = await port.addUserCheckpoint(vmId);
  const written = { start: 4 * MIB, end: 4 * MIB + 64 * 1024 };
  await port.writeOffline(vmId, 0, written.start, pattern(9, written.end - written.start));
  const point = await bench.referencePoint(vmId);
  await port.applyUserCheckpoint(vmId, users);
  await bench.withCheckpoint(vmId, async (checkpoint) => {
    const { trackingId } = diskAt(point.disks);
    const ranges = await bench.ranges(checkpoint, trackingId);
    const isSafe =
      ranges === 'invalid' ||
      ranges.some(({ start, end }) => start <= written.start && written.end <= end);
    bench.check(
      'revert-seen',
      isSafe,
      ranges === 'invalid'
        ? 'the id is invalid afterwards'
        : `${ranges.length} ranges, the lost write ${isSafe ? 'among them' : 'NOT among them'}`,
    );
  });
}
