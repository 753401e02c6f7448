// Making empty disks of all three types. An empty disk is a sealed file into which nothing was
// written; a child takes size, sectors and identity from the parent that it is linked to.

import type { Random } from '../clock.js';
import { DrError } from '../errors.js';
import type { FileSystem } from '../files/index.js';
import { openVhdx, type VhdxDisk } from './chain.js';
import type { VhdxType } from './geometry.js';
import type { NewDisk } from './layout.js';
import { realTargetPath, relativeParentPath } from './parent-path.js';
import { SealedVhdxWriter } from './sealed.js';

export interface CreateVhdxRequest {
  readonly type: VhdxType;
  /** Required but for a differencing disk, which has its parent's size. */
  readonly sizeBytes?: number | undefined;
  /** Required for a differencing disk, and only there. */
  readonly parentPath?: string | undefined;
  readonly blockSizeBytes?: number | undefined;
  readonly logicalSectorBytes?: number | undefined;
  readonly physicalSectorBytes?: number | undefined;
}

interface Environment {
  readonly fs: FileSystem;
  readonly random: Random;
}

/**
 * Creates an empty disk; durable and complete under its name on return, or not there at all.
 * @throws DrError E_USAGE, E_EXISTS, E_VHDX_PATH when the parent is not in the child's folder
 */
export async function createVhdx(
  file: string,
  request: CreateVhdxRequest,
  environment: Environment,
): Promise<void> {
  const disk = await completeRequest(file, request, environment);
  const writer = await SealedVhdxWriter.create({ ...disk, ...environment, path: file });
  await writer.finish();
}

/** The full description of a disk to be made, a child's from its parent. */
export async function completeRequest(
  file: string,
  request: CreateVhdxRequest,
  { fs, random }: Environment,
): Promise<NewDisk> {
  const { type, sizeBytes, parentPath, blockSizeBytes } = request;
  if (type !== 'differencing') {
    if (parentPath !== undefined) throw new DrError('E_USAGE', `a ${type} disk has no parent`);
    if (sizeBytes === undefined) throw new DrError('E_USAGE', `a ${type} disk needs a size`);
    const { logicalSectorBytes, physicalSectorBytes } = request;
    return { type, sizeBytes, blockSizeBytes, logicalSectorBytes, physicalSectorBytes };
  }
  if (parentPath === undefined) throw new DrError('E_USAGE', 'a differencing disk needs a parent');
  if (sizeBytes !== undefined) {
    throw new DrError(
      'E_USAGE',
      'a differencing disk has the size of its parent; leave the size out',
    );
  }
  const parent = await openVhdx(parentPath, { fs, random });
  try {
    return childOf(parent, await realTargetPath(fs, file), blockSizeBytes);
  } finally {
    await parent.close();
  }
}

/**
 * The description of a differencing disk over an open parent; `childPath` without links.
 * @throws DrError E_VHDX_PATH when the parent does not stand in or below the child's folder
 */
export function childOf(
  parent: VhdxDisk,
  childPath: string,
  blockSizeBytes?: number,
  dataWriteGuid?: NewDisk['dataWriteGuid'],
): NewDisk {
  const relativePath = relativeParentPath(childPath, parent.top.path);
  if (relativePath === undefined) {
    throw new DrError(
      'E_VHDX_PATH',
      `the parent ${parent.top.path} is not in the folder of the new disk ${childPath}, or has a ` +
        'name that a parent locator cannot hold',
      { hint: 'Create the child beside its parent; a backslash or a device name does not do.' },
    );
  }
  return {
    type: 'differencing',
    sizeBytes: parent.sizeBytes,
    blockSizeBytes,
    logicalSectorBytes: parent.logicalSectorBytes,
    physicalSectorBytes: parent.physicalSectorBytes,
    diskId: parent.top.structures.disk.diskId,
    dataWriteGuid,
    locator: { parentLinkage: parent.top.header.dataWriteGuid, relativePath },
  };
}
