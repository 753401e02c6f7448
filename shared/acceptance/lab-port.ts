// The acceptance against the lab: its disks are of our own engine, and its guests write when they are told.

import { guid } from '../bytes/index.js';
import type { Random } from '../clock.js';
import type { FileSystem } from '../files/index.js';
import type { Lab } from '../hypervisor/lab/index.js';
import { describeVhdx, openVhdx } from '../vhdx/index.js';
import type { AcceptancePort } from './port.js';

export function labPort(
  lab: Lab,
  seams: { readonly fs: FileSystem; readonly random: Random },
): AcceptancePort {
  return {
    isIndependent: false,
    writeOffline: (vmId, index, offset, bytes) => lab.guestWrite(vmId, index, offset, bytes),
    playBoot: async (vmId, writes) => {
      for (const { offset, bytes } of writes) await lab.guestWrite(vmId, 0, offset, bytes);
    },
    addUserCheckpoint: async (vmId) => (await lab.addUserCheckpoint(vmId)).id,
    applyUserCheckpoint: async (vmId, id) => {
      await lab.applyUserCheckpoint(vmId, id);
    },
    removeUserCheckpoint: async (vmId, id) => {
      await lab.removeUserCheckpoint(vmId, id);
    },
    listUserCheckpoints: async (vmId) =>
      (await lab.findVm(vmId)).userCheckpoints.map(({ id }) => id),
    inspect: async (file) => {
      const { diskId, sizeBytes, parent } = await describeVhdx(file, seams);
      return { diskId: guid(diskId), sizeBytes, parentPath: parent?.name };
    },
    openNative: (file) => openVhdx(file, seams),
    otherRanges: undefined,
  };
}
