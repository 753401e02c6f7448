// What is known of a base's bad cells when deltas were folded into it: those that were written anew are
// whole again, others are what they were. So each of them is read back.

import { CELL_BYTES, cellLength, hashCell } from '../../shared/delta/index.js';
import { isAllZero } from '../../shared/disk/index.js';
import { DrError } from '../../shared/errors.js';
import { layerIn, openLayer, type OpenLayer, type ReadSeams } from '../store/point-sources.js';
import type { Segment } from '../store/segments.js';
import type { VmStore } from '../store/vm-store.js';

/**
 * Forgets bad cells of a base that read back now as its new manifest says, and has the scrub's round read
 * it once more. Inside a change of the VM, when base and manifest are durable and the fold has not ended
 * yet; nobody else writes the base meanwhile. @throws DrError E_IO, E_CAPACITY of what is put down
 */
export async function forgetFolded(seams: ReadSeams, vm: VmStore, segment: Segment): Promise<void> {
  const [base] = segment.layers;
  if (base === undefined) return;
  const layer = layerIn(vm.layout, segment, base);
  const key = vm.layout.keyOf(layer.files);
  const { scrub } = vm;
  scrub.readAgain(key);
  const cells = scrub.damage.get(key)?.cells;
  if (cells === undefined || cells === 'all') return;
  let open: OpenLayer | undefined;
  const whole = new Set<number>();
  try {
    open = await openLayer(seams, layer);
    for (const cell of cells) if (await isWhole(open, cell)) whole.add(cell);
  } catch (error) {
    // a round of the scrub tells
    if (!(error instanceof DrError)) throw error;
  } finally {
    await open?.close();
  }
  if (whole.size === 0) return;
  scrub.removeDamage(key, whole);
  await scrub.save();
}

async function isWhole({ manifest, source, disk }: OpenLayer, cell: number): Promise<boolean> {
  const bytes = Buffer.alloc(cellLength(cell, disk.sizeBytes));
  const record = await manifest.find(cell);
  try {
    await source.read(cell * CELL_BYTES, bytes);
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    return false;
  }
  // what a base does not list is zeros
  if (record?.kind !== 'data') return isAllZero(bytes);
  return !isAllZero(bytes) && hashCell(bytes).equals(record.hash);
}
