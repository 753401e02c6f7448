// Conversion where one end is a pipe: a disk out as raw bytes or as a dynamic VHDX, and a VHDX in.

import { readAhead, zeroRuns, type ReadableDisk } from '../disk/index.js';
import { DrError } from '../errors.js';
import { readVhdxStream, streamVhdx } from '../vhdx/index.js';
import { buildTarget, type TargetFormat } from './build-target.js';
import { checkTarget } from './check-target.js';
import type { ConvertOptions, ConvertResult, ImageEnvironment } from './convert.js';
import type { CopyOptions, CopyTarget } from './copy-disk.js';

const PIECE_BYTES = 1024 * 1024;
const PIECES_AHEAD = 6;
const ZEROS = Buffer.alloc(PIECE_BYTES);

export interface OutgoingStream {
  /** Exact number of bytes that will be sent. */
  readonly lengthBytes: number;
  /** A chunk may be looked at until the next one is asked for. */
  readonly chunks: AsyncIterable<Buffer>;
}

/**
 * The disk as bytes from front to back: raw, or a dynamic VHDX. The disk must not change meanwhile.
 * @throws DrError E_USAGE for a fixed VHDX, which only makes sense as a file
 */
export async function streamImage(
  disk: ReadableDisk,
  format: TargetFormat,
  { random }: Pick<ImageEnvironment, 'random'>,
): Promise<OutgoingStream> {
  if (format.to === 'raw') return { lengthBytes: disk.sizeBytes, chunks: rawChunks(disk) };
  if (format.type === 'fixed') {
    throw new DrError('E_USAGE', 'a stream is always a dynamic VHDX', {
      hint: 'Leave --type out, or convert to a file.',
    });
  }
  return streamVhdx(disk, { random, blockSizeBytes: format.blockSizeBytes });
}

/** All guest bytes of [start, end), default the whole disk, zeros included. */
export async function* rawChunks(
  disk: ReadableDisk,
  start = 0,
  end = disk.sizeBytes,
): AsyncGenerator<Buffer, void, void> {
  const extents = disk.extents(start, end);
  for await (const piece of readAhead(disk, {
    extents,
    pieceBytes: PIECE_BYTES,
    depth: PIECES_AHEAD,
  })) {
    if (piece.bytes !== undefined) yield piece.bytes;
    else {
      for (let left = piece.lengthBytes; left > 0; left -= PIECE_BYTES) {
        yield left >= PIECE_BYTES ? ZEROS : ZEROS.subarray(0, left);
      }
    }
    piece.release();
  }
}

/**
 * Writes the disk of a VHDX that comes through a pipe to the file `target`. `name` stands for the
 * pipe in messages.
 * @throws VhdxError E_VHDX_UNSUPPORTED when its layout needs a seekable file; as convertImage else
 */
export async function convertVhdxStream(
  source: AsyncIterable<Uint8Array>,
  name: string,
  target: string,
  options: ConvertOptions,
  { fs, random }: ImageEnvironment,
): Promise<ConvertResult> {
  const { isReplacing = false } = options;
  await checkTarget(target, { isReplacing, inputs: [] }, { fs, random });
  const reader = await readVhdxStream(source, name);
  const { sizeBytes } = reader.disk;
  if (options.to === 'vhdx' && !reader.isAscending) {
    throw new DrError(
      'E_VHDX_UNSUPPORTED',
      `the blocks of ${name} are not in the order of the disk, so it cannot be rewritten as it comes`,
      { hint: 'Store it on a disk first and name that file, or convert with --to raw.' },
    );
  }
  const writtenBytes = await buildTarget(
    target,
    options,
    reader.disk,
    { fs, random },
    async (writer) => {
      let bytesSoFar = 0;
      for await (const { offset, data } of reader.ranges) {
        bytesSoFar += await writeNonZero(writer, offset, data);
        report(options, offset + data.length, sizeBytes);
      }
      return bytesSoFar;
    },
  );
  return { sourceFormat: 'vhdx', sizeBytes, writtenBytes };
}

function report({ onProgress, signal }: CopyOptions, position: number, sizeBytes: number): void {
  signal?.throwIfAborted();
  onProgress?.({ position, sizeBytes });
}

async function writeNonZero(target: CopyTarget, offset: number, data: Buffer): Promise<number> {
  let writtenBytes = 0;
  for (const run of zeroRuns(data, offset)) {
    if (run.isZero) continue;
    await target.write(offset + run.start, data.subarray(run.start, run.end));
    writtenBytes += run.end - run.start;
  }
  return writtenBytes;
}
