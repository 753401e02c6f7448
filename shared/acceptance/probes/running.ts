// Changed ranges of a machine that runs: a boot sector of ours writes to sectors that are known.

import { type Bench, bytesOf, MIB, rangeText, uncovered, diskAt } from '../bench.js';
import { bootSector, SECTOR_BYTES, writtenOf, writtenSector } from '../boot-sector.js';

const SIZE = 64 * MIB;
/** Across blocks and chunks, at the very end, and two neighbours. */
const LBAS = [2048, 2049, 40_000, 65_537, SIZE / SECTOR_BYTES - 1];
/** A BIOS takes some seconds to the boot sector. */
const BOOT_MS = 60_000;

export async function running(bench: Bench): Promise<void> {
  const { host, port, seams } = bench;
  const boot = bootSector(LBAS);
  const file = await bench.makeDisk('boot.vhdx', SIZE, boot);
  const { vmId } = await bench.makeVm({ diskBytes: [], files: [file], generation: 1 });
  const base = (await host.describeVm(vmId)).disks[0]?.path;
  const point = await bench.referencePoint(vmId);
  await host.startVm(vmId);
  if (port.playBoot === undefined) {
    await seams.clock.sleep(BOOT_MS, seams.signal);
  } else {
    const writes = LBAS.map((lba) => ({
      offset: lba * SECTOR_BYTES,
      bytes: writtenSector(boot, lba),
    }));
    await port.playBoot(vmId, writes);
  }
  await bench.withCheckpoint(vmId, async (checkpoint) => {
    const disk = await bench.openFrozen(checkpoint);
    const seen = await writtenOf(disk, boot, LBAS).finally(() => disk.close());
    if (seen.length === 0) {
      const why = 'the boot sector of generation 1 wrote nothing: it did not run within a minute';
      bench.skip('running-writes-reported', why);
      return;
    }
    const { trackingId } = diskAt(point.disks);
    const ranges = await bench.ranges(checkpoint, trackingId);
    const missed = ranges === 'invalid' ? undefined : uncovered(ranges, seen);
    bench.check(
      'running-writes-reported',
      ranges !== 'invalid' && missed === undefined,
      ranges === 'invalid'
        ? 'the id is invalid although the machine was only started'
        : missed === undefined
          ? `${seen.length} of ${LBAS.length} sectors were written while it ran; ${ranges.length} ranges of ${bytesOf(ranges)} bytes cover them`
          : `${rangeText(missed)} was written while it ran, and is in none of ${ranges.length} ranges`,
    );
  });
  const now = (await host.describeVm(vmId)).disks[0]?.path;
  if (now !== base) {
    bench.check('merge-ends', false, `of a running VM it did not: its disk is ${now ?? 'gone'}`);
  }
  await host.turnOffVm(vmId);
}
