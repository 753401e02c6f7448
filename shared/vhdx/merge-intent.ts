// The mark of a merge under way: PARENT.merge.json beside the parent. While it stands, the parent
// by itself (and any other child of it) is half old, half new, so it is opened only through the
// child that is being merged, and only for reading (§ 10).

import path from 'node:path';
import { parseGuid, type Guid } from '../bytes/index.js';
import { DrError } from '../errors.js';
import type { Random } from '../clock.js';
import {
  readJson,
  removeLeftovers,
  writeJsonDurably,
  type FileSystem,
  type JsonFormat,
} from '../files/index.js';

const FORMAT: JsonFormat = { name: 'merge mark', version: 1, limitBytes: 4096 };
export const INTENT_SUFFIX = '.merge.json';

export interface MergeIntent {
  /** File name of the child, in the parent's folder. */
  readonly child: string;
  /** The parent's content identity before the merge. */
  readonly parentDataWriteGuid: Guid;
  /** The child's content identity, which the parent takes over at the end. */
  readonly childDataWriteGuid: Guid;
}

export function intentPath(parentPath: string): string {
  return parentPath + INTENT_SUFFIX;
}

/** The intent beside `parentPath`, or undefined when there is none. */
export async function readIntent(
  fs: FileSystem,
  parentPath: string,
): Promise<MergeIntent | undefined> {
  const file = intentPath(parentPath);
  const fields = await readJson(fs, file, FORMAT);
  if (fields === undefined) return undefined;
  const { child, parentDataWriteGuid, childDataWriteGuid } = fields;
  const parent =
    typeof parentDataWriteGuid === 'string' ? parseGuid(parentDataWriteGuid) : undefined;
  const own = typeof childDataWriteGuid === 'string' ? parseGuid(childDataWriteGuid) : undefined;
  const isName = typeof child === 'string' && child !== '' && path.basename(child) === child;
  if (!isName || parent === undefined || own === undefined) {
    throw new DrError('E_VHDX_MERGE_PENDING', `the merge mark ${file} is not readable`, {
      hint: 'Restore parent and child from a good copy; the mark says that a merge was under way.',
    });
  }
  return { child, parentDataWriteGuid: parent, childDataWriteGuid: own };
}

/** Durable on return. */
export async function writeIntent(
  fs: FileSystem,
  parentPath: string,
  intent: MergeIntent,
  random: Random,
): Promise<void> {
  await writeJsonDurably(fs, intentPath(parentPath), FORMAT, { ...intent }, random);
}

/** Durable on return. */
export async function removeIntent(fs: FileSystem, parentPath: string): Promise<void> {
  await fs.remove(intentPath(parentPath));
  await removeLeftovers(fs, intentPath(parentPath));
  await fs.flushFolder(path.dirname(parentPath));
}
