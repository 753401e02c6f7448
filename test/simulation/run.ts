// One life of a simulated world from one seed: a beginning, steps with a check after each, and an end
// at which everything works again and every chain must come level with its guest.

import { SeededRandom } from '../support/seeded-random.js';
import { Checker } from './checker.js';
import { FAIR } from './network.js';
import { Broken } from './promises.js';
import { addVm } from './steps/guest.js';
import { chooseKind, kindNamed, kindsOf } from './steps/index.js';
import type { Site } from './site.js';
import { verifyAll } from './verify.js';
import { SOURCE, World } from './world.js';

export const STEPS_DEFAULT = 40;
const EVENTS_BETWEEN_STEPS = 400;
const ATTEMPTS_AT_THE_END = 8;
const SLICES_AT_THE_END = 100;

/** A step as it can be written down: whatever kinds there will be, it is taken in the same way. */
export interface PlannedStep {
  readonly kind: string;
  /** Of its random numbers. */
  readonly seed: number;
}

export interface RunOptions {
  readonly seed: number;
  /** Default: those that the seed leads to. */
  readonly steps?: readonly PlannedStep[] | undefined;
  readonly onLine?: ((line: string) => void) | undefined;
}

export interface RunFailure {
  /** Index of the step after which it was found; how many there are: at the end. */
  readonly step: number;
  readonly message: string;
  readonly error: unknown;
}

export interface RunResult {
  readonly seed: number;
  readonly steps: readonly PlannedStep[];
  /** The same for the same seed, steps and code. */
  readonly digest: string;
  readonly eventCount: number;
  readonly pointsRead: number;
  readonly counts: World['counts'];
  /** The last lines of the trace. */
  readonly lines: readonly string[];
  readonly failure: RunFailure | undefined;
}

/** The steps to which a seed leads, as the kinds are now. */
export function planOf(seed: number, count = STEPS_DEFAULT): PlannedStep[] {
  const kinds = kindsOf(randomOf(seed, -3));
  return Array.from({ length: count }, (_, index) => {
    const random = randomOf(seed, index);
    return { kind: chooseKind(kinds, random).name, seed: random.next() };
  });
}

export async function run(options: RunOptions): Promise<RunResult> {
  const { seed, steps = planOf(seed), onLine } = options;
  const first = randomOf(seed, -1);
  const world = new World({ seed: first.next(), siteCount: first.chance(0.4) ? 2 : 1 });
  if (onLine !== undefined) world.scheduler.onLine = onLine;
  const checker = new Checker(world);
  let step = -1;
  let failure: RunFailure | undefined;
  try {
    await begin(world, first);
    for (const [index, planned] of steps.entries()) {
      step = index;
      await takeStep(world, checker, planned);
    }
    step = steps.length;
    await end(world, checker, randomOf(seed, -2));
  } catch (error) {
    const [violation] = world.violations;
    const told = violation ?? error;
    failure = { step, message: told instanceof Error ? told.message : String(told), error: told };
  }
  return {
    seed,
    steps,
    digest: world.scheduler.digest(),
    eventCount: world.scheduler.eventCount,
    pointsRead: checker.pointsRead,
    counts: world.counts,
    lines: world.scheduler.lines,
    failure,
  };
}

/** Of one part of a run alone. */
function randomOf(seed: number, part: number): SeededRandom {
  return new SeededRandom(Math.imul(seed, 0x9e3779b1) ^ Math.imul(part + 7, 0x85ebca77));
}

async function begin(world: World, random: SeededRandom): Promise<void> {
  for (let left = random.chance(0.4) ? 2 : 1; left > 0; left--) addVm(world, random);
  for (const site of world.sites) world.startReceiver(site);
  await world.run(random.int(16));
  // a store whose very first start is cut off is met nowhere else
  for (const { process } of world.sites) if (random.chance(0.25)) process?.end();
}

async function takeStep(world: World, checker: Checker, planned: PlannedStep): Promise<void> {
  const kind = kindNamed(planned.kind);
  const random = new SeededRandom(planned.seed);
  world.scheduler.random = new SeededRandom(random.next());
  world.scheduler.note(`step: ${kind.name}`);
  await kind.run({ world, checker, random });
  await world.run(random.chance(0.3) ? 0 : random.int(EVENTS_BETWEEN_STEPS));
  await checker.check(random);
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
  const isIdle = (): boolean => world.agents.size + world.tools.size === 0;
  await world.runUntil(isIdle, 'the work of the agents');
  for (const site of world.sites) {
    // whatever failed before may have poisoned files until the process starts anew
    site.process?.end();
    world.startReceiver(site);
    await world.runUntil(() => site.receiver !== undefined, `the start of ${site.name}`, 5000);
    await setRight(world, site);
  }
  await world.scheduler.advance(60_000);
  world.outcomes.clear();
  for (let attempt = 0; !isLevel(world); attempt++) {
    if (attempt === ATTEMPTS_AT_THE_END) throw new Broken(`no point was made: ${whyNot(world)}`);
    world.startAgent(world.sites, 1, 2);
    await world.runUntil(() => world.agents.size === 0, 'the work of the agents');
    await world.scheduler.advance(60_000);
  }
  // what was marked as damaged because the device did not answer is whole again
  for (const site of world.sites) {
    for (const vm of world.host.vms) {
      await operate(world, async () => {
        const control = world.control(site);
        if (control !== undefined) await verifyAll(world, site, vm, control, false);
      });
    }
  }
  // what somebody read when a commit would have taken it away is left to the receiver's own work
  for (const site of world.sites) world.startMaintenance(site, SLICES_AT_THE_END, 0);
  await world.scheduler.advance(60_000);
  checker.forget();
  await checker.check(random);
  checker.checkTidy();
}

/** What operators did is undone. */
async function setRight(world: World, site: Site): Promise<void> {
  for (const { id } of world.host.vms) {
    await operate(world, async () => {
      await world.control(site)?.pause({ vm: id, isPaused: false });
      await world.control(site)?.rebind({ vm: id, owner: SOURCE.principal });
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
