// A source of cycles for the receiver's tests: a VM whose disks are plain buffers, the calls that a
// source makes, and what a reader of the store must see. Knows the protocol and nothing of the store.

import { expect } from 'chai';
import {
  type Guid,
  guid,
  guidFromWire,
  guidToWire,
  ZERO_GUID,
} from '../../../shared/bytes/index.js';
import {
  type Caller,
  type CommitResponse,
  connectDirectly,
  type ControlService,
  controlService,
  DiskTransfer,
  type OpenRequest,
  type OpenResponse,
  type PushResponse,
  type ReplicationService,
  replicationService,
  type ServiceClient,
} from '../../../shared/channel/index.js';
import {
  type BatchEntry,
  CELL_BYTES,
  cellCount,
  cellLength,
  encodeBatch,
  encodeBegin,
  encodeEndOfDisk,
  hashCell,
  type ManifestHeader,
  ManifestRoot,
} from '../../../shared/delta/index.js';
import { isAllZero } from '../../../shared/disk/index.js';
import type { FileSystem } from '../../../shared/files/index.js';
import { silentLog } from '../../../shared/log.js';
import { controlHandlers, Receiver, replicationHandlers } from '../../../dr-receiver/index.js';
import type { ReceiverOptions, ReceiverPolicy, SeedAccess } from '../../../dr-receiver/index.js';
import { FakeClock } from '../../support/fake-clock.js';
import { SeededRandom } from '../../support/seeded-random.js';

export const STORE = '/store';

export function id(n: number): Guid {
  return guid(`00000000-0000-4000-9000-${n.toString(16).padStart(12, '0')}`);
}

export function caller(
  principal: string,
  role: Caller['role'] = 'source',
  vmPattern = '*',
): Caller {
  return { principal, keyId: `${principal}-key`, role, vmPattern, address: '192.0.2.1' };
}

export const SOURCE = caller('site-a');
export const OPERATOR = caller('operator', 'operator');

/** The services of a receiver, in process or over a network. */
export interface Services {
  replication(as?: Caller): ServiceClient<ReplicationService>;
  control(as?: Caller): ServiceClient<ControlService>;
}

export interface Site extends Services {
  readonly receiver: Receiver;
  readonly clock: FakeClock;
}

let siteCount = 0;

export async function openSite(
  fs: FileSystem,
  options: {
    clock?: FakeClock;
    seed?: number;
    policy?: ReceiverPolicy;
    seedAccess?: SeedAccess;
    reclaim?: ReceiverOptions['reclaim'];
    isLazy?: boolean;
    rewriteAboveBytes?: number;
    failover?: ReceiverOptions['failover'];
  } = {},
): Promise<Site> {
  // each process draws other names, as real ones do
  const {
    clock = new FakeClock(),
    seed = ++siteCount,
    policy,
    seedAccess,
    reclaim,
    isLazy = false,
    rewriteAboveBytes,
    failover,
  } = options;
  const receiver = await Receiver.open({
    fs,
    clock,
    random: new SeededRandom(seed),
    log: silentLog,
    storeFolder: STORE,
    policy,
    rewriteAboveBytes,
    seedAccess,
    reclaim,
    failover,
  });
  // all of them, so that a test meets the same order of calls each time
  if (!isLazy) await receiver.allDesks();
  return {
    receiver,
    clock,
    replication: (as = SOURCE) =>
      connectDirectly(replicationService, replicationHandlers(receiver), as),
    control: (as = OPERATOR) => connectDirectly(controlService, controlHandlers(receiver), as),
  };
}

/** A disk of the double: all of its bytes. */
export interface SourceDisk {
  readonly diskId: Guid;
  generation: number;
  bytes: Buffer;
}

export interface CyclePlan {
  readonly cycleId: Guid;
  readonly pointId: Guid;
  readonly parentPointId: Guid | undefined;
  /** Cells to send per disk; undefined: all, as a new base. */
  readonly cells: readonly (readonly number[] | undefined)[];
  /** What is sent, frozen when the cycle was planned. */
  readonly images: readonly Buffer[];
  readonly kind?: string;
  readonly checkpointId?: string;
  readonly epoch?: bigint;
  readonly maxRestorePoints?: number;
  readonly retentionGrid?: string;
}

export class SourceVm {
  readonly vmId: Guid;
  readonly name: string;
  readonly disks: SourceDisk[];

  constructor(n: number, sizes: readonly number[], name = `VM${n}`) {
    this.vmId = id(n * 1000);
    this.name = name;
    this.disks = sizes.map((size, index) => ({
      diskId: id(n * 1000 + 1 + index),
      generation: 0,
      bytes: Buffer.alloc(size),
    }));
  }

  /** Fills a cell with bytes that follow from `seed`; 0: zeros. */
  write(disk: number, cell: number, seed: number): void {
    const bytes = this.bytes(disk);
    const end = Math.min(bytes.length, (cell + 1) * CELL_BYTES);
    const part = bytes.subarray(cell * CELL_BYTES, end);
    if (seed === 0) part.fill(0);
    else new SeededRandom(seed).fill(part);
  }

  bytes(disk: number): Buffer {
    const found = this.disks[disk];
    if (found === undefined) throw new Error(`no disk ${disk}`);
    return found.bytes;
  }

  plan(
    n: number,
    parentPointId: Guid | undefined,
    cells: readonly (readonly number[] | undefined)[],
    more: Partial<CyclePlan> = {},
  ): CyclePlan {
    return {
      cycleId: id(0x10000 + n),
      pointId: id(0x20000 + n),
      parentPointId,
      cells,
      images: this.disks.map(({ bytes }) => Buffer.from(bytes)),
      ...more,
    };
  }

  openRequest(plan: CyclePlan): OpenRequest {
    return {
      vmId: guidToWire(this.vmId),
      vmName: this.name,
      cycleId: guidToWire(plan.cycleId),
      pointId: guidToWire(plan.pointId),
      parentPointId:
        plan.parentPointId === undefined ? Buffer.alloc(0) : guidToWire(plan.parentPointId),
      epoch: plan.epoch ?? 1n,
      kind: plan.kind ?? (plan.parentPointId === undefined ? 'seed' : 'delta'),
      disks: this.disks.map(({ diskId, generation, bytes }, index) => ({
        geometry: {
          diskId: guidToWire(diskId),
          generation,
          sizeBytes: BigInt(bytes.length),
          logicalSectorBytes: 512,
          physicalSectorBytes: 4096,
        },
        transfer:
          plan.cells[index] === undefined
            ? DiskTransfer.DISK_TRANSFER_BASE
            : DiskTransfer.DISK_TRANSFER_DELTA,
      })),
      definition: undefined,
      consistentAtMs: 1_760_000_000_000n,
      isApplicationConsistent: true,
      maxRestorePoints: plan.maxRestorePoints ?? 5,
      rpoSeconds: 600,
      retentionGrid: plan.retentionGrid ?? '',
      checkpointId: plan.checkpointId ?? `checkpoint of ${plan.cycleId}`,
      seededFrom: '',
      expectedBytes: 0n,
    };
  }

  #sent(plan: CyclePlan, index: number): { cells: readonly number[]; image: Buffer } {
    const image = plan.images[index] ?? Buffer.alloc(0);
    const all = Array.from({ length: cellCount(image.length) }, (_, cell) => cell);
    return { cells: plan.cells[index] ?? all, image };
  }

  /** The push messages of the whole cycle, from the positions on; `batchCells` data cells each. */
  *messages(
    plan: CyclePlan,
    positions: readonly { nextCell: bigint; isComplete: boolean }[],
    { batchCells = 4, reuse = new Set<string>() } = {},
  ): Generator<Buffer> {
    yield encodeBegin(this.vmId, plan.cycleId);
    for (const index of this.disks.keys()) {
      const position = positions[index];
      if (position?.isComplete === true) continue;
      const { cells, image } = this.#sent(plan, index);
      let entries: BatchEntry[] = [];
      let parts: Buffer[] = [];
      const message = (): Buffer => {
        const payload = Buffer.concat(parts);
        const out = encodeBatch({ kind: 'cells', diskIndex: index, entries, payload }, 1);
        entries = [];
        parts = [];
        return out;
      };
      for (const cell of cells) {
        if (BigInt(cell) < (position?.nextCell ?? 0n)) continue;
        const start = cell * CELL_BYTES;
        const bytes = image.subarray(start, start + cellLength(cell, image.length));
        if (isAllZero(bytes)) {
          entries.push({ kind: 'zero', cell, count: 1 });
        } else if (reuse.has(`${index}:${cell}`)) {
          entries.push({ kind: 'reuse', cell, hash: hashCell(bytes) });
        } else {
          entries.push({ kind: 'data', cell, hash: hashCell(bytes) });
          parts.push(bytes);
        }
        if (entries.length >= batchCells) yield message();
      }
      if (entries.length > 0) yield message();
      yield encodeEndOfDisk(index);
    }
  }

  /** The manifest header of one disk. */
  header(plan: CyclePlan, index: number): ManifestHeader {
    const { diskId = ZERO_GUID, generation = 0 } = this.disks[index] ?? {};
    const isBase = plan.cells[index] === undefined;
    return {
      kind: isBase ? 'base' : 'delta',
      point: plan.pointId,
      parentPoint: isBase ? ZERO_GUID : (plan.parentPointId ?? ZERO_GUID),
      vmId: this.vmId,
      diskId,
      diskGeneration: generation,
      diskSizeBytes: this.#sent(plan, index).image.length,
      logicalSectorBytes: 512,
      physicalSectorBytes: 4096,
      epoch: plan.epoch ?? 1n,
    };
  }

  /** What the source computes by itself and compares. */
  roots(plan: CyclePlan): Buffer[] {
    return this.disks.map((_, index) => {
      const { cells, image } = this.#sent(plan, index);
      const isBase = plan.cells[index] === undefined;
      const header = this.header(plan, index);
      const root = new ManifestRoot(header);
      let zeroCell = 0;
      let zeroCount = 0;
      const endRun = (): void => {
        if (zeroCount > 0) {
          expect(root.check({ kind: 'zero', cell: zeroCell, count: zeroCount })).to.equal(
            undefined,
          );
        }
        zeroCount = 0;
      };
      for (const cell of cells) {
        const start = cell * CELL_BYTES;
        const bytes = image.subarray(start, start + cellLength(cell, image.length));
        if (isAllZero(bytes)) {
          if (isBase) continue;
          if (zeroCount === 0 || cell !== zeroCell + zeroCount) {
            endRun();
            zeroCell = cell;
          }
          zeroCount++;
        } else {
          endRun();
          expect(root.check({ kind: 'data', cell, hash: hashCell(bytes) })).to.equal(undefined);
        }
      }
      endRun();
      return root.finish().root;
    });
  }

  async open(site: Services, plan: CyclePlan, as = SOURCE): Promise<OpenResponse> {
    return site.replication(as).open(this.openRequest(plan));
  }

  /** Pushes from `positions` on; every acknowledgement is shown to `onAck`. */
  async push(
    site: Services,
    messages: Iterable<Buffer>,
    onAck: (ack: PushResponse) => void = () => undefined,
    as = SOURCE,
  ): Promise<void> {
    const stream = (async function* (): AsyncGenerator<Buffer> {
      for (const message of messages) {
        await Promise.resolve();
        yield message;
      }
    })();
    await this.pushFrom(site, stream, onAck, as);
  }

  /** Pushes what comes, as it comes. */
  async pushFrom(
    site: Services,
    stream: AsyncIterable<Buffer>,
    onAck: (ack: PushResponse) => void = () => undefined,
    as = SOURCE,
  ): Promise<void> {
    for await (const ack of site.replication(as).push(stream)) onAck(ack);
  }

  commit(site: Services, plan: CyclePlan, as = SOURCE): Promise<CommitResponse> {
    return site.replication(as).commit({
      vmId: guidToWire(this.vmId),
      cycleId: guidToWire(plan.cycleId),
      roots: this.roots(plan),
    });
  }

  /** A whole cycle. */
  async replicate(
    site: Services,
    plan: CyclePlan,
    onAck?: (ack: PushResponse) => void,
  ): Promise<CommitResponse> {
    const { outcome } = await this.open(site, plan);
    if (outcome?.$case === 'committed') return outcome.value;
    if (outcome?.$case !== 'accepted') throw new Error(`the cycle was refused: ${outcome?.$case}`);
    await this.push(site, this.messages(plan, outcome.value.positions), onAck);
    return this.commit(site, plan);
  }
}

/** All bytes of a disk as of a point, as an operator reads them. */
export async function readPoint(
  site: Services,
  vm: string,
  point: string,
  diskIndex: number,
): Promise<Buffer> {
  let out = Buffer.alloc(0);
  for await (const { part } of site.control().readDisk({ vm, point, diskIndex })) {
    if (part?.$case === 'geometry') out = Buffer.alloc(Number(part.value.sizeBytes));
    else if (part?.$case === 'bytes') part.value.data.copy(out, Number(part.value.offset));
  }
  return out;
}

export async function pointIds(site: Services, vm: string): Promise<Guid[]> {
  const { points } = await site.control().listPoints({ vm });
  return points.map(({ pointId }) => guidFromWire(pointId) ?? ZERO_GUID);
}

/** Expects the bytes of each disk at a point, and says where they differ. */
export async function expectPoint(site: Services, vm: SourceVm, plan: CyclePlan): Promise<void> {
  for (const [index, image] of plan.images.entries()) {
    const found = await readPoint(site, vm.name, plan.pointId, index);
    expect(found.length).to.equal(image.length);
    for (let cell = 0; cell * CELL_BYTES < image.length; cell++) {
      const start = cell * CELL_BYTES;
      const end = start + cellLength(cell, image.length);
      const isEqual = found.subarray(start, end).equals(image.subarray(start, end));
      expect(isEqual, `point ${plan.pointId}, disk ${index}, cell ${cell}`).to.equal(true);
    }
  }
}

/** A VM with two disks, one of an odd size, some cells written, and the plan of its first cycle. */
export function twoDiskVm(): { readonly vm: SourceVm; readonly seed: CyclePlan } {
  const vm = new SourceVm(1, [40 * CELL_BYTES, 9 * CELL_BYTES + 512]);
  for (const cell of [0, 1, 2, 17, 39]) vm.write(0, cell, cell + 1);
  for (const cell of [0, 8, 9]) vm.write(1, cell, cell + 101);
  return { vm, seed: vm.plan(1, undefined, [undefined, undefined]) };
}

export function journalPath({ vmId }: SourceVm): string {
  return `${STORE}/vms/${vmId}/journal`;
}
