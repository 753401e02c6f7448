// DR stores made in this process by a source of random bytes: one with points to choose from, and one
// whose base is no point's any more, a seed and one delta of ten days ago, of which a receiver keeps the
// newest only.

import { controlHandlers, Receiver, replicationHandlers } from '../dr-receiver/index.js';
import { defined } from '../shared/assert.js';
import { type Guid, guid, guidFromWire, guidToWire, ZERO_GUID } from '../shared/bytes/index.js';
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
export interface Content {
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
  await makeStore(folder, diskBytes, [base, delta], { clock: behind, maxRestorePoints: 1 });
}

/** A store with a point for each content, the base first; none is pinned. Durable. */
export async function makeStore(
  folder: string,
  diskBytes: number,
  contents: readonly Content[],
  { clock, maxRestorePoints }: { readonly clock: Clock; readonly maxRestorePoints: number },
): Promise<void> {
  const receiver = await Receiver.open({
    ...{ fs: nodeFileSystem, clock, random: systemRandom, log: silentLog },
    storeFolder: folder,
  });
  let parent: Guid | undefined;
  for (const [index, content] of contents.entries()) {
    const n = index + 1;
    const pointId = idOf(10 + n);
    await bring(receiver, { diskBytes, content, n, pointId, parent, maxRestorePoints });
    parent = pointId;
  }
  // a delta of more than a quarter of the disk pins the point before it
  const control = connectDirectly(controlService, controlHandlers(receiver), CALLER);
  const { points } = await control.listPoints({ vm: VM_NAME });
  for (const { pointId } of points) {
    const point = defined(guidFromWire(pointId), 'a point has an id');
    await control.pinPoint({ vm: VM_NAME, point, isPinned: false });
  }
  await receiver.close();
}

interface Cycle {
  readonly diskBytes: number;
  readonly content: Content;
  readonly n: number;
  readonly pointId: Guid;
  readonly parent: Guid | undefined;
  readonly maxRestorePoints: number;
}

function idOf(n: number): Guid {
  return guid(`6f1d6b1e-0000-4000-9000-${n.toString(16).padStart(12, '0')}`);
}

async function bring(receiver: Receiver, cycle: Cycle): Promise<void> {
  const { diskBytes, content, n, pointId, parent, maxRestorePoints } = cycle;
  const calls = connectDirectly(replicationService, replicationHandlers(receiver), CALLER);
  const cycleId = idOf(0x100 + n);
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
    ...{ maxRestorePoints, retentionGrid: '', checkpointId: `checkpoint ${n}` },
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
