// What happens to machines, their devices and clocks, and to the network between them.

import { SURVIVOR_STYLES } from '../../support/crash-file.js';
import type { DurableKind } from '../disks.js';
import { rotAnywhere } from '../rot.js';
import { importDelta } from './imports.js';
import { startScrub } from './receiver.js';
import { startRepair } from './repair.js';
import { stageSeed } from './seeds.js';
import { machineOf, siteSubset, type StepContext, type StepKind } from './step.js';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const JUMPS_MS = [30 * 60_000, 2 * HOUR_MS, DAY_MS, 8 * DAY_MS, -2 * HOUR_MS, -DAY_MS, -8 * DAY_MS];

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

/** What may go on beside the agents when a call is cut off. */
async function beginWork(context: StepContext): Promise<void> {
  const { world, random } = context;
  if (world.agents.size < 2) {
    world.startAgent(siteSubset(world, random), random.between(1, 3), random.between(1, 4));
  }
  if (random.chance(0.5)) {
    for (const site of world.sites) world.startMaintenance(site, 30, random.pick([0, 10]));
  }
  if (random.chance(0.2)) startScrub(world, world.pickSite(random));
  if (random.chance(0.15)) await stageSeed(context, false);
  if (random.chance(0.15)) importDelta(context);
  if (random.chance(0.15) && world.tools.size === 0) {
    startRepair(world, world.pickSite(random), world.pickVm(random), false);
  }
}

/**
 * There is work, and at some call of a machine that changes something, that process is killed or its
 * machine loses power.
 */
async function cutAtCall(context: StepContext): Promise<void> {
  const { world, checker, random } = context;
  await beginWork(context);
  const isSource = random.chance(0.3);
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

export const MACHINE_STEPS: readonly StepKind[] = [
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
    name: 'cut at a call',
    weight: 14,
    isOptional: true,
    run: cutAtCall,
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
    name: 'bits rot',
    weight: 1,
    isOptional: true,
    run: rotAnywhere,
  },
  {
    name: 'clock jumps',
    weight: 4,
    isOptional: true,
    run: ({ world, random }) => {
      const byMs = random.pick(JUMPS_MS);
      const site = random.chance(0.3) ? undefined : world.pickSite(random);
      if (site === undefined) world.source.wallShiftMs += byMs;
      else site.jump(byMs);
      world.counts.add(byMs < 0 ? 'clock put back' : 'clock put forward');
    },
  },
  {
    name: 'time passes',
    weight: 5,
    run: async ({ world, random }) => {
      await world.scheduler.advance(random.pick([1000, 30_000, HOUR_MS, DAY_MS, 8 * DAY_MS]));
    },
  },
];
