// The last look before a file gets its final name. A rename replaces what has the name, and what was
// free when the work began may have been taken since.

import { DrError } from '../errors.js';
import type { FileSystem } from './block-file.js';

/** Passes when `path` is free or may be replaced. @throws DrError E_EXISTS, E_IO */
export async function refuseExisting(
  fs: FileSystem,
  path: string,
  isReplacing: boolean,
): Promise<void> {
  if (isReplacing || (await fs.status(path)) === undefined) return;
  throw new DrError('E_EXISTS', `${path} exists already`, { context: { file: path } });
}
