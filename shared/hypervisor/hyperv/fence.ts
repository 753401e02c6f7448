// A fenced VM serves at another site: we do not start it, nor does the host or its cluster, and it reaches no network
// (hyperv.md § 3.5). What it had before stands in its notes, written first and removed last, so that a crash
// between forgets nothing. Hyper-V has no lock against an administrator who starts it by hand; that VM is alone.

import type { Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import type { Fence } from '../source.js';
import { stopRole } from './cluster.js';
import type { HyperVContext } from './context.js';
import { loadMachine, powerOf } from './machines.js';
import {
  fenceMarkOf,
  hasBrokenFence,
  isSameTag,
  notesWithFence,
  type FenceMark,
} from './naming.js';
import { setNotes, setStartAction, type MachineFacts } from './operations/machines.js';
import { connectAdapter, disconnectAdapter } from './operations/network.js';

const NOTHING = 'Nothing';

export async function fenceVm(context: HyperVContext, vmId: Guid, fence: Fence): Promise<void> {
  const { runner } = context;
  const machine = await loadMachine(context, vmId);
  const power = powerOf(machine.state);
  if (power !== 'off') {
    throw new DrError('E_STATE', `the VM ${machine.name} is ${power}, so it is not fenced`, {
      context: { vmId, powerState: power },
      hint: 'Shut it down first.',
    });
  }
  const before = fenceMarkOf(machine);
  const isSame = before?.epoch === fence.epoch && isSameTag(before.tag, fence.tag);
  if (!isSame) {
    const { startAction, connections } = before ?? stateBefore(machine);
    const mark: FenceMark = { tag: fence.tag, epoch: fence.epoch, startAction, connections };
    await runner.run(setNotes, { vmId, notes: notesWithFence(machine, mark) });
  }
  // again for the same fence too: a crash may have come between
  await stopRole(context, machine);
  if (machine.startAction !== NOTHING) await runner.run(setStartAction, { vmId, action: NOTHING });
  for (const { id, switchId } of machine.adapters) {
    if (switchId !== undefined) await runner.run(disconnectAdapter, { vmId, adapterId: id });
  }
}

function stateBefore({ startAction, adapters }: MachineFacts) {
  const connections = adapters.flatMap(({ id, switchId }) =>
    switchId === undefined ? [] : [{ adapterId: id, switchId }],
  );
  return { startAction, connections };
}

export async function unfenceVm(context: HyperVContext, vmId: Guid): Promise<void> {
  const { runner } = context;
  const machine = await loadMachine(context, vmId);
  const mark = fenceMarkOf(machine);
  if (mark === undefined) {
    if (!hasBrokenFence(machine)) return;
    // what it had before is not known any more: it stays disconnected, and is started by hand
    await runner.run(setNotes, { vmId, notes: notesWithFence(machine, undefined) });
    return;
  }
  for (const { adapterId, switchId } of mark.connections) {
    const adapter = machine.adapters.find(({ id }) => id === adapterId);
    // one that was connected meanwhile stays where it is, one that was removed is gone
    if (adapter === undefined || adapter.switchId !== undefined) continue;
    try {
      await runner.run(connectAdapter, { vmId, adapterId, switchId });
    } catch (error) {
      // a switch that is gone must not hold the fence for ever: the adapter stays disconnected
      if (!(error instanceof DrError) || error.code !== 'E_NOT_FOUND') throw error;
    }
  }
  if (machine.startAction !== mark.startAction) {
    await runner.run(setStartAction, { vmId, action: mark.startAction });
  }
  await runner.run(setNotes, { vmId, notes: notesWithFence(machine, undefined) });
}

export async function fenceOf(context: HyperVContext, vmId: Guid): Promise<Fence | undefined> {
  const mark = fenceMarkOf(await loadMachine(context, vmId));
  return mark && { tag: mark.tag, epoch: mark.epoch };
}

/** @throws DrError E_FENCED */
export function refuseFenced(machine: MachineFacts): void {
  const { id, name } = machine;
  const mark = fenceMarkOf(machine);
  if (mark === undefined && hasBrokenFence(machine)) {
    throw new DrError('E_FENCED', `the VM ${name} has a fence in its notes that does not read`, {
      context: { vmId: id },
      done: 'it was not started',
      hint: `Look at the DR site who is active. When this VM is to run: \`hvdr unfence ${name} --host … --force --reason TEXT\`.`,
    });
  }
  if (mark === undefined) return;
  throw new DrError('E_FENCED', `the VM ${name} is fenced since epoch ${mark.epoch}`, {
    context: { vmId: id, epoch: mark.epoch.toString(), ...mark.tag },
    done: 'it was not started',
    hint: `\`hvdr status\` at the DR site shows who is active; undo the failover or fail back there. When that site is lost: \`hvdr unfence ${name} --host … --force --reason TEXT\`.`,
  });
}
