// The way back from a failback (failover.md § 4): the VM at the primary goes off and loses its protective
// disk, this site becomes the active one again, and the VM here goes on where it was shut down. Two VMs may
// not run: once the primary was asked to start, it has to say that it is off, or people force it.

import { defined } from '../../../shared/assert.js';
import { DrError } from '../../../shared/errors.js';
import { operationTable } from '../engine.js';
import { forgetRounds } from '../failback/round.js';
import type { FailoverPatch } from '../failover-book.js';
import { serveAndCheck } from './come-up.js';
import { requireSource } from './planned.js';
import { isAlive, probeSource } from './probe.js';
import { commitTimer, tellSource } from './unplanned.js';
import { tellIfThere, type Work, type WorkTable } from './work.js';

/** Fact: the step of the failback that it is the way back from. */
export const LEFT_AT = 'leftAt';

const DROP = ['dropFailback'] as const;

function hasReached({ book }: Pick<Work, 'book'>, step: string): boolean {
  return defined(book.operation.facts[LEFT_AT], 'an undo knows what it takes back') >= step;
}

/** @throws DrError E_SOURCE_UNREACHABLE, and whatever keeps the VM at the primary from going off */
async function takeBackAtSource(work: Work): Promise<FailoverPatch | undefined> {
  const { vm, values, site, instance } = work;
  const { failbackId } = instance;
  // that it is thrown away was confirmed; before F4 there is nothing of the kind
  const mayHaveRun = hasReached(work, 'F4');
  const order = { ...work.order, failbackId, dropsWrites: mayHaveRun };
  const owing = { owes: DROP, dropped: { failbackId, mayHaveRun } };
  if (!mayHaveRun) {
    const isTold = await tellIfThere(work, (source) => source.failbackUndo(vm.vmId, order));
    return isTold ? undefined : owing;
  }
  try {
    await requireSource(work).failbackUndo(vm.vmId, order);
    return undefined;
  } catch (error) {
    if (!(error instanceof DrError) || !values.force) throw error;
    // force stands for what the primary cannot say, not against what it says
    if (isAlive(await probeSource(work))) throw error;
    const { code, message } = error;
    // it may run: that is for people to end, and the next failback drops its disks when they say so
    site.log.warn('failover.source-not-told', { vmId: vm.vmId, code, reason: message });
    return owing;
  }
}

function takeActiveSite(work: Work): FailoverPatch {
  const change = { activeSite: 'target' } as const;
  return hasReached(work, 'F3') ? { change, raisesEpoch: true, owes: ['fence'] } : { change };
}

async function serveAgain(work: Work): Promise<FailoverPatch | undefined> {
  const { host, instance } = work;
  await forgetRounds(work);
  // it has served all the time
  if (!hasReached(work, 'F2')) return undefined;
  const vmId = defined(instance.vmId, 'a VM that served is registered');
  await host.unfenceVm(vmId);
  const found = await serveAndCheck(work, vmId);
  const disks = instance.disks.map((disk) => ({ ...disk, servedRoot: undefined }));
  const serving = { disks, servedUntilMs: 0, ranBesideAtMs: undefined };
  return { ...found, instance: { ...found.instance, ...serving } };
}

export const FAILBACK_UNDO: WorkTable = operationTable(
  'failback-undo',
  {
    B1: { run: takeBackAtSource },
    B2: {
      intent: takeActiveSite,
      run: async (work) => (hasReached(work, 'F3') ? tellSource(work) : undefined),
    },
    B3: { run: serveAgain },
  },
  (work) => ({
    change: { phase: 'failed-over', commit: commitTimer(work) },
    instance: { failbackId: undefined },
  }),
);
