// A life of one protection in which everything that writes has its turn: seeded from files at the DR
// site, cycles, a disk that grows, points forgotten, pins until the journal is written anew, reclaimed,
// scrubbed, rotten and mended from the source, verified, tidied up.

import {
  connectDirectly,
  replicationService,
  type ServiceClient,
} from '../../shared/channel/index.js';
import type { ControlService, SeedFile } from '../../shared/channel/index.js';
import { defined } from '../../shared/assert.js';
import { guidToWire } from '../../shared/bytes/index.js';
import { CELL_BYTES, cellLength } from '../../shared/delta/index.js';
import { writeDurably } from '../../shared/files/index.js';
import { type Receiver, replicationHandlers, Scrub } from '../../dr-receiver/index.js';
import { repairReceiver } from '../../source-agent/index.js';
import { bytesOf, type GuestDisk, readable } from '../simulation/guest-disk.js';
import type { Vm } from '../simulation/host.js';
import type { Site } from '../simulation/site.js';
import type { World } from '../simulation/world.js';
import { SeededRandom } from '../support/seeded-random.js';

/** What an operator does at a receiver that runs. */
export type Act = (control: ServiceClient<ControlService>, receiver: Receiver) => Promise<void>;

export interface Living {
  readonly world: World;
  readonly site: Site;
  /** Files rotted besides what rots in this life. */
  readonly isSpoiled: () => boolean;
  /** A cycle of the source, tried again until it is done or has failed for good. */
  readonly cycle: () => Promise<void>;
  /** The same for an act; `what` names it in the page. */
  readonly operate: (what: string, act: Act) => Promise<void>;
}

const DAY_MS = 86_400_000;
const SEEDS = '/seeds';
/** Enough records to make a journal be written anew. */
const PINS = 30;
const SOURCE = {
  principal: 'site-a',
  keyId: 'key-a',
  role: 'source',
  vmPattern: '*',
  address: 'simulated',
} as const;

export async function live(living: Living): Promise<void> {
  const { world, cycle } = living;
  const vm = world.host.addVm('VM1');
  const first = world.host.addDisk(vm, 20 * CELL_BYTES - 512);
  const second = world.host.addDisk(vm, 3 * CELL_BYTES);
  const write = (disk: GuestDisk, ...cells: number[]): void => {
    for (const cell of cells) disk.write(cell, 1000 + cell, world.host.tick());
  };
  write(first, 0, 1, 2, 3, 7, 11, 19);
  write(second, 0, 2);
  await seed(living, vm);
  write(first, 2);
  await cycle();
  write(first, 1, 4);
  first.write(7, 0, world.host.tick());
  await cycle();
  second.resize(4 * CELL_BYTES, world.host.tick());
  write(second, 3);
  await cycle();
  for (let round = 1; round <= 3; round++) {
    await letGo(living);
    await world.scheduler.advance(8 * DAY_MS);
    write(first, round, round + 5);
    await cycle();
  }
  await letGo(living);
  await pin(living, vm);
  await rebind(living, vm);
  await pause(living, vm);
  await reclaim(living);
  write(first, 9);
  await cycle();
  await scrub(living);
  await mend(living, vm);
  await living.operate('gc', async (control) => {
    await control.collectGarbage({ isPlan: false, olderThanMs: 0n });
  });
  write(first, 10);
  await cycle();
}

/** Files at the DR site, of which one cell is older than the guest's. */
async function seed({ site, operate }: Living, vm: Vm): Promise<void> {
  const { volume } = site.machine;
  await volume.makeFolder(SEEDS);
  const files: SeedFile[] = [];
  for (const [index, disk] of vm.disks.entries()) {
    const path = `${SEEDS}/${index}.raw`;
    const content = disk
      .freeze()
      .cells.map((cell, at) => bytesOf(cell, cellLength(at, disk.sizeBytes)));
    await writeDurably(volume, path, Buffer.concat(content, disk.sizeBytes), new SeededRandom(1));
    files.push({ path, format: 'raw', diskId: guidToWire(disk.diskId) });
  }
  await operate('seed', async (control) => {
    const steps = control.seed({
      vm: vm.name,
      vmId: guidToWire(vm.id),
      principal: SOURCE.principal,
      isRestart: false,
      from: { $case: 'files', value: { files } },
    });
    for await (const { step } of steps) if (step?.$case === 'done') return;
  });
}

function letGo({ operate }: Living): Promise<void> {
  return operate('unpin', async (control, receiver) => {
    for (const { vmId, protection } of receiver.store.vms) {
      for (const { pointId, pinReason } of protection.listed) {
        if (pinReason === undefined) continue;
        await control.pinPoint({ vm: vmId, point: pointId, isPinned: false });
      }
    }
  });
}

async function pin({ operate }: Living, vm: Vm): Promise<void> {
  await operate('pin', async (control) => {
    for (let i = 0; i < PINS; i++) {
      await control.pinPoint({ vm: vm.id, point: 'latest', isPinned: true });
      await control.pinPoint({ vm: vm.id, point: 'latest', isPinned: false });
    }
  });
}

async function rebind({ operate }: Living, vm: Vm): Promise<void> {
  await operate('rebind', async (control) => {
    await control.rebind({ vm: vm.id, owner: 'site-c' });
    await control.rebind({ vm: vm.id, owner: SOURCE.principal });
  });
}

async function pause({ operate }: Living, vm: Vm): Promise<void> {
  await operate('pause', async (control) => {
    await control.pause({ vm: vm.id, isPaused: true });
    await control.pause({ vm: vm.id, isPaused: false });
  });
}

async function reclaim({ operate }: Living): Promise<void> {
  for (let round = 0; round < 3; round++) {
    await operate('reclaim', async (_, { maintenance }) => {
      for (let slice = 0; slice < 50; slice++) if (!(await maintenance.maintain())) return;
    });
  }
}

async function scrub({ world, operate }: Living): Promise<void> {
  await world.scheduler.advance(2 * DAY_MS);
  await operate('scrub', async (_, receiver) => {
    const work = new Scrub(receiver, { rateBytes: 2 ** 30, periodMs: DAY_MS });
    while ((await work.slice()) !== undefined);
  });
}

/** A cell of the newest delta rots, and comes again from the source. */
async function mend(living: Living, vm: Vm): Promise<void> {
  const { site, operate, isSpoiled } = living;
  const wasRotten = isSpoiled();
  const { volume } = site.machine;
  const store = site.receiver?.store.vms.find(({ vmId }) => vmId === vm.id);
  const cycleId = store?.protection.head?.cycleId;
  const path = volume.paths.find(
    (each) => cycleId !== undefined && each.includes(cycleId) && each.endsWith('.delta'),
  );
  if (path === undefined || volume.sizeOf(path) === 0) return;
  site.machine.rot(path, 0, 0);
  site.noteRot(vm.id, 'cells');
  await operate('repair', async (control, receiver) => {
    for await (const { step } of control.verify({ vm: vm.id, point: 'all', isRepair: true })) {
      if (step?.$case === 'done') break;
    }
    const handlers = replicationHandlers(receiver);
    const client = connectDirectly(replicationService, handlers, SOURCE);
    const frozen = new Map(vm.disks.map((disk) => [disk.diskId, disk.freeze()]));
    const source = {
      vmId: guidToWire(vm.id),
      disks: vm.disks,
      openDisk: (diskId: Vm['id']) => {
        const disk = defined(frozen.get(diskId), 'each disk was frozen');
        return Promise.resolve(
          readable(
            disk,
            () => true,
            () => undefined,
          ),
        );
      },
      onCell: () => Promise.resolve(),
    };
    await repairReceiver(client, source, new AbortController().signal);
    for await (const { step } of control.verify({ vm: vm.id, point: 'all', isRepair: false })) {
      const isGood = step?.$case === 'done' && step.value.damagedPointIds.length === 0;
      // from here on it has to be as good as if nothing had been
      if (isGood && !wasRotten && !isSpoiled()) site.rotten.delete(vm.id);
    }
  });
}
