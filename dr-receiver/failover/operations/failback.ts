// Failback (failover.md § 4): until the primary has everything and was started, this site can go on. The
// guest serves here through F1; F2 is the time in which nobody serves. Nothing is owed to the source: what
// it has to know it is told, or the step stays.

import { defined } from '../../../shared/assert.js';
import { DrError } from '../../../shared/errors.js';
import { operationTable } from '../engine.js';
import type { FailoverPatch } from '../failover-book.js';
import { type RoundOutcome, runRound } from '../failback/round.js';
import { powerStateOf, tagOfInstance } from '../instance.js';
import type { Operation, SourceDebt } from '../model.js';
import type { SourceVm } from '../ports.js';
import { CHECKS } from './come-up.js';
import { payDebt } from './debts.js';
import { requireSource } from './planned.js';
import { isAlive } from './probe.js';
import { commitTimer } from './unplanned.js';
import type { Work, WorkTable } from './work.js';

/** A guest that writes faster than the line carries is never level. */
const ROUNDS_MAX = 8;
/** Waits between two looks at the guest at the primary. */
const LOOK_AGAIN_MS = 1000;
/** What ends an earlier failback at the primary; a new one begins behind it. */
const ENDS_FORMER: ReadonlySet<SourceDebt['kind']> = new Set(['dropFailback', 'commitFailback']);
/** Fact: the primary was brought level, and the operation stands there as it was asked to. */
const LEVEL = 'level';

/**
 * Whether the next round would be short enough for the time in which nobody serves. What is left is what
 * changed during the last round, and no more than that brought as long as rounds get smaller.
 */
export function isShortEnough(
  rounds: readonly Pick<RoundOutcome, 'cellCount' | 'elapsedMs'>[],
  windowMs: number,
): boolean {
  const last = defined(rounds.at(-1), 'there was a round');
  const before = rounds.at(-2);
  if (last.elapsedMs < windowMs || rounds.length >= ROUNDS_MAX) return true;
  return before !== undefined && last.cellCount >= before.cellCount;
}

async function bringLevel(work: Work): Promise<FailoverPatch> {
  const { run, values } = work;
  const found = await settleSource(work);
  const rounds: RoundOutcome[] = [];
  do {
    const round = await runRound(work, false);
    rounds.push(round);
    const seconds = (round.elapsedMs / 1000).toFixed(1);
    run.tell('F1', `round ${rounds.length}: ${round.cellCount} cells in ${seconds} s`);
  } while (!isShortEnough(rounds, values.switch_window * 1000));
  return { ...found, facts: { [LEVEL]: 'yes' } };
}

/**
 * The VM at the primary is off, fenced, and without the disks of an earlier failback.
 * @throws DrError E_SOURCE_ALIVE, E_SOURCE_UNREACHABLE
 */
async function settleSource(work: Work): Promise<FailoverPatch> {
  const { vm, order, record, book } = work;
  const source = requireSource(work);
  const state = await source.describe(vm.vmId);
  requireOff(work, state);
  const former = record.owed.filter(({ kind }) => ENDS_FORMER.has(kind));
  for (const debt of former) {
    const { kind, operationId, failbackId, mayHaveRun } = debt;
    if (kind === 'dropFailback') {
      // the plan said what is thrown away with it
      const dropsWrites = mayHaveRun === true;
      await source.failbackUndo(vm.vmId, { ...order, operationId, failbackId, dropsWrites });
    } else {
      await payDebt(source, work, debt);
    }
  }
  // once this one is open there, nothing is asked of those before
  if (former.length > 0) await book.note({ paid: [...ENDS_FORMER] });
  if (!state.isFenced) {
    await source.tellEpoch(vm.vmId, { ...order, isSourceActive: false, isRetired: false });
    await source.fence(vm.vmId, order);
  }
  return { paid: ['fence'] };
}

function requireOff({ vm }: Work, state: SourceVm): void {
  if (!isAlive(state)) return;
  throw new DrError('E_SOURCE_ALIVE', `${vm.protection.vmName} runs at the primary site`, {
    context: { vmId: vm.vmId, powerState: state.powerState },
  });
}

/** @throws DrError E_SHUTDOWN_TIMEOUT (the guest serves on), E_DIFFERENT, what a round throws */
async function switchOff(work: Work): Promise<FailoverPatch> {
  await shutDownHere(work);
  const { cellCount, disks } = await runRound(work, true);
  work.run.tell('F2', `the last round: ${cellCount} cells; all disks are the same`);
  // what the primary starts with: a return point is held against it
  return { instance: { disks } };
}

async function shutDownHere(work: Work): Promise<void> {
  const { host, instance, values, vm, book, site } = work;
  const vmId = defined(instance.vmId, 'a VM that serves is registered');
  const wasOff = (await powerStateOf(host, vmId)) === 'off';
  if (!wasOff) {
    try {
      await host.shutDownVm(vmId, values.shutdown_timeout * 1000);
    } catch (error) {
      const isSlow = error instanceof DrError && error.code === 'E_SHUTDOWN_TIMEOUT';
      if (!isSlow || !values.force_off) throw error;
      await host.turnOffVm(vmId);
    }
  }
  const fence = { tag: tagOfInstance(vm.vmId, instance), epoch: vm.protection.epoch };
  await host.fenceVm(vmId, fence);
  if (wasOff && instance.servedUntilMs > 0) return;
  // what the primary starts with is of this moment
  await book.note({ instance: { servedUntilMs: site.seams.clock.now() } });
}

async function giveToSource(work: Work): Promise<undefined> {
  const { vm, order } = work;
  const told = { ...order, isSourceActive: true, isRetired: false };
  await requireSource(work).tellEpoch(vm.vmId, told);
  return undefined;
}

/** The VM at the primary runs afterwards; whether it serves is what the facts say. */
async function startAtSource(work: Work): Promise<FailoverPatch> {
  const { vm, order } = work;
  await requireStillOff(work);
  await requireSource(work).failbackStart(vm.vmId, order);
  const words = await lookAtGuest(work);
  work.run.tell('F4', words);
  return { facts: { [CHECKS]: words } };
}

/** What was compared is what is here still. @throws DrError E_STATE */
async function requireStillOff({ host, instance }: Work): Promise<void> {
  const vmId = defined(instance.vmId, 'a VM that serves is registered');
  const state = await powerStateOf(host, vmId);
  const fence = state === 'off' ? await host.fenceOf(vmId) : undefined;
  if (state === undefined || fence?.tag.operationId === instance.operationId) return;
  throw new DrError('E_STATE', `${instance.vmName} is ${state} here, and its fence was lifted`, {
    context: { vmId, powerState: state },
    done: 'the VM was not started at the primary: what it may have written here would be lost',
    hint: 'Somebody started it by hand.',
  });
}

const SILENT = 'heartbeat: failed';

async function lookAtGuest(work: Work): Promise<string> {
  const { vm, site, values, run } = work;
  const { clock } = site.seams;
  const untilMs = clock.monotonic() + values.boot_timeout * 1000;
  for (;;) {
    const { heartbeat } = await requireSource(work).describe(vm.vmId);
    if (heartbeat === undefined) return 'heartbeat: skipped, the primary does not tell it';
    if (heartbeat === 'ok') return 'heartbeat: passed, the guest is up at the primary';
    const leftMs = untilMs - clock.monotonic();
    if (leftMs <= 0) return `${SILENT}, the guest gives no sign of life at the primary`;
    await clock.sleep(Math.min(LOOK_AGAIN_MS, leftMs), run.signal);
  }
}

/**
 * When the guest at the primary gave no sign of life, the failback is done and nobody may think that all is
 * well. `found`: by the last step.
 */
export function afterFailback({ vm }: Work, found: readonly FailoverPatch[]): DrError | undefined {
  const isSilent = found.some(({ facts }) => facts?.[CHECKS]?.startsWith(SILENT) === true);
  if (!isSilent) return undefined;
  const { vmName } = vm.protection;
  return new DrError('E_HYPERVISOR', `${vmName} runs at the primary, and gives no sign of life`, {
    context: { vmName },
    done: 'the failback stands; nothing was taken back',
    hint: 'Look at the VM. `hvdr failover undo VM` goes back to this site, `hvdr failover permanent VM --force` goes on.',
  });
}

export const FAILBACK: WorkTable = operationTable(
  'failback',
  {
    F1: { run: bringLevel },
    F2: { run: switchOff },
    F3: {
      intent: () => ({
        change: { activeSite: 'source' },
        raisesEpoch: true,
        paid: ['fence'],
      }),
      run: giveToSource,
    },
    F4: { run: startAtSource },
  },
  (work) => ({ change: { phase: 'failed-back', commit: commitTimer(work) } }),
);

/** `stage=sync` in F1: that step, and then the operation stands there. */
export const FAILBACK_SYNC: WorkTable = {
  ...FAILBACK,
  steps: FAILBACK.steps.slice(0, 1),
  isStanding: true,
};

export function isSyncOnly({ step, parameters }: Pick<Operation, 'step' | 'parameters'>): boolean {
  return step === 'F1' && parameters['stage'] === 'sync';
}

/** It has come as far as it was asked to; somebody says how it goes on. */
export function isStandingLevel(operation: Operation): boolean {
  return operation.kind === 'failback' && isSyncOnly(operation) && LEVEL in operation.facts;
}
