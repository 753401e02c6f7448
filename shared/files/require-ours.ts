// What a program obeys, a configuration above all, is changed by nobody but its account, the system and administrators.
// An owner changes the rights of a file as he likes, so that a file of another account is refused whatever its rights are.

import { DrError } from '../errors.js';
import { accessAdvice, ownerAdvice } from './access-advice.js';
import type { FileSystem } from './block-file.js';

/** A file that is not there is left to who reads it. @throws DrError E_STATE */
export async function requireOurs(fs: FileSystem, file: string): Promise<void> {
  const status = await fs.status(file);
  if (status?.isOwnedByAnother === true) {
    throw new DrError('E_STATE', `${file} belongs to another account, which can change it`, {
      context: { path: file },
      hint: `Look at what stands in it, then take it over: \`${ownerAdvice(file)}\`.`,
    });
  }
  if (status?.isChangeableByOthers === true) {
    throw new DrError('E_STATE', `${file} can be changed by others than its owner`, {
      context: { path: file },
      hint: `Take that right away: \`${accessAdvice(file, 'change')}\`.`,
    });
  }
}
