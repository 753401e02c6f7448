// Recovery checkpoints (hyperv.md § 1). At most one of ours at a time, ours by its name. Between the moment when it
// is made and the moment when it bears its name, an intent in our memory says that it is to come; so a crash leaves
// none that nobody gives back.

import type { Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import type { ReadableDisk } from '../../disk/index.js';
import type { Checkpoint, CheckpointDisk, CheckpointRequest } from '../source.js';
import type { OwnerTag } from '../vm.js';
import { requireOwner } from './cluster.js';
import type { HyperVContext } from './context.js';
import { openFrozenDisk } from './frozen-map.js';
import { endOfMethod, isBusyRefusal } from './jobs.js';
import { diskFile, inOrder, loadMachine, placeOf, powerOf } from './machines.js';
import { CREATION_MS, readMemory, remember, type CreationIntent } from './memory.js';
import { expectMerges, waitForMerge } from './merges.js';
import { checkpointName, consistencyOfCheckpointName, tagOfCheckpointName } from './naming.js';
import * as operations from './operations/checkpoints.js';
import type { CheckpointFacts } from './operations/checkpoints.js';
import { BACKING_UP, waitUntilIdle } from './status.js';

const CHANGE_MS = 10 * 60_000;
const BUSY_RETRY_MS = 1000;
/** Both times are the host's; its clock may be set in between, but not by much. */
const CLOCK_STEP_MS = 60_000;

export interface FrozenFile extends CheckpointDisk {
  readonly place: string;
  readonly path: string;
}

/** A checkpoint as Hyper-V shows it, and whose it is. */
export interface FoundCheckpoint {
  readonly facts: CheckpointFacts;
  readonly tag: OwnerTag | undefined;
}

export async function createCheckpoint(
  context: HyperVContext,
  vmId: Guid,
  request: CheckpointRequest,
): Promise<Checkpoint> {
  const deadline = context.clock.monotonic() + request.timeoutMs;
  const leftMs = (): number => Math.max(1, deadline - context.clock.monotonic());
  const machine = await loadMachine(context, vmId);
  await requireOwner(context, machine);
  await waitUntilIdle(context, vmId, leftMs());
  const there = await findCheckpoints(context, vmId);
  const ours = there.find(({ tag }) => tag !== undefined);
  if (ours !== undefined) {
    throw new DrError(
      'E_CHECKPOINT',
      `the VM ${machine.name} has the checkpoint ${ours.facts.id}`,
      {
        context: { vmId, checkpointId: ours.facts.id },
        hint: 'Give it back first: a VM has one checkpoint of ours at a time.',
      },
    );
  }
  // above a file that is still being merged vmms refuses one, or makes one whose chain changes under its reader
  await waitForMerge(context, vmId, leftMs());
  const { tag } = request;
  const others = there.map(({ facts }) => facts.id);
  const startedAtMs = context.clock.now();
  const untilMs = Math.ceil(startedAtMs + Math.max(CREATION_MS, leftMs()));
  const creation = { tag, startedAtMs, untilMs, others };
  await remember(context, vmId, (memory) => ({ ...memory, creation }));
  // one that is off has nothing to quiesce, and is as its guest left it: whatever level was wanted, it has it
  const isOff = powerOf(machine.state) === 'off';
  const consistency = isOff ? 'crash' : request.consistency;
  const checkpointed = checkpointName(tag, request.consistency);
  let made: CheckpointFacts | undefined;
  try {
    made = await freeze(context, { vmId, name: machine.name, consistency, others, leftMs });
    if (consistency === 'application' && made.consistency === 'crash') {
      throw new DrError('E_CONSISTENCY', `the guest of ${machine.name} did not quiesce`, {
        context: { vmId, checkpointId: made.id },
        done: 'the checkpoint, which is crash-consistent, was given back',
      });
    }
    const what = `the name of the checkpoint of ${machine.name}`;
    const run = { checkpointId: made.id, name: checkpointed };
    const answer = await context.runner.run(operations.renameCheckpoint, run);
    await endOfMethod(answer, { ...context, what, timeoutMs: leftMs(), code: 'E_CHECKPOINT' });
  } catch (error) {
    await giveBackUnfinished(context, vmId, made, error);
    throw error;
  }
  await remember(context, vmId, (memory) => ({ ...memory, creation: undefined }));
  return checkpointOf(context, vmId, { facts: { ...made, name: checkpointed }, tag });
}

interface Freezing {
  readonly vmId: Guid;
  readonly name: string;
  readonly consistency: 'application' | 'crash';
  readonly others: readonly string[];
  readonly leftMs: () => number;
}

async function freeze(context: HyperVContext, freezing: Freezing): Promise<CheckpointFacts> {
  const { vmId, name, consistency, others, leftMs } = freezing;
  const { runner, clock } = context;
  for (;;) {
    try {
      const answer = await runner.run(operations.createCheckpoint, { vmId, consistency });
      const what = `a checkpoint of the VM ${name}`;
      const wait = { ...context, what, timeoutMs: leftMs(), code: 'E_CHECKPOINT' as const };
      await endOfMethod(answer, wait);
      const { jobId } = answer;
      const made =
        answer.checkpointId ??
        (jobId && (await runner.run(operations.checkpointOfJob, { jobId })).checkpointId);
      const facts = await runner.run(operations.listCheckpoints, { vmId });
      // the job may have vanished with what it knew
      const added = facts.filter(({ id }) => !others.includes(id));
      const found = made === undefined ? added : facts.filter(({ id }) => id === made);
      if (found.length === 1 && found[0] !== undefined) return found[0];
      throw new DrError('E_CHECKPOINT', `${what} was made, and is not there`, {
        context: { vmId, checkpointId: made ?? '', added: added.length },
      });
    } catch (error) {
      if (isBusyRefusal(error) && leftMs() > BUSY_RETRY_MS) {
        await clock.sleep(BUSY_RETRY_MS);
        await waitUntilIdle(context, vmId, leftMs());
        continue;
      }
      if (!(error instanceof DrError) || error.code !== 'E_CHECKPOINT') throw error;
      if (consistency === 'crash' || isBusyRefusal(error)) throw error;
      throw new DrError('E_CONSISTENCY', `the guest of ${name} did not quiesce: ${error.message}`, {
        context: { vmId, ...error.context },
        cause: error,
      });
    }
  }
}

/**
 * After an error: what was made goes. A refusal and a job that failed made nothing, and whatever has come meanwhile
 * is somebody else's. Without an answer it may come yet: then the intent stays, and clean-up finds it.
 */
async function giveBackUnfinished(
  context: HyperVContext,
  vmId: Guid,
  made: CheckpointFacts | undefined,
  error: unknown,
): Promise<void> {
  try {
    if (made !== undefined) await removeCheckpoint(context, vmId, made.id);
    else if (!(error instanceof DrError) || !isAnswered(error)) return;
    await remember(context, vmId, (memory) => ({ ...memory, creation: undefined }));
  } catch (second) {
    // the first error is the one to tell; the intent stands for whoever cleans up
    if (!(second instanceof DrError)) throw second;
  }
}

/** The host has said that there is none. */
function isAnswered({ code }: DrError): boolean {
  return code === 'E_CHECKPOINT' || code === 'E_CONSISTENCY';
}

export async function findCheckpoints(
  context: HyperVContext,
  vmId: Guid,
): Promise<readonly FoundCheckpoint[]> {
  const facts = await context.runner.run(operations.listCheckpoints, { vmId });
  const { creation } = await readMemory(context, vmId);
  const expected = creation && expectedBy(creation, facts);
  return facts.map((each) => ({
    facts: each,
    tag: tagOfCheckpointName(each.name) ?? (each === expected ? creation?.tag : undefined),
  }));
}

/**
 * The one that came while it was being waited for; whatever is older or much younger is somebody else's. Of two, one
 * is: then both are let be.
 */
function expectedBy(
  { startedAtMs, untilMs, others }: CreationIntent,
  facts: readonly CheckpointFacts[],
): CheckpointFacts | undefined {
  const [found, second] = facts.filter(({ id, name, createdAt }) => {
    const createdAtMs = Date.parse(createdAt);
    const isInTime =
      createdAtMs >= startedAtMs - CLOCK_STEP_MS && createdAtMs <= untilMs + CLOCK_STEP_MS;
    return isInTime && !others.includes(id) && tagOfCheckpointName(name) === undefined;
  });
  return second === undefined ? found : undefined;
}

export async function listCheckpoints(
  context: HyperVContext,
  vmId: Guid,
): Promise<readonly Checkpoint[]> {
  const checkpoints: Checkpoint[] = [];
  for (const found of await findCheckpoints(context, vmId)) {
    checkpoints.push(await checkpointOf(context, vmId, found));
  }
  return checkpoints;
}

async function checkpointOf(
  context: HyperVContext,
  vmId: Guid,
  found: FoundCheckpoint,
): Promise<Checkpoint> {
  const { id, name, createdAt, consistency } = found.facts;
  const files = await frozenFiles(context, vmId, found.facts);
  return {
    id,
    vmId,
    createdAtMs: Date.parse(createdAt),
    // the host may say nothing of it; a request for the higher level that succeeded has it
    consistency:
      tagOfCheckpointName(name) === undefined && consistency === 'application'
        ? consistency
        : consistencyOfCheckpointName(name),
    tag: found.tag,
    disks: files.map(({ diskId, sizeBytes, logicalSectorBytes, physicalSectorBytes }) => ({
      ...{ diskId, sizeBytes, logicalSectorBytes, physicalSectorBytes },
    })),
  };
}

/** In the order of the VM's disks. A disk is known by its id, never by its path, which changes. */
export async function frozenFiles(
  context: HyperVContext,
  vmId: Guid,
  facts: CheckpointFacts,
): Promise<readonly FrozenFile[]> {
  const { disks } = await loadMachine(context, vmId);
  const places = inOrder(disks).map(({ instanceId }) => placeOf(instanceId));
  const files: FrozenFile[] = [];
  for (const { instanceId, path } of facts.disks) {
    const { diskId, sizeBytes, logicalSectorBytes, physicalSectorBytes } = await diskFile(
      context,
      path,
    );
    const sizes = { sizeBytes, logicalSectorBytes, physicalSectorBytes };
    files.push({ diskId, ...sizes, place: placeOf(instanceId), path });
  }
  const rank = ({ place }: FrozenFile): number =>
    places.includes(place) ? places.indexOf(place) : places.length;
  return files.sort((a, b) => rank(a) - rank(b));
}

export async function removeCheckpoint(
  context: HyperVContext,
  vmId: Guid,
  checkpointId: string,
): Promise<void> {
  const { conversion } = await readMemory(context, vmId);
  // vmms may still be at the conversion that a killed process asked for, and its reference point is ours
  if (conversion?.checkpointId === checkpointId) {
    await waitUntilIdle(context, vmId, CHANGE_MS, [BACKING_UP]);
  }
  const found = (await findCheckpoints(context, vmId)).find(
    ({ facts }) => facts.id === checkpointId,
  );
  if (found === undefined) return;
  refuseForeign(found, vmId);
  // before it goes: a later reference point of somebody else's is not what became of it
  await remember(context, vmId, (memory) =>
    memory.conversion?.checkpointId === checkpointId
      ? { ...memory, conversion: undefined }
      : memory,
  );
  await expectMerges(context, vmId, found.facts);
  const what = `the removal of the checkpoint ${checkpointId}`;
  const wait = { ...context, what, timeoutMs: CHANGE_MS, code: 'E_CHECKPOINT' as const };
  await retryWhileBusy(context, async () => {
    const answer = await context.runner.run(operations.destroyCheckpoint, { checkpointId });
    await endOfMethod(answer, wait);
  });
}

/** A handle that somebody still closes, a merge that ends: worth some seconds, no more. */
export async function retryWhileBusy(
  { clock }: HyperVContext,
  action: () => Promise<void>,
): Promise<void> {
  for (let triesLeft = 5; ; triesLeft--) {
    try {
      await action();
      return;
    } catch (error) {
      if (!isBusyRefusal(error) || triesLeft <= 1) throw error;
    }
    await clock.sleep(BUSY_RETRY_MS);
  }
}

/** @throws DrError E_CHECKPOINT */
export function refuseForeign({ facts, tag }: FoundCheckpoint, vmId: Guid): OwnerTag {
  if (tag !== undefined) return tag;
  throw new DrError('E_CHECKPOINT', `the checkpoint ${facts.id} is not of this product`, {
    context: { vmId, checkpointId: facts.id, name: facts.name },
    hint: 'Whoever made it gives it back.',
  });
}

/** @throws DrError E_NOT_FOUND */
export async function requireCheckpoint(
  context: HyperVContext,
  vmId: Guid,
  checkpointId: string,
): Promise<FoundCheckpoint> {
  const all = await findCheckpoints(context, vmId);
  const found = all.find(({ facts }) => facts.id === checkpointId);
  if (found !== undefined) return found;
  throw new DrError('E_NOT_FOUND', `the VM ${vmId} has no checkpoint ${checkpointId}`, {
    context: { vmId, checkpointId },
  });
}

/** @throws DrError E_NOT_FOUND */
export async function requireFrozenFile(
  context: HyperVContext,
  vmId: Guid,
  checkpointId: string,
  diskId: Guid,
): Promise<FrozenFile> {
  const { facts } = await requireCheckpoint(context, vmId, checkpointId);
  const files = await frozenFiles(context, vmId, facts);
  const file = files.find((each) => each.diskId === diskId);
  if (file !== undefined) return file;
  throw new DrError('E_NOT_FOUND', `the checkpoint ${checkpointId} holds no disk ${diskId}`, {
    context: { vmId, checkpointId, diskId },
  });
}

/** The handle keeps the file in use: until it is closed the checkpoint can be neither converted nor removed. */
export async function openCheckpointDisk(
  context: HyperVContext,
  vmId: Guid,
  checkpointId: string,
  diskId: Guid,
): Promise<ReadableDisk> {
  const { path } = await requireFrozenFile(context, vmId, checkpointId, diskId);
  return openFrozenDisk(context, path);
}
