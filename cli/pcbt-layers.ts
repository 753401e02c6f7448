// `hvdr pcbt merge`, `overlay` and `export`: several deltas of one disk as one. They need the
// manifests, which say in what order the deltas follow each other and what every cell must hash to.
// All hashes are compared before a result appears under its name.

import path from 'node:path';
import type { Command } from 'commander';
import {
  checkDelta,
  DeltaError,
  encodeMerge,
  LayeredDisk,
  ManifestFile,
  ManifestWriter,
  materialise,
  PcbtDelta,
  planMerge,
  publishTogether,
  type DeltaFinding,
} from '../shared/delta/index.js';
import { DrError } from '../shared/errors.js';
import type { BlockFile } from '../shared/files/index.js';
import { openImage, writeImage } from '../shared/image/index.js';
import { openVhdx } from '../shared/vhdx/index.js';
import type { CliContext } from './context.js';
import { examples } from './examples.js';
import { DeltaProgress, naming, refuseTarget, stoppable } from './pcbt-run.js';
import { formatSize } from '../shared/sizes.js';

interface Flags {
  readonly manifest: readonly string[];
  readonly out: string;
  readonly force?: true;
}

const MANIFESTS = '--manifest <file...>';
const MANIFESTS_TEXT = 'the manifests of the deltas, in the same order';

export function registerPcbtLayers(pcbt: Command, context: CliContext): void {
  pcbt
    .command('merge')
    .summary('make one delta of adjacent deltas')
    .description(
      'Writes adjacent deltas, the oldest first, as one delta with its manifest: what is newer wins.\n' +
        'Applying it is the same as applying them all in order.',
    )
    .argument('<delta...>', 'PCBT files, the oldest first')
    .requiredOption(MANIFESTS, MANIFESTS_TEXT)
    .requiredOption('--out <file>', 'the delta to make')
    .requiredOption('--out-manifest <file>', 'its manifest')
    .option('--force', 'replace files that exist')
    .addHelpText(
      'after',
      examples(
        'hvdr pcbt merge mon.cbt tue.cbt --manifest mon.manifest tue.manifest --out two.cbt --out-manifest two.manifest',
      ),
    )
    .action((deltas: string[], flags: Flags & { readonly outManifest: string }) =>
      stoppable(context, () => merge(context, deltas, flags)),
    );
  pcbt
    .command('overlay')
    .summary('make a differencing VHDX over a base that holds what deltas change')
    .description(
      'Makes the disk as of the last delta without touching or copying the base: a new differencing\n' +
        'VHDX beside it. The cost is that of the changes. The base must not be written to as long as\n' +
        'the new disk is in use.',
    )
    .argument('<base>', 'a VHDX file')
    .argument('<delta...>', 'PCBT files, the oldest first')
    .requiredOption(MANIFESTS, MANIFESTS_TEXT)
    .requiredOption('--out <file>', 'the differencing VHDX to make, in the folder of the base')
    .addHelpText(
      'after',
      examples(
        'hvdr pcbt overlay base.vhdx mon.cbt tue.cbt --manifest mon.manifest tue.manifest --out tue.vhdx',
      ),
    )
    .action((base: string, deltas: string[], flags: Flags) =>
      stoppable(context, () => overlay(context, base, deltas, flags)),
    );
  pcbt
    .command('export')
    .summary('write the disk as of a delta to a new file')
    .description(
      'Writes base and deltas together as a new raw or VHDX file (by the ending of its name). Base and\n' +
        'deltas are only read.',
    )
    .argument('<base>', 'a raw or VHDX file')
    .argument('<delta...>', 'PCBT files, the oldest first')
    .requiredOption(MANIFESTS, MANIFESTS_TEXT)
    .requiredOption('--out <file>', 'the file to make')
    .option('--force', 'replace the file of --out when it exists')
    .addHelpText(
      'after',
      examples('hvdr pcbt export base.vhdx mon.cbt --manifest mon.manifest --out mon.raw'),
    )
    .action((base: string, deltas: string[], flags: Flags) =>
      stoppable(context, () => exportPoint(context, base, deltas, flags)),
    );
}

async function merge(
  context: CliContext,
  deltas: readonly string[],
  flags: Flags & { readonly outManifest: string },
): Promise<void> {
  const { files: fs, folder, output, random } = context;
  const inputs = [...deltas, ...flags.manifest];
  for (const target of [flags.out, flags.outManifest]) {
    await refuseTarget(context, target, flags.force === true, inputs);
  }
  if (path.resolve(folder, flags.out) === path.resolve(folder, flags.outManifest)) {
    throw new DrError('E_USAGE', 'delta and manifest cannot be the same file');
  }
  await withDeltas(context, deltas, flags.manifest, true, async (sources) => {
    const plan = await planMerge(sources);
    const { header, cellCount } = plan;
    const progress = new DeltaProgress(context, `write ${flags.out}`);
    const replacing = { isReplacing: flags.force === true };
    const trailer = await publishTogether({ fs, random }, replacing, async (create) => {
      const delta = await create(path.resolve(folder, flags.out));
      const sink = await create(path.resolve(folder, flags.outManifest));
      const manifest = new ManifestWriter(header, sink);
      const chunks = encodeMerge(sources, plan, manifest, progress.show);
      for await (const chunk of chunks) await delta(chunk);
      return manifest.finish();
    });
    progress.end();
    const { fileBytes, blockCount } = plan.pcbt;
    output.result(
      {
        deltas,
        out: flags.out,
        manifest: flags.outManifest,
        cellCount,
        blockCount,
        fileBytes,
        point: header.point,
        parentPoint: header.parentPoint,
        root: trailer.root.toString('hex'),
      },
      () =>
        `${flags.out}: ${deltas.length} deltas as one, ${cellCount} cells, ${formatSize(fileBytes)}; ` +
        `from point ${header.parentPoint} to ${header.point}`,
    );
  });
}

async function overlay(
  context: CliContext,
  baseName: string,
  deltas: readonly string[],
  flags: Flags,
): Promise<void> {
  const { files: fs, folder, output, random } = context;
  const outPath = path.resolve(folder, flags.out);
  await refuseTarget(context, flags.out, false, []);
  // materialise() compares every hash while it writes, so nothing is read twice.
  await withDeltas(context, deltas, flags.manifest, false, async (sources) => {
    const base = await openVhdx(path.resolve(folder, baseName), { fs, random });
    try {
      await naming(deltas.join(', '), () => materialise(outPath, base, sources, { fs, random }));
    } finally {
      await base.close();
    }
    const point = sources.at(-1)?.header.point;
    const fileBytes = (await fs.status(outPath))?.sizeBytes;
    output.result(
      { base: baseName, deltas, out: flags.out, point, fileBytes },
      () => `${flags.out}: ${baseName} as of point ${point ?? ''}, ${formatSize(fileBytes ?? 0)}`,
    );
  });
}

async function exportPoint(
  context: CliContext,
  baseName: string,
  deltas: readonly string[],
  flags: Flags,
): Promise<void> {
  const { files: fs, folder, output, random } = context;
  const inputs = [baseName, ...deltas, ...flags.manifest];
  await refuseTarget(context, flags.out, flags.force === true, inputs);
  const to = /\.a?vhdx$/i.test(flags.out) ? 'vhdx' : 'raw';
  await withDeltas(context, deltas, flags.manifest, true, async (sources) => {
    const base = await openImage(fs, path.resolve(folder, baseName), { random });
    try {
      const disk = await LayeredDisk.open(base, sources);
      const progress = new DeltaProgress(context, `export ${flags.out}`);
      const { sizeBytes, writtenBytes } = await writeImage(
        disk,
        path.resolve(folder, flags.out),
        {
          to,
          isReplacing: flags.force === true,
          onProgress: (at) => progress.show(at.position, at.sizeBytes),
          signal: context.stopSignal(),
        },
        { fs, random },
      );
      progress.end();
      const point = sources.at(-1)?.header.point;
      output.result(
        { base: baseName, deltas, out: flags.out, to, point, sizeBytes, writtenBytes },
        () =>
          `${flags.out} (${to}): ${baseName} as of point ${point ?? ''}, ` +
          `${formatSize(sizeBytes)}, ${formatSize(writtenBytes)} of data`,
      );
    } finally {
      await base.close();
    }
  });
}

/** Opens deltas with their manifests; `isVerifying` compares every hash before `use` begins. */
async function withDeltas(
  context: CliContext,
  deltas: readonly string[],
  manifests: readonly string[],
  isVerifying: boolean,
  use: (sources: readonly PcbtDelta[]) => Promise<void>,
): Promise<void> {
  const { files: fs, folder } = context;
  if (deltas.length !== manifests.length) {
    throw new DrError(
      'E_USAGE',
      `${deltas.length} deltas but ${manifests.length} manifests; each delta needs its own`,
    );
  }
  const open: BlockFile[] = [];
  const openFile = async (name: string): Promise<BlockFile> => {
    const file = await fs.open(path.resolve(folder, name), { mode: 'read' });
    open.push(file);
    return file;
  };
  try {
    const sources: PcbtDelta[] = [];
    for (const [index, name] of deltas.entries()) {
      const manifestName = manifests[index] ?? '';
      const file = await openFile(name);
      const manifestFile = await openFile(manifestName);
      const manifest = await naming(manifestName, async () => {
        const opened = await ManifestFile.open(manifestFile);
        await opened.verify();
        return opened;
      });
      if (isVerifying) await refuseDamaged(name, file, manifestFile);
      sources.push(new PcbtDelta(manifest, file));
    }
    await use(sources);
  } finally {
    for (const file of open) await file.close();
  }
}

async function refuseDamaged(name: string, file: BlockFile, manifest: BlockFile): Promise<void> {
  let first: DeltaFinding | undefined;
  const { findingCount } = await checkDelta(file, { manifest }, (finding) => {
    first ??= finding;
  });
  if (first === undefined) return;
  const { code, where, position, message } = first;
  throw new DeltaError(
    code,
    `${name}: ${message} (${where} byte ${position}); ${findingCount} findings in all`,
    { context: { file: name, position }, hint: `\`hvdr pcbt check ${name}\` lists them.` },
  );
}
