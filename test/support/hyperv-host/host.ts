// A Hyper-V in a folder, seen through the operations that the provider asks PowerShell for. What VMs, checkpoints,
// tracking and merges do is the lab's work, on real VHDX files; here stands what vmms says of it, and how: jobs,
// ids, names. virtdisk.dll is asked by path beside it, so a frozen file gets what the double of it reads.
//
// Every answer is one of a recorded shape (recorded.ts). It says nothing about how a real host behaves.

import { readdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { guid, randomGuid, type Guid } from '../../../shared/bytes/index.js';
import { systemClock, systemRandom } from '../../../shared/clock.js';
import { DrError } from '../../../shared/errors.js';
import { nodeFileSystem } from '../../../shared/files/index.js';
import { Fields } from '../../../shared/hypervisor/fields.js';
import type {
  Arguments,
  Operation,
  OperationRunner,
} from '../../../shared/hypervisor/hyperv/powershell/operation.js';
import * as marks from '../../../shared/hypervisor/lab/checkpoints.js';
import { contextOf, type LabContext } from '../../../shared/hypervisor/lab/context.js';
import { Lab } from '../../../shared/hypervisor/lab/index.js';
import { diskPath } from '../../../shared/hypervisor/lab/layout.js';
import {
  saveVm,
  type CheckpointRecord,
  type DiskRecord,
  type VmRecord,
} from '../../../shared/hypervisor/lab/record.js';
import { trackingIdOf } from '../../../shared/hypervisor/lab/tracking.js';
import { allVms, loadVm, withVmLock } from '../../../shared/hypervisor/lab/vms.js';
import { openVhdx } from '../../../shared/vhdx/index.js';
import { inFull, maskOf, prefixOf } from './masks.js';
import { answerOf } from './recorded.js';
import { FrozenDisks } from './frozen-disks.js';
import { Given, wrong } from './given.js';
import { newOverlay, SECURE_BOOT_TEMPLATES, type Overlay } from './overlay.js';
import { bootDevicesOf, settingHandlers, type SettingHandler } from './settings.js';
import { noTrouble, type MergeDelay } from './trouble.js';

type Json = Readonly<Record<string, unknown>>;

const CONTROLLER = '6DD3A1B6-2C1F-4E0B-8E71-6A3B7B9F1C11';
/** Whose a checkpoint is does not matter to Hyper-V; the lab asks for an owner. */
const OWNER = {
  protectionId: guid('00000000-0000-4000-8000-00000000000a'),
  operationId: guid('00000000-0000-4000-8000-00000000000b'),
};
const INVALID_STATE = 32_775;
/** Msvm_ComputerSystem.OperationalStatus */
const MERGING = 32_772;
const DONE = { done: 'yes' };

interface Job {
  readonly state: string;
  readonly errorCode: number;
  readonly errorText: string;
  readonly checkpointId?: string;
  readonly referencePointId?: string;
}

/** Of an adapter whose VM has never been started. */
const NO_MAC = '000000000000';

/** The lab's longest delay: by itself no merge begins while a test runs. */
const HELD_MS = 24 * 60 * 60 * 1000;
const MERGE_MS = 60_000;
/** How long a merge that is tried again waits for another one of the VM. */
const RETRY_MS = 100;

export class FakeHyperVHost {
  readonly lab: Lab;
  readonly context: LabContext;
  readonly trouble = noTrouble();
  /** By path; default: VHDX. */
  readonly diskFormats = new Map<string, string>();
  /** Names of the operations that were run, in order. */
  readonly trace: string[] = [];
  readonly frozen: FrozenDisks;
  /** Folders of the cluster's shared volumes. */
  readonly sharedVolumes: string[] = [];
  readonly #overlays = new Map<Guid, Overlay>();
  readonly #names = new Map<string, string>();
  readonly #switchIds = new Map<string, string>();
  readonly #jobs = new Map<string, Job>();
  readonly #mergeLooks = new Map<Guid, number>();

  private constructor(lab: Lab, context: LabContext) {
    this.lab = lab;
    this.context = context;
    this.frozen = new FrozenDisks(lab);
  }

  static async create(folder: string): Promise<FakeHyperVHost> {
    const seams = { fs: nodeFileSystem, clock: systemClock, random: systemRandom };
    return new FakeHyperVHost(await Lab.create(folder, seams), contextOf(folder, seams));
  }

  /** One connection to a node, as each process of ours has one; both nodes see what the cluster has. */
  runner(node = 'HV01'): OperationRunner {
    return {
      run: async (operation, args) => this.#run(operation, args, node),
      close: () => Promise.resolve(),
    };
  }

  overlayOf(vmId: Guid): Overlay {
    const there = this.#overlays.get(vmId);
    if (there !== undefined) return there;
    const made = newOverlay(vmId);
    this.#overlays.set(vmId, made);
    return made;
  }

  /** Merges from now on; undefined: at once, as far as the disks are free. */
  async delayMerges(delay: MergeDelay | undefined): Promise<void> {
    this.trouble.merges = delay;
    if (delay === undefined) await this.lab.clearFault('merge-delay');
    else await this.lab.setFault('merge-delay', String(HELD_MS));
  }

  /** What the double of virtdisk.dll refused, and the handles that are open. */
  complaints(): string[] {
    const names = readdirSync(this.context.folder, { recursive: true, encoding: 'utf8' });
    return names.filter((name) => name.endsWith('.refused') || name.includes('.open-'));
  }

  /** A recovery checkpoint of another product. */
  async addForeignCheckpoint(vmId: Guid): Promise<string> {
    const made = { tag: undefined, consistency: 'crash' } as const;
    const { id } = await marks.freeze(this.context, vmId, made, 60_000);
    await this.frozen.prepare(this.context, await loadVm(this.context, vmId), id);
    return instanceIdOf(id);
  }

  async applyUserCheckpoint(vmId: Guid, name: string): Promise<void> {
    const { id } = await this.lab.applyUserCheckpoint(vmId, name);
    this.overlayOf(vmId).lastAppliedId = instanceIdOf(id);
  }

  /** What the script of this operation puts out. */
  async answer(name: string, args: Arguments, node = 'HV01'): Promise<Json> {
    this.trace.push(name);
    const given = await this.#answer(name, new Given(args));
    const seen = name === 'host.get' ? { ...given, computerName: node, clusterNode: node } : given;
    return answerOf(name, seen);
  }

  async #run<A extends Arguments, R>(
    operation: Operation<A, R>,
    args: A,
    node: string,
  ): Promise<R> {
    const { name } = operation;
    const answer = await this.answer(name, args, node);
    const refuse = (field: string, wanted: string): DrError =>
      new DrError('E_HYPERVISOR', `${name}: ${field} is not ${wanted}`);
    return operation.read(new Fields(answer, refuse));
  }

  #answer(name: string, given: Given): Promise<Json> | Json {
    const refusal = this.trouble.refusals.get(name);
    if (refusal !== undefined && refusal.times > 0) {
      refusal.times--;
      const created = name === 'checkpoint.create' ? { checkpointId: null } : {};
      const converted = name === 'checkpoint.convert' ? { referencePointId: null } : {};
      return { returnValue: refusal.returnValue, jobId: null, ...created, ...converted };
    }
    const set = settingHandlers[name];
    if (set !== undefined) return this.#set(set, given);
    const handler = this.#handlers[name];
    if (handler === undefined) throw new Error(`the fake host cannot do ${name}`);
    return handler(given);
  }

  readonly #handlers: Readonly<Record<string, (given: Given) => Promise<Json> | Json>> = {
    'host.get': () => ({
      computerName: 'HV01',
      osVersion: '10.0.20348',
      defaultVmFolder: resolve(this.context.folder, 'restored'),
      defaultDiskFolder: resolve(this.context.folder, 'restored'),
      vmVersions: ['9.0', '10.0'],
      secureBootTemplates: SECURE_BOOT_TEMPLATES,
      clusterNode: 'HV01',
    }),
    'machine.list': async () => ({
      machines: (await allVms(this.context)).map((vm) => this.#summary(vm)),
    }),
    'machine.get': async (given) => this.#machine(await this.#vm(given)),
    'machine.status': async (given) => {
      const vm = await this.#vm(given);
      const isMerging = await this.#lookAtMerges(vm.id);
      const activities = [...this.trouble.activities, ...(isMerging ? [MERGING] : [])];
      return { state: this.#stateOf(vm), operationalStatus: [2, ...activities] };
    },
    'machine.start': async (given) => {
      await this.#change(given.vmId, (vm) => ({
        ...vm,
        adapters: vm.adapters.map((adapter) =>
          adapter.mac === NO_MAC ? { ...adapter, mac: `00155d${adapter.id.slice(-6)}` } : adapter,
        ),
      }));
      return done(this.lab.startVm(given.vmId));
    },
    'machine.turnOff': async (given) => {
      await this.lab.turnOffVm(given.vmId);
      const overlay = this.overlayOf(given.vmId);
      if (this.trouble.rolesWaitForGuest) overlay.isOnline = false;
      if (overlay.isClustered && overlay.isOnline) await this.lab.startVm(given.vmId);
      return DONE;
    },
    'machine.dropSavedState': (given) => {
      this.overlayOf(given.vmId).isSaved = false;
      return DONE;
    },
    'machine.requestShutdown': async (given) => {
      await this.lab.shutDownVm(given.vmId, 1000);
      return { returnValue: 0, jobId: null };
    },
    'machine.create': async (given) => {
      const vmId = await this.lab.createVm({
        name: given.text('name'),
        generation: given.number('generation') === 1 ? 1 : 2,
        memoryBytes: Number(given.text('memoryBytes')),
      });
      const overlay = this.overlayOf(vmId);
      overlay.startAction = 'Nothing';
      overlay.hasDvdDrive = given.number('generation') === 1;
      return { vmId };
    },
    'machine.rename': (given) => done(this.lab.renameVm(given.vmId, given.text('name'))),
    'machine.remove': (given) => this.#removeMachine(given.vmId),
    'machine.removeDvdDrives': (given) => {
      this.overlayOf(given.vmId).hasDvdDrive = false;
      return DONE;
    },
    'machine.addDisk': async (given) => {
      const { controller, controllerNumber: number, controllerLocation } = given.place;
      const isTaken = controller === 'ide' && number === 1 && controllerLocation === 0;
      if (isTaken && this.overlayOf(given.vmId).hasDvdDrive) {
        throw new DrError('E_HYPERVISOR', 'a DVD drive is at IDE 1:0 already');
      }
      if (controller === 'scsi' && number >= this.overlayOf(given.vmId).scsiControllers) {
        throw new DrError('E_HYPERVISOR', `there is no SCSI controller ${String(number)}`);
      }
      const diskId = await this.lab.attachDisk(given.vmId, given.text('path'));
      await this.#change(given.vmId, (vm) => ({
        ...vm,
        disks: vm.disks.map((disk) =>
          disk.diskId === diskId ? { ...disk, ...given.place } : disk,
        ),
      }));
      return DONE;
    },
    'machine.setDiskPath': async (given) => {
      const vm = await this.#vm(given);
      const files = vm.disks.map((disk) =>
        isAt(disk, given) ? given.text('path') : this.#pathOf(vm, disk.leaf),
      );
      return done(this.lab.setDiskFiles(vm.id, files));
    },
    'disk.changes': (given) => {
      const offset = Number(given.text('offsetBytes'));
      const lengthBytes = Number(given.text('lengthBytes'));
      if (lengthBytes > this.trouble.windowBytesMax) {
        throw new DrError('E_HYPERVISOR', 'the host was lost: a line is too long');
      }
      const window = { offset, lengthBytes };
      return this.frozen.changesFrom(given.text('path'), given.text('trackingId'), window);
    },
    'disk.get': (given) => this.#diskFile(given.text('path')),
    'checkpoint.create': (given) => this.#createCheckpoint(given),
    'checkpoint.ofJob': (given) => ({ checkpointId: this.#job(given).checkpointId ?? null }),
    'checkpoint.rename': async (given) => {
      const { record } = await this.#checkpoint(given);
      this.#names.set(record.id, given.text('name'));
      return { returnValue: 0, jobId: null };
    },
    'checkpoint.list': async (given) => {
      const vm = await this.#vm(given);
      return { checkpoints: vm.checkpoints.map((record) => this.#checkpointFacts(vm, record)) };
    },
    'checkpoint.destroy': (given) => this.#endCheckpoint('checkpoint.destroy', given),
    'checkpoint.convert': async (given) => ({
      ...(await this.#endCheckpoint('checkpoint.convert', given)),
      referencePointId: null,
    }),
    'referencePoint.ofJob': (given) => ({
      referencePointId: this.#job(given).referencePointId ?? null,
    }),
    'referencePoint.list': async (given) => {
      const vm = await this.#vm(given);
      return { referencePoints: vm.referencePoints.map((point) => this.#pointFacts(vm, point)) };
    },
    'referencePoint.destroy': async (given) => {
      const id = labIdOf(given.text('referencePointId'));
      const vms = await allVms(this.context);
      const vm = vms.find(({ referencePoints }) => referencePoints.some((each) => each.id === id));
      if (vm === undefined) throw missing(id);
      await this.lab.removeReferencePoint(vm.id, id);
      return { returnValue: 0, jobId: null };
    },
    'job.get': (given) => {
      const gone = { state: 'gone', errorCode: 0, errorText: '' };
      const { state, errorCode, errorText } = this.trouble.areJobsForgotten
        ? gone
        : this.#job(given);
      return { state, percent: 100, errorCode, errorText, errors: errorText ? [errorText] : [] };
    },
    'job.cancel': () => ({ returnValue: 0, jobId: null }),
    'switch.list': async () => ({
      switches: (await this.lab.listSwitches()).map(({ name, isPrivate }) => ({
        id: this.#switchId(name),
        name,
        type: isPrivate ? 'Private' : 'External',
      })),
    }),
    'adapter.add': async (given) => {
      const id = randomGuid(systemRandom);
      const mac = given.optionalText('mac');
      if (given.flag('isLegacy')) this.overlayOf(given.vmId).legacyAdapters.add(id);
      await this.#change(given.vmId, (vm) => ({
        ...vm,
        adapters: [
          ...vm.adapters,
          {
            id,
            name: given.text('name'),
            mac: mac ?? NO_MAC,
            isMacStatic: mac !== undefined,
            switchName: undefined,
            vlan: undefined,
            guest: { isDhcp: true, addresses: [], gateways: [], dnsServers: [] },
            nextGuest: undefined,
          },
        ],
      }));
      return { adapterId: id };
    },
    'adapter.connect': (given) =>
      this.#changeAdapter(given, { switchName: this.#switchName(given.text('switchId')) }),
    'adapter.disconnect': (given) => this.#changeAdapter(given, { switchName: undefined }),
    'adapter.setVlan': (given) =>
      this.#changeAdapter(given, { vlan: given.optionalNumber('vlanId') }),
    'adapter.setMac': (given) =>
      this.#changeAdapter(given, { mac: given.text('mac'), isMacStatic: true }),
    'guest.signs': async (given) => {
      const signs = (await this.lab.heartbeat(given.vmId)) === 'ok' ? [2] : [];
      return { heartbeat: signs, keyExchange: signs };
    },
    'guest.adapters': async (given) => {
      const vm = await this.#vm(given);
      if (vm.powerState !== 'running') return { adapters: [] };
      return {
        adapters: vm.adapters.map(({ id, guest }) => ({
          adapterId: id,
          isDhcp: guest.isDhcp,
          addresses: guest.addresses.map((text) => inFull(text.split('/')[0] ?? '')),
          subnets: guest.addresses.map(maskOf),
          gateways: guest.gateways,
          dnsServers: guest.dnsServers,
        })),
      };
    },
    'guest.setAdapter': async (given) => {
      const trouble = this.trouble.jobFails.get('guest.setAdapter');
      if (trouble !== undefined) return { returnValue: 4096, jobId: this.#failed(trouble) };
      const subnets = given.texts('subnets');
      const addresses = given
        .texts('addresses')
        .map((address, index) => `${address}/${prefixOf(subnets[index] ?? '')}`);
      const settings = {
        isDhcp: given.flag('isDhcp'),
        addresses,
        gateways: given.texts('gateways'),
        dnsServers: given.texts('dnsServers'),
      };
      await this.lab.setGuestAddress(given.vmId, given.guid('adapterId'), settings);
      return { returnValue: 4096, jobId: this.#finished('guest.setAdapter') };
    },
    'cluster.group': async (given) => {
      const { name } = await this.#vm(given);
      const { isClustered, isOnline } = this.overlayOf(given.vmId);
      if (!isClustered) return { group: null };
      const state = isOnline ? 'Online' : 'Offline';
      return { group: { name, ownerNode: this.trouble.ownerNode, state } };
    },
    'cluster.start': async (given) => {
      await this.lab.startVm(given.vmId);
      Object.assign(this.overlayOf(given.vmId), { isOnline: true, isSaved: false });
      return DONE;
    },
    'cluster.stop': async (given) => {
      const { powerState } = await this.#vm(given);
      if (this.trouble.rolesWaitForGuest && powerState !== 'off') return DONE;
      // the role's own way is to save
      const isSaved = powerState !== 'off';
      await this.lab.turnOffVm(given.vmId);
      Object.assign(this.overlayOf(given.vmId), { isOnline: false, isSaved });
      return DONE;
    },
    'cluster.sharedVolumes': () => ({ folders: this.sharedVolumes }),
    'cluster.addRole': async (given) => {
      const { id } = await this.#vm(given);
      if (this.trouble.refusesRoles)
        throw new DrError('E_HYPERVISOR', 'the group is there already');
      given.text('name');
      Object.assign(this.overlayOf(id), { isClustered: true, isOnline: false });
      return DONE;
    },
    'cluster.updateRole': (given) =>
      this.overlayOf(given.vmId).isClustered ? DONE : wrong('vmId', given.vmId),
    'cluster.removeRole': (given) => {
      this.overlayOf(given.vmId).isClustered = false;
      return DONE;
    },
  };

  // ---- VMs ------------------------------------------------------------------------------------

  #stateOf({ id, powerState }: VmRecord): string {
    if (this.overlayOf(id).isSaved) return 'Saved';
    return powerState === 'off' ? 'Off' : 'Running';
  }

  async #set(set: SettingHandler, given: Given): Promise<Json> {
    const vm = await this.#vm(given);
    return set({ vm, overlay: this.overlayOf(vm.id), given, trouble: this.trouble });
  }

  #vm(given: Given): Promise<VmRecord> {
    return loadVm(this.context, given.vmId);
  }

  async #change(vmId: Guid, change: (vm: VmRecord) => VmRecord): Promise<void> {
    await withVmLock(this.context, vmId, (vm) => saveVm(this.context, change(vm)));
  }

  async #changeAdapter(given: Given, change: Partial<VmRecord['adapters'][number]>): Promise<Json> {
    const adapterId = given.guid('adapterId');
    await this.#change(given.vmId, (vm) => ({
      ...vm,
      adapters: vm.adapters.map((adapter) =>
        adapter.id === adapterId ? { ...adapter, ...change } : adapter,
      ),
    }));
    return DONE;
  }

  #summary(vm: VmRecord): Json {
    const { notes, isClustered } = this.overlayOf(vm.id);
    return {
      id: vm.id,
      name: vm.name,
      state: this.#stateOf(vm),
      operationalStatus: [2],
      isClustered,
      notes,
    };
  }

  #machine(vm: VmRecord): Json {
    const overlay = this.overlayOf(vm.id);
    const { startAction, cpuCount, lastAppliedId, isSecureBoot, dynamicMemory } = overlay;
    const { currentCheckpointId } = vm;
    const bytes = String(vm.memoryBytes);
    return {
      ...this.#summary(vm),
      generation: vm.generation,
      version: '10.0',
      startAction,
      stopAction: 'Save',
      configurationFolder: overlay.configurationFolder ?? this.context.folder,
      cpuCount: cpuCount ?? vm.cpuCount,
      startupMemoryBytes: bytes,
      isMemoryDynamic: dynamicMemory !== undefined,
      minimumMemoryBytes: dynamicMemory?.[0] ?? bytes,
      maximumMemoryBytes: dynamicMemory?.[1] ?? bytes,
      isSecureBoot: vm.generation === 2 ? isSecureBoot : null,
      secureBootTemplateId: vm.generation === 2 ? overlay.secureBootTemplateId : null,
      hasTpm: overlay.hasTpm,
      isShielded: overlay.isShielded,
      firmwareIds: overlay.firmwareIds,
      bootOrder: overlay.bootOrder ?? bootDevicesOf(vm),
      services: [...overlay.services].map(([id, isEnabled]) => ({ id, isEnabled })),
      parentCheckpointId:
        currentCheckpointId === undefined ? null : instanceIdOf(currentCheckpointId),
      lastAppliedId,
      disks: vm.disks.map((disk) => ({
        controllerType: disk.controller === 'ide' ? 'IDE' : 'SCSI',
        controllerNumber: disk.controllerNumber,
        controllerLocation: disk.controllerLocation,
        path: this.#pathOf(vm, disk.leaf),
        instanceId: settingIdOf(vm.id, disk),
        isPassThrough: overlay.isPassThrough,
        isShared: overlay.isShared,
      })),
      adapters: vm.adapters.map(({ id, name, mac, isMacStatic, switchName, vlan }) => ({
        id,
        name,
        mac,
        isMacDynamic: !isMacStatic,
        isLegacy: overlay.legacyAdapters.has(id),
        switchId: switchName === undefined ? null : this.#switchId(switchName),
        switchName: switchName ?? null,
        vlanId: vlan ?? null,
      })),
    };
  }

  /** Remove-VM leaves all disk files; the lab takes those of checkpoints away, so empty ones are put back. */
  async #removeMachine(vmId: Guid): Promise<Json> {
    const vm = await loadVm(this.context, vmId);
    if (this.overlayOf(vmId).isClustered) {
      throw new DrError('E_HYPERVISOR', 'the VM is a role of the cluster');
    }
    const files = vm.disks.flatMap((disk) => disk.files.map(({ file }) => this.#pathOf(vm, file)));
    await this.lab.removeVm(vmId);
    for (const file of files) {
      if ((await nodeFileSystem.status(file)) === undefined) writeFileSync(file, '');
    }
    this.frozen.drop(vm.checkpoints.map(({ id }) => id));
    this.#overlays.delete(vmId);
    return DONE;
  }

  #pathOf(vm: VmRecord, file: string): string {
    return diskPath(this.context.folder, vm.id, file);
  }

  async #diskFile(path: string): Promise<Json> {
    const disk = await openVhdx(path, { fs: nodeFileSystem, random: systemRandom });
    try {
      return {
        diskId: disk.top.structures.disk.diskId.toUpperCase(),
        sizeBytes: String(disk.sizeBytes),
        logicalSectorBytes: disk.logicalSectorBytes,
        physicalSectorBytes: disk.physicalSectorBytes,
        format: this.diskFormats.get(path) ?? 'VHDX',
        parentPath: disk.layers[1]?.path ?? null,
      };
    } finally {
      await disk.close();
    }
  }

  #switchId(name: string): string {
    const id = this.#switchIds.get(name) ?? randomGuid(systemRandom);
    this.#switchIds.set(name, id);
    return id;
  }

  #switchName(id: string): string {
    const found = [...this.#switchIds].find(([, each]) => each === id);
    if (found === undefined) throw missing(id);
    return found[0];
  }

  // ---- checkpoints and reference points ---------------------------------------------------------

  async #createCheckpoint(given: Given): Promise<Json> {
    const { vmId } = given;
    const trouble = this.trouble.jobFails.get('checkpoint.create');
    const started = { returnValue: 4096, checkpointId: null };
    await this.#vm(given);
    if (trouble !== undefined) return { ...started, jobId: this.#failed(trouble) };
    const consistency = given.text('consistency') === 'application' ? 'application' : 'crash';
    const request = { tag: OWNER, consistency, timeoutMs: 60_000 } as const;
    const { id } = await this.lab.createCheckpoint(vmId, request);
    await this.frozen.prepare(this.context, await loadVm(this.context, vmId), id);
    const jobId = this.#finished('checkpoint.create', { checkpointId: instanceIdOf(id) });
    return { ...started, jobId };
  }

  #checkpointFacts(vm: VmRecord, record: CheckpointRecord): Json {
    return {
      id: instanceIdOf(record.id),
      name: this.#names.get(record.id) ?? `${vm.name} - Backup - (now)`,
      createdAt: new Date(record.createdAtMs).toISOString(),
      consistency: this.trouble.obtained ?? record.consistency,
      disks: record.disks.flatMap(({ diskId, file }) => {
        const disk = vm.disks.find((each) => each.diskId === diskId);
        if (disk === undefined) return [];
        return [{ instanceId: settingIdOf(record.id, disk), path: this.#pathOf(vm, file) }];
      }),
    };
  }

  #pointFacts(vm: VmRecord, point: VmRecord['referencePoints'][number]): Json {
    return {
      id: instanceIdOf(point.id),
      consistency: 'unknown',
      disks: point.disks.flatMap(({ diskId, epoch, sequence }, index) => {
        const disk = vm.disks.find((each) => each.diskId === diskId);
        if (disk === undefined) return [];
        const isMissing = this.trouble.isTrackingIdMissing && index === point.disks.length - 1;
        const trackingId = isMissing ? '' : trackingIdOf(epoch, sequence);
        return [{ instanceId: settingIdOf(vm.id, disk), trackingId }];
      }),
    };
  }

  async #checkpoint(given: Given): Promise<{ vm: VmRecord; record: CheckpointRecord }> {
    const id = labIdOf(given.text('checkpointId'));
    for (const vm of await allVms(this.context)) {
      const record = vm.checkpoints.find((each) => each.id === id);
      if (record !== undefined) return { vm, record };
    }
    throw missing(id);
  }

  async #endCheckpoint(operation: string, given: Given): Promise<Json> {
    const { vm, record } = await this.#checkpoint(given);
    const trouble = this.trouble.jobFails.get(operation);
    const isInUse = record.disks.some(({ file }) => isOpen(this.#pathOf(vm, file)));
    const started = { returnValue: 4096 };
    if (isInUse) {
      const text = 'The process cannot access the file because it is being used.';
      return { ...started, jobId: this.#failed({ text, code: INVALID_STATE }) };
    }
    if (trouble !== undefined) return { ...started, jobId: this.#failed(trouble) };
    this.frozen.drop([record.id]);
    if (operation === 'checkpoint.destroy') {
      await this.lab.removeCheckpoint(vm.id, record.id);
      return { ...started, jobId: this.#finished(operation) };
    }
    const point = await this.lab.convertToReferencePoint(vm.id, record.id);
    const referencePointId = instanceIdOf(point.id);
    return { ...started, jobId: this.#finished(operation, { referencePointId }) };
  }

  /** Whether the status tells of a merge; one that was looked at often enough is done. */
  async #lookAtMerges(vmId: Guid): Promise<boolean> {
    const { merges } = this.trouble;
    const isPending = (await this.lab.pendingMerges(vmId)).length > 0;
    if (!isPending) this.#mergeLooks.delete(vmId);
    if (!isPending) return false;
    if (merges === undefined) {
      // vmms tries again what was in use; whoever looked at a file may have been in its way
      await marks.tidyVm(this.context, vmId, RETRY_MS).catch(() => undefined);
      return true;
    }
    const looks = (this.#mergeLooks.get(vmId) ?? 0) + 1;
    this.#mergeLooks.set(vmId, looks);
    if (looks > merges.looks) {
      await this.#change(vmId, (vm) => ({ ...vm, mergeNotBeforeMs: 0 }));
      await this.lab.waitForMerge(vmId, MERGE_MS);
      return false;
    }
    return merges.isSeen;
  }

  // ---- jobs -------------------------------------------------------------------------------------

  #finished(operation: string, result: Partial<Job> = {}): string {
    return this.#newJob({ state: 'completed', errorCode: 0, errorText: '', ...result }, operation);
  }

  #failed({ text, code }: { readonly text: string; readonly code: number }): string {
    return this.#newJob({ state: 'exception', errorCode: code, errorText: text }, 'failed');
  }

  #newJob(job: Job, operation: string): string {
    const id = `${operation}-${String(this.#jobs.size + 1)}`;
    this.#jobs.set(id, job);
    return id;
  }

  #job(given: Given): Job {
    const job = this.#jobs.get(given.text('jobId'));
    if (job === undefined) throw missing(given.text('jobId'));
    return this.trouble.areJobsForgotten ? { ...job, state: 'gone' } : job;
  }
}

async function done(action: Promise<unknown>): Promise<Json> {
  await action;
  return DONE;
}

const instanceIdOf = (id: string): string => `Microsoft:${id.toUpperCase()}`;

const labIdOf = (instanceId: string): string => instanceId.replace('Microsoft:', '').toLowerCase();

/** Of a VM's storage setting, or of the one of a checkpoint: they differ in the first part. */
function settingIdOf(owner: string, disk: DiskRecord): string {
  const { controllerNumber, controllerLocation } = disk;
  const place = `${String(controllerNumber)}\\${String(controllerLocation)}\\L`;
  return `${instanceIdOf(owner)}\\${CONTROLLER}\\${place}`;
}

function isAt(disk: DiskRecord, given: Given): boolean {
  const { controller, controllerNumber, controllerLocation } = given.place;
  return (
    disk.controller === controller &&
    disk.controllerNumber === controllerNumber &&
    disk.controllerLocation === controllerLocation
  );
}

function missing(what: string): DrError {
  return new DrError('E_NOT_FOUND', `this host has no ${what}`, { context: { what } });
}

function isOpen(path: string): boolean {
  const marker = `${basename(path)}.open-`;
  return readdirSync(dirname(path)).some((name) => name.startsWith(marker));
}
