// Changed ranges, with writes that are known. They are made while the VM is off, as an edit by hand would be: those
// of a running machine are in ./running.ts and ./guest.ts.

import type { ByteRange, Checkpoint } from '../../hypervisor/index.js';
import {
  type Bench,
  bytesOf,
  collected,
  firstDifference,
  MIB,
  pattern,
  rangeText,
  uncovered,
  diskAt,
} from '../bench.js';

const SIZE = 64 * MIB;
const UNKNOWN_TRACKING = 'rctX:00000000:0000:0000:0000:000000000000:00000000';
const FIRST: readonly ByteRange[] = [
  { start: 0, end: 4096 },
  { start: 5 * MIB + 512, end: 5 * MIB + 1024 },
  { start: 33 * MIB - 4096, end: 33 * MIB + 4096 },
];
const SECOND: readonly ByteRange[] = [
  { start: 20 * MIB, end: 21 * MIB },
  { start: SIZE - 512, end: SIZE },
];

export async function tracking(bench: Bench): Promise<void> {
  const { host } = bench;
  const { vmId } = await bench.makeVm({ diskBytes: [SIZE] });
  const wanted = Buffer.alloc(SIZE);
  pattern(0, MIB).copy(wanted);
  const one = await bench.referencePoint(vmId);
  const oneId = diskAt(one.disks).trackingId;
  const write = async (ranges: readonly ByteRange[], number: number): Promise<void> => {
    for (const { start, end } of ranges) {
      const bytes = pattern(number, end - start);
      await bench.port.writeOffline(vmId, 0, start, bytes);
      bytes.copy(wanted, start);
    }
  };
  await write(FIRST, 11);
  const checkpoint = await host.createCheckpoint(vmId, bench.request);
  const isKnown = await reported(bench, checkpoint, oneId, FIRST);
  await agreeing(bench, checkpoint, oneId);
  await unknownId(bench, checkpoint);
  const disk = await bench.openFrozen(checkpoint);
  const at = await firstDifference(disk, wanted).finally(() => disk.close());
  if (at !== undefined) bench.check('frozen-read', false, `after writes it differs at byte ${at}`);
  const two = await host.convertToReferencePoint(vmId, checkpoint.id);
  await host.waitForMerge(vmId, bench.seams.timeoutMs);

  await write(SECOND, 12);
  await bench.withCheckpoint(vmId, async (next) => {
    const all = [...FIRST, ...SECOND];
    const old = await bench.ranges(next, oneId);
    const missed = old === 'invalid' ? undefined : uncovered(old, all);
    const isValid = old !== 'invalid' && missed === undefined;
    bench.check(
      'old-id-valid',
      // an id that offline edits make invalid says nothing of ids that are merely old
      isValid || (!isKnown && old === 'invalid'),
      old === 'invalid' ? 'the older id is invalid' : coverText(old, all, missed),
    );
    const newId = diskAt(two.disks).trackingId;
    await reported(bench, next, newId, SECOND);
  });

  await host.removeReferencePoint(vmId, one.id);
  const left = await host.listReferencePoints(vmId);
  bench.check(
    'old-point-destroyed',
    left.every(({ id }) => id !== one.id) && left.some(({ id }) => id === two.id),
    `${left.length} reference points are left; the newer one is ${left.some(({ id }) => id === two.id) ? 'among them' : 'gone too'}`,
  );
  await bench.withCheckpoint(vmId, async (next) => {
    const ranges = await bench.ranges(next, oneId);
    const missed = ranges === 'invalid' ? undefined : uncovered(ranges, [...FIRST, ...SECOND]);
    bench.check(
      'destroyed-id-safe',
      missed === undefined,
      ranges === 'invalid'
        ? 'refused as invalid'
        : coverText(ranges, [...FIRST, ...SECOND], missed),
    );
  });
}

/** Whether the ranges cover the writes; not when the id is invalid, which is safe. */
async function reported(
  bench: Bench,
  checkpoint: Checkpoint,
  trackingId: string,
  writes: readonly ByteRange[],
): Promise<boolean> {
  const ranges = await bench.ranges(checkpoint, trackingId);
  if (ranges === 'invalid') {
    bench.check('offline-edit-safe', true, 'an edit while the VM is off makes the id invalid');
    bench.skip(
      'known-writes-reported',
      'writes while the VM is off make the id invalid here; the probe `running` has those of a machine',
    );
    return false;
  }
  const missed = uncovered(ranges, writes);
  const evidence = coverText(ranges, writes, missed);
  bench.check('known-writes-reported', missed === undefined, evidence);
  bench.check('offline-edit-safe', missed === undefined, evidence);
  return missed === undefined;
}

function coverText(
  ranges: readonly ByteRange[],
  writes: readonly ByteRange[],
  missed: ByteRange | undefined,
): string {
  const found = `${writes.length} writes, ${ranges.length} ranges of ${bytesOf(ranges)} bytes`;
  return missed === undefined ? `${found} cover them` : `${found} miss ${rangeText(missed)}`;
}

async function agreeing(bench: Bench, checkpoint: Checkpoint, trackingId: string): Promise<void> {
  const { otherRanges } = bench.port;
  if (otherRanges === undefined) {
    bench.skip('providers-agree', 'this host has one way to ask');
    return;
  }
  const { diskId } = diskAt(checkpoint.disks);
  const one = await bench.ranges(checkpoint, trackingId);
  const other = await collected(otherRanges(checkpoint.vmId, checkpoint.id, diskId, trackingId));
  const [oneText, otherText] = [one, other].map((ranges) =>
    ranges === 'invalid' ? ranges : joined(ranges).map(rangeText).join(' '),
  );
  bench.check(
    'providers-agree',
    oneText === otherText,
    oneText === otherText ? `both: ${oneText ?? ''}` : `${oneText ?? ''} and ${otherText ?? ''}`,
  );
}

/** Neighbours as one, so that two ways to cut the same bytes are equal. */
function joined(ranges: readonly ByteRange[]): ByteRange[] {
  const all: ByteRange[] = [];
  for (const range of ranges) {
    const last = all.at(-1);
    if (last !== undefined && range.start <= last.end) {
      all[all.length - 1] = { start: last.start, end: Math.max(last.end, range.end) };
    } else {
      all.push(range);
    }
  }
  return all;
}

async function unknownId(bench: Bench, checkpoint: Checkpoint): Promise<void> {
  const ranges = await bench.ranges(checkpoint, UNKNOWN_TRACKING);
  bench.check(
    'unknown-id-refused',
    ranges === 'invalid',
    ranges === 'invalid' ? 'refused as invalid' : `${ranges.length} ranges were given for it`,
  );
}

export async function resizing(bench: Bench): Promise<void> {
  const { port } = bench;
  if (port.growDisk === undefined) {
    bench.skip('resize-seen', 'this host grows no disk that stood ready');
    return;
  }
  const { vmId } = await bench.makeVm({ diskBytes: [16 * MIB] });
  const point = await bench.referencePoint(vmId);
  await port.growDisk(vmId, 0, 24 * MIB);
  await bench.withCheckpoint(vmId, async (checkpoint) => {
    const { trackingId } = diskAt(point.disks);
    const [disk] = checkpoint.disks;
    const ranges = await bench.ranges(checkpoint, trackingId);
    bench.check(
      'resize-seen',
      disk?.sizeBytes === 24 * MIB || ranges === 'invalid',
      `the checkpoint says ${disk?.sizeBytes ?? 0} bytes; the id is ${ranges === 'invalid' ? 'invalid' : 'still answered'}`,
    );
  });
}
