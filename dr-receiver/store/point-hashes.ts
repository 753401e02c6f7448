// The hashes of a point as a source is told them. They come from manifests, which say nothing about
// rot in the data: a source that compares would find equal what can be read no more. So a cell that is
// known to be bad is told with a hash that no cell has; the source takes it for different and sends it
// again, as bytes or as zeros.

import type { Guid } from '../../shared/bytes/index.js';
import { HASH_BYTES, type ManifestRecord } from '../../shared/delta/index.js';
import { exposed, holdPoints, knownFindings } from './exposure.js';
import type { DiskKey } from './layout.js';
import { listedPoint, pointRecords, type ReadSeams } from './point-sources.js';
import type { VmStore } from './vm-store.js';

const NO_HASH = Buffer.alloc(HASH_BYTES);

/** The records of pointRecords(), bad cells among them. @throws what pointRecords() does */
export async function* toldHashes(
  seams: ReadSeams,
  vm: VmStore,
  pointId: Guid,
  disk: DiskKey,
): AsyncGenerator<ManifestRecord> {
  const bad = await badCells(seams, vm, pointId, disk);
  let next = 0;
  for await (const record of pointRecords(seams, vm, pointId, disk)) {
    for (; (bad[next] ?? Infinity) <= record.cell; next++) yield unknown(bad[next] ?? 0);
    if (bad[next - 1] !== record.cell) yield record;
  }
  for (; next < bad.length; next++) yield unknown(bad[next] ?? 0);
}

function unknown(cell: number): ManifestRecord {
  return { kind: 'data', cell, hash: NO_HASH };
}

/** The bad cells that a point shows of a disk, in ascending order, each once. */
async function badCells(
  seams: ReadSeams,
  vm: VmStore,
  pointId: Guid,
  { diskId, generation }: DiskKey,
): Promise<number[]> {
  if (vm.scrub.damage.size === 0) return [];
  const cells = new Set<number>();
  const lease = await holdPoints(vm, [listedPoint(vm, pointId)]);
  try {
    const point = listedPoint(vm, pointId);
    for await (const { layer, finding } of exposed(seams, vm, [point], knownFindings(vm))) {
      const { disk } = layer;
      if (disk.diskId !== diskId || disk.generation !== generation) continue;
      if (finding.cell !== undefined) cells.add(finding.cell);
    }
  } finally {
    lease.release();
  }
  return [...cells].sort((a, b) => a - b);
}
