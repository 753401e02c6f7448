// How a VM comes up at this site, in the steps that planned and unplanned failover share: its disks, its
// network, its power, its proof.

import { type Guid, parseGuid } from '../../../shared/bytes/index.js';
import { DrError } from '../../../shared/errors.js';
import type { Point } from '../../store/point.js';
import type { VmStore } from '../../store/vm-store.js';
import { type AdapterPlan, applyNetwork, ipMapOf } from '../../../shared/network/index.js';
import { definitionOf } from '../definition.js';
import { materialisePoint } from '../disks.js';
import { parseChecks } from '../drill/check-list.js';
import { type CheckResult, isPassed, type PlannedAdapter, runChecks } from '../drill/checks.js';
import type { FailoverPatch } from '../failover-book.js';
import { instanceDiskPaths, removeInstanceDisks } from '../instance-files.js';
import { plannedDisks } from '../instance-plan.js';
import {
  findInstance,
  powerOff,
  powerOn,
  register,
  tagOfInstance,
  unregister,
} from '../instance.js';
import type { Instance } from '../model.js';
import { withAddressCheck } from '../network.js';
import { removeRetired } from '../retired-vm.js';
import { isAlive, probeSource } from './probe.js';
import type { Work } from './work.js';

/** Fact: the checks that were made, one line for each. */
export const CHECKS = 'checks';

/** Fact: id of the VM that the plan said is removed for its name; none: nobody had the name. */
export const RETIRED = 'retired';

/** As the record names it before its disks are made. @throws DrError E_POINT_CORRUPT */
export function newInstance(vm: VmStore, point: Point, operationId: Guid): Instance {
  return {
    operationId,
    pointId: point.pointId,
    vmName: vm.protection.vmName,
    vmId: undefined,
    disks: plannedDisks(vm, point, operationId),
    poweredOnAtMs: 0,
    checks: 'pending',
    isPlanned: false,
    servedUntilMs: 0,
  };
}

/** The record names the disks before they are made, so that their bases are held from then on. */
export function intendDisks({ vm, operationId, point, book }: Work): FailoverPatch {
  const { kind, parameters } = book.operation;
  const isPlanned = kind === 'planned';
  const network = networkParameters(parameters);
  const instance = { ...newInstance(vm, point, operationId), isPlanned, network };
  return { change: { instance, replacement: undefined } };
}

function networkParameters(
  parameters: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const names = ['network_map', 'unmapped', 'mac_policy', 'reip_rules'];
  return Object.fromEntries(Object.entries(parameters).filter(([name]) => names.includes(name)));
}

export async function makeDisks(work: Work): Promise<undefined> {
  const { vm, operationId, point, site } = work;
  await materialisePoint(vm, point, operationId, site.seams);
  return undefined;
}

export async function registerVm(work: Work): Promise<FailoverPatch> {
  const { vm, host, instance, point, site } = work;
  const definition = definitionOf(vm, point);
  await makeNameFree(work);
  const vmId = await register(host, tagOfInstance(vm.vmId, instance), {
    definition,
    name: instance.vmName,
    diskPaths: instance.disks.map((disk) => instanceDiskPaths(vm.layout, disk).protective),
    joinsCluster: true,
  });
  const { parameters } = work.book.operation;
  const plan = await site.planNetwork(definition, { purpose: 'failover', parameters });
  await applyNetwork(host, vmId, plan);
  return { instance: { vmId } };
}

/** The verified point that comes up is newer than what the retired VM has. @throws DrError E_EXISTS */
async function makeNameFree({ host, vm, instance, values, book }: Work): Promise<void> {
  const { kind, facts } = book.operation;
  if (kind !== 'planned' || !values.replace_retired) return;
  if ((await findInstance(host, tagOfInstance(vm.vmId, instance))) !== undefined) return;
  await removeRetired(host, instance.vmName, parseGuid(facts[RETIRED] ?? ''));
}

/** From here on the VM may have run, whatever a crash leaves. */
export function intendPower({ site }: Work): FailoverPatch {
  return { instance: { poweredOnAtMs: site.seams.clock.now() } };
}

/** The VM runs afterwards; whether it serves is what `checks` of the instance says. */
export async function powerOnAndCheck(work: Work): Promise<FailoverPatch> {
  const { host, instance } = work;
  const { vmId } = instance;
  if (vmId === undefined) throw new Error('a VM is registered before it is started');
  await requireSourceOff(work);
  await powerOn(host, vmId);
  const plan = await networkOf(work);
  return proven(work, await checkInstance(work, plan, await plannedAdapters(work, vmId, plan)));
}

/** As powerOnAndCheck(), of a VM that has served before: its network is what it was. */
export async function serveAndCheck(work: Work, vmId: Guid): Promise<FailoverPatch> {
  await requireSourceOff(work);
  await powerOn(work.host, vmId);
  return proven(work, await checkInstance(work, [], []));
}

function proven(work: Work, results: readonly CheckResult[]): FailoverPatch {
  work.checks = results;
  const checks = isPassed(results) ? 'passed' : 'failed';
  const facts = { [CHECKS]: results.map(checkLine).join('\n').slice(0, 16_000) };
  return { instance: { checks }, facts };
}

/** Somebody may have started it at the primary since the operation began. @throws DrError E_SOURCE_ALIVE */
async function requireSourceOff(work: Work): Promise<void> {
  const { values, vm } = work;
  if (values.force) return;
  const found = await probeSource(work);
  if (!isAlive(found)) return;
  throw new DrError('E_SOURCE_ALIVE', `${vm.protection.vmName} runs at the primary site by now`, {
    context: { vmId: vm.vmId, powerState: found?.powerState ?? '' },
  });
}

export function checkLine({ check, outcome, words }: CheckResult): string {
  return `${check}: ${outcome}, ${words}`;
}

/** The plan that registerVm() has applied. */
function networkOf({ site, vm, point, book }: Work): Promise<readonly AdapterPlan[]> {
  const { parameters } = book.operation;
  const wish = { purpose: 'failover', parameters, isApplied: true } as const;
  return site.planNetwork(definitionOf(vm, point), wish);
}

async function plannedAdapters(
  { host }: Work,
  vmId: Guid,
  plan: readonly AdapterPlan[],
): Promise<readonly PlannedAdapter[]> {
  const { adapters } = await host.describeVm(vmId);
  return adapters.map(({ id }, index) => ({
    adapterId: id,
    addresses: plan[index]?.guest?.addresses ?? [],
  }));
}

async function checkInstance(
  work: Work,
  plan: readonly AdapterPlan[],
  planned: readonly PlannedAdapter[],
): Promise<readonly CheckResult[]> {
  const { site, host, instance, values, vm, point, run, book } = work;
  const { vmId } = instance;
  if (vmId === undefined) return [];
  const { kind } = book.operation;
  const checks = withAddressCheck(parseChecks(values.checks.join(',')), plan);
  const { clock, fs } = site.seams;
  const seams = { host, clock, fs, connect: site.connect, runScript: site.runScript };
  return runChecks({ vmId, adapters: planned }, checks, seams, {
    bootTimeoutMs: values.boot_timeout * 1000,
    checkTimeoutMs: values.check_timeout * 1000,
    scriptFolder: site.scriptFolder,
    context: {
      kind: kind === 'planned' ? 'planned' : 'unplanned',
      vm: vm.protection.vmName,
      site: 'target',
      ipMap: ipMapOf(plan),
      point: point.pointId,
      operationId: work.operationId,
    },
    signal: run.signal,
    onResult: (result) => {
      run.tell(book.operation.step, checkLine(result));
    },
  });
}

/**
 * When the VM came up without a proof, the failover is done and nobody may think that all is well:
 * E_REIP_GUEST when the guest did not take the address of a rule, E_HYPERVISOR otherwise.
 */
export function afterChecks({ instance, checks }: Work): DrError | undefined {
  if (instance.checks !== 'failed') return undefined;
  const address = checks.find(({ check, outcome }) => check === 'address' && outcome === 'failed');
  const hasBooted = checks.every(
    ({ check, outcome }) => check !== 'heartbeat' || outcome !== 'failed',
  );
  if (address !== undefined && hasBooted) {
    return new DrError('E_REIP_GUEST', `${instance.vmName} runs here: ${address.words}`, {
      context: { vmName: instance.vmName, vmId: instance.vmId ?? '' },
      done: 'the failover stands; nothing was taken back',
      hint: 'Set the address in the guest, or `hvdr failover undo VM`.',
    });
  }
  return new DrError('E_HYPERVISOR', `${instance.vmName} runs here, but not all checks passed`, {
    context: { vmName: instance.vmName, vmId: instance.vmId ?? '' },
    done: 'the failover stands; nothing was taken back',
    hint: 'Look at the VM. `hvdr failover undo VM` goes back, `hvdr failover permanent VM --force` goes on.',
  });
}

/** @throws DrError E_HYPERVISOR; E_STATE when nobody knows whether it runs */
export async function turnOff({ host, vm, record, values }: Work): Promise<undefined> {
  const { instance } = record;
  if (instance === undefined) return undefined;
  const tag = tagOfInstance(vm.vmId, instance);
  await powerOff(host, tag, instance.vmId);
  const mayRun = instance.poweredOnAtMs > 0 && !values.force;
  if (mayRun && (await findInstance(host, tag, instance.vmId)) === undefined) {
    throw new DrError('E_STATE', `${instance.vmName} was started here and is not to be found`, {
      context: { vmId: instance.vmId ?? '' },
      done: 'its disks were not touched',
      hint: 'It may run on another host. When it is gone for good: the same command with `--force --reason TEXT`.',
    });
  }
  return undefined;
}

/** The VM and its disks go, with those that an operation before had made beside them; the VM is off. */
export async function takeAway(work: Work): Promise<FailoverPatch> {
  const { host, vm, record, site, operationId } = work;
  const { instance, replacement } = record;
  if (instance !== undefined) {
    await unregister(host, tagOfInstance(vm.vmId, instance), instance.vmId);
    await removeInstanceDisks(site.seams.fs, vm, instance.operationId);
  }
  if (replacement === undefined || replacement.operationId === operationId) {
    return { change: { instance: undefined } };
  }
  await removeInstanceDisks(site.seams.fs, vm, replacement.operationId);
  return { change: { instance: undefined, replacement: undefined } };
}
