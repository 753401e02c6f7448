// The end of a failback (failover.md § 4, F6): what the VM here wrote becomes a point, the ledger of the
// primary goes on from it, and the VM here goes. Until F8 it is as if it had not begun; from then on the
// primary counts on the point, and the operation only goes on: by force also without the primary, which
// takes no cycle before it was told.

import { defined } from '../../../shared/assert.js';
import { type Guid, parseGuid, randomGuid } from '../../../shared/bytes/index.js';
import { DrError } from '../../../shared/errors.js';
import { operationTable } from '../engine.js';
import { type ReturnIds, writeReturnPoint } from '../failback/return-point.js';
import { forgetRounds } from '../failback/round.js';
import { demandComparison, isDoubted } from '../failback/still-as-served.js';
import type { FailoverPatch } from '../failover-book.js';
import { findInstance, tagOfInstance } from '../instance.js';
import { takeAway } from './come-up.js';
import { requireSource } from './planned.js';
import type { Work, WorkTable } from './work.js';

/** Facts: under which ids the return point is listed. */
const RETURN_CYCLE_ID = 'returnCycle';
const RETURN_POINT_ID = 'returnPoint';
/** Fact: the moment of its bytes; the VM that says it is gone at the end. */
const CONSISTENT_AT = 'consistentAt';

/** @throws DrError E_SOURCE_UNREACHABLE; E_STATE when the guest gives no sign of life, unless it is forced */
async function confirmHealthy(work: Work): Promise<undefined> {
  const { values, vm } = work;
  if (values.force) return undefined;
  const { powerState, heartbeat } = await requireSource(work).describe(vm.vmId);
  if (powerState !== 'off' && heartbeat === 'ok') return undefined;
  throw new DrError('E_STATE', `${vm.protection.vmName} gives no sign of life at the primary`, {
    context: { vmId: vm.vmId, powerState, heartbeat: heartbeat ?? '' },
    done: 'the failback stays provisional',
    hint: 'Look at the VM; `--force --reason TEXT` makes the failback permanent regardless, `hvdr failover undo VM` goes back.',
  });
}

function intendPoint({ site, instance }: Work): FailoverPatch {
  const { random } = site.seams;
  return {
    facts: {
      [RETURN_CYCLE_ID]: randomGuid(random),
      [RETURN_POINT_ID]: randomGuid(random),
      [CONSISTENT_AT]: String(instance.servedUntilMs),
    },
  };
}

function returnIds({ book }: Work): ReturnIds {
  const id = (name: string): Guid =>
    defined(parseGuid(book.operation.facts[name] ?? ''), 'the ids were put down before');
  return { cycleId: id(RETURN_CYCLE_ID), pointId: id(RETURN_POINT_ID) };
}

/** By force a primary that is lost keeps nobody waiting. @throws DrError what the primary answers */
async function goOnFromPoint(work: Work): Promise<FailoverPatch | undefined> {
  const { vm, book, instance, values, site } = work;
  if (isDoubted(book.operation)) await demandComparison(work);
  const { failbackId } = instance;
  const { pointId } = returnIds(work);
  const order = { ...work.order, failbackId };
  const consistentAtMs = Number(book.operation.facts[CONSISTENT_AT]);
  const returnedPoint = { pointId, consistentAtMs };
  try {
    await requireSource(work).failbackCommit(vm.vmId, order, returnedPoint);
    return undefined;
  } catch (error) {
    if (!(error instanceof DrError) || !values.force) throw error;
    const { code, message } = error;
    site.log.warn('failover.source-not-told', { vmId: vm.vmId, code, reason: message });
    return { owes: ['commitFailback'], returned: { point: returnedPoint, failbackId } };
  }
}

/** @throws DrError E_STATE when somebody started the VM here by hand */
async function removeHere(work: Work): Promise<FailoverPatch> {
  const { host, vm, record } = work;
  if (record.instance === undefined) return {};
  const found = await findInstance(host, tagOfInstance(vm.vmId, record.instance));
  if (found !== undefined) {
    const { vmId, powerState } = found;
    if (powerState !== 'off') {
      throw new DrError('E_STATE', `${record.instance.vmName} is ${powerState} here`, {
        context: { vmId, powerState },
        done: 'neither it nor its disks were touched',
        hint: 'Somebody started it by hand, and what it wrote will go with it. Turn it off first.',
      });
    }
    await forgetRounds(work);
    await host.unfenceVm(vmId);
  }
  return takeAway(work);
}

export const FAILBACK_COMMIT: WorkTable = operationTable(
  'failback-commit',
  {
    F6: { run: confirmHealthy },
    F7: {
      intent: intendPoint,
      // nothing is listed after an error
      afterFailure: 'back',
      run: async (work) => {
        await writeReturnPoint(work, returnIds(work));
        return { pointId: returnIds(work).pointId };
      },
    },
    F8: { run: goOnFromPoint },
    F9: { run: removeHere },
  },
  () => ({
    change: {
      phase: 'ordinary',
      activeSite: 'source',
      instance: undefined,
      commit: undefined,
      halted: undefined,
      orphanEpoch: undefined,
      isSourceStopped: false,
    },
  }),
);
