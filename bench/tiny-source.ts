// A source whose cycles bring next to nothing: one small empty disk, of which every later cycle says again
// that its first cell is zero. That is too small a share of it for a pin. So what a cycle costs is what the receiver does besides moving bytes. Speaks the
// protocol to a receiver in this process or over the network.

import { type Guid, guidToWire, randomGuid, ZERO_GUID } from '../shared/bytes/index.js';
import {
  DiskTransfer,
  type ReplicationService,
  type ServiceClient,
} from '../shared/channel/index.js';
import { systemRandom } from '../shared/clock.js';
import {
  CELL_BYTES,
  encodeBatch,
  encodeBegin,
  encodeEndOfDisk,
  ManifestRoot,
} from '../shared/delta/index.js';
import { DrError } from '../shared/errors.js';

const SECTOR_BYTES = 512;
const DISK_BYTES = 16 * CELL_BYTES;

export class TinyVm {
  readonly vmId: Guid = randomGuid(systemRandom);
  readonly diskId: Guid = randomGuid(systemRandom);
  readonly name: string;
  headPointId: Guid | undefined;

  constructor(name: string) {
    this.name = name;
  }
}

export class TinySource {
  readonly #replication: ServiceClient<ReplicationService>;

  constructor(replication: ServiceClient<ReplicationService>) {
    this.#replication = replication;
  }

  /** What a cycle is planned from: what the receiver has, and where the cycle begins. Given up then. */
  async plan(vm: TinyVm): Promise<void> {
    await this.describe(vm);
    const cycleId = await this.#open(vm, randomGuid(systemRandom), 1);
    await this.#replication.abandon({
      vmId: guidToWire(vm.vmId),
      cycleId: guidToWire(cycleId),
    });
  }

  /** What the receiver has of a VM. @throws DrError E_TOOL_FAILED when it is not what was committed */
  async describe(vm: TinyVm): Promise<void> {
    const request = { vmId: guidToWire(vm.vmId), vmName: vm.name };
    const { headPointId } = await this.#replication.describe(request);
    if (headPointId.equals(guidToWire(vm.headPointId ?? ZERO_GUID))) return;
    throw new DrError('E_TOOL_FAILED', `${vm.name} has another head than was committed`);
  }

  /** A whole cycle; its point is listed on return. Returns how many points the VM has then. */
  async commit(vm: TinyVm, maxRestorePoints: number): Promise<number> {
    const pointId = randomGuid(systemRandom);
    const isBase = vm.headPointId === undefined;
    const cycleId = await this.#open(vm, pointId, maxRestorePoints);
    const messages = [encodeBegin(vm.vmId, cycleId)];
    const root = new ManifestRoot({
      kind: isBase ? 'base' : 'delta',
      point: pointId,
      parentPoint: vm.headPointId ?? ZERO_GUID,
      vmId: vm.vmId,
      diskId: vm.diskId,
      diskGeneration: 0,
      diskSizeBytes: DISK_BYTES,
      logicalSectorBytes: SECTOR_BYTES,
      physicalSectorBytes: SECTOR_BYTES,
      epoch: 1n,
    });
    if (!isBase) {
      const zero = { kind: 'zero', cell: 0, count: 1 } as const;
      const payload = Buffer.alloc(0);
      messages.push(encodeBatch({ kind: 'cells', diskIndex: 0, entries: [zero], payload }, 1));
      root.check(zero);
    }
    messages.push(encodeEndOfDisk(0));
    const stream = (async function* (): AsyncGenerator<Buffer> {
      await Promise.resolve();
      yield* messages;
    })();
    const acknowledgements = this.#replication.push(stream)[Symbol.asyncIterator]();
    while ((await acknowledgements.next()).done !== true);
    const { pointCount } = await this.#replication.commit({
      vmId: guidToWire(vm.vmId),
      cycleId: guidToWire(cycleId),
      roots: [root.finish().root],
    });
    vm.headPointId = pointId;
    return pointCount;
  }

  async #open(vm: TinyVm, pointId: Guid, maxRestorePoints: number): Promise<Guid> {
    const cycleId = randomGuid(systemRandom);
    const { headPointId } = vm;
    const { outcome } = await this.#replication.open({
      vmId: guidToWire(vm.vmId),
      vmName: vm.name,
      cycleId: guidToWire(cycleId),
      pointId: guidToWire(pointId),
      parentPointId: headPointId === undefined ? Buffer.alloc(0) : guidToWire(headPointId),
      epoch: 1n,
      kind: headPointId === undefined ? 'seed' : 'delta',
      disks: [
        {
          geometry: {
            diskId: guidToWire(vm.diskId),
            generation: 0,
            sizeBytes: BigInt(DISK_BYTES),
            logicalSectorBytes: SECTOR_BYTES,
            physicalSectorBytes: SECTOR_BYTES,
          },
          transfer:
            headPointId === undefined
              ? DiskTransfer.DISK_TRANSFER_BASE
              : DiskTransfer.DISK_TRANSFER_DELTA,
        },
      ],
      definition: undefined,
      consistentAtMs: 0n,
      isApplicationConsistent: true,
      maxRestorePoints,
      rpoSeconds: 900,
      retentionGrid: '',
      expectedBytes: 0n,
      checkpointId: `checkpoint of ${cycleId}`,
      seededFrom: '',
    });
    if (outcome?.$case === 'accepted') return cycleId;
    throw new DrError('E_TOOL_FAILED', `a cycle of ${vm.name} was not taken`);
  }
}
