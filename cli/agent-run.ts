// What `hvdr push` and `hvdr daemon` share: the run, and how it is told.

import type { ParameterValues } from '../shared/params/index.js';
import {
  type JobParameters,
  outcomeDocument,
  outcomeLine,
  runJobs as runAgentJobs,
  type RunReport,
  totalsLine,
  verdict,
  vmDocument,
  type WatchJobs,
} from '../source-agent/index.js';
import type { CliContext } from './context.js';
import { startProgress } from './progress.js';

/** Exit code of a run that was done with warnings (cli.md). */
const EXIT_WARNED = 3;

/** Runs the jobs, and tells each cycle. `watch`: see runJobs() of the agent. */
export async function runJobs(
  jobs: readonly JobParameters[],
  context: CliContext,
  watch?: WatchJobs,
): Promise<RunReport> {
  const { clock, output } = context;
  const progress = startProgress(output, clock, { label: 'push' });
  try {
    return await runAgentJobs(jobs, context, {
      signal: context.stopSignal(),
      watch,
      onOutcome: (vm, job, outcome) => {
        progress.end();
        const { rpoSeconds } = job.cycle;
        output.event(
          { event: 'cycle', job: job.name, ...outcomeDocument(vm, outcome, rpoSeconds) },
          () => outcomeLine(vm.name, outcome, rpoSeconds),
        );
      },
      onSent: (_vmId, bytes) => {
        progress.advance(bytes);
      },
    });
  } finally {
    progress.end();
  }
}

/** Tells how a run ended, and ends with an error when a VM stayed unprotected. */
export function reportRun(
  { output, clock }: CliContext,
  report: RunReport,
  values: ParameterValues,
  { startedAt, isWarned: wasWarned }: { readonly startedAt: number; readonly isWarned: boolean },
): void {
  const durationMs = Math.round(clock.monotonic() - startedAt);
  const { error, isWarned } = verdict(report, values.on_partial);
  output.result({ vms: report.vms.map(vmDocument), durationMs }, () =>
    totalsLine(report, durationMs),
  );
  if (error !== undefined) throw error;
  if (isWarned || wasWarned) output.exitCode = EXIT_WARNED;
}
