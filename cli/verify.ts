// `hvdr verify`: reads restore points back against their manifests.

import type { Command } from 'commander';
import { guidFromWire } from '../shared/bytes/index.js';
import type { VerifyDone, VerifyFinding } from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import type { CliContext } from './context.js';
import { startProgress } from './progress.js';
import { type AccessFlags, withAccess, withAccessOptions } from './receiver-connection.js';
import { formatSize } from './sizes.js';

interface Flags extends AccessFlags {
  readonly point: string;
}

/** Findings beyond are counted, not listed. */
const FINDINGS_LISTED = 100;

export function registerVerify(program: Command, context: CliContext): void {
  withAccessOptions(
    program
      .command('verify')
      .summary('read restore points back against their manifests')
      .description(
        'Reads every cell of a point, base included, and compares it with the hash that was taken when\n' +
          'the source read it. A point that differs is marked, refused for export and failover, and\n' +
          'named with disk and offset; the good ones are listed. Ends with 13 then.',
      )
      .argument('<vm>', 'name or id of the VM')
      .option('--point <id>', 'id or its beginning, latest, last-clean, or all', 'latest'),
  )
    .addHelpText('after', '\nExample:\n  hvdr verify SQL01 --point all --store /srv/dr\n')
    .action((vm: string, flags: Flags) => verify(context, vm, flags));
}

function idOf(bytes: Buffer): string {
  return guidFromWire(bytes) ?? '';
}

async function verify(context: CliContext, vm: string, flags: Flags): Promise<void> {
  const { clock, output } = context;
  const signal = context.stopSignal();
  const findings: VerifyFinding[] = [];
  let count = 0;
  let done: VerifyDone | undefined;
  await withAccess(context, flags, 'write', async ({ control }) => {
    let bar: ReturnType<typeof startProgress> | undefined;
    for await (const { step } of control.verify({ vm, point: flags.point }, { signal })) {
      if (step?.$case === 'progress') {
        bar ??= startProgress(output, clock, {
          label: `verify ${vm}`,
          total: Number(step.value.totalBytes),
        });
        bar.set(Number(step.value.checkedBytes));
      } else if (step?.$case === 'finding') {
        count++;
        if (findings.length < FINDINGS_LISTED) findings.push(step.value);
      } else if (step?.$case === 'done') {
        done = step.value;
      }
    }
    bar?.end();
  });
  if (done === undefined) throw new DrError('E_CHANNEL', 'the verification ended without a result');
  report(context, vm, done, findings, count);
}

function report(
  context: CliContext,
  vm: string,
  done: VerifyDone,
  findings: readonly VerifyFinding[],
  count: number,
): void {
  const { output } = context;
  const good = done.goodPointIds.map(idOf);
  const damaged = done.damagedPointIds.map(idOf);
  const isGood = damaged.length === 0;
  const error = new DrError(
    'E_POINT_CORRUPT',
    `${vm}: ${damaged.length} point(s) do not read back`,
    {
      done: 'they are refused for export and failover',
      hint: good.length === 0 ? 'No good point is left.' : `Good points: ${good.join(', ')}`,
    },
  );
  if (!isGood) output.exitCode = error.exitCode;
  output.result(
    {
      vm,
      isGood,
      points: done.pointCount,
      checkedBytes: Number(done.checkedBytes),
      goodPoints: good,
      damagedPoints: damaged,
      findingCount: count,
      findings: findings.map((finding) => ({
        point: idOf(finding.pointId),
        disk: idOf(finding.diskId),
        offset: Number(finding.offset),
        code: finding.code,
        message: finding.message,
      })),
    },
    () => {
      const checked = `${done.pointCount} point(s), ${formatSize(Number(done.checkedBytes))} read`;
      if (isGood) return `${vm}: good: ${checked}`;
      const lines = findings.map(
        (finding) =>
          `${vm}, point ${idOf(finding.pointId)}, disk ${idOf(finding.diskId)}, ` +
          `offset ${finding.offset}: ${finding.code} ${finding.message}`,
      );
      return [`${vm}: damaged: ${checked}`, ...lines].join('\n');
    },
  );
  if (!isGood) output.note(error.line);
}
