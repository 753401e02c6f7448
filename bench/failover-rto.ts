// Brings the newest point of the only VM of a store up on a lab host: its disks made, the VM registered
// and started. Usage: failover-rto.js power-on STORE LAB | nothing

import { argv } from 'node:process';
import { Receiver } from '../dr-receiver/index.js';
import { materialisePoint } from '../dr-receiver/failover/disks.js';
import { instanceDiskPaths, removeInstanceDisks } from '../dr-receiver/failover/instance-files.js';
import type { InstanceDisk } from '../dr-receiver/failover/model.js';
import type { VmStore } from '../dr-receiver/store/vm-store.js';
import { assert, defined } from '../shared/assert.js';
import { type Guid, guid } from '../shared/bytes/index.js';
import { systemClock, systemRandom } from '../shared/clock.js';
import { nodeFileSystem } from '../shared/files/index.js';
import { Lab } from '../shared/hypervisor/lab/index.js';
import { silentLog } from '../shared/log.js';

const OPERATION = guid('6f1d6b1e-0000-4000-9000-000000000777');
const SEAMS = { fs: nodeFileSystem, clock: systemClock, random: systemRandom };

async function withVm<T>(store: string, use: (vm: VmStore) => Promise<T>): Promise<T> {
  const receiver = await Receiver.open({ ...SEAMS, log: silentLog, storeFolder: store });
  try {
    const [desk] = await receiver.allDesks();
    return await use(defined(desk, 'the store has a VM').vm);
  } finally {
    await receiver.close();
  }
}

export interface PoweredOn {
  readonly vmId: Guid;
  readonly disks: readonly InstanceDisk[];
  /** Of the materialised points, absolute. */
  readonly files: readonly string[];
}

/** The whole of what is measured: from the store on disk to a VM with a heartbeat. */
export function powerOn(store: string, labFolder: string): Promise<PoweredOn> {
  return withVm(store, async (vm) => {
    const point = defined(vm.protection.head, 'the VM has points');
    const disks = await materialisePoint(vm, point, OPERATION, SEAMS);
    const paths = disks.map((disk) => instanceDiskPaths(vm.layout, disk));
    const lab = await Lab.open(labFolder, SEAMS);
    const name = 'restored';
    const vmId = await lab.registerVm({
      definition: {
        ...{ id: vm.vmId, name, generation: 2, cpuCount: 1, memoryBytes: 2 ** 30 },
        isAutoStart: false,
        adapters: [],
        disks: point.disks.map((disk, index) => ({
          ...{ diskId: disk.diskId, controller: 'scsi', controllerNumber: 0, path: '' },
          ...{ controllerLocation: index, sizeBytes: disk.sizeBytes },
          logicalSectorBytes: disk.logicalSectorBytes,
          physicalSectorBytes: disk.physicalSectorBytes,
        })),
      },
      name,
      diskPaths: paths.map(({ protective }) => protective),
      tag: { protectionId: vm.vmId, operationId: OPERATION },
    });
    await lab.startVm(vmId);
    assert((await lab.heartbeat(vmId)) === 'ok', 'a VM that was started shows it');
    await lab.close();
    return { vmId, disks, files: paths.map(({ materialised }) => materialised) };
  });
}

/** As it was before powerOn(), but for the lab. */
export async function takeAway(store: string): Promise<void> {
  await withVm(store, (vm) => removeInstanceDisks(nodeFileSystem, vm, OPERATION));
}

const [, program = '', mode, store, lab] = argv;
if (program.endsWith('failover-rto.js') && mode === 'power-on') {
  await powerOn(defined(store, 'a store is named'), defined(lab, 'a lab is named'));
}
