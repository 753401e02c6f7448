// Which cells of a disk differ from what the other side tells of them by its hashes. Reads what the disk
// does not know to be zero; memory is a few pieces.

import { CELL_BYTES, cellCount, hashCell, readCells } from '../shared/delta/index.js';
import { isAllZero, type Piece, type ReadableDisk } from '../shared/disk/index.js';
import type { RemoteHashes } from './remote-hashes.js';

export interface CompareOptions {
  readonly signal: AbortSignal;
  /** In ascending order, each cell once; `theirs` is undefined where the other side has zeros. */
  readonly onDiffers: (cell: number, theirs: Buffer | undefined) => void;
  readonly onCompared?: ((bytes: number) => void) | undefined;
}

export async function compareCells(
  disk: ReadableDisk,
  remote: RemoteHashes,
  { signal, onDiffers, onCompared }: CompareOptions,
): Promise<void> {
  const end = cellCount(disk.sizeBytes);
  for await (const piece of readCells(disk, end === 0 ? [] : [{ start: 0, end }], false)) {
    try {
      signal.throwIfAborted();
      await comparePiece(piece, remote, onDiffers);
    } finally {
      piece.release();
    }
    onCompared?.(piece.lengthBytes);
  }
}

async function comparePiece(
  { offset, lengthBytes, bytes }: Piece,
  remote: RemoteHashes,
  onDiffers: CompareOptions['onDiffers'],
): Promise<void> {
  const start = offset / CELL_BYTES;
  const end = Math.ceil((offset + lengthBytes) / CELL_BYTES);
  if (bytes === undefined) {
    for await (const cell of remote.dataIn(start, end)) onDiffers(cell, await remote.at(cell));
    return;
  }
  for (let cell = start; cell < end; cell++) {
    const at = (cell - start) * CELL_BYTES;
    const part = bytes.subarray(at, at + CELL_BYTES);
    const theirs = await remote.at(cell);
    if (isAllZero(part) ? theirs === undefined : theirs?.equals(hashCell(part)) === true) continue;
    onDiffers(cell, theirs);
  }
}
