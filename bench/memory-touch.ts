// A virtual machine often gets its memory from the host at the first touch of each page, and gives
// free pages back a few seconds after they became free. The first use of a page then costs ten times
// the later ones, and whoever writes a file after a pause pays for it: 2.4 s in place of 0.25 s for a
// GiB of page cache, seen where this was written. So just before each measurement as many pages as
// the work may need are used and freed again; the kernel hands out first what was freed last.

import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { GIB, MIB } from './bench.js';
import { writeSparseFile } from './data.js';
import { perform } from './measure.js';
import { cat } from './peers.js';
import { parseMemoryFree } from './process-facts.js';

/** Left alone, for whatever else the machine does. */
const RESERVE_BYTES = GIB;

/** Touches `lengthBytes` of free memory, or what there is of it. */
export async function touchFreeMemory(folder: string, lengthBytes: number): Promise<void> {
  const freeBytes = parseMemoryFree(readFileSync('/proc/meminfo', 'utf8')) ?? 0;
  const touchBytes = Math.floor(Math.min(lengthBytes, freeBytes - RESERVE_BYTES) / MIB) * MIB;
  if (touchBytes <= 0) return;
  const path = join(folder, 'touch');
  writeSparseFile(path, touchBytes);
  try {
    // holes are read through the page cache like data
    await perform(cat(path));
  } finally {
    await rm(path);
  }
}
