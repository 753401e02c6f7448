// The receiver's side of the protocol, as simply as it can be: points are whole copies in memory.
// It refuses what a real receiver refuses (order, hashes, roots, a parent that is not the head, a
// cycle that goes on with another checkpoint), so that a wrong replica shows at once. Faults are
// switches.

import { defined } from '../../shared/assert.js';
import { type Guid, guidFromWire, guidToWire, ZERO_GUID } from '../../shared/bytes/index.js';
import {
  type CommitResponse,
  type DescribeResponse,
  type DiskGeometry,
  DiskTransfer,
  type Handlers,
  type OpenRequest,
  type OpenResponse,
  ProtectionState,
  type PushResponse,
  type RepairRequest,
  type RepairResponse,
  type ReplicationService,
  type WantedCell,
  type WantedResponse,
} from '../../shared/channel/index.js';
import {
  CELL_BYTES,
  cellCount,
  encodeManifestRecord,
  hashCell,
  MANIFEST_RECORD_BYTES,
  ManifestRoot,
  parseBatch,
} from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';

interface StagedDisk {
  readonly geometry: DiskGeometry;
  readonly transfer: DiskTransfer;
  /** undefined: the cell reads as zeros. */
  readonly cells: Map<number, Buffer | undefined>;
  nextCell: number;
  isComplete: boolean;
}

interface Cycle {
  readonly id: string;
  readonly request: OpenRequest;
  readonly disks: StagedDisk[];
}

export interface NaivePoint {
  readonly id: Guid;
  readonly cycleId: string;
  readonly parent: Guid | undefined;
  readonly kind: string;
  readonly disks: readonly { readonly geometry: DiskGeometry; readonly bytes: Buffer }[];
  readonly answer: CommitResponse;
}

interface Protection {
  points: NaivePoint[];
  open: Cycle | undefined;
  /** The newest unfinished cycle, whose cells may be used again. */
  unfinished: Cycle | undefined;
}

const broken = (): DrError => new DrError('E_CHANNEL', 'the connection was cut by the test');

export class NaiveReceiver {
  readonly storeId: Buffer;
  epoch = 1n;
  state: ProtectionState | undefined;
  /** Push messages after which the connection breaks; counts down. */
  breakAfterMessages = Number.POSITIVE_INFINITY;
  /** What of a broken push is durable: messages before the break, less this many cells. */
  lostCells = 0;
  /** How many commits lose their answer after they took effect. */
  loseCommitAnswers = 0;
  /** How many commits fail before they take effect. */
  failCommits = 0;
  /** Called at the beginning of each method. */
  onCall: (method: string) => void | Promise<void> = () => undefined;
  /** Cells that rotted; a repair with the right bytes takes one away. */
  readonly wantedCells: WantedCell[] = [];
  lostDiskIds: Buffer[] = [];
  messageCount = 0;
  payloadBytes = 0;
  reusedCells = 0;
  readonly protections = new Map<string, Protection>();

  constructor(storeId: Guid) {
    this.storeId = guidToWire(storeId);
  }

  points(vmId: Guid): readonly NaivePoint[] {
    return this.protections.get(guidToWire(vmId).toString('hex'))?.points ?? [];
  }

  head(vmId: Guid): NaivePoint | undefined {
    return this.points(vmId).at(-1);
  }

  get handlers(): Handlers<ReplicationService> {
    return {
      describe: async ({ vmId }) => {
        await this.onCall('describe');
        return this.#describe(vmId);
      },
      open: async (request) => {
        await this.onCall('open');
        return this.#open(request);
      },
      push: (requests) => this.#push(requests),
      commit: async ({ vmId, cycleId, roots }) => {
        await this.onCall('commit');
        if (this.failCommits > 0) {
          this.failCommits--;
          throw broken();
        }
        const answer = this.#commit(vmId, cycleId, roots);
        if (this.loseCommitAnswers > 0) {
          this.loseCommitAnswers--;
          throw broken();
        }
        return answer;
      },
      hashes: (request) => this.#hashes(request),
      abandon: async () => {
        await this.onCall('abandon');
        return {};
      },
      wanted: () => this.#wanted(),
      repair: (messages) => this.#repair(messages),
    };
  }

  async *#wanted(): AsyncGenerator<WantedResponse> {
    await this.onCall('wanted');
    yield { cells: [...this.wantedCells] };
  }

  async #repair(messages: AsyncIterable<RepairRequest>): Promise<RepairResponse> {
    await this.onCall('repair');
    let repairedCount = 0;
    let refusedCount = 0;
    for await (const { diskId, cell, data } of messages) {
      const isIt = (one: WantedCell): boolean =>
        one.diskId.equals(diskId) && one.cell === cell && one.hash.equals(hashCell(data));
      const found = this.wantedCells.findIndex(isIt);
      if (found < 0) {
        refusedCount++;
        continue;
      }
      this.wantedCells.splice(found, 1);
      repairedCount++;
    }
    return { repairedCount, refusedCount };
  }

  #protection(vmId: Buffer): Protection {
    const key = vmId.toString('hex');
    let protection = this.protections.get(key);
    if (protection === undefined) {
      protection = { points: [], open: undefined, unfinished: undefined };
      this.protections.set(key, protection);
    }
    return protection;
  }

  #describe(vmId: Buffer): DescribeResponse {
    const { points, open, unfinished } = this.#protection(vmId);
    const head = points.at(-1);
    const reusable = open ?? unfinished;
    const known = head === undefined ? 'UNPROTECTED' : 'PROTECTED';
    return {
      storeId: this.storeId,
      state: this.state ?? ProtectionState[`PROTECTION_STATE_${known}`],
      epoch: this.epoch,
      headPointId: head === undefined ? Buffer.alloc(0) : guidToWire(head.id),
      disks: head?.disks.map(({ geometry }) => geometry) ?? [],
      earlierDisks: [],
      isSourceActive: false,
      unfinished:
        reusable === undefined
          ? undefined
          : {
              cycleId: Buffer.from(reusable.id, 'hex'),
              disks: reusable.disks.map(({ geometry }) => geometry),
            },
      pointIds: points.slice(-64).map(({ id }) => guidToWire(id)),
      wantedCellCount: BigInt(this.wantedCells.length),
      lostDiskIds: this.lostDiskIds,
    };
  }

  #open(request: OpenRequest): OpenResponse {
    const protection = this.#protection(request.vmId);
    const id = request.cycleId.toString('hex');
    const committed = protection.points.find((point) => point.cycleId === id);
    if (committed !== undefined)
      return { outcome: { $case: 'committed', value: committed.answer } };
    if (request.epoch !== this.epoch) throw new DrError('E_STALE_EPOCH', 'another epoch');
    const head = protection.points.at(-1);
    const wanted = head === undefined ? Buffer.alloc(0) : guidToWire(head.id);
    if (!request.parentPointId.equals(wanted)) {
      return { outcome: { $case: 'parentRefused', value: this.#describe(request.vmId) } };
    }
    let cycle = protection.open;
    if (cycle?.id === id) {
      if (cycle.request.checkpointId !== request.checkpointId) {
        throw new DrError('E_PROTOCOL', 'a cycle goes on with another checkpoint');
      }
    } else {
      protection.unfinished = cycle ?? protection.unfinished;
      cycle = { id, request, disks: request.disks.map(stage) };
      protection.open = cycle;
    }
    const positions = cycle.disks.map(({ nextCell, isComplete }) => ({
      nextCell: BigInt(nextCell),
      isComplete,
    }));
    return { outcome: { $case: 'accepted', value: { positions } } };
  }

  async *#push(requests: AsyncIterable<Buffer>): AsyncGenerator<PushResponse> {
    await this.onCall('push');
    let protection: Protection | undefined;
    for await (const bytes of requests) {
      await this.onCall('message');
      const message = parseBatch(bytes);
      if (message.kind === 'begin') {
        protection = this.#protection(guidToWire(message.vmId));
        if (protection.open?.id !== guidToWire(message.cycleId).toString('hex')) {
          throw new DrError('E_STATE', 'no such cycle is open');
        }
        continue;
      }
      const cycle = protection?.open;
      if (protection === undefined || cycle === undefined) {
        throw new DrError('E_PROTOCOL', 'a stream without its beginning');
      }
      const disk = cycle.disks[message.diskIndex];
      if (disk === undefined) throw new DrError('E_PROTOCOL', 'no such disk');
      if (this.messageCount >= this.breakAfterMessages) {
        this.breakAfterMessages = Number.POSITIVE_INFINITY;
        this.#lose(disk);
        throw broken();
      }
      this.messageCount++;
      if (message.kind === 'end') disk.isComplete = true;
      else this.#take(disk, message.entries, message.payload, protection);
      yield {
        diskIndex: message.diskIndex,
        durableCell: BigInt(disk.nextCell),
        isComplete: disk.isComplete,
      };
    }
  }

  #lose(disk: StagedDisk): void {
    const keep = Math.max(0, disk.nextCell - this.lostCells);
    for (const cell of disk.cells.keys()) if (cell >= keep) disk.cells.delete(cell);
    disk.nextCell = keep;
  }

  #take(
    disk: StagedDisk,
    entries: Extract<ReturnType<typeof parseBatch>, { kind: 'cells' }>['entries'],
    payload: Buffer,
    protection: Protection,
  ): void {
    const sizeBytes = Number(disk.geometry.sizeBytes);
    let at = 0;
    this.payloadBytes += payload.length;
    for (const entry of entries) {
      if (disk.isComplete || entry.cell < disk.nextCell) {
        throw new DrError('E_PROTOCOL', `cell ${entry.cell} is out of order`);
      }
      if (entry.kind === 'zero') {
        for (let i = 0; i < entry.count; i++) disk.cells.set(entry.cell + i, undefined);
        disk.nextCell = entry.cell + entry.count;
        continue;
      }
      const length = Math.min(CELL_BYTES, sizeBytes - entry.cell * CELL_BYTES);
      let bytes: Buffer | undefined;
      if (entry.kind === 'reuse') {
        this.reusedCells++;
        bytes = protection.unfinished?.disks
          .find(({ geometry }) => geometry.diskId.equals(disk.geometry.diskId))
          ?.cells.get(entry.cell);
      } else {
        bytes = Buffer.from(payload.subarray(at, at + length));
        at += length;
      }
      if (bytes?.length !== length || !hashCell(bytes).equals(entry.hash)) {
        throw new DrError('E_DELTA_HASH', `cell ${entry.cell} has another hash`);
      }
      disk.cells.set(entry.cell, bytes);
      disk.nextCell = entry.cell + 1;
    }
    if (at !== payload.length) throw new DrError('E_PROTOCOL', 'payload is left over');
    if (disk.nextCell > cellCount(sizeBytes)) throw new DrError('E_PROTOCOL', 'beyond the disk');
  }

  #commit(vmId: Buffer, cycleId: Buffer, roots: readonly Buffer[]): CommitResponse {
    const protection = this.#protection(vmId);
    const id = cycleId.toString('hex');
    const known = protection.points.find((point) => point.cycleId === id);
    if (known !== undefined) return known.answer;
    const cycle = protection.open;
    if (cycle?.id !== id) throw new DrError('E_STATE', 'no such cycle is open');
    const head = protection.points.at(-1);
    const disks = cycle.disks.map((disk, index) => {
      if (!disk.isComplete) throw new DrError('E_STATE', 'a disk is not complete');
      const root = rootOf(disk, cycle.request);
      if (roots[index]?.equals(root) !== true) {
        throw new DrError('E_DELTA_MANIFEST', `the roots of disk ${index} differ`);
      }
      return { geometry: disk.geometry, bytes: applied(disk, head) };
    });
    const pointId = defined(guidFromWire(cycle.request.pointId), 'a point id');
    const answer: CommitResponse = {
      pointId: cycle.request.pointId,
      committedAtMs: 0n,
      pointCount: protection.points.length + 1,
      warnings: [],
      hasRaisedAlarm: false,
    };
    const { kind } = cycle.request;
    protection.points.push({ id: pointId, cycleId: id, parent: head?.id, kind, disks, answer });
    protection.open = undefined;
    protection.unfinished = undefined;
    return answer;
  }

  async *#hashes(
    request: Parameters<Handlers<ReplicationService>['hashes']>[0],
  ): AsyncGenerator<{ records: Buffer }> {
    await this.onCall('hashes');
    const protection = this.#protection(request.vmId);
    const { of } = request;
    if (of === undefined) throw new DrError('E_PROTOCOL', 'hashes of what?');
    const cells: [number, Buffer][] = [];
    if (of.$case === 'pointId') {
      const point = protection.points.find(({ id }) => guidToWire(id).equals(of.value));
      const disk = point?.disks.find(
        ({ geometry }) =>
          geometry.diskId.equals(request.diskId) && geometry.generation === request.generation,
      );
      if (disk === undefined) throw new DrError('E_NO_POINT', 'no such point or disk');
      for (let cell = 0; cell < cellCount(disk.bytes.length); cell++) {
        const bytes = disk.bytes.subarray(cell * CELL_BYTES, (cell + 1) * CELL_BYTES);
        if (!isZero(bytes)) cells.push([cell, hashCell(bytes)]);
      }
    } else {
      const cycle = [protection.open, protection.unfinished].find(
        (other) => other?.id === of.value.toString('hex'),
      );
      const disk = cycle?.disks.find(({ geometry }) => geometry.diskId.equals(request.diskId));
      if (disk === undefined) throw new DrError('E_STATE', 'no such cycle or disk');
      for (const [cell, bytes] of disk.cells) {
        if (bytes !== undefined) cells.push([cell, hashCell(bytes)]);
      }
    }
    for (const [cell, hash] of cells) {
      const records = Buffer.alloc(MANIFEST_RECORD_BYTES);
      encodeManifestRecord({ kind: 'data', cell, hash }, records, 0);
      yield { records };
    }
  }
}

function stage(disk: OpenRequest['disks'][number]): StagedDisk {
  return {
    geometry: defined(disk.geometry, 'a disk has a shape'),
    transfer: disk.transfer,
    cells: new Map(),
    nextCell: 0,
    isComplete: false,
  };
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}

function rootOf(disk: StagedDisk, request: OpenRequest): Buffer {
  const { geometry } = disk;
  const isBase = disk.transfer === DiskTransfer.DISK_TRANSFER_BASE;
  const parent = guidFromWire(request.parentPointId);
  const root = new ManifestRoot({
    kind: isBase ? 'base' : 'delta',
    point: defined(guidFromWire(request.pointId), 'a point id'),
    parentPoint: isBase ? ZERO_GUID : (parent ?? ZERO_GUID),
    vmId: defined(guidFromWire(request.vmId), 'a VM id'),
    diskId: defined(guidFromWire(geometry.diskId), 'a disk id'),
    diskGeneration: geometry.generation,
    diskSizeBytes: Number(geometry.sizeBytes),
    logicalSectorBytes: geometry.logicalSectorBytes,
    physicalSectorBytes: geometry.physicalSectorBytes,
    epoch: request.epoch,
  });
  const check = (wrong: string | undefined): void => {
    if (wrong !== undefined) throw new DrError('E_PROTOCOL', wrong);
  };
  let run: { cell: number; count: number } | undefined;
  const endRun = (): void => {
    if (run !== undefined) check(root.check({ kind: 'zero', ...run }));
    run = undefined;
  };
  for (const [cell, bytes] of disk.cells) {
    if (bytes === undefined) {
      if (run !== undefined && run.cell + run.count === cell) run.count++;
      else {
        endRun();
        run = { cell, count: 1 };
      }
    } else {
      endRun();
      check(root.check({ kind: 'data', cell, hash: hashCell(bytes) }));
    }
  }
  endRun();
  return root.finish().root;
}

function applied(disk: StagedDisk, head: NaivePoint | undefined): Buffer {
  const { geometry } = disk;
  const bytes = Buffer.alloc(Number(geometry.sizeBytes));
  if (disk.transfer !== DiskTransfer.DISK_TRANSFER_BASE) {
    const before = head?.disks.find(({ geometry: other }) => other.diskId.equals(geometry.diskId));
    if (before?.geometry.generation !== geometry.generation) {
      throw new DrError('E_STATE', 'a delta of a disk that the head does not have');
    }
    before.bytes.copy(bytes);
  }
  for (const [cell, content] of disk.cells) {
    const start = cell * CELL_BYTES;
    if (content === undefined) bytes.fill(0, start, Math.min(bytes.length, start + CELL_BYTES));
    else content.copy(bytes, start);
  }
  return bytes;
}
