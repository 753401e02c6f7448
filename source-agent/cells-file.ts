// The file that holds the sets of a ledger (docs/source-agent.md "Files"). Little-endian:
//
//   header, 16 bytes   magic "HVDRDRTY" · version u32 = 1 · number of sets u32
//   then each set:     pages, ascending: index u32 · length u16 · kind u8 (0 runs, 1 bitmap) · 0 u8
//                      and the page's bytes: runs as pairs of u16 (first and last cell within the
//                      page), or a bitmap of 8 KiB; a set ends with the index 0xffffffff alone
//
// A page is 65536 cells. It takes the smaller form, so a set costs at most one bit per cell of the
// disk. The ledger's JSON names the file with its length and SHA-256: the two belong together or
// neither is used. Written in one pass, read in one; never whole in memory.

import { createHash } from 'node:crypto';
import { assert } from '../shared/assert.js';
import { ByteReader, CellSet, fileChunks } from '../shared/delta/index.js';
import { DrError } from '../shared/errors.js';
import type { BlockFile, FileSystem } from '../shared/files/index.js';

const MAGIC = Buffer.from('HVDRDRTY', 'latin1');
const VERSION = 1;
const PAGE_CELLS = 65536;
const BITMAP_BYTES = PAGE_CELLS / 8;
const END_OF_SET = 0xffffffff;
const KIND_RUNS = 0;
const KIND_BITMAP = 1;
const CHUNK_BYTES = 256 * 1024;
/** Pages of the largest disk, 64 TiB. */
const PAGES_MAX = 16384;
export const SETS_MAX = 65536;

export interface CellsFileFacts {
  readonly sizeBytes: number;
  /** Hexadecimal SHA-256 of the whole file. */
  readonly digest: string;
}

/** Writes the sets to a new file; its bytes are durable on return, its name is not. */
export async function writeCellsFile(
  fs: FileSystem,
  path: string,
  sets: readonly CellSet[],
): Promise<CellsFileFacts> {
  assert(sets.length <= SETS_MAX, 'a ledger has a bounded number of sets');
  const digest = createHash('sha256');
  const file = await fs.open(path, { mode: 'create' });
  let position = 0;
  let parts: Buffer[] = [];
  let gathered = 0;
  const flushParts = async (): Promise<void> => {
    if (gathered === 0) return;
    const chunk = Buffer.concat(parts);
    parts = [];
    gathered = 0;
    digest.update(chunk);
    await file.write(position, chunk);
    position += chunk.length;
  };
  try {
    for (const part of encodeSets(sets)) {
      parts.push(part);
      gathered += part.length;
      if (gathered >= CHUNK_BYTES) await flushParts();
    }
    await flushParts();
    await file.flush();
  } finally {
    await file.close();
  }
  return { sizeBytes: position, digest: digest.digest('hex') };
}

function* encodeSets(sets: readonly CellSet[]): Generator<Buffer> {
  const header = Buffer.alloc(16);
  MAGIC.copy(header);
  header.writeUInt32LE(VERSION, 8);
  header.writeUInt32LE(sets.length, 12);
  yield header;
  for (const set of sets) {
    yield* encodeSet(set);
    const end = Buffer.alloc(4);
    end.writeUInt32LE(END_OF_SET);
    yield end;
  }
}

function* encodeSet(set: CellSet): Generator<Buffer> {
  let page = -1;
  let runs: number[] = [];
  for (const { start, end } of set.pageRanges()) {
    const index = Math.floor(start / PAGE_CELLS);
    if (index !== page) {
      if (page >= 0) yield encodePage(page, runs);
      page = index;
      runs = [];
    }
    runs.push(start % PAGE_CELLS, (end - 1) % PAGE_CELLS);
  }
  if (page >= 0) yield encodePage(page, runs);
}

function encodePage(index: number, runs: readonly number[]): Buffer {
  const isBitmap = runs.length * 2 >= BITMAP_BYTES;
  const lengthBytes = isBitmap ? BITMAP_BYTES : runs.length * 2;
  const out = Buffer.alloc(8 + lengthBytes);
  out.writeUInt32LE(index, 0);
  out.writeUInt16LE(lengthBytes, 4);
  out.writeUInt8(isBitmap ? KIND_BITMAP : KIND_RUNS, 6);
  if (isBitmap) {
    for (let i = 0; i + 1 < runs.length; i += 2) {
      for (let bit = runs[i] ?? 0; bit <= (runs[i + 1] ?? 0); bit++) {
        const at = 8 + (bit >>> 3);
        out[at] = (out[at] ?? 0) | (1 << (bit & 7));
      }
    }
  } else {
    for (const [at, value] of runs.entries()) out.writeUInt16LE(value, 8 + at * 2);
  }
  return out;
}

/**
 * The sets of a file, checked against what the ledger says of it.
 * @throws DrError E_FILE_DAMAGED for any difference, E_NOT_FOUND
 */
export async function readCellsFile(
  fs: FileSystem,
  path: string,
  facts: CellsFileFacts,
): Promise<CellSet[]> {
  const file = await fs.open(path, { mode: 'read', lock: 'none' });
  try {
    const sizeBytes = await file.size();
    if (sizeBytes !== facts.sizeBytes) {
      throw damaged(path, `it has ${sizeBytes} bytes, its ledger says ${facts.sizeBytes}`);
    }
    await checkDigest(file, facts.digest);
    return await parseSets(file);
  } finally {
    await file.close();
  }
}

async function checkDigest(file: BlockFile, expected: string): Promise<void> {
  const digest = createHash('sha256');
  for await (const chunk of fileChunks(file)) digest.update(chunk);
  if (digest.digest('hex') !== expected) {
    throw damaged(file.path, 'its SHA-256 is not the one that its ledger names');
  }
}

async function parseSets(file: BlockFile): Promise<CellSet[]> {
  const reader = new ByteReader(fileChunks(file));
  const exactly = async (lengthBytes: number): Promise<Buffer> => {
    const bytes = Buffer.alloc(lengthBytes);
    const got = await reader.read(bytes);
    if (got !== lengthBytes) throw damaged(file.path, 'it ends too early');
    return bytes;
  };
  try {
    const header = await exactly(16);
    if (!header.subarray(0, 8).equals(MAGIC)) throw damaged(file.path, 'it holds no cells');
    const version = header.readUInt32LE(8);
    if (version !== VERSION) {
      throw new DrError(
        'E_FILE_VERSION',
        `${file.path} has version ${version}; this program knows ${VERSION}`,
        { context: { path: file.path, version } },
      );
    }
    const count = header.readUInt32LE(12);
    if (count > SETS_MAX) throw damaged(file.path, `it claims ${count} sets`);
    const sets: CellSet[] = [];
    for (let i = 0; i < count; i++) sets.push(await parseSet(exactly, file.path));
    if (!(await reader.isAtEnd())) throw damaged(file.path, 'bytes follow the last set');
    return sets;
  } finally {
    await reader.close();
  }
}

async function parseSet(
  exactly: (lengthBytes: number) => Promise<Buffer>,
  path: string,
): Promise<CellSet> {
  const set = new CellSet();
  let previous = -1;
  for (;;) {
    const index = (await exactly(4)).readUInt32LE(0);
    if (index === END_OF_SET) return set;
    if (index <= previous || index >= PAGES_MAX) throw damaged(path, `page ${index} is not legal`);
    previous = index;
    const head = await exactly(4);
    const lengthBytes = head.readUInt16LE(0);
    const kind = head.readUInt8(2);
    const page = await exactly(lengthBytes);
    if (kind === KIND_BITMAP && lengthBytes === BITMAP_BYTES) addBitmap(set, index, page);
    else if (kind === KIND_RUNS && lengthBytes % 4 === 0 && lengthBytes <= BITMAP_BYTES) {
      addRuns(set, index, page, path);
    } else throw damaged(path, `page ${index} has no known form`);
  }
}

function addRuns(set: CellSet, index: number, page: Buffer, path: string): void {
  let next = 0;
  for (let at = 0; at < page.length; at += 4) {
    const first = page.readUInt16LE(at);
    const last = page.readUInt16LE(at + 2);
    if (first < next || last < first) throw damaged(path, `page ${index} is not in order`);
    set.add(index * PAGE_CELLS + first, index * PAGE_CELLS + last + 1);
    next = last + 1;
  }
}

function addBitmap(set: CellSet, index: number, page: Buffer): void {
  let start = -1;
  for (let bit = 0; bit <= PAGE_CELLS; bit++) {
    const isSet = bit < PAGE_CELLS && ((page[bit >>> 3] ?? 0) & (1 << (bit & 7))) !== 0;
    if (isSet && start < 0) start = bit;
    if (!isSet && start >= 0) {
      set.add(index * PAGE_CELLS + start, index * PAGE_CELLS + bit);
      start = -1;
    }
  }
}

function damaged(path: string, why: string): DrError {
  return new DrError('E_FILE_DAMAGED', `${path} cannot be used: ${why}`, { context: { path } });
}
