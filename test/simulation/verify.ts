// An operator has points read back, and holds the receiver to what it says about them.

import { defined } from '../../shared/assert.js';
import { type Guid, guidFromWire } from '../../shared/bytes/index.js';
import type { VerifyDone } from '../../shared/channel/index.js';
import { DrError } from '../../shared/errors.js';
import type { Vm } from './host.js';
import { Broken } from './promises.js';
import type { Site } from './site.js';
import type { Control } from './steps/step.js';
import { expectKnown, noteMended, truthOf } from './truth.js';
import type { World } from './world.js';

/** All points of a VM; undefined: the receiver died meanwhile. @throws Broken, DrError */
export async function verifyAll(
  world: World,
  site: Site,
  vm: Vm,
  control: Control,
  isRepair: boolean,
): Promise<VerifyDone> {
  const { rotCount, machine } = site;
  const { failureCount } = machine;
  const listed = site.vm(vm.id)?.protection.listed ?? [];
  const asked = new Set(listed.map(({ pointId }) => pointId));
  let done: VerifyDone | undefined;
  for await (const { step } of control.verify({ vm: vm.id, point: 'all', isRepair })) {
    if (step?.$case === 'done') done = step.value;
  }
  if (done === undefined) throw new DrError('E_CHANNEL', 'a verification had no end');
  world.counts.add(isRepair ? 'verified with repair' : 'verified');
  if (done.repairedCellCount > 0n) world.counts.add('mended from the store itself');
  if (site.rotCount === rotCount && machine.failureCount === failureCount) {
    await checkVerdict(world, site, vm.id, asked, done);
  }
  return done;
}

async function checkVerdict(
  world: World,
  site: Site,
  vmId: Guid,
  asked: ReadonlySet<Guid>,
  done: VerifyDone,
): Promise<void> {
  const idOf = (bytes: Buffer): Guid => defined(guidFromWire(bytes), 'a point has an id');
  const damaged = done.damagedPointIds.map(idOf);
  const [first] = damaged;
  if (first !== undefined && !site.rotten.has(vmId)) {
    throw new Broken(`${site.name} finds ${first} damaged, without rot`);
  }
  if (site.hasFailed) return;
  const truth = await truthOf(site, vmId);
  if (truth === undefined) return;
  for (const pointId of done.goodPointIds.map(idOf)) {
    if (!asked.has(pointId)) continue;
    if (truth.shownBy.has(pointId)) throw new Broken(`${site.name} says that ${pointId} is good`);
    site.proven.add(pointId);
  }
  site.known.add(vmId);
  await expectKnown(site, vmId);
  if (noteMended(site, vmId, truth)) world.counts.add('all that rotted was mended');
}
