// The commands of one VM, as a run of a plan gives them: asked of the receiver by its control service.

import {
  type ControlService,
  type OperateResponse,
  type ServiceClient,
} from '../shared/channel/index.js';
import { verifyReport } from '../dr-receiver/index.js';
import { guidFromWire } from '../shared/bytes/index.js';
import { DrError } from '../shared/errors.js';
import { ipMapOf } from '../shared/network/index.js';
import type { VmAddress, VmCommands, VmLook, VmOutcome, VmPlan } from '../shared/plan/index.js';
import { allPages } from '../shared/operator/receiver-access.js';

type Control = Pick<ServiceClient<ControlService>, 'statusPages' | 'operate'>;

/** What follows from the answers of a receiver; they are checked field by field. */
export function vmCommands(control: Control): VmCommands {
  return {
    look: (vm) => look(control, vm),

    async plan(vm, command, parameters) {
      const request = { vm, command, parameters: { ...parameters }, isPlan: true };
      for await (const { step } of control.operate({ ...request, confirmedHash: '' })) {
        if (step?.$case === 'plan') return planOf(step.value);
      }
      throw new DrError('E_PROTOCOL', `the receiver told no plan for ${vm}`);
    },

    async run({ vm, command, parameters, confirmedHash = '', signal, onStep }) {
      const request = { vm, command, parameters: { ...parameters }, isPlan: false, confirmedHash };
      let addresses: readonly VmAddress[] = [];
      for await (const { step } of control.operate(request, { signal })) {
        if (step?.$case === 'plan') ({ addresses } = step.value);
        if (step?.$case === 'progress') {
          const operationId = guidFromWire(step.value.operationId);
          if (operationId !== undefined) onStep(step.value.step, operationId);
        }
        if (step?.$case === 'done') return outcomeOf(step.value, addresses);
      }
      throw new DrError('E_PROTOCOL', `the receiver did not say how ${command} of ${vm} ended`);
    },
  };
}

async function look(control: Control, vm: string): Promise<VmLook> {
  const { items } = await allPages(
    control.statusPages({ vm }),
    ({ page }) => page,
    (page) => page.protections,
  );
  const [status, second] = items;
  const vmId = status === undefined ? undefined : guidFromWire(status.vmId);
  if (status === undefined || vmId === undefined) {
    throw new DrError('E_NO_MATCH', `the receiver knows no VM ${vm}`, { context: { vm } });
  }
  if (second !== undefined) {
    throw new DrError('E_NO_MATCH', `the receiver knows several VMs ${vm}`, {
      context: { vm },
      hint: 'Name the VM by its id; `hvdr status` lists them.',
    });
  }
  return {
    ...{ vmId, vmName: status.vmName, state: status.failoverState, operation: status.operation },
    ...{ provenAtMs: Number(status.provenAtMs), isProofPassed: status.isProofPassed },
    instanceName: status.instanceName,
    testOperationIds: status.tests.flatMap(({ operationId }) => guidFromWire(operationId) ?? []),
  };
}

type StepOf<K> = Extract<OperateResponse['step'], { $case: K }>;

function planOf(plan: StepOf<'plan'>['value']): VmPlan {
  const { fromState, toState, refusals, notes, isDestructive, hash, addresses } = plan;
  return {
    ...{ fromState, toState, refusals, notes, isDestructive, hash, addresses },
    lostSeconds: Number(plan.lostSeconds),
  };
}

function outcomeOf(done: StepOf<'done'>['value'], addresses: readonly VmAddress[]): VmOutcome {
  const { state, warnings, isPassed } = done;
  return {
    ...{ state, warnings, isPassed, ipMap: addressMap(done.reportJson, addresses) },
    operationId: guidFromWire(done.operationId) ?? '',
    pointId: guidFromWire(done.pointId) ?? '',
  };
}

/** Of the report of a test; of a failover, as it was planned. */
function addressMap(
  reportJson: string,
  addresses: readonly VmAddress[],
): Readonly<Record<string, string>> {
  if (reportJson === '') return ipMapOf([{ moves: addresses.filter(({ from }) => from !== '') }]);
  const { report } = verifyReport(reportJson, 'the answer of the receiver');
  return report.network.ipMap;
}
