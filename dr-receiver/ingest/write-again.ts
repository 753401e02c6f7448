// Bytes of a file that a former process wrote and nobody is known to have flushed. Reading them proves
// little: after a flush that failed the system goes on to show bytes that it has lost, and lets the next
// flush succeed. Written once more, they are the next flush's affair.

import { DeltaError } from '../../shared/delta/index.js';
import type { BlockFile } from '../../shared/files/index.js';

const CHUNK_BYTES = 1024 * 1024;

/**
 * Writes what stands at [start, end) to the same place; not a flush.
 * @throws DeltaError E_DELTA_COVERAGE when the file ends before; DrError E_IO, E_CAPACITY
 */
export async function writeAgain(file: BlockFile, start: number, end: number): Promise<void> {
  for (let position = start; position < end; position += CHUNK_BYTES) {
    const bytes = Buffer.allocUnsafeSlow(Math.min(CHUNK_BYTES, end - position));
    if ((await file.read(position, bytes)) < bytes.length) {
      throw new DeltaError('E_DELTA_COVERAGE', `${file.path} ends before its position`, {
        context: { file: file.path, expectedBytes: end },
      });
    }
    await file.write(position, bytes);
  }
}
