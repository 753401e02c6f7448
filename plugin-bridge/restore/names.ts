// What a file of the catalog is, and whether its name may become one on this disk. Names of ours are
// percent-encoded where they were made (docs/bacula-catalog.md), so whatever a file system could take
// amiss marks a name that is not of ours. Pure.

import { type CatalogName, parseCatalogPath } from '../../shared/catalog/index.js';
import { DrError } from '../../shared/errors.js';

export interface CatalogFile {
  /** Below the namespace. */
  readonly path: string;
  readonly name: CatalogName;
}

const PATH_LENGTH_MAX = 2000;
const SEGMENT_BYTES_MAX = 255;
const DEPTH_MAX = 16;
/** What Windows takes for a device, whatever stands behind the first dot. */
const DEVICE =
  /^(?:con|prn|aux|nul|conin\$|conout\$|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3])\s*(?:\.|$)/i;
const FORBIDDEN =
  /[\u0000-\u001f\u007f-\u009f\\:*?"<>|\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;

export function pathError(message: string, hint?: string): DrError {
  return new DrError('E_RESTORE_PATH', message, {
    done: 'nothing was written there',
    ...(hint === undefined ? {} : { hint }),
  });
}

/** The names of a path, each of which may become one on any of our file systems. @throws DrError E_RESTORE_PATH */
export function confinedSegments(path: string): string[] {
  const refuse = (why: string): never => {
    throw pathError(
      `the name ${JSON.stringify(path.slice(0, 200))} is refused: ${why}`,
      'No backup of ours has such a name; leave it out of the selection.',
    );
  };
  if (path.length > PATH_LENGTH_MAX) refuse(`it is longer than ${PATH_LENGTH_MAX} characters`);
  const segments = path.replace(/\/$/, '').split('/');
  if (segments.length > DEPTH_MAX) refuse(`it is deeper than ${DEPTH_MAX} folders`);
  for (const segment of segments) {
    if (segment === '') refuse('it is absolute, or a part of it is empty');
    if (segment === '.' || segment === '..') refuse('it climbs out of its folder');
    if (FORBIDDEN.test(segment)) refuse('a character of it is none of a file name');
    if (/[. ]$/.test(segment)) refuse('a part of it ends with a dot or a blank');
    if (DEVICE.test(segment)) refuse('a part of it is the name of a device');
    if (Buffer.byteLength(segment) > SEGMENT_BYTES_MAX) refuse('a part of it is too long');
    if (/\p{Surrogate}/u.test(segment)) refuse('it is no Unicode text');
  }
  return segments;
}

/** @throws DrError E_RESTORE_PATH */
export function catalogFileOf(path: string): CatalogFile {
  const [folder = ''] = confinedSegments(path);
  return { path, name: parseCatalogPath(path) ?? { kind: 'other', folder } };
}

/** The manifest that belongs to a file of `disks/`, and the other way; empty: none does. */
export function siblingOf({ path, name }: CatalogFile): string {
  const swapped = (from: string, to: string): string =>
    path.replace(`${name.folder}/${from}/`, `${name.folder}/${to}/`);
  switch (name.kind) {
    case 'base':
      return `${swapped('disks', '.meta')}.manifest`;
    case 'delta':
      return swapped('disks', '.meta').replace(/\.cbt$/i, '.manifest');
    case 'base-manifest':
      return swapped('.meta', 'disks').replace(/\.manifest$/i, '');
    case 'delta-manifest':
      return swapped('.meta', 'disks').replace(/\.manifest$/i, '.cbt');
    case 'config':
    case 'state':
    case 'other':
      return '';
  }
}
