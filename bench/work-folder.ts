// The folder in which benches work: made on the disk of the checkout, because a memory file system
// would hide the cost of durability, and removed again however the run ends.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DrError } from '../shared/errors.js';
import { parseMountOf } from './process-facts.js';

/** The system's temporary folder when it is on the checkout's volume, else a folder in dist/. */
export function defaultParent(checkout: string): string {
  const temporary = tmpdir();
  return statSync(temporary).dev === statSync(checkout).dev ? temporary : join(checkout, 'dist');
}

/**
 * Makes a work folder; it goes away with the process or by remove().
 * @throws DrError E_USAGE when `parent` lies in memory
 */
export function makeWorkFolder(parent: string): { readonly path: string; remove(): void } {
  mkdirSync(parent, { recursive: true });
  const mount = parseMountOf(readFileSync('/proc/self/mounts', 'utf8'), parent);
  if (mount?.fileSystem === 'tmpfs') {
    throw new DrError('E_USAGE', `${parent} lies in memory (tmpfs), where a flush costs nothing`, {
      hint: 'name a folder on a disk with --dir',
    });
  }
  const path = mkdtempSync(join(parent, 'hvdr-bench-'));
  const remove = (): void => {
    rmSync(path, { recursive: true, force: true });
  };
  process.once('exit', remove);
  return { path, remove };
}

/** @throws DrError E_CAPACITY when the volume of `folder` has less than `wantedBytes` free */
export function requireSpace(folder: string, wantedBytes: number, purpose: string): void {
  const { bavail, bsize } = statfsSync(folder);
  const freeBytes = bavail * bsize;
  if (freeBytes >= wantedBytes) return;
  const gibibytes = (bytes: number): string => (bytes / 2 ** 30).toFixed(1);
  throw new DrError(
    'E_CAPACITY',
    `${purpose} needs ${gibibytes(wantedBytes)} GiB in ${folder}, where ${gibibytes(freeBytes)} GiB are free`,
    { hint: 'free space, or name another folder with --dir' },
  );
}
