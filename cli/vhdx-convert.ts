// `hvdr vhdx convert`: raw, VHDX and foreign images in, raw or VHDX out, to a file or to stdout.

import os from 'node:os';
import path from 'node:path';
import type { Command } from 'commander';
import { DrError } from '../shared/errors.js';
import {
  convertImage,
  convertVhdxStream,
  streamImage,
  withSource,
  type ConvertOptions,
  type ConvertResult,
  type OwnFormat,
  type TargetFormat,
} from '../shared/image/index.js';
import type { CliContext } from './context.js';
import { examples } from './examples.js';
import { startProgress } from './progress.js';
import { formatSize, parseSize } from '../shared/sizes.js';

const STREAM = '-';
const RAW_NAME = /\.(raw|img|bin|dd)$/i;

interface Flags {
  readonly from?: string;
  readonly to?: string;
  readonly type?: string;
  readonly blockSize?: string;
  readonly force?: true;
}

export function registerVhdxConvert(vhdx: Command, context: CliContext): void {
  vhdx
    .command('convert')
    .summary('turn a raw, VHDX, qcow2, VMDK or VHD image into raw or VHDX')
    .description(
      'Turns a disk image into raw or VHDX. The format of SRC is found by its content; qcow2, VMDK\n' +
        'and VHD need qemu-img. DST appears when it is complete and durable, or not at all.\n' +
        'DST "-" streams to stdout without seeking; SRC "-" reads a VHDX from stdin.',
    )
    .argument('<src>', 'the image to read, or -')
    .argument('<dst>', 'the file to make, or -')
    .option('--from <format>', 'raw: take SRC as a raw disk, whatever it looks like')
    .option('--to <format>', 'raw or vhdx (default: raw for *.raw, *.img, *.bin, *.dd, else vhdx)')
    .option('--type <type>', 'of a VHDX: dynamic or fixed (default: dynamic)')
    .option('--block-size <size>', 'of a VHDX: 1M to 256M, a power of two (default: 32M)')
    .option('--force', 'replace DST when it exists')
    .addHelpText(
      'after',
      examples(
        'hvdr vhdx convert disk.qcow2 disk.vhdx',
        'hvdr vhdx convert disk.vhdx - | zstd > disk.vhdx.zst',
      ),
    )
    .action(async (source: string, target: string, flags: Flags) => {
      const format = targetFormat(target, flags);
      const { from } = flags;
      if (from !== undefined && from !== 'raw') {
        throw new DrError(
          'E_USAGE',
          `--from ${from} is not legal; other formats are found by content`,
        );
      }
      const isReplacing = flags.force === true;
      if (target === STREAM) await toStdout(context, source, format, from);
      else await toFile(context, source, target, { ...format, from, isReplacing });
    });
}

const FOREIGN_NAME = /\.(qcow2?|vmdk|vdi|vhd|qed)$/i;

/** What the flags ask for. @throws DrError E_USAGE */
function targetFormat(target: string, { to, type, blockSize }: Flags): TargetFormat {
  const byName: OwnFormat = RAW_NAME.test(target) ? 'raw' : 'vhdx';
  const chosen = to ?? byName;
  if (to === undefined && FOREIGN_NAME.test(target)) {
    throw new DrError('E_USAGE', `${target}: only raw and VHDX can be written`, {
      hint: 'Choose a name that ends in .vhdx or .raw, or say --to vhdx.',
    });
  }
  if (chosen !== 'raw' && chosen !== 'vhdx') {
    throw new DrError('E_USAGE', `--to ${chosen} is not legal, raw and vhdx are`);
  }
  if (chosen === 'raw' && (type !== undefined || blockSize !== undefined)) {
    throw new DrError('E_USAGE', '--type and --block-size belong to a VHDX, the target is raw');
  }
  if (type !== undefined && type !== 'dynamic' && type !== 'fixed') {
    throw new DrError('E_USAGE', `--type ${type} is not legal here, dynamic and fixed are`);
  }
  const blockSizeBytes =
    blockSize === undefined ? undefined : parseSize(blockSize, '--block-size', { min: 1 });
  return { to: chosen, type, blockSizeBytes };
}

async function toFile(
  context: CliContext,
  source: string,
  target: string,
  options: ConvertOptions,
): Promise<void> {
  const { clock, files: fs, folder, output, random } = context;
  const signal = context.stopSignal();
  const targetPath = path.resolve(folder, target);
  const progress = new ConvertProgress(context, source);
  const full = { ...options, signal, onProgress: progress.show };
  const startedAt = clock.monotonic();
  let result: ConvertResult;
  try {
    result =
      source === STREAM
        ? await convertVhdxStream(process.stdin, 'stdin', targetPath, full, { fs, random })
        : await convertImage(path.resolve(folder, source), targetPath, full, { fs, random });
  } catch (error) {
    if (!signal.aborted || error !== signal.reason) throw error;
    progress.end();
    output.note(`stopped; nothing was left behind at ${target}`);
    return;
  }
  progress.end();
  const seconds = (clock.monotonic() - startedAt) / 1000;
  const fileBytes = (await fs.status(targetPath))?.sizeBytes;
  const { to, type } = options;
  output.result(
    {
      source,
      target,
      to,
      type: to === 'vhdx' ? (type ?? 'dynamic') : undefined,
      ...result,
      fileBytes,
    },
    () =>
      `${source} (${result.sourceFormat}) -> ${target} (${to}): ${formatSize(result.sizeBytes)}, ` +
      `${formatSize(result.writtenBytes)} of data, ${seconds.toFixed(1)} s`,
  );
}

async function toStdout(
  context: CliContext,
  source: string,
  format: TargetFormat,
  from: 'raw' | undefined,
): Promise<void> {
  const { files: fs, folder, output, random } = context;
  if (source === STREAM) {
    throw new DrError('E_USAGE', 'SRC and DST cannot both be "-"');
  }
  const near = path.join(os.tmpdir(), path.basename(source));
  const sourcePath = path.resolve(folder, source);
  const signal = context.stopSignal(); // a foreign image leaves a temporary file to remove
  await withSource(sourcePath, near, { fs, random, from }, async (disk) => {
    const { lengthBytes, chunks } = await streamImage(disk, format, { random });
    const progress = new ConvertProgress(context, source);
    let position = 0;
    for await (const chunk of chunks) {
      if (signal.aborted) return;
      await output.bytes(chunk);
      position += chunk.length;
      progress.show({ position, sizeBytes: lengthBytes });
    }
    progress.end();
  });
}

/** Begins to show when the size is known. */
class ConvertProgress {
  readonly #context: CliContext;
  readonly #source: string;
  #progress: ReturnType<typeof startProgress> | undefined;

  constructor(context: CliContext, source: string) {
    this.#context = context;
    this.#source = source;
  }

  readonly show = ({ position, sizeBytes }: { position: number; sizeBytes: number }): void => {
    const { clock, output } = this.#context;
    const label = `convert ${this.#source}`;
    this.#progress ??= startProgress(output, clock, { label, total: sizeBytes });
    this.#progress.set(position);
  };

  end(): void {
    this.#progress?.end();
  }
}
