// A delta that comes by another road than the network: the cells in which two moments of a guest
// differ, with the manifest that a backup would have written beside them.

import { defined } from '../../shared/assert.js';
import type { Guid } from '../../shared/bytes/index.js';
import {
  CELL_BYTES,
  cellLength,
  type DeltaEntry,
  type DeltaSource,
  hashCell,
  type ManifestHeader,
  ManifestRoot,
} from '../../shared/delta/index.js';
import { isAllZero } from '../../shared/disk/index.js';
import type { SeededRandom } from '../support/seeded-random.js';
import { bytesOf, type FrozenDisk } from './guest-disk.js';

export interface BroughtDisk {
  readonly source: DeltaSource;
  readonly root: Buffer;
}

/** A point of which the deltas are at the DR site, one for each disk. */
export interface BroughtPoint {
  readonly vmId: Guid;
  readonly pointId: Guid;
  readonly parentPointId: Guid;
  readonly checkpointId: string;
  /** In the order of the disks of the parent point. */
  readonly disks: readonly BroughtDisk[];
}

/** What leads from one moment of a disk to another, and some cells more that have not changed. */
export function deltaBetween(
  header: ManifestHeader,
  before: FrozenDisk,
  after: FrozenDisk,
  random: SeededRandom,
): BroughtDisk {
  const { sizeBytes } = after;
  const entries: DeltaEntry[] = [];
  for (const [cell, content] of after.cells.entries()) {
    const length = cellLength(cell, sizeBytes);
    const bytes = bytesOf(content, length);
    const isSame = bytesOf(before.cells[cell], length).equals(bytes);
    if (isSame && !random.chance(0.1)) continue;
    const last = entries.at(-1);
    if (!isAllZero(bytes)) {
      entries.push({ kind: 'data', cell, hash: hashCell(bytes), position: cell * CELL_BYTES });
    } else if (last?.kind === 'zero' && last.cell + last.count === cell) {
      entries[entries.length - 1] = { ...last, count: last.count + 1 };
    } else {
      entries.push({ kind: 'zero', cell, count: 1 });
    }
  }
  const root = new ManifestRoot(header);
  for (const entry of entries) {
    const wrong = root.check(entry);
    if (wrong !== undefined) throw new Error(`a delta is not legal: ${wrong}`);
  }
  return { source: sourceOf(header, entries, after), root: root.finish().root };
}

function sourceOf(
  header: ManifestHeader,
  entries: readonly DeltaEntry[],
  { cells }: FrozenDisk,
): DeltaSource {
  return {
    header,
    async *entries() {
      await Promise.resolve();
      yield* entries;
    },
    read: (position, target) => {
      const content = defined(cells[position / CELL_BYTES], 'a data entry has bytes');
      content.copy(target, 0, 0, target.length);
      return Promise.resolve();
    },
  };
}
