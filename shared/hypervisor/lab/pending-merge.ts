// What `hvdr lab show` tells of merges. Which ones are pending follows from the graph; why the last
// attempt in the background failed has no caller to be told to, so it is written down here, beside
// vm.json. The note is for people: nothing decides by it, and one that cannot be written is missed.

import type { Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import { type JsonFormat, readJson, writeJsonDurably } from '../../files/index.js';
import { nextTidying } from './chain.js';
import type { LabContext } from './context.js';
import { Fields } from '../fields.js';
import { mergeFailureFile } from './layout.js';
import { loadVm } from './vms.js';

const FORMAT: JsonFormat = { name: 'note of a failed merge', version: 1, limitBytes: 64 * 1024 };
const TEXT_MAX = 4000;

export interface MergeFailure {
  readonly code: string;
  readonly message: string;
  readonly atMs: number;
}

export interface PendingMerge {
  readonly diskId: Guid;
  /** begun: files may have changed; the next change of the VM finishes it before anything else. */
  readonly state: 'due' | 'begun';
  /** A scripted delay holds it up until then. */
  readonly notBeforeMs: number | undefined;
  /** The last attempt in the background, if it failed. */
  readonly failure: MergeFailure | undefined;
}

/** Never rejects: it is told to people only. */
export async function noteMergeFailure(
  { fs, folder, clock, random }: LabContext,
  vmId: Guid,
  error: unknown,
): Promise<void> {
  const code = error instanceof DrError ? error.code : 'E_INTERNAL';
  const message = (error instanceof Error ? error.message : String(error)).slice(0, TEXT_MAX);
  const fields = { code, message, atMs: clock.now() };
  try {
    await writeJsonDurably(fs, mergeFailureFile(folder, vmId), FORMAT, fields, random);
  } catch {
    // the volume is full, or the VM has gone; the merge stays pending all the same
  }
}

/** The disks of a VM that call for a merge or the removal of a file now. @throws DrError E_NOT_FOUND */
export async function pendingMerges(context: LabContext, vmId: Guid): Promise<PendingMerge[]> {
  const vm = await loadVm(context, vmId);
  const waiting = vm.disks.filter((disk) => nextTidying(vm, disk) !== undefined);
  if (waiting.length === 0) return [];
  const noted = await readFailure(context, vmId);
  // one from before the last change of checkpoints is about merges that are done
  const failure = noted !== undefined && noted.atMs >= vm.mergeNotBeforeMs ? noted : undefined;
  const isDelayed = context.clock.now() < vm.mergeNotBeforeMs;
  return waiting.map(({ diskId, merge }) => ({
    diskId,
    state: merge === undefined ? 'due' : 'begun',
    notBeforeMs: isDelayed ? vm.mergeNotBeforeMs : undefined,
    failure,
  }));
}

async function readFailure(
  { fs, folder }: LabContext,
  vmId: Guid,
): Promise<MergeFailure | undefined> {
  const file = mergeFailureFile(folder, vmId);
  try {
    const json = await readJson(fs, file, FORMAT);
    if (json === undefined) return undefined;
    const fields = Fields.ofFile(json, file);
    return {
      code: fields.string('code', 64),
      message: fields.string('message', TEXT_MAX),
      atMs: fields.whole('atMs'),
    };
  } catch (error) {
    // a damaged note hides nothing of the VM
    if (error instanceof DrError && error.code.startsWith('E_FILE_')) return undefined;
    throw error;
  }
}
