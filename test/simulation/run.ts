// One life of a simulated world from one seed: a beginning, steps with a check after each, and an end
// at which everything works again and every chain must come level with its guest.

import { SeededRandom } from '../support/seeded-random.js';
import { Checker } from './checker.js';
import { FAIR } from './network.js';
import { Broken } from './promises.js';
import { diskSize, STEPS, type StepKind } from './steps.js';
import { type Site, World } from './world.js';

export const STEPS_DEFAULT = 40;
const EVENTS_BETWEEN_STEPS = 400;
const ATTEMPTS_AT_THE_END = 8;

export interface RunOptions {
  readonly seed: number;
  /** Default STEPS_DEFAULT. */
  readonly steps?: number | undefined;
  /** Indexes of the steps to take; default all. */
  readonly only?: readonly number[] | undefined;
  readonly onLine?: ((line: string) => void) | undefined;
}

export interface RunFailure {
  /** Index of the step after which it was found; `steps`: at the end. */
  readonly step: number;
  readonly message: string;
  readonly error: unknown;
}

export interface RunResult {
  readonly seed: number;
  /** The same for the same seed, steps and code. */
  readonly digest: string;
  readonly eventCount: number;
  readonly pointsRead: number;
  readonly counts: World['counts'];
  /** The last lines of the trace. */
  readonly lines: readonly string[];
  readonly failure: RunFailure | undefined;
}

export async function run(options: RunOptions): Promise<RunResult> {
  const { seed, steps = STEPS_DEFAULT, only, onLine } = options;
  const first = randomOf(seed, -1);
  const world = new World({ seed: first.next(), siteCount: first.chance(0.4) ? 2 : 1 });
  if (onLine !== undefined) world.scheduler.onLine = onLine;
  const checker = new Checker(world);
  const kinds = kindsOf(first);
  let step = -1;
  let failure: RunFailure | undefined;
  try {
    await begin(world, first);
    for (step = 0; step < steps; step++) {
      if (only !== undefined && !only.includes(step)) continue;
      await takeStep(world, checker, kinds, randomOf(seed, step));
    }
    await end(world, checker, randomOf(seed, -2));
  } catch (error) {
    const [violation] = world.violations;
    const told = violation ?? error;
    failure = { step, message: told instanceof Error ? told.message : String(told), error: told };
  }
  return {
    seed,
    digest: world.scheduler.digest(),
    eventCount: world.scheduler.eventCount,
    pointsRead: checker.pointsRead,
    counts: world.counts,
    lines: world.scheduler.lines,
    failure,
  };
}

/** Of one step alone, so that leaving out another one changes little. */
function randomOf(seed: number, step: number): SeededRandom {
  return new SeededRandom(Math.imul(seed, 0x9e3779b1) ^ Math.imul(step + 7, 0x85ebca77));
}

async function begin(world: World, random: SeededRandom): Promise<void> {
  const vmCount = random.chance(0.4) ? 2 : 1;
  for (let n = 1; n <= vmCount; n++) {
    const vm = world.host.addVm(`VM${n}`);
    for (let count = random.between(1, 3); count > 0; count--) {
      const disk = world.host.addDisk(vm, diskSize(random));
      for (let i = random.int(6); i > 0; i--) {
        disk.write(random.int(disk.cellCount), random.between(1, 1000), world.host.tick());
      }
    }
  }
  for (const site of world.sites) world.startReceiver(site);
  await world.run(random.int(16));
  // a store whose very first start is cut off is met nowhere else
  for (const { process } of world.sites) if (random.chance(0.25)) process?.end();
}

async function takeStep(
  world: World,
  checker: Checker,
  kinds: readonly StepKind[],
  random: SeededRandom,
): Promise<void> {
  const kind = chooseStep(kinds, random);
  world.scheduler.random = new SeededRandom(random.next());
  world.scheduler.note(`step: ${kind.name}`);
  await kind.run({ world, checker, random });
  await world.run(random.chance(0.3) ? 0 : random.int(EVENTS_BETWEEN_STEPS));
  await checker.check(random);
}

/** What can happen in this seed. */
function kindsOf(random: SeededRandom): readonly StepKind[] {
  return STEPS.filter(({ isOptional }) => isOptional !== true || random.chance(0.5));
}

function chooseStep(kinds: readonly StepKind[], random: SeededRandom): StepKind {
  let at = random.int(kinds.reduce((sum, { weight }) => sum + weight, 0));
  for (const kind of kinds) {
    at -= kind.weight;
    if (at < 0) return kind;
  }
  throw new Error('the weights make up their sum');
}

/** Everything works again; then every chain comes level, and nothing is left behind. */
async function end(world: World, checker: Checker, random: SeededRandom): Promise<void> {
  world.scheduler.note('step: the end');
  for (const machine of [world.source, ...world.sites.map((site) => site.machine)]) {
    machine.isFull = false;
    machine.faults.length = 0;
  }
  for (const site of world.sites) site.endpoint.weather = FAIR;
  Object.assign(world.host.faults, {
    refuseConsistency: 0,
    failCheckpoint: 0,
    failConvert: 0,
    failRemoveReference: 0,
  });
  await world.runUntil(() => world.agents.size === 0, 'the work of the agents');
  for (const site of world.sites) {
    // whatever failed before may have poisoned files until the process starts anew
    site.process?.end();
    world.startReceiver(site);
    await world.runUntil(() => site.receiver !== undefined, `the start of ${site.name}`, 5000);
    await unpause(world, site);
  }
  await world.scheduler.advance(60_000);
  world.outcomes.clear();
  for (let attempt = 0; !isLevel(world); attempt++) {
    if (attempt === ATTEMPTS_AT_THE_END) throw new Broken(`no point was made: ${whyNot(world)}`);
    world.startAgent(world.sites, 1, 2);
    await world.runUntil(() => world.agents.size === 0, 'the work of the agents');
    await world.scheduler.advance(60_000);
  }
  for (const site of world.sites) await verifyAll(world, site);
  await world.scheduler.advance(60_000);
  checker.forget();
  await checker.check(random);
  checker.checkTidy();
}

/** What was marked as damaged because the device did not answer is whole again. */
async function verifyAll(world: World, site: Site): Promise<void> {
  for (const vm of world.host.vms) {
    await operate(world, async () => {
      const steps = world.control(site)?.verify({ vm: vm.id, point: 'all', isRepair: false }) ?? [];
      for await (const { step } of steps) {
        if (step?.$case !== 'done' || site.rotten.has(vm.id)) continue;
        const count = step.value.damagedPointIds.length;
        if (count > 0) throw new Broken(`${count} points of ${vm.name} are damaged, without rot`);
      }
    });
  }
}

async function unpause(world: World, site: Site): Promise<void> {
  for (const vm of world.host.vms) {
    await operate(world, async () => {
      await world.control(site)?.pause({ vm: vm.id, isPaused: false });
    });
  }
}

/** An operator's call, which may be refused, to its end. */
async function operate(world: World, work: () => Promise<void>): Promise<void> {
  const state = { isDone: false };
  const working = work().catch((error: unknown) => {
    world.noteRefusal('an operator’s call', error);
  });
  void working.then(() => {
    state.isDone = true;
  });
  await world.runUntil(() => state.isDone, 'an operator’s call');
}

/** Every VM has a point at every receiver that is of now. */
function isLevel(world: World): boolean {
  return world.sites.every((site) =>
    world.host.vms.every((vm) => {
      if (site.rotten.has(vm.id)) return world.outcome(site, vm) !== undefined;
      return world.outcome(site, vm)?.kind === 'done';
    }),
  );
}

function whyNot(world: World): string {
  return [...world.outcomes]
    .map(([key, outcome]) => {
      if (outcome.kind === 'failed')
        return `${key}: ${outcome.error.code} ${outcome.error.message}`;
      return `${key}: ${outcome.kind}`;
    })
    .join('; ');
}
