// `mode=replication-status`: what `hvdr status` says, as lines of a job and as a file of it.

import { STATUS_PATH } from '../../shared/catalog/index.js';
import type { ProtectionStatus } from '../../shared/channel/index.js';
import { DrError } from '../../shared/errors.js';
import { toJson } from '../../shared/json.js';
import { protectionLines, statusOf, type StoreStatus } from '../../shared/operator/status.js';
import { matchesPattern, type ParameterValues } from '../../shared/params/index.js';
import { formatSize } from '../../shared/sizes.js';
import type { FileSink } from '../../source-agent/index.js';
import type { JobPorts } from '../backend.js';
import type { JobInfo } from '../job-info.js';
import { sendText } from './job-file.js';
import { withReceiver } from './operator-access.js';

/** The worst first; what is none of these counts as critical. */
const HEALTHS = ['critical', 'warn', 'ok'] as const;
type Health = (typeof HEALTHS)[number];
const KINDS = { critical: 'error', warn: 'warning', ok: 'info' } as const;
/** VMs that the failure of a job names. */
const NAMED_MAX = 8;

/**
 * A line for each VM, errors first. A critical VM is an error of the job, one with a warning a warning.
 * @throws DrError with on_partial=fail when a VM is critical: E_PARTIAL; E_NO_MATCH; of the receiver
 */
export async function runReplicationStatus(
  _job: JobInfo,
  values: ParameterValues,
  sink: FileSink,
  ports: JobPorts,
): Promise<void> {
  const isLeftOut = (name: string): boolean =>
    values.exclude.some((pattern) => matchesPattern(pattern, name));
  const { signal, clock } = ports;
  const { status, place } = await withReceiver(values, ports, async (access) => ({
    status: await statusOf(access.control, values.vm, { signal, isLeftOut }),
    place: access.place,
  }));
  const { protections, document } = status;
  for (const health of HEALTHS) {
    const some = protections.filter((each) => healthOf(each) === health);
    for (const each of some) sink.say(KINDS[health], lineOf(each, status));
  }
  if (protections.length === 0) sink.say('warning', `no VM is protected at ${place}`);
  await sendText(sink, STATUS_PATH, `${toJson(document, 2)}\n`, clock.now());
  sink.say('info', totalsOf(status, place));
  const bad = protections.filter((each) => healthOf(each) === 'critical');
  if (bad.length > 0 && values.on_partial === 'fail') throw criticalError(bad);
}

function healthOf({ health }: ProtectionStatus): Health {
  return HEALTHS.find((each) => each === health) ?? 'critical';
}

function lineOf(each: ProtectionStatus, status: StoreStatus): string {
  const [head = '', ...below] = protectionLines(each, status);
  return [head, ...below.map((line) => line.trim())].join('; ');
}

function totalsOf({ protections, freeBytes }: StoreStatus, place: string): string {
  const counts = HEALTHS.map((health) => {
    const count = protections.filter((each) => healthOf(each) === health).length;
    return count === 0 ? '' : `, ${count} ${health}`;
  });
  const many = protections.length === 1 ? '1 VM' : `${protections.length} VMs`;
  const free = freeBytes === 0 ? '' : `; ${formatSize(freeBytes)} are free in the store`;
  return `${many} at ${place}${counts.join('')}${free}`;
}

function criticalError(bad: readonly ProtectionStatus[]): DrError {
  const named = bad
    .slice(0, NAMED_MAX)
    .map(({ vmName, reasons }) => `${vmName} (${reasons.join(', ')})`);
  if (bad.length > NAMED_MAX) named.push(`${bad.length - NAMED_MAX} more`);
  const are = bad.length === 1 ? '1 VM is' : `${bad.length} VMs are`;
  return new DrError('E_PARTIAL', `${are} critical: ${named.join(', ')}`, {
    hint: '`hvdr status --vm NAME` says what each of them lacks.',
  });
}
