// What a comparison of a VM with its point says, as lines of a job. Pure.

import type { ComparedDisk } from '../../source-agent/index.js';
import { formatSize } from '../../shared/sizes.js';

/** Places of one VM that are told line by line; the rest is counted. */
const PLACES_MAX = 100;

/**
 * `equal`: all of it was compared, and what differs is known to have changed since. `differs`: cells are
 * not what they were sent as. `unsure`: not compared as a whole, or what changed since is not known.
 */
export type Judgement = 'equal' | 'differs' | 'unsure';

export function judgementOf(disks: readonly ComparedDisk[]): Judgement {
  if (disks.some((disk) => badCells(disk) > 0)) return 'differs';
  const isSure = (disk: ComparedDisk): boolean =>
    disk.comparedBytes > 0 && (disk.divergedCells !== undefined || disk.differingCells === 0);
  return disks.every(isSure) ? 'equal' : 'unsure';
}

/** Cells that are wrong for sure. */
export function badCells({ divergedCells = 0, damagedCells }: ComparedDisk): number {
  return divergedCells + damagedCells;
}

/** The first line for the VM, then one for each disk. */
export function summaryLines(vmName: string, disks: readonly ComparedDisk[]): string[] {
  const bytes = disks.reduce((sum, { comparedBytes }) => sum + comparedBytes, 0);
  const what = {
    equal: 'agrees with its point',
    differs: 'DIFFERS from its point',
    unsure: 'cannot be told from its point for sure',
  }[judgementOf(disks)];
  const count = disks.length === 1 ? '1 disk' : `${disks.length} disks`;
  const first = `${vmName} ${what}: ${count}, ${formatSize(bytes)} compared by hashes`;
  return [first, ...disks.map((disk) => `${vmName}, disk ${disk.diskId}: ${diskText(disk)}`)];
}

function diskText(disk: ComparedDisk): string {
  const { comparedBytes, differingCells, changedCells, damagedCells, divergedCells, note } = disk;
  if (comparedBytes === 0) return note;
  const parts = [`${differingCells} cell(s) differ, ${changedCells} of them are known as changed`];
  if (damagedCells > 0) parts.push(`${damagedCells} are damaged at the receiver`);
  if (divergedCells !== undefined) parts.push(`${divergedCells} nobody saw change`);
  if (note !== '' && differingCells > 0) parts.push(note);
  return parts.join(', ');
}

/** Each difference with VM, disk and offset. */
export function placeLines(vmName: string, disks: readonly ComparedDisk[]): string[] {
  const all = disks.flatMap(({ diskId, divergedAt, damagedAt }) => [
    ...divergedAt.map(
      (at) => `${vmName}, disk ${diskId}, offset ${at}: differs, and was never changed`,
    ),
    ...damagedAt.map((at) => `${vmName}, disk ${diskId}, offset ${at}: damaged at the receiver`),
  ]);
  const lines = all.slice(0, PLACES_MAX);
  const count = disks.reduce((sum, disk) => sum + badCells(disk), 0);
  if (count > lines.length) lines.push(`${vmName}: ${count - lines.length} more cell(s) differ`);
  return lines;
}
