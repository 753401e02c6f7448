// Where an outside program stands, as a shell would find it.

import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import type { CliContext } from './context.js';

/** Absolute path of a program on PATH or in the sbin folders. */
export function findProgram(
  context: Pick<CliContext, 'environment'>,
  name: string,
): string | undefined {
  const folders = (context.environment['PATH'] ?? '').split(path.delimiter);
  return [...folders, '/usr/sbin', '/sbin']
    .filter((folder) => folder !== '')
    .map((folder) => path.join(folder, name))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}
