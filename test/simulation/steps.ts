// What can happen in a simulated world. Each step has its own random numbers, drawn from seed and
// index alone, so that others can be left out without changing it.

import { CELL_BYTES } from '../../shared/delta/index.js';
import { SURVIVOR_STYLES } from '../support/crash-file.js';
import type { SeededRandom } from '../support/seeded-random.js';
import type { Checker } from './checker.js';
import type { DurableKind, Machine } from './disks.js';
import { simulatedGuid } from './host.js';
import { type Site, STATE_FOLDER, type World } from './world.js';

export interface StepContext {
  readonly world: World;
  readonly checker: Checker;
  readonly random: SeededRandom;
}

export interface StepKind {
  readonly name: string;
  readonly weight: number;
  /** Left out in half of the seeds, so that what the others allow to grow is met as well. */
  readonly isOptional?: true;
  readonly run: (context: StepContext) => Promise<void> | void;
}

const MAX_DISKS = 3;
const DAY_MS = 86_400_000;
const DEVICE_FAULTS: readonly (DurableKind | 'read' | 'open')[] = [
  'flush',
  'flush',
  'flushFolder',
  'write',
  'rename',
  'create',
  'read',
  'open',
];

/** Calls that are counted until a cut: those of any file, or of one kind. */
const TARGETS: readonly (RegExp | undefined)[] = [
  undefined,
  undefined,
  /\/progress$/,
  /\.(delta|vhdx)$/,
  /\.manifest/,
  /\/\.?journal/,
  /\.json/,
];

/** Cells of a new disk; sometimes it ends inside of one. */
export function diskSize(random: SeededRandom): number {
  const cells = random.chance(0.15) ? random.between(18, 40) : random.between(1, 8);
  return cells * CELL_BYTES - (random.chance(0.5) ? 0 : 512 * random.between(1, 100));
}

function guestWrites({ world, random }: StepContext, count: number): void {
  const vm = world.pickVm(random);
  for (let i = 0; i < count; i++) {
    const disk = random.pick(vm.disks);
    const seed = random.chance(0.2) ? 0 : random.between(1, 2 ** 31);
    disk.write(random.int(disk.cellCount), seed, world.host.tick());
  }
}

function machineOf({ world, random }: StepContext): Machine {
  return random.chance(0.4) ? world.source : world.pickSite(random).machine;
}

function siteSubset(world: World, random: SeededRandom): Site[] {
  const sites = world.sites.filter(() => random.chance(0.7));
  return sites.length === 0 ? [world.pickSite(random)] : sites;
}

/** An operator's call at a receiver that runs; what it is answered comes later, or never. */
function ask(
  { world }: StepContext,
  site: Site,
  what: string,
  work: (control: NonNullable<ReturnType<World['control']>>) => Promise<void>,
): void {
  const control = world.control(site);
  const { process } = site;
  if (control === undefined || process === undefined) return;
  process.gate(work(control)).catch((error: unknown) => {
    world.noteRefusal(`${what} at ${site.name}`, error);
  });
}

/**
 * An agent works, and at some call of a machine that changes something, that process is killed or its
 * machine loses power.
 */
async function cutAtCall(context: StepContext): Promise<void> {
  const { world, checker, random } = context;
  if (world.agents.size < 2) {
    world.startAgent(siteSubset(world, random), random.between(1, 3), random.between(1, 4));
  }
  const isSource = random.chance(0.3);
  if (random.chance(0.5)) {
    for (const site of world.sites) world.startMaintenance(site, 30, random.pick([0, 10]));
  }
  const machine = isSource ? world.source : world.pickSite(random).machine;
  const target = random.pick(TARGETS);
  let left = target === undefined ? random.between(1, isSource ? 30 : 90) : random.between(1, 12);
  const isPower = random.chance(0.6);
  const style = random.pick(SURVIVOR_STYLES);
  machine.trap = (process, path) => {
    if (target?.test(path) === false || --left > 0) return;
    machine.trap = undefined;
    world.counts.add(
      `${isPower ? 'power lost' : 'killed'} at a call of ${isSource ? 'the source' : 'a receiver'}`,
    );
    checker.forget();
    if (!isPower) process.end();
    else {
      machine.cutPower(style);
      if (isSource) world.host.losePower();
    }
  };
  const isSprung = (): boolean => machine.trap === undefined || world.agents.size === 0;
  await world.runUntil(isSprung, 'the work of the agents');
  machine.trap = undefined;
}

/** Everything that rots, with the VM that is concerned: the source's files concern nobody. */
function rot({ world, checker, random }: StepContext): void {
  const isSource = random.chance(0.3);
  const site = world.pickSite(random);
  const machine = isSource ? world.source : site.machine;
  const paths = machine.volume.paths.filter(
    (path) =>
      machine.volume.sizeOf(path) > 0 &&
      !path.endsWith('.lock') &&
      !/store\.json(\.copy)?$/.test(path),
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
  for (const vm of world.host.vms) if (path.includes(vm.id)) site.rotten.add(vm.id);
}

export const STEPS: readonly StepKind[] = [
  {
    name: 'guest writes',
    weight: 14,
    run: (context) => guestWrites(context, context.random.between(1, 12)),
  },
  {
    name: 'agent starts',
    weight: 16,
    run: ({ world, random }) => {
      if (world.agents.size > 2) return;
      world.startAgent(siteSubset(world, random), random.between(1, 3), random.between(1, 4));
    },
  },
  {
    name: 'agents work on',
    weight: 14,
    run: async ({ world }) => {
      await world.runUntil(() => world.agents.size === 0, 'the work of the agents');
    },
  },
  {
    name: 'agent killed',
    weight: 4,
    isOptional: true,
    run: ({ world, random }) => {
      const [agent] = world.agents;
      if (agent !== undefined && random.chance(0.9)) agent.process.end();
    },
  },
  {
    name: 'agent stopped',
    weight: 2,
    isOptional: true,
    run: ({ world }) => {
      for (const { stop } of world.agents) stop.abort(new Error('an operator stops the agent'));
    },
  },
  {
    name: 'source loses power',
    weight: 4,
    isOptional: true,
    run: ({ world, random }) => {
      world.source.cutPower(random.pick(SURVIVOR_STYLES));
      world.host.losePower();
      world.counts.add('power lost at the source');
    },
  },
  {
    name: 'receiver killed',
    weight: 4,
    isOptional: true,
    run: ({ world, random }) => {
      world.pickSite(random).process?.end();
      world.counts.add('receiver killed');
    },
  },
  {
    name: 'receiver loses power',
    weight: 6,
    isOptional: true,
    run: ({ world, checker, random }) => {
      world.pickSite(random).machine.cutPower(random.pick(SURVIVOR_STYLES));
      checker.forget();
      world.counts.add('power lost at a receiver');
    },
  },
  {
    name: 'receiver reclaims',
    weight: 12,
    run: ({ world, random }) => {
      for (const site of world.sites) {
        if (random.chance(0.3)) continue;
        world.startMaintenance(site, random.between(1, 30), random.pick([0, 1, 50, 2000]));
      }
    },
  },
  {
    name: 'cut at a call',
    weight: 14,
    isOptional: true,
    run: cutAtCall,
  },
  {
    name: 'receiver restarted',
    weight: 2,
    run: async ({ world, random }) => {
      const site = world.pickSite(random);
      let isDone = false;
      void world.stopReceiver(site).then(() => (isDone = true));
      await world.runUntil(() => isDone || site.process === undefined, `the end of ${site.name}`);
      world.startReceiver(site);
    },
  },
  {
    name: 'weather changes',
    weight: 6,
    isOptional: true,
    run: ({ world, random }) => {
      const { endpoint } = world.pickSite(random);
      const isBad = random.chance(0.7);
      const share = (): number => (isBad && random.chance(0.6) ? random.pick([0.02, 0.1, 0.3]) : 0);
      endpoint.weather = {
        latencyMs: random.pick([1, 20, 800]),
        lostShare: share(),
        answerLostShare: share(),
        repeatedShare: share(),
        cutShare: share(),
        isPartitioned: isBad && random.chance(0.1),
      };
    },
  },
  {
    name: 'device fails',
    weight: 5,
    isOptional: true,
    run: (context) => {
      const { random } = context;
      machineOf(context).faults.push({
        kind: random.pick(DEVICE_FAULTS),
        skip: random.int(12),
      });
    },
  },
  {
    name: 'volume full or not',
    weight: 3,
    isOptional: true,
    run: (context) => {
      const machine = machineOf(context);
      machine.isFull = !machine.isFull;
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
  {
    name: 'ledger lost',
    weight: 1,
    isOptional: true,
    run: async ({ world, random }) => {
      if (world.agents.size > 0) return;
      const vm = world.pickVm(random);
      const { volume } = world.source;
      world.excusedLedgers.add(vm.id);
      for (const path of volume.paths.filter((each) => each.includes(vm.id))) {
        if (!path.endsWith('.lock')) await volume.remove(path);
      }
      if (volume.paths.length > 0) await volume.flushFolder(STATE_FOLDER);
    },
  },
  {
    name: 'state folder goes back to an older copy',
    weight: 3,
    isOptional: true,
    run: ({ world, random }) => {
      if (world.agents.size > 0) return;
      const copy = world.stateCopies[random.int(world.stateCopies.length + 1)];
      world.stateCopies.push(world.source.volume.survivors(0, 'all'));
      if (copy === undefined) return;
      world.source.replaceVolume(copy);
      for (const { id } of world.host.vms) world.excusedLedgers.add(id);
    },
  },
  {
    name: 'store goes back to an older copy',
    weight: 3,
    isOptional: true,
    run: ({ world, checker, random }) => {
      const site = world.pickSite(random);
      const copy = site.copies[random.int(site.copies.length + 1)];
      site.copies.push({
        volume: site.machine.volume.survivors(0, 'all'),
        acknowledged: site.promises.snapshot(),
      });
      if (copy === undefined) return;
      site.process?.end();
      site.machine.replaceVolume(copy.volume);
      site.promises.goBackTo(copy.acknowledged);
      site.pinned.clear();
      checker.forget();
      world.counts.add('store went back');
    },
  },
  {
    name: 'operator pins',
    weight: 3,
    isOptional: true,
    run: (context) => {
      const { world, random } = context;
      const site = world.pickSite(random);
      const vm = world.pickVm(random);
      const store = site.receiver?.store.vms.find(({ vmId }) => vmId === vm.id);
      const listed = store?.protection.listed ?? [];
      const point = listed[random.int(listed.length + 1)];
      if (point === undefined) return;
      const isPinned = !site.pinned.has(point.pointId);
      // until it is answered nobody knows, so nothing is promised
      site.pinned.delete(point.pointId);
      ask(context, site, 'pin', async (control) => {
        await control.pinPoint({ vm: vm.id, point: point.pointId, isPinned });
        if (isPinned) site.pinned.add(point.pointId);
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
      for (const { vmId, protection } of site.receiver?.store.vms ?? []) {
        for (const { pointId, pinReason } of protection.listed) {
          if (pinReason === undefined) continue;
          site.pinned.delete(pointId);
          ask(context, site, 'unpin', async (control) => {
            await control.pinPoint({ vm: vmId, point: pointId, isPinned: false });
          });
        }
      }
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
    name: 'operator verifies',
    weight: 2,
    isOptional: true,
    run: (context) => {
      const { world, random } = context;
      const vm = world.pickVm(random);
      const site = world.pickSite(random);
      ask(context, site, 'verify', async (control) => {
        for await (const { step } of control.verify({ vm: vm.id, point: 'all', isRepair: false })) {
          if (step?.$case !== 'done') continue;
          world.counts.add('verified');
          if (step.value.damagedPointIds.length === 0 || site.rotten.has(vm.id)) continue;
          if (site.machine.failureCount > 0) continue;
          const [first] = step.value.damagedPointIds;
          world.violations.push(
            new Error(`${site.name} finds ${first?.toString('hex') ?? ''} damaged, without rot`),
          );
        }
      });
    },
  },
  {
    name: 'bits rot',
    weight: 1,
    isOptional: true,
    run: (context) => rot(context),
  },
  {
    name: 'time passes',
    weight: 5,
    run: async ({ world, random }) => {
      await world.scheduler.advance(random.pick([1000, 30_000, 3_600_000, DAY_MS, 8 * DAY_MS]));
    },
  },
];
