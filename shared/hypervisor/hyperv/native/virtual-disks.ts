// The port over virtdisk.dll (hyperv.md § 2). One instance serves a whole agent; it holds no disk between calls.

import type { Guid } from '../../../bytes/index.js';
import type { ReadableDisk, WritableDisk } from '../../../disk/index.js';
import type { ByteRange } from '../../source.js';
import { AttachedDisk } from './attached-disk.js';
import { changesOf } from './change-query.js';
import { VirtualDiskHandle, type CreateParameters, type Purpose } from './handle.js';
import { getGuid, getUint32, getUint64 } from './layouts.js';
import {
  NativeLibrary,
  WINDOWS_LIBRARIES,
  type FunctionName,
  type LibraryNames,
} from './library.js';
import {
  VirtualDiskError,
  type ChangeTracking,
  type NewVirtualDisk,
  type OpenFrozenOptions,
  type VirtualDiskCapabilities,
  type VirtualDiskFacts,
  type VirtualDiskKind,
  type VirtualDisks,
} from './port.js';
import { TRANSFER_LIMITS, type TransferLimits } from './transfer.js';
import {
  INFO_CHANGE_TRACKING,
  INFO_PARENT_LOCATION,
  INFO_PHYSICAL_SECTOR,
  INFO_PROVIDER_SUBTYPE,
  INFO_SIZE,
  INFO_VIRTUAL_DISK_ID,
  SUBTYPE_DIFFERENCING,
  SUBTYPE_DYNAMIC,
  SUBTYPE_FIXED,
  TRACKING_ID_CHARACTERS_MAX,
  badAnswer,
} from './win32.js';

export interface NativeVirtualDisksOptions {
  /** Default: those of Windows. Tests name a double here; nothing else can. */
  readonly libraries?: LibraryNames;
  readonly limits?: TransferLimits;
}

const KINDS: Readonly<Record<number, VirtualDiskKind>> = {
  [SUBTYPE_FIXED]: 'fixed',
  [SUBTYPE_DYNAMIC]: 'dynamic',
  [SUBTYPE_DIFFERENCING]: 'differencing',
};

const TO_READ: readonly FunctionName[] = [
  ...(['OpenVirtualDisk', 'AttachVirtualDisk', 'DetachVirtualDisk'] as const),
  ...(['GetVirtualDiskInformation', 'CloseHandle', 'CreateEventW', 'ReadFile'] as const),
  ...(['WaitForSingleObject', 'GetOverlappedResult', 'CancelIoEx', 'GetLastError'] as const),
];

export class NativeVirtualDisks implements VirtualDisks {
  readonly #names: LibraryNames;
  readonly #limits: TransferLimits;
  #library: Promise<NativeLibrary> | undefined;

  constructor({ libraries, limits }: NativeVirtualDisksOptions = {}) {
    this.#names = libraries ?? WINDOWS_LIBRARIES;
    this.#limits = limits ?? TRANSFER_LIMITS;
  }

  async capabilities(): Promise<VirtualDiskCapabilities> {
    // without koffi there is nothing at all
    const library = await this.#load().catch(() => undefined);
    return capabilitiesOf((name) => library?.has(name) === true);
  }

  inspect(path: string): Promise<VirtualDiskFacts> {
    return this.#withDisk(path, { kind: 'look' }, factsOf);
  }

  async openFrozen(path: string, options: OpenFrozenOptions = {}): Promise<ReadableDisk> {
    try {
      return await this.#attach(path, { isWritable: false, openMap: options.openMap });
    } catch (error) {
      const isMissing = error instanceof VirtualDiskError && error.fault === 'not-available';
      if (isMissing && options.openInstead !== undefined) return options.openInstead(path);
      throw error;
    }
  }

  openWritable(path: string): Promise<WritableDisk> {
    return this.#attach(path, { isWritable: true });
  }

  async *changedRanges(path: string, trackingId: string): AsyncGenerator<ByteRange> {
    const call = 'QueryChangesVirtualDisk';
    const isPossible =
      trackingId.length > 0 &&
      trackingId.length <= TRACKING_ID_CHARACTERS_MAX &&
      !trackingId.includes('\0');
    if (!isPossible) {
      const text = `${call} of ${path}: the stored tracking id is none`;
      throw new VirtualDiskError('E_TRACKING_INVALID', text, 'tracking-unknown-id');
    }
    const library = await this.#load();
    library.require(call);
    const disk = await VirtualDiskHandle.open(library, path, { kind: 'read' });
    try {
      const { sizeBytes } = await sizesOf(disk);
      const page = async (offset: number, lengthBytes: number) => {
        try {
          return await disk.changes(trackingId, offset, lengthBytes);
        } catch (error) {
          throw asTrackingFailure(error);
        }
      };
      const refuse = (what: string): Error => asTrackingFailure(badAnswer(what, { call, path }));
      yield* changesOf({ sizeBytes, page, refuse });
    } finally {
      await disk.close();
    }
  }

  async createDisk(wanted: NewVirtualDisk): Promise<void> {
    const { sizeBytes, logicalSectorBytes, physicalSectorBytes, blockBytes = 0 } = wanted;
    const sizes = { sizeBytes, logicalSectorBytes, physicalSectorBytes, blockBytes };
    await this.#create(wanted.path, { ...sizes, parentPath: undefined });
    await this.#identify(wanted.path, wanted.diskId);
  }

  async createChild(path: string, parentPath: string): Promise<void> {
    const { diskId } = await this.inspect(parentPath);
    await this.#create(path, {
      ...{ sizeBytes: 0, blockBytes: 0, logicalSectorBytes: 0, physicalSectorBytes: 0 },
      parentPath,
    });
    await this.#identify(path, diskId);
  }

  setDiskId(path: string, diskId: Guid): Promise<void> {
    return this.#withDisk(path, { kind: 'change', depth: 1 }, (disk) => disk.setDiskId(diskId));
  }

  merge(path: string, levels: number): Promise<void> {
    return this.#withDisk(path, { kind: 'change', depth: levels + 1 }, (disk) =>
      disk.merge(levels),
    );
  }

  grow(path: string, sizeBytes: number): Promise<void> {
    return this.#withDisk(path, { kind: 'change', depth: 1 }, (disk) => disk.resize(sizeBytes));
  }

  #load(): Promise<NativeLibrary> {
    this.#library ??= NativeLibrary.load(this.#names);
    return this.#library;
  }

  async #open(path: string, purpose: Purpose): Promise<VirtualDiskHandle> {
    return VirtualDiskHandle.open(await this.#load(), path, purpose);
  }

  async #withDisk<T>(
    path: string,
    purpose: Purpose,
    work: (disk: VirtualDiskHandle) => Promise<T>,
  ): Promise<T> {
    const disk = await this.#open(path, purpose);
    try {
      return await work(disk);
    } finally {
      await disk.close();
    }
  }

  async #create(path: string, wanted: CreateParameters): Promise<void> {
    const disk = await VirtualDiskHandle.create(await this.#load(), path, wanted);
    await disk.close();
  }

  /** Gives a new file its content id, unless it has it from its parent. */
  async #identify(path: string, diskId: Guid): Promise<void> {
    try {
      const found = await this.inspect(path);
      if (found.diskId !== diskId) await this.setDiskId(path, diskId);
    } catch (error) {
      if (!(error instanceof VirtualDiskError)) throw error;
      const { code, message, fault, context, hint } = error;
      const done = 'the new file stays, without the identity that it was to have';
      throw new VirtualDiskError(code, message, fault, { context, hint, done, cause: error });
    }
  }

  async #attach(
    path: string,
    { isWritable, openMap }: { isWritable: boolean } & Pick<OpenFrozenOptions, 'openMap'>,
  ): Promise<AttachedDisk> {
    const library = await this.#load();
    const disk = await this.#open(path, { kind: isWritable ? 'write' : 'read' });
    let map: ReadableDisk | undefined;
    try {
      const facts = await factsOf(disk);
      map = await openMap?.(path);
      if (map !== undefined && map.sizeBytes !== facts.sizeBytes) {
        const what = `it has ${facts.sizeBytes} bytes, its map ${map.sizeBytes}`;
        throw badAnswer(what, { call: 'OpenVirtualDisk', path });
      }
      await disk.attach({ isWritable });
      return new AttachedDisk({ library, disk, facts, limits: this.#limits, map });
    } catch (error) {
      await Promise.allSettled([disk.close(), map?.close()]);
      throw error;
    }
  }
}

function capabilitiesOf(has: (name: FunctionName) => boolean): VirtualDiskCapabilities {
  const canOpen = has('OpenVirtualDisk') && has('CloseHandle');
  return {
    canRead: TO_READ.every(has),
    canQueryChanges: canOpen && has('QueryChangesVirtualDisk'),
    canCreate: canOpen && has('CreateVirtualDisk') && has('SetVirtualDiskInformation'),
    canMerge: canOpen && has('MergeVirtualDisk'),
    canResize: canOpen && has('ResizeVirtualDisk'),
  };
}

/**
 * An error of the query itself: what the caller can mend, or wait for, stays what it is; after anything else nothing
 * is known about changes.
 */
function asTrackingFailure(error: unknown): Error {
  if (!(error instanceof VirtualDiskError)) throw error;
  if (error.fault === 'access-denied' || error.fault === 'in-use') return error;
  const { message, fault, context } = error;
  return new VirtualDiskError('E_TRACKING_INVALID', message, fault, { context, cause: error });
}

async function sizesOf(
  disk: VirtualDiskHandle,
): Promise<
  Pick<VirtualDiskFacts, 'sizeBytes' | 'fileBytes' | 'blockBytes' | 'logicalSectorBytes'>
> {
  const name = 'GET_VIRTUAL_DISK_INFO';
  const bytes = await disk.information(INFO_SIZE);
  const refuse = (what: string): Error =>
    badAnswer(what, { call: 'GetVirtualDiskInformation', path: disk.path });
  const sizeBytes = Number(getUint64(bytes, name, 'Size.VirtualSize'));
  const logicalSectorBytes = getUint32(bytes, name, 'Size.SectorSize');
  if (!isSectorSize(logicalSectorBytes)) throw refuse(`a sector of ${logicalSectorBytes} bytes`);
  const isWhole = Number.isSafeInteger(sizeBytes) && sizeBytes % logicalSectorBytes === 0;
  if (!isWhole || sizeBytes === 0) throw refuse(`a disk of ${sizeBytes} bytes`);
  return {
    sizeBytes,
    logicalSectorBytes,
    fileBytes: Number(getUint64(bytes, name, 'Size.PhysicalSize')),
    blockBytes: getUint32(bytes, name, 'Size.BlockSize'),
  };
}

const isSectorSize = (bytes: number): boolean => bytes === 512 || bytes === 4096;

async function factsOf(disk: VirtualDiskHandle): Promise<VirtualDiskFacts> {
  const name = 'GET_VIRTUAL_DISK_INFO';
  const sizes = await sizesOf(disk);
  const physical = await disk.information(INFO_PHYSICAL_SECTOR);
  const subtype = await disk.information(INFO_PROVIDER_SUBTYPE);
  const identity = await disk.information(INFO_VIRTUAL_DISK_ID);
  const kind = KINDS[getUint32(subtype, name, 'ProviderSubtype')] ?? 'unknown';
  const physicalSectorBytes = getUint32(physical, name, 'VhdPhysicalSectorSize');
  if (!isSectorSize(physicalSectorBytes)) {
    const what = `a physical sector of ${physicalSectorBytes} bytes`;
    throw badAnswer(what, { call: 'GetVirtualDiskInformation', path: disk.path });
  }
  return {
    ...sizes,
    physicalSectorBytes,
    diskId: getGuid(identity, name, 'VirtualDiskId'),
    kind,
    parentPath: kind === 'differencing' ? await parentOf(disk) : undefined,
    tracking: await trackingOf(disk),
  };
}

async function parentOf(disk: VirtualDiskHandle): Promise<string | undefined> {
  const { bytes, text } = await disk.informationWithText(
    INFO_PARENT_LOCATION,
    'ParentLocation.ParentLocationBuffer',
  );
  const isResolved = getUint32(bytes, 'GET_VIRTUAL_DISK_INFO', 'ParentLocation.ParentResolved');
  // unresolved, the text is a list of places where it might be
  return isResolved === 0 ? undefined : text;
}

/** undefined for a Windows, or a kind of disk, without change tracking. */
async function trackingOf(disk: VirtualDiskHandle): Promise<ChangeTracking | undefined> {
  const name = 'GET_VIRTUAL_DISK_INFO';
  try {
    const { bytes, text } = await disk.informationWithText(
      INFO_CHANGE_TRACKING,
      'ChangeTrackingState.MostRecentId',
    );
    return {
      isEnabled: getUint32(bytes, name, 'ChangeTrackingState.Enabled') !== 0,
      hasNewerChanges: getUint32(bytes, name, 'ChangeTrackingState.NewerChanges') !== 0,
      latestId: text,
    };
  } catch (error) {
    const isMissing =
      error instanceof VirtualDiskError &&
      (error.fault === 'not-available' || error.context['win32Name'] === 'ERROR_INVALID_PARAMETER');
    if (isMissing) return undefined;
    throw error;
  }
}
