// Disks, deltas and manifests for the tests of this area, and a disk double that stands apart from
// the product's disks: a buffer, and a map of the 4 KiB pages that were ever written.

import { expect } from 'chai';

import { guid, ZERO_GUID } from '../../../shared/bytes/index.js';
import {
  applyDelta,
  cellCount,
  cellLength,
  CELL_BYTES,
  diffDisks,
  encodeDelta,
  hashCell,
  ManifestFile,
  type ManifestHeader,
  type ManifestRecord,
  ManifestWriter,
} from '../../../shared/delta/index.js';
import { type Extent, isAllZero, type WritableDisk } from '../../../shared/disk/index.js';
import { DrError, type ErrorCode } from '../../../shared/errors.js';
import type { BlockFile } from '../../../shared/files/index.js';
import { MemoryFileSystem } from '../../support/memory-file.js';

const PAGE_BYTES = 4096;

/** A disk in memory that counts what is asked of it. */
export class BufferDisk implements WritableDisk {
  readonly sizeBytes: number;
  readonly logicalSectorBytes = 512;
  readonly physicalSectorBytes = 4096;
  readonly bytes: Buffer;
  readonly #isStored: boolean[];
  readBytes = 0;
  writtenBytes = 0;
  zeroedBytes = 0;
  flushCount = 0;
  /** Called before each write, zero and flush; may throw. */
  beforeChange: (what: 'write' | 'zero' | 'flush') => void = () => undefined;

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
    this.bytes = Buffer.alloc(sizeBytes);
    this.#isStored = new Array<boolean>(Math.ceil(sizeBytes / PAGE_BYTES)).fill(false);
  }

  static of(bytes: Uint8Array): BufferDisk {
    const disk = new BufferDisk(bytes.length);
    disk.bytes.set(bytes);
    for (let page = 0; page < disk.#isStored.length; page++) {
      const start = page * PAGE_BYTES;
      disk.#isStored[page] = !isAllZero(disk.bytes.subarray(start, start + PAGE_BYTES));
    }
    return disk;
  }

  #mark(offset: number, lengthBytes: number): void {
    expect(offset >= 0 && offset + lengthBytes <= this.sizeBytes).to.equal(true);
    const last = Math.ceil((offset + lengthBytes) / PAGE_BYTES);
    for (let page = Math.floor(offset / PAGE_BYTES); page < last; page++) {
      this.#isStored[page] = true;
    }
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    await Promise.resolve();
    expect(offset >= 0 && offset + target.length <= this.sizeBytes).to.equal(true);
    target.set(this.bytes.subarray(offset, offset + target.length));
    this.readBytes += target.length;
  }

  async *extents(start: number, end: number): AsyncGenerator<Extent> {
    await Promise.resolve();
    let open: Extent | undefined;
    for (let at = start; at < end;) {
      const page = Math.floor(at / PAGE_BYTES);
      const kind = this.#isStored[page] === true ? 'data' : 'zero';
      const next = Math.min(end, (page + 1) * PAGE_BYTES);
      if (open?.kind === kind) {
        open = { ...open, end: next };
      } else {
        if (open !== undefined) yield open;
        open = { start: at, end: next, kind };
      }
      at = next;
    }
    if (open !== undefined) yield open;
  }

  async write(offset: number, source: Uint8Array): Promise<void> {
    this.beforeChange('write');
    await Promise.resolve();
    this.#mark(offset, source.length);
    this.bytes.set(source, offset);
    this.writtenBytes += source.length;
  }

  async zero(offset: number, lengthBytes: number): Promise<void> {
    this.beforeChange('zero');
    await Promise.resolve();
    this.#mark(offset, lengthBytes);
    this.bytes.fill(0, offset, offset + lengthBytes);
    this.zeroedBytes += lengthBytes;
  }

  async flush(): Promise<void> {
    this.beforeChange('flush');
    await Promise.resolve();
    this.flushCount++;
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }
}

export function testGuid(n: number): ManifestHeader['point'] {
  return guid(`00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`);
}

/** The header of the delta that leads from point `n - 1` to point `n`. */
export function testHeader(diskSizeBytes: number, n = 1): ManifestHeader {
  return {
    kind: 'delta',
    point: testGuid(n),
    parentPoint: n === 0 ? ZERO_GUID : testGuid(n - 1),
    vmId: testGuid(1000),
    diskId: testGuid(1001),
    diskGeneration: 1,
    diskSizeBytes,
    logicalSectorBytes: 512,
    physicalSectorBytes: 4096,
    epoch: 7n,
  };
}

/** The header of the manifest of a base at point `n`. */
export function testBaseHeader(diskSizeBytes: number, n = 0): ManifestHeader {
  return { ...testHeader(diskSizeBytes, n), kind: 'base', parentPoint: ZERO_GUID };
}

export interface TestBlock {
  readonly offset: number | bigint;
  /** Default: the length of the data. */
  readonly length?: number | bigint;
  readonly data: Uint8Array;
}

/** A PCBT file made without the product's writer, so that it can be wrong on purpose. */
export function pcbtBytes(
  blocks: readonly TestBlock[],
  header: { magic?: string; version?: number; count?: number; reserved?: number } = {},
): Buffer {
  const head = Buffer.alloc(16);
  head.write(header.magic ?? 'PCBT', 0, 'latin1');
  head.writeUInt32LE(header.version ?? 1, 4);
  head.writeUInt32LE(header.count ?? blocks.length, 8);
  head.writeUInt32LE(header.reserved ?? 0, 12);
  const parts: Uint8Array[] = [head];
  for (const block of blocks) {
    const entry = Buffer.alloc(16);
    entry.writeBigUInt64LE(BigInt(block.offset), 0);
    entry.writeBigUInt64LE(BigInt(block.length ?? block.data.length), 8);
    parts.push(entry, block.data);
  }
  return Buffer.concat(parts);
}

/** The naive reading of a PCBT file: its blocks laid over a disk. */
export function naiveApply(disk: Uint8Array, pcbt: Buffer): Buffer {
  const out = Buffer.from(disk);
  let at = 16;
  for (let block = 0; block < pcbt.readUInt32LE(8); block++) {
    const offset = Number(pcbt.readBigUInt64LE(at));
    const length = Number(pcbt.readBigUInt64LE(at + 8));
    pcbt.copy(out, offset, at + 16, at + 16 + length);
    at += 16 + length;
  }
  return out;
}

export async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const chunk of chunks) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts);
}

export async function* chunked(bytes: Uint8Array, chunkBytes: number): AsyncGenerator<Uint8Array> {
  await Promise.resolve();
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    yield Buffer.from(bytes.subarray(at, at + chunkBytes));
  }
}

/** The bytes as an open file. */
export async function asFile(bytes: Uint8Array, name = '/f'): Promise<BlockFile> {
  const fs = new MemoryFileSystem();
  fs.put(name, bytes);
  return fs.open(name, { mode: 'read' });
}

export async function manifestBytes(
  header: ManifestHeader,
  records: readonly ManifestRecord[],
): Promise<Buffer> {
  const parts: Buffer[] = [];
  const writer = new ManifestWriter(header, async (chunk) => {
    await Promise.resolve();
    parts.push(Buffer.from(chunk));
  });
  for (const record of records) await writer.add(record);
  await writer.finish();
  return Buffer.concat(parts);
}

export async function manifestOf(bytes: Uint8Array): Promise<ManifestFile> {
  return ManifestFile.open(await asFile(bytes, '/m'));
}

export interface TestDelta {
  readonly pcbt: Buffer;
  readonly manifest: Buffer;
}

/** The delta between two disks by the product's own writer. */
export async function deltaBetween(
  before: Uint8Array | undefined,
  after: Uint8Array,
  header: ManifestHeader = testHeader(after.length),
): Promise<TestDelta> {
  const newDisk = BufferDisk.of(after);
  const plan = await diffDisks(before && BufferDisk.of(before), newDisk);
  const parts: Buffer[] = [];
  const writer = new ManifestWriter(header, async (chunk) => {
    await Promise.resolve();
    parts.push(Buffer.from(chunk));
  });
  const pcbt = await collect(encodeDelta(newDisk, plan, { manifest: writer }));
  await writer.finish();
  return { pcbt, manifest: Buffer.concat(parts) };
}

/** What a manifest of the delta between two disks has to list, by the naive model. */
export function naiveRecords(before: Buffer, after: Buffer): ManifestRecord[] {
  const records: ManifestRecord[] = [];
  for (let cell = 0; cell < cellCount(after.length); cell++) {
    const start = cell * CELL_BYTES;
    const end = start + cellLength(cell, after.length);
    const bytes = after.subarray(start, end);
    if (Buffer.compare(before.subarray(start, end), bytes) === 0) continue;
    const last = records.at(-1);
    if (!isAllZero(bytes)) {
      records.push({ kind: 'data', cell, hash: hashCell(bytes) });
    } else if (last?.kind === 'zero' && last.cell + last.count === cell) {
      records[records.length - 1] = { ...last, count: last.count + 1 };
    } else {
      records.push({ kind: 'zero', cell, count: 1 });
    }
  }
  return records;
}

/** Applies a delta file to a copy of `before` and returns the bytes. */
export async function applied(before: Uint8Array, delta: TestDelta): Promise<Buffer> {
  const target = BufferDisk.of(before);
  const file = await asFile(delta.pcbt);
  const manifest = await manifestOf(delta.manifest);
  await applyDelta({ kind: 'file', file }, target, { manifest });
  return target.bytes;
}

/** Runs `action`, which has to fail with a DrError of this code, and returns the error. */
export async function refusal(code: ErrorCode, action: () => Promise<unknown>): Promise<DrError> {
  let caught: unknown;
  try {
    await action();
  } catch (error) {
    caught = error;
  }
  if (!(caught instanceof DrError)) throw new Error(`expected ${code}, got ${String(caught)}`);
  expect(caught.code, caught.line).to.equal(code);
  return caught;
}

/** Reproducible bytes, none of them zero. */
export function pattern(lengthBytes: number, seed: number): Buffer {
  const out = Buffer.alloc(lengthBytes);
  let state = seed * 2654435761 + 1;
  for (let i = 0; i < lengthBytes; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    out[i] = 1 + ((state >>> 16) % 255);
  }
  return out;
}
