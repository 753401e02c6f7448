// The Hyper-V VM that takes the place of a foreign one: BIOS becomes generation 1, UEFI generation 2.

import type { Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type { VmAdapter, VmDefinition, VmDisk } from '../../shared/hypervisor/index.js';
import type { ForeignVm } from './foreign-vm.js';

const MIB = 1024 * 1024;
/** Hyper-V gives memory in pieces of so much, and no less than the second. */
const MEMORY_STEP_BYTES = 2 * MIB;
const MEMORY_MIN_BYTES = 32 * MIB;
const SCSI_CONTROLLERS = 4;
const SCSI_PLACES = 64;

/** A disk that was converted, in the order of the foreign VM's disks. */
export interface ConvertedDisk {
  readonly diskId: Guid;
  readonly path: string;
  readonly sizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
}

export interface DefinitionOptions {
  readonly name: string;
  /** Default: what the firmware asks for. */
  readonly generation?: 1 | 2 | undefined;
  readonly newGuid: () => Guid;
}

/**
 * Adapters keep the names of the networks that they hung on: whoever registers the VM maps them.
 * @throws DrError E_CONVERT_CONFIG when there are more disks than places
 */
export function definitionOf(
  foreign: ForeignVm,
  disks: readonly ConvertedDisk[],
  { name, generation: wanted, newGuid }: DefinitionOptions,
): VmDefinition {
  const generation = wanted ?? (foreign.firmware === 'uefi' ? 2 : 1);
  const memoryBytes = Math.max(
    MEMORY_MIN_BYTES,
    Math.ceil(foreign.memoryBytes / MEMORY_STEP_BYTES) * MEMORY_STEP_BYTES,
  );
  return {
    id: newGuid(),
    name,
    generation,
    cpuCount: foreign.cpuCount,
    memoryBytes,
    isAutoStart: false,
    disks: disks.map((disk, index) => ({ ...disk, ...placeOf(index, generation, name) })),
    adapters: foreign.adapters.map((adapter): VmAdapter => ({
      id: newGuid(),
      name: adapter.name,
      mac: adapter.mac ?? '000000000000',
      isMacStatic: adapter.mac !== undefined,
      switchName: adapter.network,
      vlan: adapter.vlan,
      guest: { isDhcp: true, addresses: [], gateways: [], dnsServers: [] },
    })),
  };
}

type Place = Pick<VmDisk, 'controller' | 'controllerNumber' | 'controllerLocation'>;

/** Generation 1 boots from IDE only, so the first disk hangs there; all others are on SCSI. */
function placeOf(index: number, generation: 1 | 2, name: string): Place {
  if (generation === 1 && index === 0) {
    return { controller: 'ide', controllerNumber: 0, controllerLocation: 0 };
  }
  const at = generation === 1 ? index - 1 : index;
  if (at >= SCSI_CONTROLLERS * SCSI_PLACES) {
    throw new DrError('E_CONVERT_CONFIG', `${name} has more disks than a VM of Hyper-V can hold`, {
      done: 'no VM was made',
    });
  }
  return {
    controller: 'scsi',
    controllerNumber: Math.floor(at / SCSI_PLACES),
    controllerLocation: at % SCSI_PLACES,
  };
}
