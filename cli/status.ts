// `hvdr status`: how the protections of a store are doing, for people, scripts and monitoring.

import type { Command } from 'commander';
import { guidFromWire } from '../shared/bytes/index.js';
import { ProtectionState, type ProtectionStatus } from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import type { CliContext } from './context.js';
import type { JsonObject } from './output.js';
import {
  type AccessFlags,
  allPages,
  withAccess,
  withAccessOptions,
} from './receiver-connection.js';
import { formatSize } from './sizes.js';
import { failoverDocument, failoverLines } from './status-failover.js';

interface Flags extends AccessFlags {
  readonly vm?: string;
  readonly check?: true;
}

const CHECK_CODES: Readonly<Record<string, number>> = { ok: 0, warn: 1, critical: 2 };
/** Exit code of `status --check` when nobody can tell. */
export const CHECK_UNKNOWN = 3;
/** VMs that the line of --check names; the worst come first. */
const NAMED_MAX = 8;
const DAY_MS = 24 * 60 * 60 * 1000;

const STATE_NAMES: Readonly<Record<number, string>> = {
  [ProtectionState.PROTECTION_STATE_UNPROTECTED]: 'UNPROTECTED',
  [ProtectionState.PROTECTION_STATE_SEEDING]: 'SEEDING',
  [ProtectionState.PROTECTION_STATE_PROTECTED]: 'PROTECTED',
  [ProtectionState.PROTECTION_STATE_RESYNC]: 'RESYNC',
  [ProtectionState.PROTECTION_STATE_PAUSED]: 'PAUSED',
  [ProtectionState.PROTECTION_STATE_FAILED_OVER]: 'FAILED_OVER',
  [ProtectionState.PROTECTION_STATE_COMMITTED]: 'COMMITTED',
  [ProtectionState.PROTECTION_STATE_HALTED]: 'HALTED',
  [ProtectionState.PROTECTION_STATE_SPLIT_BRAIN]: 'SPLIT_BRAIN',
};

export function registerStatus(program: Command, context: CliContext): void {
  withAccessOptions(
    program
      .command('status')
      .summary('points, age against the RPO, health and state of each VM')
      .description(
        'Shows for each VM its state, its points, the age of the newest one against rpo_seconds, its\n' +
          'health, what is under way, and whether it will miss its RPO at the present rate. With --check it ends as monitoring expects: 0 ok, 1 warn,\n' +
          '2 critical, 3 unknown, with one line that says why.',
      )
      .option('--vm <pattern>', 'name, id or wildcard pattern (default: all)')
      .option('--check', 'answer for a monitoring system'),
  )
    .addHelpText(
      'after',
      '\nExamples:\n  hvdr status --dr-host dr1 --psk-file operator.psk\n  hvdr status --store /srv/dr --check\n',
    )
    .action((flags: Flags) =>
      flags.check === true ? check(context, flags) : status(context, flags),
    );
}

function idOrNull(bytes: Buffer): string | null {
  return guidFromWire(bytes) ?? null;
}

function alarmDocument({ alarm }: ProtectionStatus): JsonObject | null {
  if (alarm === undefined) return null;
  return {
    id: idOrNull(alarm.pointId),
    raisedAt: new Date(Number(alarm.atMs)).toISOString(),
    lastCleanBefore: idOrNull(alarm.cleanPointId),
    reasons: alarm.reasons,
  };
}

/** A pause stands beside the state; receivers of former releases name no state of failover. */
function stateText({ state, failoverState }: ProtectionStatus): string {
  const plain = STATE_NAMES[state] ?? 'UNKNOWN';
  return failoverState === '' || state === ProtectionState.PROTECTION_STATE_PAUSED
    ? plain
    : failoverState;
}

interface Answer {
  readonly document: JsonObject;
  readonly protections: readonly ProtectionStatus[];
  readonly nowMs: number;
  readonly freeBytes: number;
}

function ageSeconds(nowMs: number, { newest }: ProtectionStatus): number | undefined {
  if (newest === undefined) return undefined;
  return Math.max(0, Math.round((nowMs - Number(newest.committedAtMs)) / 1000));
}

async function ask(context: CliContext, flags: Flags): Promise<Answer> {
  return withAccess(context, flags, 'read', async ({ control }) => {
    const { page: answer, items: protections } = await allPages(
      control.statusPages({ vm: flags.vm ?? '' }),
      ({ page }) => page,
      (page) => page.protections,
    );
    const nowMs = Number(answer.nowMs);
    const freeBytes = Number(answer.storeFreeBytes);
    const document = {
      storeId: guidFromWire(answer.storeId) ?? '',
      now: new Date(nowMs).toISOString(),
      ...(freeBytes === 0 ? {} : { freeBytes }),
      protections: protections.map((each) => ({
        vm: each.vmName,
        vmId: guidFromWire(each.vmId) ?? '',
        state: stateText(each),
        health: each.health,
        reasons: each.reasons,
        direction: each.direction,
        epoch: each.epoch,
        owner: each.owner,
        points: each.pointCount,
        pinned: each.pinnedCount,
        newest:
          each.newest === undefined
            ? null
            : {
                id: guidFromWire(each.newest.pointId) ?? '',
                createdAt: new Date(Number(each.newest.committedAtMs)).toISOString(),
                ageSeconds: ageSeconds(nowMs, each),
              },
        rpoSeconds: each.rpoSeconds,
        forecast: forecastDocument(each),
        rpoViolations: each.rpoDays.map(({ day, violatedSeconds }) => ({
          day: dayText(day),
          seconds: violatedSeconds,
        })),
        running: each.running,
        ...failoverDocument(each),
        storedBytes: Number(each.storedBytes),
        scrubbedAt:
          each.scrubbedAtMs === 0n ? null : new Date(Number(each.scrubbedAtMs)).toISOString(),
        damagedCells: Number(each.damagedCellCount),
        unknownCycles: each.unknown,
        reclaimableBytes: Number(each.reclaimableBytes),
        reclaiming: each.reclaiming,
        reclaimWaiting: each.reclaimWaiting,
        alarm: alarmDocument(each),
        warningScore: each.warningScore / 1000,
        lastClean: idOrNull(each.lastCleanPointId),
      })),
    };
    return { document, protections, nowMs, freeBytes };
  });
}

function forecastDocument(each: ProtectionStatus): JsonObject | null {
  const { forecastBecause: because, forecastNewestAgeSeconds, willMissRpo } = each;
  if (because === '') return null;
  return { newestAgeSeconds: forecastNewestAgeSeconds, willMissRpo, because };
}

function dayText(day: number): string {
  return new Date(day * DAY_MS).toISOString().slice(0, 10);
}

/** `the RPO was not held for 95 s today, 4000 s in seven days (UTC)` */
function violationLines({ rpoDays }: ProtectionStatus, nowMs: number): string[] {
  const sum = rpoDays.reduce((seconds, { violatedSeconds }) => seconds + violatedSeconds, 0);
  if (sum === 0) return [];
  const today = Math.floor(nowMs / DAY_MS);
  const now = rpoDays.find(({ day }) => day === today)?.violatedSeconds ?? 0;
  return [`    the RPO was not held for ${now} s today, ${sum} s in seven days (UTC)`];
}

async function status(context: CliContext, flags: Flags): Promise<void> {
  const { document, protections, nowMs, freeBytes } = await ask(context, flags);
  context.output.result(document, () => {
    if (protections.length === 0) return 'no VM is protected here';
    const lines = protections.flatMap((each) => {
      const age = ageSeconds(nowMs, each);
      const rpo = each.rpoSeconds === 0 ? '' : `/${each.rpoSeconds} s`;
      const newest = age === undefined ? 'no point' : `RPO ${age}${rpo === '' ? ' s' : rpo}`;
      const counts = `${each.pointCount} points${each.pinnedCount === 0 ? '' : ` (${each.pinnedCount} pinned)`}`;
      const state = stateText(each);
      const running = [each.operation, each.running]
        .filter((what) => what !== '')
        .map((what) => `, ${what} under way`)
        .join('');
      const reclaimable =
        each.reclaimableBytes === 0n
          ? ''
          : ` (${formatSize(Number(each.reclaimableBytes))} reclaimable)`;
      return [
        `${nameAmong(protections, each)}  ${state} ${each.health}  ${counts}, ${newest}, ` +
          `${formatSize(Number(each.storedBytes))}${reclaimable}, epoch ${each.epoch}, ${each.direction}${running}`,
        ...each.reasons.map((reason) => `    ${reason}`),
        ...failoverLines(each, nowMs),
        ...violationLines(each, nowMs),
        ...each.reclaimWaiting.map((what) => `    not reclaimed: ${what}`),
      ];
    });
    if (freeBytes > 0) lines.push(`${formatSize(freeBytes)} are free in the store`);
    return lines.join('\n');
  });
}

async function check(context: CliContext, flags: Flags): Promise<void> {
  const { output } = context;
  let answer: Answer;
  try {
    answer = await ask(context, flags);
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    output.exitCode = CHECK_UNKNOWN;
    output.result(
      { check: 'unknown', error: error.code, message: error.message },
      () => `UNKNOWN: ${error.line}`,
    );
    return;
  }
  const { protections } = answer;
  const codeOf = ({ health }: ProtectionStatus): number => CHECK_CODES[health] ?? CHECK_UNKNOWN;
  const code = Math.max(0, ...protections.map(codeOf));
  const word = ['OK', 'WARN', 'CRITICAL', 'UNKNOWN'][code] ?? 'UNKNOWN';
  output.exitCode = code;
  output.result({ check: word.toLowerCase(), ...answer.document }, () => {
    const bad = protections.filter(({ health }) => health !== 'ok');
    if (bad.length === 0) {
      const count = protections.length;
      return `${word}: ${count === 1 ? '1 VM is' : `${count} VMs are`} protected`;
    }
    const named = bad
      .toSorted((one, other) => codeOf(other) - codeOf(one))
      .slice(0, NAMED_MAX)
      .map((each) => `${each.vmName}: ${each.reasons.join(', ')}`);
    if (bad.length > NAMED_MAX) named.push(`and ${bad.length - NAMED_MAX} more`);
    return `${word}: ${named.join('; ')}`;
  });
}

/** The name of a VM, with its id where another one has the name as well. */
function nameAmong(all: readonly ProtectionStatus[], { vmName, vmId }: ProtectionStatus): string {
  const isOnly = all.filter((each) => each.vmName === vmName).length === 1;
  return isOnly ? vmName : `${vmName} (${guidFromWire(vmId) ?? ''})`;
}
