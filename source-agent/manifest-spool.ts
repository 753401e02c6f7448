// The manifest of a disk while its data goes out: the data is sent first, and the hashes are known only
// then. It waits in the state folder, less than a thousandth of the data, and leaves nothing behind; what
// a kill leaves is removed by the next one.

import path from 'node:path';
import type { Guid } from '../shared/bytes/index.js';
import type { Random } from '../shared/clock.js';
import { ManifestWriter, type ManifestHeader, fileChunks } from '../shared/delta/index.js';
import { type BlockFile, createBeside, type FileSystem } from '../shared/files/index.js';

export interface Spool {
  readonly writer: ManifestWriter;
  sizeBytes(): number;
  /** What was written; the writer must be finished. */
  content(): AsyncIterable<Buffer>;
}

/** @throws DrError E_IO, E_CAPACITY; what `use` throws */
export async function withManifestSpool<T>(
  { fs, random, stateFolder }: { fs: FileSystem; random: Random; stateFolder: string },
  vmId: Guid,
  header: ManifestHeader,
  use: (spool: Spool) => Promise<T>,
): Promise<T> {
  const target = path.join(stateFolder, `${vmId}.manifest`);
  const { temporaryPath, file } = await createBeside(fs, target, random);
  let position = 0;
  const write = async (chunk: Uint8Array): Promise<void> => {
    await file.write(position, chunk);
    position += chunk.length;
  };
  try {
    return await use({
      writer: new ManifestWriter(header, write),
      sizeBytes: () => position,
      content: () => content(file),
    });
  } finally {
    await file.close().catch(() => undefined);
    await fs.remove(temporaryPath).catch(() => undefined);
  }
}

async function* content(file: BlockFile): AsyncGenerator<Buffer> {
  for await (const chunk of fileChunks(file)) yield Buffer.from(chunk);
}
