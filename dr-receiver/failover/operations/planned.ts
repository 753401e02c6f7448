// Planned failover (failover.md § 4): no data is lost, or nothing happened. Until P6 it is given up without
// a trace; from P6 on it is what an unplanned one is.

import { defined } from '../../../shared/assert.js';
import { DrError } from '../../../shared/errors.js';
import { type AfterFailure, operationTable } from '../engine.js';
import type { FailoverPatch } from '../failover-book.js';
import type { SourceSite } from '../ports.js';
import { intendDisks, intendPower, makeDisks, powerOnAndCheck, registerVm } from './come-up.js';
import { commitTimer, tellSource } from './unplanned.js';
import type { Work, WorkTable } from './work.js';

/** @throws DrError E_SOURCE_UNREACHABLE */
export function requireSource({ source, vm }: Work): SourceSite {
  if (source !== undefined) return source;
  const { vmName } = vm.protection;
  throw new DrError('E_SOURCE_UNREACHABLE', `no agent that serves ${vmName} is attached`, {
    context: { vmId: vm.vmId },
  });
}

async function shutDown(work: Work): Promise<FailoverPatch> {
  const { vm, values, order } = work;
  const source = requireSource(work);
  const { powerState } = await source.describe(vm.vmId);
  // whoever had stopped it before does not want it started again
  if (powerState === 'off') return {};
  const how = { timeoutMs: values.shutdown_timeout * 1000, mayTurnOff: values.force_off };
  await source.shutDown(vm.vmId, order, how);
  return {};
}

async function noteWhetherItRuns(work: Work): Promise<FailoverPatch> {
  const { vm } = work;
  const { powerState } = await requireSource(work).describe(vm.vmId);
  return powerState === 'off' ? {} : { change: { isSourceStopped: true } };
}

/** A plan of many VMs has all of them off before the first comes up. */
async function takeLastDeltaAndHold(work: Work): Promise<FailoverPatch> {
  const found = await takeLastDelta(work);
  if (work.values.hold !== undefined) {
    await work.run.hold('P5', 'the last delta is here; waits to be resumed');
  }
  return found;
}

async function takeLastDelta(work: Work): Promise<FailoverPatch> {
  const { vm, order } = work;
  const { vmName } = vm.protection;
  try {
    const { pointId, isCompared } = await requireSource(work).finalCycle(vm.vmId, order);
    if (!isCompared) throw new DrError('E_DIFFERENT', 'the disks of both sites were not compared');
    const head = defined(vm.protection.head, 'a VM that was replicated has a point');
    if (head.pointId !== pointId) {
      throw new DrError(
        'E_STATE',
        `the newest point is ${head.pointId}, the source sent ${pointId}`,
      );
    }
    return { pointId };
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    throw new DrError('E_FINAL_SYNC_FAILED', `${vmName}: no last delta: ${error.line}`, {
      context: { vmId: vm.vmId, code: error.code },
      done: 'the failover was given up; the VM is started again at the primary site',
      cause: error,
    });
  }
}

/** A guest that would not stop has not been touched; an agent that went away may come back. */
const unlessUnreachable = (error: unknown): AfterFailure =>
  error instanceof DrError && ['E_SOURCE_UNREACHABLE', 'E_CHANNEL'].includes(error.code)
    ? 'stay'
    : 'back';

export const PLANNED: WorkTable = operationTable(
  'planned',
  {
    P1: { run: noteWhetherItRuns },
    P2: {
      run: async (work) => {
        await requireSource(work).presync(work.vm.vmId, work.order);
        return undefined;
      },
    },
    P3: { afterFailure: unlessUnreachable, run: shutDown },
    P4: {
      afterFailure: unlessUnreachable,
      run: async (work) => {
        await requireSource(work).fence(work.vm.vmId, work.order);
        return undefined;
      },
    },
    P5: { run: takeLastDeltaAndHold },
    P6: {
      intent: () => ({ change: { activeSite: 'target' }, raisesEpoch: true, owes: ['fence'] }),
      run: tellSource,
    },
    P7: {
      afterFailure: 'stay',
      intent: intendDisks,
      run: async (work) => {
        await makeDisks(work);
        return registerVm(work);
      },
    },
    P8: { intent: intendPower, run: powerOnAndCheck },
  },
  (work) => ({ change: { phase: 'failed-over', commit: commitTimer(work) } }),
);
