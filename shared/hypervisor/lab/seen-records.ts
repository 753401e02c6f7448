// Records as they were read before, for looks at all VMs: reading each file again makes a host with many
// VMs slow. A record is replaced by a new file, so one with the identity, size and time of writing that
// it had is the one that was read - unless its time was so young that another write could bear the same.

import type { Guid } from '../../bytes/index.js';
import type { FileStatus } from '../../files/index.js';
import type { LabContext } from './context.js';
import { vmFile } from './layout.js';
import { readVm, type VmRecord } from './record.js';

/** Longer than the ticks by which file systems tell time (2 s on FAT). */
const SETTLED_MS = 3000;

interface Seen {
  readonly status: FileStatus;
  readonly vm: VmRecord;
}

/** Of each lab that is open in this process. */
const seenBy = new WeakMap<LabContext, Map<Guid, Seen>>();

/** As the VM stands now; undefined: there is none. @throws DrError E_FILE_DAMAGED, E_FILE_VERSION */
export async function readUnlessSeen(
  context: LabContext,
  vmId: Guid,
): Promise<VmRecord | undefined> {
  const records = seenBy.get(context) ?? new Map<Guid, Seen>();
  seenBy.set(context, records);
  const file = vmFile(context.folder, vmId);
  // before the content: a record that is replaced between the two is read again the next time
  const status = await context.fs.status(file);
  const seen = records.get(vmId);
  if (status !== undefined && seen !== undefined && isSame(status, seen.status)) return seen.vm;
  records.delete(vmId);
  if (status === undefined) return undefined;
  const vm = await readVm(context, file);
  if (vm !== undefined && isSettled(status, context.clock.now())) records.set(vmId, { status, vm });
  return vm;
}

function isSame(one: FileStatus, other: FileStatus): boolean {
  return (
    one.identity === other.identity &&
    one.sizeBytes === other.sizeBytes &&
    one.modifiedAtMs === other.modifiedAtMs
  );
}

function isSettled({ modifiedAtMs }: FileStatus, nowMs: number): boolean {
  return modifiedAtMs !== undefined && nowMs - modifiedAtMs >= SETTLED_MS;
}
