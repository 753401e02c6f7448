// The VM of ours at this site: registering it over its disks, power, taking it away. It is found by its
// owner tag, so that each of these can be done again after a crash.

import type { Guid } from '../../shared/bytes/index.js';
import type { Clock } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import type { OwnerTag, PowerState, RegisterRequest } from '../../shared/hypervisor/index.js';
import type { Instance } from './model.js';
import type { TargetHost } from './ports.js';

/** The VM that bears this tag. `knownId`: where it is looked for before all others are asked. */
export async function findInstance(
  host: TargetHost,
  tag: OwnerTag,
  knownId?: Guid,
): Promise<{ readonly vmId: Guid; readonly powerState: PowerState } | undefined> {
  const known = knownId === undefined ? undefined : await host.summaryOf(knownId);
  if (known !== undefined && (await bears(host, known.id, tag))) {
    return { vmId: known.id, powerState: known.powerState };
  }
  const found = await host.findTagged(tag);
  return found && { vmId: found.id, powerState: found.powerState };
}

async function bears(host: TargetHost, vmId: Guid, tag: OwnerTag): Promise<boolean> {
  const found = await tagOf(host, vmId);
  return found?.protectionId === tag.protectionId && found.operationId === tag.operationId;
}

/** undefined also when somebody removed the VM meanwhile. */
export async function tagOf(host: TargetHost, vmId: Guid): Promise<OwnerTag | undefined> {
  try {
    return await host.tagOf(vmId);
  } catch (error) {
    if (error instanceof DrError && error.code === 'E_NOT_FOUND') return undefined;
    throw error;
  }
}

/** Registers the VM unless it is, and returns its id. @throws DrError E_EXISTS, E_HYPERVISOR */
export async function register(
  host: TargetHost,
  tag: OwnerTag,
  request: Omit<RegisterRequest, 'tag'>,
): Promise<Guid> {
  const known = await findInstance(host, tag);
  return known?.vmId ?? (await host.registerVm({ ...request, tag }));
}

/** @throws DrError E_HYPERVISOR */
export async function powerOn(host: TargetHost, vmId: Guid): Promise<void> {
  const state = await powerStateOf(host, vmId);
  if (state !== 'running' && state !== 'starting') await host.startVm(vmId);
}

export async function powerStateOf(host: TargetHost, vmId: Guid): Promise<PowerState | undefined> {
  return (await host.summaryOf(vmId))?.powerState;
}

/**
 * The VM that bears the tag. One that is there under its id and bears it no more is not taken for gone:
 * its disks may be in use. @throws DrError E_STATE
 */
async function findOurs(
  host: TargetHost,
  tag: OwnerTag,
  knownId: Guid | undefined,
): ReturnType<typeof findInstance> {
  const found = await findInstance(host, tag, knownId);
  if (found !== undefined || knownId === undefined) return found;
  const state = await powerStateOf(host, knownId);
  if (state === undefined) return undefined;
  throw new DrError(
    'E_STATE',
    `the VM ${knownId} does not bear our mark any more, and is ${state}`,
    {
      context: { vmId: knownId, powerState: state },
      done: 'neither it nor its disks were touched',
      hint: 'Look at the VM: somebody changed what it says of its owner.',
    },
  );
}

/**
 * Resolves when the VM is known to be off, or gone. `knownId`: as it was registered, where that is known.
 * @throws DrError E_HYPERVISOR, E_STATE
 */
export async function powerOff(host: TargetHost, tag: OwnerTag, knownId?: Guid): Promise<void> {
  const found = await findOurs(host, tag, knownId);
  if (found === undefined || found.powerState === 'off') return;
  await host.turnOffVm(found.vmId);
  const state = await powerStateOf(host, found.vmId);
  if (state === undefined || state === 'off') return;
  throw new DrError('E_HYPERVISOR', `the VM ${found.vmId} was turned off and is ${state}`, {
    context: { vmId: found.vmId, powerState: state },
  });
}

/** Forgets the VM, which is off; its disk files stay. No error when it is gone. @throws DrError E_STATE */
export async function unregister(host: TargetHost, tag: OwnerTag, knownId?: Guid): Promise<void> {
  const found = await findOurs(host, tag, knownId);
  if (found !== undefined) await host.removeVm(found.vmId);
}

export function tagOfInstance(protectionId: Guid, { operationId }: Instance): OwnerTag {
  return { protectionId, operationId };
}

/** Waits between two looks at a guest that comes up. */
const LOOK_AGAIN_MS = 1000;

/** Whether the guest gave a sign of life in time. */
export async function waitForHeartbeat(
  host: TargetHost,
  vmId: Guid,
  { clock, timeoutMs, signal }: { clock: Clock; timeoutMs: number; signal: AbortSignal },
): Promise<boolean> {
  const untilMs = clock.monotonic() + timeoutMs;
  for (;;) {
    if ((await host.heartbeat(vmId)) === 'ok') return true;
    const leftMs = untilMs - clock.monotonic();
    if (leftMs <= 0) return false;
    await clock.sleep(Math.min(LOOK_AGAIN_MS, leftMs), signal);
  }
}
