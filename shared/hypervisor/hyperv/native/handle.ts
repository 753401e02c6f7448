// A virtual disk that is open: the calls of virtdisk.dll that take its handle, each with its structures. Whoever
// opens one closes it on every path; detaching comes with closing, and nothing is ever attached for good.

import { ZERO_GUID, type Guid } from '../../../bytes/index.js';
import type { Handle, NativeArgument, NativeLibrary } from './library.js';
import {
  LAYOUTS,
  getUint64,
  nativeBytes,
  newStruct,
  offsetOf,
  setGuid,
  setUint32,
  setUint64,
  type MemberOf,
} from './layouts.js';
import { enableManageVolume } from './privilege.js';
import type { ChangePage } from './change-query.js';
import {
  ACCESS_METAOPS,
  ACCESS_NONE,
  ATTACH_NO_LOCAL_HOST,
  ATTACH_READ_ONLY,
  ATTACH_VERSION_1,
  CREATE_VERSION_2,
  DEVICE_VHDX,
  ERROR_INSUFFICIENT_BUFFER,
  ERROR_PRIVILEGE_NOT_HELD,
  ERROR_SUCCESS,
  MERGE_VERSION_1,
  OPEN_VERSION_1,
  OPEN_VERSION_2,
  RESIZE_VERSION_1,
  SET_INFO_VIRTUAL_DISK_ID,
  VENDOR_MICROSOFT,
  badAnswer,
  win32Failure,
} from './win32.js';

/** How a file is opened; each kind has its own parameters and access mask. */
export type Purpose =
  /** to look at it */
  | { readonly kind: 'look' }
  | { readonly kind: 'read' }
  | { readonly kind: 'write' }
  /** to change its metadata, or to merge `depth - 1` files into the one under them */
  | { readonly kind: 'change'; readonly depth: number };

/** Ranges of one query; an answer with as many is followed by another query. */
const RANGES_PER_PAGE = 4096;
const TEXT_BYTES = 4096;
/** The longest path of Windows, with room. */
const TEXT_BYTES_MAX = 128 * 1024;

function storageType(deviceId: number, vendorId: Guid): Buffer {
  const bytes = newStruct('VIRTUAL_STORAGE_TYPE');
  setUint32(bytes, 'VIRTUAL_STORAGE_TYPE', 'DeviceId', deviceId);
  setGuid(bytes, 'VIRTUAL_STORAGE_TYPE', 'VendorId', vendorId);
  return bytes;
}

/** Windows finds out by the file itself. */
const anyStorageType = (): Buffer => storageType(0, ZERO_GUID);
const vhdxStorageType = (): Buffer => storageType(DEVICE_VHDX, VENDOR_MICROSOFT);

function openParameters(purpose: Purpose): { readonly mask: number; readonly bytes: Buffer } {
  const bytes = newStruct('OPEN_VIRTUAL_DISK_PARAMETERS');
  const name = 'OPEN_VIRTUAL_DISK_PARAMETERS';
  if (purpose.kind === 'change') {
    setUint32(bytes, name, 'Version', OPEN_VERSION_1);
    setUint32(bytes, name, 'Version1.RWDepth', purpose.depth);
    return { mask: ACCESS_METAOPS, bytes };
  }
  setUint32(bytes, name, 'Version', OPEN_VERSION_2);
  setUint32(bytes, name, 'Version2.GetInfoOnly', purpose.kind === 'look' ? 1 : 0);
  setUint32(bytes, name, 'Version2.ReadOnly', purpose.kind === 'write' ? 0 : 1);
  return { mask: ACCESS_NONE, bytes };
}

export interface CreateParameters {
  /** 0 for a differencing disk: everything comes from the parent. */
  readonly sizeBytes: number;
  readonly blockBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly parentPath: string | undefined;
}

export class VirtualDiskHandle {
  readonly path: string;
  readonly handle: Handle;
  readonly #library: NativeLibrary;
  #isAttached = false;

  private constructor(library: NativeLibrary, path: string, handle: Handle) {
    this.#library = library;
    this.path = path;
    this.handle = handle;
  }

  static async open(
    library: NativeLibrary,
    path: string,
    purpose: Purpose,
  ): Promise<VirtualDiskHandle> {
    const { mask, bytes } = openParameters(purpose);
    const handle = nativeBytes(8);
    const args = [anyStorageType(), path, mask, 0, bytes, handle];
    const win32 = await library.callAsync('OpenVirtualDisk', ...args);
    if (win32 !== ERROR_SUCCESS) throw win32Failure(win32, { call: 'OpenVirtualDisk', path });
    return new VirtualDiskHandle(library, path, handle.readBigInt64LE(0));
  }

  /** Makes the file; the disk is open on return. */
  static async create(
    library: NativeLibrary,
    path: string,
    wanted: CreateParameters,
  ): Promise<VirtualDiskHandle> {
    const name = 'CREATE_VIRTUAL_DISK_PARAMETERS';
    const { size } = LAYOUTS[name];
    const { parentPath } = wanted;
    // the parent's path lies behind the structure, so that what points to it keeps it alive
    const text = parentPath === undefined ? Buffer.alloc(0) : wideText(parentPath);
    const bytes = nativeBytes(size + text.length);
    setUint32(bytes, name, 'Version', CREATE_VERSION_2);
    setUint64(bytes, name, 'Version2.MaximumSize', BigInt(wanted.sizeBytes));
    setUint32(bytes, name, 'Version2.BlockSizeInBytes', wanted.blockBytes);
    setUint32(bytes, name, 'Version2.SectorSizeInBytes', wanted.logicalSectorBytes);
    setUint32(bytes, name, 'Version2.PhysicalSectorSizeInBytes', wanted.physicalSectorBytes);
    if (parentPath !== undefined) {
      text.copy(bytes, size);
      const address = library.addressOf(bytes) + BigInt(size);
      setUint64(bytes, name, 'Version2.ParentPath', address);
      vhdxStorageType().copy(bytes, offsetOf(name, 'Version2.ParentVirtualStorageType'));
    }
    const handle = nativeBytes(8);
    const noFlags = 0;
    const args = [vhdxStorageType(), path, ACCESS_NONE, null, noFlags, 0, bytes, null, handle];
    const win32 = await library.callAsync('CreateVirtualDisk', ...args);
    if (win32 !== ERROR_SUCCESS) throw win32Failure(win32, { call: 'CreateVirtualDisk', path });
    return new VirtualDiskHandle(library, path, handle.readBigInt64LE(0));
  }

  /** From now on the handle can be read, or written to; the host does not see the disk. */
  async attach({ isWritable }: { readonly isWritable: boolean }): Promise<void> {
    const bytes = newStruct('ATTACH_VIRTUAL_DISK_PARAMETERS');
    setUint32(bytes, 'ATTACH_VIRTUAL_DISK_PARAMETERS', 'Version', ATTACH_VERSION_1);
    const flags = ATTACH_NO_LOCAL_HOST | (isWritable ? 0 : ATTACH_READ_ONLY);
    const attach = (): Promise<number> =>
      this.#library.callAsync('AttachVirtualDisk', this.handle, null, flags, 0, bytes, null);
    let win32 = await attach();
    if (win32 === ERROR_PRIVILEGE_NOT_HELD && enableManageVolume(this.#library)) {
      win32 = await attach();
    }
    if (win32 !== ERROR_SUCCESS) {
      throw win32Failure(win32, { call: 'AttachVirtualDisk', path: this.path });
    }
    this.#isAttached = true;
  }

  /** A kind of GET_VIRTUAL_DISK_INFO of fixed size. */
  information(kind: number): Promise<Buffer> {
    return this.#information(kind, LAYOUTS.GET_VIRTUAL_DISK_INFO.size);
  }

  /** A kind that ends with a text; the text is whole, up to its first NUL. */
  async informationWithText(
    kind: number,
    member: MemberOf<'GET_VIRTUAL_DISK_INFO'>,
  ): Promise<{ readonly bytes: Buffer; readonly text: string }> {
    const bytes = await this.#information(kind, TEXT_BYTES);
    const units = bytes.subarray(offsetOf('GET_VIRTUAL_DISK_INFO', member));
    const end = Array.from({ length: units.length >> 1 }, (_, index) => index).find(
      (index) => units.readUInt16LE(2 * index) === 0,
    );
    if (end === undefined) {
      const call = 'GetVirtualDiskInformation';
      throw badAnswer(`the text of kind ${kind} has no end`, { call, path: this.path });
    }
    return { bytes, text: units.toString('utf16le', 0, 2 * end) };
  }

  async setDiskId(diskId: Guid): Promise<void> {
    const bytes = newStruct('SET_VIRTUAL_DISK_INFO');
    setUint32(bytes, 'SET_VIRTUAL_DISK_INFO', 'Version', SET_INFO_VIRTUAL_DISK_ID);
    setGuid(bytes, 'SET_VIRTUAL_DISK_INFO', 'VirtualDiskId', diskId);
    await this.#call('SetVirtualDiskInformation', bytes);
  }

  async merge(depth: number): Promise<void> {
    const bytes = newStruct('MERGE_VIRTUAL_DISK_PARAMETERS');
    setUint32(bytes, 'MERGE_VIRTUAL_DISK_PARAMETERS', 'Version', MERGE_VERSION_1);
    setUint32(bytes, 'MERGE_VIRTUAL_DISK_PARAMETERS', 'Version1.MergeDepth', depth);
    const win32 = await this.#library.callAsync('MergeVirtualDisk', this.handle, 0, bytes, null);
    if (win32 === ERROR_SUCCESS) return;
    // what has reached the parent is right there, and no harm as long as the child stays above it
    const done = 'a part may be merged; nothing is lost while the files stay together';
    throw win32Failure(win32, { call: 'MergeVirtualDisk', path: this.path, done });
  }

  async resize(sizeBytes: number): Promise<void> {
    const bytes = newStruct('RESIZE_VIRTUAL_DISK_PARAMETERS');
    setUint32(bytes, 'RESIZE_VIRTUAL_DISK_PARAMETERS', 'Version', RESIZE_VERSION_1);
    setUint64(bytes, 'RESIZE_VIRTUAL_DISK_PARAMETERS', 'Version1.NewSize', BigInt(sizeBytes));
    await this.#call('ResizeVirtualDisk', 0, bytes, null);
  }

  /** One answer about the changes in [offset, offset + lengthBytes); it may cover a part only. */
  async changes(trackingId: string, offset: number, lengthBytes: number): Promise<ChangePage> {
    const name = 'QUERY_CHANGES_VIRTUAL_DISK_RANGE';
    const { size } = LAYOUTS[name];
    const ranges = nativeBytes(RANGES_PER_PAGE * size);
    const count = nativeBytes(4);
    count.writeUInt32LE(RANGES_PER_PAGE);
    const processed = nativeBytes(8);
    const call = 'QueryChangesVirtualDisk';
    await this.#call(call, trackingId, offset, lengthBytes, 0, ranges, count, processed);
    const found = count.readUInt32LE(0);
    if (found > RANGES_PER_PAGE) {
      throw badAnswer(`${found} ranges where ${RANGES_PER_PAGE} fit`, { call, path: this.path });
    }
    return {
      processedBytes: processed.readBigUInt64LE(0),
      ranges: Array.from({ length: found }, (_, index) => {
        const range = ranges.subarray(index * size);
        return {
          offset: getUint64(range, name, 'ByteOffset'),
          lengthBytes: getUint64(range, name, 'ByteLength'),
        };
      }),
    };
  }

  /** Detaches and closes; the handle is gone in any case. */
  async close(): Promise<void> {
    try {
      if (this.#isAttached) await this.#call('DetachVirtualDisk', 0, 0);
    } finally {
      // the last handle detaches as well: a failed detach leaves nothing behind
      this.#library.call('CloseHandle', this.handle);
    }
  }

  async #information(kind: number, roomBytes: number): Promise<Buffer> {
    const bytes = nativeBytes(roomBytes);
    setUint32(bytes, 'GET_VIRTUAL_DISK_INFO', 'Version', kind);
    const size = nativeBytes(4);
    size.writeUInt32LE(roomBytes);
    const call = 'GetVirtualDiskInformation';
    const win32 = await this.#library.callAsync(call, this.handle, size, bytes, null);
    if (win32 === ERROR_SUCCESS) return bytes;
    const neededBytes = size.readUInt32LE(0);
    const isTooSmall = win32 === ERROR_INSUFFICIENT_BUFFER && neededBytes > roomBytes;
    if (isTooSmall && neededBytes <= TEXT_BYTES_MAX) return this.#information(kind, neededBytes);
    throw win32Failure(win32, { call, path: this.path });
  }

  /** A call of virtdisk.dll about this disk, which answers with a code of Windows. */
  async #call(
    call: Parameters<NativeLibrary['callAsync']>[0],
    ...args: readonly NativeArgument[]
  ): Promise<void> {
    const win32 = await this.#library.callAsync(call, this.handle, ...args);
    if (win32 !== ERROR_SUCCESS) throw win32Failure(win32, { call, path: this.path });
  }
}

/** UTF-16 with its NUL. */
function wideText(text: string): Buffer {
  return Buffer.from(`${text}\0`, 'utf16le');
}
