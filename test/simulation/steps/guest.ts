// What guests, their host and other products on it do.

import { CELL_BYTES } from '../../../shared/delta/index.js';
import type { SeededRandom } from '../../support/seeded-random.js';
import { simulatedGuid, type Vm } from '../host.js';
import type { World } from '../world.js';
import type { StepContext, StepKind } from './step.js';

const MAX_DISKS = 3;
const MAX_VMS = 3;

/** Cells of a new disk; sometimes it ends inside of one. */
export function diskSize(random: SeededRandom): number {
  const cells = random.chance(0.15) ? random.between(18, 40) : random.between(1, 8);
  return cells * CELL_BYTES - (random.chance(0.5) ? 0 : 512 * random.between(1, 100));
}

/** A VM with some disks and something on them. */
export function addVm({ host }: World, random: SeededRandom): Vm {
  const vm = host.addVm(`VM${host.vms.length + 1}`);
  for (let count = random.between(1, 3); count > 0; count--) {
    const disk = host.addDisk(vm, diskSize(random));
    for (let i = random.int(6); i > 0; i--) {
      disk.write(random.int(disk.cellCount), random.between(1, 1000), host.tick());
    }
  }
  return vm;
}

/** A VM more, when there are not enough of them yet. */
export function newcomer(world: World, random: SeededRandom): Vm | undefined {
  return world.host.vms.length < MAX_VMS ? addVm(world, random) : undefined;
}

function guestWrites({ world, random }: StepContext, count: number): void {
  const vm = world.pickVm(random);
  for (let i = 0; i < count; i++) {
    const disk = random.pick(vm.disks);
    const seed = random.chance(0.2) ? 0 : random.between(1, 2 ** 31);
    disk.write(random.int(disk.cellCount), seed, world.host.tick());
  }
}

export const GUEST_STEPS: readonly StepKind[] = [
  {
    name: 'guest writes',
    weight: 14,
    run: (context) => guestWrites(context, context.random.between(1, 12)),
  },
  {
    name: 'a VM comes',
    weight: 1,
    isOptional: true,
    run: ({ world, random }) => {
      newcomer(world, random);
    },
  },
  {
    name: 'disk comes, goes or changes its size',
    weight: 3,
    isOptional: true,
    run: ({ world, random }) => {
      const vm = world.pickVm(random);
      const what = random.int(3);
      if (what === 0 && vm.disks.length < MAX_DISKS) {
        const disk = world.host.addDisk(vm, diskSize(random));
        disk.write(0, random.between(1, 1000), world.host.tick());
      } else if (what === 1 && vm.disks.length > 1) {
        vm.disks.splice(random.int(vm.disks.length), 1);
      } else {
        random.pick(vm.disks).resize(diskSize(random), world.host.tick());
      }
    },
  },
  {
    name: 'user reverts',
    weight: 2,
    isOptional: true,
    run: ({ world, random }) => {
      const vm = world.pickVm(random);
      const disk = random.pick(vm.disks);
      const past = [...world.host.moments.values()]
        .map((frozen) => frozen.disks.get(disk.diskId))
        .filter((frozen) => frozen?.sizeBytes === disk.sizeBytes);
      const to = past[random.int(past.length + 1)];
      if (to !== undefined) disk.revert(to, world.host.tick());
    },
  },
  {
    name: 'tracking becomes invalid',
    weight: 2,
    isOptional: true,
    run: ({ world, random }) => {
      random.pick(world.pickVm(random).disks).trackingEpoch++;
    },
  },
  {
    name: 'others make a checkpoint',
    weight: 1,
    run: ({ world, checker, random }) => {
      const tag = { protectionId: simulatedGuid(9, 1), operationId: simulatedGuid(9, 2) };
      const vm = world.pickVm(random);
      checker.guard(world.host.addForeign(vm, random.chance(0.5) ? undefined : tag));
    },
  },
  {
    name: 'host refuses',
    weight: 3,
    isOptional: true,
    run: ({ world, random }) => {
      const { faults } = world.host;
      const which = random.pick([
        'refuseConsistency',
        'failCheckpoint',
        'failConvert',
        'failRemoveReference',
      ] as const);
      faults[which] = 1;
    },
  },
];
