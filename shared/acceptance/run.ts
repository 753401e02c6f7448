// The acceptance of a host: removes what a former run left, runs each probe on VMs of its own, removes those
// whatever happened, and puts the answers together.

import path from 'node:path';
import { DrError } from '../errors.js';
import type { FileSystem } from '../files/index.js';
import type { OwnerTag, VmSummary } from '../hypervisor/index.js';
import { ACCEPTANCE_ID, type AcceptanceSeams, type Answer, Bench } from './bench.js';
import { FACT_IDS, type FactId, factOf } from './facts.js';
import { chains, protectiveDisk } from './probes/chains.js';
import { checkpoints, reverting, userCheckpoints } from './probes/checkpoints.js';
import { replica, testFailover } from './probes/failover.js';
import { guest } from './probes/guest.js';
import { copiedVm, fence, registration } from './probes/registration.js';
import { running } from './probes/running.js';
import { resizing, tracking } from './probes/tracking.js';

export interface Probe {
  readonly name: string;
  readonly run: (bench: Bench) => Promise<void>;
  readonly facts: readonly FactId[];
  readonly needsGuest?: boolean;
}

export const PROBES: readonly Probe[] = [
  { name: 'chains', run: chains, facts: ['our-disk-opens', 'our-chain-opens'] },
  {
    name: 'registration',
    run: registration,
    facts: ['registered-from-parts', 'removal-leaves-disks'],
  },
  {
    name: 'checkpoints',
    run: checkpoints,
    facts: [
      ...(['checkpoint-of-off-vm', 'disk-id-kept', 'frozen-read'] as const),
      ...(['conversion-tracks', 'merge-ends'] as const),
    ],
  },
  {
    name: 'tracking',
    run: tracking,
    facts: [
      ...(['known-writes-reported', 'offline-edit-safe', 'providers-agree'] as const),
      ...(['old-id-valid', 'old-point-destroyed', 'destroyed-id-safe'] as const),
      'unknown-id-refused',
    ],
  },
  { name: 'running', run: running, facts: ['running-writes-reported'] },
  { name: 'resizing', run: resizing, facts: ['resize-seen'] },
  { name: 'user-checkpoints', run: userCheckpoints, facts: ['user-checkpoints'] },
  { name: 'reverting', run: reverting, facts: ['revert-seen'] },
  { name: 'copied-vm', run: copiedVm, facts: ['copied-vm-known', 'replaced-disk-seen'] },
  {
    name: 'protective-disk',
    run: protectiveDisk,
    facts: ['protective-disk', 'protective-disk-tracking'],
  },
  {
    name: 'test-failover',
    run: testFailover,
    facts: ['point-untouched', 'test-vm-alone'],
  },
  { name: 'replica', run: replica, facts: ['replica-answers'] },
  { name: 'fence', run: fence, facts: ['fence-holds'] },
  {
    name: 'guest',
    run: guest,
    needsGuest: true,
    facts: [
      ...(['heartbeat-seen', 'application-consistent', 'guest-writes-reported'] as const),
      ...(['re-ip-applied', 'shut-down-asked'] as const),
    ],
  },
];

export interface ProbeRun {
  readonly name: string;
  readonly outcome: 'done' | 'failed' | 'not run';
  readonly detail: string;
  readonly durationMs: number;
}

export interface Acceptance {
  readonly host: string;
  readonly startedAtMs: number;
  readonly probes: readonly ProbeRun[];
  readonly answers: ReadonlyMap<FactId, Answer>;
  /** VMs of a former run that were found and removed. */
  readonly leftovers: readonly string[];
  /** What could not be removed at the end. */
  readonly leftBehind: readonly string[];
}

/** @throws the signal's reason, after tidying up; DrError of removing what a former run left */
export async function acceptHost(
  seams: AcceptanceSeams,
  onProbe: (name: string) => void,
  chosen: readonly Probe[] = PROBES,
): Promise<Acceptance> {
  const { host, clock, fs, folder, signal } = seams;
  const startedAtMs = clock.now();
  const leftovers = await removeOurs(seams);
  const answers = new Map<FactId, Answer>();
  const probes: ProbeRun[] = [];
  const leftBehind: string[] = [];
  try {
    for (const probe of chosen) {
      signal.throwIfAborted();
      onProbe(probe.name);
      const startedAt = clock.monotonic();
      const { outcome, detail } = await runProbe(probe, seams, answers);
      signal.throwIfAborted();
      probes.push({
        ...{ name: probe.name, outcome, detail },
        durationMs: Math.round(clock.monotonic() - startedAt),
      });
    }
  } finally {
    await tidyUp(seams, leftBehind);
  }
  for (const id of FACT_IDS) {
    const { source } = factOf(id);
    if (answers.has(id)) continue;
    answers.set(id, {
      verdict: 'not answered',
      evidence: source === 'hand' ? 'by hand' : 'not asked',
    });
  }
  if ((await fs.status(folder)) !== undefined) leftBehind.push(folder);
  return { host: host.name, startedAtMs, probes, answers, leftovers, leftBehind };
}

async function runProbe(
  probe: Probe,
  seams: AcceptanceSeams,
  answers: Map<FactId, Answer>,
): Promise<{ outcome: ProbeRun['outcome']; detail: string }> {
  const bench = new Bench(probe.name, seams);
  const leaveOpen = (evidence: string): void => {
    for (const fact of probe.facts) bench.skip(fact, evidence);
  };
  let outcome: ProbeRun['outcome'] = 'done';
  let detail = '';
  if (probe.needsGuest === true && seams.guest === undefined) {
    outcome = 'not run';
    detail = 'it needs --guest-image';
  } else {
    try {
      await probe.run(bench);
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      outcome = 'failed';
      detail = error.line;
    }
    await tidyUp(seams, []);
  }
  leaveOpen(outcome === 'failed' ? `the probe failed before: ${detail}` : detail);
  for (const [fact, answer] of bench.answers) {
    // what one probe has refuted another one cannot mend
    if (answers.get(fact)?.verdict !== 'refuted') answers.set(fact, answer);
  }
  return { outcome, detail };
}

/** Tells in `leftBehind` what stays; the next run tries again. */
async function tidyUp(seams: AcceptanceSeams, leftBehind: string[]): Promise<void> {
  try {
    await removeOurs(seams);
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    leftBehind.push(error.line);
  }
}

/**
 * VMs with the tag of an acceptance, whoever made them, and the folder of their disks. One that cannot be removed
 * keeps none of the others, but the folder. @throws DrError of the first that cannot
 */
async function removeOurs(seams: AcceptanceSeams): Promise<string[]> {
  const { host, fs, folder } = seams;
  const removed: string[] = [];
  const failures: DrError[] = [];
  for (const vm of await host.listVms()) {
    const tag = await host.tagOf(vm.id);
    if (tag?.protectionId !== ACCEPTANCE_ID) continue;
    try {
      await removeVm(seams, vm, tag);
      removed.push(vm.name);
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      failures.push(error);
    }
  }
  const [failure] = failures;
  if (failure !== undefined) throw failure;
  await removeFolder(fs, folder);
  return removed;
}

async function removeVm(
  { host, port, timeoutMs }: AcceptanceSeams,
  { id, powerState }: VmSummary,
  tag: OwnerTag,
): Promise<void> {
  if (powerState !== 'off') await host.turnOffVm(id);
  for (const checkpoint of await host.listCheckpoints(id)) {
    if (checkpoint.tag?.protectionId === tag.protectionId) {
      await host.removeCheckpoint(id, checkpoint.id);
    }
  }
  // a host merges those of a VM that is gone by itself, and has its files open meanwhile
  for (const checkpointId of await port.listUserCheckpoints(id)) {
    await port.removeUserCheckpoint(id, checkpointId);
  }
  await host.waitForMerge(id, timeoutMs);
  for (const point of await host.listReferencePoints(id)) {
    await host.removeReferencePoint(id, point.id);
  }
  await host.unfenceVm(id);
  await host.removeVm(id);
}

async function removeFolder(fs: FileSystem, folder: string): Promise<void> {
  const status = await fs.status(folder);
  if (status === undefined) return;
  const home = await fs.realPath(folder);
  for (const name of await fs.list(folder)) {
    const file = path.join(folder, name);
    const isFolder = (await fs.status(file))?.kind === 'folder';
    // what a link leads to is nobody's here
    const isOwn = isFolder && (await fs.realPath(file)) === path.join(home, name);
    if (isOwn) await removeFolder(fs, file);
    else await fs.remove(file);
  }
  await fs.removeFolder(folder);
}
