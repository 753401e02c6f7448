// Input data of the benches: random to every compressor and hash, yet the same in each run, since
// all of it follows from a seed. Deltas are written here byte by byte (PCBT version 1) and not with
// our own writer, so that a bench of `apply` does not rest on the code that it measures.

import { createCipheriv, createHash } from 'node:crypto';
import { closeSync, fdatasyncSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { assert } from '../shared/assert.js';
import { KIB, MIB } from './bench.js';

export const CELL_BYTES = 64 * KIB;
const PIECE_BYTES = 4 * MIB;

/** A half-open run of guest bytes that a delta replaces. */
export interface Run {
  readonly offset: number;
  readonly lengthBytes: number;
}

/** An endless stream of random bytes that follows from `seed`. */
export class RandomBytes {
  readonly #cipher;
  readonly #zeros = Buffer.alloc(PIECE_BYTES);

  constructor(seed: string) {
    const key = createHash('sha256').update(seed).digest();
    this.#cipher = createCipheriv('aes-128-ctr', key.subarray(0, 16), key.subarray(16));
  }

  next(lengthBytes: number): Buffer {
    assert(lengthBytes <= PIECE_BYTES, 'random bytes come in pieces');
    return this.#cipher.update(this.#zeros.subarray(0, lengthBytes));
  }

  /** A whole number in [0, limit). */
  below(limit: number): number {
    // 48 bits over a limit below 2^32: the bias is under one in 65,000
    return this.next(6).readUIntLE(0, 6) % limit;
  }
}

/** Writes a new file of random bytes, durable on return. */
export function writeRandomFile(path: string, sizeBytes: number, seed: string): void {
  const random = new RandomBytes(seed);
  withFile(path, 'w', (descriptor) => {
    for (let position = 0; position < sizeBytes; position += PIECE_BYTES) {
      const piece = random.next(Math.min(PIECE_BYTES, sizeBytes - position));
      writeSync(descriptor, piece, 0, piece.length, position);
    }
  });
}

/**
 * Writes a new file of which half are holes, a quarter random bytes and a quarter text that
 * compresses two to one, in turns of 4 MiB; durable on return.
 */
export function writeMixedFile(path: string, sizeBytes: number, seed: string): void {
  const random = new RandomBytes(seed);
  withFile(path, 'w', (descriptor) => {
    ftruncateSync(descriptor, sizeBytes);
    for (let index = 0; index * PIECE_BYTES < sizeBytes; index += 2) {
      const position = index * PIECE_BYTES;
      const lengthBytes = Math.min(PIECE_BYTES, sizeBytes - position);
      const piece =
        index % 4 === 0
          ? random.next(lengthBytes)
          : Buffer.from(random.next(lengthBytes / 2).toString('hex'), 'latin1');
      writeSync(descriptor, piece, 0, piece.length, position);
    }
  });
}

/** Makes a new file of zeros without storing any, durable on return. */
export function writeSparseFile(path: string, sizeBytes: number): void {
  withFile(path, 'w', (descriptor) => ftruncateSync(descriptor, sizeBytes));
}

/**
 * `count` different cells of a disk with `cellCount` cells, ascending: drawn from all of them, so
 * that some touch by chance, as those of a real guest do.
 */
export function scatteredCells(count: number, cellCount: number, seed: string): Run[] {
  assert(count <= cellCount, 'a disk has enough cells');
  const random = new RandomBytes(seed);
  const chosen = new Set<number>();
  while (chosen.size < count) chosen.add(random.below(cellCount));
  return [...chosen]
    .toSorted((left, right) => left - right)
    .map((cell) => ({ offset: cell * CELL_BYTES, lengthBytes: CELL_BYTES }));
}

/** `count` runs of `lengthBytes` at even distances over a disk, the last one at its end. */
export function evenRuns(count: number, lengthBytes: number, diskBytes: number): Run[] {
  const places = diskBytes / lengthBytes;
  assert(Number.isInteger(places) && count <= places, 'the runs fit the disk');
  const step = count === 1 ? 0 : (places - 1) / (count - 1);
  return Array.from({ length: count }, (_, index) => ({
    offset: Math.floor(index * step) * lengthBytes,
    lengthBytes,
  }));
}

/** Writes the delta that replaces `runs` with random bytes (PCBT version 1); durable on return. */
export function writeDelta(path: string, runs: readonly Run[], seed: string): void {
  const random = new RandomBytes(seed);
  withFile(path, 'w', (descriptor) => {
    const header = Buffer.alloc(16);
    header.write('PCBT', 0, 'latin1');
    header.writeUInt32LE(1, 4);
    header.writeUInt32LE(runs.length, 8);
    writeSync(descriptor, header);
    const entry = Buffer.alloc(16);
    for (const { offset, lengthBytes } of runs) {
      entry.writeBigUInt64LE(BigInt(offset), 0);
      entry.writeBigUInt64LE(BigInt(lengthBytes), 8);
      writeSync(descriptor, entry);
      for (let done = 0; done < lengthBytes; done += PIECE_BYTES) {
        writeSync(descriptor, random.next(Math.min(PIECE_BYTES, lengthBytes - done)));
      }
    }
  });
}

/** Overwrites `runs` of an existing raw file with the bytes of writeDelta() of the same seed. */
export function writeRuns(path: string, runs: readonly Run[], seed: string): void {
  const random = new RandomBytes(seed);
  withFile(path, 'r+', (descriptor) => {
    for (const { offset, lengthBytes } of runs) {
      for (let done = 0; done < lengthBytes; done += PIECE_BYTES) {
        const piece = random.next(Math.min(PIECE_BYTES, lengthBytes - done));
        writeSync(descriptor, piece, 0, piece.length, offset + done);
      }
    }
  });
}

/** Overwrites `runs` of an existing raw file with what stands there in `source`. */
export function copyRuns(source: string, path: string, runs: readonly Run[]): void {
  const buffer = Buffer.alloc(PIECE_BYTES);
  withFile(source, 'r', (from) => {
    withFile(path, 'r+', (descriptor) => {
      for (const { offset, lengthBytes } of runs) {
        for (let done = 0; done < lengthBytes; done += PIECE_BYTES) {
          const count = Math.min(PIECE_BYTES, lengthBytes - done);
          assert(
            readSync(from, buffer, 0, count, offset + done) === count,
            'the runs fit the file',
          );
          writeSync(descriptor, buffer, 0, count, offset + done);
        }
      }
    });
  });
}

function withFile(path: string, flags: string, work: (descriptor: number) => void): void {
  const descriptor = openSync(path, flags);
  try {
    work(descriptor);
    fdatasyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
