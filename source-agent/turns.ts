// Whose turn it is among the VMs of all jobs. Pure.
//
//   due       `push_interval` after the former cycle began; at once when that took longer
//   first     the earliest deadline: the time at which the newest point gets older than the RPO. After
//             a cycle that brought no point it is when the VM is due again. Either moves with every
//             cycle that begins, so that whoever waits is first some day, whatever the others do
//   places    four cycles that move. One that has not moved for half a minute - a guest that does not
//             answer, a host that hangs - gives its place away while it waits, twelve of them for each
//             host
//   suspects  VMs whose last cycle failed after so long: at most two of them at a time
//
// So neither failing nor hanging VMs keep the others from their turns.

import type { Guid } from '../shared/bytes/index.js';
import type { VmSummary } from '../shared/hypervisor/index.js';

export const PARALLEL_MAX = 4;
export const STALL_MS = 30_000;
export const STALLED_MAX = 12;
export const SUSPECTS_MAX = 2;

/** What of a job matters here. */
export interface Pace {
  /** The host; only its identity counts. */
  readonly hypervisor: object;
  readonly intervalMs: number;
  /** 0: for ever. */
  readonly cycleCount: number;
  readonly cycle: { readonly rpoSeconds: number };
  /** A cycle that waits for its share of the line moves with the line. */
  readonly bandwidth: { readonly isBusy: boolean };
}

/** One VM of one job. Times are of the monotonic clock. */
export interface Turn<J extends Pace = Pace> {
  job: J;
  vm: VmSummary;
  readonly seenAtMs: number;
  startedCount: number;
  startedAtMs: number | undefined;
  /** Of the interval, drawn anew for each cycle. */
  jitter: number;
  hasPoint: boolean;
  isSuspect: boolean;
  /** Undefined: no cycle is under way. */
  movedAtMs: number | undefined;
  /** The job or the VM is gone; the cycle under way is the last. */
  isRetired: boolean;
}

export function isDone({ job: { cycleCount }, startedCount, isRetired }: Turn): boolean {
  return isRetired || (cycleCount !== 0 && startedCount >= cycleCount);
}

export function isRunning({ movedAtMs }: Turn): boolean {
  return movedAtMs !== undefined;
}

export function dueAtMs({ job, seenAtMs, startedAtMs, jitter }: Turn): number {
  return startedAtMs === undefined ? seenAtMs : startedAtMs + job.intervalMs * jitter;
}

export function deadlineMs({ job, seenAtMs, startedAtMs, hasPoint }: Turn): number {
  if (startedAtMs === undefined) return seenAtMs;
  const rpoMs = job.cycle.rpoSeconds * 1000;
  return startedAtMs + (hasPoint ? rpoMs : Math.min(rpoMs, job.intervalMs));
}

function isStalled({ movedAtMs, job }: Turn, nowMs: number): boolean {
  return movedAtMs !== undefined && nowMs - movedAtMs >= STALL_MS && !job.bandwidth.isBusy;
}

/** The next one to begin now; undefined: nobody may. */
export function nextTurn<T extends Turn>(turns: Iterable<T>, nowMs: number): T | undefined {
  const waiting: T[] = [];
  const workedOn = new Set<Guid>();
  const stalled = new Map<object, number>();
  let movingCount = 0;
  let suspectCount = 0;
  for (const turn of turns) {
    if (!isRunning(turn)) {
      if (!isDone(turn) && dueAtMs(turn) <= nowMs) waiting.push(turn);
      continue;
    }
    const { vm, job, isSuspect } = turn;
    workedOn.add(vm.id);
    if (isSuspect) suspectCount++;
    if (!isStalled(turn, nowMs)) movingCount++;
    else stalled.set(job.hypervisor, (stalled.get(job.hypervisor) ?? 0) + 1);
  }
  if (movingCount >= PARALLEL_MAX) return undefined;
  let first: T | undefined;
  for (const turn of waiting) {
    const { vm, job, isSuspect } = turn;
    // two jobs never work on one VM at once: the second would only meet the lease
    if (workedOn.has(vm.id)) continue;
    if (isSuspect && suspectCount >= SUSPECTS_MAX) continue;
    if ((stalled.get(job.hypervisor) ?? 0) >= STALLED_MAX) continue;
    if (first === undefined || deadlineMs(turn) < deadlineMs(first)) first = turn;
  }
  return first;
}

/** When nextTurn() may say something else although no cycle ended; infinite: never. */
export function nextLookMs(turns: Iterable<Turn>, nowMs: number): number {
  let lookAt = Number.POSITIVE_INFINITY;
  for (const turn of turns) {
    const { movedAtMs } = turn;
    if (movedAtMs !== undefined) {
      const stallAt = movedAtMs + STALL_MS;
      // over it and still in its place: the line is busy, or nobody waits
      lookAt = Math.min(lookAt, stallAt > nowMs ? stallAt : nowMs + STALL_MS);
    } else if (!isDone(turn) && dueAtMs(turn) > nowMs) {
      lookAt = Math.min(lookAt, dueAtMs(turn));
    }
  }
  return lookAt;
}
