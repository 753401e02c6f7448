// The lab: a hypervisor in a folder. It holds nothing in memory between two calls that another process
// could change unseen, so that several can use one folder; the record of a VM (record.ts) is the only
// truth. Both interfaces of a hypervisor, and what a user and a guest do.

import path from 'node:path';
import { randomGuid, type Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import type { ReadableDisk } from '../../disk/index.js';
import { makeLockFile, readJson, writeJsonDurably, type JsonFormat } from '../../files/index.js';
import { openVhdx } from '../../vhdx/index.js';
import type {
  ByteRange,
  Checkpoint,
  CheckpointRequest,
  Fence,
  ReferencePoint,
  SourceCapabilities,
  SourceHypervisor,
} from '../source.js';
import type {
  Heartbeat,
  RegisterRequest,
  SwitchInfo,
  TargetCapabilities,
  TargetHypervisor,
} from '../target.js';
import type { AddressSettings, OwnerTag, VmDefinition, VmSummary } from '../vm.js';
import { withDisk } from './chain.js';
import * as checkpoints from './checkpoints.js';
import { contextOf, withLockFile, type LabContext, type LabSeams } from './context.js';
import {
  createVm,
  deleteVm,
  findVm,
  forgetVm,
  registerVm,
  renameVm,
  type NewDisk,
  type NewVm,
} from './create-vm.js';
import { setDiskFiles } from './disk-files.js';
import { addDisk, attachDisk, removeDisk, resizeDisk } from './disks.js';
import {
  activeFault,
  addFault,
  delayOf,
  dieWhenTold,
  dropFault,
  faultOf,
  isDelay,
  readFaults,
  type CallName,
  type Fault,
} from './faults.js';
import { fencedVm, refuseFenced, unfencedVm } from './fence.js';
import { Fields } from '../fields.js';
import { GuestDisk } from './guest-disk.js';
import {
  defaultVmFolder,
  diskPath,
  faultsFile,
  hostLockFile,
  labFile,
  switchesFile,
  vmFile,
  vmsFolder,
} from './layout.js';
import { addSwitch, readSwitches, removeSwitch, requireSwitch } from './network.js';
import { noteMergeFailure, pendingMerges, type PendingMerge } from './pending-merge.js';
import { rangesAbove } from '../ranges-above.js';
import {
  readVm,
  saveVm,
  type AdapterRecord,
  type UserCheckpointRecord,
  type VmRecord,
} from './record.js';
import { checkedDisk } from './tracking.js';
import {
  addUserCheckpoint,
  applyUserCheckpoint,
  removeUserCheckpoint,
} from './user-checkpoints.js';
import { allVms, changingVm, definitionOf, diskAt, loadVm, withVmLock } from './vms.js';

const FORMAT: JsonFormat = { name: 'lab', version: 1, limitBytes: 64 * 1024 };
const READ_PIECE_BYTES = 1024 * 1024;

export class Lab implements SourceHypervisor, TargetHypervisor {
  readonly name: string;
  readonly sourceCapabilities: SourceCapabilities = {
    isTrackingPersistent: true,
    canQuiesce: true,
  };
  readonly targetCapabilities: TargetCapabilities = {
    canSetGuestAddress: true,
    canMergeLive: false,
    canReachGuests: false,
  };
  readonly #context: LabContext;
  /** Merges that calls of this object left to be done meanwhile. */
  readonly #background = new Set<Promise<void>>();

  private constructor(context: LabContext) {
    this.#context = context;
    this.name = `lab:${context.folder}`;
  }

  /** Makes an empty lab. @throws DrError E_EXISTS when the folder is one already */
  static async create(folder: string, seams: LabSeams): Promise<Lab> {
    const { fs, random } = seams;
    const home = path.resolve(folder);
    if ((await fs.status(labFile(home))) !== undefined) {
      throw new DrError('E_EXISTS', `${folder} is a lab already`, { context: { folder } });
    }
    await fs.makeFolder(home);
    const others = (await fs.list(home)).filter((name) => !LEFTOVERS_OF_CREATION.has(name));
    if (others.some((name) => !name.endsWith('.unfinished'))) {
      throw new DrError('E_EXISTS', `${folder} is not empty, and no lab`, {
        context: { folder },
        hint: 'Name an empty folder, or one that does not exist.',
      });
    }
    await fs.makeFolder(vmsFolder(home));
    await makeLockFile(fs, hostLockFile(home));
    const context = contextOf(home, seams);
    await withLockFile(context, hostLockFile(home), async () => {
      if ((await fs.status(labFile(home))) !== undefined) return;
      await writeJsonDurably(fs, labFile(home), FORMAT, { labId: randomGuid(random) }, random);
    });
    return new Lab(context);
  }

  /** @throws DrError E_NOT_FOUND when the folder is no lab, E_FILE_DAMAGED, E_FILE_VERSION */
  static async open(folder: string, seams: LabSeams): Promise<Lab> {
    const home = path.resolve(folder);
    const json = await readJson(seams.fs, labFile(home), FORMAT);
    if (json === undefined) {
      throw new DrError('E_NOT_FOUND', `${folder} is no lab`, {
        context: { folder },
        hint: `Make one: \`hvdr lab init ${folder}\`.`,
      });
    }
    Fields.ofFile(json, labFile(home)).guid('labId');
    return new Lab(contextOf(home, seams));
  }

  get folder(): string {
    return this.#context.folder;
  }

  /** Ends when the merges that this object began have ended. */
  async close(): Promise<void> {
    await this.#call('close', undefined, async () => {
      while (this.#background.size > 0) await Promise.all(this.#background);
    });
  }

  /** Runs a call of the interfaces, with the scripted deaths around it. */
  async #call<T>(call: CallName, vmId: Guid | undefined, action: () => Promise<T>): Promise<T> {
    await dieWhenTold(this.#context, 'die-before', call, vmId);
    const result = await action();
    await dieWhenTold(this.#context, 'die-after', call, vmId);
    return result;
  }

  /** Begins the merges that are due; what cannot be merged now is tried again by later calls. */
  #tidySoon(vmId: Guid): void {
    const run: Promise<void> = checkpoints
      .tidyVm(this.#context, vmId)
      .then(
        () => undefined,
        // the graph still calls for it, and waitForMerge() tells why not
        (error: unknown) => noteMergeFailure(this.#context, vmId, error),
      )
      .finally(() => this.#background.delete(run));
    this.#background.add(run);
  }

  // ---- inventory and power --------------------------------------------------------------------

  listVms(): Promise<readonly VmSummary[]> {
    return this.#call('listVms', undefined, async () => {
      const vms = await allVms(this.#context);
      return vms.map(summaryOf);
    });
  }

  describeVm(vmId: Guid): Promise<VmDefinition> {
    return this.#call('describeVm', vmId, async () =>
      definitionOf(this.#context, await loadVm(this.#context, vmId)),
    );
  }

  startVm(vmId: Guid): Promise<void> {
    return this.#call('startVm', vmId, async () => {
      if ((await activeFault(this.#context, 'boot-fails', vmId)) !== undefined) {
        throw checkpoints.scripted('E_HYPERVISOR', vmId, 'boot-fails', 'it did not start');
      }
      const ignores = await this.#ignoresAddresses(vmId);
      const bootMs = await delayOf(this.#context, 'boot-slow', vmId);
      const heartbeatNotBeforeMs = bootMs === 0 ? undefined : this.#context.clock.now() + bootMs;
      await this.#change(vmId, (vm) => {
        refuseFenced(vm);
        return {
          ...vm,
          powerState: 'running',
          heartbeatNotBeforeMs,
          adapters: vm.adapters.map((adapter) => ({
            ...adapter,
            guest: ignores ? adapter.guest : (adapter.nextGuest ?? adapter.guest),
            nextGuest: undefined,
          })),
        };
      });
    });
  }

  shutDownVm(vmId: Guid, timeoutMs: number): Promise<void> {
    return this.#call('shutDownVm', vmId, async () => {
      const { powerState, name } = await loadVm(this.#context, vmId);
      if (powerState === 'off') return;
      if ((await activeFault(this.#context, 'shutdown-ignored', vmId)) !== undefined) {
        await this.#context.clock.sleep(timeoutMs);
        throw new DrError('E_SHUTDOWN_TIMEOUT', `the VM ${name} did not stop in ${timeoutMs} ms`, {
          context: { vmId, timeoutMs, fault: 'shutdown-ignored' },
          done: 'it runs on',
        });
      }
      await this.#change(vmId, (vm) => ({ ...vm, powerState: 'off' }));
    });
  }

  turnOffVm(vmId: Guid): Promise<void> {
    return this.#call('turnOffVm', vmId, async () => {
      if ((await activeFault(this.#context, 'turn-off-fails', vmId)) !== undefined) {
        throw checkpoints.scripted('E_HYPERVISOR', vmId, 'turn-off-fails', 'it was not turned off');
      }
      await this.#change(vmId, (vm) => ({ ...vm, powerState: 'off' }));
    });
  }

  async #change(vmId: Guid, change: (vm: VmRecord) => VmRecord): Promise<void> {
    await withVmLock(this.#context, vmId, async (vm) => {
      const changed = change(vm);
      if (changed !== vm) await saveVm(this.#context, changed);
    });
  }

  // ---- SourceHypervisor -----------------------------------------------------------------------

  createCheckpoint(vmId: Guid, request: CheckpointRequest): Promise<Checkpoint> {
    return this.#call('createCheckpoint', vmId, () =>
      checkpoints.createCheckpoint(this.#context, vmId, request),
    );
  }

  listCheckpoints(vmId: Guid): Promise<readonly Checkpoint[]> {
    return this.#call('listCheckpoints', vmId, () =>
      checkpoints.listCheckpoints(this.#context, vmId),
    );
  }

  removeCheckpoint(vmId: Guid, checkpointId: string): Promise<void> {
    return this.#call('removeCheckpoint', vmId, async () => {
      await checkpoints.removeCheckpoint(this.#context, vmId, checkpointId);
      this.#tidySoon(vmId);
    });
  }

  convertToReferencePoint(vmId: Guid, checkpointId: string): Promise<ReferencePoint> {
    return this.#call('convertToReferencePoint', vmId, async () => {
      const point = await checkpoints.convertToReferencePoint(this.#context, vmId, checkpointId);
      this.#tidySoon(vmId);
      return point;
    });
  }

  waitForMerge(vmId: Guid, timeoutMs: number): Promise<void> {
    return this.#call('waitForMerge', vmId, () =>
      checkpoints.waitForMerge(this.#context, vmId, timeoutMs),
    );
  }

  listReferencePoints(vmId: Guid): Promise<readonly ReferencePoint[]> {
    return this.#call('listReferencePoints', vmId, () =>
      checkpoints.listReferencePoints(this.#context, vmId),
    );
  }

  removeReferencePoint(vmId: Guid, referencePointId: string): Promise<void> {
    return this.#call('removeReferencePoint', vmId, () =>
      checkpoints.removeReferencePoint(this.#context, vmId, referencePointId),
    );
  }

  openCheckpointDisk(vmId: Guid, checkpointId: string, diskId: Guid): Promise<ReadableDisk> {
    return this.#call('openCheckpointDisk', vmId, () =>
      checkpoints.openCheckpointDisk(this.#context, vmId, checkpointId, diskId),
    );
  }

  async *changedRanges(
    vmId: Guid,
    checkpointId: string,
    diskId: Guid,
    trackingId: string,
  ): AsyncGenerator<ByteRange> {
    await dieWhenTold(this.#context, 'die-before', 'changedRanges', vmId);
    yield* checkpoints.changedRanges(this.#context, vmId, checkpointId, diskId, trackingId);
    await dieWhenTold(this.#context, 'die-after', 'changedRanges', vmId);
  }

  async *rangesAbove(
    vmId: Guid,
    checkpointId: string,
    diskId: Guid,
    ancestorPath: string,
  ): AsyncGenerator<ByteRange> {
    const context = this.#context;
    await dieWhenTold(context, 'die-before', 'rangesAbove', vmId);
    const disk = await checkpoints.openCheckpointDisk(context, vmId, checkpointId, diskId);
    try {
      yield* rangesAbove(context.fs, disk, ancestorPath);
    } finally {
      await disk.close();
    }
    await dieWhenTold(context, 'die-after', 'rangesAbove', vmId);
  }

  fenceVm(vmId: Guid, fence: Fence): Promise<void> {
    return this.#call('fenceVm', vmId, () => this.#change(vmId, (vm) => fencedVm(vm, fence)));
  }

  unfenceVm(vmId: Guid): Promise<void> {
    return this.#call('unfenceVm', vmId, () => this.#change(vmId, unfencedVm));
  }

  fenceOf(vmId: Guid): Promise<Fence | undefined> {
    return this.#call('fenceOf', vmId, async () => {
      const { fence } = await loadVm(this.#context, vmId);
      return fence === undefined ? undefined : { tag: fence.tag, epoch: fence.epoch };
    });
  }

  // ---- TargetHypervisor -----------------------------------------------------------------------

  registerVm(request: RegisterRequest): Promise<Guid> {
    return this.#call('registerVm', undefined, () => registerVm(this.#context, request));
  }

  removeVm(vmId: Guid): Promise<void> {
    return this.#call('removeVm', vmId, () =>
      unlessGone(() => forgetVm(this.#context, vmId), undefined),
    );
  }

  setDiskFiles(vmId: Guid, diskPaths: readonly string[]): Promise<void> {
    return this.#call('setDiskFiles', vmId, () => setDiskFiles(this.#context, vmId, diskPaths));
  }

  summaryOf(vmId: Guid): Promise<VmSummary | undefined> {
    return this.#call('summaryOf', vmId, async () => {
      const vm = await readVm(this.#context, vmFile(this.#context.folder, vmId));
      return vm && summaryOf(vm);
    });
  }

  findTagged({ protectionId, operationId }: OwnerTag): Promise<VmSummary | undefined> {
    return this.#call('findTagged', undefined, async () => {
      const vm = (await allVms(this.#context)).find(
        ({ tag }) => tag?.protectionId === protectionId && tag.operationId === operationId,
      );
      return vm && summaryOf(vm);
    });
  }

  tagOf(vmId: Guid): Promise<OwnerTag | undefined> {
    return this.#call('tagOf', vmId, async () => (await loadVm(this.#context, vmId)).tag);
  }

  dropTag(vmId: Guid): Promise<void> {
    return this.#call('dropTag', vmId, () =>
      this.#change(vmId, (vm) => (vm.tag === undefined ? vm : { ...vm, tag: undefined })),
    );
  }

  defaultVmFolder(): Promise<string> {
    return this.#call('defaultVmFolder', undefined, () =>
      Promise.resolve(defaultVmFolder(this.folder)),
    );
  }

  listSwitches(): Promise<readonly SwitchInfo[]> {
    return this.#call('listSwitches', undefined, () => readSwitches(this.#context));
  }

  connectAdapter(
    vmId: Guid,
    adapterId: Guid,
    connection: { readonly switchName: string; readonly vlan: number | undefined } | undefined,
  ): Promise<void> {
    return this.#call('connectAdapter', vmId, async () => {
      if (connection !== undefined) {
        requireSwitch(await readSwitches(this.#context), connection.switchName);
        checkVlan(connection.vlan);
      }
      await this.#changeAdapter(vmId, adapterId, (adapter) => ({
        ...adapter,
        switchName: connection?.switchName,
        vlan: connection?.vlan,
      }));
    });
  }

  setMacAddress(vmId: Guid, adapterId: Guid, mac: string): Promise<void> {
    return this.#call('setMacAddress', vmId, async () => {
      if (!/^[0-9A-Fa-f]{12}$/.test(mac)) {
        throw new DrError('E_PARAMETER', `${JSON.stringify(mac)} is no MAC address`, {
          hint: 'Twelve hexadecimal digits, for example 00155D0A0B0C.',
        });
      }
      await this.#changeAdapter(vmId, adapterId, (adapter) => ({
        ...adapter,
        mac: mac.toUpperCase(),
        isMacStatic: true,
      }));
    });
  }

  setGuestAddress(vmId: Guid, adapterId: Guid, settings: AddressSettings): Promise<void> {
    return this.#call('setGuestAddress', vmId, async () => {
      const ignores = await this.#ignoresAddresses(vmId);
      await this.#changeAdapter(vmId, adapterId, (adapter, vm) => {
        if (vm.powerState !== 'running') return { ...adapter, nextGuest: settings };
        return { ...adapter, guest: ignores ? adapter.guest : settings, nextGuest: undefined };
      });
    });
  }

  async #ignoresAddresses(vmId: Guid): Promise<boolean> {
    return (await activeFault(this.#context, 'address-ignored', vmId)) !== undefined;
  }

  async #changeAdapter(
    vmId: Guid,
    adapterId: Guid,
    change: (adapter: AdapterRecord, vm: VmRecord) => AdapterRecord,
  ): Promise<void> {
    await this.#change(vmId, (vm) => {
      if (!vm.adapters.some(({ id }) => id === adapterId)) {
        throw new DrError('E_NOT_FOUND', `the VM ${vm.name} has no adapter ${adapterId}`, {
          context: { vmId, adapterId },
        });
      }
      const adapters = vm.adapters.map((adapter) =>
        adapter.id === adapterId ? change(adapter, vm) : adapter,
      );
      return { ...vm, adapters };
    });
  }

  heartbeat(vmId: Guid): Promise<Heartbeat> {
    return this.#call('heartbeat', vmId, async () => {
      const { powerState, heartbeatNotBeforeMs = 0 } = await loadVm(this.#context, vmId);
      if (powerState !== 'running') return 'absent';
      if (this.#context.clock.now() < heartbeatNotBeforeMs) return 'absent';
      const isSilent = (await activeFault(this.#context, 'no-heartbeat', vmId)) !== undefined;
      return isSilent ? 'absent' : 'ok';
    });
  }

  // ---- what a user does -----------------------------------------------------------------------

  /** Makes a VM with disks of its own, off. @throws DrError E_EXISTS, E_PARAMETER, and of import */
  createVm(request: NewVm): Promise<Guid> {
    for (const { vlan } of request.adapters ?? []) checkVlan(vlan);
    return createVm(this.#context, request);
  }

  /** @throws DrError E_PARAMETER */
  renameVm(vmId: Guid, name: string): Promise<void> {
    return renameVm(this.#context, vmId, name);
  }

  /** The whole record of the VM with this name or id. @throws DrError E_NOT_FOUND, E_USAGE */
  findVm(nameOrId: string): Promise<VmRecord> {
    return findVm(this.#context, nameOrId);
  }

  /** Merges that are due or were begun, with why the last attempt failed. */
  pendingMerges(vmId: Guid): Promise<PendingMerge[]> {
    return pendingMerges(this.#context, vmId);
  }

  /** Removes a VM that is off, with the disks in the lab's folder. @throws DrError E_HYPERVISOR */
  deleteVm(vmId: Guid): Promise<void> {
    return deleteVm(this.#context, vmId);
  }

  addSwitch(added: SwitchInfo): Promise<void> {
    return addSwitch(this.#context, added);
  }

  removeSwitch(name: string): Promise<void> {
    return removeSwitch(this.#context, name);
  }

  addDisk(vmId: Guid, disk: NewDisk): Promise<Guid> {
    return addDisk(this.#context, vmId, disk);
  }

  attachDisk(vmId: Guid, file: string): Promise<Guid> {
    return attachDisk(this.#context, vmId, file);
  }

  removeDisk(vmId: Guid, index: number): Promise<Guid> {
    return removeDisk(this.#context, vmId, index);
  }

  resizeDisk(vmId: Guid, index: number, sizeBytes: number): Promise<Guid> {
    return resizeDisk(this.#context, vmId, index, sizeBytes);
  }

  addUserCheckpoint(vmId: Guid, name?: string): Promise<UserCheckpointRecord> {
    return addUserCheckpoint(this.#context, vmId, name);
  }

  async applyUserCheckpoint(vmId: Guid, nameOrId: string): Promise<UserCheckpointRecord> {
    const record = await applyUserCheckpoint(this.#context, vmId, nameOrId);
    this.#tidySoon(vmId);
    return record;
  }

  async removeUserCheckpoint(vmId: Guid, nameOrId: string): Promise<UserCheckpointRecord> {
    const record = await removeUserCheckpoint(this.#context, vmId, nameOrId);
    this.#tidySoon(vmId);
    return record;
  }

  listFaults(): Promise<readonly Fault[]> {
    return readFaults(this.#context);
  }

  /** Sets a scripted fault for one VM or, without `vmId`, for all. @throws DrError E_PARAMETER */
  async setFault(name: string, argument?: string, vmId?: Guid): Promise<void> {
    const fault = faultOf(name, argument, vmId);
    if (vmId !== undefined) await loadVm(this.#context, vmId);
    await addFault(this.#context, fault);
    if (fault.fault !== 'foreign-checkpoint') return;
    for (const id of await this.#vmsOf(vmId)) {
      const isThere = (await loadVm(this.#context, id)).checkpoints.some(
        ({ tag }) => tag === undefined,
      );
      if (isThere) continue;
      const made = { tag: undefined, consistency: 'crash' } as const;
      await checkpoints.freeze(this.#context, id, made, this.#context.lockTimeoutMs);
    }
  }

  /** @throws DrError E_PARAMETER for a name that is none */
  async clearFault(name: string, vmId?: Guid): Promise<void> {
    const { fault } = faultOf(name, argumentOfAny(name), vmId);
    await dropFault(this.#context, { fault, vmId });
    if (fault !== 'foreign-checkpoint') return;
    for (const id of await this.#vmsOf(vmId)) {
      const foreign = (await loadVm(this.#context, id)).checkpoints.filter(
        ({ tag }) => tag === undefined,
      );
      for (const { id: checkpointId } of foreign) {
        await checkpoints.removeCheckpoint(this.#context, id, checkpointId, true);
      }
      this.#tidySoon(id);
    }
  }

  async #vmsOf(vmId: Guid | undefined): Promise<Guid[]> {
    return vmId === undefined ? (await allVms(this.#context)).map(({ id }) => id) : [vmId];
  }

  // ---- what the guest does --------------------------------------------------------------------

  /**
   * Lets `use` work on a disk as its guest does; other processes wait meanwhile, so long work is cut
   * into pieces. Durable on return: all that was written.
   * @throws DrError E_NOT_FOUND, E_LOCKED, E_CAPACITY, and what `use` throws
   */
  withGuestDisk<T>(vmId: Guid, index: number, use: (disk: GuestDisk) => Promise<T>): Promise<T> {
    const context = this.#context;
    return changingVm(context, vmId, async (vm) => {
      const before = diskAt(vm, index);
      const disk = await checkedDisk(context, vm, before);
      const checked = disk === before ? vm : withDisk(vm, disk);
      if (checked !== vm) await saveVm(context, checked);
      const isFull = (await activeFault(context, 'disk-full', vmId)) !== undefined;
      const guest = await GuestDisk.open(context, checked, disk, isFull);
      let result: T;
      try {
        result = await use(guest);
        await guest.flush();
      } catch (error) {
        await guest.close().catch(() => undefined);
        throw error;
      }
      await guest.close();
      return result;
    });
  }

  guestWrite(vmId: Guid, index: number, offset: number, bytes: Uint8Array): Promise<void> {
    return this.withGuestDisk(vmId, index, (disk) => {
      refuseBeyond(disk, offset, bytes.length);
      return disk.write(offset, bytes);
    });
  }

  /** A discard of the range: it reads as zeros, and whole blocks give their space back. */
  guestZero(vmId: Guid, index: number, offset: number, lengthBytes: number): Promise<void> {
    return this.withGuestDisk(vmId, index, (disk) => {
      refuseBeyond(disk, offset, lengthBytes);
      return disk.zero(offset, lengthBytes);
    });
  }

  async guestRead(vmId: Guid, index: number, offset: number, lengthBytes: number): Promise<Buffer> {
    const bytes = Buffer.alloc(lengthBytes);
    await this.withGuestView(vmId, index, async (disk) => {
      refuseBeyond(disk, offset, lengthBytes);
      for (let done = 0; done < lengthBytes; done += READ_PIECE_BYTES) {
        await disk.read(offset + done, bytes.subarray(done, done + READ_PIECE_BYTES));
      }
    });
    return bytes;
  }

  /** Lets `use` read what the guest sees now; see withGuestDisk(). */
  withGuestView<T>(vmId: Guid, index: number, use: (disk: ReadableDisk) => Promise<T>): Promise<T> {
    const { fs, random, folder } = this.#context;
    return changingVm(this.#context, vmId, async (vm) => {
      const { leaf } = diskAt(vm, index);
      const disk = await openVhdx(diskPath(folder, vm.id, leaf), { fs, random });
      try {
        return await use(disk);
      } finally {
        await disk.close();
      }
    });
  }
}

const LEFTOVERS_OF_CREATION = new Set(
  [vmsFolder, hostLockFile, faultsFile, switchesFile].map((place) => path.basename(place(''))),
);

function summaryOf({ id, name, powerState }: VmRecord): VmSummary {
  return { id, name, powerState };
}

function checkVlan(vlan: number | undefined): void {
  if (vlan === undefined || (Number.isInteger(vlan) && vlan >= 1 && vlan <= 4094)) return;
  throw new DrError('E_PARAMETER', `${vlan} is no VLAN; 1 to 4094 are`);
}

function refuseBeyond(disk: ReadableDisk, offset: number, lengthBytes: number): void {
  const isInside = offset >= 0 && lengthBytes >= 0 && offset + lengthBytes <= disk.sizeBytes;
  if (isInside) return;
  throw new DrError(
    'E_PARAMETER',
    `the range from ${offset}, ${lengthBytes} bytes long, reaches beyond the disk of ${disk.sizeBytes} bytes`,
    { context: { offset, lengthBytes, sizeBytes: disk.sizeBytes } },
  );
}

/** An argument that any fault of this name takes: clearing asks for the name only. */
function argumentOfAny(name: string): string | undefined {
  if (name === 'die-before' || name === 'die-after') return 'close';
  return isDelay(name) ? '0' : undefined;
}

async function unlessGone<T>(action: () => Promise<T>, otherwise: T): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (error instanceof DrError && error.code === 'E_NOT_FOUND') return otherwise;
    throw error;
  }
}
