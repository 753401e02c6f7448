// Whether protective files have room beside the disks of the primary, before cells travel.

import { dirname } from 'node:path';
import { CELL_BYTES, type CellSet, touchedMib } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';

/** Heads, log and tables of one file, and what a running guest needs at the very least. */
const SPARE_BYTES = 16 * 1024 * 1024;
const MIB = 1024 * 1024;

export interface Growth {
  readonly file: string;
  /** What comes into it, as far as it is known here. */
  readonly cells: CellSet;
  /** Known at the other site only. */
  readonly besides?: { readonly cellCount: number; readonly touchedMib: number } | undefined;
}

/** No error where the file system does not tell its room. @throws DrError E_CAPACITY, E_IO */
export async function requireRoom(files: readonly Growth[], fs: FileSystem): Promise<void> {
  const needs = new Map<string, number>();
  for (const { file, cells, besides } of files) {
    const folder = dirname(file);
    const own = isHoleFree() ? cells.count * CELL_BYTES : touchedMib(cells) * MIB;
    const others = isHoleFree()
      ? (besides?.cellCount ?? 0) * CELL_BYTES
      : (besides?.touchedMib ?? 0) * MIB;
    needs.set(folder, (needs.get(folder) ?? 0) + own + others + SPARE_BYTES);
  }
  for (const [folder, needBytes] of needs) {
    const haveBytes = await fs.freeBytes(folder);
    if (haveBytes === undefined || needBytes <= haveBytes) continue;
    throw new DrError(
      'E_CAPACITY',
      `a failback needs ${needBytes} bytes in ${folder}, which has ${haveBytes}`,
      {
        context: { folder, needBytes, haveBytes },
        done: 'no cell was fetched',
        hint: 'Make room beside the disks of the primary, then `hvdr resume VM`.',
      },
    );
  }
}

/** Where parts of a block that were never written take no room. */
function isHoleFree(): boolean {
  return process.platform !== 'win32';
}
