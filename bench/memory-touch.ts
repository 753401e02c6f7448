// A virtual machine often gets its memory from the host at the first touch of each page, which costs
// ten times the use of a page that is there. Whoever wrote a file first would pay that for all who
// come later. So every free page is used once, through the page cache, before anything is measured.

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

/** Takes about a second for each GiB, on some hosts three. */
export async function touchFreeMemory(folder: string): Promise<void> {
  const freeBytes = parseMemoryFree(readFileSync('/proc/meminfo', 'utf8')) ?? 0;
  const lengthBytes = Math.floor((freeBytes - RESERVE_BYTES) / MIB) * MIB;
  if (lengthBytes <= 0) return;
  const path = join(folder, 'touch');
  writeSparseFile(path, lengthBytes);
  try {
    // holes are read through the page cache like data
    await perform(cat(path));
  } finally {
    await rm(path);
  }
}
