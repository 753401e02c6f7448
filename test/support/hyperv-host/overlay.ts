// What Hyper-V knows of a VM beside what the lab does.

import { randomGuid, type Guid } from '../../../shared/bytes/index.js';
import { systemRandom } from '../../../shared/clock.js';

export interface Overlay {
  notes: string;
  startAction: string;
  cpuCount: number | undefined;
  isClustered: boolean;
  /** Whether the role is online: then the cluster starts a VM that was turned off. */
  isOnline: boolean;
  isSaved: boolean;
  /** At IDE 1:0, as in a new VM of generation 1. */
  hasDvdDrive: boolean;
  isSecureBoot: boolean;
  /** A template of secure boot, by its id. */
  secureBootTemplateId: string;
  firmwareIds: Readonly<Record<string, string>>;
  scsiControllers: number;
  hasTpm: boolean;
  isShielded: boolean;
  /** Of all its disks. */
  isPassThrough: boolean;
  isShared: boolean;
  readonly legacyAdapters: Set<Guid>;
  /** As on the line; undefined: as the host makes it. */
  bootOrder: readonly { readonly kind: string; readonly device: string }[] | undefined;
  /** Of the guest services alone the host thinks that nobody needs them. */
  services: Map<string, boolean>;
  /** Minimum and maximum, as on the line. */
  dynamicMemory: readonly [string, string] | undefined;
  lastAppliedId: string | null;
  /** After the storage of the VM was moved. */
  configurationFolder: string | undefined;
}

/** Of the host. */
export const SECURE_BOOT_TEMPLATES = [
  { id: '1734c6e8-3154-4dda-ba5f-a874cc483422', name: 'MicrosoftWindows' },
  { id: '272e7447-90a4-4563-a4b9-8e4ab00526ce', name: 'MicrosoftUEFICertificateAuthority' },
] as const;

/** Of a VM that nobody has changed anything of. */
export function newOverlay(vmId: Guid): Overlay {
  return {
    notes: '',
    startAction: 'StartIfRunning',
    cpuCount: undefined,
    isClustered: false,
    isOnline: true,
    isSaved: false,
    hasDvdDrive: false,
    isSecureBoot: true,
    secureBootTemplateId: SECURE_BOOT_TEMPLATES[0].id,
    firmwareIds: {
      biosGuid: `{${randomGuid(systemRandom).toUpperCase()}}`,
      biosSerialNumber: `bios of ${vmId}`,
      baseBoardSerialNumber: `board of ${vmId}`,
      chassisSerialNumber: `chassis of ${vmId}`,
      chassisAssetTag: `asset ${vmId}`,
    },
    scsiControllers: 1,
    hasTpm: false,
    isShielded: false,
    isPassThrough: false,
    isShared: false,
    legacyAdapters: new Set(),
    bootOrder: undefined,
    services: new Map([
      ['9F8233AC-BE49-4C79-8EE3-E7E1985B2077', true],
      ['2497F4DE-E9FA-4204-80E4-4B75C46419C0', true],
      ['6C09BB55-D683-4DA0-8931-C9BF705F6480', false],
    ]),
    dynamicMemory: undefined,
    lastAppliedId: null,
    configurationFolder: undefined,
  };
}
