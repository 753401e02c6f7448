// Jobs of vmms. One vanishes some minutes after its end, so 'gone' is no verdict: look at its result
// (hyperv.md § 1.8).

import type { Fields } from '../../fields.js';
import type { Operation } from '../powershell/operation.js';
import { CHANGE_MS, LOOK_MS, methodAnswer, type MethodAnswer } from './answers.js';

export interface JobFacts {
  /** By Msvm_ConcreteJob.JobState; 'gone' when there is no such job any more, unknown(n) for a new number. */
  readonly state: string;
  /** 0 to 100. */
  readonly percent: number;
  readonly errorCode: number;
  readonly errorText: string;
  /** Of GetErrorEx, one line each. */
  readonly errors: readonly string[];
}

const UNKNOWN = /^unknown\(\d+\)$/;
export const GOOD_ENDS: readonly string[] = ['completed', 'completedWithWarnings'];
export const BAD_ENDS: readonly string[] = ['terminated', 'killed', 'exception'];
const OTHER_STATES: readonly string[] = [
  ...['new', 'starting', 'running', 'suspended', 'shuttingDown', 'service', 'queryPending', 'gone'],
];

export const getJob: Operation<{ readonly jobId: string }, JobFacts> = {
  name: 'job.get',
  timeoutMs: LOOK_MS,
  read: (fields) => ({
    state: jobState(fields),
    percent: fields.whole('percent', 0, 100),
    errorCode: fields.whole('errorCode', 0, 0xffff_ffff),
    errorText: fields.string('errorText', 64 * 1024),
    errors: fields.strings('errors'),
  }),
};

/** Asks for the end of a job (RequestStateChange, terminate). */
export const cancelJob: Operation<{ readonly jobId: string }, MethodAnswer> = {
  name: 'job.cancel',
  timeoutMs: CHANGE_MS,
  read: methodAnswer,
};

function jobState(fields: Fields): string {
  const state = fields.string('state', 40);
  return UNKNOWN.test(state)
    ? state
    : fields.oneOf('state', [...GOOD_ENDS, ...BAD_ENDS, ...OTHER_STATES]);
}
