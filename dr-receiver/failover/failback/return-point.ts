// The return point of a failback (failover.md § 4, F6): what the VM here wrote becomes a point of the store
// over its head. Its cells are those of the protective disk and of all deltas behind the point that the VM
// was started from, read from the VM, which is off. So it equals the disks with which the primary started,
// and nothing crosses the wire. It is taken in like any cycle of a source. That it equals them is not
// believed: the roots of F2 say whether somebody changed the VM here since.

import { defined } from '../../../shared/assert.js';
import type { Guid } from '../../../shared/bytes/index.js';
import { cellMessages, parseBatch } from '../../../shared/delta/index.js';
import { DrError } from '../../../shared/errors.js';
import { nextPointRequest } from '../../ingest/next-point-request.js';
import { type CycleRequest, manifestHeaderOf } from '../../ingest/open-request.js';
import { RootCheck } from '../../ingest/root-check.js';
import type { Point } from '../../store/point.js';
import { segmentOf } from '../../store/point-sources.js';
import type { VmStore } from '../../store/vm-store.js';
import { RETURN_CYCLE } from '../machine.js';
import type { Work } from '../operations/work.js';
import { freezeServing } from './round.js';
import type { ServingDisks } from './serving-disks.js';
import { holdStill, requireAsServed } from './still-as-served.js';

export interface ReturnIds {
  readonly cycleId: Guid;
  readonly pointId: Guid;
}

/**
 * Lists the return point; durable on return. Again with the same ids it is listed once.
 * @throws DrError E_DISK_MISMATCH, E_CHECKPOINT, E_CAPACITY, E_IO, E_STATE; E_SPLIT_BRAIN (the VM runs here
 *   too), E_DIFFERENT (not what the primary started with); nothing is listed then
 */
export async function writeReturnPoint(work: Work, ids: ReturnIds): Promise<void> {
  const { vm, desk } = work;
  // what the VM wrote lies before the head from then on
  if (vm.protection.answer(ids.cycleId) !== undefined) return;
  requireSameDisks(vm, work.instance.pointId);
  await holdStill(work);
  const frozen = await freezeServing(work, undefined);
  let isListed = false;
  try {
    await requireAsServed(work, frozen);
    const { head } = vm.protection;
    const request = requestOf(work, ids);
    await vm.change(async () => {
      // cut off by a crash: it is read again from its beginning
      await desk.discard(ids.cycleId);
      const outcome = await desk.open(request, work.book.operation.by);
      if (outcome.kind === 'accepted') return;
      throw new DrError('E_STATE', `the newest point of ${request.vmName} changed meanwhile`);
    });
    const roots: Buffer[] = [];
    await desk.push(ids.cycleId, messages(request, frozen, roots), () => undefined);
    await desk.lookBack(ids.cycleId);
    const { by, keyId } = work.book.operation;
    await vm.change(() => desk.commit(ids.cycleId, roots, { by, keyId }));
    isListed = true;
    // a mark that cannot be made now is made by the next look at the points
    await desk.markInherited(head).catch(() => undefined);
  } finally {
    // what is listed stays so; the checkpoint goes with the VM
    await frozen.discard().catch((error: unknown) => {
      if (!isListed) throw error;
    });
  }
}

/**
 * Head and started point are of the same disks: else no delta leads from the one to the other.
 * @throws DrError E_DISK_MISMATCH
 */
export function requireSameDisks(vm: VmStore, startedFrom: Guid): void {
  const { vmName, head: newest } = vm.protection;
  const head = defined(newest, 'a VM that was failed over has points');
  const started = defined(
    vm.protection.point(startedFrom),
    'the point of a VM that serves stays listed',
  );
  if (disksOf(vm, head) === disksOf(vm, started)) return;
  throw new DrError(
    'E_DISK_MISMATCH',
    `disks of ${vmName} were added, removed, replaced or resized between the point that serves and the newest one`,
    {
      context: { pointId: startedFrom, headPointId: head.pointId },
      done: 'nothing was changed',
      hint: 'Make the failover permanent, or undo it.',
    },
  );
}

function disksOf(vm: VmStore, point: Point): string {
  const words = point.disks.map((disk) => {
    const { baseCycleId } = segmentOf(vm, point, disk);
    return [disk.diskId, disk.generation, disk.sizeBytes, baseCycleId].join(' ');
  });
  return words.join('\n');
}

function requestOf({ vm, instance }: Work, ids: ReturnIds): CycleRequest {
  const head = defined(vm.protection.head, 'a VM that was failed over has points');
  // the VM at the primary is what it was before, so the definition of the head holds
  return nextPointRequest(vm, head, {
    ...ids,
    ...{ kind: RETURN_CYCLE, checkpointId: RETURN_CYCLE },
    consistentAtMs: instance.servedUntilMs,
  });
}

/** All cells of all disks; `roots` has the root of each disk when its end has passed. */
async function* messages(
  request: CycleRequest,
  frozen: ServingDisks,
  roots: Buffer[],
): AsyncGenerator<Buffer, void, undefined> {
  for (const [index, disk] of request.disks.entries()) {
    const { frozen: bytes, lacking } = frozen.disk(disk.diskId);
    const root = new RootCheck(manifestHeaderOf(request, disk));
    for await (const message of cellMessages(bytes, index, lacking.ranges(), lacking.isScattered)) {
      const parsed = parseBatch(message);
      if (parsed.kind === 'cells') for (const entry of parsed.entries) root.add(entry);
      yield message;
    }
    roots.push(root.finish());
  }
}
