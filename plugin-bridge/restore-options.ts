// podheitor-restore.conf: how one restore is to be done, in the folder that it goes to. For a Director
// that loses what an operator changes under `Plugin Options` (docs/bacula-restore.md "Options"). What it
// may say is what those options may; the folder is the operator's choice, so the file counts only when
// it is the administrator's own.

import path from 'node:path';
import { DrError } from '../shared/errors.js';
import { accessAdvice, type FileSystem, readSmall } from '../shared/files/index.js';
import { CONFIG_FILE_MAX, type GivenParameter, parseConfigFile } from '../shared/params/index.js';
import { isInside, RESTORE_OPTIONS } from './restore/index.js';

export const RESTORE_OPTIONS_FILE = 'podheitor-restore.conf';

export interface OptionsPlace {
  /** Of the job; empty: `/`, which is nobody's folder. */
  readonly where: string;
  /** `restore_roots` of backend.conf; undefined: it does not limit them. */
  readonly roots: readonly string[] | undefined;
}

/**
 * What the file in the job's Where says; nothing when there is none.
 * @throws DrError E_PARAMETER for another key, E_RESTORE_PATH outside of the restore roots, E_STATE when
 *   others may change the file, E_IO
 */
export async function readRestoreOptions(
  fs: FileSystem,
  { where, roots }: OptionsPlace,
): Promise<readonly GivenParameter[]> {
  if (where === '' || !path.isAbsolute(where)) return [];
  const file = path.join(where, RESTORE_OPTIONS_FILE);
  if ((await fs.status(file)) === undefined) return [];
  await refuseForeign(fs, file, roots);
  const bytes = await readSmall(fs, file, CONFIG_FILE_MAX);
  const given = parseConfigFile(bytes?.toString('utf8') ?? '', file);
  for (const { key, place } of given) {
    if (RESTORE_OPTIONS.some((name) => name === key)) continue;
    throw new DrError('E_PARAMETER', `${place}: ${key.slice(0, 64)}: not for a restore to change`, {
      hint: `Allowed: ${RESTORE_OPTIONS.join(', ')}.`,
    });
  }
  return given;
}

async function refuseForeign(
  fs: FileSystem,
  file: string,
  roots: OptionsPlace['roots'],
): Promise<void> {
  const folder = await fs.realPath(path.dirname(file));
  const real = path.join(folder, RESTORE_OPTIONS_FILE);
  if (roots !== undefined && !(await isBelowOne(fs, folder, roots))) {
    throw new DrError(
      'E_RESTORE_PATH',
      `${file} is below none of the restore roots of backend.conf`,
      {
        done: 'nothing was restored',
        hint: `Restore below one of these: ${roots.join(', ')}.`,
      },
    );
  }
  const isLink = (await fs.realPath(file)) !== real;
  // in a folder of theirs, others could put another file in its place
  if (!isLink && (await isOurs(fs, file)) && (await isOurs(fs, folder))) return;
  throw new DrError('E_STATE', `${file} or its folder can be changed by others, or it is a link`, {
    done: 'nothing was restored',
    hint: `Take that right away, for the file and for its folder: an administrator owns both, and \`${accessAdvice(file, 'change')}\`.`,
  });
}

async function isOurs(fs: FileSystem, file: string): Promise<boolean> {
  const status = await fs.status(file);
  return status?.isChangeableByOthers !== true && status?.isOwnedByAnother !== true;
}

async function isBelowOne(
  fs: FileSystem,
  folder: string,
  roots: readonly string[],
): Promise<boolean> {
  for (const root of roots) {
    const isThere = (await fs.status(root)) !== undefined;
    if (isInside(folder, isThere ? await fs.realPath(root) : root, path)) return true;
  }
  return false;
}

/** The words of the line, with what the file says in the place of those with the same key. */
export function withRestoreOptions(
  given: readonly GivenParameter[],
  options: readonly GivenParameter[],
): readonly GivenParameter[] {
  const isChanged = ({ key }: GivenParameter): boolean =>
    options.some((option) => option.key === key);
  return [...given.filter((word) => !isChanged(word)), ...options];
}
