// When a checkpoint goes, the host merges what was written above its files into them, in the background, and says
// neither when it begins nor when it fails. So we note what must come to be, and look at the files (hyperv.md § 1.6).

import type { Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import type { HyperVContext } from './context.js';
import { chainOf, isSamePath, loadMachine, placeOf } from './machines.js';
import { readMemory, remember, type ExpectedMerge } from './memory.js';
import { listCheckpoints, type CheckpointFacts } from './operations/checkpoints.js';
import type { MachineFacts } from './operations/machines.js';
import { waitUntilIdle } from './status.js';

const POLL_MS = 500;

/** Before the checkpoint goes. */
export async function expectMerges(
  context: HyperVContext,
  vmId: Guid,
  checkpoint: CheckpointFacts,
): Promise<void> {
  const { disks } = await loadMachine(context, vmId);
  const { id: checkpointId } = checkpoint;
  const sinceMs = context.clock.now();
  const expected = checkpoint.disks.flatMap(({ instanceId, path }): ExpectedMerge[] => {
    const place = placeOf(instanceId);
    const live = disks.find((disk) => placeOf(disk.instanceId) === place);
    if (live === undefined || isSamePath(live.path, path)) return [];
    return [{ place, file: live.path, into: path, checkpointId, sinceMs }];
  });
  await remember(context, vmId, (memory) => {
    const others = memory.merges.filter(
      (merge) => !expected.some(({ file }) => isSamePath(file, merge.file)),
    );
    return { ...memory, merges: [...others, ...expected] };
  });
}

/** Of what has begun: a checkpoint that is still there holds its files. `besides`: see waitUntilIdle(). */
export async function waitForMerge(
  context: HyperVContext,
  vmId: Guid,
  timeoutMs: number,
  besides: readonly number[] = [],
): Promise<void> {
  const { clock } = context;
  const deadline = clock.monotonic() + timeoutMs;
  const leftMs = (): number => Math.max(0, deadline - clock.monotonic());
  const merges = await begunMerges(context, vmId);
  for (;;) {
    await waitUntilIdle(context, vmId, leftMs(), besides);
    const machine = await loadMachine(context, vmId);
    const pending: ExpectedMerge[] = [];
    for (const merge of merges) {
      if (await isPending(context, machine, merge)) pending.push(merge);
    }
    if (pending.length === 0) break;
    if (leftMs() === 0) throw stalled(vmId, timeoutMs, pending);
    await clock.sleep(Math.min(POLL_MS, Math.max(1, leftMs())));
  }
  if (merges.length === 0) return;
  await remember(context, vmId, (memory) => ({
    ...memory,
    merges: memory.merges.filter((merge) => !merges.some(({ file }) => file === merge.file)),
  }));
}

async function begunMerges(context: HyperVContext, vmId: Guid): Promise<readonly ExpectedMerge[]> {
  const { merges } = await readMemory(context, vmId);
  if (merges.every(({ checkpointId }) => checkpointId === undefined)) return merges;
  const checkpoints = await context.runner.run(listCheckpoints, { vmId });
  return merges.filter(({ checkpointId }) => checkpoints.every(({ id }) => id !== checkpointId));
}

/** A disk that stands on other files, or is gone, has nothing to be merged. */
async function isPending(
  context: HyperVContext,
  { disks }: MachineFacts,
  { place, file, into }: ExpectedMerge,
): Promise<boolean> {
  const disk = disks.find(({ instanceId }) => placeOf(instanceId) === place);
  if (disk === undefined || disk.isPassThrough) return false;
  try {
    const chain = await chainOf(context, disk.path);
    return chain.some(
      (each, index) => isSamePath(each, file) && isSamePath(chain[index + 1] ?? '', into),
    );
  } catch (error) {
    // a file that cannot be looked at is being worked on; one that is gone was merged while we looked
    const isAtWork =
      error instanceof DrError && (error.code === 'E_HYPERVISOR' || error.code === 'E_NOT_FOUND');
    if (isAtWork) return true;
    throw error;
  }
}

function stalled(vmId: Guid, timeoutMs: number, pending: readonly ExpectedMerge[]): DrError {
  const files = pending.map(({ file }) => file).join(', ');
  const begun = pending.flatMap(({ sinceMs }) => sinceMs ?? []);
  const since = begun.length === 0 ? undefined : new Date(Math.min(...begun)).toISOString();
  const due = since === undefined ? '' : `; they have been due to since ${since}`;
  return new DrError(
    'E_STALLED',
    `the disks of the VM ${vmId} did not merge in ${timeoutMs} ms${due}`,
    {
      context: { vmId, timeoutMs, files, ...(since !== undefined && { since }) },
      hint: 'Close every reader of a checkpoint of this VM. Why a merge failed stands in the event log Microsoft-Windows-Hyper-V-VMMS-Admin (event 19100).',
    },
  );
}
