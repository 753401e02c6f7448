// `hvdr vhdx map`: which ranges of a disk are stored, zero, or left to the parent. The list is
// written as it is found, because a large disk can have millions of extents.

import path from 'node:path';
import type { Command } from 'commander';
import type { Extent } from '../shared/disk/index.js';
import { openVhdx, VhdxFile } from '../shared/vhdx/index.js';
import type { CliContext } from './context.js';
import { examples } from './examples.js';
import { formatSize } from '../shared/sizes.js';

const KINDS = { data: 'allocated', zero: 'zero', parent: 'parent' } as const;
const BATCH_LINES = 1000;

export function registerVhdxMap(vhdx: Command, context: CliContext): void {
  vhdx
    .command('map')
    .summary('list what is allocated, zero, or left to the parent')
    .description(
      'Lists the ranges of the disk: allocated (stored in this file), zero, and, in a\n' +
        'differencing disk, parent (left to the parent). --chain looks through all parents instead.',
    )
    .argument('<file>', 'a VHDX file')
    .option('--chain', 'through the whole chain: what a guest sees, allocated or zero')
    .addHelpText('after', examples('hvdr vhdx map disk.vhdx', 'hvdr vhdx map disk.avhdx --chain'))
    .action(async (file: string, options: { chain?: true }) => {
      const { files: fs, folder, random } = context;
      const filePath = path.resolve(folder, file);
      // What one file holds is known without its parents, also when these are not there.
      const disk =
        options.chain === true
          ? await openVhdx(filePath, { fs, random })
          : await VhdxFile.open(filePath, { fs, random, isWritable: false });
      try {
        const sizeBytes = 'sizeBytes' in disk ? disk.sizeBytes : disk.geometry.sizeBytes;
        const extents = disk.extents(0, sizeBytes);
        if (context.output.json) await writeJson(context, file, sizeBytes, extents);
        else await writeText(context, extents);
      } finally {
        await disk.close();
      }
    });
}

async function writeJson(
  { output }: CliContext,
  file: string,
  sizeBytes: number,
  extents: AsyncIterable<Extent>,
): Promise<void> {
  const head = `{\n  "file": ${JSON.stringify(file)},\n  "sizeBytes": ${sizeBytes},\n  "extents": [`;
  const write = lineWriter(output);
  let separator = '\n';
  await write(head);
  const totals = { allocated: 0, zero: 0, parent: 0 };
  for await (const { start, end, kind } of extents) {
    const extent = { start, length: end - start, kind: KINDS[kind] };
    totals[extent.kind] += extent.length;
    await write(`${separator}    ${JSON.stringify(extent)}`);
    separator = ',\n';
  }
  await write(`\n  ],\n  "totals": ${JSON.stringify(totals)}\n}\n`, true);
}

async function writeText({ output }: CliContext, extents: AsyncIterable<Extent>): Promise<void> {
  const write = lineWriter(output);
  const totals = { allocated: 0, zero: 0, parent: 0 };
  await write(`${'start'.padStart(18)} ${'length'.padStart(18)}  kind\n`);
  for await (const { start, end, kind } of extents) {
    totals[KINDS[kind]] += end - start;
    const columns = [start, end - start].map((value) => String(value).padStart(18));
    await write(`${columns.join(' ')}  ${KINDS[kind]}\n`);
  }
  const sums = Object.entries(totals).map(([kind, bytes]) => `${kind} ${formatSize(bytes)}`);
  await write(`${sums.join(', ')}\n`, true);
}

/** Hands text to stdout in batches. */
function lineWriter(
  output: CliContext['output'],
): (text: string, isLast?: boolean) => Promise<void> {
  let lines: string[] = [];
  return async (text, isLast = false) => {
    lines.push(text);
    if (lines.length < BATCH_LINES && !isLast) return;
    const batch = Buffer.from(lines.join(''));
    lines = [];
    await output.bytes(batch);
  };
}
