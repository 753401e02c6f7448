// What a receiver does by itself, and that it is started again.

import type { Guid } from '../../../shared/bytes/index.js';
import type { VmStore } from '../../../dr-receiver/store/vm-store.js';
import { Broken } from '../promises.js';
import { rotCell } from '../rot.js';
import type { Site } from '../site.js';
import { truthOf } from '../truth.js';
import type { World } from '../world.js';
import type { StepContext, StepKind } from './step.js';

const HOUR_MS = 3_600_000;

/** The scrub of a site works for a while, whatever comes meanwhile. */
export function startScrub(world: World, site: Site): void {
  const { process } = site;
  process?.gate(world.scrubAll(site)).catch((error: unknown) => {
    world.noteRefusal(`the scrub of ${site.name}`, error);
  });
}

/** What of a VM has to stay as it is while a scrub reads all of it, for its verdict to be checked. */
interface Before {
  readonly points: ReadonlySet<Guid>;
  readonly layers: string;
  readonly scrubbedAtMs: number;
}

function layerNames({ protection }: VmStore): string {
  return protection.segments.all
    .flatMap(({ layers, folding }) => [
      folding?.root ?? '',
      ...layers.map(({ cycleId, root }) => `${cycleId} ${root}`),
    ])
    .join();
}

/** A whole pass over the store: what rotted is marked then, and nothing else. */
async function scrubWhole(context: StepContext): Promise<void> {
  const { world, random } = context;
  const site = world.pickSite(random);
  if (world.control(site) === undefined) return;
  for (let count = random.pick([0, 0, 1, 3]); count > 0; count--) await rotCell(context, site);
  await world.scheduler.advance(2 * HOUR_MS);
  const { process, receiver } = site;
  if (process === undefined || receiver === undefined || world.violations.length > 0) return;
  const what = `the scrub of ${site.name}`;
  if (!(await world.untilDone(process, receiver.allDesks(), what))) return;
  const before = new Map<Guid, Before>();
  for (const vm of receiver.store.vms) {
    const points = new Set(vm.protection.listed.map(({ pointId }) => pointId));
    before.set(vm.vmId, {
      points,
      layers: layerNames(vm),
      scrubbedAtMs: vm.scrub.scrubbedAtMs,
    });
  }
  const { rotCount } = site;
  const folded = new Set<Guid>();
  const noteFolds = (): void => {
    for (const { vmId, protection } of receiver.store.vms) {
      if (protection.segments.all.some(({ folding }) => folding !== undefined)) folded.add(vmId);
    }
  };
  if (!(await world.untilDone(process, world.scrubAll(site, noteFolds), what))) return;
  if (site.rotCount !== rotCount || site.hasFailed) return;
  for (const [vmId, known] of before) {
    const vm = site.vm(vmId);
    if (vm === undefined || vm.halt !== undefined || folded.has(vmId)) continue;
    const isOver = vm.scrub.round === undefined && vm.scrub.scrubbedAtMs !== known.scrubbedAtMs;
    if (isOver) await checkMarks(world, site, vm, known);
  }
}

async function checkMarks(world: World, site: Site, vm: VmStore, before: Before): Promise<void> {
  const truth = await truthOf(site, vm.vmId);
  if (truth === undefined) return;
  world.counts.add('scrubbed whole');
  const isUnchanged = before.layers === layerNames(vm);
  for (const { pointId, damage } of vm.protection.listed) {
    if (!before.points.has(pointId)) continue;
    const isBad = truth.shownBy.has(pointId);
    if (isBad && damage === undefined) {
      throw new Broken(`${site.name} has scrubbed all, and ${pointId} is damaged and not marked`);
    }
    if (!isBad && damage !== undefined && isUnchanged) {
      throw new Broken(`${site.name} has scrubbed all, and marks ${pointId}, which is sound`);
    }
    if (isBad) world.counts.add('rot found by a scrub');
    else if (isUnchanged) site.proven.add(pointId);
  }
}

export const RECEIVER_STEPS: readonly StepKind[] = [
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
    name: 'receiver scrubs',
    weight: 3,
    run: ({ world, random }) => {
      startScrub(world, world.pickSite(random));
    },
  },
  {
    name: 'receiver scrubs all of it',
    weight: 4,
    isOptional: true,
    run: scrubWhole,
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
];
