// Backup jobs as consumers of a VM's changes (design.md § 1): pure rules. A Bacula job is two chains:
//
//   bacula:JOB          what lacks since the job's newest point that counts      Incremental
//   bacula:JOB#full     what lacks since its Full                                Differential
//
// Whether a job counted is known only from a later one: Bacula tells it the job on which it builds
// (PrevJobName). So a point stays in flight until a job says that it builds on its job:
//
//   the job in flight            it counted: cleared
//   an earlier point's job       what came after does not count: owed again
//   the Full's job               the set since the Full
//   any other                    nothing is known: the VM goes whole
//
// A job may have gone by without a point of the VM - it failed, it was in use. Then the job on which
// that one built speaks for it (job-history.ts). A point counts only when all its files were sent.

import type { Guid } from '../shared/bytes/index.js';
import {
  type Chain,
  confirm,
  type CycleInFlight,
  isSameGeometry,
  type Geometry,
  type PointFacts,
  putBack,
} from './ledger.js';

export type JobLevel = 'full' | 'incremental' | 'differential';

/** The part of a unique job name that stays: `nightly` of `nightly.2026-11-26_19.05.00_03`. */
export function jobOf(uniqueName: string): string {
  return uniqueName.replace(/\.\d{4}-\d\d-\d\d_\d\d\.\d\d\.\d\d(?:_\d+)?$/, '');
}

export function jobChainKey(uniqueName: string): string {
  return `bacula:${jobOf(uniqueName)}`;
}

export function fullChainKey(uniqueName: string): string {
  return `${jobChainKey(uniqueName)}#full`;
}

export interface JobChains {
  /** Since the newest point that counts. */
  readonly job: Chain;
  /** Since the Full. */
  readonly full: Chain;
}

export interface JobRequest {
  /** Unique name. */
  readonly name: string;
  readonly level: JobLevel;
  /** The job that this one builds on, then those on which that one built, the newest first. */
  readonly builtOn: readonly string[];
}

/** The chains with what is proven applied, and what the new point leads on from. */
export interface Basis extends JobChains {
  /** undefined: nothing counts that could be led on from, so every disk goes whole. */
  readonly parent: PointFacts | undefined;
  /** The chain whose sets lead on from `parent`. */
  readonly sets: Chain;
  /** Why there is no parent although the level wants one; for people. */
  readonly because: string;
}

/** What the job's next point leads on from. */
export function basisOf(chains: JobChains, request: JobRequest): Basis {
  return followed(chains, request) ?? begun(chains, request);
}

/** The job has a point of the VM already: the next one leads on from that. */
function followed({ job, full }: JobChains, { name, level }: JobRequest): Basis | undefined {
  const own = settledOwn(job, name);
  const parent = own === undefined ? undefined : newestOf(own, name);
  if (own === undefined || parent === undefined) return undefined;
  const ownFull = level === 'full' ? (settledOwn(full, name) ?? full) : full;
  return { job: own, full: ownFull, parent, sets: own, because: '' };
}

/** The chain while the job's own points are in flight; one that was not sent whole is put back. */
function settledOwn(chain: Chain, name: string): Chain | undefined {
  const isOwn = (facts: PointFacts | undefined): boolean => facts?.job?.name === name;
  if (!isOwn(chain.inFlight) && !chain.offered.some(isOwn)) return undefined;
  return chain.inFlight?.job?.isSent === true ? chain : putBack(chain);
}

function newestOf({ inFlight, offered }: Chain, name: string): PointFacts | undefined {
  const all = inFlight === undefined ? offered : [...offered, inFlight];
  return all.findLast(({ job }) => job?.name === name && job.isSent);
}

function begun({ job, full }: JobChains, { level, builtOn }: JobRequest): Basis {
  const unsettled = { job: putBack(job), full };
  switch (level) {
    case 'full': {
      const both = { job: unsettled.job, full: putBack(full) };
      return { ...both, parent: undefined, sets: both.job, because: '' };
    }
    case 'differential': {
      const [name] = builtOn;
      const settled = name === undefined ? undefined : settledBy(full, name);
      const chains = { job: unsettled.job, full: settled ?? full };
      const parent = settled?.confirmed;
      return { ...chains, parent, sets: chains.full, because: unknown(name, full) };
    }
    case 'incremental':
      return incremental({ job, full }, builtOn);
  }
}

function incremental({ job, full }: JobChains, builtOn: readonly string[]): Basis {
  let known = full;
  for (const name of builtOn) {
    // a Full that somebody builds on counts, whatever else there is
    if (full.inFlight?.job?.name === name && full.inFlight.job.isSent) known = confirm(full);
    const settled = settledBy(job, name);
    if (settled !== undefined) {
      const parent = settled.confirmed;
      return { job: settled, full: known, parent, sets: settled, because: '' };
    }
    const since = settledBy(full, name);
    if (since?.confirmed !== undefined) {
      const { confirmed: parent, disks } = since;
      const rebased = { ...job, confirmed: parent, offered: [], inFlight: undefined, disks };
      return { job: rebased, full: since, parent, sets: rebased, because: '' };
    }
  }
  const because = unknown(builtOn[0], job);
  const chain = putBack(job);
  return { job: chain, full: known, parent: undefined, sets: chain, because };
}

/** The chain when the job of that name counts as its newest one; undefined: it has no point of it. */
function settledBy(chain: Chain, name: string): Chain | undefined {
  const { inFlight } = chain;
  if (inFlight?.job?.name === name && inFlight.job.isSent) return confirm(chain);
  const settled = putBack(chain);
  const offered = newestOf(settled, name);
  // a later point of the job than the confirmed one
  if (offered !== undefined) return keepingDisks({ ...settled, confirmed: offered }, offered);
  return settled.confirmed?.job?.name === name ? settled : undefined;
}

/** Sets of disks that the point does not have are of no use to it. */
function keepingDisks(chain: Chain, { job }: PointFacts): Chain {
  const kept = [...chain.disks].filter(([diskId]) => job?.diskIds.includes(diskId) === true);
  return { ...chain, disks: new Map(kept) };
}

function unknown(name: string | undefined, { confirmed, inFlight }: Chain): string {
  if (confirmed === undefined && inFlight === undefined) {
    return 'no point of the VM is known that this job could build on';
  }
  if (name === undefined) return 'Bacula names no job that this one builds on';
  return `nothing is known here of the VM in ${name}, on which this job builds`;
}

/** Why a disk goes whole, or undefined when its set leads on from the parent. */
export function whyWholeDisk(
  { parent, sets, because }: Basis,
  diskId: Guid,
  geometry: Geometry,
): string | undefined {
  if (parent === undefined) return because === '' ? 'the job is a Full' : because;
  const debt = sets.disks.get(diskId);
  if (debt === undefined || parent.job?.diskIds.includes(diskId) !== true) {
    return 'the disk is new to the job';
  }
  if (!isSameGeometry(debt.geometry, geometry)) return 'the disk was resized';
  return debt.pending === 'all' ? debt.because : undefined;
}

/** A number for the base of a disk: another one only when the disk has another shape. */
export function jobGeneration({ generations }: Chain, diskId: Guid, geometry: Geometry): number {
  const known = generations.get(diskId);
  if (known === undefined) return 0;
  return isSameGeometry(known.geometry, geometry) ? known.generation : known.generation + 1;
}

/** Greater than that of every point that the chains know, and the time of the checkpoint if possible. */
export function nextSeq({ job, full }: JobChains, consistentAtMs: number): number {
  const points = [job, full].flatMap(({ confirmed, offered, inFlight }) => [
    confirmed,
    ...offered,
    inFlight,
  ]);
  const last = Math.max(...points.map((facts) => facts?.job?.seq ?? 0));
  return Math.max(consistentAtMs, last + 1);
}

/** The point in flight was handed on with its last file. */
export function withSent(chain: Chain, pointId: Guid): Chain {
  const { inFlight } = chain;
  if (inFlight?.pointId !== pointId || inFlight.job === undefined) return chain;
  const sent: CycleInFlight = { ...inFlight, job: { ...inFlight.job, isSent: true } };
  return { ...chain, inFlight: sent };
}
