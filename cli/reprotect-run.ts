// The steps of a reprotect. Each of them can be done again: a seed goes on where it was, a cycle after the
// first one is a delta, the note is made once.

import { guidFromWire, type Guid } from '../shared/bytes/index.js';
import { DrError } from '../shared/errors.js';
import { runJobs } from './agent-run.js';
import type { CliContext } from './context.js';
import { linkValues } from './operate.js';
import { type ReceiverAccess, withAccess } from './receiver-connection.js';
import {
  formerAccess,
  hostSeed,
  type Preparation,
  type ReprotectFlags,
  retiredAccess,
} from './reprotect-plan.js';
import { stageThrough } from './seed-receiver.js';

type Control = ReceiverAccess['control'];

/** Returns the newest point at the former primary. @throws DrError of each step; E_POINT_CORRUPT */
export async function carryOut(
  context: CliContext,
  prepared: Preparation,
  flags: ReprotectFlags,
): Promise<string> {
  const { output } = context;
  const { vmId, owner, steps } = prepared;
  for (const { name, what } of steps) {
    output.event({ event: 'step', step: name, what }, () => `${name}  ${what}`);
    switch (name) {
      case 'R1':
        await atFormer(context, flags, (control) =>
          stageThrough(context, control, hostSeed(prepared, false)),
        );
        break;
      case 'R2':
        await firstCycle(context, prepared, flags);
        break;
      case 'R3':
        await atFormer(context, flags, (control) => verifyNewest(context, control, vmId));
        break;
      case 'R4':
        await atFormer(context, flags, (control) => control.rebind({ vm: vmId, owner }));
        break;
      case 'R5':
        await note(context, prepared, flags);
        break;
    }
  }
  return atFormer(context, flags, (control) => newestOf(control, vmId));
}

function atFormer<T>(
  context: CliContext,
  flags: ReprotectFlags,
  work: (control: Control) => Promise<T>,
): Promise<T> {
  return withAccess(context, formerAccess(flags), 'write', ({ control }) => work(control));
}

async function firstCycle(
  context: CliContext,
  { vmName, vmId }: Preparation,
  flags: ReprotectFlags,
): Promise<void> {
  const values = linkValues(vmName, flags);
  const report = await runJobs([{ name: 'reprotect', values }], context);
  const last = report.vms.find((vm) => vm.vmId === vmId)?.last;
  if (last?.kind === 'done') return;
  if (last?.kind === 'failed') throw last.error;
  const why = last?.kind === 'skipped' ? last.text : 'it was stopped';
  throw new DrError('E_STATE', `${vmName} has no point at ${flags.drHost ?? ''} yet: ${why}`, {
    done: 'what was staged there stays',
    hint: 'The same command goes on.',
  });
}

async function verifyNewest(context: CliContext, control: Control, vmId: Guid): Promise<void> {
  const signal = context.stopSignal();
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
  context: CliContext,
  { formerVmId }: Preparation,
  flags: ReprotectFlags,
): Promise<void> {
  const parameters: Record<string, string> =
    flags.safetyHold === undefined ? {} : { safety_hold: flags.safetyHold };
  const ask = {
    vm: formerVmId,
    command: 'reprotect',
    parameters,
    isPlan: false,
    confirmedHash: '',
  };
  await withAccess(context, retiredAccess(flags), 'write', async ({ control }) => {
    for await (const { step } of control.operate(ask)) if (step?.$case === 'done') return;
    throw new DrError('E_CHANNEL', 'the receiver did not say that it noted it');
  });
}

async function newestOf(control: Control, vmId: Guid): Promise<string> {
  const { points } = await control.listPoints({ vm: vmId });
  const newest = points.at(-1)?.pointId;
  return newest === undefined ? '' : (guidFromWire(newest) ?? '');
}
