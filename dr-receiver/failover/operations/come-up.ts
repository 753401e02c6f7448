// How a VM comes up at this site, in the steps that planned and unplanned failover share: its disks, its
// network, its power, its proof.

import { DrError } from '../../../shared/errors.js';
import { definitionOf } from '../definition.js';
import { materialisePoint } from '../disks.js';
import { parseChecks } from '../drill/check-list.js';
import { type CheckResult, isPassed, runChecks } from '../drill/checks.js';
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
import { applyNetwork } from '../network.js';
import { isAlive, probeSource } from './probe.js';
import type { Work } from './work.js';

/** Fact: the checks that were made, one line for each. */
export const CHECKS = 'checks';

/** The record names the disks before they are made, so that their bases are held from then on. */
export function intendDisks(work: Work): FailoverPatch {
  const { vm, operationId, point } = work;
  const instance: Instance = {
    operationId,
    pointId: point.pointId,
    vmName: vm.protection.vmName,
    vmId: undefined,
    disks: plannedDisks(vm, point, operationId),
    poweredOnAtMs: 0,
    checks: 'pending',
  };
  return { change: { instance } };
}

export async function makeDisks(work: Work): Promise<undefined> {
  const { vm, operationId, point, site } = work;
  await materialisePoint(vm, point, operationId, site.seams);
  return undefined;
}

export async function registerVm(work: Work): Promise<FailoverPatch> {
  const { vm, host, instance, point, site } = work;
  const definition = definitionOf(vm, point);
  const vmId = await register(host, tagOfInstance(vm.vmId, instance), {
    definition,
    name: instance.vmName,
    diskPaths: instance.disks.map((disk) => instanceDiskPaths(vm.layout, disk).protective),
  });
  const { parameters } = work.book.operation;
  const plan = await site.planNetwork(definition, { purpose: 'failover', parameters });
  await applyNetwork(host, vmId, plan);
  return { instance: { vmId } };
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
  const results = await checkInstance(work);
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

async function checkInstance(work: Work): Promise<readonly CheckResult[]> {
  const { site, host, instance, values, vm, point, run, book } = work;
  const { vmId } = instance;
  if (vmId === undefined) return [];
  const definition = definitionOf(vm, point);
  const { kind, parameters } = book.operation;
  const plan = await site.planNetwork(definition, { purpose: 'failover', parameters });
  const { adapters } = await host.describeVm(vmId);
  const planned = adapters.map(({ id }, index) => ({
    adapterId: id,
    addresses: plan[index]?.guest?.addresses ?? [],
  }));
  const { clock, fs } = site.seams;
  const seams = { host, clock, fs, connect: site.connect, runScript: site.runScript };
  return runChecks({ vmId, adapters: planned }, parseChecks(values.checks.join(',')), seams, {
    bootTimeoutMs: values.boot_timeout * 1000,
    checkTimeoutMs: values.check_timeout * 1000,
    scriptFolder: site.scriptFolder,
    context: {
      kind: kind === 'planned' ? 'planned' : 'unplanned',
      vm: vm.protection.vmName,
      site: 'target',
      ipMap: {},
      point: point.pointId,
      operationId: work.operationId,
    },
    signal: run.signal,
    onResult: (result) => {
      run.tell(book.operation.step, checkLine(result));
    },
  });
}

/** When the VM came up without a proof, the failover is done and nobody may think that all is well. */
export function afterChecks({ instance }: Work): DrError | undefined {
  if (instance.checks !== 'failed') return undefined;
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

/** The VM and its disks go; the VM is off. */
export async function takeAway({ host, vm, record, site }: Work): Promise<FailoverPatch> {
  const { instance } = record;
  if (instance !== undefined) {
    await unregister(host, tagOfInstance(vm.vmId, instance), instance.vmId);
    await removeInstanceDisks(site.seams.fs, vm, instance.operationId);
  }
  return { change: { instance: undefined } };
}
