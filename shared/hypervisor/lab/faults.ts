// Scripted faults: what a test or a rehearsal wants the lab to do wrong. They stand in faults.json,
// for all VMs or for one, until they are cleared; those that end the process act once.

import type { Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import { readJson, writeJsonDurably, type JsonFormat } from '../../files/index.js';
import { withLockFile, type LabContext } from './context.js';
import { Fields } from '../fields.js';
import { faultsFile, hostLockFile } from './layout.js';

/** Name, whether it takes an argument, what it does. */
export const FAULTS = {
  'checkpoint-slow': { argument: 'milliseconds', effect: 'a checkpoint takes so long' },
  'checkpoint-fails': { argument: undefined, effect: 'no checkpoint can be made' },
  'quiesce-refused': { argument: undefined, effect: 'no application-consistent checkpoint' },
  'merge-delay': { argument: 'milliseconds', effect: 'a merge begins so much later' },
  'foreign-checkpoint': { argument: undefined, effect: 'a checkpoint of somebody else is there' },
  'disk-full': { argument: undefined, effect: 'guest writes and checkpoints find no space' },
  'shutdown-ignored': { argument: undefined, effect: 'the guest does not shut down' },
  'turn-off-fails': { argument: undefined, effect: 'the VM cannot be turned off' },
  'boot-fails': { argument: undefined, effect: 'the VM does not start' },
  'boot-slow': { argument: 'milliseconds', effect: 'a guest needs so long for its sign of life' },
  'no-heartbeat': { argument: undefined, effect: 'a started guest gives no sign of life' },
  'address-ignored': { argument: undefined, effect: 'a guest takes no address that it is given' },
  'convert-fails': { argument: undefined, effect: 'no checkpoint becomes a reference point' },
  'tracking-lost': { argument: undefined, effect: 'nobody knows what changed' },
  'die-before': { argument: 'call', effect: 'the process ends before this call, once' },
  'die-after': { argument: 'call', effect: 'the process ends after this call, once' },
} as const;

export type FaultName = keyof typeof FAULTS;

/** Calls of SourceHypervisor and TargetHypervisor, for die-before and die-after. */
export const CALLS = [
  'listVms',
  'describeVm',
  'startVm',
  'shutDownVm',
  'turnOffVm',
  'createCheckpoint',
  'listCheckpoints',
  'removeCheckpoint',
  'convertToReferencePoint',
  'waitForMerge',
  'listReferencePoints',
  'removeReferencePoint',
  'openCheckpointDisk',
  'changedRanges',
  'rangesAbove',
  'fenceVm',
  'unfenceVm',
  'fenceOf',
  'registerVm',
  'removeVm',
  'setDiskFiles',
  'summaryOf',
  'findTagged',
  'tagOf',
  'dropTag',
  'defaultVmFolder',
  'listSwitches',
  'connectAdapter',
  'setMacAddress',
  'setGuestAddress',
  'heartbeat',
  'close',
] as const;

export type CallName = (typeof CALLS)[number];

export interface Fault {
  readonly fault: FaultName;
  /** undefined: all VMs. */
  readonly vmId: Guid | undefined;
  readonly argument: string | undefined;
}

const FORMAT: JsonFormat = { name: 'list of lab faults', version: 1, limitBytes: 1024 * 1024 };
const DELAY_MS_MAX = 24 * 60 * 60 * 1000;

export function isFaultName(text: string): text is FaultName {
  return Object.hasOwn(FAULTS, text);
}

/** Whether the fault's argument is a time. */
export function isDelay(name: string): boolean {
  return isFaultName(name) && FAULTS[name].argument === 'milliseconds';
}

/** A fault as a user asks for it. @throws DrError E_PARAMETER */
export function faultOf(name: string, argument: string | undefined, vmId: Guid | undefined): Fault {
  if (!isFaultName(name)) {
    throw new DrError('E_PARAMETER', `there is no fault ${name}`, {
      hint: `Faults: ${Object.keys(FAULTS).join(', ')}.`,
    });
  }
  const wanted = FAULTS[name].argument;
  const refuse = (what: string): never => {
    throw new DrError('E_PARAMETER', `the fault ${name} ${what}`);
  };
  if (wanted === undefined && argument !== undefined) refuse('takes no argument');
  if (wanted === 'milliseconds') {
    const isLegal = argument !== undefined && /^\d{1,9}$/.test(argument);
    if (!isLegal || Number(argument) > DELAY_MS_MAX) {
      refuse(`takes milliseconds, 0 to ${DELAY_MS_MAX}`);
    }
  }
  if (wanted === 'call' && !CALLS.some((call) => call === argument)) {
    refuse(`takes one of these calls: ${CALLS.join(', ')}`);
  }
  return { fault: name, vmId, argument };
}

export async function readFaults({ fs, folder }: LabContext): Promise<Fault[]> {
  const file = faultsFile(folder);
  const json = await readJson(fs, file, FORMAT);
  if (json === undefined) return [];
  return Fields.ofFile(json, file).list('faults', (item) => {
    const isForAll = item.optionalString('vmId') === undefined;
    return faultOf(
      item.string('fault'),
      item.optionalString('argument'),
      isForAll ? undefined : item.guid('vmId'),
    );
  });
}

async function changeFaults(
  context: LabContext,
  change: (faults: readonly Fault[]) => readonly Fault[],
): Promise<void> {
  await withLockFile(context, hostLockFile(context.folder), async () => {
    const { fs, folder, random } = context;
    const faults = change(await readFaults(context));
    await writeJsonDurably(fs, faultsFile(folder), FORMAT, { faults }, random);
  });
}

function isSame(a: Fault, b: Pick<Fault, 'fault' | 'vmId'>): boolean {
  return a.fault === b.fault && a.vmId === b.vmId;
}

/** Replaces the same fault of the same VM. Durable on return. */
export async function addFault(context: LabContext, fault: Fault): Promise<void> {
  await changeFaults(context, (faults) => [
    ...faults.filter((other) => !isSame(other, fault)),
    fault,
  ]);
}

/** No error when it is not set. Durable on return. */
export async function dropFault(
  context: LabContext,
  fault: Pick<Fault, 'fault' | 'vmId'>,
): Promise<void> {
  await changeFaults(context, (faults) => faults.filter((other) => !isSame(other, fault)));
}

/** Forgets what was set for a VM that has gone. */
export async function dropFaultsOf(context: LabContext, vmId: Guid): Promise<void> {
  if (!(await readFaults(context)).some((fault) => fault.vmId === vmId)) return;
  await changeFaults(context, (faults) => faults.filter((fault) => fault.vmId !== vmId));
}

/** The fault as it is set for this VM, or else for all. */
export async function activeFault(
  context: LabContext,
  name: FaultName,
  vmId: Guid | undefined,
): Promise<Fault | undefined> {
  const faults = (await readFaults(context)).filter(({ fault }) => fault === name);
  return (
    faults.find((fault) => fault.vmId === vmId) ?? faults.find((fault) => fault.vmId === undefined)
  );
}

/** Milliseconds of a fault with a delay; 0 when it is not set. */
export async function delayOf(
  context: LabContext,
  name: 'checkpoint-slow' | 'merge-delay' | 'boot-slow',
  vmId: Guid,
): Promise<number> {
  return Number((await activeFault(context, name, vmId))?.argument ?? 0);
}

/** Ends the process when a fault says so; the fault is used up, durably, before. */
export async function dieWhenTold(
  context: LabContext,
  name: 'die-before' | 'die-after',
  call: CallName,
  vmId: Guid | undefined,
): Promise<void> {
  const fault = (await readFaults(context)).find(
    (other) =>
      other.fault === name &&
      other.argument === call &&
      (other.vmId === undefined || other.vmId === vmId),
  );
  if (fault === undefined) return;
  await dropFault(context, fault);
  context.die();
  // A signal to oneself may take a moment to arrive; nothing is done in it.
  await new Promise<never>(() => undefined);
}
