// From a parent locator to a file beside the child, and back. Paths in a locator come from
// outside: an absolute or UNC path could make us open anything, or send credentials to somebody's
// server. So only the relative path is followed, and only to a file inside the child's own folder
// (§ 3.1, § 9 point 12).

import path from 'node:path';
import type { FileSystem } from '../files/index.js';
import type { ParentLocator } from './parent-locator.js';
import { VhdxError } from './violation.js';

/** The name that a locator gives its parent, for messages and as a last resort when searching. */
export function parentNameOf(locator: ParentLocator): string {
  const text = locator.relativePath ?? locator.absolutePath ?? locator.volumePath ?? '';
  const name = text.split(/[\\/]/).at(-1) ?? '';
  return name === '' ? '(unnamed)' : name;
}

const DEVICE_NAME =
  /^(?:con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3]|con(?:in|out)\$)\s*(?:[.:]|$)/i;

/**
 * Names that Windows takes for a device in every folder, whatever their ending; a disk that came
 * from there never has one. On Windows a colon also names a stream of a file.
 */
function isDeviceName(name: string): boolean {
  return DEVICE_NAME.test(name) || (process.platform === 'win32' && name.includes(':'));
}

/**
 * The parent's real path: the relative path of the locator, or, where a locator has only absolute ones,
 * the bare file name in the child's folder.
 * @throws VhdxError E_VHDX_PATH, E_VHDX_PARENT_MISSING
 */
export async function findParent(
  fs: FileSystem,
  childPath: string,
  locator: ParentLocator,
): Promise<string> {
  const folder = path.dirname(childPath);
  const relative = (locator.relativePath ?? parentNameOf(locator)).replaceAll('\\', '/');
  const candidate = path.join(folder, relative);
  const at = { structure: 'parent locator', offset: locator.offset };
  const leaves =
    path.posix.isAbsolute(relative) ||
    /^[A-Za-z]:/.test(relative) ||
    relative.split('/').some(isDeviceName) ||
    path.relative(folder, candidate).split(path.sep)[0] === '..';
  if (leaves) {
    throw new VhdxError(
      {
        code: 'E_VHDX_PATH',
        ...at,
        message: `the parent path ${JSON.stringify(relative)} leaves the folder of the child`,
      },
      childPath,
      { context: { parent: relative } },
    );
  }
  const status = await fs.status(candidate);
  if (status?.kind !== 'file') {
    throw new VhdxError(
      {
        code: 'E_VHDX_PARENT_MISSING',
        ...at,
        message: `the parent ${JSON.stringify(relative)} is not there`,
      },
      childPath,
      { context: { parent: candidate } },
    );
  }
  // A symbolic link must not lead out of the folder either.
  const real = await fs.realPath(candidate);
  const realFolder = await fs.realPath(folder);
  if (path.relative(realFolder, real).split(path.sep)[0] === '..') {
    throw new VhdxError(
      {
        code: 'E_VHDX_PATH',
        ...at,
        message: `the parent ${JSON.stringify(relative)} is a link that leaves the folder of the child`,
      },
      childPath,
      { context: { parent: relative } },
    );
  }
  return real;
}

/** The path of a file that may not be there yet, its folder without links. */
export async function realTargetPath(fs: FileSystem, file: string): Promise<string> {
  return path.join(await fs.realPath(path.dirname(file)), path.basename(file));
}

/**
 * The relative path that a child's locator gets, with backslashes as Windows writes it; undefined
 * when findParent() could not follow it: out of the folder, a device name, a backslash in a name.
 */
export function relativeParentPath(childPath: string, parentPath: string): string | undefined {
  const relative = path.relative(path.dirname(childPath), parentPath);
  const parts = relative.split(path.sep);
  if (parts[0] === '..' || path.isAbsolute(relative)) return undefined;
  if (parts.some((part) => part.includes('\\') || isDeviceName(part))) return undefined;
  return `.\\${parts.join('\\')}`;
}
