// The call Verify: reads points back, tells what it finds, mends what the store itself still has when
// that is asked for, and marks the points.

import { guidToWire, type Guid } from '../shared/bytes/index.js';
import type { VerifyRequest, VerifyResponse } from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import { findPoint } from './find-point.js';
import { findVm } from './find-vm.js';
import type { VmDesk } from './ingest/vm-desk.js';
import type { Receiver } from './receiver.js';
import { changeHolding, type PointFinding } from './store/exposure.js';
import { markPoints } from './store/mark.js';
import type { Point } from './store/protection.js';
import { Repair, wantedCount } from './store/repair.js';
import type { LayerDamage } from './store/scrub-state.js';
import { verifyPoints } from './store/verify-points.js';

/** Points that no verification found damaged. */
export function goodPoints({ vm }: VmDesk): Point[] {
  return vm.protection.listed.filter((point) => point.damage === undefined);
}

interface Pass {
  readonly first: ReadonlyMap<Guid, PointFinding>;
  readonly checkedBytes: number;
}

/** @throws DrError E_NOT_PROTECTED, E_NO_POINT, E_HALTED */
export async function* verifyCall(
  receiver: Receiver,
  { vm: name, point: pointName, isRepair }: VerifyRequest,
): AsyncGenerator<VerifyResponse> {
  const desk = await findVm(receiver, name);
  const { vm } = desk;
  vm.requireReadable();
  if (isRepair) vm.requireSound();
  // when no commit is under way: its files are not anybody's to open yet
  const points = await vm.change(() =>
    Promise.resolve(pointName === 'all' ? vm.protection.listed : [findPoint(desk, pointName)]),
  );
  if (points.length === 0) throw new DrError('E_NO_POINT', `${name} has no restore point yet`);
  let pass = yield* onePass(receiver, desk, points);
  let repairedCount = 0;
  if (isRepair && vm.scrub.damage.size > 0) {
    repairedCount = await changeHolding(vm, () => mendFromNear(receiver, desk));
    // a point is good when it reads back, not when somebody mended it
    if (repairedCount > 0) pass = yield* onePass(receiver, desk, points);
  }
  const isGood = ({ pointId }: Point): boolean => !pass.first.has(pointId);
  const lost = [...vm.scrub.damage].filter(([, { cells }]) => cells === 'all');
  const value = {
    pointCount: points.length,
    goodPointIds: goodPoints(desk)
      .filter(isGood)
      .map(({ pointId }) => guidToWire(pointId)),
    damagedPointIds: points
      .filter((point) => !isGood(point))
      .map(({ pointId }) => guidToWire(pointId)),
    checkedBytes: BigInt(pass.checkedBytes),
    repairedCellCount: BigInt(repairedCount),
    wantedCellCount: BigInt(wantedCount(vm, 'all')),
    lostFiles: lost.map(([layer, { because }]) => `${layer}: ${because}`),
  };
  yield { step: { $case: 'done', value } };
}

/** Reads the points once, tells what is found, and enters it. */
async function* onePass(
  receiver: Receiver,
  desk: VmDesk,
  points: readonly Point[],
): AsyncGenerator<VerifyResponse, Pass> {
  const { vm } = desk;
  const first = new Map<Guid, PointFinding>();
  const layers = new Map<string, LayerDamage | undefined>();
  let checkedBytes = 0;
  for await (const step of verifyPoints(receiver.seams, vm, points)) {
    switch (step.kind) {
      case 'progress': {
        checkedBytes = step.checkedBytes;
        const totalBytes = BigInt(step.totalBytes);
        const value = { checkedBytes: BigInt(checkedBytes), totalBytes };
        yield { step: { $case: 'progress', value } };
        break;
      }
      case 'layer':
        layers.set(step.key, step.damage);
        break;
      case 'finding': {
        const { pointId, diskId, offset, code, message } = step.finding;
        if (!first.has(pointId)) first.set(pointId, step.finding);
        const value = {
          pointId: guidToWire(pointId),
          diskId: guidToWire(diskId),
          offset: BigInt(offset),
          code,
          message,
        };
        yield { step: { $case: 'finding', value } };
        break;
      }
    }
  }
  await vm.change(async () => {
    if (vm.isReadOnly) return;
    await noteLayers(desk, layers);
    await markPoints(vm, receiver.seams.clock.now(), points, first);
  });
  return { first, checkedBytes };
}

/** What was found in whole layers takes the place of what was known of them. */
async function noteLayers(
  { vm }: VmDesk,
  layers: ReadonlyMap<string, LayerDamage | undefined>,
): Promise<void> {
  const { scrub } = vm;
  let isChanged = false;
  for (const [key, damage] of layers) {
    if (damage === undefined && !scrub.damage.has(key)) continue;
    scrub.setDamage(key, damage);
    isChanged = true;
  }
  if (isChanged) await scrub.save();
}

async function mendFromNear(receiver: Receiver, desk: VmDesk): Promise<number> {
  const repair = await Repair.open(receiver.seams, desk.vm);
  await repair.fromNear(await desk.donors());
  await repair.finish();
  return repair.repairedCount;
}
