// Bits that change by themselves: anywhere, or in the cells of a point, where a scrub has to find them
// and a repair can mend them.

import { CELL_BYTES, cellLength, type DataEntry } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { VhdxFile } from '../../shared/vhdx/index.js';
import { type Layer, openLayer, type ReadSeams } from '../../dr-receiver/store/point-sources.js';
import { listedLayers } from '../../dr-receiver/store/repair.js';
import type { VmStore } from '../../dr-receiver/store/vm-store.js';
import type { SeededRandom } from '../support/seeded-random.js';
import type { Site } from './site.js';
import type { StepContext } from './steps/step.js';

/** Turns a bit of any file, of the source or of a receiver; the source's files concern nobody. */
export function rotAnywhere({ world, checker, random }: StepContext): void {
  const isSource = random.chance(0.3);
  const site = world.pickSite(random);
  const machine = isSource ? world.source : site.machine;
  const paths = machine.volume.paths.filter(
    (path) =>
      machine.volume.sizeOf(path) > 0 &&
      !path.endsWith('.lock') &&
      // of the two that say which store this is, one stays sound
      !path.endsWith('store.json.copy'),
  );
  if (paths.length === 0) return;
  const path = random.pick(paths);
  machine.rot(path, random.int(machine.volume.sizeOf(path)), random.int(8));
  checker.forget();
  if (isSource) {
    for (const vm of world.host.vms) if (path.includes(vm.id)) world.excusedLedgers.add(vm.id);
    return;
  }
  site.promises.isExcused = true;
  for (const vm of world.host.vms) if (path.includes(vm.id)) site.noteRot(vm.id, 'any');
}

/** Turns a bit of a cell that a listed point stands on; the VM, or undefined when there is none. */
export async function rotCell(
  { world, checker, random }: StepContext,
  site: Site,
): Promise<VmStore | undefined> {
  const vms = (site.receiver?.store.vms ?? []).filter(
    ({ halt, protection }) => halt === undefined && protection.listed.length > 0,
  );
  const vm = vms[random.int(vms.length)];
  if (vm === undefined) return undefined;
  const layers = [...listedLayers(vm).values()].filter(({ folding }) => folding === undefined);
  const bases = layers.filter(({ disk }) => disk.transfer === 'base');
  const among = random.chance(0.5) ? bases : layers;
  const layer = among[random.int(among.length)];
  if (layer === undefined) return undefined;
  const position = await cellPosition({ fs: site.machine.volume, random }, layer, random);
  if (position === undefined) return undefined;
  site.machine.rot(layer.files.data, position, random.int(8));
  checker.forget();
  site.noteRot(vm.vmId, 'cells');
  world.counts.add('a cell rotted');
  return vm;
}

/** A byte of one of the data cells of a layer; undefined: it has none, or somebody holds the file. */
async function cellPosition(
  seams: ReadSeams,
  layer: Layer,
  random: SeededRandom,
): Promise<number | undefined> {
  try {
    const open = await openLayer(seams, layer);
    const entries: DataEntry[] = [];
    try {
      for await (const entry of open.source.entries()) {
        if (entry.kind === 'data') entries.push(entry);
      }
    } finally {
      await open.close();
    }
    const entry = entries[random.int(entries.length)];
    if (entry === undefined) return undefined;
    const within = random.int(cellLength(entry.cell, layer.disk.sizeBytes));
    if (layer.disk.transfer === 'delta') return entry.position + within;
    const offset = entry.cell * CELL_BYTES + within;
    const base = await VhdxFile.open(layer.files.data, { ...seams, isWritable: false });
    try {
      const [segment] = await base.resolve(offset, offset + 1);
      return segment?.kind === 'data' ? segment.at : undefined;
    } finally {
      await base.close();
    }
  } catch (error) {
    if (error instanceof DrError) return undefined;
    throw error;
  }
}
