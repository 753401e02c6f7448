// Waits for what a WMI method began. A method is done at once, hands a job back, or refuses by number; a job
// ends well or with errors, or vanishes before anybody saw its end (hyperv.md § 1.8).

import type { Clock } from '../../clock.js';
import { DrError, type ErrorCode } from '../../errors.js';
import type { MethodAnswer } from './operations/answers.js';
import { BAD_ENDS, cancelJob, getJob, GOOD_ENDS, type JobFacts } from './operations/jobs.js';
import type { OperationRunner } from './powershell/operation.js';

export interface JobWait {
  readonly runner: OperationRunner;
  readonly clock: Clock;
  /** For messages: `a checkpoint of the VM db`. */
  readonly what: string;
  /** The job is told to end after so long. */
  readonly timeoutMs: number;
  /** Of the error for a refusal or a bad end. Default: E_HYPERVISOR. */
  readonly code?: ErrorCode | undefined;
}

/** 'unknown': the job vanished before its end was seen; the caller looks at what it was to bring about. */
export type MethodEnd = 'done' | 'unknown';

const DONE = 0;
const JOB_STARTED = 4096;
const FIRST_POLL_MS = 50;
const LONGEST_POLL_MS = 2000;

/** What the services of checkpoints and reference points say beside the numbers of all services. */
const SERVICE_INVALID_STATE = 5;
export const RETURN_IN_USE = 32_774;
export const RETURN_INVALID_STATE = 32_775;

const RETURN_NAMES: Readonly<Record<number, string>> = {
  1: 'not supported',
  2: 'failed',
  3: 'timeout',
  4: 'invalid parameter',
  [SERVICE_INVALID_STATE]: 'invalid state',
  6: 'invalid type',
  32_768: 'failed',
  32_769: 'access denied',
  32_770: 'not supported',
  32_771: 'status unknown',
  32_772: 'timeout',
  32_773: 'invalid parameter',
  [RETURN_IN_USE]: 'in use',
  [RETURN_INVALID_STATE]: 'invalid state for this operation',
  32_776: 'incorrect data type',
  32_777: 'not available',
  32_778: 'out of memory',
  32_779: 'file not found',
  32_780: 'the guest is not ready',
  32_781: 'the guest is locked',
  32_782: 'a shutdown is under way already',
};

/**
 * Returns when the method has done what it was asked for.
 * @throws DrError of `code` (context: returnValue, or jobState, jobError and jobErrors), E_STALLED
 */
export async function endOfMethod(answer: MethodAnswer, wait: JobWait): Promise<MethodEnd> {
  const { returnValue, jobId } = answer;
  if (returnValue === DONE) return 'done';
  if (returnValue !== JOB_STARTED) {
    const name = RETURN_NAMES[returnValue] ?? 'an unknown code';
    throw new DrError(
      wait.code ?? 'E_HYPERVISOR',
      `Hyper-V refused ${wait.what}: ${name} (${returnValue})`,
      { context: { returnValue, returnName: name } },
    );
  }
  if (jobId === undefined) {
    throw new DrError('E_HYPERVISOR', `Hyper-V began ${wait.what} and named no job`, {
      context: { returnValue },
      done: 'whether it was done is not known',
    });
  }
  return endOfJob(jobId, wait);
}

async function endOfJob(jobId: string, wait: JobWait): Promise<MethodEnd> {
  const { runner, clock, timeoutMs } = wait;
  const deadline = clock.monotonic() + timeoutMs;
  for (let pauseMs = FIRST_POLL_MS; ; pauseMs = Math.min(LONGEST_POLL_MS, pauseMs * 2)) {
    const job = await runner.run(getJob, { jobId });
    if (GOOD_ENDS.includes(job.state)) return 'done';
    if (BAD_ENDS.includes(job.state)) throw badEnd(jobId, job, wait);
    if (job.state === 'gone') return 'unknown';
    if (clock.monotonic() >= deadline) throw await stalled(jobId, job, wait);
    await clock.sleep(pauseMs);
  }
}

function badEnd(jobId: string, job: JobFacts, { what, code }: JobWait): DrError {
  const reasons = [job.errorText, ...job.errors].filter((text) => text !== '');
  const reason = [...new Set(reasons)].join(' ') || job.state;
  const number = `job error ${job.errorCode}`;
  const message = `Hyper-V did not do ${what}: ${reason} (${number})`;
  return new DrError(code ?? 'E_HYPERVISOR', message, {
    context: {
      jobId,
      jobState: job.state,
      jobError: job.errorCode,
      jobErrors: job.errors.join('\n'),
    },
  });
}

async function stalled(jobId: string, job: JobFacts, wait: JobWait): Promise<DrError> {
  // a job that cannot be ended goes on, and clean-up finds what it makes
  const isTold = await wait.runner.run(cancelJob, { jobId }).then(
    ({ returnValue }) => returnValue === DONE || returnValue === JOB_STARTED,
    () => false,
  );
  return new DrError('E_STALLED', `Hyper-V did not end ${wait.what} in ${wait.timeoutMs} ms`, {
    context: { jobId, jobState: job.state, percent: job.percent, timeoutMs: wait.timeoutMs },
    done: isTold ? 'its job was told to end' : 'its job runs on',
  });
}

/** Whether a refusal means that the VM is busy with something, so that a later try may do. */
export function isBusyRefusal(error: unknown): boolean {
  if (!(error instanceof DrError)) return false;
  // a job has error codes of its own, of which 5 is another
  if (error.context['returnValue'] === SERVICE_INVALID_STATE) return true;
  const codes = [error.context['returnValue'], error.context['jobError']];
  return codes.includes(RETURN_IN_USE) || codes.includes(RETURN_INVALID_STATE);
}
