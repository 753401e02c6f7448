// The steps of a reprotect. Each of them can be done again: a seed goes on where it was, a cycle after the
// first one is a delta, the note is made once.

import { guidFromWire, type Guid } from '../bytes/index.js';
import type { SeedRequest } from '../channel/index.js';
import { DrError } from '../errors.js';
import type { OperatorAccess } from './receiver-access.js';
import {
  hostSeed,
  type Preparation,
  type ReprotectSites,
  type ReprotectStep,
  type ReprotectWish,
} from './reprotect-plan.js';

type Control = OperatorAccess['control'];

/** What a reprotect acts with. */
export interface ReprotectWork extends ReprotectSites {
  readonly signal: AbortSignal;
  onStep(step: ReprotectStep): void;
  /** Has the disks staged at the former primary. */
  stage(control: Control, request: SeedRequest): Promise<unknown>;
  /** Sends what differs of the VM. @throws DrError when it has no point there then */
  firstCycle(prepared: Preparation): Promise<void>;
}

/** Returns the newest point at the former primary. @throws DrError of each step; E_POINT_CORRUPT */
export async function carryOutReprotect(
  prepared: Preparation,
  wish: ReprotectWish,
  work: ReprotectWork,
): Promise<string> {
  const { vmId, owner, steps } = prepared;
  for (const step of steps) {
    work.onStep(step);
    switch (step.name) {
      case 'R1':
        await work.atFormer((control) => work.stage(control, hostSeed(prepared, false)));
        break;
      case 'R2':
        await work.firstCycle(prepared);
        break;
      case 'R3':
        await work.atFormer((control) => verifyNewest(control, vmId, work.signal));
        break;
      case 'R4':
        await work.atFormer((control) => control.rebind({ vm: vmId, owner }));
        break;
      case 'R5':
        await note(prepared, wish, work);
        break;
    }
  }
  return work.atFormer((control) => newestOf(control, vmId));
}

async function verifyNewest(control: Control, vmId: Guid, signal: AbortSignal): Promise<void> {
  let damaged: readonly Buffer[] | undefined;
  for await (const { step } of control.verify(
    { vm: vmId, point: 'latest', isRepair: false },
    { signal },
  )) {
    if (step?.$case === 'done') damaged = step.value.damagedPointIds;
  }
  if (damaged?.length === 0) return;
  throw new DrError('E_POINT_CORRUPT', `the point at the former primary does not read back`, {
    done: 'the retired protection was not closed',
    hint: '`hvdr verify` there says what is wrong; its next cycle mends it, and the same command goes on.',
  });
}

async function note(
  { formerVmId }: Preparation,
  { safetyHold }: ReprotectWish,
  work: ReprotectWork,
): Promise<void> {
  const parameters: Record<string, string> =
    safetyHold === undefined ? {} : { safety_hold: safetyHold };
  const ask = {
    vm: formerVmId,
    command: 'reprotect',
    parameters,
    isPlan: false,
    confirmedHash: '',
  };
  await work.atRetired('write', async (control) => {
    for await (const { step } of control.operate(ask)) if (step?.$case === 'done') return;
    throw new DrError('E_CHANNEL', 'the receiver did not say that it noted it');
  });
}

async function newestOf(control: Control, vmId: Guid): Promise<string> {
  const { points } = await control.listPoints({ vm: vmId });
  const newest = points.at(-1)?.pointId;
  return newest === undefined ? '' : (guidFromWire(newest) ?? '');
}
