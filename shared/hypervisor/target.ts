// What failover, test failover and failback need of a hypervisor: registering a VM over disks that
// stand ready, its network, its power, a sign of life. Implementations and suite: see source.ts.

import type { Guid } from '../bytes/index.js';
import type {
  AddressSettings,
  OwnerTag,
  VmDefinition,
  VmInventory,
  VmPower,
  VmSummary,
} from './vm.js';

export interface RegisterRequest {
  /** What the VM is to be; its id is ignored, a new one is given. Adapters start disconnected. */
  readonly definition: VmDefinition;
  readonly name: string;
  /** The file of each disk of the definition, in its order; absolute. */
  readonly diskPaths: readonly string[];
  readonly tag: OwnerTag;
  /** Default: a new MAC for each adapter. */
  readonly keepsMacAddresses?: boolean | undefined;
  /** It is to serve, and the cluster of its host takes care of it, where there is one. Default: no, as for a test. */
  readonly joinsCluster?: boolean | undefined;
}

export interface SwitchInfo {
  readonly name: string;
  /** A private switch reaches neither the host nor the network. */
  readonly isPrivate: boolean;
}

/** 'absent': the guest has no integration services, or does not answer. */
export type Heartbeat = 'ok' | 'absent';

export interface TargetCapabilities {
  readonly canSetGuestAddress: boolean;
  readonly canMergeLive: boolean;
  /** False: its guests have addresses, but there is no network that leads to them. Default: true. */
  readonly canReachGuests?: boolean;
}

/** A VM that a registration began and did not end, because its process died. */
export interface UnfinishedVm {
  readonly vmId: Guid;
  readonly name: string;
  /** The files under it. */
  readonly diskPaths: readonly string[];
  /** What somebody has done with it, so that it is not taken away; undefined: it may go. */
  readonly staysBecause: string | undefined;
}

export interface UnfinishedVms {
  /** Those of this host, in the order of their names. A registration that is under way has one as well. */
  list(): Promise<readonly UnfinishedVm[]>;

  /** Its disk files stay. No error when it is gone, or stays. @throws DrError E_LOCKED while somebody registers VMs */
  remove(vmId: Guid): Promise<void>;
}

export interface TargetHypervisor extends VmInventory, VmPower {
  readonly name: string;
  readonly targetCapabilities: TargetCapabilities;
  /** undefined where a registration is done whole or not at all. */
  readonly unfinished?: UnfinishedVms | undefined;

  /**
   * Creates a VM, off, over disks that stand ready. Nothing of it stays after an error.
   * @throws DrError E_EXISTS (name taken), E_NOT_FOUND (a disk is not there), E_HYPERVISOR
   */
  registerVm(request: RegisterRequest): Promise<Guid>;

  /**
   * Forgets the VM, which must be off. The disk files that it was registered with stay; those that the
   * hypervisor made above them (user checkpoints) go. No error when it is gone.
   */
  removeVm(vmId: Guid): Promise<void>;

  /**
   * Puts the VM, which must be off, on other disk files: one for each of its disks, in their order, each
   * with the same content id. The former files stay as they are.
   * @throws DrError E_STATE (not off, or it has checkpoints), E_DISK_MISMATCH, E_NOT_FOUND
   */
  setDiskFiles(vmId: Guid, diskPaths: readonly string[]): Promise<void>;

  /** One VM, without a look at all the others; undefined when it is not there. */
  summaryOf(vmId: Guid): Promise<VmSummary | undefined>;

  /** The VM that bears this tag, in one look at all of them; undefined when none does. */
  findTagged(tag: OwnerTag): Promise<VmSummary | undefined>;

  /** The tag under which a VM was registered; undefined for a VM that is not ours. */
  tagOf(vmId: Guid): Promise<OwnerTag | undefined>;

  /** From then on the VM is its owner's alone. No error when it bears no tag. @throws DrError E_NOT_FOUND */
  dropTag(vmId: Guid): Promise<void>;

  /** Where this host keeps the files of new VMs; absolute. It need not be there yet. */
  defaultVmFolder(): Promise<string>;

  listSwitches(): Promise<readonly SwitchInfo[]>;

  /** Connects an adapter, or disconnects it with undefined. @throws DrError E_NOT_FOUND */
  connectAdapter(
    vmId: Guid,
    adapterId: Guid,
    connection: { readonly switchName: string; readonly vlan: number | undefined } | undefined,
  ): Promise<void>;

  /** Twelve hexadecimal digits. */
  setMacAddress(vmId: Guid, adapterId: Guid, mac: string): Promise<void>;

  /** Applied by the guest at its next start, or at once when it runs. */
  setGuestAddress(vmId: Guid, adapterId: Guid, settings: AddressSettings): Promise<void>;

  heartbeat(vmId: Guid): Promise<Heartbeat>;

  close(): Promise<void>;
}
