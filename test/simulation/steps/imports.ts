// `hvdr import` at a DR site: the delta of a point that a backup took of the guest, disk by disk. What
// does not fit the newest point is refused, and a point is listed when all of its disks are there.

import { defined } from '../../../shared/assert.js';
import { type Guid, guidFromWire, randomGuid } from '../../../shared/bytes/index.js';
import type { ImportDeltaRequest, ImportDone } from '../../../shared/channel/index.js';
import {
  deltaMessages,
  encodeManifestHeader,
  type ManifestHeader,
} from '../../../shared/delta/index.js';
import { DrError } from '../../../shared/errors.js';
import type { SeededRandom } from '../../support/seeded-random.js';
import { simulatedGuid } from '../host.js';
import { type BroughtDisk, type BroughtPoint, deltaBetween } from '../other-road.js';
import { Broken } from '../promises.js';
import type { Site } from '../site.js';
import type { World } from '../world.js';
import { ask, type Control, type StepContext, type StepKind } from './step.js';

const BROUGHT_MAX = 4;

/** A delta that leads from the newest point of a VM to what its guest has now; undefined: none fits. */
function takeBackup(world: World, site: Site, random: SeededRandom): BroughtPoint | undefined {
  const vm = world.pickVm(random);
  const store = site.vm(vm.id);
  const head = store?.protection.head;
  const offer = head && site.promises.offers.get(head.pointId);
  const before = offer && world.host.moments.get(offer.checkpointId);
  if (store === undefined || head === undefined || before === undefined) return undefined;
  const isSameSet =
    head.disks.length === vm.disks.length &&
    head.disks.every(({ diskId, sizeBytes }) =>
      vm.disks.some((disk) => disk.diskId === diskId && disk.sizeBytes === sizeBytes),
    );
  if (!isSameSet) return undefined;
  const after = world.host.takeMoment(vm);
  const pointId = randomGuid(random);
  const disks = head.disks.map(({ diskId, generation, ...geometry }) => {
    const header: ManifestHeader = {
      ...{ kind: 'delta', point: pointId, parentPoint: head.pointId, vmId: vm.id, diskId },
      ...{ diskGeneration: generation, diskSizeBytes: geometry.sizeBytes },
      logicalSectorBytes: geometry.logicalSectorBytes,
      physicalSectorBytes: geometry.physicalSectorBytes,
      epoch: store.protection.epoch,
    };
    const from = defined(before.disks.get(diskId), 'a point has the disks of its moment');
    const to = defined(after.disks.get(diskId), 'the guest has the disk');
    return deltaBetween(header, from, to, random);
  });
  const { id: checkpointId } = after.checkpoint;
  const brought = { vmId: vm.id, pointId, parentPointId: head.pointId, checkpointId, disks };
  site.promises.bring({ ...brought, cycleId: randomGuid(random) });
  return brought;
}

/** Imports what was brought before, or brings something new; all of its disks, or some. */
export function importDelta(context: StepContext): void {
  const { world, random } = context;
  const site = world.pickSite(random);
  if (site.receiver === undefined) return;
  const earlier = site.brought[random.int(site.brought.length)];
  const brought =
    earlier !== undefined && random.chance(0.5) ? earlier : takeBackup(world, site, random);
  if (brought === undefined) return;
  if (brought !== earlier) site.brought.push(brought);
  if (site.brought.length > BROUGHT_MAX) site.brought.shift();
  const chosen = brought.disks.map((_, index) => index).filter(() => random.chance(0.8));
  const pauseMs = random.pick([0, 10, 1000]);
  const misfit = random.chance(0.3) ? random.pick(MISFITS) : undefined;
  ask(context, site, 'import', async (control, process) => {
    const clock = site.machine.clockOf(process);
    for (const diskIndex of chosen) {
      const disk = defined(brought.disks[diskIndex], 'it is one of them');
      const asked = { vm: brought.vmId, diskIndex, ...disk };
      const pause = (): Promise<void> => clock.sleep(pauseMs);
      if (misfit !== undefined) {
        await expectRefusal(site, control, { ...asked, ...misfit.change(asked) }, misfit.name);
        world.counts.add('import refused');
      }
      noteImported(world, site, brought, await importDisk(control, asked, pause));
    }
  });
}

interface Asked extends BroughtDisk {
  readonly vm: string;
  readonly diskIndex: number;
}

async function importDisk(
  control: Control,
  { vm, diskIndex, source, root }: Asked,
  pause: () => Promise<void>,
): Promise<ImportDone> {
  let accept: (wanted: { nextCell: bigint; isComplete: boolean }) => void = () => undefined;
  const accepted = new Promise<{ nextCell: bigint; isComplete: boolean }>((resolve) => {
    accept = resolve;
  });
  const requests = (async function* (): AsyncGenerator<ImportDeltaRequest> {
    const manifestHeader = encodeManifestHeader(source.header);
    yield { part: { $case: 'begin', value: { vm, diskIndex, manifestHeader, root } } };
    const { nextCell, isComplete } = await accepted;
    if (isComplete) return;
    for await (const value of deltaMessages(source, diskIndex, Number(nextCell))) {
      await pause();
      yield { part: { $case: 'batch', value } };
    }
  })();
  for await (const { step } of control.importDelta(requests)) {
    if (step?.$case === 'done') return step.value;
    if (step?.$case === 'accepted') accept(step.value);
  }
  throw new DrError('E_CHANNEL', 'an import had no end');
}

function noteImported(world: World, site: Site, brought: BroughtPoint, done: ImportDone): void {
  const { pointId, vmId, disks } = brought;
  if (guidFromWire(done.pointId) !== pointId) throw new Broken(`${pointId} is told to be another`);
  if (done.isCommitted !== (done.missingDisks.length === 0)) {
    throw new Broken(`${pointId} of ${disks.length} disks is told to be listed and to miss some`);
  }
  world.counts.add(done.isCommitted ? 'imported' : 'imported in part');
  if (done.isCommitted && !done.wasKnown) site.promises.acknowledge(vmId, pointId);
}

async function expectRefusal(
  site: Site,
  control: Control,
  asked: Asked,
  what: string,
): Promise<void> {
  try {
    const { wasKnown } = await importDisk(control, asked, () => Promise.resolve());
    // a point that is there is not brought again, whatever else is said of it
    if (wasKnown) return;
  } catch (error) {
    if (error instanceof DrError) return;
    throw error;
  }
  throw new Broken(`${site.name} imported a delta with another ${what}`);
}

function withHeader({ source }: Asked, change: Partial<ManifestHeader>): Pick<Asked, 'source'> {
  return { source: { ...source, header: { ...source.header, ...change } } };
}

const STRANGER: Guid = simulatedGuid(9, 9);

/** What makes a delta one that does not fit. */
const MISFITS: readonly {
  readonly name: string;
  readonly change: (asked: Asked) => Partial<Asked>;
}[] = [
  { name: 'VM', change: (asked) => withHeader(asked, { vmId: STRANGER }) },
  { name: 'disk', change: (asked) => withHeader(asked, { diskId: STRANGER }) },
  { name: 'parent', change: (asked) => withHeader(asked, { parentPoint: STRANGER }) },
  {
    name: 'epoch',
    change: (asked) => withHeader(asked, { epoch: asked.source.header.epoch + 1n }),
  },
  {
    name: 'generation',
    change: (asked) =>
      withHeader(asked, { diskGeneration: asked.source.header.diskGeneration + 1 }),
  },
  {
    name: 'size',
    change: (asked) =>
      withHeader(asked, { diskSizeBytes: asked.source.header.diskSizeBytes + 512 }),
  },
  { name: 'root', change: () => ({ root: Buffer.alloc(32, 7) }) },
];

export const IMPORT_STEPS: readonly StepKind[] = [
  {
    name: 'operator imports a delta',
    weight: 6,
    isOptional: true,
    run: importDelta,
  },
];
