// Shapes that many answers share, and how long operations may take.

import type { Fields } from '../../fields.js';

/** A look at something: no vmms work is started by it. */
export const LOOK_MS = 60_000;
/** A change that returns when it is done, or that hands a job back at once. */
export const CHANGE_MS = 120_000;

/** A method of WMI: done, or the job that does it; both as the method answered (hyperv.md § 1.8). */
export interface MethodAnswer {
  /** 0 done, 4096 a job was started, everything else is a refusal. */
  readonly returnValue: number;
  /** InstanceID of the job. */
  readonly jobId: string | undefined;
}

export function methodAnswer(fields: Fields): MethodAnswer {
  return {
    returnValue: fields.whole('returnValue', 0, 0xffff_ffff),
    jobId: fields.optionalString('jobId'),
  };
}

/** Bytes, as a decimal text on the line; no size that vmms knows is beyond 2^53. */
export function bytesOf(fields: Fields, name: string): number {
  return Number(fields.counter(name));
}

/** The one thing that an operation without an answer says. */
export function done(fields: Fields): void {
  fields.oneOf('done', ['yes']);
}
