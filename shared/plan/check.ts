// The look before the first effect: every VM of a plan, what its command would do with it, and why it
// would not. Nothing is changed.

import { createHash } from 'node:crypto';
import { isErrorCode, DrError, type ErrorCode } from '../errors.js';
import { isOneAddress } from '../network/index.js';
import { findScript } from '../probe/index.js';
import { type ActionSeams, hasReached } from './actions.js';
import type { Action, Plan, PlanKind, PlanStep } from './model.js';
import type { VmAddress, VmLook, VmPlan } from './ports.js';

export interface StepRefusal {
  readonly step: string;
  readonly code: ErrorCode;
  readonly message: string;
}

export interface CheckedVm {
  readonly step: string;
  readonly look: VmLook;
  /** undefined: it is where the run leads, so nothing will be done with it. */
  readonly plan: VmPlan | undefined;
}

export interface PlanCheck {
  readonly vms: readonly CheckedVm[];
  readonly refusals: readonly StepRefusal[];
  /** Some VM's command destroys or decides something, so the run has to be confirmed. */
  readonly isDestructive: boolean;
  /** Of what would be done with all VMs; another one means that the world has changed. */
  readonly hash: string;
}

type CheckSeams = Pick<ActionSeams, 'commands' | 'fs' | 'scriptFolder' | 'heartbeatOf'>;

/** @throws DrError when the receiver cannot be asked; what one VM refuses stands in the answer */
export async function checkPlan(plan: Plan, kind: PlanKind, seams: CheckSeams): Promise<PlanCheck> {
  const refusals: StepRefusal[] = [];
  const vms: CheckedVm[] = [];
  const isVmRun = ['permanent', 'failback', 'undo'].includes(kind);
  const steps = plan.steps.filter(({ action }) => !isVmRun || action.kind === 'vm');
  await forEachAtOnce(steps, plan.concurrency, async (step) => {
    const { action } = step;
    if (action.kind === 'vm') {
      const checked = await checkVm(step.name, action, kind, seams, refusals);
      if (checked !== undefined) vms.push(checked);
      return;
    }
    refusals.push(...(await checkStep(step, seams)));
  });
  if (plan.isGroupConsistent && !isVmRun && kind !== 'planned') {
    const message = 'no point of its VMs was taken under one group cycle (consistent: group)';
    refusals.push({ step: plan.name, code: 'E_NO_POINT', message });
  }
  const place = new Map(plan.steps.map(({ name }, index) => [name, index]));
  const byPlace = (a: { step: string }, b: { step: string }): number =>
    (place.get(a.step) ?? 0) - (place.get(b.step) ?? 0);
  vms.sort(byPlace);
  refusals.push(...sharedAddresses(vms, kind));
  refusals.sort(byPlace);
  const isDestructive = vms.some(({ plan: own }) => own?.isDestructive === true);
  return { vms, refusals, isDestructive, hash: hashOf(kind, vms, refusals) };
}

/** Members of the plan that would have one address; each is told against those before it. */
function sharedAddresses(vms: readonly CheckedVm[], kind: PlanKind): StepRefusal[] {
  const seen: (VmAddress & { readonly vmName: string })[] = [];
  return vms.flatMap(({ step, look: { vmName }, plan }) => {
    const own = (plan?.addresses ?? []).filter(({ switchName }) => switchName !== '');
    const refused = own.flatMap((address): StepRefusal[] => {
      const other = seen.find((each) => canMeet(kind, each, address) && isTaken(each, address));
      if (other === undefined) return [];
      const message = `adapter ${address.adapter} of ${vmName} is to have ${address.to}, as is ${other.vmName}`;
      return [{ step, code: 'E_REIP_CONFLICT', message }];
    });
    seen.push(...own.map((address) => ({ ...address, vmName })));
    return refused;
  });
}

/** Tests run on private switches, and meet on the same one only. */
function canMeet(kind: PlanKind, one: VmAddress, other: VmAddress): boolean {
  return kind !== 'test' || one.switchName.toLowerCase() === other.switchName.toLowerCase();
}

/** What both had before they keep for good: nobody knows whether their networks ever meet. */
function isTaken(one: VmAddress, other: VmAddress): boolean {
  return (one.isByRule || other.isByRule) && isOneAddress(one.to, other.to);
}

function hashOf(
  kind: PlanKind,
  vms: readonly CheckedVm[],
  refusals: readonly StepRefusal[],
): string {
  const parts = [
    kind,
    ...vms.map(({ step, look, plan }) => [step, look.vmId, look.state, plan?.hash ?? 'reached']),
    ...refusals.map(({ step, code }) => [step, code]),
  ];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16);
}

async function checkVm(
  step: string,
  action: Extract<Action, { kind: 'vm' }>,
  kind: PlanKind,
  { commands }: CheckSeams,
  refusals: StepRefusal[],
): Promise<CheckedVm | undefined> {
  try {
    const look = await commands.look(action.vm);
    if (hasReached(kind, look, undefined)) return { step, look, plan: undefined };
    const plan = await commands.plan(action.vm, kind, action.parameters);
    for (const { code, message } of plan.refusals) {
      refusals.push({ step, code: isErrorCode(code) ? code : 'E_STATE', message });
    }
    return { step, look, plan };
  } catch (error) {
    refusals.push(refusalOf(step, error));
    return undefined;
  }
}

/** What belongs to one VM alone is its refusal; that the receiver cannot be asked is everybody's. */
function refusalOf(step: string, error: unknown): StepRefusal {
  if (
    error instanceof DrError &&
    ['E_NO_MATCH', 'E_NOT_PROTECTED', 'E_HALTED'].includes(error.code)
  ) {
    return { step, code: error.code, message: error.message };
  }
  throw error;
}

async function checkStep(step: PlanStep, seams: CheckSeams): Promise<StepRefusal[]> {
  const { action, name } = step;
  const script =
    action.kind === 'script'
      ? action.script
      : action.kind === 'wait-for' && action.condition.kind === 'script'
        ? action.condition.script
        : undefined;
  if (script !== undefined) {
    try {
      await findScript(seams.fs, seams.scriptFolder, script.name);
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      return [{ step: name, code: error.code, message: error.message }];
    }
  }
  const asksHeartbeat = action.kind === 'wait-for' && action.condition.kind === 'heartbeat';
  if (!asksHeartbeat || seams.heartbeatOf !== undefined) return [];
  const message = 'it waits for a heartbeat, and no --host names the hypervisor to ask';
  return [{ step: name, code: 'E_PARAMETER', message }];
}

/** Calls `work` for each item, at most `limit` at a time; the first failure ends it. */
export async function forEachAtOnce<T>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const left = items.values();
  const workers = Array.from({ length: Math.min(limit, items.length) }, async () => {
    for (const item of left) await work(item);
  });
  await Promise.all(workers);
}
