// `hvdr forget`: gives a protection up, with all of its points. What runs, or may be started, on its files
// hinders it; pins do not. A VM that stays at this site keeps its disks, which stand elsewhere once they
// are flattened (flatten.ts).

import { DrError } from '../../shared/errors.js';
import type { ParameterValues } from '../../shared/params/index.js';
import type { VmDesk } from '../ingest/vm-desk.js';
import type { Receiver } from '../receiver.js';
import type { Protection } from '../store/protection.js';
import { leftoverInstanceFiles } from './instance-files.js';
import { userOf } from './instance-users.js';
import type { Asked } from './operations/work.js';
import type { PlanRefusal } from './plan.js';
import { requireAnswer, type Standing } from './refusals.js';
import { type FailoverSite, requireHost } from './site.js';

export interface ForgetFindings {
  readonly refusals: readonly PlanRefusal[];
  readonly notes: readonly string[];
}

/** `force`: the VM that stayed has gone from every host, and so may its disks. */
export type ForgetWish = Pick<ParameterValues, 'force' | 'reason'>;

/** What hinders it, and what goes with it. Nothing is changed. */
export async function lookBeforeForget(
  site: FailoverSite,
  desk: VmDesk,
  { force, reason = '' }: ForgetWish,
): Promise<ForgetFindings> {
  const refusals: PlanRefusal[] = [];
  if (force && reason.trim() === '') {
    refusals.push({ code: 'E_PARAMETER', message: 'what is forced wants a reason' });
  }
  const refused =
    refusalOf(desk, force) ??
    (await hostRefusal(site, desk, force)) ??
    (await usersRefusal(site, desk));
  if (refused !== undefined) refusals.push(refused);
  return { refusals, notes: notesOf(desk) };
}

/** As far as the record tells it. */
function refusalOf({ vm }: VmDesk, isForced: boolean): PlanRefusal | undefined {
  const { vmName, tests, failover } = vm.protection;
  if (tests.size > 0) {
    const message = `${tests.size} test session(s) of ${vmName} run; end them with --stop first`;
    return { code: 'E_LOCKED', message };
  }
  const { instance, phase } = failover;
  if (instance === undefined || (phase === 'committed' && instance.disks.length === 0)) {
    return undefined;
  }
  // whether the VM has gone is asked of the hypervisor
  if (isForced && phase === 'committed') return undefined;
  const message = `the disks of ${instance.vmName} stand on points of the protection; run \`hvdr flatten ${vmName}\` first`;
  return { code: 'E_STATE', message };
}

/** The hypervisor has the last word about where the disks of a VM lie that stays. */
async function hostRefusal(
  site: FailoverSite,
  { vm }: VmDesk,
  isForced: boolean,
): Promise<PlanRefusal | undefined> {
  const { failover, vmName } = vm.protection;
  const vmId = failover.instance?.vmId;
  if (vmId === undefined) return undefined;
  try {
    const { disks } = await requireHost(site).describeVm(vmId);
    const inside = disks.find(({ path }) => vm.layout.holds(path));
    if (inside === undefined) return undefined;
    const message = `the VM that stays here uses ${inside.path}, which would be removed; run \`hvdr flatten ${vmName}\` first`;
    return { code: 'E_STATE', message };
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    // it may run on another host, on disks in this folder; who forces it says that it does not
    const hasDisks = (failover.instance?.disks.length ?? 0) > 0;
    if (error.code === 'E_NOT_FOUND' && (isForced || !hasDisks)) return undefined;
    return { code: error.code, message: error.message };
  }
}

/** What no record names any more may still run: a test that was ended by force, an adopted VM. */
async function usersRefusal(site: FailoverSite, { vm }: VmDesk): Promise<PlanRefusal | undefined> {
  const { vmName } = vm.protection;
  const { host } = site;
  if (host === undefined) {
    if ((await leftoverInstanceFiles(site.seams.fs, vm)).length === 0) return undefined;
    const message = `disks of a VM that was tested lie in ${vm.layout.disks}, and this receiver was not told the hypervisor of its site`;
    return { code: 'E_STATE', message };
  }
  try {
    const user = await userOf(host, (path) => vm.layout.holds(path));
    if (user === undefined) return undefined;
    const message = `the VM ${user.name} uses ${user.path}, which would be removed with ${vmName}`;
    return { code: 'E_STATE', message, hint: 'Remove that VM, or put it on other disks, first.' };
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    return { code: error.code, message: error.message };
  }
}

function notesOf({ vm, activeRequest }: VmDesk): readonly string[] {
  const { listed, storedBytes, failover } = vm.protection;
  const pins = listed.filter(({ pinReason }) => pinReason !== undefined);
  const owed = [...new Set(failover.owed.map(({ kind }) => kind))];
  return [
    `${listed.length} points go, and ${storedBytes} bytes with them`,
    ...pins.map(({ pointId, pinReason }) => `point ${pointId} goes as well: ${pinReason ?? ''}`),
    ...(activeRequest === undefined ? [] : ['the cycle that is under way is broken off']),
    ...(owed.length === 0
      ? []
      : [`the source was not told yet, and never will be: ${owed.join(', ')}`]),
    ...instanceNotes(vm.protection),
    'the journal, and disks that were kept, stay in the folder `forgotten` of the store',
  ];
}

function instanceNotes({ failover: { instance, phase } }: Protection): readonly string[] {
  if (phase !== 'committed' || instance === undefined) return [];
  return instance.disks.length === 0
    ? [`${instance.vmName}, which stays here, keeps its disks`]
    : [`the disks of ${instance.vmName} go as well`];
}

/**
 * Returns warnings. @throws DrError with the code of the table, E_LOCKED, E_STATE, E_IO, E_CAPACITY
 */
export async function forget(
  receiver: Receiver,
  desk: VmDesk,
  standing: Standing,
  { by, keyId }: Asked,
  { force }: ForgetWish,
): Promise<readonly string[]> {
  const check = (): void => {
    const { failover } = desk.vm.protection;
    requireAnswer({ ...standing, failover }, 'forget');
    const refused = refusalOf(desk, force);
    if (refused !== undefined) throw new DrError(refused.code, refused.message);
  };
  const rest = await receiver.forget(desk, { by, keyId }, check);
  return rest === undefined
    ? []
    : [`some files are still there and go at the next start of the receiver: ${rest}`];
}
