// A DR store whose base is no point's any more, made in this process by a source of random bytes: a
// seed and one delta of ten days ago, of which a receiver keeps the newest only.

import { controlHandlers, Receiver, replicationHandlers } from '../dr-receiver/index.js';
import { type Guid, guid, guidToWire, ZERO_GUID } from '../shared/bytes/index.js';
import {
  type Caller,
  connectDirectly,
  controlService,
  DiskTransfer,
  replicationService,
} from '../shared/channel/index.js';
import type { Clock } from '../shared/clock.js';
import {
  type BatchEntry,
  encodeBatch,
  encodeBegin,
  encodeEndOfDisk,
  hashCell,
  ManifestRoot,
} from '../shared/delta/index.js';
import { nodeFileSystem } from '../shared/files/index.js';
import { silentLog } from '../shared/log.js';
import { systemRandom } from '../shared/clock.js';
import { CELL_BYTES, RandomBytes, type Run } from './data.js';

const VM = guid('6f1d6b1e-0000-4000-9000-000000000001');
const DISK = guid('6f1d6b1e-0000-4000-9000-000000000002');
const VM_NAME = 'folded';
const CALLER: Caller = {
  ...{ principal: 'site-a', keyId: 'k', role: 'operator', vmPattern: '*', address: 'bench' },
};
const DAY_MS = 24 * 60 * 60 * 1000;
/** Cells of one message: 1 MiB. */
const BATCH_CELLS = 16;

/** Cells with the bytes that writeRandomFile() and writeDelta() make of the same seed. */
interface Content {
  readonly runs: readonly Run[];
  readonly seed: string;
}

/** Makes the store in a new folder, durable; runs are single cells in ascending order. */
export async function makeOldStore(
  folder: string,
  diskBytes: number,
  { base, delta }: { readonly base: Content; readonly delta: Content },
  clock: Clock,
): Promise<void> {
  const behind: Clock = {
    now: () => clock.now() - 10 * DAY_MS,
    monotonic: () => clock.monotonic(),
    sleep: (durationMs, signal) => clock.sleep(durationMs, signal),
  };
  const receiver = await Receiver.open({
    ...{ fs: nodeFileSystem, clock: behind, random: systemRandom, log: silentLog },
    storeFolder: folder,
  });
  const points = [idOf(11), idOf(12)] as const;
  await bring(receiver, { diskBytes, content: base, n: 1, pointId: points[0], parent: undefined });
  await bring(receiver, { diskBytes, content: delta, n: 2, pointId: points[1], parent: points[0] });
  // a delta of more than a quarter of the disk would pin the point before it
  const control = connectDirectly(controlService, controlHandlers(receiver), CALLER);
  await control.pinPoint({ vm: VM_NAME, point: points[0], isPinned: false });
  await receiver.close();
}

interface Cycle {
  readonly diskBytes: number;
  readonly content: Content;
  readonly n: number;
  readonly pointId: Guid;
  readonly parent: Guid | undefined;
}

function idOf(n: number): Guid {
  return guid(`6f1d6b1e-0000-4000-9000-${n.toString(16).padStart(12, '0')}`);
}

async function bring(receiver: Receiver, cycle: Cycle): Promise<void> {
  const { diskBytes, content, n, pointId, parent } = cycle;
  const calls = connectDirectly(replicationService, replicationHandlers(receiver), CALLER);
  const cycleId = idOf(20 + n);
  const sectors = { logicalSectorBytes: 512, physicalSectorBytes: 4096 };
  const isBase = parent === undefined;
  await calls.open({
    ...{ vmId: guidToWire(VM), vmName: VM_NAME, cycleId: guidToWire(cycleId) },
    pointId: guidToWire(pointId),
    parentPointId: isBase ? Buffer.alloc(0) : guidToWire(parent),
    ...{ epoch: 1n, kind: isBase ? 'seed' : 'delta', definition: undefined },
    disks: [
      {
        geometry: {
          ...{ diskId: guidToWire(DISK), generation: 0, sizeBytes: BigInt(diskBytes), ...sectors },
        },
        transfer: isBase ? DiskTransfer.DISK_TRANSFER_BASE : DiskTransfer.DISK_TRANSFER_DELTA,
      },
    ],
    ...{ consistentAtMs: 1n, isApplicationConsistent: true, seededFrom: '', rpoSeconds: 0 },
    ...{ maxRestorePoints: 1, retentionGrid: '', checkpointId: `checkpoint ${n}` },
    expectedBytes: 0n,
  });
  const root = new ManifestRoot({
    ...{ kind: isBase ? 'base' : 'delta', point: pointId, parentPoint: parent ?? ZERO_GUID },
    ...{ vmId: VM, diskId: DISK, diskGeneration: 0, diskSizeBytes: diskBytes, epoch: 1n },
    ...sectors,
  });
  const random = new RandomBytes(content.seed);
  const messages = async function* (): AsyncGenerator<Buffer> {
    yield encodeBegin(VM, cycleId);
    for (let at = 0; at < content.runs.length; at += BATCH_CELLS) {
      const entries: BatchEntry[] = [];
      const parts: Buffer[] = [];
      for (const { offset } of content.runs.slice(at, at + BATCH_CELLS)) {
        const bytes = random.next(CELL_BYTES);
        const entry = { kind: 'data', cell: offset / CELL_BYTES, hash: hashCell(bytes) } as const;
        root.check(entry);
        entries.push(entry);
        parts.push(bytes);
      }
      const payload = Buffer.concat(parts);
      yield encodeBatch({ kind: 'cells', diskIndex: 0, entries, payload }, 1);
      await Promise.resolve();
    }
    yield encodeEndOfDisk(0);
  };
  const acknowledged = calls.push(messages())[Symbol.asyncIterator]();
  while ((await acknowledged.next()).done !== true) {
    // until all of it is durable
  }
  const ids = { vmId: guidToWire(VM), cycleId: guidToWire(cycleId) };
  await calls.commit({ ...ids, roots: [root.finish().root] });
}
