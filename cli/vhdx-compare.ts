// `hvdr vhdx compare` and `hvdr vhdx hash`: do two images hold the same guest bytes, and which bytes
// are these. What a user runs to believe a copy.

import path from 'node:path';
import type { Command } from 'commander';
import { compareDisks, hashDisk, type Difference } from '../shared/disk/index.js';
import { openImage } from '../shared/image/index.js';
import type { CliContext } from './context.js';
import { examples } from './examples.js';
import { startProgress } from './progress.js';
import { formatSize } from '../shared/sizes.js';

const EXIT_DIFFERENT = 1;
/** More differences than this are counted, not listed. */
const DIFFERENCES_LISTED = 100;

export function registerVhdxCompare(vhdx: Command, context: CliContext): void {
  vhdx
    .command('compare')
    .summary('compare the guest bytes of two images, raw or VHDX')
    .description(
      'Compares what a guest would read from two raw or VHDX files, through all parents, and lists\n' +
        `the ranges that differ on a 64 KiB grid. Ends with ${EXIT_DIFFERENT} when they differ.`,
    )
    .argument('<one>', 'a raw or VHDX file')
    .argument('<other>', 'a raw or VHDX file')
    .addHelpText('after', examples('hvdr vhdx compare disk.vhdx export.raw'))
    .action((one: string, other: string) => compare(context, one, other));
  vhdx
    .command('hash')
    .summary('SHA-256 of the guest bytes of an image, raw or VHDX')
    .description(
      'Prints the SHA-256 over all guest bytes, zeros included: what `sha256sum` says of the same\n' +
        'disk as a raw file. Holes are not read.',
    )
    .argument('<file>', 'a raw or VHDX file')
    .addHelpText('after', examples('hvdr vhdx hash disk.vhdx'))
    .action((file: string) => hash(context, file));
}

async function compare(context: CliContext, one: string, other: string): Promise<void> {
  const { files: fs, folder, random, output, clock } = context;
  const first = await openImage(fs, path.resolve(folder, one), { random });
  try {
    const second = await openImage(fs, path.resolve(folder, other), { random });
    const progress = startProgress(output, clock, { label: 'compare', total: first.sizeBytes });
    try {
      const listed: Difference[] = [];
      let count = 0;
      let differentBytes = 0;
      const onProgress = (position: number): void => progress.set(position);
      for await (const difference of compareDisks(first, second, { onProgress })) {
        count++;
        differentBytes += difference.end - difference.start;
        if (listed.length < DIFFERENCES_LISTED) listed.push(difference);
      }
      progress.end();
      const isEqual = count === 0;
      if (!isEqual) output.exitCode = EXIT_DIFFERENT;
      output.result(
        {
          one,
          other,
          isEqual,
          sizeBytes: first.sizeBytes,
          differentRanges: count,
          differentBytes,
          differences: listed.map(({ start, end, firstByte }) => ({ start, end, firstByte })),
        },
        () => {
          if (isEqual) return `${one} and ${other} hold the same ${formatSize(first.sizeBytes)}`;
          const lines = listed.map(
            ({ start, end, firstByte }) =>
              `${String(start).padStart(18)} ${String(end - start).padStart(18)}  first at ${firstByte}`,
          );
          const more = count > listed.length ? [`… ${count - listed.length} more`] : [];
          const sum = `${count} ranges differ, ${formatSize(differentBytes)} on the 64 KiB grid`;
          return [`${'start'.padStart(18)} ${'length'.padStart(18)}`, ...lines, ...more, sum].join(
            '\n',
          );
        },
      );
    } finally {
      await second.close();
    }
  } finally {
    await first.close();
  }
}

async function hash(context: CliContext, file: string): Promise<void> {
  const { files: fs, folder, random, output, clock } = context;
  const disk = await openImage(fs, path.resolve(folder, file), { random });
  try {
    const progress = startProgress(output, clock, { label: 'hash', total: disk.sizeBytes });
    const sha256 = await hashDisk(disk, { onProgress: (position) => progress.set(position) });
    progress.end();
    output.result({ file, sizeBytes: disk.sizeBytes, sha256 }, () => `${sha256}  ${file}`);
  } finally {
    await disk.close();
  }
}
