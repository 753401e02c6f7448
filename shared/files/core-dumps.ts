// A core dump of a process that holds keys is a file with keys. So a command that loads one switches
// them off first (channel.md § 1).

import { nativePosix } from './native-posix.js';

/**
 * Switches core dumps of this process off, and on Linux also the kernel's handing them to a program.
 * Returns what the system refused, by the name of its error; undefined when all went well or the
 * system offers nothing (Windows: error reporting is the administrator's to set).
 */
export async function forbidCoreDumps(): Promise<string | undefined> {
  const native = await nativePosix();
  if (native === undefined) return undefined;
  const limited = native.limitCoreFiles();
  const hidden = native.makeUndumpable?.();
  return limited.failure ?? hidden?.failure;
}
