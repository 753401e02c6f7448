// One round of a failback (failover.md § 4, F1 and F2): the serving VM is frozen, the agent of the primary
// fetches what its disks lack, and what changes from then on can be asked for in the next round. A round
// that ends in whatever way leaves no checkpoint and nothing that could be fetched.

import { defined } from '../../../shared/assert.js';
import { type Guid, randomGuid } from '../../../shared/bytes/index.js';
import { DrError } from '../../../shared/errors.js';
import type { ReferencePoint } from '../../../shared/hypervisor/index.js';
import { instanceDiskPaths } from '../instance-files.js';
import type { ParameterValues } from '../../../shared/params/index.js';
import type { Instance } from '../model.js';
import { requireSource } from '../operations/planned.js';
import type { Work } from '../operations/work.js';
import type { FailbackRound, TargetHost } from '../ports.js';
import { removeOwnCheckpoints, ServingDisks } from './serving-disks.js';

/** Fact: the reference point of the last round that has come to its end; empty: none. */
const SINCE = 'since';
/** Fact: what the next round that knows of no earlier one compares, whatever was asked for. */
const COMPARE = 'compare';

export interface RoundOutcome {
  /** Cells that came to the primary. */
  readonly cellCount: number;
  readonly elapsedMs: number;
  /** The disks of the VM, after the last round with their roots. */
  readonly disks: Instance['disks'];
}

/**
 * Freezes the VM that serves. With `since` only what changed from then on is lacking at the primary.
 * @throws what ServingDisks.freeze() throws
 */
export function freezeServing(
  { vm, host, instance, site }: Pick<Work, 'vm' | 'host' | 'instance' | 'site'>,
  since: ReferencePoint | undefined,
): Promise<ServingDisks> {
  const { seams } = site;
  const materialisedPath = (diskId: Guid): string => {
    const disk = instance.disks.find((each) => each.diskId === diskId);
    return instanceDiskPaths(vm.layout, defined(disk, 'a VM has the disks of its point'))
      .materialised;
  };
  return ServingDisks.freeze({ vm, instance, host, seams, materialisedPath, since });
}

/**
 * One round. The last one is of a VM that is off, and compares all disks.
 * @throws DrError E_SOURCE_UNREACHABLE, E_SOURCE_ALIVE, E_DISK_MISMATCH, E_CHECKPOINT, E_IO; E_DIFFERENT:
 *   the next round compares every disk by its hashes; the reason of the run's signal
 */
export async function runRound(work: Work, isLast: boolean): Promise<RoundOutcome> {
  const { vm, book, run, site, instance, order } = work;
  const source = requireSource(work);
  const since = await lastReference(work);
  const frozen = await freezeServing(work, since);
  const roundId = randomGuid(site.seams.random);
  let isOver = false;
  try {
    site.rounds.set(roundId, frozen);
    const head = defined(vm.protection.head, 'a VM that was failed over has points');
    const ids = { roundId, pointId: instance.pointId, headPointId: head.pointId };
    const isKnown = since !== undefined && !frozen.isSinceLost;
    const compare = isKnown ? 'changed' : firstCompare(work);
    const isUrgent = isLast && work.values.urgent;
    const startedAt = site.seams.clock.monotonic();
    const sync = source.failbackSync(vm.vmId, order, { ...ids, compare, isLast, isUrgent });
    const cellCount = await unlessStopped(sync, run.signal);
    const elapsedMs = site.seams.clock.monotonic() - startedAt;
    site.rounds.delete(roundId);
    const disks = isLast ? await frozen.withRoots(instance.disks) : instance.disks;
    isOver = true;
    if (isLast) await frozen.discard();
    else await book.note({ facts: { [SINCE]: (await released(work, frozen)).id } });
    return { cellCount, elapsedMs, disks };
  } catch (error) {
    const isDifferent = error instanceof DrError && error.code === 'E_DIFFERENT';
    // what both sides know as changed was not all: from here on only the bytes count
    if (isDifferent) await book.note({ facts: { [SINCE]: '', [COMPARE]: 'full' } });
    throw error;
  } finally {
    site.rounds.delete(roundId);
    if (!isOver) await frozen.discard();
  }
}

/** The guest is not left on a checkpoint when there can be no reference point. */
async function released({ host }: Work, frozen: ServingDisks): Promise<ReferencePoint> {
  try {
    return await frozen.release();
  } catch (error) {
    const { vmId, id } = frozen.checkpoint;
    // what went wrong first is what counts; the next round takes away what is left
    await host.removeCheckpoint(vmId, id).catch(() => undefined);
    throw error;
  }
}

/** What is compared while no earlier round is known. */
function firstCompare({ book, values, instance }: Work): FailbackRound['compare'] {
  const { [COMPARE]: compare, [SINCE]: since = '' } = book.operation.facts;
  // what an earlier round brought may have been taken back here since, with a checkpoint of the user
  const isLost = since !== '';
  return isLost || compare === 'full' ? 'full' : comparedFirst(values, instance);
}

/** What is compared in the first round, as it was asked for. */
export function comparedFirst(
  { compare }: Pick<ParameterValues, 'compare'>,
  { isPlanned }: Pick<Instance, 'isPlanned'>,
): FailbackRound['compare'] {
  if (compare !== 'auto') return compare;
  return isPlanned ? 'changed' : 'full';
}

/** The moment of the round before, when the hypervisor still knows it; others of ours are taken away. */
async function lastReference({ host, instance, book }: Work): Promise<ReferencePoint | undefined> {
  const wanted = book.operation.facts[SINCE];
  let found: ReferencePoint | undefined;
  for (const reference of await ownReferences(host, instance)) {
    if (reference.id === wanted) found = reference;
    else await host.removeReferencePoint(reference.vmId, reference.id);
  }
  return found;
}

async function ownReferences(host: TargetHost, instance: Instance): Promise<ReferencePoint[]> {
  const vmId = defined(instance.vmId, 'a VM that serves is registered');
  const all = await host.listReferencePoints(vmId);
  return all.filter(({ tag }) => tag?.operationId === instance.operationId);
}

/** Takes away what rounds have left at the hypervisor; no error when the VM is gone. */
export async function forgetRounds({ host, instance }: Work): Promise<void> {
  const { vmId, operationId } = instance;
  const isThere = (await host.listVms()).some(({ id }) => id === vmId);
  if (vmId === undefined || !isThere) return;
  await removeOwnCheckpoints(host, vmId, operationId);
  for (const { id } of await ownReferences(host, instance)) {
    await host.removeReferencePoint(vmId, id);
  }
}

/** What `work` resolves to; when the run is stopped before, it is left behind. */
async function unlessStopped<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  work.catch(() => undefined);
  const over = new AbortController();
  const stopped = new Promise<never>((_resolve, reject) => {
    const stop = (): void => {
      reject(signal.reason as Error);
    };
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true, signal: over.signal });
  });
  try {
    return await Promise.race([work, stopped]);
  } finally {
    over.abort();
  }
}
