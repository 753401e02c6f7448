// What the works of reclaiming have in common. Each is an async generator that yields after a bounded
// piece of work and may be left off there: what was begun is gone on with later, after a crash too.

import { CELL_BYTES, cellCount, cellLength, ManifestFile } from '../../shared/delta/index.js';
import type { Clock, Random } from '../../shared/clock.js';
import type { FileSystem } from '../../shared/files/index.js';
import type { ManifestTrailer } from '../../shared/delta/index.js';
import type { Content, SegmentKey } from '../store/records.js';
import type { VmStore } from '../store/vm-store.js';

export interface ReclaimSeams {
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
}

export type Step =
  | { readonly kind: 'worked'; readonly bytes: number }
  /** Somebody uses what it needs; nothing was done. */
  | { readonly kind: 'waits'; readonly readerCount: number };

/** Points or layers are others than when the work was planned; nothing was changed. */
export class LayersChanged extends Error {
  override readonly name = 'LayersChanged';
}

/** Ends when all who may have named files of the segment before now have let go. */
export async function* whenLetGo(vm: VmStore, segment: SegmentKey): AsyncGenerator<Step> {
  const haveLetGo = vm.leases.watchReaders(segment);
  while (!haveLetGo()) yield { kind: 'waits', readerCount: vm.leases.readerCount(segment) };
  await Promise.resolve();
}

/** What the journal says of a manifest. */
export async function contentOf(
  fs: FileSystem,
  path: string,
  trailer: ManifestTrailer,
): Promise<Content> {
  const file = await fs.open(path, { mode: 'read' });
  try {
    const manifest = await ManifestFile.open(file);
    const { diskSizeBytes } = manifest.header;
    const lastCell = cellCount(diskSizeBytes) - 1;
    const isLastShort = (await manifest.find(lastCell))?.kind === 'data';
    const missingBytes = isLastShort ? CELL_BYTES - cellLength(lastCell, diskSizeBytes) : 0;
    return {
      root: trailer.root.toString('hex'),
      cellCount: trailer.cellCount,
      dataCellCount: trailer.dataCellCount,
      dataBytes: trailer.dataCellCount * CELL_BYTES - missingBytes,
    };
  } finally {
    await file.close();
  }
}
