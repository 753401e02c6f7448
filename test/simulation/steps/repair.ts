// `hvdr verify --repair --host` and `--against-source`, as commands at the source that may be killed: what
// rotted is given back, and what nobody saw change does not differ.

import { type Guid, guidToWire } from '../../../shared/bytes/index.js';
import type {
  RepairRequest,
  ReplicationService,
  ServiceClient,
} from '../../../shared/channel/index.js';
import { cellLength } from '../../../shared/delta/index.js';
import { DrError } from '../../../shared/errors.js';
import { silentLog } from '../../../shared/log.js';
import {
  compareWithReceiver,
  type Inspection,
  repairReceiver,
  withInspection,
} from '../../../source-agent/index.js';
import { bytesOf } from '../guest-disk.js';
import type { Vm } from '../host.js';
import { Broken } from '../promises.js';
import { rotCell } from '../rot.js';
import type { SimulatedProcess } from '../scheduler.js';
import type { Site } from '../site.js';
import { expectKnown } from '../truth.js';
import { verifyAll } from '../verify.js';
import { OPERATOR, STATE_FOLDER, type World } from '../world.js';
import type { Control, StepContext, StepKind } from './step.js';

type Client = ServiceClient<ReplicationService>;

/** A call to a receiver by a process that learns when it died. */
function reach<T>(world: World, site: Site, work: (control: Control) => Promise<T>): Promise<T> {
  const control = world.control(site);
  const { process } = site;
  if (control === undefined || process === undefined) {
    return Promise.reject(new DrError('E_SOURCE_UNREACHABLE', `${site.name} does not answer`));
  }
  return new Promise<T>((resolve, reject) => {
    process.onDeath(() => {
      reject(new DrError('E_CHANNEL', `${site.name} died`));
    });
    process.gate(work(control)).then(resolve, reject);
  });
}

/** A frozen look at a VM and a connection to a receiver, as the commands have them. */
async function inspect(
  world: World,
  site: Site,
  { id, name }: Vm,
  process: SimulatedProcess,
  use: (inspection: Inspection, client: Client, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const connection = await world.network.connect(process, site.endpoint, OPERATOR);
  const fs = world.source.filesOf(process);
  await fs.makeFolder(STATE_FOLDER);
  const { signal } = new AbortController();
  try {
    await withInspection(
      { id, name, powerState: 'running' },
      {
        ...{ hypervisor: world.host.connect(process), fs, random: process.random, log: silentLog },
        ...{ clock: world.source.clockOf(process), stateFolder: STATE_FOLDER, signal },
      },
      (inspection) => use(inspection, connection.client, signal),
    );
  } finally {
    await connection.close();
  }
}

/** `isCareless`: the source is an older one that sends what it has now and compares nothing. */
export function startRepair(world: World, site: Site, vm: Vm, isCareless: boolean): void {
  world.startTool('repair', async (process) => {
    const verify = (): Promise<{ readonly wantedCellCount: bigint }> =>
      process.gate(reach(world, site, (control) => verifyAll(world, site, vm, control, true)));
    if ((await verify()).wantedCellCount === 0n) return;
    let repairedCount = 0;
    await inspect(world, site, vm, process, async ({ lease }, client, signal) => {
      if (isCareless) {
        const messages = whateverIsThere(client, vm, signal);
        ({ repairedCount } = await client.repair(messages, { signal }));
      } else {
        const source = {
          vmId: guidToWire(vm.id),
          disks: lease.checkpoint.disks,
          openDisk: (diskId: Guid) => lease.openDisk(diskId),
          onCell: () => Promise.resolve(),
        };
        ({ repairedCount } = await repairReceiver(client, source, signal));
      }
    });
    world.counts.add(isCareless ? 'repair by a careless source' : 'repair from the source');
    if (repairedCount > 0) world.counts.add('mended from the source');
    await expectKnown(site, vm.id);
    if (repairedCount > 0) await verify();
  });
}

async function* whateverIsThere(
  client: Client,
  { id, disks }: Vm,
  signal: AbortSignal,
): AsyncGenerator<RepairRequest> {
  const vmId = guidToWire(id);
  for await (const { cells } of client.wanted({ vmId }, { signal })) {
    for (const { diskId, generation, cell } of cells) {
      const disk = disks.find((each) => guidToWire(each.diskId).equals(diskId));
      const length = disk === undefined ? 0 : cellLength(Number(cell), disk.sizeBytes);
      if (disk === undefined || length <= 0) continue;
      const data = Buffer.from(bytesOf(disk.cells[Number(cell)], length));
      yield { vmId, diskId, generation, cell, data };
    }
  }
}

/** What differs between a receiver's newest point and the VM, and nobody saw change, is a divergence. */
function startCompare(world: World, site: Site, vm: Vm): void {
  world.startTool('compare', (process) =>
    inspect(world, site, vm, process, async (inspection, client, signal) => {
      const compared = await compareWithReceiver(inspection, {
        ...{ client, hypervisor: world.host.connect(process), pointId: undefined, signal },
        onCompared: () => undefined,
      });
      world.counts.add('compared with the source');
      if (world.excusedLedgers.has(vm.id) || site.rotten.has(vm.id)) return;
      for (const { diskId, divergedAt } of compared) {
        if (divergedAt.length === 0) continue;
        throw new Broken(
          `disk ${diskId} of ${vm.name} differs at ${site.name} at offset ${divergedAt.join()}, unseen`,
        );
      }
    }),
  );
}

async function repair(context: StepContext): Promise<void> {
  const { world, random } = context;
  if (world.tools.size > 0) return;
  const site = world.pickSite(random);
  const isCareless = random.chance(0.4);
  let vmId: Guid | undefined;
  for (let count = random.pick([0, 1, 2, 4]); count > 0; count--) {
    vmId = (await rotCell(context, site))?.vmId ?? vmId;
  }
  const vm = world.host.vms.find(({ id }) => id === vmId) ?? world.pickVm(random);
  startRepair(world, site, vm, isCareless);
}

export const REPAIR_STEPS: readonly StepKind[] = [
  {
    name: 'operator repairs from the source',
    weight: 6,
    isOptional: true,
    run: repair,
  },
  {
    name: 'operator compares with the source',
    weight: 2,
    isOptional: true,
    run: ({ world, random }) => {
      if (world.tools.size > 0) return;
      startCompare(world, world.pickSite(random), world.pickVm(random));
    },
  },
  {
    name: 'command killed',
    weight: 1,
    isOptional: true,
    run: ({ world }) => {
      for (const process of world.tools) process.end();
    },
  },
];
