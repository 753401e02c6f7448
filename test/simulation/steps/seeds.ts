// `hvdr seed --from raw:… | vhdx:…` and `--discard` at a DR site: disk images that are what the guest has,
// or had once, or of something else. Whatever they are, no point may come of them but by the source's own
// hashes.

import { guidToWire } from '../../../shared/bytes/index.js';
import type {
  ControlService,
  SeedFile,
  SeedRequest,
  ServiceClient,
} from '../../../shared/channel/index.js';
import { CELL_BYTES, cellLength } from '../../../shared/delta/index.js';
import { SealedVhdxWriter } from '../../../shared/vhdx/index.js';
import type { SeededRandom } from '../../support/seeded-random.js';
import type { Cell, GuestDisk } from '../guest-disk.js';
import type { Vm } from '../host.js';
import { Broken } from '../promises.js';
import type { Site } from '../site.js';
import { SOURCE, type World } from '../world.js';
import { newcomer } from './guest.js';
import { ask, type StepContext, type StepKind } from './step.js';

type Control = ServiceClient<ControlService>;

/** How far the files are what the guest has now. */
type Likeness = 'same' | 'stale' | 'other';

/** Stages a seed of a VM, when there is one that may need it; the operator may stop it half-way. */
export async function stageSeed(context: StepContext, isRestart: boolean): Promise<void> {
  const { world, random } = context;
  const site = world.pickSite(random);
  if (site.receiver === undefined) return;
  const vm = unseeded(world, site, random);
  const files = await writeImages(world, site, vm, random);
  const isStopped = random.chance(0.2);
  const isRegretted = random.chance(0.3);
  const hadPoints = site.vm(vm.id)?.protection.head !== undefined;
  const request: SeedRequest = {
    ...{ vm: vm.name, vmId: guidToWire(vm.id), principal: SOURCE.principal, isRestart },
    from: { $case: 'files', value: { files } },
  };
  ask(context, site, 'seed', async (control) => {
    for await (const { step } of control.seed(request)) {
      if (step?.$case === 'progress' && isStopped) {
        world.counts.add('seed stopped');
        return;
      }
      if (step?.$case !== 'done') continue;
      if (hadPoints) throw new Broken(`${vm.name} has points at ${site.name} and was seeded`);
      world.counts.add('seed staged');
    }
    if (isRegretted) await discard(world, control, vm);
  });
}

async function discard(world: World, control: Control, vm: Vm): Promise<void> {
  const request: SeedRequest = {
    ...{ vm: vm.name, vmId: guidToWire(vm.id), principal: '', isRestart: false },
    from: { $case: 'discard', value: {} },
  };
  for await (const { step } of control.seed(request)) {
    if (step?.$case === 'done') world.counts.add('seed discarded');
  }
}

function withoutPoints({ host }: World, site: Site): Vm[] {
  return host.vms.filter(({ id }) => site.vm(id)?.protection.head === undefined);
}

/** A VM without points here, a new one, or by chance any. */
function unseeded(world: World, site: Site, random: SeededRandom): Vm {
  const without = withoutPoints(world, site);
  const vm = without[random.int(without.length)];
  if (vm !== undefined && random.chance(0.9)) return vm;
  return (random.chance(0.6) ? newcomer(world, random) : undefined) ?? world.pickVm(random);
}

async function writeImages(
  world: World,
  site: Site,
  vm: Vm,
  random: SeededRandom,
): Promise<SeedFile[]> {
  const folder = `/seeds/${world.nextNumber()}`;
  const format = random.chance(0.5) ? 'raw' : 'vhdx';
  const likeness = random.pick<Likeness>(['same', 'stale', 'stale', 'other']);
  const files: SeedFile[] = [];
  for (const [index, disk] of vm.disks.entries()) {
    // the names stay, so that a later seed may take itself for an earlier one of other files
    const path = `${folder}/disk-${index}.${format}`;
    const cells = disk.cells.map((cell, number) => likened(disk, number, cell, likeness, random));
    await site.put(path, async (file) => {
      if (format === 'raw') {
        await file.truncate(disk.sizeBytes);
        for (const [cell, bytes] of cells.entries()) {
          if (bytes !== undefined) await file.write(cell * CELL_BYTES, bytes);
        }
        return;
      }
      const writer = SealedVhdxWriter.into(file, {
        ...{ random, type: 'dynamic', sizeBytes: disk.sizeBytes, diskId: disk.diskId },
        ...{ logicalSectorBytes: 512, physicalSectorBytes: 4096 },
      });
      for (const [cell, bytes] of cells.entries()) {
        if (bytes !== undefined) await writer.write(cell * CELL_BYTES, bytes);
      }
      await writer.finish();
    });
    const isNamed = format === 'raw' || random.chance(0.5);
    files.push({ path, format, diskId: isNamed ? guidToWire(disk.diskId) : Buffer.alloc(0) });
  }
  return files;
}

function likened(
  disk: GuestDisk,
  number: number,
  cell: Cell,
  likeness: Likeness,
  random: SeededRandom,
): Cell {
  if (likeness === 'same') return cell;
  if (likeness === 'stale' && random.chance(0.6)) return cell;
  if (random.chance(0.3)) return undefined;
  const bytes = Buffer.alloc(cellLength(number, disk.sizeBytes));
  cell?.copy(bytes);
  random.fill(bytes.subarray(0, 64));
  return bytes;
}

/** Whatever is staged anywhere of VMs that have no points yet. */
function discardSeeds(context: StepContext): void {
  const { world } = context;
  for (const site of world.sites) {
    for (const vm of withoutPoints(world, site)) {
      ask(context, site, 'discard', (control) => discard(world, control, vm));
    }
  }
}

export const SEED_STEPS: readonly StepKind[] = [
  {
    name: 'operator brings a seed',
    weight: 5,
    isOptional: true,
    run: (context) => stageSeed(context, context.random.chance(0.2)),
  },
  {
    name: 'operator discards a seed',
    weight: 2,
    isOptional: true,
    run: discardSeeds,
  },
];
