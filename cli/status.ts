// `hvdr status`: how the protections of a store are doing, for people, scripts and monitoring.

import type { Command } from 'commander';
import type { ProtectionStatus } from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import { protectionLines, statusOf, type StoreStatus } from '../shared/operator/status.js';
import { formatSize } from '../shared/sizes.js';
import type { CliContext } from './context.js';
import { type AccessFlags, withAccess, withAccessOptions } from './receiver-connection.js';

interface Flags extends AccessFlags {
  readonly vm?: string;
  readonly check?: true;
}

const CHECK_CODES: Readonly<Record<string, number>> = { ok: 0, warn: 1, critical: 2 };
/** Exit code of `status --check` when nobody can tell. */
export const CHECK_UNKNOWN = 3;
/** VMs that the line of --check names; the worst come first. */
const NAMED_MAX = 8;

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

function ask(context: CliContext, flags: Flags): Promise<StoreStatus> {
  return withAccess(context, flags, 'read', ({ control }) => statusOf(control, flags.vm ?? ''));
}

async function status(context: CliContext, flags: Flags): Promise<void> {
  const answer = await ask(context, flags);
  const { document, protections, freeBytes } = answer;
  context.output.result(document, () => {
    if (protections.length === 0) return 'no VM is protected here';
    const lines = protections.flatMap((each) => protectionLines(each, answer));
    if (freeBytes > 0) lines.push(`${formatSize(freeBytes)} are free in the store`);
    return lines.join('\n');
  });
}

async function check(context: CliContext, flags: Flags): Promise<void> {
  const { output } = context;
  let answer: StoreStatus;
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
