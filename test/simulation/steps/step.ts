// What a step of a simulated world is, and what the steps have in common.

import type { SeededRandom } from '../../support/seeded-random.js';
import type { Checker } from '../checker.js';
import type { Machine } from '../disks.js';
import type { SimulatedProcess } from '../scheduler.js';
import type { Site } from '../site.js';
import type { World } from '../world.js';

export interface StepContext {
  readonly world: World;
  readonly checker: Checker;
  /** Of this step alone. */
  readonly random: SeededRandom;
}

export interface StepKind {
  /** Kept runs name it, so it stays. */
  readonly name: string;
  readonly weight: number;
  /** Left out in half of the seeds, so that what the others allow to grow is met as well. */
  readonly isOptional?: true;
  readonly run: (context: StepContext) => Promise<void> | void;
}

export type Control = NonNullable<ReturnType<World['control']>>;

export function machineOf({ world, random }: StepContext): Machine {
  return random.chance(0.4) ? world.source : world.pickSite(random).machine;
}

export function siteSubset(world: World, random: SeededRandom): Site[] {
  const sites = world.sites.filter(() => random.chance(0.7));
  return sites.length === 0 ? [world.pickSite(random)] : sites;
}

/** An operator's call at a receiver that runs; what it is answered comes later, or never. */
export function ask(
  { world }: Pick<StepContext, 'world'>,
  site: Site,
  what: string,
  work: (control: Control, process: SimulatedProcess) => Promise<void>,
): void {
  const control = world.control(site);
  const { process } = site;
  if (control === undefined || process === undefined) return;
  process.gate(work(control, process)).catch((error: unknown) => {
    world.noteRefusal(`${what} at ${site.name}`, error);
  });
}
