// `hvdr pcbt diff OLD NEW --out FILE [--manifest FILE]`.

import path from 'node:path';
import type { Command } from 'commander';
import { type Guid, parseGuid, randomGuid, ZERO_GUID } from '../shared/bytes/index.js';
import {
  type ByteSink,
  diffDisks,
  encodeDelta,
  type ManifestHeader,
  type ManifestTrailer,
  ManifestWriter,
  planDelta,
  publishTogether,
} from '../shared/delta/index.js';
import type { ReadableDisk } from '../shared/disk/index.js';
import { DrError } from '../shared/errors.js';
import { openImage } from '../shared/image/index.js';
import type { CliContext } from './context.js';
import { examples } from './examples.js';
import { DeltaProgress, refuseTarget, stoppable } from './pcbt-run.js';
import { formatSize } from '../shared/sizes.js';

const STREAM = '-';

interface Flags {
  readonly out: string;
  readonly manifest?: string;
  readonly point?: string;
  readonly parentPoint?: string;
  readonly vmId?: string;
  readonly diskId?: string;
  readonly generation?: string;
  readonly epoch?: string;
  readonly force?: true;
}

export function registerPcbtDiff(pcbt: Command, context: CliContext): void {
  pcbt
    .command('diff')
    .summary('make the delta that leads from one disk to another')
    .description(
      'Compares two disks of the same size and writes what changed from OLD to NEW. Reads only what\n' +
        'either of them stores. The files appear when they are complete and durable, or not at all;\n' +
        '--out "-" streams the delta to stdout.',
    )
    .argument('<old>', 'a raw or VHDX file')
    .argument('<new>', 'a raw or VHDX file')
    .requiredOption('--out <file>', 'the delta to make, or -')
    .option('--manifest <file>', 'the manifest to make')
    .option('--point <id>', 'of the manifest: GUID of the new state (default: random)')
    .option('--parent-point <id>', 'of the manifest: GUID of the old state (default: none)')
    .option('--vm-id <id>', 'of the manifest: GUID of the VM')
    .option('--disk-id <id>', 'of the manifest: GUID of the disk')
    .option('--generation <n>', 'of the manifest: generation of the disk (default: 1)')
    .option('--epoch <n>', 'of the manifest: epoch of the protection (default: 0)')
    .option('--force', 'replace files that exist')
    .addHelpText(
      'after',
      examples(
        'hvdr pcbt diff yesterday.vhdx today.vhdx --out day.cbt --manifest day.manifest',
        'hvdr pcbt diff old.raw new.raw --out - | zstd > day.cbt.zst',
      ),
    )
    .action(async (oldName: string, newName: string, flags: Flags) => {
      await stoppable(context, () => diff(context, oldName, newName, flags));
    });
}

/** What the manifest says besides the disk. @throws DrError E_USAGE */
type Identity = Pick<
  ManifestHeader,
  'point' | 'parentPoint' | 'vmId' | 'diskId' | 'diskGeneration' | 'epoch'
>;

function identity({ random }: CliContext, flags: Flags): Identity {
  const { point, parentPoint, vmId, diskId, generation, epoch } = flags;
  if (flags.manifest === undefined) {
    const given = [point, parentPoint, vmId, diskId, generation, epoch];
    if (given.some((value) => value !== undefined)) {
      throw new DrError(
        'E_USAGE',
        'ids, generation and epoch stand in a manifest: --manifest FILE',
      );
    }
  }
  const id = (text: string | undefined, option: string, otherwise: Guid): Guid => {
    const parsed = text === undefined ? otherwise : parseGuid(text);
    if (parsed === undefined) throw new DrError('E_USAGE', `${option} ${text ?? ''} is no GUID`);
    return parsed;
  };
  return {
    point: id(point, '--point', randomGuid(random)),
    parentPoint: id(parentPoint, '--parent-point', ZERO_GUID),
    vmId: id(vmId, '--vm-id', ZERO_GUID),
    diskId: id(diskId, '--disk-id', ZERO_GUID),
    diskGeneration: Number(wholeNumber(generation, '--generation', 1n, 2n ** 32n - 1n)),
    epoch: wholeNumber(epoch, '--epoch', 0n, 2n ** 64n - 1n),
  };
}

function wholeNumber(
  text: string | undefined,
  option: string,
  otherwise: bigint,
  max: bigint,
): bigint {
  if (text === undefined) return otherwise;
  if (/^[0-9]{1,20}$/.test(text) && BigInt(text) <= max) return BigInt(text);
  throw new DrError('E_USAGE', `${option} ${text} is not legal: 0 to ${max.toString()} are`);
}

async function diff(
  context: CliContext,
  oldName: string,
  newName: string,
  flags: Flags,
): Promise<void> {
  const { files: fs, folder, output, random } = context;
  const named = identity(context, flags);
  const oldPath = path.resolve(folder, oldName);
  const newPath = path.resolve(folder, newName);
  const targets = [flags.out, flags.manifest].filter((name) => name !== undefined);
  for (const target of targets) {
    if (target === STREAM) continue;
    await refuseTarget(context, target, flags.force === true, [oldPath, newPath]);
  }
  if (
    targets.length === 2 &&
    path.resolve(folder, flags.out) === path.resolve(folder, targets[1] ?? '')
  ) {
    throw new DrError('E_USAGE', 'delta and manifest cannot be the same file');
  }
  if (flags.manifest === STREAM) throw new DrError('E_USAGE', 'a manifest goes to a file');
  const oldDisk = await openImage(fs, oldPath, { random });
  try {
    const newDisk = oldPath === newPath ? oldDisk : await openImage(fs, newPath, { random });
    try {
      const compared = new DeltaProgress(context, `compare ${oldName} with ${newName}`);
      const plan = await diffDisks(oldDisk, newDisk, compared.show);
      compared.end();
      const { blockCount, fileBytes } = planDelta(newDisk, plan);
      const written = new DeltaProgress(context, `write ${flags.out}`);
      const produce = async (delta: ByteSink, manifest?: ManifestWriter): Promise<void> => {
        const chunks = encodeDelta(newDisk, plan, { manifest, progress: written.show });
        for await (const chunk of chunks) await delta(chunk);
      };
      const header = { kind: 'delta', ...named, ...geometry(newDisk) } as const;
      const trailer = await write(context, flags, header, produce);
      written.end();
      if (flags.out === STREAM) return;
      const cellCount = plan.cells.count;
      output.result(
        {
          old: oldName,
          new: newName,
          out: flags.out,
          manifest: flags.manifest,
          cellCount,
          zeroCellCount: trailer && trailer.cellCount - trailer.dataCellCount,
          blockCount,
          fileBytes,
          point: trailer && named.point,
          root: trailer?.root.toString('hex'),
        },
        () =>
          `${flags.out}: ${cellCount} cells changed, ${blockCount} blocks, ${formatSize(fileBytes)}` +
          (trailer === undefined ? '' : `; ${flags.manifest ?? ''}: point ${named.point}`),
      );
    } finally {
      if (newDisk !== oldDisk) await newDisk.close();
    }
  } finally {
    await oldDisk.close();
  }
}

function geometry(
  disk: ReadableDisk,
): Pick<ManifestHeader, 'diskSizeBytes' | 'logicalSectorBytes' | 'physicalSectorBytes'> {
  const { sizeBytes, logicalSectorBytes, physicalSectorBytes } = disk;
  return { diskSizeBytes: sizeBytes, logicalSectorBytes, physicalSectorBytes };
}

/**
 * Sends the delta to its file or stdout and the manifest to its file. Files appear when all of them
 * are complete, the delta first.
 */
async function write(
  context: CliContext,
  { out, manifest, force }: Flags,
  header: ManifestHeader,
  produce: (delta: ByteSink, manifest?: ManifestWriter) => Promise<void>,
): Promise<ManifestTrailer | undefined> {
  const { files: fs, folder, output, random } = context;
  const replacing = { isReplacing: force === true };
  return publishTogether({ fs, random }, replacing, async (create) => {
    const delta: ByteSink =
      out === STREAM ? (chunk) => output.bytes(chunk) : await create(path.resolve(folder, out));
    if (manifest === undefined) {
      await produce(delta);
      return undefined;
    }
    const writer = new ManifestWriter(header, await create(path.resolve(folder, manifest)));
    await produce(delta, writer);
    return writer.finish();
  });
}
