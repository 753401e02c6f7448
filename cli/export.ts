// `hvdr export`: one disk as of a restore point, as a raw or VHDX file.

import path from 'node:path';
import type { Command } from 'commander';
import type { DiskGeometry, ReadDiskResponse } from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import { buildTarget, checkTarget, type OwnFormat } from '../shared/image/index.js';
import type { CliContext } from './context.js';
import { startProgress } from './progress.js';
import { type AccessFlags, withAccess, withAccessOptions } from './receiver-connection.js';
import { formatSize } from '../shared/sizes.js';

interface Flags extends AccessFlags {
  readonly point: string;
  readonly disk: string;
  readonly format?: string;
  readonly out: string;
  readonly force?: true;
}

/** Writes under way at a time; the receiver's parts have up to 1 MiB. */
const WRITES_MAX = 8;

export function registerExport(program: Command, context: CliContext): void {
  withAccessOptions(
    program
      .command('export')
      .summary('write a disk as of a restore point to a raw or VHDX file')
      .description(
        'Writes one disk of a VM as it was at a restore point. Every cell is checked against its hash\n' +
          'on the way. FILE appears when it is complete and durable, or not at all.',
      )
      .argument('<vm>', 'name or id of the VM')
      .option('--point <id>', 'id or its beginning, latest, or last-clean', 'latest')
      .option('--disk <n>', 'which disk of the VM, from 0', '0')
      .option('--format <format>', 'raw or vhdx (default: vhdx for *.vhdx, else raw)')
      .requiredOption('--out <file>', 'the file to make')
      .option('--force', 'replace FILE when it exists'),
  )
    .addHelpText(
      'after',
      '\nExample:\n  hvdr export SQL01 --point latest --disk 0 --format raw --out sql01.raw --store /srv/dr\n',
    )
    .action((vm: string, flags: Flags) => exportDisk(context, vm, flags));
}

function formatOf({ format, out }: Flags): OwnFormat {
  const chosen = format ?? (/\.vhdx$/i.test(out) ? 'vhdx' : 'raw');
  if (chosen === 'raw' || chosen === 'vhdx') return chosen;
  throw new DrError('E_USAGE', `--format ${chosen} is not legal, raw and vhdx are`);
}

async function exportDisk(context: CliContext, vm: string, flags: Flags): Promise<void> {
  const { files: fs, folder, output, random } = context;
  const to = formatOf(flags);
  if (!/^\d{1,3}$/.test(flags.disk)) {
    throw new DrError('E_USAGE', `--disk "${flags.disk}" is not a number`, {
      hint: 'Disks count from 0.',
    });
  }
  const diskIndex = Number(flags.disk);
  const target = path.resolve(folder, flags.out);
  const isReplacing = flags.force === true;
  await checkTarget(target, { isReplacing, inputs: [] }, { fs, random });
  const signal = context.stopSignal();
  await withAccess(context, flags, 'read', async ({ control }) => {
    const request = { vm, point: flags.point, diskIndex };
    const parts = control.readDisk(request, { signal })[Symbol.asyncIterator]();
    const geometry = await firstPart(parts);
    const sizeBytes = Number(geometry.sizeBytes);
    const { logicalSectorBytes, physicalSectorBytes } = geometry;
    const writtenBytes = await buildTarget(
      target,
      { to, isReplacing },
      { sizeBytes, logicalSectorBytes, physicalSectorBytes },
      { fs, random },
      (writer) => copyParts(context, parts, writer, sizeBytes),
    );
    output.result(
      {
        vm,
        point: flags.point,
        disk: diskIndex,
        format: to,
        out: flags.out,
        sizeBytes,
        writtenBytes,
      },
      () =>
        `${vm} disk ${diskIndex} -> ${flags.out} (${to}): ${formatSize(sizeBytes)}, ` +
        `${formatSize(writtenBytes)} of data`,
    );
  });
}

async function firstPart(parts: AsyncIterator<ReadDiskResponse>): Promise<DiskGeometry> {
  const first = await parts.next();
  const part = first.done === true ? undefined : first.value.part;
  if (part?.$case === 'geometry') return part.value;
  throw new DrError('E_PROTOCOL', 'the receiver did not begin with the size of the disk');
}

async function copyParts(
  { clock, output }: CliContext,
  parts: AsyncIterator<ReadDiskResponse>,
  writer: { write(offset: number, bytes: Uint8Array): Promise<void> },
  sizeBytes: number,
): Promise<number> {
  const bar = startProgress(output, clock, { label: 'export', total: sizeBytes });
  const underWay = new Set<Promise<void>>();
  let failure: { readonly error: unknown } | undefined;
  let writtenBytes = 0;
  let end = 0;
  try {
    for (;;) {
      const next = await parts.next();
      if (next.done === true) break;
      const { part } = next.value;
      if (part?.$case !== 'bytes') throw new DrError('E_PROTOCOL', 'a part holds no bytes');
      const offset = Number(part.value.offset);
      const { data } = part.value;
      if (offset < end || offset + data.length > sizeBytes) {
        throw new DrError('E_PROTOCOL', `bytes came for offset ${offset}, where none belong`);
      }
      end = offset + data.length;
      writtenBytes += data.length;
      const write: Promise<void> = writer
        .write(offset, data)
        .catch((error: unknown) => {
          failure ??= { error };
        })
        .then(() => {
          underWay.delete(write);
        });
      underWay.add(write);
      if (underWay.size >= WRITES_MAX) await Promise.race(underWay);
      if (failure !== undefined) throw failure.error;
      bar.set(end);
    }
  } finally {
    await Promise.all(underWay);
    bar.end();
  }
  if (failure !== undefined) throw failure.error;
  return writtenBytes;
}
