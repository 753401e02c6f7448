// `mode=rct-push push_apply_remote=yes` and `mode=seed`: cycles straight to the DR receiver, as
// `hvdr push` and `hvdr seed --from network` run them.

import type { ParameterValues } from '../../shared/params/index.js';
import type { FileSink, RunReport } from '../../source-agent/index.js';
import type { JobPorts } from '../backend.js';
import type { JobInfo } from '../job-info.js';
import { runReceiverJobs } from './receiver-jobs.js';
import { warnOfNoEnd } from './time-limit.js';

/** @throws DrError as runReceiverJobs() */
export async function runDirectPush(
  job: JobInfo,
  values: ParameterValues,
  sink: FileSink,
  ports: JobPorts,
): Promise<RunReport> {
  if (values.push_cycles === 0) warnOfNoEnd('push_cycles=0', values.run_for, sink);
  return runReceiverJobs(job, values, [{ name: 'push', values }], sink, ports);
}

/** The first point of every VM that matches; one that has points is refused. @throws DrError the same */
export async function runSeed(
  job: JobInfo,
  values: ParameterValues,
  sink: FileSink,
  ports: JobPorts,
): Promise<RunReport> {
  const once = { ...values, push_cycles: 1 };
  const jobs = [{ name: 'seed', values: once, isSeedOnly: true }];
  return runReceiverJobs(job, once, jobs, sink, ports);
}
