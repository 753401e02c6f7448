// A hypervisor of the simulated world: VMs whose guests write on while they are replicated, change
// tracking that reports too much and can become invalid, checkpoints that survive the process that
// made them. Strict where a real one is: a checkpoint with open disks is not converted, an unknown
// tracking id is refused, and only one reference point knows each moment.

import { type Guid, guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type {
  ByteRange,
  Checkpoint,
  CheckpointRequest,
  OwnerTag,
  ReferencePoint,
  SourceHypervisor,
} from '../../shared/hypervisor/index.js';
import { type FrozenDisk, GuestDisk, rangesSince, readable } from './guest-disk.js';
import type { Scheduler, SimulatedProcess } from './scheduler.js';

const LATENCY_MS = 20;
const GEOMETRY = { logicalSectorBytes: 512, physicalSectorBytes: 4096 } as const;

export function simulatedGuid(kind: number, number: number): Guid {
  const text = (value: number, digits: number): string =>
    value.toString(16).padStart(digits, '0').slice(-digits);
  return guid(`00000000-0000-4000-${text(0x8000 + kind, 4)}-${text(number, 12)}`);
}

export interface Vm {
  readonly id: Guid;
  readonly name: string;
  disks: GuestDisk[];
}

export interface Frozen {
  readonly checkpoint: Checkpoint;
  readonly disks: ReadonlyMap<Guid, FrozenDisk>;
  readonly trackingEpochs: ReadonlyMap<Guid, number>;
  readonly atTime: number;
  openCount: number;
}

export interface Reference {
  readonly point: ReferencePoint;
  readonly frozen: Frozen;
}

/** Faults that the next calls meet. */
export interface HostFaults {
  /** The guest would not quiesce. */
  refuseConsistency: number;
  failCheckpoint: number;
  failConvert: number;
  failRemoveReference: number;
}

export class Host {
  readonly vms: Vm[] = [];
  readonly checkpoints = new Map<string, Frozen>();
  readonly references = new Map<string, Reference>();
  /** Every moment that was ever frozen, by checkpoint id. */
  readonly moments = new Map<string, Frozen>();
  readonly faults: HostFaults = {
    refuseConsistency: 0,
    failCheckpoint: 0,
    failConvert: 0,
    failRemoveReference: 0,
  };
  readonly #scheduler: Scheduler;
  readonly #wallMs: () => number;
  /** When the merge of a VM's disks ends. */
  readonly #mergedAtMs = new Map<Guid, number>();
  #time = 1;
  #nextId = 1;

  /** `wallMs`: the clock of its machine. */
  constructor(scheduler: Scheduler, wallMs: () => number) {
    this.#scheduler = scheduler;
    this.#wallMs = wallMs;
  }

  addVm(name: string): Vm {
    const vm: Vm = { id: simulatedGuid(1, this.#nextId++), name, disks: [] };
    this.vms.push(vm);
    return vm;
  }

  addDisk(vm: Vm, sizeBytes: number): GuestDisk {
    const disk = new GuestDisk(simulatedGuid(2, this.#nextId++), sizeBytes);
    vm.disks.push(disk);
    return disk;
  }

  tick(): number {
    return ++this.#time;
  }

  /** The guest writes a little, or not at all. */
  writeOn(vmId: Guid): void {
    const { random } = this.#scheduler;
    const disks = this.vms.find(({ id }) => id === vmId)?.disks ?? [];
    for (const disk of disks) {
      if (random.chance(0.4)) continue;
      disk.write(random.int(disk.cellCount), random.between(1, 2 ** 31), this.tick());
    }
  }

  /** The host lost power; its guests start again with what had reached their disks. */
  losePower(): void {
    for (const { disks } of this.vms) {
      for (const disk of disks) disk.losePower(this.#scheduler.random.int(4), this.tick());
    }
  }

  /** An object of another product, or one that an administrator made. */
  addForeign(vm: Vm, tag: OwnerTag | undefined): string {
    const frozen = this.#freeze(vm, tag, 'crash');
    this.checkpoints.set(frozen.checkpoint.id, frozen);
    return frozen.checkpoint.id;
  }

  /** A moment that another product took and has by now let go of, as a backup does. */
  takeMoment(vm: Vm): Frozen {
    return this.#freeze(vm, undefined, 'crash');
  }

  #freeze(vm: Vm, tag: OwnerTag | undefined, consistency: 'application' | 'crash'): Frozen {
    const id = `checkpoint-${this.#nextId++}`;
    const atTime = this.tick();
    const checkpoint: Checkpoint = {
      id,
      vmId: vm.id,
      createdAtMs: this.#wallMs(),
      consistency,
      tag,
      disks: vm.disks.map(({ diskId, sizeBytes }) => ({ diskId, sizeBytes, ...GEOMETRY })),
    };
    const frozen: Frozen = {
      checkpoint,
      disks: new Map(vm.disks.map((disk) => [disk.diskId, disk.freeze()])),
      trackingEpochs: new Map(vm.disks.map((disk) => [disk.diskId, disk.trackingEpoch])),
      atTime,
      openCount: 0,
    };
    this.moments.set(id, frozen);
    return frozen;
  }

  /** The host as one process works with it. */
  connect(process: SimulatedProcess): SourceHypervisor {
    return new Session(this, this.#scheduler, process);
  }

  // For sessions.

  vm(vmId: Guid): Vm {
    const vm = this.vms.find(({ id }) => id === vmId);
    if (vm === undefined) throw new DrError('E_NOT_FOUND', `no VM ${vmId}`);
    return vm;
  }

  createCheckpoint(vmId: Guid, { tag, consistency }: CheckpointRequest): Checkpoint {
    if (consistency === 'application' && this.faults.refuseConsistency > 0) {
      this.faults.refuseConsistency--;
      throw new DrError('E_CONSISTENCY', 'the guest did not become quiet');
    }
    if (this.faults.failCheckpoint > 0) {
      this.faults.failCheckpoint--;
      throw new DrError('E_CHECKPOINT', 'the host made no checkpoint');
    }
    const frozen = this.#freeze(this.vm(vmId), tag, consistency);
    this.checkpoints.set(frozen.checkpoint.id, frozen);
    this.#scheduler.note(`host: ${frozen.checkpoint.id} of ${this.vm(vmId).name}`);
    return frozen.checkpoint;
  }

  convert(vmId: Guid, checkpointId: string): ReferencePoint {
    const frozen = this.checkpoints.get(checkpointId);
    if (frozen === undefined) throw new DrError('E_NOT_FOUND', `no checkpoint ${checkpointId}`);
    this.requireClosed(checkpointId);
    if (this.faults.failConvert > 0) {
      this.faults.failConvert--;
      throw new DrError('E_CHECKPOINT', 'the host made no reference point of it');
    }
    this.checkpoints.delete(checkpointId);
    this.merge(vmId);
    const id = `reference-${this.#nextId++}`;
    const point: ReferencePoint = {
      id,
      vmId,
      createdAtMs: frozen.checkpoint.createdAtMs,
      tag: frozen.checkpoint.tag,
      disks: [...frozen.disks.keys()].map((diskId) => ({ diskId, trackingId: `${id}/${diskId}` })),
    };
    this.references.set(id, { point, frozen });
    this.#scheduler.note(`host: ${checkpointId} becomes ${id}`);
    return point;
  }

  removeReference(id: string): void {
    if (this.faults.failRemoveReference > 0) {
      this.faults.failRemoveReference--;
      throw new DrError('E_CHECKPOINT', `${id} could not be removed`);
    }
    this.references.delete(id);
    this.#scheduler.note(`host: ${id} is removed`);
  }

  merge(vmId: Guid): void {
    this.#mergedAtMs.set(vmId, this.#scheduler.nowMs + this.#scheduler.random.int(5000));
  }

  mergedAtMs(vmId: Guid): number {
    return this.#mergedAtMs.get(vmId) ?? 0;
  }

  requireClosed(checkpointId: string): void {
    if ((this.checkpoints.get(checkpointId)?.openCount ?? 0) === 0) return;
    throw new DrError('E_CHECKPOINT', `a disk of ${checkpointId} is open`);
  }

  /** What a tracking id can still tell about a disk as it is in `until`. @throws E_TRACKING_INVALID */
  changes(until: Frozen, diskId: Guid, trackingId: string): Iterable<ByteRange> {
    const [referenceId = ''] = trackingId.split('/');
    const since = this.references.get(referenceId)?.frozen;
    const frozen = until.disks.get(diskId);
    const isValid =
      since?.disks.has(diskId) === true &&
      since.trackingEpochs.get(diskId) === until.trackingEpochs.get(diskId);
    if (frozen === undefined || since === undefined || !isValid) {
      throw new DrError('E_TRACKING_INVALID', `${trackingId} tells nothing`);
    }
    return rangesSince(frozen, since.atTime, this.#scheduler.random);
  }
}

class Session implements SourceHypervisor {
  readonly name = 'simulated';
  readonly sourceCapabilities = { isTrackingPersistent: true, canQuiesce: true };
  readonly #host: Host;
  readonly #scheduler: Scheduler;
  readonly #process: SimulatedProcess;

  constructor(host: Host, scheduler: Scheduler, process: SimulatedProcess) {
    this.#host = host;
    this.#scheduler = scheduler;
    this.#process = process;
  }

  /** A call takes its time before it does anything, and its answer afterwards. */
  async #call<T>(work: () => T): Promise<T> {
    await this.#process.gate(this.#scheduler.delay(LATENCY_MS));
    const result = work();
    await this.#process.gate(this.#scheduler.delay(LATENCY_MS));
    return result;
  }

  listVms: SourceHypervisor['listVms'] = () =>
    this.#call(() => this.#host.vms.map(({ id, name }) => ({ id, name, powerState: 'running' })));

  describeVm: SourceHypervisor['describeVm'] = (vmId) =>
    this.#call(() => {
      const { id, name, disks } = this.#host.vm(vmId);
      return {
        id,
        name,
        generation: 2,
        cpuCount: 2,
        memoryBytes: 2 ** 31,
        isAutoStart: false,
        disks: disks.map(({ diskId, sizeBytes }, index) => ({
          diskId,
          controller: 'scsi',
          controllerNumber: 0,
          controllerLocation: index,
          sizeBytes,
          ...GEOMETRY,
          path: `/${name}-${index}.vhdx`,
        })),
        adapters: [],
      };
    });

  createCheckpoint(vmId: Guid, request: CheckpointRequest): Promise<Checkpoint> {
    return this.#call(() => this.#host.createCheckpoint(vmId, request));
  }

  listCheckpoints(vmId: Guid): Promise<readonly Checkpoint[]> {
    return this.#call(() =>
      [...this.#host.checkpoints.values()]
        .map(({ checkpoint }) => checkpoint)
        .filter((checkpoint) => checkpoint.vmId === vmId),
    );
  }

  removeCheckpoint(vmId: Guid, checkpointId: string): Promise<void> {
    return this.#call(() => {
      this.#host.requireClosed(checkpointId);
      this.#host.checkpoints.delete(checkpointId);
      this.#scheduler.note(`host: ${checkpointId} is removed`);
      this.#host.merge(vmId);
    });
  }

  convertToReferencePoint(vmId: Guid, checkpointId: string): Promise<ReferencePoint> {
    return this.#call(() => this.#host.convert(vmId, checkpointId));
  }

  async waitForMerge(vmId: Guid, timeoutMs: number): Promise<void> {
    const leftMs = this.#host.mergedAtMs(vmId) - this.#scheduler.nowMs;
    const waitMs = Math.max(0, Math.min(leftMs, timeoutMs));
    await this.#process.clock().sleep(waitMs);
    if (leftMs > timeoutMs) throw new DrError('E_STALLED', 'the disks are still being merged');
  }

  listReferencePoints(vmId: Guid): Promise<readonly ReferencePoint[]> {
    return this.#call(() =>
      [...this.#host.references.values()]
        .map(({ point }) => point)
        .filter((point) => point.vmId === vmId),
    );
  }

  removeReferencePoint(_vmId: Guid, referencePointId: string): Promise<void> {
    return this.#call(() => this.#host.removeReference(referencePointId));
  }

  openCheckpointDisk: SourceHypervisor['openCheckpointDisk'] = (_vmId, checkpointId, diskId) =>
    this.#call(() => {
      const frozen = this.#host.checkpoints.get(checkpointId);
      const disk = frozen?.disks.get(diskId);
      if (frozen === undefined || disk === undefined) {
        throw new DrError('E_NOT_FOUND', `no disk ${diskId} in ${checkpointId}`);
      }
      frozen.openCount++;
      let isOpen = true;
      const close = (): void => {
        if (isOpen) frozen.openCount--;
        isOpen = false;
      };
      this.#process.onDeath(close);
      return readable(disk, () => isOpen && this.#host.checkpoints.has(checkpointId), close);
    });

  async *changedRanges(
    _vmId: Guid,
    checkpointId: string,
    diskId: Guid,
    trackingId: string,
  ): AsyncGenerator<ByteRange> {
    const ranges = await this.#call(() => {
      const until = this.#host.checkpoints.get(checkpointId);
      if (until === undefined) throw new DrError('E_NOT_FOUND', `no checkpoint ${checkpointId}`);
      return [...this.#host.changes(until, diskId, trackingId)];
    });
    yield* ranges;
  }

  rangesAbove(): AsyncIterable<ByteRange> {
    throw new DrError('E_NOT_FOUND', 'the disks here stand on no files');
  }

  fenceVm(): Promise<void> {
    return Promise.reject(new DrError('E_STATE', 'the guests here run'));
  }

  unfenceVm(): Promise<void> {
    return Promise.resolve();
  }

  fenceOf(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  startVm(): Promise<void> {
    return Promise.reject(new DrError('E_HYPERVISOR', 'guests are not started here'));
  }

  shutDownVm(): Promise<void> {
    return Promise.reject(new DrError('E_HYPERVISOR', 'guests are not stopped here'));
  }

  turnOffVm(): Promise<void> {
    return Promise.reject(new DrError('E_HYPERVISOR', 'guests are not stopped here'));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
