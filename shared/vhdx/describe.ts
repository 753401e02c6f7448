// What `hvdr vhdx info` shows: the facts of one file, read without its BAT when that is damaged.

import { ZERO_GUID } from '../bytes/index.js';
import { defined } from '../assert.js';
import type { FileSystem } from '../files/index.js';
import { readIntent } from './merge-intent.js';
import { parentNameOf } from './parent-path.js';
import { loadStructures } from './structures.js';
import { refusing } from './violation.js';

export interface VhdxDescription {
  readonly type: string;
  readonly sizeBytes: number;
  readonly fileBytes: number;
  readonly blockSizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly creator: string;
  readonly diskId: string;
  readonly dataWriteGuid: string;
  readonly fileWriteGuid: string;
  readonly sequenceNumber: bigint;
  readonly log: {
    readonly state: 'clean' | 'dirty';
    readonly offset: number;
    readonly bytes: number;
  };
  readonly blocks: {
    readonly total: number;
    readonly fullyPresent: number;
    readonly partiallyPresent: number;
    readonly zero: number;
    readonly bitmaps: number;
  };
  readonly parent?: {
    readonly name: string;
    readonly linkage: string;
    readonly relativePath?: string | undefined;
    readonly volumePath?: string | undefined;
    readonly absolutePath?: string | undefined;
  };
  readonly warnings: readonly string[];
}

/** @throws VhdxError for a damaged file, DrError E_NOT_FOUND, E_LOCKED, E_IO */
export async function describeVhdx(
  file: string,
  { fs }: { fs: FileSystem },
): Promise<VhdxDescription> {
  const handle = await fs.open(file, { mode: 'read', lock: 'shared' });
  try {
    const loaded = await loadStructures(handle, { report: refusing(file), isForWriting: false });
    const { current, disk, geometry, counts, creator, locator, warnings } = defined(
      loaded,
      'a refusing report throws or the structures are there',
    );
    const { header } = current;
    const intent = await readIntent(fs, await fs.realPath(file));
    if (intent !== undefined) warnings.push(`the merge of ${intent.child} into it is not finished`);
    return {
      type: disk.type,
      sizeBytes: disk.sizeBytes,
      fileBytes: await handle.size(),
      blockSizeBytes: disk.blockSizeBytes,
      logicalSectorBytes: disk.logicalSectorBytes,
      physicalSectorBytes: disk.physicalSectorBytes,
      creator,
      diskId: disk.diskId,
      dataWriteGuid: header.dataWriteGuid,
      fileWriteGuid: header.fileWriteGuid,
      sequenceNumber: header.sequenceNumber,
      log: {
        state: header.logGuid === ZERO_GUID ? 'clean' : 'dirty',
        offset: header.logOffset,
        bytes: header.logLengthBytes,
      },
      blocks: { total: geometry.payloadBlockCount, ...counts },
      ...(locator === undefined
        ? {}
        : {
            parent: {
              name: parentNameOf(locator),
              linkage: locator.parentLinkage,
              relativePath: locator.relativePath,
              volumePath: locator.volumePath,
              absolutePath: locator.absolutePath,
            },
          }),
      warnings,
    };
  } finally {
    await handle.close();
  }
}
