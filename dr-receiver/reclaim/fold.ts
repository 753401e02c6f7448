// Takes the deltas up to a point into the base, in place:
//
//   1. base.manifest.applying written, durable     what the base will be
//   2. `fold-begin` record                         from here on it may be in between
//   3. cells written in batches, each of which ends with a clean log and a flushed file
//   4. base.manifest.applying renamed to base.manifest, folder flushed
//   5. `fold-end` record
//   6. the deltas' files removed
//
// The deltas stand over the base until 5 and have every cell that changes, so whoever reads a listed
// point never sees the base where it is in between. Whatever ends a fold, it is begun again from its
// first cell: writing the same cells again changes nothing. The base is written only while nobody
// reads it, because a reader keeps what it knows of the places of blocks; it gets in between batches.

import type { Guid } from '../../shared/bytes/index.js';
import {
  BaseManifest,
  CELL_BYTES,
  cellOffset,
  DeltaError,
  type DeltaRecords,
  type DeltaSource,
  ManifestFile,
  type ManifestRecord,
  mergedHeader,
  OverlappedWrites,
  readUnion,
  type UnionBatch,
  unionOf,
} from '../../shared/delta/index.js';
import type { FileSystem } from '../../shared/files/index.js';
import { openVhdx } from '../../shared/vhdx/index.js';
import { announcedPath, type DiskFiles } from '../store/layout.js';
import { closeLayers, layerIn, openLayers } from '../store/point-sources.js';
import { markNeedless } from '../store/removing-mark.js';
import type { Folding, Segment } from '../store/segments.js';
import type { VmStore } from '../store/vm-store.js';
import { forgetFolded } from './folded-damage.js';
import { removeDeltaFiles } from './leftovers.js';
import { contentOf, LayersChanged, type ReclaimSeams, type Step, whenLetGo } from './reclaim.js';
import { SpaceReserve } from './space-reserve.js';

/** Written while nobody else may read the base. */
const BATCH_BYTES = 64 * 1024 * 1024;
/** The same when somebody waits. */
const SHORT_BATCH_BYTES = 8 * 1024 * 1024;

export interface FoldSeams extends ReclaimSeams {
  /** Settles when readers have been waited for long enough. */
  readonly patience: () => Promise<unknown>;
  /** Whether disks hang on the base: then it is not written to any more. */
  readonly isBaseHeld: () => boolean;
}

/** @throws DrError E_IO, E_CAPACITY, …; DeltaError, VhdxError when base or a delta is damaged */
export async function* fold(
  seams: FoldSeams,
  vm: VmStore,
  segment: Segment,
  pointId: Guid,
): AsyncGenerator<Step> {
  const { fs } = seams;
  const files = vm.layout.files(segment, segment.baseCycleId, 'base');
  const index = segment.layers.findIndex((layer) => layer.pointId === pointId);
  const deltas = segment.layers.slice(1, index + 1);
  const open = await openLayers(
    seams,
    deltas.map((delta) => layerIn(vm.layout, segment, delta)),
  );
  try {
    const sources = open.map(({ source }) => source);
    const manifest = new BaseManifest(seams, files.manifest);
    const folding = await announce(seams, vm, { segment, pointId, files, manifest, sources });
    yield { kind: 'worked', bytes: 0 };
    const current = await manifest.current();
    if (current.point === folding.pointId) {
      // a crash, or a flush that failed, came between the rename and the record
      yield* finish(seams, vm, segment, manifest, false);
    } else {
      yield* write(seams, vm, { segment, files, manifest, sources, folding });
    }
  } finally {
    await closeLayers(open);
  }
  yield* whenLetGo(vm, segment);
  await removeDeltaFiles(fs, vm.layout, segment, deltas);
}

interface FoldInput {
  readonly segment: Segment;
  readonly files: DiskFiles;
  readonly manifest: BaseManifest;
  readonly sources: readonly DeltaSource[];
}

/** Steps 1 and 2, or what an earlier fold left of them. */
async function announce(
  { fs, clock }: FoldSeams,
  vm: VmStore,
  { segment, pointId, files, manifest, sources }: FoldInput & { readonly pointId: Guid },
): Promise<Folding> {
  const { folding } = segment;
  const current = await manifest.current();
  if (current.point === folding?.pointId) return folding;
  const trailer = await manifest.announce(recordsOf(sources));
  if (folding !== undefined) {
    if (trailer.root.toString('hex') === folding.root) return folding;
    throw new DeltaError(
      'E_DELTA_MANIFEST',
      `the deltas of disk ${segment.diskId} do not lead to the base that was announced`,
      { context: { diskId: segment.diskId, pointId: folding.pointId } },
    );
  }
  const content = await contentOf(fs, announcedPath(files), trailer);
  const begun = { pointId, ...content };
  await vm.change(async () => {
    const { layers = [], folding: other } = vm.protection.segments.find(segment) ?? {};
    const index = layers.findIndex((layer) => layer.pointId === pointId);
    const hidden = layers.slice(0, Math.max(0, index));
    const isListed = hidden.some((layer) => vm.protection.point(layer.pointId) !== undefined);
    const [base] = hidden;
    const isSame = other === undefined && base !== undefined && base === segment.layers[0];
    if (!isSame || isListed) throw new LayersChanged(`the base of disk ${segment.diskId} changed`);
    const { diskId, generation, baseCycleId } = segment;
    await vm.append({
      kind: 'fold-begin',
      ...{ atMs: clock.now(), diskId, generation, baseCycleId, ...begun },
    });
  });
  return begun;
}

function recordsOf(sources: readonly DeltaSource[]): DeltaRecords {
  return {
    header: mergedHeader(sources.map((source) => source.header)),
    async *records(): AsyncGenerator<ManifestRecord> {
      for await (const { entry } of unionOf(sources)) {
        if (entry.kind === 'zero') yield entry;
        else yield { kind: 'data', cell: entry.cell, hash: entry.hash };
      }
    },
  };
}

/** Steps 3 to 5. */
async function* write(
  seams: FoldSeams,
  vm: VmStore,
  input: FoldInput & { readonly folding: Folding },
): AsyncGenerator<Step> {
  const { segment, files, manifest, sources, folding } = input;
  const [base] = segment.layers;
  const moreBytes = Math.max(0, folding.dataBytes - (base?.dataBytes ?? 0));
  const reserve = await SpaceReserve.take(seams, files, moreBytes);
  const union = changesOf(seams.fs, files, readUnion(sources));
  try {
    for (let isAtEnd = false; !isAtEnd;) {
      const lease = await vm.leases.change(segment, seams.patience);
      if (lease === undefined) {
        yield { kind: 'waits', readerCount: vm.leases.readerCount(segment) };
        continue;
      }
      let bytes = 0;
      try {
        if (seams.isBaseHeld()) {
          throw new LayersChanged(`a disk was put on the base of disk ${segment.diskId}`);
        }
        const batch = await writeBatch(seams, vm, { segment, files, union, reserve });
        ({ bytes, isAtEnd } = batch);
      } finally {
        lease.release();
      }
      yield { kind: 'worked', bytes };
    }
    yield* finish(seams, vm, segment, manifest, true);
  } finally {
    await union.return(undefined);
    await reserve.giveBack();
  }
}

interface BatchInput {
  readonly segment: Segment;
  readonly files: DiskFiles;
  readonly union: AsyncGenerator<UnionBatch>;
  readonly reserve: SpaceReserve;
}

/** Writes the next cells; on return they are durable and the log is clean. */
async function writeBatch(
  { fs, random }: FoldSeams,
  vm: VmStore,
  { segment, files, union, reserve }: BatchInput,
): Promise<{ readonly bytes: number; readonly isAtEnd: boolean }> {
  await reserve.giveBackFor(BATCH_BYTES);
  const base = await openVhdx(files.data, { fs, random, isWritable: true });
  let bytes = 0;
  let isAtEnd = false;
  const writes = new OverlappedWrites(base);
  try {
    while (bytes < (vm.leases.isWanted(segment) ? SHORT_BATCH_BYTES : BATCH_BYTES)) {
      const next = await union.next();
      if (next.done === true) {
        isAtEnd = true;
        break;
      }
      const batch = next.value;
      if (batch.kind === 'zero') {
        const offset = batch.cell * CELL_BYTES;
        const end = cellOffset(batch.cell + batch.count, base.sizeBytes);
        await writes.zero(offset, end - offset);
        continue;
      }
      const first = batch.entries[0];
      if (first !== undefined) await writes.write(first.cell * CELL_BYTES, batch.bytes);
      bytes += batch.bytes.length;
    }
    await writes.drain();
    await base.flush();
  } finally {
    await writes.settled();
    await base.close();
  }
  return { bytes, isAtEnd };
}

/**
 * The union without the zeros that the base has already: writing them again would only take room in a
 * sparse file. What its manifest does not list is zeros, and stays so while zeros are folded in.
 */
async function* changesOf(
  fs: FileSystem,
  { manifest }: DiskFiles,
  union: AsyncGenerator<UnionBatch>,
): AsyncGenerator<UnionBatch> {
  const file = await fs.open(manifest, { mode: 'read' });
  try {
    let records: AsyncGenerator<ManifestRecord> | undefined;
    let next: ManifestRecord | undefined;
    for await (const batch of union) {
      if (batch.kind === 'data') {
        yield batch;
        continue;
      }
      const end = batch.cell + batch.count;
      if (records === undefined) {
        records = (await ManifestFile.open(file)).records();
        next = await following(records);
      }
      let run: { kind: 'zero'; cell: number; count: number } | undefined;
      for (; next !== undefined && next.cell < end; next = await following(records)) {
        const { cell } = next;
        if (cell < batch.cell) continue;
        if (run !== undefined && cell === run.cell + run.count) {
          run.count++;
          continue;
        }
        if (run !== undefined) yield run;
        run = { kind: 'zero', cell, count: 1 };
      }
      if (run !== undefined) yield run;
    }
    await records?.return(undefined);
  } finally {
    await union.return(undefined);
    await file.close();
  }
}

async function following<T>(values: AsyncGenerator<T>): Promise<T | undefined> {
  const result = await values.next();
  return result.done === true ? undefined : result.value;
}

/**
 * Steps 4 and 5, while nobody reads the segment: whoever named the base before it was announced has let
 * go. Never waits for a change of the VM with the segment held, because changes wait for readers.
 */
async function* finish(
  { fs, random, clock, patience }: FoldSeams,
  vm: VmStore,
  segment: Segment,
  manifest: BaseManifest,
  isRenameDue: boolean,
): AsyncGenerator<Step> {
  const { diskId, generation, baseCycleId } = segment;
  const attempt = (): Promise<boolean> =>
    vm.change(async () => {
      const lease = await vm.leases.change(segment, () => Promise.resolve());
      if (lease === undefined) return false;
      try {
        const now = vm.protection.segments.find(segment);
        const pointId = now?.folding?.pointId;
        if (now === undefined || pointId === undefined)
          throw new LayersChanged(`no fold of disk ${diskId} is begun`);
        if (isRenameDue) await manifest.finish();
        else await fs.flushFolder(vm.layout.base(segment, baseCycleId));
        await forgetFolded({ fs, random }, vm, now);
        const atMs = clock.now();
        const end = now.layers.findIndex((layer) => layer.pointId === pointId) + 1;
        await markNeedless(fs, vm, segment, now.layers.slice(1, end));
        await vm.append({ kind: 'fold-end', atMs, diskId, generation, baseCycleId, pointId });
        return true;
      } finally {
        lease.release();
      }
    });
  for (;;) {
    const isFree = await vm.leases.change(segment, patience);
    isFree?.release();
    if (isFree !== undefined && (await attempt())) return;
    yield { kind: 'waits', readerCount: vm.leases.readerCount(segment) };
  }
}
