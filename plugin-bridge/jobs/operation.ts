// The failover modes of a job: the commands that `hvdr failover …` and `hvdr failback` give, for each VM
// that matches, one after the other.

import { guidFromWire, parseGuid } from '../../shared/bytes/index.js';
import { vmFolder } from '../../shared/catalog/index.js';
import type { ProtectionStatus } from '../../shared/channel/index.js';
import { DrError } from '../../shared/errors.js';
import { commandParameters, type OperatorCommand } from '../../shared/operator/commands.js';
import type { OperatorAccess } from '../../shared/operator/receiver-access.js';
import { statusOf } from '../../shared/operator/status.js';
import {
  matchesPattern,
  type OperationMode,
  OPERATIONS,
  type ParameterValues,
} from '../../shared/params/index.js';
import type { FileSink } from '../../source-agent/index.js';
import type { JobPorts, RunMode } from '../backend.js';
import { withReceiver } from './operator-access.js';
import { VmOperation, type VmOrder, type VmOutcome } from './operation-vm.js';

/** VMs that the failure of a job names. */
const NAMED_MAX = 8;

/**
 * The job of one mode. It is red when a VM fails, and goes on with the others unless abort_on_error. A test
 * with on_partial=warn in the Plugin line has errors instead.
 * @throws DrError E_PARAMETER, E_NO_MATCH, of the receiver; the failure of the VM, E_PARTIAL
 */
export function operationJob(mode: Exclude<OperationMode, 'reprotect'>): RunMode {
  const command = OPERATIONS[mode];
  return (job, values, sink, ports) => {
    requireNamed(command, ports);
    const parameters = commandParameters(command, ports.parameters);
    return withReceiver(values, ports, async (access) => {
      const { orders, skipped } = await ordersOf(command, access, values, ports);
      for (const line of skipped) sink.say('warning', line);
      const common = { job: job.name, mode, isPlanOnly: values.plan, confirmed: values.confirm };
      const made = orders.map(({ vmId, ...order }) => ({
        ...{ ...order, ...common },
        operation: { vm: vmId, command, parameters },
      }));
      const isRedOnFailure = !(command === 'test' && ports.parameters.texts.on_partial === 'warn');
      await runOrders(made, access, values, { sink, ports, isRedOnFailure });
    });
  };
}

/** What moves a VM is done to one that is named: `*` is the default, and it means all. */
function requireNamed(command: OperatorCommand, { parameters }: JobPorts): void {
  if (command === 'test' || parameters.texts.vm !== undefined) return;
  throw new DrError(
    'E_PARAMETER',
    `vm: nothing says which VM is meant by mode=${parameters.values.mode}`,
    {
      context: { parameter: 'vm' },
      hint: 'Give vm=NAME or a pattern; vm=* means all.',
    },
  );
}

interface Found {
  readonly vmId: string;
  readonly vmName: string;
  readonly folder: string;
}

/** The VMs that are meant. A pattern passes over those that stayed at the DR site for good. */
async function ordersOf(
  command: OperatorCommand,
  { control, place }: OperatorAccess,
  { vm: pattern, exclude }: ParameterValues,
  { signal }: JobPorts,
): Promise<{ readonly orders: readonly Found[]; readonly skipped: readonly string[] }> {
  const { protections } = await statusOf(control, '', { signal });
  const all = protections.map(identityOf);
  const skipped: string[] = [];
  const orders: Found[] = [];
  for (const [index, each] of protections.entries()) {
    const vm = all[index];
    if (vm === undefined) continue;
    const isMeant = matchesPattern(pattern, vm.name) || parseGuid(pattern) === vm.id;
    if (!isMeant || exclude.some((other) => matchesPattern(other, vm.name))) continue;
    if (isPattern(pattern) && each.failoverState === 'COMMITTED') {
      skipped.push(`skipped: W_RETIRED_SKIPPED ${vm.name} stays at the DR site for good`);
      continue;
    }
    orders.push({ vmId: vm.id, vmName: vm.name, folder: vmFolder(vm, all) });
  }
  const [, second] = orders;
  if (second !== undefined && !isPattern(pattern)) {
    const ids = orders.map(({ vmId }) => vmId).join(', ');
    throw new DrError('E_USAGE', `${orders.length} VMs are named ${pattern}: ${ids}`, {
      hint: 'Name the VM by its id.',
    });
  }
  if (orders.length > 0) return { orders, skipped };
  throw new DrError('E_NO_MATCH', `no VM at ${place} is one for ${command} by "${pattern}"`, {
    context: { pattern, vmCount: protections.length },
  });
}

function identityOf({ vmId, vmName }: ProtectionStatus) {
  const id = guidFromWire(vmId);
  if (id === undefined) throw new DrError('E_PROTOCOL', 'the receiver told a VM without an id');
  return { id, name: vmName };
}

function isPattern(text: string): boolean {
  return /[*?]/.test(text);
}

interface Around {
  readonly sink: FileSink;
  readonly ports: JobPorts;
  /** Otherwise a failure is an error of a job that ends well: Bacula forgets the files of a red one. */
  readonly isRedOnFailure: boolean;
}

async function runOrders(
  orders: readonly VmOrder[],
  access: OperatorAccess,
  { abort_on_error: isAborting }: ParameterValues,
  { sink, ports, isRedOnFailure }: Around,
): Promise<void> {
  const failed: { readonly vmName: string; readonly error: DrError }[] = [];
  const counts = new Map<VmOutcome['kind'], number>();
  for (const [index, order] of orders.entries()) {
    const outcome = await new VmOperation(order, access, sink, ports).run();
    counts.set(outcome.kind, (counts.get(outcome.kind) ?? 0) + 1);
    const left = orders.length - index - 1;
    if (outcome.kind === 'failed') {
      failed.push({ vmName: order.vmName, error: outcome.error });
      if (orders.length > 1 || !isRedOnFailure)
        sink.say('error', `${order.vmName} failed, ${outcome.error.line}`);
    }
    const isEnd = outcome.kind === 'stopped' || (outcome.kind === 'failed' && isAborting);
    if (isEnd && left > 0) {
      sink.say('error', `${left} of ${orders.length} VMs: nothing was begun`);
    }
    if (isEnd) break;
  }
  if (ports.signal.aborted) return;
  const parts = [...counts].map(([kind, count]) => `${count} ${kind}`);
  sink.say('info', `${orders.length === 1 ? '1 VM' : `${orders.length} VMs`}: ${parts.join(', ')}`);
  const error = failureOf(failed, orders.length);
  if (error !== undefined && isRedOnFailure) throw error;
}

/** When all fail alike, that code; otherwise which ones failed. */
function failureOf(
  failed: readonly { readonly vmName: string; readonly error: DrError }[],
  count: number,
): DrError | undefined {
  const [first] = failed;
  if (first === undefined) return undefined;
  const isAlike = failed.every(({ error }) => error.code === first.error.code);
  if (isAlike && failed.length === count) return first.error;
  const named = failed.slice(0, NAMED_MAX).map(({ vmName, error }) => `${vmName} ${error.code}`);
  if (failed.length > NAMED_MAX) named.push(`${failed.length - NAMED_MAX} more`);
  return new DrError('E_PARTIAL', `${failed.length} of ${count} VMs failed: ${named.join(', ')}`, {
    done: 'the others were done, or not begun',
  });
}
