// One file of a foreign VM as it comes from the volume: a raw disk goes straight into a VHDX, without
// space for a copy; everything else is laid down as it is.

import path from 'node:path';
import { ByteReader } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { type FileSystem, WriteBehind } from '../../shared/files/index.js';
import type { Random } from '../../shared/clock.js';
import { buildTarget, type CopyTarget } from '../../shared/image/index.js';
import { isAllZero } from '../../shared/disk/index.js';

export interface IntakeSeams {
  readonly fs: FileSystem;
  readonly random: Random;
}

const PIECE_BYTES = 1024 * 1024;
const CELL_BYTES = 64 * 1024;
const QUEUED_MAX_BYTES = 8 * 1024 * 1024;
const FLUSH_EVERY_BYTES = 256 * 1024 * 1024;
const SECTOR_BYTES = 512;

/**
 * Before a file is laid down whole. A raw disk that goes straight into a VHDX takes what is not zero in it, which
 * nobody knows before it has come.
 * @throws DrError E_CAPACITY
 */
export async function requireIntakeSpace(
  file: string,
  sizeBytes: number,
  { fs }: Pick<IntakeSeams, 'fs'>,
): Promise<void> {
  if (isDirect(path.basename(file), sizeBytes)) return;
  const folder = path.dirname(file);
  const freeBytes = await fs.freeBytes(folder);
  if (freeBytes === undefined || freeBytes >= sizeBytes) return;
  throw new DrError(
    'E_CAPACITY',
    `${path.basename(file)} has ${sizeBytes} bytes, ${folder} has ${freeBytes} free`,
    {
      context: { file, sizeBytes, freeBytes },
      done: 'nothing of it was written',
      hint: 'Free space there, or restore to another volume (restore_path): the images of the VM, a raw copy of the largest one and its disks lie there at one time.',
    },
  );
}

/** Lays the bytes down in a new file; durable on return. @throws DrError E_IO, E_CAPACITY */
export async function storeFile(
  file: string,
  content: AsyncIterable<Buffer>,
  { fs }: IntakeSeams,
): Promise<void> {
  const target = await fs.open(file, { mode: 'create' });
  try {
    const writes = new WriteBehind(target, QUEUED_MAX_BYTES, FLUSH_EVERY_BYTES);
    let position = 0;
    for await (const chunk of content) {
      await writes.room();
      // the bytes are the session's again when the next ones are asked for
      void writes.write(position, Buffer.from(chunk));
      position += chunk.length;
    }
    await writes.drain();
    await target.flush();
  } finally {
    await target.close();
  }
}

/** A raw disk can be taken directly when its size is known beforehand. */
export function isDirect(name: string, sizeBytes: number): boolean {
  const isRaw = /\.(raw|img)$/i.test(name) || !/\.[A-Za-z]\w{0,7}$/.test(name);
  return isRaw && sizeBytes > 0 && sizeBytes % SECTOR_BYTES === 0;
}

/**
 * Makes a dynamic VHDX of a raw stream; durable on return.
 * @throws DrError E_DISK_MISMATCH when the stream has another length than the catalog says, E_IO, E_CAPACITY
 */
export async function rawToVhdx(
  target: string,
  sizeBytes: number,
  content: AsyncIterable<Buffer>,
  { fs, random }: IntakeSeams,
): Promise<void> {
  const geometry = { sizeBytes, logicalSectorBytes: SECTOR_BYTES, physicalSectorBytes: 4096 };
  await buildTarget(target, { to: 'vhdx' }, geometry, { fs, random }, async (writer) => {
    const reader = new ByteReader(content);
    const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, sizeBytes));
    for (let offset = 0; offset < sizeBytes; offset += PIECE_BYTES) {
      const bytes = piece.subarray(0, Math.min(PIECE_BYTES, sizeBytes - offset));
      if ((await reader.read(bytes)) < bytes.length) throw lengthError(target, sizeBytes);
      await writeNonZero(writer, offset, bytes);
    }
    if ((await reader.some(1)) !== undefined) throw lengthError(target, sizeBytes);
  });
}

async function writeNonZero(target: CopyTarget, offset: number, bytes: Buffer): Promise<void> {
  const writes: Promise<void>[] = [];
  for (let at = 0; at < bytes.length; at += CELL_BYTES) {
    const cell = bytes.subarray(at, at + CELL_BYTES);
    if (!isAllZero(cell)) writes.push(target.write(offset + at, cell));
  }
  await Promise.all(writes);
}

function lengthError(target: string, sizeBytes: number): DrError {
  return new DrError('E_DISK_MISMATCH', `the raw disk for ${target} has not ${sizeBytes} bytes`, {
    context: { file: target, sizeBytes },
    done: 'no disk was made',
    hint: 'The catalog names another size than the volume holds: restore the files alone (`restore_to=files`) and run `hvdr convert` on them.',
  });
}
