// Power and signs of life. A clustered VM goes by its role, else the cluster undoes what we do (hyperv.md § 3.6).

import type { Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import type { Heartbeat } from '../target.js';
import { startRole, stopRole } from './cluster.js';
import type { HyperVContext } from './context.js';
import { refuseFenced } from './fence.js';
import { applyRememberedAddresses } from './guest.js';
import { endOfMethod } from './jobs.js';
import { loadMachine, powerOf } from './machines.js';
import { getGuestSigns } from './operations/guest.js';
import {
  dropSavedState,
  getMachineStatus,
  requestShutdown,
  startMachine,
  turnOffMachine,
} from './operations/machines.js';
import { reachesPower } from './status.js';

const START_MS = 5 * 60_000;
const TURN_OFF_MS = 2 * 60_000;
/** As a role leaves its VM that goes offline. */
const SAVED = ['Saved', 'FastSaved'];
const SIGN_IS_WELL = 2;
/** Of Msvm_ShutdownComponent: somebody asked the guest already. */
const SHUTDOWN_UNDER_WAY = 32_782;
const REASON = 'PodHeitor HVDR: planned failover';

export async function startVm(context: HyperVContext, vmId: Guid): Promise<void> {
  const machine = await loadMachine(context, vmId);
  refuseFenced(machine);
  if (powerOf(machine.state) !== 'running') {
    if (!(await startRole(context, machine))) await context.runner.run(startMachine, { vmId });
    if (!(await reachesPower(context, vmId, 'running', START_MS))) {
      throw new DrError('E_HYPERVISOR', `the VM ${machine.name} did not start in ${START_MS} ms`, {
        context: { vmId },
        done: 'it was told to start',
      });
    }
  }
  await applyRememberedAddresses(context, vmId);
}

export async function shutDownVm(
  context: HyperVContext,
  vmId: Guid,
  timeoutMs: number,
): Promise<void> {
  const machine = await loadMachine(context, vmId);
  if (powerOf(machine.state) === 'off') return;
  const refused = (why: string, cause?: unknown): DrError =>
    new DrError('E_SHUTDOWN_TIMEOUT', `the VM ${machine.name} ${why}`, {
      context: { vmId, timeoutMs },
      done: 'it runs on',
      cause,
    });
  const answer = await context.runner.run(requestShutdown, { vmId, reason: REASON });
  if (answer.returnValue !== SHUTDOWN_UNDER_WAY) {
    const what = `the shutdown of the VM ${machine.name}`;
    try {
      await endOfMethod(answer, { ...context, what, timeoutMs });
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      throw refused(`would not shut down: ${error.message}`, error);
    }
  }
  if (!(await reachesPower(context, vmId, 'off', timeoutMs))) {
    throw refused(`did not stop in ${String(timeoutMs)} ms`);
  }
  await stopRole(context, machine);
}

export async function turnOffVm(context: HyperVContext, vmId: Guid): Promise<void> {
  const { runner } = context;
  const machine = await loadMachine(context, vmId);
  try {
    // before the VM: else the cluster starts it again, here or on another node
    await stopRole(context, machine);
  } catch (error) {
    if (!(error instanceof DrError) || !machine.isClustered) throw error;
    // a role that waits for its guest to shut down, or saves it for too long, lets go of it when it has no power
    await runner.run(turnOffMachine, { vmId });
    await stopRole(context, machine);
  }
  const { state } = await runner.run(getMachineStatus, { vmId });
  if (SAVED.includes(state)) await runner.run(dropSavedState, { vmId });
  else if (powerOf(state) !== 'off') await runner.run(turnOffMachine, { vmId });
  if (await reachesPower(context, vmId, 'off', TURN_OFF_MS)) return;
  throw new DrError('E_HYPERVISOR', `the VM ${machine.name} was not off in ${TURN_OFF_MS} ms`, {
    context: { vmId },
    done: 'it was told to turn off',
  });
}

export async function heartbeat(context: HyperVContext, vmId: Guid): Promise<Heartbeat> {
  const { state } = await context.runner.run(getMachineStatus, { vmId });
  if (powerOf(state) !== 'running') return 'absent';
  const signs = await context.runner.run(getGuestSigns, { vmId });
  return signs.heartbeat[0] === SIGN_IS_WELL ? 'ok' : 'absent';
}
