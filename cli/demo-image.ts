// The demo's input: two states of a real file system, made without root. mke2fs makes ext4 where it
// is installed, else our own writer makes FAT16. The content is the same on every machine and day.

import { createCipheriv } from 'node:crypto';
import { mkdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { CliContext } from './context.js';
import { fat16Image, type DemoFile } from './demo-fat.js';
import { runStep } from './demo-run.js';
import { findProgram } from './find-program.js';

export const IMAGE_BYTES = 64 * 1024 * 1024;
const DATABASE_BYTES = 6 * 1024 * 1024;
const PHOTO_BYTES = 4 * 1024 * 1024;
const LETTER_COUNT = 24;
/** Places in the database that change between the two states. */
const CHANGED_AT = [100_000, 2_500_000, 2_600_000, 5_999_000];
const FIXED_TIME_SECONDS = 1_767_225_600;
const FIXED_ID = '68766472-0000-4000-8000-64656d6f0001';

/** Bytes that look random and are the same everywhere. */
function patternBytes(seed: number, length: number): Buffer {
  const cipher = createCipheriv('aes-256-ctr', Buffer.alloc(32, seed), Buffer.alloc(16));
  return cipher.update(Buffer.alloc(length));
}

function letter(number: number): Buffer {
  return Buffer.from(
    `Letter ${number}\n\n` +
      'This file stands on the disk of a guest that is to survive its host.\n'.repeat(20 + number),
  );
}

/** The files of the guest on the first day, or on the second. */
export function demoFiles(day: 1 | 2): readonly DemoFile[] {
  const database = patternBytes(1, DATABASE_BYTES);
  if (day === 2) {
    for (const [index, place] of CHANGED_AT.entries()) {
      database.set(patternBytes(10 + index, 3000), place);
    }
  }
  const letters = Array.from({ length: LETTER_COUNT }, (_, index) => ({
    name: `LETTER${String(index + 1).padStart(2, '0')}.TXT`,
    bytes: letter(index + 1),
  }));
  return [
    { name: 'DATABASE.BIN', bytes: database },
    ...letters,
    { name: 'PHOTO.BIN', bytes: patternBytes(2, PHOTO_BYTES) },
    ...(day === 2
      ? [{ name: 'ZNEW.TXT', bytes: Buffer.from('Written on the second day.\n') }]
      : []),
  ];
}

/** Makes the image `name` in `folder`. Returns the kind of its file system. */
export async function makeImage(
  context: CliContext,
  folder: string,
  name: string,
  day: 1 | 2,
): Promise<string> {
  const files = demoFiles(day);
  const mke2fs = findProgram(context, 'mke2fs');
  if (mke2fs === undefined) {
    await writeFat(context, path.join(folder, name), files);
    return 'FAT16';
  }
  const tree = path.join(folder, `${name}.files`);
  mkdirSync(tree);
  for (const file of files) {
    const place = path.join(tree, file.name);
    writeFileSync(place, file.bytes);
    utimesSync(place, FIXED_TIME_SECONDS, FIXED_TIME_SECONDS);
  }
  await runStep(
    mke2fs,
    ['-q', '-t', 'ext4', '-F', '-L', 'demo', '-U', FIXED_ID]
      .concat('-E', `hash_seed=${FIXED_ID},root_owner=0:0`, '-d', tree, name)
      .concat(`${IMAGE_BYTES / 1024}k`),
    {
      folder,
      environment: { ...context.environment, E2FSPROGS_FAKE_TIME: String(FIXED_TIME_SECONDS) },
    },
  );
  rmSync(tree, { recursive: true });
  return 'ext4';
}

async function writeFat(
  context: CliContext,
  file: string,
  files: readonly DemoFile[],
): Promise<void> {
  const image = await context.files.open(file, { mode: 'create' });
  try {
    await image.truncate(IMAGE_BYTES);
    for (const { offset, bytes } of fat16Image(IMAGE_BYTES, files))
      await image.write(offset, bytes);
    await image.flush();
  } finally {
    await image.close();
  }
}
