// Disks that the newest point does not have, or not in this size, and that an older one still has: when
// they come back, their cells need not travel again.

import { MAX_DISKS } from '../../shared/delta/index.js';
import type { Point, Protection } from './protection.js';
import type { DiskRecord } from './records.js';

export interface EarlierDisk {
  /** The newest sound point that has it. */
  readonly point: Point;
  readonly disk: DiskRecord;
}

/** One for each disk and size, the newest first. */
export function earlierDisks({ head, listed }: Protection): EarlierDisk[] {
  const keyOf = ({ diskId, sizeBytes }: DiskRecord): string => `${diskId} ${sizeBytes}`;
  const seen = new Set((head?.disks ?? []).map(keyOf));
  const found: EarlierDisk[] = [];
  for (const point of listed.reverse()) {
    if (point.damage !== undefined) continue;
    for (const disk of point.disks) {
      if (seen.has(keyOf(disk))) continue;
      seen.add(keyOf(disk));
      found.push({ point, disk });
      if (found.length === MAX_DISKS) return found;
    }
  }
  return found;
}
