// What the hardware of a VM is like for its guest, beside its disks and adapters (hyperv.md § 3.2).

import type { Guid } from '../../../bytes/index.js';
import type { Operation } from '../powershell/operation.js';
import { CHANGE_MS, done } from './answers.js';

/** Components that the host does not have are left out. */
export const setServices: Operation<
  {
    readonly vmId: Guid;
    readonly enabledIds: readonly string[];
    readonly disabledIds: readonly string[];
  },
  void
> = { name: 'machine.setServices', timeoutMs: CHANGE_MS, read: done };
