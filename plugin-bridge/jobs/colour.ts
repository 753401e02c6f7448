// The colour of a job of several VMs: what is wrong without being fatal is an error of the job that ends
// well, so that a job which left a VM unprotected is never plain OK.

import type { ParameterValues } from '../../shared/params/index.js';
import { type FileSink, type RunReport, verdict, type VmReport } from '../../source-agent/index.js';

/** When no VM at all has a new point the job is red, whatever each failed of. @throws DrError that makes it red */
export function colour(
  report: RunReport,
  { on_partial: onPartial }: Pick<ParameterValues, 'on_partial'>,
  sink: Pick<FileSink, 'say'>,
): void {
  const { error } = verdict(report, onPartial);
  if (error === undefined) return;
  const isRed = error.code !== 'E_PARTIAL' || onPartial !== 'warn' || report.isStopped;
  if (isRed || !report.vms.some(isProtected)) throw error;
  sink.say('error', error.line);
}

function isProtected({ last, lastDone }: VmReport): boolean {
  return lastDone !== undefined || (last.kind === 'skipped' && last.isCovered);
}
