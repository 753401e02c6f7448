// What the years bring, in the demo: points are forgotten and their deltas folded, so that the store
// stays small with the right bytes at each point; a byte rots, is found, and is fetched again.

import path from 'node:path';
import { type DemoSites, LAB, type Remembered, STORE } from './demo-sites.js';
import { runHvdr } from './demo-run.js';
import { allocatedBelow, flipByte, largestDelta } from './demo-files.js';
import { formatSize } from '../shared/sizes.js';

const VM = 'FILES01';
const DISK_BYTES = 100 * 1024 * 1024;
const CYCLES = 40;
const PINNED_CYCLE = 20;
const KEPT = 5;
/** 1 % of the disk. */
const CELLS_PER_CYCLE = 16;
const STORE_BYTES_MAX = 145 * 1024 * 1024;

/** Forty cycles over a disk of 100 MiB, of which the store keeps a few points. */
export async function manyCycles(sites: DemoSites): Promise<void> {
  const { report, folder, context } = sites;
  const vms = path.join(folder, STORE, 'vms');
  const before = await allocatedBelow(context.files, vms);
  await sites.hvdr('lab', 'create-vm', LAB, VM, '--disk', String(DISK_BYTES));
  const write = (cells: number, seed: number): Promise<void> =>
    sites.quiet(
      ...['lab', 'write', LAB, VM, '--disk', '0'],
      ...['--random', String(cells), '--block', '64K', '--seed', String(seed)],
    );
  // four times as many cells as it has: nearly all of it is in use
  await write((4 * DISK_BYTES) / 65_536, 1);
  report.say('run', `${CYCLES} times: guest writes, hvdr push --max-restore-points ${KEPT} …`);
  const points: Remembered[] = [];
  for (let cycle = 1; cycle <= CYCLES; cycle++) {
    if (cycle > 1) await write(CELLS_PER_CYCLE, cycle);
    const isKept = cycle === 1 || cycle === PINNED_CYCLE || cycle > CYCLES - KEPT;
    const hashes = isKept ? await sites.guestHashes(VM, 1) : [];
    const { point } = await sites.quietPush(VM, '--max-restore-points', String(KEPT));
    if (isKept) points.push({ point, title: `cycle ${cycle} of ${VM}`, hashes });
    if (cycle === PINNED_CYCLE) {
      await sites.quiet('points', VM, '--pin', point, ...sites.operator());
    }
  }
  report.mark('wire', `── ${CYCLES} cycles ──▶`);
  await sites.hvdr('compact', VM, ...sites.operator());
  report.mark('dr', 'forgets, merges, folds');
  const stored = (await allocatedBelow(context.files, vms)) - before;
  report.judge({
    what: `${CYCLES} cycles over ${formatSize(DISK_BYTES)} take ${formatSize(stored)} in the store`,
    command: `du -sh ${STORE}`,
    isEqual: stored < STORE_BYTES_MAX,
  });
  for (const [index, remembered] of points.entries()) {
    await sites.provePoint(VM, remembered, `files${index + 1}`);
  }
}

/** One byte of the newest delta changes on the DR site's disk; verify must find and mend it. */
export async function rotAndRepair(sites: DemoSites, vm: string): Promise<void> {
  const { report, folder, context } = sites;
  const file = await largestDelta(context.files, path.join(folder, STORE, 'vms'));
  flipByte(file);
  report.say('accident', `a byte of ${path.basename(file)} changes in the store`);
  report.mark('dr', 'a byte rots');
  const verify = async (...more: string[]): Promise<number> =>
    runHvdr(['verify', vm, '--point', 'all', ...more, ...sites.operator()], {
      folder,
      expectedCodes: [0, 1, 3, 13],
    });
  report.judge({
    what: 'verify finds the changed byte, and only bad points are refused',
    command: `hvdr points ${vm} --store ${STORE}`,
    isEqual: (await verify()) === 13,
  });
  const repaired = await verify('--repair', '--host', `lab:${LAB}`);
  report.mark('wire', '── the cell again ──▶');
  report.judge({
    what: 'verify --repair fetches the cell from the source, and every point is whole again',
    command: `hvdr verify ${vm} --point all --store ${STORE}`,
    isEqual: repaired === 0 && (await verify()) === 0,
  });
  report.mark('dr', 'mended');
}
