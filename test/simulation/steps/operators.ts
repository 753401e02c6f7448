// What operators ask of a receiver.

import type { Guid } from '../../../shared/bytes/index.js';
import { CELL_BYTES, cellLength } from '../../../shared/delta/index.js';
import type { Point } from '../../../dr-receiver/store/protection.js';
import type { VmStore } from '../../../dr-receiver/store/vm-store.js';
import { DrError } from '../../../shared/errors.js';
import { isDamageCode } from '../checker.js';
import { DEVICE_FAILED } from '../disks.js';
import { bytesOf } from '../guest-disk.js';
import { Broken } from '../promises.js';
import type { Site } from '../site.js';
import { verifyAll } from '../verify.js';
import { SOURCE, type World } from '../world.js';
import type { Vm } from '../host.js';
import { ask, type StepContext, type StepKind } from './step.js';

const DAY_MS = 86_400_000;
const SCATTERED_CELLS = 24;

/** Reads a disk of a point out so slowly that much can happen meanwhile. */
function exportSlowly(
  context: StepContext,
  site: Site,
  vm: Vm,
  point: Point,
  diskIndex: number,
): void {
  const { world, random } = context;
  const { pointId } = point;
  const pauseMs = random.pick([10_000, 60_000]);
  const { rotCount } = site;
  ask(context, site, 'export', async (control, process) => {
    const clock = site.machine.clockOf(process);
    try {
      for await (const { part } of control.readDisk({ vm: vm.id, point: pointId, diskIndex })) {
        if (part?.$case === 'bytes') {
          checkPart(world, site, pointId, point.disks[diskIndex]?.diskId, part.value);
        }
        await clock.sleep(pauseMs);
      }
      world.counts.add('exported');
      if (site.vm(vm.id)?.protection.point(pointId) === undefined) {
        world.counts.add('forgotten while it was read');
      }
    } catch (error) {
      const isExcused = site.rotten.has(vm.id) || site.rotCount !== rotCount;
      if (!(error instanceof DrError) || isExcused || !isDamageCode(error.code)) throw error;
      // it was forgotten before it was begun, or a mark says that the device failed
      if (error.code === 'E_NO_POINT' || error.message.includes(DEVICE_FAILED)) throw error;
      if (site.hasFailed) throw error;
      throw new Broken(`${pointId} was not read to its end at ${site.name}: ${error.message}`);
    }
  });
}

function checkPart(
  world: World,
  site: Site,
  pointId: Guid,
  diskId: Guid | undefined,
  { offset, data }: { readonly offset: bigint; readonly data: Buffer },
): void {
  const offer = site.promises.offers.get(pointId);
  const moment = offer && world.host.moments.get(offer.checkpointId);
  const frozen = diskId === undefined ? undefined : moment?.disks.get(diskId);
  if (frozen === undefined) throw new Broken(`${pointId} is of no moment that is known`);
  for (let at = 0; at < data.length; at += CELL_BYTES) {
    const cell = Number(offset) / CELL_BYTES + at / CELL_BYTES;
    const length = cellLength(cell, frozen.sizeBytes);
    if (data.subarray(at, at + length).equals(bytesOf(frozen.cells[cell], length))) continue;
    throw new Broken(`${pointId} is read at ${site.name} with a cell ${cell} of another moment`);
  }
}

function exportAny(context: StepContext): void {
  const { world, random } = context;
  const site = world.pickSite(random);
  const vm = world.pickVm(random);
  const listed = site.vm(vm.id)?.protection.listed ?? [];
  const point = listed[random.int(listed.length)];
  if (point !== undefined) exportSlowly(context, site, vm, point, random.int(point.disks.length));
}

/** Nothing of a VM is pinned any more, once the receiver has heard of it. */
function letGoOfPins(context: StepContext, site: Site, { vmId, protection }: VmStore): void {
  for (const { pointId, pinReason } of protection.listed) {
    if (pinReason === undefined) continue;
    site.askPin(pointId);
    ask(context, site, 'unpin', async (control) => {
      await control.pinPoint({ vm: vmId, point: pointId, isPinned: false });
    });
  }
}

/**
 * While the oldest point is read, a newer one takes its place, and the receiver begins to take what that
 * brought into the base on which the reader stands.
 */
async function exportWhileForgotten(context: StepContext): Promise<void> {
  const { world, random } = context;
  const site = world.pickSite(random);
  const vm = world.pickVm(random);
  const sizes = vm.disks.map((disk) => disk.cellCount);
  // as many cells as no reader takes at once
  let disk = vm.disks[sizes.indexOf(Math.max(...sizes))];
  if (disk === undefined || disk.cellCount < SCATTERED_CELLS) {
    disk = world.host.addDisk(vm, SCATTERED_CELLS * CELL_BYTES);
  }
  for (let cell = 0; cell < disk.cellCount; cell += 2) {
    if (disk.cells[cell] !== undefined) continue;
    disk.write(cell, random.between(1, 2 ** 31), world.host.tick());
  }
  const cycle = async (): Promise<void> => {
    const store = site.vm(vm.id);
    if (store !== undefined) letGoOfPins(context, site, store);
    const agent = world.startAgent([site], 1, 1);
    await world.runUntil(() => agent.process.isDead, 'the work of an agent');
  };
  await cycle();
  // until then it is the first one of its day
  await world.scheduler.advance(8 * DAY_MS);
  const oldest = site.vm(vm.id)?.protection.listed[0];
  const { diskId, cellCount } = disk;
  const diskIndex = oldest?.disks.findIndex((each) => each.diskId === diskId) ?? -1;
  if (oldest === undefined || diskIndex < 0) return;
  exportSlowly(context, site, vm, oldest, diskIndex);
  // so few that it is no large change
  for (let cell = cellCount - 1 - (cellCount % 2 === 0 ? 1 : 0), left = 4; left > 0; left--) {
    disk.write(cell, random.between(1, 2 ** 31), world.host.tick());
    cell -= 2;
  }
  await cycle();
  const store = site.vm(vm.id);
  if (store !== undefined) letGoOfPins(context, site, store);
  // points are forgotten by their age once in a minute
  await world.scheduler.advance(61_000);
  world.startMaintenance(site, 30, random.pick([0, 1000]));
  await world.scheduler.advance(30_000);
}

export const OPERATOR_STEPS: readonly StepKind[] = [
  {
    name: 'operator pins',
    weight: 3,
    isOptional: true,
    run: (context) => {
      const { world, random } = context;
      const site = world.pickSite(random);
      const vm = world.pickVm(random);
      const listed = site.vm(vm.id)?.protection.listed ?? [];
      const point = listed[random.int(listed.length + 1)];
      if (point === undefined) return;
      const isPinned = !site.pinned.has(point.pointId);
      const answered = site.askPin(point.pointId);
      ask(context, site, 'pin', async (control) => {
        await control.pinPoint({ vm: vm.id, point: point.pointId, isPinned });
        answered(isPinned);
        world.counts.add('pin');
      });
    },
  },
  {
    // small disks change by large shares, so most points pin the one before
    name: 'operator lets go of all pins',
    weight: 8,
    run: (context) => {
      const { world, random } = context;
      const site = world.pickSite(random);
      for (const vm of site.receiver?.store.vms ?? []) letGoOfPins(context, site, vm);
    },
  },
  {
    name: 'operator pauses or not',
    weight: 2,
    isOptional: true,
    run: (context) => {
      const { world, random } = context;
      const vm = world.pickVm(random);
      const isPaused = random.chance(0.25);
      ask(context, world.pickSite(random), 'pause', async (control) => {
        await control.pause({ vm: vm.id, isPaused });
      });
    },
  },
  {
    name: 'operator gives a VM to another principal, or back',
    weight: 2,
    isOptional: true,
    run: (context) => {
      const { world, random } = context;
      const vm = world.pickVm(random);
      const owner = random.chance(0.3) ? 'site-c' : SOURCE.principal;
      ask(context, world.pickSite(random), 'rebind', async (control) => {
        await control.rebind({ vm: vm.id, owner });
        world.counts.add('rebound');
      });
    },
  },
  {
    name: 'operator verifies',
    weight: 2,
    isOptional: true,
    run: (context) => {
      const { world, random } = context;
      const vm = world.pickVm(random);
      const site = world.pickSite(random);
      const isRepair = random.chance(0.4);
      ask(context, site, 'verify', async (control) => {
        await verifyAll(world, site, vm, control, isRepair);
      });
    },
  },
  {
    name: 'operator exports slowly',
    weight: 2,
    isOptional: true,
    run: exportAny,
  },
  {
    name: 'operator exports what is forgotten meanwhile',
    weight: 3,
    isOptional: true,
    run: exportWhileForgotten,
  },
  {
    name: 'store goes back to an older copy',
    weight: 5,
    isOptional: true,
    run: ({ world, checker, random }) => {
      const site = world.pickSite(random);
      const copy = site.copies[random.int(site.copies.length + 1)];
      site.copy();
      if (copy === undefined) return;
      site.goBackTo(copy);
      checker.forget();
      world.counts.add('store went back');
    },
  },
];
