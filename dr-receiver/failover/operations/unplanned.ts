// Unplanned failover (failover.md § 4): one verified point runs here, and the old source cannot come back
// into the pair. Before U2 nothing has happened; from then on forward, or undo.

import { defined } from '../../../shared/assert.js';
import { DrError } from '../../../shared/errors.js';
import { listedPoint } from '../../store/point-sources.js';
import { materialisePoint } from '../disks.js';
import { type AfterFailure, operationTable } from '../engine.js';
import type { FailoverPatch } from '../failover-book.js';
import type { CommitTimer } from '../model.js';
import type { SourceSite } from '../ports.js';
import { intendDisks, intendPower, makeDisks, powerOnAndCheck, registerVm } from './come-up.js';
import { isAlive, probeSource } from './probe.js';
import { UNDO } from './undo.js';
import { tellIfThere, type Work, type WorkTable } from './work.js';

/** @throws DrError E_SOURCE_ALIVE, E_SHUTDOWN_TIMEOUT, E_REMOTE_ACTION */
async function stopSource(work: Work): Promise<FailoverPatch | undefined> {
  const { source, vm, values } = work;
  // what is forced waits for nobody
  if (values.force || source === undefined) return undefined;
  const found = await probeSource(work);
  if (found === undefined) return undefined;
  if (isAlive(found)) {
    if (!values.fence_source) {
      throw new DrError('E_SOURCE_ALIVE', `${vm.protection.vmName} runs at the primary site`, {
        context: { vmId: vm.vmId, powerState: found.powerState },
      });
    }
    await fenceOff(work, source);
  }
  return undefined;
}

/** A guest of which these are told runs on. */
const NOT_STOPPED: ReadonlySet<string> = new Set(['E_SHUTDOWN_TIMEOUT', 'E_REMOTE_ACTION']);

/** From before the VM is asked to stop on, it is owed to be started when the failover comes to nothing. */
async function fenceOff(work: Work, source: SourceSite): Promise<void> {
  const { vm, values, order, book, record } = work;
  const { isSourceStopped } = record;
  await book.note({ change: { isSourceStopped: true } });
  const how = { timeoutMs: values.shutdown_timeout * 1000, mayTurnOff: values.force_off };
  try {
    await source.shutDown(vm.vmId, order, how);
  } catch (error) {
    if (error instanceof DrError && NOT_STOPPED.has(error.code)) {
      await book.note({ change: { isSourceStopped } });
    }
    throw error;
  }
}

/** The source learns that it is not the active site; as long as it has not, it is owed. */
export async function tellSource(work: Work): Promise<FailoverPatch | undefined> {
  const { vm, order } = work;
  const isTold = await tellIfThere(work, async (source) => {
    await source.tellEpoch(vm.vmId, { ...order, isSourceActive: false, isRetired: false });
    const { powerState, isFenced } = await source.describe(vm.vmId);
    // a running VM is never touched because of an epoch
    if (powerState !== 'off')
      throw new DrError('E_SOURCE_ALIVE', 'the VM runs at the primary site');
    if (!isFenced) await source.fence(vm.vmId, order);
  });
  return isTold ? { paid: ['fence'] } : undefined;
}

export function commitTimer({ values, site }: Work): CommitTimer {
  const policy = values.commit_policy;
  const deadlineMs = policy === 'none' ? 0 : site.seams.clock.now() + values.commit_after * 1000;
  return { policy, deadlineMs };
}

/** A point that does not read back is found when its deltas are read: then all is taken back. */
const unlessCorrupt = (error: unknown): AfterFailure =>
  error instanceof DrError && error.code === 'E_POINT_CORRUPT' ? 'back' : 'stay';

export const UNPLANNED: WorkTable = operationTable(
  'unplanned',
  {
    U1: { run: stopSource },
    U2: {
      intent: () => ({ change: { activeSite: 'target' }, raisesEpoch: true, owes: ['fence'] }),
      run: tellSource,
    },
    U3: {
      run: async ({ desk, vm }) => {
        await vm.change(() => desk.setAside());
        return undefined;
      },
    },
    U4: { afterFailure: unlessCorrupt, intent: intendDisks, run: makeDisks },
    U5: { run: registerVm },
    U6: { intent: intendPower, run: powerOnAndCheck },
  },
  (work) => ({ change: { phase: 'failed-over', commit: commitTimer(work) } }),
);

/** What serves goes on until the other point was read to its end. @throws DrError E_POINT_CORRUPT, … */
async function makeReplacement(work: Work): Promise<FailoverPatch | undefined> {
  const { vm, record, operationId, site } = work;
  const { pointId } = defined(record.replacement, 'the record names what is to come');
  await materialisePoint(vm, listedPoint(vm, pointId), operationId, site.seams);
  return stopSource(work);
}

/**
 * From FAILED_OVER to another point: its disks are made beside those of the VM that serves, which goes
 * away behind U2 (failover.md § 3). Whatever fails before leaves it as it is.
 */
export const OTHER_POINT: WorkTable = {
  ...UNPLANNED,
  steps: UNPLANNED.steps.flatMap((step) => {
    if (step.name === 'U1') return [{ ...step, run: makeReplacement }];
    // the source does not get the VM back because of a file that was read to its end before
    if (step.name === 'U4') return [{ ...step, afterFailure: 'stay' }];
    if (step.name !== 'U3') return [step];
    const away = UNDO.steps.filter(({ name }) => name === 'N2' || name === 'N3');
    return [...away, step];
  }),
};
