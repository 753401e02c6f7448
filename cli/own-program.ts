// How this program is installed: as a single executable, or as files that Node runs. What has to find its own parts, or
// start itself again, asks here.

import { readFileSync } from 'node:fs';
import { getRawAsset, isSea } from 'node:sea';
import { fileURLToPath } from 'node:url';

/** True in the single executable; see bin/package/executable.mjs. */
export const isSingleExecutable = isSea();

/** Where the name says so, the program stands as the backend of the File Daemon's plugin: arguments it has none. */
const BACKEND_NAME = /^podheitor-hyperv-backend/i;

/** What a single executable is to be, by the name that it was started under. */
export function isNamedBackend(startedAs: string, args: readonly string[]): boolean {
  const name = startedAs.split(/[\\/]/).at(-1) ?? '';
  return args.length === 0 && BACKEND_NAME.test(name);
}

/** The command that runs `hvdr …args` by the program that runs now. */
export function ownCommand(args: readonly string[]): { program: string; args: readonly string[] } {
  if (isSingleExecutable) {
    // its other name would make it a backend when there are no arguments
    return { program: process.execPath, args: args.length === 0 ? ['help'] : args };
  }
  const main = fileURLToPath(new URL('./main.js', import.meta.url));
  return { program: process.execPath, args: [main, ...args] };
}

/** A text file of the release that the program needs when it runs, by its path in the checkout. */
export function ownText(name: string): string {
  if (isSingleExecutable) return Buffer.from(getRawAsset(name)).toString('utf8');
  return readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8');
}
