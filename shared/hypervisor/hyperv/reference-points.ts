// Reference points. Hyper-V has no room in them for whose they are; that stands in our memory, and an intent written
// before the conversion names the one that is to come (hyperv.md § 1.6). Those of others are never touched.

import type { Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import type { ReferencePoint } from '../source.js';
import { frozenFiles, refuseForeign, requireCheckpoint, retryWhileBusy } from './checkpoints.js';
import { requireOwner } from './cluster.js';
import type { HyperVContext } from './context.js';
import { endOfMethod } from './jobs.js';
import { loadMachine, placeOf } from './machines.js';
import {
  readMemory,
  remember,
  type ConversionIntent,
  type KnownPoint,
  type VmMemory,
} from './memory.js';
import { expectMerges, waitForMerge } from './merges.js';
import * as operations from './operations/checkpoints.js';
import type { ReferencePointFacts } from './operations/checkpoints.js';
import { BACKING_UP } from './status.js';

const CHANGE_MS = 10 * 60_000;

export async function convertToReferencePoint(
  context: HyperVContext,
  vmId: Guid,
  checkpointId: string,
): Promise<ReferencePoint> {
  const { runner } = context;
  const found = await requireCheckpoint(context, vmId, checkpointId);
  const tag = refuseForeign(found, vmId);
  const machine = await loadMachine(context, vmId);
  await requireOwner(context, machine);
  // what the conversion before this one left is recorded while its intent still stands, and its files merge first
  await settle(context, vmId);
  await waitForMerge(context, vmId, CHANGE_MS, [BACKING_UP]);
  const files = await frozenFiles(context, vmId, found.facts);
  const before = await runner.run(operations.listReferencePoints, { vmId });
  const conversion: ConversionIntent = {
    checkpointId,
    tag,
    createdAtMs: Date.parse(found.facts.createdAt),
    disks: files.map(({ place, diskId, sizeBytes, path }) => ({
      ...{ place, diskId, sizeBytes, file: path },
    })),
    others: before.map(({ id }) => id),
    lastAppliedId: machine.lastAppliedId,
  };
  await remember(context, vmId, (memory) => ({ ...memory, conversion }));
  await expectMerges(context, vmId, found.facts);
  const madeId = await convertOrForget(context, vmId, checkpointId);
  const after = await runner.run(operations.listReferencePoints, { vmId });
  const made =
    madeId === undefined ? madeBy(conversion, after) : after.find(({ id }) => id === madeId);
  if (made === undefined) {
    throw new DrError('E_CHECKPOINT', `the checkpoint ${checkpointId} left no reference point`, {
      context: { vmId, checkpointId, referencePointId: madeId ?? '' },
      done: 'the next cycle compares the whole disks',
    });
  }
  const point = pointOf(conversion, made);
  if (point === undefined) {
    await destroy(context, made.id);
    await remember(context, vmId, (memory) => ({ ...memory, conversion: undefined }));
    throw new DrError('E_CHECKPOINT', `the reference point ${made.id} does not track every disk`, {
      context: { vmId, referencePointId: made.id },
      done: 'it was removed, and the next cycle compares the whole disks',
    });
  }
  await remember(context, vmId, (memory) => withPoint(memory, point));
  return referencePointOf(vmId, point);
}

/** What has been refused is no longer expected: a later reference point is somebody else's. */
async function convertOrForget(
  context: HyperVContext,
  vmId: Guid,
  checkpointId: string,
): Promise<string | undefined> {
  try {
    return await convert(context, checkpointId);
  } catch (error) {
    if (!(error instanceof DrError) || error.code !== 'E_CHECKPOINT') throw error;
    const checkpoints = await context.runner.run(operations.listCheckpoints, { vmId });
    if (checkpoints.some(({ id }) => id === checkpointId)) {
      await remember(context, vmId, (memory) => ({ ...memory, conversion: undefined }));
    }
    throw error;
  }
}

async function convert(context: HyperVContext, checkpointId: string): Promise<string | undefined> {
  const { runner } = context;
  const what = `the conversion of the checkpoint ${checkpointId}`;
  const wait = { ...context, what, timeoutMs: CHANGE_MS, code: 'E_CHECKPOINT' as const };
  let madeId: string | undefined;
  await retryWhileBusy(context, async () => {
    const answer = await runner.run(operations.convertCheckpoint, { checkpointId });
    await endOfMethod(answer, wait);
    const { jobId } = answer;
    madeId =
      answer.referencePointId ??
      (jobId && (await runner.run(operations.referencePointOfJob, { jobId })).referencePointId);
  });
  return madeId;
}

/** The one that came since the intent was written and has its disks; undefined when it cannot be told. */
function madeBy(
  { others, disks }: ConversionIntent,
  points: readonly ReferencePointFacts[],
): ReferencePointFacts | undefined {
  const [made, second] = points.filter(
    (point) => !others.includes(point.id) && point.disks.length === disks.length,
  );
  return second === undefined ? made : undefined;
}

/** undefined unless each disk has one tracking id that is not empty. */
function pointOf(conversion: ConversionIntent, facts: ReferencePointFacts): KnownPoint | undefined {
  const { createdAtMs, tag, lastAppliedId } = conversion;
  const disks = conversion.disks.flatMap((disk) => {
    const ids = facts.disks.filter(({ instanceId }) => placeOf(instanceId) === disk.place);
    const trackingId = ids.length === 1 ? (ids[0]?.trackingId ?? '') : '';
    return trackingId === '' ? [] : [{ ...disk, trackingId }];
  });
  if (disks.length !== conversion.disks.length) return undefined;
  return { id: facts.id, createdAtMs, tag, disks, lastAppliedId };
}

function withPoint(memory: VmMemory, point: KnownPoint): VmMemory {
  const points = [...memory.points.filter(({ id }) => id !== point.id), point];
  return { ...memory, points, conversion: undefined };
}

/** Those of others have no tag, and nothing is said of their disks. */
export async function listReferencePoints(
  context: HyperVContext,
  vmId: Guid,
): Promise<readonly ReferencePoint[]> {
  const { facts, points } = await settle(context, vmId);
  return facts.map(({ id }) => {
    const known = points.find((point) => point.id === id);
    if (known !== undefined) return referencePointOf(vmId, known);
    return { id, vmId, createdAtMs: 0, tag: undefined, disks: [] };
  });
}

/** What is there, and what we know of it: the one that a crash cut off from its record is recorded now. */
async function settle(
  context: HyperVContext,
  vmId: Guid,
): Promise<{ facts: readonly ReferencePointFacts[]; points: readonly KnownPoint[] }> {
  const { runner } = context;
  const facts = await runner.run(operations.listReferencePoints, { vmId });
  const memory = await readMemory(context, vmId);
  const { conversion, points } = memory;
  if (conversion === undefined) return { facts, points };
  const checkpoints = await runner.run(operations.listCheckpoints, { vmId });
  const isThere = checkpoints.some(({ id }) => id === conversion.checkpointId);
  const made = isThere ? undefined : madeBy(conversion, facts);
  const point = made && pointOf(conversion, made);
  if (point === undefined) return { facts, points };
  const settled = await remember(context, vmId, (now) => withPoint(now, point));
  return { facts, points: settled.points };
}

function referencePointOf(vmId: Guid, { id, createdAtMs, tag, disks }: KnownPoint): ReferencePoint {
  const tracked = disks.map(({ diskId, trackingId }) => ({ diskId, trackingId }));
  return { id, vmId, createdAtMs, tag, disks: tracked };
}

export async function removeReferencePoint(
  context: HyperVContext,
  vmId: Guid,
  referencePointId: string,
): Promise<void> {
  const { facts, points } = await settle(context, vmId);
  const isThere = facts.some(({ id }) => id === referencePointId);
  const isOurs = points.some(({ id }) => id === referencePointId);
  if (isThere && !isOurs) {
    throw new DrError('E_CHECKPOINT', `${referencePointId} is not of this product`, {
      context: { vmId, referencePointId },
      hint: 'Whoever made it removes it.',
    });
  }
  if (isThere) await destroy(context, referencePointId);
  if (!isOurs) return;
  await remember(context, vmId, (memory) => ({
    ...memory,
    points: memory.points.filter(({ id }) => id !== referencePointId),
  }));
}

async function destroy(context: HyperVContext, referencePointId: string): Promise<void> {
  const what = `the removal of the reference point ${referencePointId}`;
  const wait = { ...context, what, timeoutMs: CHANGE_MS, code: 'E_CHECKPOINT' as const };
  await retryWhileBusy(context, async () => {
    const answer = await context.runner.run(operations.destroyReferencePoint, { referencePointId });
    await endOfMethod(answer, wait);
  });
}
