// What a VM is doing besides running: while vmms is at work on its disks, nothing else is begun (hyperv.md § 1.2).

import type { Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import type { PowerState } from '../vm.js';
import type { HyperVContext } from './context.js';
import { powerOf } from './machines.js';
import { getMachineStatus, type MachineStatus } from './operations/machines.js';

/** Msvm_ComputerSystem.OperationalStatus from 32768 on. */
const ACTIVITIES: Readonly<Record<number, string>> = {
  32_768: 'a checkpoint is being made',
  32_769: 'a checkpoint is being applied',
  32_770: 'a checkpoint is being deleted',
  32_771: 'it waits to be started',
  32_772: 'its disks are being merged',
  32_773: 'it is being exported',
  32_774: 'it is being migrated',
  32_776: 'it is being backed up',
};
export const MERGING = 32_772;
export const DELETING_CHECKPOINT = 32_770;
const MIGRATING = 32_774;
export const BACKING_UP = 32_776;
const POLL_MS = 500;

/** Numbers that are new to us count as no activity: a wait for them might never end. */
export function activitiesOf({ operationalStatus }: MachineStatus): readonly number[] {
  return operationalStatus.filter((code) => ACTIVITIES[code] !== undefined);
}

/**
 * Returns when vmms is at work on nothing of the VM; what is in `besides` is let go on.
 * @throws DrError E_HYPERVISOR at once while it is being migrated, E_STALLED
 */
export async function waitUntilIdle(
  context: HyperVContext,
  vmId: Guid,
  timeoutMs: number,
  besides: readonly number[] = [],
): Promise<void> {
  const { runner, clock } = context;
  const deadline = clock.monotonic() + timeoutMs;
  for (;;) {
    const all = activitiesOf(await runner.run(getMachineStatus, { vmId }));
    const activities = all.filter((code) => !besides.includes(code));
    if (activities.length === 0) return;
    if (activities.includes(MIGRATING)) {
      throw new DrError('E_HYPERVISOR', `the VM ${vmId} is being migrated`, {
        context: { vmId },
        hint: 'The next cycle goes on, on the node that owns it then.',
      });
    }
    if (clock.monotonic() >= deadline) {
      const what = activities.map((code) => ACTIVITIES[code] ?? '').join(', ');
      throw new DrError('E_STALLED', `the VM ${vmId} was busy for ${timeoutMs} ms: ${what}`, {
        context: { vmId, timeoutMs },
      });
    }
    await clock.sleep(POLL_MS);
  }
}

/** True when the VM came to be in the state; false when it did not in time. */
export async function reachesPower(
  context: HyperVContext,
  vmId: Guid,
  power: PowerState,
  timeoutMs: number,
): Promise<boolean> {
  const { runner, clock } = context;
  const deadline = clock.monotonic() + timeoutMs;
  for (;;) {
    const { state } = await runner.run(getMachineStatus, { vmId });
    if (powerOf(state) === power) return true;
    if (clock.monotonic() >= deadline) return false;
    await clock.sleep(Math.min(POLL_MS, Math.max(1, deadline - clock.monotonic())));
  }
}
