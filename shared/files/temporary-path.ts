// Names for files under construction. They stand beside their target, so that the final rename
// stays on one volume, and carry a random part, so that two writers never meet.

import path from 'node:path';
import type { Random } from '../clock.js';

/** Ends every name that temporaryPathBeside() makes; such a file may be deleted when no one has it open. */
export const TEMPORARY_SUFFIX = '.unfinished';

/** A new name in the folder of `target`: `.NAME.1f2e3d4c.unfinished`. */
export function temporaryPathBeside(target: string, random: Random): string {
  const tag = random.fill(Buffer.alloc(4)).toString('hex');
  const name = `.${path.basename(target)}.${tag}${TEMPORARY_SUFFIX}`;
  return path.join(path.dirname(target), name);
}
