// `hvdr vhdx …`: look at, check, make, read, write, convert and merge VHDX files. Each command turns
// words into values, calls shared/vhdx or shared/image, and shows what they answer.

import path from 'node:path';
import type { Command } from 'commander';
import { DrError } from '../shared/errors.js';
import {
  checkVhdx,
  createVhdx,
  describeVhdx,
  mergeVhdx,
  openVhdx,
  type VhdxDescription,
  type VhdxType,
} from '../shared/vhdx/index.js';
import { openImage, rawChunks } from '../shared/image/index.js';
import type { CliContext } from './context.js';
import { examples } from './examples.js';
import { startProgress } from './progress.js';
import { formatSize, parseSize } from '../shared/sizes.js';
import { registerVhdxCompare } from './vhdx-compare.js';
import { registerVhdxConvert } from './vhdx-convert.js';
import { registerVhdxMap } from './vhdx-map.js';

const EXIT_WARNINGS = 3;
const EXIT_DAMAGED = 15;
const WRITE_PIECE_BYTES = 1024 * 1024;

/** A sector size of an option. @throws DrError E_USAGE */
function parseSector(text: string, option: string): number {
  if (text === '512' || text === '4096') return Number(text);
  throw new DrError('E_USAGE', `${option} ${text} is not legal, 512 and 4096 are`);
}

function parseType(text: string): VhdxType {
  if (text === 'fixed' || text === 'dynamic' || text === 'differencing') return text;
  throw new DrError('E_USAGE', `--type ${text} is not legal: fixed, dynamic, differencing are`);
}

export function registerVhdx(program: Command, context: CliContext): void {
  const vhdx = program
    .command('vhdx')
    .summary('look at, check, make, read, write, convert and merge VHDX files')
    .description(
      'Works on VHDX files: fixed, dynamic and differencing, with all of their parents.\n' +
        'Sizes and offsets are bytes, or numbers with K, M, G or T (powers of 1024).',
    )
    .addHelpText(
      'after',
      examples(
        'hvdr vhdx info disk.vhdx',
        'hvdr vhdx check disk.vhdx',
        'hvdr vhdx convert disk.vhdx disk.raw',
      ),
    );
  registerInfo(vhdx, context);
  registerCheck(vhdx, context);
  registerVhdxMap(vhdx, context);
  registerCreate(vhdx, context);
  registerRead(vhdx, context);
  registerWrite(vhdx, context);
  registerVhdxConvert(vhdx, context);
  registerMerge(vhdx, context);
  registerVhdxCompare(vhdx, context);
}

function registerInfo(vhdx: Command, context: CliContext): void {
  vhdx
    .command('info')
    .summary('type, sizes, identities, parent, log and blocks of a file')
    .description('Shows what a VHDX file says about itself. Nothing is changed.')
    .argument('<file>', 'a VHDX file')
    .addHelpText('after', examples('hvdr vhdx info disk.vhdx', 'hvdr vhdx info disk.vhdx --json'))
    .action(async (file: string) => {
      const { files: fs, folder, output } = context;
      const description = await describeVhdx(path.resolve(folder, file), { fs });
      output.result({ file, ...description }, () => infoText(file, description));
      for (const warning of description.warnings) output.note(`warning: ${warning}`);
    });
}

function infoText(file: string, d: VhdxDescription): string {
  const exact = (bytes: number): string => `${formatSize(bytes)} (${bytes} bytes)`;
  const { blocks, parent, log } = d;
  const rows: [string, string][] = [
    ['file', file],
    ['type', d.type],
    ['virtual size', exact(d.sizeBytes)],
    ['file size', exact(d.fileBytes)],
    ['block size', formatSize(d.blockSizeBytes)],
    ['sectors', `${d.logicalSectorBytes} logical, ${d.physicalSectorBytes} physical`],
    ['creator', JSON.stringify(d.creator)],
    ['disk id', d.diskId],
    ['data write id', d.dataWriteGuid],
    ['file write id', d.fileWriteGuid],
    ['sequence', d.sequenceNumber.toString()],
    ['log', `${log.state}, ${formatSize(log.bytes)} at byte ${log.offset}`],
    [
      'blocks',
      `${blocks.fullyPresent} of ${blocks.total} present` +
        (d.type === 'differencing'
          ? `, ${blocks.partiallyPresent} in part, ${blocks.bitmaps} sector bitmaps`
          : '') +
        `, ${blocks.zero} marked zero`,
    ],
  ];
  if (parent !== undefined) {
    rows.push(['parent', parent.name], ['parent linkage', parent.linkage]);
    if (parent.relativePath !== undefined) rows.push(['relative path', parent.relativePath]);
    if (parent.volumePath !== undefined) rows.push(['volume path', parent.volumePath]);
    if (parent.absolutePath !== undefined) rows.push(['absolute path', parent.absolutePath]);
  }
  return rows.map(([name, value]) => `${name.padEnd(15)} ${value}`).join('\n');
}

function registerCheck(vhdx: Command, context: CliContext): void {
  vhdx
    .command('check')
    .summary('audit a file and its chain, naming every violation with its place')
    .description(
      'Audits a VHDX file and its parents and lists every violation with structure and offset.\n' +
        `Nothing is changed. Ends with ${EXIT_DAMAGED} when there are violations, with ${EXIT_WARNINGS} when there are only warnings.`,
    )
    .argument('<file>', 'a VHDX file')
    .addHelpText('after', examples('hvdr vhdx check disk.avhdx'))
    .action(async (file: string) => {
      const { files: fs, folder, output, random } = context;
      const result = await checkVhdx(path.resolve(folder, file), { fs, random });
      const { violations, violationCount, warnings, isComplete, parents } = result;
      const isSound = violationCount === 0;
      if (!isSound) output.exitCode = EXIT_DAMAGED;
      else if (warnings.length > 0) output.exitCode = EXIT_WARNINGS;
      output.result(
        {
          file,
          sound: isSound,
          complete: isComplete,
          violationCount,
          violations: violations.map((violation) => ({ ...violation })),
          warnings,
          parents,
        },
        () => {
          const lines = violations.map(({ code, structure, offset, message }) =>
            offset === undefined
              ? `${code}: ${message}`
              : `${code}: ${structure} at byte ${offset}: ${message}`,
          );
          if (violationCount > violations.length) {
            lines.push(`… and ${violationCount - violations.length} more`);
          }
          lines.push(...warnings.map((warning) => `warning: ${warning}`));
          const chain = parents.length === 0 ? '' : `, with its ${parents.length} parent(s)`;
          if (isSound) lines.push(`${file}: no violation found${chain}`);
          else lines.push(`${file}: ${violationCount} violation(s)`);
          if (!isComplete) lines.push('the first violation hides what comes after it');
          return lines.join('\n');
        },
      );
    });
}

interface CreateOptions {
  readonly size?: string;
  readonly type?: string;
  readonly parent?: string;
  readonly blockSize?: string;
  readonly logicalSector?: string;
  readonly physicalSector?: string;
}

function registerCreate(vhdx: Command, context: CliContext): void {
  vhdx
    .command('create')
    .summary('make an empty disk')
    .description(
      'Makes an empty disk. A differencing disk takes size and sectors from its parent, which\n' +
        'must stand in its folder; --size does not go with it.',
    )
    .argument('<file>', 'the file to make; an existing one is not replaced')
    .option('--size <size>', 'guest-visible size, a multiple of the logical sector, up to 64T')
    .option('--type <type>', 'fixed, dynamic or differencing (default: dynamic)')
    .option('--parent <file>', 'the parent of a differencing disk')
    .option('--block-size <size>', '1M to 256M, a power of two (default: 32M, differencing 2M)')
    .option('--logical-sector <bytes>', '512 or 4096 (default: 512)')
    .option('--physical-sector <bytes>', '512 or 4096 (default: 4096)')
    .addHelpText(
      'after',
      examples(
        'hvdr vhdx create disk.vhdx --size 64G',
        'hvdr vhdx create today.avhdx --type differencing --parent disk.vhdx',
      ),
    )
    .action(async (file: string, options: CreateOptions) => {
      const { files: fs, folder, output, random } = context;
      const type = options.type ?? (options.parent === undefined ? 'dynamic' : 'differencing');
      const size = (text: string | undefined, name: string): number | undefined =>
        text === undefined ? undefined : parseSize(text, name, { min: 1 });
      const sector = (text: string | undefined, name: string): number | undefined =>
        text === undefined ? undefined : parseSector(text, name);
      const target = path.resolve(folder, file);
      await createVhdx(
        target,
        {
          type: parseType(type),
          sizeBytes: size(options.size, '--size'),
          parentPath:
            options.parent === undefined ? undefined : path.resolve(folder, options.parent),
          blockSizeBytes: size(options.blockSize, '--block-size'),
          logicalSectorBytes: sector(options.logicalSector, '--logical-sector'),
          physicalSectorBytes: sector(options.physicalSector, '--physical-sector'),
        },
        { fs, random },
      );
      const made = await describeVhdx(target, { fs });
      output.result(
        { file, ...made },
        () =>
          `${file}: ${made.type}, ${formatSize(made.sizeBytes)}, blocks of ${formatSize(made.blockSizeBytes)}`,
      );
    });
}

function registerRead(vhdx: Command, context: CliContext): void {
  vhdx
    .command('read')
    .summary('write guest bytes to stdout, through the chain')
    .description('Writes the bytes that a guest would see to stdout. Raw files are read as well.')
    .argument('<file>', 'a VHDX or raw file')
    .option('--offset <offset>', 'first byte', '0')
    .option('--length <length>', 'how many bytes (default: up to the end)')
    .addHelpText(
      'after',
      examples(
        'hvdr vhdx read disk.vhdx --length 512 | xxd',
        'hvdr vhdx read disk.vhdx > disk.raw',
      ),
    )
    .action(async (file: string, options: { offset: string; length?: string }) => {
      const { files: fs, folder, output, random } = context;
      const disk = await openImage(fs, path.resolve(folder, file), { random });
      try {
        const offset = parseSize(options.offset, '--offset');
        const length =
          options.length === undefined
            ? Math.max(0, disk.sizeBytes - offset)
            : parseSize(options.length, '--length');
        refuseBeyond(file, disk.sizeBytes, offset, length);
        for await (const chunk of rawChunks(disk, offset, offset + length)) {
          await output.bytes(chunk);
        }
      } finally {
        await disk.close();
      }
    });
}

function refuseBeyond(file: string, sizeBytes: number, offset: number, length: number): void {
  if (offset + length <= sizeBytes) return;
  throw new DrError(
    'E_USAGE',
    `the range from ${offset}, ${length} bytes long, reaches beyond the end of ${file}, which has ${sizeBytes} bytes`,
    { context: { file, sizeBytes, offset, length } },
  );
}

function registerWrite(vhdx: Command, context: CliContext): void {
  vhdx
    .command('write')
    .summary("write a file's bytes into the disk, in place")
    .description(
      'Writes the bytes of a file to a place of the guest, in place and crash-safely through the\n' +
        "disk's log. Durable when the command ends. Disks that others depend on are refused.",
    )
    .argument('<file>', 'a VHDX file')
    .requiredOption('--offset <offset>', 'guest offset of the first byte')
    .requiredOption('--file <file>', 'the bytes to write')
    .addHelpText('after', examples('hvdr vhdx write disk.vhdx --offset 1M --file page.bin'))
    .action(async (file: string, options: { offset: string; file: string }) => {
      const { clock, files: fs, folder, output, random } = context;
      const offset = parseSize(options.offset, '--offset');
      const input = await fs.open(path.resolve(folder, options.file), { mode: 'read' });
      try {
        const lengthBytes = await input.size();
        const target = path.resolve(folder, file);
        const disk = await openVhdx(target, { fs, random, isWritable: true });
        const { replay } = disk.top.structures;
        const changes = replay?.records.length ?? 0;
        if (changes > 0) {
          (await context.log()).warn('vhdx.log-replayed', { file, changes });
        }
        const label = `write ${file}`;
        const progress = startProgress(output, clock, { label, total: lengthBytes });
        try {
          refuseBeyond(file, disk.sizeBytes, offset, lengthBytes);
          const piece = Buffer.alloc(Math.min(WRITE_PIECE_BYTES, lengthBytes));
          for (let done = 0; done < lengthBytes;) {
            const got = await input.read(done, piece.subarray(0, lengthBytes - done));
            if (got === 0) throw new DrError('E_IO', `${options.file} became shorter meanwhile`);
            await disk.write(offset + done, piece.subarray(0, got));
            done += got;
            progress.set(done);
          }
          await disk.flush();
        } finally {
          progress.end();
          await disk.close();
        }
        output.result(
          { file, offset, lengthBytes },
          () => `${file}: ${lengthBytes} bytes written at ${offset}`,
        );
      } finally {
        await input.close();
      }
    });
}

function registerMerge(vhdx: Command, context: CliContext): void {
  vhdx
    .command('merge')
    .summary('merge a differencing disk into its parent')
    .description(
      "Merges a differencing disk into its parent; the merged disk then stands under the child's\n" +
        'name. A merge that was interrupted goes on when the same command is given again.',
    )
    .argument('<child>', 'a differencing VHDX file')
    .addHelpText('after', examples('hvdr vhdx merge today.avhdx'))
    .action(async (child: string) => {
      const { clock, files: fs, folder, output, random } = context;
      const progress = startProgress(output, clock, { label: `merge ${child}` });
      try {
        const result = await mergeVhdx(path.resolve(folder, child), {
          fs,
          random,
          onProgress: ({ copiedBytes }) => {
            progress.set(copiedBytes);
          },
        });
        progress.end();
        if (result.isResumed) (await context.log()).info('vhdx.merge-resumed', { file: child });
        output.result(
          { file: child, ...result },
          () =>
            `${child}: merged with ${result.parent}, ${formatSize(result.copiedBytes)} copied` +
            (result.isResumed ? ' (an interrupted merge was finished)' : ''),
        );
      } finally {
        progress.end();
      }
    });
}
