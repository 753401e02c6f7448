// The files of a store, looked at from outside and damaged on purpose.

import { closeSync, openSync, readSync, statSync, writeSync } from 'node:fs';
import path from 'node:path';
import type { CliContext } from './context.js';
import { unexpected } from './demo-sites.js';

type Files = CliContext['files'];

/** What st_blocks counts, on every system. */
const STAT_BLOCK_BYTES = 512;

/** Bytes of all files below a folder. Files may come and go meanwhile. */
export async function sizeBelow(files: Files, folder: string): Promise<number> {
  let sum = 0;
  for (const file of await filesBelow(files, folder)) {
    sum += (await files.status(file))?.sizeBytes ?? 0;
  }
  return sum;
}

/** Bytes that the file system keeps for all files below a folder: holes take none. */
export async function allocatedBelow(files: Files, folder: string): Promise<number> {
  let sum = 0;
  for (const file of await filesBelow(files, folder)) {
    sum += (statSync(file, { throwIfNoEntry: false })?.blocks ?? 0) * STAT_BLOCK_BYTES;
  }
  return sum;
}

async function filesBelow(files: Files, folder: string): Promise<string[]> {
  const found: string[] = [];
  const names = await files.list(folder).catch(() => []);
  for (const name of names) {
    const place = path.join(folder, name);
    const status = await files.status(place);
    if (status?.kind === 'folder') found.push(...(await filesBelow(files, place)));
    else if (status !== undefined) found.push(place);
  }
  return found;
}

export async function largestDelta(files: Files, folder: string): Promise<string> {
  let largest: { readonly place: string; readonly sizeBytes: number } | undefined;
  for (const place of await filesBelow(files, folder)) {
    if (!place.endsWith('.delta')) continue;
    const sizeBytes = (await files.status(place))?.sizeBytes ?? 0;
    if (sizeBytes > (largest?.sizeBytes ?? 0)) largest = { place, sizeBytes };
  }
  if (largest === undefined) throw unexpected('the store');
  return largest.place;
}

export function flipByte(file: string): void {
  const position = Math.floor(statSync(file).size / 2);
  const handle = openSync(file, 'r+');
  try {
    const byte = Buffer.alloc(1);
    readSync(handle, byte, 0, 1, position);
    byte.writeUInt8(byte.readUInt8(0) ^ 0x01);
    writeSync(handle, byte, 0, 1, position);
  } finally {
    closeSync(handle);
  }
}
