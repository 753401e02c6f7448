// `hvdr verify`: reads restore points back against their manifests.

import type { Command } from 'commander';
import { guidFromWire } from '../shared/bytes/index.js';
import type { VerifyDone, VerifyFinding } from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import type { CliContext } from './context.js';
import { startProgress } from './progress.js';
import {
  type AccessFlags,
  type ReceiverAccess,
  withAccess,
  withAccessOptions,
} from './receiver-connection.js';
import { formatSize } from '../shared/sizes.js';
import {
  againstSourceRun,
  repairFromSource,
  type SourceFlags,
  withSourceOptions,
} from './verify-source.js';

interface Flags extends AccessFlags, SourceFlags {
  readonly point: string;
  readonly repair?: true;
  readonly againstSource?: true;
}

/** Findings beyond are counted, not listed. */
const FINDINGS_LISTED = 100;

export function registerVerify(program: Command, context: CliContext): void {
  const command = withAccessOptions(
    program
      .command('verify')
      .summary('read restore points back against their manifests; mend what rotted')
      .description(
        'Reads every cell of a point, base included, and compares it with the hash that was taken when\n' +
          'the source read it. A point that differs is marked, refused for export and failover, and\n' +
          'named with disk and offset; the good ones are listed. Ends with 13 then.\n\n' +
          'With --repair, bad cells are mended: from other copies in the store, and with --host from the\n' +
          'source, when it still has the very same bytes. Without --host the next cycle of the source\n' +
          'brings them. With --against-source the newest point is compared by hashes with the VM as it\n' +
          'is now; a cell that differs and that nobody saw change ends with 1.',
      )
      .argument('<vm>', 'name or id of the VM')
      .option('--point <id>', 'id or its beginning, latest, last-clean, or all', 'latest')
      .option('--repair', 'mend bad cells')
      .option('--against-source', 'compare with the VM on --host, moving no data'),
  );
  withSourceOptions(command)
    .addHelpText(
      'after',
      '\nExamples:\n' +
        '  hvdr verify SQL01 --point all --store /srv/dr\n' +
        '  hvdr verify SQL01 --repair --dr-host dr1 --psk-file operator.psk --host hyperv\n' +
        '  hvdr verify SQL01 --against-source --dr-host dr1 --psk-file operator.psk --host hyperv\n',
    )
    .action((vm: string, flags: Flags) => verify(context, vm, flags));
}

function idOf(bytes: Buffer): string {
  return guidFromWire(bytes) ?? '';
}

async function verify(context: CliContext, vm: string, flags: Flags): Promise<void> {
  const { repair, againstSource, host } = flags;
  if (againstSource === true) {
    if (repair === true) {
      throw new DrError('E_USAGE', 'either --repair or --against-source, one after the other');
    }
    await againstSourceRun(context, vm, flags);
    return;
  }
  if (host !== undefined && repair !== true) {
    throw new DrError('E_USAGE', '--host goes with --repair or --against-source');
  }
  await withAccess(context, flags, 'write', async (access) => {
    let result = await onePass(context, access, vm, flags);
    let repairedCells = Number(result.done.repairedCellCount);
    if (repair === true && host !== undefined && result.done.wantedCellCount > 0n) {
      const mended = await repairFromSource(context, access, vm, flags);
      repairedCells += mended.repairedCount;
      // a point is good when it reads back, not when somebody mended it
      if (mended.repairedCount > 0) result = await onePass(context, access, vm, flags);
    }
    report(context, vm, { ...result, repairedCells, isRepair: repair === true });
  });
}

interface PassResult {
  readonly done: VerifyDone;
  readonly findings: readonly VerifyFinding[];
  readonly count: number;
}

async function onePass(
  context: CliContext,
  { control }: ReceiverAccess,
  vm: string,
  { point, repair }: Flags,
): Promise<PassResult> {
  const { clock, output } = context;
  const signal = context.stopSignal();
  let findings: VerifyFinding[] = [];
  let count = 0;
  let done: VerifyDone | undefined;
  let checkedBytes = 0n;
  let bar: ReturnType<typeof startProgress> | undefined;
  const request = { vm, point, isRepair: repair === true };
  for await (const { step } of control.verify(request, { signal })) {
    if (step?.$case === 'progress') {
      bar ??= startProgress(output, clock, {
        label: `verify ${vm}`,
        total: Number(step.value.totalBytes),
      });
      if (step.value.checkedBytes < checkedBytes) {
        // it was mended, and is read once more: what was found before is not what is there now
        findings = [];
        count = 0;
      }
      ({ checkedBytes } = step.value);
      bar.set(Number(checkedBytes));
    } else if (step?.$case === 'finding') {
      count++;
      if (findings.length < FINDINGS_LISTED) findings.push(step.value);
    } else if (step?.$case === 'done') {
      done = step.value;
    }
  }
  bar?.end();
  if (done === undefined) throw new DrError('E_CHANNEL', 'the verification ended without a result');
  return { done, findings, count };
}

function report(
  context: CliContext,
  vm: string,
  {
    done,
    findings,
    count,
    repairedCells,
    isRepair,
  }: PassResult & { readonly repairedCells: number; readonly isRepair: boolean },
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
      repairedCells,
      wantedCells: Number(done.wantedCellCount),
      lostFiles: done.lostFiles,
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
      const mended = repairedCells === 0 ? [] : [`${vm}: ${repairedCells} cell(s) mended`];
      if (isGood) return [`${vm}: good: ${checked}`, ...mended].join('\n');
      const lines = findings.map(
        (finding) =>
          `${vm}, point ${idOf(finding.pointId)}, disk ${idOf(finding.diskId)}, ` +
          `offset ${finding.offset}: ${finding.code} ${finding.message}`,
      );
      const left = isRepair ? whatIsLeft(vm, done) : [];
      return [`${vm}: damaged: ${checked}`, ...lines, ...mended, ...left].join('\n');
    },
  );
  if (!isGood) output.note(error.line);
}

function whatIsLeft(vm: string, { wantedCellCount, lostFiles }: VerifyDone): string[] {
  const wanted =
    wantedCellCount === 0n
      ? []
      : [
          `${vm}: ${wantedCellCount} cell(s) are wanted from the source: the next cycle brings what it ` +
            'still has, and sends the rest of the newest point anew',
        ];
  const lost = lostFiles.map(
    (file) =>
      `${vm}: cannot be mended: ${file}; the next cycle sends the disk whole, and its point is good`,
  );
  return [...wanted, ...lost];
}
