// The hand that an acceptance has at the disks of a host of Hyper-V: virtdisk.dll for files, PowerShell for the
// checkpoints of a user. Has the shape of shared/acceptance/port.ts, which knows this folder and not the other way
// round.

import { defined } from '../../assert.js';
import { guid, type Guid } from '../../bytes/index.js';
import type { ReadableDisk } from '../../disk/index.js';
import type { ByteRange } from '../source.js';
import type { VmInventory } from '../vm.js';
import type { VirtualDisks } from './native/index.js';
import * as operations from './operations/acceptance.js';
import type { OperationRunner } from './powershell/operation.js';

/** What is needed of the native layer. */
export type NativeDisks = Pick<VirtualDisks, 'inspect' | 'openFrozen' | 'openWritable' | 'grow'>;

interface AcceptanceSeams {
  readonly vms: Pick<VmInventory, 'describeVm'>;
  readonly disks: NativeDisks;
  readonly runner: OperationRunner;
  /** GetVirtualDiskChanges of WMI. */
  readonly rangesByWmi: (
    vmId: Guid,
    checkpointId: string,
    diskId: Guid,
    trackingId: string,
  ) => AsyncIterable<ByteRange>;
}

export class AcceptanceDisks {
  readonly isIndependent = true;
  readonly otherRanges: AcceptanceSeams['rangesByWmi'];
  readonly #vms: AcceptanceSeams['vms'];
  readonly #disks: NativeDisks;
  readonly #runner: OperationRunner;

  constructor({ vms, disks, runner, rangesByWmi }: AcceptanceSeams) {
    this.#vms = vms;
    this.#disks = disks;
    this.#runner = runner;
    this.otherRanges = rangesByWmi;
  }

  async writeOffline(
    vmId: Guid,
    diskIndex: number,
    offset: number,
    bytes: Uint8Array,
  ): Promise<void> {
    const disk = await this.#disks.openWritable(await this.#pathOf(vmId, diskIndex));
    try {
      await disk.write(offset, bytes);
      await disk.flush();
    } finally {
      await disk.close();
    }
  }

  async growDisk(vmId: Guid, diskIndex: number, sizeBytes: number): Promise<void> {
    await this.#disks.grow(await this.#pathOf(vmId, diskIndex), sizeBytes);
  }

  async addUserCheckpoint(vmId: Guid): Promise<string> {
    const { checkpointId } = await this.#runner.run(operations.userCheckpointAdd, { vmId });
    return checkpointId;
  }

  async applyUserCheckpoint(vmId: Guid, id: string): Promise<void> {
    const checkpointId = guid(id);
    await this.#runner.run(operations.userCheckpointApply, { vmId, checkpointId });
  }

  async removeUserCheckpoint(vmId: Guid, id: string): Promise<void> {
    const checkpointId = guid(id);
    await this.#runner.run(operations.userCheckpointRemove, { vmId, checkpointId });
  }

  async listUserCheckpoints(vmId: Guid): Promise<readonly string[]> {
    const { checkpointIds } = await this.#runner.run(operations.userCheckpointList, { vmId });
    return checkpointIds.map((id) => guid(id));
  }

  inspect(file: string): ReturnType<NativeDisks['inspect']> {
    return this.#disks.inspect(file);
  }

  openNative(file: string): Promise<ReadableDisk> {
    return this.#disks.openFrozen(file);
  }

  async #pathOf(vmId: Guid, diskIndex: number): Promise<string> {
    const { disks } = await this.#vms.describeVm(vmId);
    return defined(disks[diskIndex], 'the VM of a probe has the disk').path;
  }
}

/** What an open provider has of it. */
export function acceptanceOf(host: object): AcceptanceDisks | undefined {
  if (!('acceptance' in host)) return undefined;
  return host.acceptance instanceof AcceptanceDisks ? host.acceptance : undefined;
}
