// Addresses of a guest. Hyper-V hands them to a guest that runs and is in contact; for one that is off they are
// remembered until its next start (hyperv.md § 3.4).

import type { Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import type { AddressSettings } from '../vm.js';
import type { HyperVContext } from './context.js';
import { hasAddresses, settingsOf, wishOf } from './guest-addresses.js';
import { endOfMethod } from './jobs.js';
import { loadMachine, powerOf } from './machines.js';
import { readMemory, remember } from './memory.js';
import { requireAdapter } from './network.js';
import { getGuestAdapters, getGuestSigns, setGuestAdapter } from './operations/guest.js';

const CONTACT_MS = 5 * 60_000;
const READ_BACK_MS = 60_000;
const POLL_MS = 1000;
const SIGN_IS_WELL = 2;

export async function setGuestAddress(
  context: HyperVContext,
  vmId: Guid,
  adapterId: Guid,
  settings: AddressSettings,
): Promise<void> {
  wishOf(settings);
  const machine = await loadMachine(context, vmId);
  const adapter = requireAdapter(machine, adapterId);
  if (adapter.isLegacy) {
    throw new DrError(
      'E_HYPERVISOR',
      `the adapter ${adapter.name} of ${machine.name} is a legacy one`,
      {
        context: { vmId, adapterId },
        hint: 'Hyper-V sets addresses of synthetic adapters only; let the guest use DHCP.',
      },
    );
  }
  // what is remembered for the next start is this from now on, also when the guest takes it at once
  await remember(context, vmId, (memory) => ({
    ...memory,
    addresses: [
      ...memory.addresses.filter((other) => other.adapterId !== adapterId),
      { adapterId, settings },
    ],
  }));
  if (powerOf(machine.state) !== 'running') return;
  try {
    await apply(context, vmId, adapterId, settings);
  } catch (error) {
    // whoever asked is told that it failed: a later start must not bring it all the same
    if (error instanceof DrError) await forgetAddress(context, vmId, adapterId);
    throw error;
  }
}

async function forgetAddress(context: HyperVContext, vmId: Guid, adapterId: Guid): Promise<void> {
  await remember(context, vmId, (memory) => ({
    ...memory,
    addresses: memory.addresses.filter((other) => other.adapterId !== adapterId),
  }));
}

/**
 * Hands over what was set while the VM was off. A guest that cannot be reached, or does not take it, starts all the
 * same: whoever waits for its address sees that it is not there, and what is remembered stays for the next start.
 */
export async function applyRememberedAddresses(context: HyperVContext, vmId: Guid): Promise<void> {
  const { addresses } = await readMemory(context, vmId);
  for (const { adapterId, settings } of addresses) {
    try {
      await apply(context, vmId, adapterId, settings);
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
    }
  }
}

async function apply(
  context: HyperVContext,
  vmId: Guid,
  adapterId: Guid,
  settings: AddressSettings,
): Promise<void> {
  const { runner } = context;
  const what = `the addresses of the adapter ${adapterId}`;
  const fail = (why: string): DrError =>
    new DrError('E_REIP_GUEST', `${what} were not set: ${why}`, { context: { vmId, adapterId } });
  const isInContact = async (): Promise<boolean> => {
    const { keyExchange } = await runner.run(getGuestSigns, { vmId });
    return keyExchange[0] === SIGN_IS_WELL;
  };
  if (!(await comesTrue(context, CONTACT_MS, isInContact))) {
    throw fail(`the guest was not in contact with Hyper-V in ${CONTACT_MS} ms`);
  }
  const answer = await runner.run(setGuestAdapter, { vmId, adapterId, ...wishOf(settings) });
  await endOfMethod(answer, { ...context, what, timeoutMs: READ_BACK_MS, code: 'E_REIP_GUEST' });
  const hasThem = async (): Promise<boolean> => {
    const adapters = await runner.run(getGuestAdapters, { vmId });
    const guest = adapters.find((adapter) => adapter.adapterId === adapterId);
    return guest !== undefined && hasAddresses(settingsOf(guest), settings);
  };
  if (!(await comesTrue(context, READ_BACK_MS, hasThem))) {
    throw fail(`the guest did not show them in ${READ_BACK_MS} ms`);
  }
  await forgetAddress(context, vmId, adapterId);
}

async function comesTrue(
  { clock }: HyperVContext,
  timeoutMs: number,
  look: () => Promise<boolean>,
): Promise<boolean> {
  const deadline = clock.monotonic() + timeoutMs;
  for (;;) {
    if (await look()) return true;
    if (clock.monotonic() >= deadline) return false;
    await clock.sleep(POLL_MS);
  }
}
