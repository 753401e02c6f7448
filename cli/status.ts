// `hvdr status`: how the protections of a store are doing, for people, scripts and monitoring.

import type { Command } from 'commander';
import { guidFromWire } from '../shared/bytes/index.js';
import { ProtectionState, type ProtectionStatus } from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import type { CliContext } from './context.js';
import type { JsonObject } from './output.js';
import { type AccessFlags, withAccess, withAccessOptions } from './receiver-connection.js';
import { formatSize } from './sizes.js';

interface Flags extends AccessFlags {
  readonly vm?: string;
  readonly check?: true;
}

const CHECK_CODES: Readonly<Record<string, number>> = { ok: 0, warn: 1, critical: 2 };
const CHECK_UNKNOWN = 3;

const STATE_NAMES: Readonly<Record<number, string>> = {
  [ProtectionState.PROTECTION_STATE_UNPROTECTED]: 'UNPROTECTED',
  [ProtectionState.PROTECTION_STATE_SEEDING]: 'SEEDING',
  [ProtectionState.PROTECTION_STATE_PROTECTED]: 'PROTECTED',
  [ProtectionState.PROTECTION_STATE_RESYNC]: 'RESYNC',
  [ProtectionState.PROTECTION_STATE_PAUSED]: 'PAUSED',
  [ProtectionState.PROTECTION_STATE_FAILED_OVER]: 'FAILED_OVER',
  [ProtectionState.PROTECTION_STATE_COMMITTED]: 'COMMITTED',
  [ProtectionState.PROTECTION_STATE_HALTED]: 'HALTED',
};

export function registerStatus(program: Command, context: CliContext): void {
  withAccessOptions(
    program
      .command('status')
      .summary('points, age against the RPO, health and state of each VM')
      .description(
        'Shows for each VM its state, its points, the age of the newest one against rpo_seconds, its\n' +
          'health, and what is under way. With --check it ends as monitoring expects: 0 ok, 1 warn,\n' +
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
    const answer = await control.status({ vm: flags.vm ?? '' });
    const nowMs = Number(answer.nowMs);
    const freeBytes = Number(answer.storeFreeBytes);
    const document = {
      storeId: guidFromWire(answer.storeId) ?? '',
      now: new Date(nowMs).toISOString(),
      ...(freeBytes === 0 ? {} : { freeBytes }),
      protections: answer.protections.map((each) => ({
        vm: each.vmName,
        vmId: guidFromWire(each.vmId) ?? '',
        state: STATE_NAMES[each.state] ?? 'UNKNOWN',
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
        running: each.running,
        storedBytes: Number(each.storedBytes),
        scrubbedAt:
          each.scrubbedAtMs === 0n ? null : new Date(Number(each.scrubbedAtMs)).toISOString(),
        damagedCells: Number(each.damagedCellCount),
        unknownCycles: each.unknown,
      })),
    };
    return { document, protections: answer.protections, nowMs, freeBytes };
  });
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
      const state = STATE_NAMES[each.state] ?? 'UNKNOWN';
      const running = each.running === '' ? '' : `, ${each.running} under way`;
      return [
        `${each.vmName}  ${state} ${each.health}  ${counts}, ${newest}, ` +
          `${formatSize(Number(each.storedBytes))}, epoch ${each.epoch}, ${each.direction}${running}`,
        ...each.reasons.map((reason) => `    ${reason}`),
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
    if (!(error instanceof DrError) || error.code === 'E_USAGE') throw error;
    output.exitCode = CHECK_UNKNOWN;
    output.result(
      { check: 'unknown', error: error.code, message: error.message },
      () => `UNKNOWN: ${error.line}`,
    );
    return;
  }
  const { protections } = answer;
  const code = Math.max(
    0,
    ...protections.map(({ health }) => CHECK_CODES[health] ?? CHECK_UNKNOWN),
  );
  const word = ['OK', 'WARN', 'CRITICAL', 'UNKNOWN'][code] ?? 'UNKNOWN';
  const bad = protections.filter(({ health }) => health !== 'ok');
  output.exitCode = code;
  output.result({ check: word.toLowerCase(), ...answer.document }, () =>
    bad.length === 0
      ? `${word}: ${protections.length === 1 ? '1 VM is' : `${protections.length} VMs are`} protected`
      : `${word}: ${bad.map((each) => `${each.vmName}: ${each.reasons.join(', ')}`).join('; ')}`,
  );
}
