// The words that both halves of a hypervisor share: what a VM is, what it is doing, and whose an
// object is. All values are plain data: they travel to the other site and into reports.

import type { Guid } from '../bytes/index.js';

export type PowerState = 'off' | 'starting' | 'running' | 'stopping' | 'paused' | 'unknown';

export interface VmSummary {
  readonly id: Guid;
  /** For people; neither unique nor stable. */
  readonly name: string;
  readonly powerState: PowerState;
}

export interface VmDisk {
  /** Identity of the disk's content (page 83 id of the VHDX): the same for all files of a chain. */
  readonly diskId: Guid;
  readonly controller: 'ide' | 'scsi';
  readonly controllerNumber: number;
  readonly controllerLocation: number;
  readonly sizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
  /** Where the VM's current file stands on this host; for messages only. */
  readonly path: string;
  /** Why this disk cannot be replicated (pass-through, shared, VHD); undefined when it can. */
  readonly unsupported?: string | undefined;
}

/** The address settings of one adapter as the guest has them. */
export interface AddressSettings {
  readonly isDhcp: boolean;
  /** `192.0.2.10/24`, `2001:db8::10/64` */
  readonly addresses: readonly string[];
  readonly gateways: readonly string[];
  readonly dnsServers: readonly string[];
}

export interface VmAdapter {
  readonly id: Guid;
  readonly name: string;
  /** Twelve upper-case hexadecimal digits. */
  readonly mac: string;
  readonly isMacStatic: boolean;
  /** Of generation 1: one that every guest has a driver for. Default: no. */
  readonly isLegacy?: boolean | undefined;
  /** undefined: not connected. */
  readonly switchName: string | undefined;
  /** undefined: untagged. */
  readonly vlan: number | undefined;
  readonly guest: AddressSettings;
}

/** Kinds of devices that a VM of generation 1 starts from. */
export const BOOT_CLASSES = ['CD', 'IDE', 'LegacyNetworkAdapter', 'Floppy'] as const;

export type BootClass = (typeof BOOT_CLASSES)[number];

export type BootDevice =
  | { readonly kind: 'disk'; readonly diskId: Guid }
  | { readonly kind: 'adapter'; readonly adapterId: Guid }
  | { readonly kind: 'class'; readonly deviceClass: BootClass };

/** By which a guest, and a licence in it, knows its hardware. */
export interface FirmwareIds {
  /** undefined: its host names none. */
  readonly biosGuid: Guid | undefined;
  readonly biosSerialNumber: string;
  readonly baseBoardSerialNumber: string;
  readonly chassisSerialNumber: string;
  readonly chassisAssetTag: string;
}

/** What the host offers to the guest: the clock, the shutdown, the heartbeat and others. */
export interface IntegrationService {
  /** Of its component: the same on every host, whatever its language calls it. */
  readonly id: Guid;
  readonly isEnabled: boolean;
}

/** What a VM needs to start as it did, and only Hyper-V knows. */
export interface HyperVSettings {
  /** Of generation 2. */
  readonly isSecureBoot: boolean;
  readonly secureBootTemplate: string | undefined;
  /** undefined: it has the memory that it starts with. */
  readonly dynamicMemory:
    { readonly minimumBytes: number; readonly maximumBytes: number } | undefined;
  /** Neither its contents nor its key protector travel: the copy gets an empty one. */
  readonly hasTpm: boolean;
  /** Those that are not named stay as the host makes them. */
  readonly integrationServices: readonly IntegrationService[];
  /** First what it starts from first. None: as the host makes it. */
  readonly bootOrder: readonly BootDevice[];
  /** undefined: new ones, as another machine has. */
  readonly firmwareIds: FirmwareIds | undefined;
}

export interface VmDefinition {
  readonly id: Guid;
  readonly name: string;
  readonly generation: 1 | 2;
  readonly cpuCount: number;
  readonly memoryBytes: number;
  readonly isAutoStart: boolean;
  /** In the order of the controllers' places. */
  readonly disks: readonly VmDisk[];
  readonly adapters: readonly VmAdapter[];
  /** undefined: its host has no such settings. */
  readonly hyperV?: HyperVSettings | undefined;
}

/**
 * Marks an object that this product made at a hypervisor, so that it is found again after a crash
 * and nothing else is ever touched (failover.md I4).
 */
export interface OwnerTag {
  readonly protectionId: Guid;
  readonly operationId: Guid;
}

/** Verbs about power; each returns when the state is reached. */
export interface VmPower {
  /** @throws DrError E_NOT_FOUND (no such VM), E_HYPERVISOR (would not start) */
  startVm(vmId: Guid): Promise<void>;
  /**
   * Asks the guest to shut down and waits.
   * @throws DrError E_SHUTDOWN_TIMEOUT when the guest does not stop within `timeoutMs`
   */
  shutDownVm(vmId: Guid, timeoutMs: number): Promise<void>;
  /** Like pulling the plug. */
  turnOffVm(vmId: Guid): Promise<void>;
}

export interface VmInventory {
  /** All VMs of this host, in the order of their names. */
  listVms(): Promise<readonly VmSummary[]>;
  /** @throws DrError E_NOT_FOUND */
  describeVm(vmId: Guid): Promise<VmDefinition>;
}
