// Small steps on files that the benches share.

import { rm } from 'node:fs/promises';

/** Removing what is not there is no error. */
export async function removeFile(...paths: readonly string[]): Promise<void> {
  for (const path of paths) await rm(path, { force: true });
}
