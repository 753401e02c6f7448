// `hvdr pcbt …`: look at, check, make and apply deltas. This file shows and checks them; making and
// applying are in pcbt-diff.ts and pcbt-apply.ts. All work is done by shared/delta.

import path from 'node:path';
import type { Command } from 'commander';
import {
  BaseManifest,
  checkDelta,
  indexPcbt,
  isManifest,
  ManifestFile,
} from '../shared/delta/index.js';
import { DrError } from '../shared/errors.js';
import type { BlockFile } from '../shared/files/index.js';
import { openImage } from '../shared/image/index.js';
import type { CliContext } from './context.js';
import { examples } from './examples.js';
import type { JsonObject } from '../shared/json.js';
import { registerPcbtApply } from './pcbt-apply.js';
import { registerPcbtDiff } from './pcbt-diff.js';
import { registerPcbtLayers } from './pcbt-layers.js';
import { withInput } from './pcbt-run.js';
import { formatSize, parseSize } from '../shared/sizes.js';

const EXIT_DAMAGED = 15;
/** Findings beyond these are counted and not listed. */
const FINDINGS_LISTED = 1000;

export function registerPcbt(program: Command, context: CliContext): void {
  const pcbt = program
    .command('pcbt')
    .summary('look at, check, make, apply and merge deltas (PCBT)')
    .description(
      'Works on deltas: what changed on one disk between two moments, as a PCBT file and, where\n' +
        'wanted, a manifest with the SHA-256 of every 64 KiB cell. Disks are raw or VHDX files.',
    )
    .addHelpText(
      'after',
      examples(
        'hvdr pcbt diff yesterday.vhdx today.vhdx --out day.cbt --manifest day.manifest',
        'hvdr pcbt apply copy.vhdx day.cbt --manifest day.manifest',
      ),
    );
  registerInfo(pcbt, context);
  registerCheck(pcbt, context);
  registerPcbtDiff(pcbt, context);
  registerPcbtApply(pcbt, context);
  registerPcbtLayers(pcbt, context);
}

function registerInfo(pcbt: Command, context: CliContext): void {
  pcbt
    .command('info')
    .summary('blocks and bytes of a delta, or the header of a manifest')
    .description('Shows what a delta or a manifest says about itself. Nothing is changed.')
    .argument('<file>', 'a PCBT file or a manifest')
    .addHelpText('after', examples('hvdr pcbt info day.cbt', 'hvdr pcbt info day.manifest'))
    .action(async (name: string) => {
      await withInput(context, name, async (file) => {
        const facts = (await isManifest(file)) ? await manifestFacts(file) : await pcbtFacts(file);
        const fileBytes = await file.size();
        const { document, rows } = facts;
        context.output.result({ file: name, ...document, fileBytes }, () =>
          [['file', name] as const, ...rows, ['file size', exact(fileBytes)] as const]
            .map(([title, value]) => `${title.padEnd(15)} ${value}`)
            .join('\n'),
        );
      });
    });
}

interface Facts {
  readonly document: JsonObject;
  readonly rows: readonly (readonly [string, string])[];
}

const exact = (bytes: number): string => `${formatSize(bytes)} (${bytes} bytes)`;

async function pcbtFacts(file: BlockFile): Promise<Facts> {
  let blockCount = 0;
  let dataBytes = 0;
  let firstOffset: number | undefined;
  let endOffset = 0;
  for await (const block of indexPcbt(file)) {
    blockCount++;
    dataBytes += block.lengthBytes;
    firstOffset ??= block.offset;
    endOffset = block.offset + block.lengthBytes;
  }
  return {
    document: { format: 'pcbt', version: 1, blockCount, dataBytes, firstOffset, endOffset },
    rows: [
      ['format', 'PCBT, version 1'],
      ['blocks', `${blockCount}`],
      ['data', exact(dataBytes)],
      ['guest range', firstOffset === undefined ? 'nothing' : `${firstOffset} to ${endOffset}`],
    ],
  };
}

async function manifestFacts(file: BlockFile): Promise<Facts> {
  const manifest = await ManifestFile.open(file);
  await manifest.verify();
  const { header, trailer } = manifest;
  const { cellCount, dataCellCount } = trailer;
  const root = trailer.root.toString('hex');
  return {
    document: { format: 'manifest', version: 1, ...header, cellCount, dataCellCount, root },
    rows: [
      ['format', `manifest of a ${header.kind}, version 1`],
      ['point', header.point],
      ['parent point', header.parentPoint],
      ['vm', header.vmId],
      ['disk', `${header.diskId}, generation ${header.diskGeneration}`],
      ['disk size', exact(header.diskSizeBytes)],
      ['sectors', `${header.logicalSectorBytes} logical, ${header.physicalSectorBytes} physical`],
      ['epoch', header.epoch.toString()],
      ['cells', `${cellCount}, of these ${cellCount - dataCellCount} of zeros`],
      ['root', root],
    ],
  };
}

interface CheckFlags {
  readonly diskSize?: string;
  readonly manifest?: string;
  readonly disk?: string;
}

function registerCheck(pcbt: Command, context: CliContext): void {
  pcbt
    .command('check')
    .summary('audit a delta or a manifest, naming every violation with its place')
    .description(
      'Audits a delta: structure, order, bounds, and with --manifest the hash of every cell. Audits\n' +
        'a manifest, and with --disk the disk that a base manifest belongs to. Nothing is changed.\n' +
        `Ends with ${EXIT_DAMAGED} when something is found.`,
    )
    .argument('<file>', 'a PCBT file or a manifest')
    .option('--disk-size <size>', 'guest-visible size of the disk that the delta is for')
    .option('--manifest <file>', 'the manifest that was made with the delta')
    .option('--disk <file>', 'with a base manifest: the raw or VHDX file to compare with')
    .addHelpText(
      'after',
      examples(
        'hvdr pcbt check day.cbt --manifest day.manifest --disk-size 64G',
        'hvdr pcbt check base.manifest --disk copy.vhdx',
      ),
    )
    .action(async (name: string, flags: CheckFlags) => {
      await withInput(context, name, async (file) => {
        if (await isManifest(file)) await checkManifest(context, name, file, flags);
        else await checkPcbt(context, name, file, flags);
      });
    });
}

async function checkPcbt(
  context: CliContext,
  name: string,
  file: BlockFile,
  flags: CheckFlags,
): Promise<void> {
  if (flags.disk !== undefined) {
    throw new DrError('E_USAGE', `--disk goes with a base manifest, and ${name} is none`);
  }
  const diskSizeBytes =
    flags.diskSize === undefined ? undefined : parseSize(flags.diskSize, '--disk-size');
  const check = async (manifest: BlockFile | undefined): Promise<void> => {
    const findings: JsonObject[] = [];
    const lines: string[] = [];
    const result = await checkDelta(file, { diskSizeBytes, manifest }, (finding) => {
      if (findings.length >= FINDINGS_LISTED) return;
      const { code, where, position, message } = finding;
      const place = where === 'guest' ? 'guest offset' : `byte of the ${where}`;
      findings.push({ code, where, position, message });
      lines.push(`${code}: ${place} ${position}: ${message}`);
    });
    const { findingCount, blockCount, deltaBytes, isVerified } = result;
    show(context, name, findingCount, { findings, blockCount, dataBytes: deltaBytes, isVerified }, [
      ...lines,
      ...(findingCount > lines.length ? [`… and ${findingCount - lines.length} more`] : []),
      findingCount > 0
        ? `${name}: ${findingCount} finding(s)`
        : `${name}: nothing found, ${blockCount} blocks, ${formatSize(deltaBytes)}, ` +
          (isVerified ? 'every hash compared' : 'no hashes compared'),
    ]);
  };
  if (flags.manifest === undefined) await check(undefined);
  else await withInput(context, flags.manifest, check);
}

async function checkManifest(
  context: CliContext,
  name: string,
  file: BlockFile,
  flags: CheckFlags,
): Promise<void> {
  const { files: fs, folder, random } = context;
  if (flags.manifest !== undefined || flags.diskSize !== undefined) {
    throw new DrError(
      'E_USAGE',
      `${name} is a manifest: --manifest and --disk-size are for deltas`,
    );
  }
  const manifest = await ManifestFile.open(file);
  await manifest.verify();
  const { cellCount } = manifest.trailer;
  if (flags.disk === undefined) {
    show(context, name, 0, { findings: [], cellCount }, [
      `${name}: nothing found, ${cellCount} cells, root ${manifest.trailer.root.toString('hex')}`,
    ]);
    return;
  }
  if (manifest.header.kind !== 'base') {
    throw new DrError('E_USAGE', `--disk goes with a base manifest, and ${name} is one of a delta`);
  }
  const disk = await openImage(fs, path.resolve(folder, flags.disk), { random });
  try {
    const base = new BaseManifest({ fs, random }, path.resolve(folder, name));
    const { applying } = await base.state();
    const offsets: number[] = [];
    let findingCount = 0;
    for await (const { offset } of base.verify(disk)) {
      findingCount++;
      if (offsets.length < FINDINGS_LISTED) offsets.push(offset);
    }
    const findings = offsets.map((offset) => ({
      code: 'E_DELTA_HASH',
      where: 'guest',
      position: offset,
    }));
    show(context, name, findingCount, { findings, cellCount, applying: applying?.point }, [
      ...offsets.map((offset) => `E_DELTA_HASH: guest offset ${offset}: the cell differs`),
      ...(findingCount > offsets.length ? [`… and ${findingCount - offsets.length} more`] : []),
      ...(applying === undefined
        ? []
        : [`applying the delta of point ${applying.point} was interrupted: apply it again`]),
      findingCount > 0
        ? `${name}: ${findingCount} cell(s) of ${flags.disk} differ`
        : `${name}: ${flags.disk} is as it should be, ${cellCount} cells compared`,
    ]);
  } finally {
    await disk.close();
  }
}

function show(
  { output }: CliContext,
  file: string,
  findingCount: number,
  document: JsonObject,
  lines: readonly string[],
): void {
  const isSound = findingCount === 0;
  if (!isSound) output.exitCode = EXIT_DAMAGED;
  output.result({ file, sound: isSound, findingCount, ...document }, () => lines.join('\n'));
}
