// `hvdr pcbt apply BASE DELTA [--out FILE]`: in place, or to a new file.

import path from 'node:path';
import type { Command } from 'commander';
import { ZERO_GUID } from '../shared/bytes/index.js';
import {
  applyDelta,
  type ApplyResult,
  applyToCopy,
  BaseManifest,
  type DeltaInput,
  ManifestFile,
} from '../shared/delta/index.js';
import { DrError } from '../shared/errors.js';
import { buildTarget, detectImageFormat, openImage } from '../shared/image/index.js';
import type { CliContext } from './context.js';
import { examples } from './examples.js';
import {
  DeltaProgress,
  naming,
  refuseTarget,
  standardInput,
  stoppable,
  withInput,
} from './pcbt-run.js';
import { formatSize } from '../shared/sizes.js';

const STREAM = '-';

interface Flags {
  readonly out?: string;
  readonly manifest?: string;
  readonly baseManifest?: string;
  readonly force?: true;
}

export function registerPcbtApply(pcbt: Command, context: CliContext): void {
  pcbt
    .command('apply')
    .summary('bring a disk to the state that a delta leads to')
    .description(
      'Applies a delta to a raw or VHDX file, in place, or to a copy with --out. A delta in a file\n' +
        'is checked whole before the first byte of the disk changes; one from stdin ("-") as it\n' +
        'comes. Applying again after an interruption completes the disk.',
    )
    .argument('<base>', 'a raw or VHDX file')
    .argument('<delta>', 'a PCBT file, or -')
    .option('--out <file>', 'leave the base alone and write the result here, in the same format')
    .option('--manifest <file>', 'the manifest of the delta: compare the hash of every cell')
    .option(
      '--base-manifest <file>',
      'keep the manifest of the base level with it (made when missing); needs --manifest',
    )
    .option('--force', 'replace the file of --out when it exists')
    .addHelpText(
      'after',
      examples(
        'hvdr pcbt apply copy.vhdx day.cbt --manifest day.manifest',
        'hvdr pcbt apply copy.vhdx day.cbt --out new.vhdx',
      ),
    )
    .action(async (base: string, delta: string, flags: Flags) => {
      checkFlags(flags);
      if (flags.out === undefined) await apply(context, base, delta, flags);
      else await stoppable(context, () => apply(context, base, delta, flags));
    });
}

function checkFlags({ out, manifest, baseManifest, force }: Flags): void {
  if (baseManifest !== undefined && manifest === undefined) {
    throw new DrError(
      'E_USAGE',
      '--base-manifest needs the manifest of the delta: --manifest FILE',
    );
  }
  if (baseManifest !== undefined && out !== undefined) {
    throw new DrError('E_USAGE', '--base-manifest belongs to the base, which --out leaves alone');
  }
  if (force === true && out === undefined) {
    throw new DrError('E_USAGE', '--force goes with --out: in place, nothing is replaced');
  }
}

async function apply(
  context: CliContext,
  base: string,
  delta: string,
  flags: Flags,
): Promise<void> {
  const { output } = context;
  if (flags.out !== undefined) {
    const files = [base, delta === STREAM ? undefined : delta, flags.manifest];
    const inputs = files.filter((name) => name !== undefined);
    await refuseTarget(context, flags.out, flags.force === true, inputs);
  }
  const result = await withDelta(context, delta, (input) =>
    withManifest(context, flags.manifest, (manifest) =>
      naming(`${delta} onto ${base}`, () =>
        flags.out === undefined
          ? applyInPlace(context, base, input, manifest, flags)
          : applyToFile(context, base, input, manifest, { ...flags, out: flags.out }),
      ),
    ),
  );
  const { blockCount, deltaBytes, zeroBytes } = result;
  const target = flags.out ?? base;
  output.result(
    {
      base,
      delta,
      target,
      blockCount,
      dataBytes: deltaBytes,
      zeroBytes,
      verified: flags.manifest !== undefined,
    },
    () =>
      `${target}: ${delta} applied, ${blockCount} blocks, ${formatSize(deltaBytes)}, ` +
      `of these ${formatSize(zeroBytes)} of zeros` +
      (flags.manifest === undefined ? '' : ', every hash compared'),
  );
}

async function withDelta<T>(
  context: CliContext,
  name: string,
  use: (input: DeltaInput) => Promise<T>,
): Promise<T> {
  if (name === STREAM) return use({ kind: 'stream', chunks: standardInput() });
  return withInput(context, name, (file) => use({ kind: 'file', file }));
}

async function withManifest<T>(
  context: CliContext,
  name: string | undefined,
  use: (manifest: ManifestFile | undefined) => Promise<T>,
): Promise<T> {
  if (name === undefined) return use(undefined);
  return withInput(context, name, async (file) =>
    use(await naming(name, () => ManifestFile.open(file))),
  );
}

async function applyInPlace(
  context: CliContext,
  baseName: string,
  input: DeltaInput,
  manifest: ManifestFile | undefined,
  { baseManifest }: Flags,
): Promise<ApplyResult> {
  const { files: fs, folder, random } = context;
  const basePath = path.resolve(folder, baseName);
  const target = await openImage(fs, basePath, { random, writable: true });
  const progress = new DeltaProgress(context, `apply to ${baseName}`);
  let result: ApplyResult;
  try {
    let base: BaseManifest | undefined;
    if (baseManifest !== undefined && manifest !== undefined) {
      const manifestPath = path.resolve(folder, baseManifest);
      base = new BaseManifest({ fs, random }, manifestPath);
      await logResumed(context, base, baseName);
      if ((await fs.status(manifestPath)) === undefined) {
        const point = manifest.header.parentPoint;
        const header = { ...manifest.header, kind: 'base', point, parentPoint: ZERO_GUID } as const;
        await base.create(target, header);
      }
    }
    result = await applyDelta(input, target, { manifest, base, progress: progress.report });
  } catch (error) {
    progress.end();
    // The first error is the one to report.
    await target.close().catch(() => undefined);
    throw error;
  }
  progress.end();
  await target.close();
  return result;
}

/** Tells that an earlier apply was interrupted, when the base manifest says so. */
async function logResumed(context: CliContext, base: BaseManifest, file: string): Promise<void> {
  if ((await context.files.status(base.path)) === undefined) return;
  const { applying } = await base.state();
  if (applying === undefined) return;
  (await context.log()).warn('delta.apply-resumed', { file, point: applying.point });
}

async function applyToFile(
  context: CliContext,
  baseName: string,
  input: DeltaInput,
  manifest: ManifestFile | undefined,
  { out, force }: Flags & { readonly out: string },
): Promise<ApplyResult> {
  const { files: fs, folder, random } = context;
  const basePath = path.resolve(folder, baseName);
  const outPath = path.resolve(folder, out);
  const format = await detectImageFormat(fs, basePath);
  const base = await openImage(fs, basePath, { random });
  const progress = new DeltaProgress(context, `apply to ${out}`);
  try {
    const options = {
      to: format === 'vhdx' ? format : 'raw',
      isReplacing: force === true,
    } as const;
    return await buildTarget(outPath, options, base, { fs, random }, (writer) =>
      applyToCopy(base, input, writer, { manifest, progress: progress.show }),
    );
  } finally {
    progress.end();
    await base.close();
  }
}
