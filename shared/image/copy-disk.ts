// The loop under convert and export: a disk read ahead in large pieces, zeros left out on the 64 KiB
// grid, the rest written with several writes under way. The target must read as zeros before.

import { readAhead, zeroRuns, type Piece, type ReadableDisk } from '../disk/index.js';

const PIECE_BYTES = 1024 * 1024;
/** Read ahead and being written together: 12 MiB, whatever the size of the disk. */
const DEPTH = 12;

/** Takes data in ascending order; several calls may be under way. */
export interface CopyTarget {
  write(offset: number, bytes: Uint8Array): Promise<void>;
}

export interface CopyProgress {
  /** Guest bytes dealt with so far, zeros included. */
  readonly position: number;
  readonly sizeBytes: number;
}

export interface CopyOptions {
  readonly onProgress?: ((progress: CopyProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Copies everything that is not zero. Nothing is durable on return; all buffers are free again.
 * @returns bytes written. @throws what the source or the target throws, or the signal's reason
 */
export async function copyNonZero(
  source: ReadableDisk,
  target: CopyTarget,
  { onProgress, signal }: CopyOptions = {},
): Promise<number> {
  const { sizeBytes } = source;
  const underWay = new Set<Promise<void>>();
  let failure: { readonly error: unknown } | undefined;
  let writtenBytes = 0;

  const begin = (piece: Piece, bytes: Buffer): void => {
    const writes: Promise<void>[] = [];
    for (const run of zeroRuns(bytes, piece.offset)) {
      if (run.isZero) continue;
      writtenBytes += run.end - run.start;
      writes.push(target.write(piece.offset + run.start, bytes.subarray(run.start, run.end)));
    }
    const whole = Promise.allSettled(writes).then((results) => {
      for (const result of results) {
        if (result.status === 'rejected') failure ??= { error: result.reason };
      }
      piece.release();
      underWay.delete(whole);
    });
    underWay.add(whole);
  };

  try {
    for await (const piece of readAhead(source, { pieceBytes: PIECE_BYTES, depth: DEPTH })) {
      signal?.throwIfAborted();
      if (failure !== undefined) throw failure.error;
      if (piece.bytes !== undefined) begin(piece, piece.bytes);
      onProgress?.({ position: piece.offset + piece.lengthBytes, sizeBytes });
    }
  } finally {
    await Promise.allSettled(underWay);
  }
  if (failure !== undefined) throw failure.error;
  return writtenBytes;
}
