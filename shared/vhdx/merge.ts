// Merging a child into its parent (§ 10). The result stands under the child's name, so disks that
// depend on the child need no change.
//
//   1  PARENT.merge.json says what is about to happen           durable
//   2  what the child holds is copied into the parent           through the parent's log
//   3  the parent takes over the child's content identity       header, durable
//   4  the parent is renamed over the child                     folder flushed
//   5  the mark is removed
//
// Until step 4 reading through the child is right at every moment: each sector that is written to
// the parent is hidden by the child's own copy. So a crash costs nothing: the same command again
// looks at the mark and the two identities and goes on with the step that is missing. Copying is
// idempotent and starts over.

import path from 'node:path';
import { defined } from '../assert.js';
import type { Guid } from '../bytes/index.js';
import type { Random } from '../clock.js';
import { DrError } from '../errors.js';
import type { FileSystem } from '../files/index.js';
import { mergePending, validIntent } from './chain.js';
import { findChildren } from './children.js';
import { MIB } from './format.js';
import {
  INTENT_SUFFIX,
  readIntent,
  removeIntent,
  writeIntent,
  type MergeIntent,
} from './merge-intent.js';
import { findParent } from './parent-path.js';
import { VhdxFile } from './vhdx-file.js';
import { VhdxError } from './violation.js';

export interface MergeOptions {
  readonly fs: FileSystem;
  readonly random: Random;
  /** Guest bytes copied or zeroed so far, and the place in the disk. */
  readonly onProgress?: (progress: {
    copiedBytes: number;
    position: number;
    sizeBytes: number;
  }) => void;
}

export interface MergeResult {
  /** The file that was merged into and no longer has a name of its own. */
  readonly parent: string;
  readonly copiedBytes: number;
  readonly zeroedBytes: number;
  /** True when an earlier, interrupted merge was finished. */
  readonly isResumed: boolean;
}

/** Bytes copied at once; aligned to this grid, so that whole blocks of 2 MiB stay whole. */
const PIECE_BYTES = 2 * MIB;
const PIECES_UNDER_WAY = 4;

export async function mergeVhdx(file: string, options: MergeOptions): Promise<MergeResult> {
  const { fs, random } = options;
  // The files themselves are renamed, never links to them.
  const childPath = await fs.realPath(file);
  const finished = await finishRenamed(fs, random, childPath);
  if (finished !== undefined) return finished;

  const child = await VhdxFile.open(childPath, {
    fs,
    random,
    isWritable: false,
    lock: 'exclusive',
  });
  let parent: VhdxFile | undefined;
  try {
    const { locator } = child.structures;
    if (locator === undefined) {
      throw new DrError('E_USAGE', `${childPath} has no parent to be merged into`, {
        hint: 'Only a differencing disk can be merged.',
      });
    }
    const parentPath = await findParent(fs, childPath, locator);
    await refuseOtherChildren(fs, parentPath, childPath);
    parent = await VhdxFile.open(parentPath, {
      fs,
      random,
      isWritable: true,
      contentIdentity: 'keep',
    });
    const intent = await validIntent(fs, parent);
    const state = linkState(child, parent, intent?.child === path.basename(childPath));
    if (intent !== undefined && intent.child !== path.basename(childPath)) {
      throw mergePending(parentPath, intent);
    }
    refuseUnfit(child, parent);
    await parent.replayLog();

    let copied = { copiedBytes: 0, zeroedBytes: 0 };
    if (state === 'linked') {
      await writeIntent(
        fs,
        parentPath,
        {
          child: path.basename(childPath),
          parentDataWriteGuid: parent.header.dataWriteGuid,
          childDataWriteGuid: child.header.dataWriteGuid,
        },
        random,
      );
      copied = await copyInto(child, parent, options);
      await parent.setDataWriteGuid(child.header.dataWriteGuid);
    }
    await parent.close();
    parent = undefined;
    await child.close();
    await fs.rename(parentPath, childPath);
    await fs.flushFolder(path.dirname(childPath));
    await removeIntent(fs, parentPath);
    return { parent: parentPath, ...copied, isResumed: intent !== undefined };
  } finally {
    // Both are given back whatever happens; an error of the merge itself comes first.
    await Promise.allSettled([parent?.close(), child.close()]);
  }
}

/** 'linked': steps 1 to 3 are due. 'switched': the parent holds everything, step 4 is due. */
function linkState(child: VhdxFile, parent: VhdxFile, isMarked: boolean): 'linked' | 'switched' {
  const identity: Guid = parent.header.dataWriteGuid;
  const locator = defined(child.structures.locator, 'a child has a locator');
  if (isMarked && identity === child.header.dataWriteGuid) return 'switched';
  if (identity === locator.parentLinkage || identity === locator.parentLinkage2) return 'linked';
  throw new VhdxError(
    {
      code: 'E_VHDX_PARENT_CHANGED',
      structure: 'parent locator',
      offset: locator.offset,
      message: `the parent ${parent.path} has the content identity ${identity}, the child was made from ${locator.parentLinkage}`,
    },
    child.path,
  );
}

function refuseUnfit(child: VhdxFile, parent: VhdxFile): void {
  const unfit = (message: string, hint?: string): never => {
    throw new VhdxError(
      { code: 'E_VHDX_CHAIN', structure: 'chain', message },
      child.path,
      hint === undefined ? {} : { hint },
    );
  };
  const { sizeBytes, logicalSectorBytes } = child.geometry;
  if (sizeBytes !== parent.geometry.sizeBytes) {
    unfit(`the child has ${sizeBytes} bytes, its parent ${parent.geometry.sizeBytes}`);
  }
  if (logicalSectorBytes !== parent.geometry.logicalSectorBytes) {
    unfit('child and parent have different logical sectors');
  }
  if (path.dirname(path.resolve(child.path)) !== path.dirname(path.resolve(parent.path))) {
    // The merged file takes the child's name: its own relative paths, and the mark, stay beside it.
    unfit('the parent stands in another folder', 'Move the files of the chain into one folder.');
  }
}

async function refuseOtherChildren(
  fs: FileSystem,
  parentPath: string,
  childPath: string,
): Promise<void> {
  const own = (await fs.status(childPath))?.identity;
  const others: string[] = [];
  for (const name of await findChildren(fs, parentPath)) {
    const status = await fs.status(path.join(path.dirname(parentPath), name));
    if (status?.identity !== own) others.push(name);
  }
  if (others.length === 0) return;
  throw new VhdxError(
    {
      code: 'E_VHDX_HAS_CHILDREN',
      structure: 'chain',
      message: `other disks depend on it as well: ${others.join(', ')}`,
    },
    parentPath,
  );
}

/** Step 2: cost follows what the child holds, never the size of the disk. */
async function copyInto(
  child: VhdxFile,
  parent: VhdxFile,
  options: MergeOptions,
): Promise<{ copiedBytes: number; zeroedBytes: number }> {
  const { sizeBytes } = child.geometry;
  let copiedBytes = 0;
  let zeroedBytes = 0;
  const free: Buffer[] = [];
  const underWay = new Set<Promise<void>>();
  const copyPiece = async (start: number, end: number): Promise<void> => {
    const buffer = free.pop() ?? Buffer.allocUnsafeSlow(PIECE_BYTES);
    const view = buffer.subarray(0, end - start);
    for (const segment of await child.resolve(start, end)) {
      const part = view.subarray(segment.start - start, segment.end - start);
      if (segment.kind === 'data') await child.readStored(segment.at, part);
    }
    await parent.write(start, view);
    free.push(buffer);
  };
  let failure: { readonly error: unknown } | undefined;
  const start = (from: number, to: number): void => {
    const piece = copyPiece(from, to)
      .catch((error: unknown) => {
        failure ??= { error };
      })
      .finally(() => underWay.delete(piece));
    underWay.add(piece);
  };
  try {
    for await (const extent of child.extents(0, sizeBytes)) {
      if (extent.kind === 'parent') continue;
      if (extent.kind === 'zero') {
        await parent.zero(extent.start, extent.end - extent.start);
        zeroedBytes += extent.end - extent.start;
        continue;
      }
      for (let at = extent.start; at < extent.end;) {
        const end = Math.min(extent.end, (Math.floor(at / PIECE_BYTES) + 1) * PIECE_BYTES);
        if (underWay.size >= PIECES_UNDER_WAY) await Promise.race(underWay);
        if (failure !== undefined) break;
        start(at, end);
        copiedBytes += end - at;
        options.onProgress?.({ copiedBytes, position: end, sizeBytes });
        at = end;
      }
      if (failure !== undefined) break;
    }
  } finally {
    // Whatever went wrong, the files are closed only when nothing is under way on them.
    await Promise.all(underWay);
  }
  if (failure !== undefined) throw failure.error;
  await parent.flush();
  return { copiedBytes, zeroedBytes };
}

/**
 * A merge that stopped between steps 4 and 5: the child's name already stands for the merged disk,
 * only the mark is left. It must not be taken for a merge of the next level.
 */
async function finishRenamed(
  fs: FileSystem,
  random: Random,
  childPath: string,
): Promise<MergeResult | undefined> {
  const folder = path.dirname(childPath);
  for (const name of await fs.list(folder)) {
    if (!name.endsWith(INTENT_SUFFIX)) continue;
    const parentPath = path.join(folder, name.slice(0, -INTENT_SUFFIX.length));
    const intent = await readableIntent(fs, parentPath);
    if (intent?.child !== path.basename(childPath)) continue;
    if ((await fs.status(parentPath)) !== undefined) continue;
    const merged = await VhdxFile.open(childPath, { fs, random, isWritable: false });
    const identity = merged.header.dataWriteGuid;
    const linkage = merged.structures.locator?.parentLinkage;
    await merged.close();
    // The unmerged child has the same identity; it is known by its link to a parent that has gone.
    if (identity !== intent.childDataWriteGuid || linkage === intent.parentDataWriteGuid) continue;
    await fs.flushFolder(folder);
    await removeIntent(fs, parentPath);
    return { parent: parentPath, copiedBytes: 0, zeroedBytes: 0, isResumed: true };
  }
  return undefined;
}

/** A mark that cannot be read says nothing about this child; opening its own parent refuses it. */
async function readableIntent(
  fs: FileSystem,
  parentPath: string,
): Promise<MergeIntent | undefined> {
  try {
    return await readIntent(fs, parentPath);
  } catch (error) {
    if (error instanceof DrError && error.code !== 'E_IO') return undefined;
    throw error;
  }
}
