// Makes a real VHDX readable through the double of virtdisk.dll: the flat bytes of its chain and a sidecar are put beside it,
// as they are at this moment. For hosts of tests whose frozen disks are files of our engine.

import { open, writeFile } from 'node:fs/promises';
import type { Random } from '../../shared/clock.js';
import type { FileSystem } from '../../shared/files/index.js';
import type { ByteRange } from '../../shared/hypervisor/index.js';
import { describeVhdx, openVhdx } from '../../shared/vhdx/index.js';

/** The numbers of Windows for the types of our engine. */
const KINDS: Readonly<Record<string, number>> = { fixed: 2, dynamic: 3, differencing: 4 };
const STEP = 1024 * 1024;
/** The double reads lines of up to 64 KiB. */
const RANGES_PER_LINE = 500;

export interface MirrorOptions {
  readonly fs: FileSystem;
  readonly random: Random;
  /** By tracking id; an id that is not here is unknown. Without any, tracking is off. */
  readonly changes?: ReadonlyMap<string, readonly ByteRange[]>;
  /** More lines of the sidecar: `fail …`, `page …`. */
  readonly lines?: readonly string[];
}

function changeLines(id: string, ranges: readonly ByteRange[]): string[] {
  const lines = [`changes ${id}`];
  for (let at = 0; at < ranges.length; at += RANGES_PER_LINE) {
    const part = ranges.slice(at, at + RANGES_PER_LINE);
    const numbers = part.flatMap(({ start, end }) => [start, end - start]);
    lines.push(`changes ${id} ${numbers.join(' ')}`);
  }
  return lines;
}

export async function mirrorVhdx(path: string, options: MirrorOptions): Promise<void> {
  const { fs, random, changes, lines = [] } = options;
  const facts = await describeVhdx(path, { fs });
  const disk = await openVhdx(path, { fs, random });
  try {
    const image = await open(`${path}.image`, 'w');
    try {
      for await (const { start, end, kind } of disk.extents(0, disk.sizeBytes)) {
        if (kind === 'zero') continue;
        for (let at = start; at < end; at += STEP) {
          const bytes = Buffer.alloc(Math.min(STEP, end - at));
          await disk.read(at, bytes);
          await image.write(bytes, 0, bytes.length, at);
        }
      }
    } finally {
      await image.close();
    }
    const parent = disk.layers[1]?.path;
    const sidecar = [
      `size ${String(facts.sizeBytes)}`,
      `sectors ${String(facts.logicalSectorBytes)} ${String(facts.physicalSectorBytes)}`,
      `block ${String(facts.blockSizeBytes)}`,
      `id ${facts.diskId}`,
      `kind ${String(KINDS[facts.type] ?? 0)}`,
      ...(parent === undefined ? [] : [`parent ${parent}`]),
      `tracking ${changes === undefined ? '0' : '1'} 0 -`,
      ...[...(changes ?? [])].flatMap(([id, ranges]) => changeLines(id, ranges)),
      ...lines,
    ];
    await writeFile(`${path}.double`, `${sidecar.join('\n')}\n`);
  } finally {
    await disk.close();
  }
}
