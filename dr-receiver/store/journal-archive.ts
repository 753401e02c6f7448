// What a journal held before it was written anew, kept beside it for whoever asks who did what: a copy
// by the number of its last record, in the same format. The archives of a VM are bounded in size; the
// oldest go first. Nothing reads them: the journal alone is the truth.

import { basename, dirname, join } from 'node:path';
import type { Random } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import { type BlockFile, type FileSystem, temporaryPathBeside } from '../../shared/files/index.js';

/** Months of cycles of most VMs. */
export const ARCHIVE_BYTES_MAX = 16 * 1024 * 1024;
const CHUNK_BYTES = 1024 * 1024;

export function archivePath(journalPath: string, lastSequence: number): string {
  return `${journalPath}.${lastSequence}`;
}

/** The number in the name of an archive; undefined: it is none. */
function sequenceOf(journalPath: string, name: string): number | undefined {
  const match = /^(.+)\.(\d{1,16})$/.exec(name);
  return match?.[1] === basename(journalPath) ? Number(match[2]) : undefined;
}

export function isArchive(journalPath: string, name: string): boolean {
  return sequenceOf(journalPath, name) !== undefined;
}

/**
 * Copies the first `lengthBytes` of a journal to its archive; durable on return.
 * @throws DrError E_IO, E_CAPACITY
 */
export async function archiveJournal(
  { fs, random }: { readonly fs: FileSystem; readonly random: Random },
  journal: BlockFile,
  lengthBytes: number,
  lastSequence: number,
): Promise<void> {
  const temporary = temporaryPathBeside(journal.path, random);
  try {
    const copy = await fs.open(temporary, { mode: 'create' });
    try {
      for (let position = 0; position < lengthBytes; position += CHUNK_BYTES) {
        const bytes = Buffer.alloc(Math.min(CHUNK_BYTES, lengthBytes - position));
        if ((await journal.read(position, bytes)) < bytes.length) {
          throw new DrError('E_IO', `${journal.path} became shorter while it was copied`);
        }
        await copy.write(position, bytes);
      }
      await copy.flush();
    } finally {
      await copy.close();
    }
    await fs.rename(temporary, archivePath(journal.path, lastSequence));
  } catch (error) {
    await fs.remove(temporary).catch(() => undefined);
    throw error;
  }
  await fs.flushFolder(dirname(journal.path));
}

/** Removes the oldest archives until the rest has at most `maxBytes`; the newest stays. */
export async function boundArchives(
  fs: FileSystem,
  journalPath: string,
  maxBytes = ARCHIVE_BYTES_MAX,
): Promise<void> {
  const folder = dirname(journalPath);
  const archives: { path: string; sequence: number }[] = [];
  for (const name of await fs.list(folder)) {
    const sequence = sequenceOf(journalPath, name);
    if (sequence !== undefined) archives.push({ path: join(folder, name), sequence });
  }
  let sumBytes = 0;
  for (const [index, { path }] of archives.sort((a, b) => b.sequence - a.sequence).entries()) {
    sumBytes += (await fs.status(path))?.sizeBytes ?? 0;
    if (index > 0 && sumBytes > maxBytes) await fs.remove(path);
  }
}
