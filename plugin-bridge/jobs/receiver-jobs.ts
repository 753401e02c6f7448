// Jobs whose points go to a DR receiver: the same runs as those of `hvdr push`, `hvdr seed` and
// `hvdr daemon`, told through the job. No byte of a disk goes to Bacula's storage.

import { DrError } from '../../shared/errors.js';
import type { VmSummary } from '../../shared/hypervisor/index.js';
import type { ParameterValues } from '../../shared/params/index.js';
import {
  type CycleOutcome,
  type FileSink,
  type JobParameters,
  outcomeDocument,
  outcomeLine,
  runJobs,
  type RunReport,
  totalsLine,
  type WatchJobs,
} from '../../source-agent/index.js';
import type { JobPorts } from '../backend.js';
import type { JobInfo } from '../job-info.js';
import { colour } from './colour.js';
import { requireReceiver } from './require-receiver.js';
import { surroundingsOf } from './surroundings.js';
import { closingAfter } from './time-limit.js';
import { VmReports } from './vm-reports.js';

/**
 * Runs them until their cycles are done, until `run_for` is over, or until the job is cancelled. Each
 * cycle has a line in the job's log and a report among its files.
 * @throws DrError E_PARAMETER, E_NO_MATCH, as runJobs(); what makes the job red
 */
export async function runReceiverJobs(
  job: JobInfo,
  values: ParameterValues,
  jobs: readonly JobParameters[],
  sink: FileSink,
  ports: JobPorts,
  watch?: WatchJobs,
): Promise<RunReport> {
  const { clock } = ports;
  for (const each of jobs) requireReceiver(each.values);
  const startedAt = clock.monotonic();
  const reports = new VmReports('push', sink, ports);
  const limit = closingAfter(values.run_for, clock);
  let report: RunReport;
  try {
    report = await runJobs(jobs, surroundingsOf(ports), {
      signal: sink.signal,
      closing: limit.closing,
      hypervisor: ports.hypervisor,
      watch,
      onOutcome: (vm, { name, cycle: { rpoSeconds } }, outcome) => {
        tellOutcome(vm, outcome, rpoSeconds, sink);
        const about = { job: job.name, section: name };
        reports.add(vm, { ...about, ...outcomeDocument(vm, outcome, rpoSeconds) });
      },
    });
  } finally {
    limit.end();
  }
  await reports.ended();
  const [totals = '', ...doubts] = totalsLine(report, clock.monotonic() - startedAt).split('\n');
  sink.say('info', totals);
  for (const doubt of doubts) sink.say('warning', doubt);
  if (report.vms.length === 0 && !report.isStopped) {
    throw new DrError('E_NO_MATCH', 'no VM had a cycle in this job', {
      hint: 'The warnings before say why: the pattern matches no VM, or the host did not list them.',
    });
  }
  colour(report, values, sink);
  return report;
}

/** A line for the job's log, with what was remarkable below it. */
function tellOutcome(
  vm: VmSummary,
  outcome: CycleOutcome,
  rpoSeconds: number,
  sink: FileSink,
): void {
  const [line = ''] = outcomeLine(vm.name, outcome, rpoSeconds).split('\n');
  if (outcome.kind !== 'done') {
    const isHarmless = outcome.kind === 'skipped' && outcome.isCovered;
    sink.say(isHarmless ? 'warning' : 'error', line);
    return;
  }
  sink.say('info', line);
  const { warnings, notes } = outcome.result;
  for (const { code, text } of warnings) sink.say('warning', `${vm.name}: ${code} ${text}`);
  for (const text of notes) sink.say('info', `${vm.name}: ${text}`);
}
