// What a merge of deltas would give back, found out from their manifests alone.

import {
  CELL_BYTES,
  type DeltaEntry,
  type DeltaSource,
  ManifestFile,
  unionOf,
} from '../../shared/delta/index.js';
import type { BlockFile, FileSystem } from '../../shared/files/index.js';
import type { Segment, StoredLayer } from '../store/segments.js';
import type { VmStore } from '../store/vm-store.js';

class CellsOnly implements DeltaSource {
  readonly #manifest: ManifestFile;

  constructor(manifest: ManifestFile) {
    this.#manifest = manifest;
  }

  get header(): DeltaSource['header'] {
    return this.#manifest.header;
  }

  async *entries(): AsyncGenerator<DeltaEntry> {
    for await (const record of this.#manifest.records()) {
      yield record.kind === 'zero' ? record : { ...record, position: 0 };
    }
  }

  read(): Promise<void> {
    return Promise.reject(new Error('only the cells are looked at'));
  }
}

/** Bytes of the parts less those of their union, a short last cell taken for a whole one. */
async function measure(
  fs: FileSystem,
  vm: VmStore,
  segment: Segment,
  parts: readonly StoredLayer[],
): Promise<number> {
  const files: BlockFile[] = [];
  try {
    const sources: DeltaSource[] = [];
    for (const { cycleId } of parts) {
      const { manifest } = vm.layout.files(segment, cycleId, 'delta');
      const file = await fs.open(manifest, { mode: 'read' });
      files.push(file);
      sources.push(new CellsOnly(await ManifestFile.open(file)));
    }
    let cells = 0;
    for await (const { entry } of unionOf(sources)) if (entry.kind === 'data') cells++;
    const before = parts.reduce((sum, { dataCellCount }) => sum + dataCellCount, 0);
    return (before - cells) * CELL_BYTES;
  } finally {
    for (const file of files) await file.close();
  }
}

/** Cells of a delta, zeros included, in bytes: a merge with it gives back at most that much more. */
function reachOf({ cellCount }: StoredLayer): number {
  return cellCount * CELL_BYTES;
}

interface Known {
  readonly parts: readonly StoredLayer[];
  readonly gainBytes: number;
}

/**
 * Remembers what was measured. A row that grew by a part is not measured again before that part can
 * have made a difference that counts.
 */
export class MergeGains {
  readonly #known = new Map<string, Known>();

  /** The gain, or a bound for it that is below `enoughBytes`; undefined: to be measured. */
  of(segment: Segment, parts: readonly StoredLayer[], enoughBytes: number): number | undefined {
    const known = this.#known.get(keyOf(segment, parts));
    if (known === undefined) return undefined;
    if (known.parts.some((part, index) => parts[index] !== part)) return undefined;
    const added = parts.slice(known.parts.length);
    const bound = added.reduce((sum, part) => sum + reachOf(part), known.gainBytes);
    return added.length === 0 || bound <= enoughBytes ? bound : undefined;
  }

  /** @throws DrError, DeltaError when a manifest cannot be read */
  async measure(
    fs: FileSystem,
    vm: VmStore,
    segment: Segment,
    parts: readonly StoredLayer[],
  ): Promise<void> {
    const gainBytes = await measure(fs, vm, segment, parts);
    this.#known.set(keyOf(segment, parts), { parts, gainBytes });
  }

  /** Forgets rows that are not there any more. */
  retain(
    rows: readonly { readonly segment: Segment; readonly parts: readonly StoredLayer[] }[],
  ): void {
    const kept = new Set(rows.map(({ segment, parts }) => keyOf(segment, parts)));
    for (const key of this.#known.keys()) if (!kept.has(key)) this.#known.delete(key);
  }
}

function keyOf({ diskId, generation }: Segment, [first]: readonly StoredLayer[]): string {
  return `${diskId}.${generation}/${first?.cycleId ?? ''}`;
}
