// `mode=async-hvr`: Hyper-V replicates the VMs itself, and the job watches it: a line for each VM, an alarm
// where its RPO does not hold, and, where `hvr_server` says to whom, the beginning of a replication.

import { REPLICA_STATUS_PATH } from '../../shared/catalog/index.js';
import { DrError } from '../../shared/errors.js';
import {
  type ReplicaHost,
  replicaOf,
  type ReplicaOrder,
  type VmSummary,
} from '../../shared/hypervisor/index.js';
import { errorDocument, type JsonValue, toJson } from '../../shared/json.js';
import {
  replicaDocument,
  replicaLine,
  replicaSettings,
  replicaStatus,
} from '../../shared/operator/replica.js';
import { matchesPattern, type ParameterValues } from '../../shared/params/index.js';
import type { FileSink } from '../../source-agent/index.js';
import type { JobPorts } from '../backend.js';
import type { JobInfo } from '../job-info.js';
import { sendText } from './job-file.js';

const KINDS = { critical: 'error', warn: 'warning', ok: 'info' } as const;
/** VMs that the failure of a job names. */
const NAMED_MAX = 8;

interface Outcome {
  readonly vm: string;
  readonly isBad: boolean;
  readonly document: JsonValue;
  readonly error?: DrError;
}

/**
 * A critical VM is an error of the job, one with a warning a warning.
 * @throws DrError E_HYPERVISOR (a host without it), E_PARAMETER, E_NO_MATCH; E_PARTIAL with on_partial=fail; the
 *   first failure with abort_on_error=yes
 */
export async function runAsyncHvr(
  _job: JobInfo,
  values: ParameterValues,
  sink: FileSink,
  ports: JobPorts,
): Promise<void> {
  const { hypervisor, clock } = ports;
  const replica = replicaOf(hypervisor);
  if (values.hvr_server !== undefined) replicaSettings(values);
  const wanted = (await hypervisor.listVms()).filter(
    ({ name }) =>
      matchesPattern(values.vm, name) &&
      !values.exclude.some((pattern) => matchesPattern(pattern, name)),
  );
  if (wanted.length === 0) {
    throw new DrError('E_NO_MATCH', `vm=${values.vm} matches no VM of ${hypervisor.name}`);
  }
  const outcomes: Outcome[] = [];
  for (const vm of wanted) {
    sink.signal.throwIfAborted();
    const outcome = await watched(vm, replica, values, sink, ports);
    outcomes.push(outcome);
    if (outcome.error !== undefined && values.abort_on_error) throw outcome.error;
  }
  const document = { format: 1, host: hypervisor.name, vms: outcomes.map((each) => each.document) };
  await sendText(sink, REPLICA_STATUS_PATH, `${toJson(document, 2)}\n`, clock.now());
  const bad = outcomes.filter(({ isBad }) => isBad);
  sink.say('info', `${outcomes.length} VMs at ${hypervisor.name}, ${bad.length} critical`);
  if (bad.length > 0 && values.on_partial === 'fail') throw partial(bad);
}

async function watched(
  vm: VmSummary,
  replica: ReplicaHost,
  values: ParameterValues,
  sink: FileSink,
  { clock }: JobPorts,
): Promise<Outcome> {
  try {
    let view = await replica.view(vm.id);
    // a first copy that was not begun is begun as well; anything else that stands is left as it is
    const isToBegin =
      view.relation === undefined || view.relation.state === 'ReadyForInitialReplication';
    if (values.hvr_server !== undefined && isToBegin) {
      const settings = replicaSettings(values);
      const order: ReplicaOrder = { verb: 'enable', settings, initial: { by: 'network' } };
      view = await replica.carryOut(vm.id, order, {
        onStep: ({ name, what }) => {
          sink.say('info', `${vm.name}: ${name}  ${what}`);
        },
        signal: sink.signal,
      });
    }
    const status = replicaStatus(view, { rpoSeconds: values.rpo_seconds, nowMs: clock.now() });
    sink.say(KINDS[status.verdict], replicaLine(status));
    return {
      vm: vm.name,
      isBad: status.verdict === 'critical',
      document: replicaDocument(status),
    };
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    sink.say('error', `${vm.name}: ${error.line}`);
    const document = { vm: vm.name, vmId: vm.id, ...errorDocument(error) };
    return { vm: vm.name, isBad: true, document, error };
  }
}

function partial(bad: readonly Outcome[]): DrError {
  const named = bad.slice(0, NAMED_MAX).map(({ vm }) => vm);
  if (bad.length > NAMED_MAX) named.push(`${bad.length - NAMED_MAX} more`);
  const are = bad.length === 1 ? '1 VM is' : `${bad.length} VMs are`;
  return new DrError('E_PARTIAL', `${are} critical: ${named.join(', ')}`, {
    hint: '`hvdr replica status --host hyperv` says what each of them lacks.',
  });
}
