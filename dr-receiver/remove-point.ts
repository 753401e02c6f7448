// `hvdr points VM --remove`: an operator forgets one point by hand. What retention keeps whatever anybody
// asks for, he does not get either; its space is given back as that of any forgotten point.

import type { Caller, RemovePointRequest, RemovePointResponse } from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import { actorOf } from './actor.js';
import { findPoint } from './find-point.js';
import { findVm } from './find-vm.js';
import type { VmDesk } from './ingest/vm-desk.js';
import type { Receiver } from './receiver.js';
import { floorOf, useOf } from './store/forget.js';
import type { Point } from './store/protection.js';
import { pointToWire } from './wire.js';

/** An id or its beginning: `latest` and times mean another point from one moment to the next. */
const ID_BEGINNING = /^([0-9a-f]{4,8}|[0-9a-f]{8}-[0-9a-f-]*)$/i;

/**
 * @throws DrError E_USAGE, E_NOT_PROTECTED, E_NO_POINT, E_STATE (a VM of ours needs it), E_POINT_PINNED,
 * E_RETENTION_FLOOR, E_HALTED, E_IO, E_CAPACITY
 */
export async function removePoint(
  receiver: Receiver,
  { vm: name, point: pointName, isPlan }: RemovePointRequest,
  caller: Caller,
): Promise<RemovePointResponse> {
  if (!ID_BEGINNING.test(pointName)) {
    throw new DrError('E_USAGE', `"${pointName}" is not the id of a point`, {
      hint: 'A point is removed by its id, or the first four digits of it or more; `hvdr points VM` lists them.',
    });
  }
  const desk = await findVm(receiver, name);
  const { vm } = desk;
  return vm.change(async () => {
    vm.requireSound();
    const { vmName, listed } = vm.protection;
    const point = findPoint(desk, pointName);
    const { pointId } = point;
    requireRemovable(receiver, desk, point);
    const answer = { point: pointToWire(point, ''), leftCount: listed.length - 1 };
    if (isPlan) return answer;
    const atMs = receiver.seams.clock.now();
    await vm.append({ kind: 'delist', atMs, pointIds: [pointId], ...actorOf(caller) });
    receiver.log.warn('point.removed', { vmId: vm.vmId, vmName, pointId, by: caller.principal });
    return answer;
  });
}

/** @throws DrError E_STATE, E_POINT_PINNED, E_RETENTION_FLOOR */
function requireRemovable(receiver: Receiver, { vm }: VmDesk, point: Point): void {
  const { protection, vmId } = vm;
  const { pointId, pinReason } = point;
  const what = `point ${pointId} of ${protection.vmName}`;
  const told = { context: { vmId, pointId }, done: 'no point was removed' };
  const use = useOf(protection, pointId);
  if (use !== undefined) {
    throw new DrError('E_STATE', `${what} is in use: ${use}`, {
      ...told,
      hint: 'End the test, or undo or finish the failover, first; `hvdr status` names it.',
    });
  }
  if (pinReason !== undefined) throw new DrError('E_POINT_PINNED', `${what}: ${pinReason}`, told);
  const floor = floorOf(protection, pointId, {
    nowMs: receiver.seams.clock.now(),
    isClockTrusted: receiver.isClockTrusted(),
  });
  if (floor === undefined) return;
  throw new DrError('E_RETENTION_FLOOR', `${what} is the ${floor}`, told);
}
