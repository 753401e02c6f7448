// `mode=rct-push`: cycles into the files of the job, start to start; one by default. With
// push_apply_remote they go to the receiver instead (direct-push.ts).

import type { ParameterValues } from '../../shared/params/index.js';
import type { FileSink, RunReport } from '../../source-agent/index.js';
import type { JobInfo } from '../job-info.js';
import { type BackupPorts, BackupRun } from './backup.js';

/**
 * `push_cycles` rounds (0: until the job is cancelled), each beginning `push_interval` after the one
 * before or at once when that took longer, none after `run_for`. All points of the job count or none does.
 * @throws DrError as runBackup()
 */
export async function runRctPush(
  job: JobInfo,
  values: ParameterValues,
  sink: FileSink,
  ports: BackupPorts,
): Promise<RunReport> {
  const { clock } = ports;
  const { push_cycles: rounds, push_interval: intervalSeconds, run_for: runForSeconds } = values;
  const endsAt = runForSeconds === 0 ? Infinity : clock.monotonic() + runForSeconds * 1000;
  const run = await BackupRun.begin(job, values, sink, ports, values.rpo_seconds);
  for (let round = 1; ; round++) {
    const startedAt = clock.monotonic();
    await run.round();
    if (round === rounds || run.isOver()) break;
    const now = clock.monotonic();
    const nextAt = Math.max(now, startedAt + intervalSeconds * 1000);
    if (nextAt >= endsAt) break;
    await clock.sleep(nextAt - now, sink.signal).catch(() => undefined);
    if (run.isOver()) break;
  }
  return run.end();
}
