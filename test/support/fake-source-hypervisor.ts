// A hypervisor in memory for tests of the source agent: small disks as buffers, checkpoints as
// copies, change tracking as a list of writes. It is strict where a real one is: a checkpoint with
// open disks is not converted, a foreign object is never touched, an unknown tracking id is refused.

import { setImmediate as turn } from 'node:timers/promises';
import { assert, defined } from '../../shared/assert.js';
import { type Guid, guid } from '../../shared/bytes/index.js';
import type { Clock } from '../../shared/clock.js';
import type { Extent, ReadableDisk } from '../../shared/disk/index.js';
import { DrError } from '../../shared/errors.js';
import type {
  ByteRange,
  Checkpoint,
  CheckpointRequest,
  Fence,
  OwnerTag,
  PowerState,
  ReferencePoint,
  SourceHypervisor,
  VmDefinition,
  VmSummary,
} from '../../shared/hypervisor/index.js';

interface FakeDisk {
  readonly diskId: Guid;
  bytes: Buffer;
  readonly logicalSectorBytes: number;
  /** Writes in order; their number is the time. */
  writes: { readonly start: number; readonly end: number }[];
  unsupported?: string;
}

interface FakeVm {
  readonly id: Guid;
  name: string;
  powerState: PowerState;
  disks: FakeDisk[];
}

interface Frozen {
  readonly checkpoint: Checkpoint;
  readonly disks: Map<Guid, { readonly bytes: Buffer; readonly time: number }>;
  openCount: number;
}

export function testGuid(number: number): Guid {
  return guid(`00000000-0000-4000-8000-${number.toString(16).padStart(12, '0')}`);
}

export class FakeSourceHypervisor implements SourceHypervisor {
  readonly name = 'fake';
  readonly sourceCapabilities = { isTrackingPersistent: true, canQuiesce: true };
  readonly vms = new Map<Guid, FakeVm>();
  readonly checkpoints = new Map<string, Frozen>();
  readonly referencePoints = new Map<
    string,
    ReferencePoint & { readonly times: Map<Guid, number> }
  >();
  readonly fences = new Map<Guid, Fence>();
  /** Called before each verb with its name; what it throws, the verb throws. */
  onCall: (verb: string) => void | Promise<void> = () => undefined;
  /** A merge that does not end. */
  isMerging = false;
  /** Called before each read of a frozen disk. */
  onRead: (diskId: Guid, offset: number) => void | Promise<void> = () => undefined;
  /** Every verb that was called, in order. */
  readonly calls: string[] = [];
  readonly #clock: Clock;
  #nextId = 1;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  addVm(number: number, name: string, diskSizes: readonly number[]): FakeVm {
    const vm: FakeVm = { id: testGuid(number), name, powerState: 'running', disks: [] };
    this.vms.set(vm.id, vm);
    for (const [index, size] of diskSizes.entries()) this.addDisk(vm, number * 256 + index, size);
    return vm;
  }

  addDisk(vm: FakeVm, number: number, sizeBytes: number): FakeDisk {
    const disk: FakeDisk = {
      diskId: testGuid(0x1000000 + number),
      bytes: Buffer.alloc(sizeBytes),
      logicalSectorBytes: 512,
      writes: [],
    };
    vm.disks.push(disk);
    return disk;
  }

  /** A write of the guest. */
  write(vm: FakeVm, diskIndex: number, offset: number, bytes: Uint8Array): void {
    const disk = defined(vm.disks[diskIndex], 'the disk exists');
    assert(offset + bytes.length <= disk.bytes.length, 'guests write inside their disks');
    disk.bytes.set(bytes, offset);
    disk.writes.push({ start: offset, end: offset + bytes.length });
  }

  resize(vm: FakeVm, diskIndex: number, sizeBytes: number): void {
    const disk = defined(vm.disks[diskIndex], 'the disk exists');
    const bytes = Buffer.alloc(sizeBytes);
    disk.bytes.copy(bytes);
    disk.bytes = bytes;
    this.breakTracking();
  }

  /** All tracking ids become invalid, as after an offline edit. */
  breakTracking(): void {
    for (const [id, point] of this.referencePoints) {
      this.referencePoints.set(id, { ...point, times: new Map() });
    }
  }

  async listVms(): Promise<readonly VmSummary[]> {
    await this.#enter('listVms');
    return [...this.vms.values()]
      .map(({ id, name, powerState }) => ({ id, name, powerState }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  async describeVm(vmId: Guid): Promise<VmDefinition> {
    await this.#enter('describeVm');
    const vm = this.#vm(vmId);
    return {
      id: vm.id,
      name: vm.name,
      generation: 2,
      cpuCount: 2,
      memoryBytes: 2 ** 31,
      isAutoStart: false,
      disks: vm.disks.map((disk, index) => ({
        diskId: disk.diskId,
        controller: 'scsi',
        controllerNumber: 0,
        controllerLocation: index,
        sizeBytes: disk.bytes.length,
        logicalSectorBytes: disk.logicalSectorBytes,
        physicalSectorBytes: 4096,
        path: `/fake/${vm.name}-${index}.vhdx`,
        unsupported: disk.unsupported,
      })),
      adapters: [],
    };
  }

  async createCheckpoint(vmId: Guid, request: CheckpointRequest): Promise<Checkpoint> {
    await this.#enter(`createCheckpoint ${request.consistency}`);
    const vm = this.#vm(vmId);
    const id = `checkpoint-${this.#nextId++}`;
    const checkpoint: Checkpoint = {
      id,
      vmId,
      createdAtMs: this.#clock.now(),
      consistency: request.consistency,
      tag: request.tag,
      disks: vm.disks.map((disk) => ({
        diskId: disk.diskId,
        sizeBytes: disk.bytes.length,
        logicalSectorBytes: disk.logicalSectorBytes,
        physicalSectorBytes: 4096,
      })),
    };
    const disks = new Map(
      vm.disks.map((disk) => [
        disk.diskId,
        { bytes: Buffer.from(disk.bytes), time: disk.writes.length },
      ]),
    );
    this.checkpoints.set(id, { checkpoint, disks, openCount: 0 });
    await this.#enter('createCheckpoint done');
    return checkpoint;
  }

  async listCheckpoints(vmId: Guid): Promise<readonly Checkpoint[]> {
    await this.#enter('listCheckpoints');
    return [...this.checkpoints.values()]
      .map(({ checkpoint }) => checkpoint)
      .filter((checkpoint) => checkpoint.vmId === vmId);
  }

  async removeCheckpoint(_vmId: Guid, checkpointId: string): Promise<void> {
    await this.#enter('removeCheckpoint');
    this.#requireClosed(checkpointId);
    this.checkpoints.delete(checkpointId);
  }

  async convertToReferencePoint(vmId: Guid, checkpointId: string): Promise<ReferencePoint> {
    await this.#enter('convertToReferencePoint');
    const frozen = this.checkpoints.get(checkpointId);
    if (frozen === undefined) throw new DrError('E_NOT_FOUND', `no checkpoint ${checkpointId}`);
    this.#requireClosed(checkpointId);
    this.checkpoints.delete(checkpointId);
    const id = `reference-${this.#nextId++}`;
    const point = {
      id,
      vmId,
      createdAtMs: frozen.checkpoint.createdAtMs,
      tag: frozen.checkpoint.tag,
      disks: [...frozen.disks.keys()].map((diskId) => ({ diskId, trackingId: `${id}/${diskId}` })),
      times: new Map([...frozen.disks].map(([diskId, { time }]) => [diskId, time])),
    };
    this.referencePoints.set(id, point);
    await this.#enter('convertToReferencePoint done');
    return point;
  }

  async waitForMerge(_vmId: Guid, timeoutMs: number): Promise<void> {
    await this.#enter('waitForMerge');
    if (!this.isMerging) return;
    await this.#clock.sleep(timeoutMs);
    throw new DrError('E_STALLED', `the disks did not merge in ${timeoutMs} ms`);
  }

  async listReferencePoints(vmId: Guid): Promise<readonly ReferencePoint[]> {
    await this.#enter('listReferencePoints');
    return [...this.referencePoints.values()].filter((point) => point.vmId === vmId);
  }

  async removeReferencePoint(_vmId: Guid, referencePointId: string): Promise<void> {
    await this.#enter('removeReferencePoint');
    this.referencePoints.delete(referencePointId);
  }

  async openCheckpointDisk(_vmId: Guid, checkpointId: string, diskId: Guid): Promise<ReadableDisk> {
    await this.#enter('openCheckpointDisk');
    const frozen = this.checkpoints.get(checkpointId);
    const disk = frozen?.disks.get(diskId);
    if (frozen === undefined || disk === undefined) {
      throw new DrError('E_NOT_FOUND', `no disk ${diskId} in ${checkpointId}`);
    }
    frozen.openCount++;
    let isOpen = true;
    const { bytes } = disk;
    return {
      sizeBytes: bytes.length,
      logicalSectorBytes: 512,
      physicalSectorBytes: 4096,
      read: async (offset, target) => {
        await this.onRead(diskId, offset);
        await turn();
        if (!isOpen || !this.checkpoints.has(checkpointId)) {
          throw new DrError('E_IO', `${checkpointId} is gone`);
        }
        bytes.copy(target, 0, offset, offset + target.length);
      },
      extents: (start, end) => sectorExtents(bytes, start, end),
      close: () => {
        if (isOpen) frozen.openCount--;
        isOpen = false;
        return Promise.resolve();
      },
    };
  }

  async *changedRanges(
    vmId: Guid,
    checkpointId: string,
    diskId: Guid,
    trackingId: string,
  ): AsyncGenerator<ByteRange> {
    await this.#enter('changedRanges');
    const disk = this.#vm(vmId).disks.find((other) => other.diskId === diskId);
    const until = this.checkpoints.get(checkpointId)?.disks.get(diskId)?.time;
    const [pointId = ''] = trackingId.split('/');
    const since = this.referencePoints.get(pointId)?.times.get(diskId);
    if (disk === undefined || until === undefined || since === undefined) {
      throw new DrError('E_TRACKING_INVALID', `${trackingId} is not known`);
    }
    const ranges = disk.writes.slice(since, until).sort((a, b) => a.start - b.start);
    let position = 0;
    for (const { start, end } of ranges) {
      const from = Math.max(position, start - (start % 4096));
      const to = Math.min(disk.bytes.length, Math.ceil(end / 4096) * 4096);
      if (from >= to) continue;
      yield { start: from, end: to };
      position = to;
    }
  }

  async *rangesAbove(
    _vmId: Guid,
    _checkpointId: string,
    diskId: Guid,
    ancestorPath: string,
  ): AsyncGenerator<ByteRange> {
    await this.#enter('rangesAbove');
    yield* [];
    throw new DrError('E_NOT_FOUND', `disk ${diskId} of the fake has no file ${ancestorPath}`);
  }

  async fenceVm(vmId: Guid, fence: Fence): Promise<void> {
    await this.#enter('fenceVm');
    const vm = this.#vm(vmId);
    if (vm.powerState !== 'off') throw new DrError('E_STATE', `${vm.name} is not off`);
    this.fences.set(vmId, fence);
  }

  async unfenceVm(vmId: Guid): Promise<void> {
    await this.#enter('unfenceVm');
    this.fences.delete(vmId);
  }

  async fenceOf(vmId: Guid): Promise<Fence | undefined> {
    await this.#enter('fenceOf');
    return this.fences.get(vmId);
  }

  async startVm(vmId: Guid): Promise<void> {
    await this.#enter('startVm');
    const vm = this.#vm(vmId);
    if (this.fences.has(vmId)) throw new DrError('E_FENCED', `${vm.name} is fenced`);
    vm.powerState = 'running';
  }

  async shutDownVm(vmId: Guid): Promise<void> {
    await this.#enter('shutDownVm');
    this.#vm(vmId).powerState = 'off';
  }

  async turnOffVm(vmId: Guid): Promise<void> {
    await this.#enter('turnOffVm');
    this.#vm(vmId).powerState = 'off';
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** A recovery checkpoint of another product. */
  addForeignCheckpoint(vm: FakeVm, tag?: OwnerTag): string {
    const id = `foreign-${this.#nextId++}`;
    const checkpoint: Checkpoint = {
      id,
      vmId: vm.id,
      createdAtMs: 0,
      consistency: 'crash',
      tag,
      disks: [],
    };
    this.checkpoints.set(id, { checkpoint, disks: new Map(), openCount: 0 });
    return id;
  }

  /** The process that had disks open died: the system closed them. */
  closeHandles(): void {
    for (const frozen of this.checkpoints.values()) frozen.openCount = 0;
  }

  #vm(vmId: Guid): FakeVm {
    const vm = this.vms.get(vmId);
    if (vm === undefined) throw new DrError('E_NOT_FOUND', `no VM ${vmId}`);
    return vm;
  }

  #requireClosed(checkpointId: string): void {
    if ((this.checkpoints.get(checkpointId)?.openCount ?? 0) === 0) return;
    throw new DrError('E_CHECKPOINT', `a disk of ${checkpointId} is open`);
  }

  async #enter(verb: string): Promise<void> {
    this.calls.push(verb);
    await turn();
    await this.onCall(verb);
  }
}

/** Extents as a real disk knows them: 4 KiB units that hold data, and those that do not. */
async function* sectorExtents(bytes: Buffer, start: number, end: number): AsyncGenerator<Extent> {
  await turn();
  const unit = 4096;
  let open: Extent | undefined;
  for (let at = start; at < end;) {
    const next = Math.min(end, at - (at % unit) + unit);
    const kind = bytes.subarray(at, next).every((byte) => byte === 0) ? 'zero' : 'data';
    if (open?.kind === kind) open = { ...open, end: next };
    else {
      if (open !== undefined) yield open;
      open = { start: at, end: next, kind };
    }
    at = next;
  }
  if (open !== undefined) yield open;
}

export type { FakeDisk, FakeVm };
