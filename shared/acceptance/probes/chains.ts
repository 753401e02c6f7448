// Differencing disks of ours: as Windows opens them, and as the disk of a VM.

import { defined } from '../../assert.js';
import { DrError } from '../../errors.js';
import {
  type Bench,
  firstDifference,
  MIB,
  pattern,
  rangeText,
  uncovered,
  diskAt,
} from '../bench.js';

const SIZE = 32 * MIB;
const PIECE = 64 * 1024;

export async function chains(bench: Bench): Promise<void> {
  const { port } = bench;
  if (!port.isIndependent) {
    const why = 'this host opens disks by our own engine';
    bench.skip('our-disk-opens', why);
    bench.skip('our-chain-opens', why);
    return;
  }
  const wanted = Buffer.alloc(SIZE);
  pattern(0, MIB).copy(wanted);
  const base = await bench.makeDisk('base.vhdx', SIZE, pattern(0, MIB));
  const baseId = await bench.idOf(base);
  bench.check('our-disk-opens', ...(await opens(bench, base, wanted, baseId)));
  const child = await bench.makeChild('child.vhdx', base);
  for (const at of [0, 9 * MIB, SIZE - PIECE]) {
    await bench.write(child, at, pattern(5, PIECE));
    pattern(5, PIECE).copy(wanted, at);
  }
  bench.check('our-chain-opens', ...(await opens(bench, child, wanted, baseId)));
}

async function opens(
  { port }: Bench,
  file: string,
  wanted: Buffer,
  diskId: string,
): Promise<[isSo: boolean, evidence: string]> {
  try {
    const seen = await port.inspect(file);
    if (seen.diskId !== diskId) return [false, `its id is ${seen.diskId}, and not ${diskId}`];
    const disk = await port.openNative(file);
    const at = await firstDifference(disk, wanted).finally(() => disk.close());
    return at === undefined
      ? [true, `${wanted.length} bytes read back, parent ${seen.parentPath ?? 'none'}`]
      : [false, `it differs at byte ${at}`];
  } catch (error) {
    if (error instanceof DrError) return [false, error.line];
    throw error;
  }
}

export async function protectiveDisk(bench: Bench): Promise<void> {
  const { host } = bench;
  const { vmId, files } = await bench.makeVm({ diskBytes: [SIZE] });
  const base = defined(files[0], 'the VM has a disk');
  const point = await bench.referencePoint(vmId);
  const child = await bench.makeChild('protective.vhdx', base);
  await host.setDiskFiles(vmId, [child]);
  const written = [
    { start: 3 * MIB, end: 3 * MIB + PIECE },
    { start: SIZE - PIECE, end: SIZE },
  ];
  const wanted = Buffer.alloc(SIZE);
  pattern(0, MIB).copy(wanted);
  for (const { start } of written) {
    await bench.port.writeOffline(vmId, 0, start, pattern(6, PIECE));
    pattern(6, PIECE).copy(wanted, start);
  }
  await bench.withCheckpoint(vmId, async (checkpoint) => {
    const { id } = checkpoint;
    const { diskId } = diskAt(checkpoint.disks);
    const above = [];
    for await (const range of host.rangesAbove(vmId, id, diskId, base)) above.push(range);
    const disk = await bench.openFrozen(checkpoint);
    const at = await firstDifference(disk, wanted).finally(() => disk.close());
    const missed = uncovered(above, written);
    bench.check(
      'protective-disk',
      at === undefined && missed === undefined,
      at !== undefined
        ? `it differs at byte ${at}`
        : missed !== undefined
          ? `${rangeText(missed)} was written and is not above the base`
          : `${above.length} ranges lie above the base, the writes among them`,
    );
    const { trackingId } = diskAt(point.disks);
    const ranges = await bench.ranges(checkpoint, trackingId);
    const lost = ranges === 'invalid' ? undefined : uncovered(ranges, written);
    bench.check(
      'protective-disk-tracking',
      lost === undefined,
      ranges === 'invalid'
        ? 'a compare is needed: the id is invalid over a protective disk'
        : lost === undefined
          ? 'covered: the older id gives the writes to the protective disk'
          : `NOT covered and not said: ${rangeText(lost)} is missing`,
    );
  });
  await host.setDiskFiles(vmId, [base]);
}
