// The structures that virtdisk.dll and kernel32.dll take, as sizes and byte offsets for 64-bit Windows (hyperv.md § 2.2).
// Unions are written by offset: a buffer is zeroed, then the members of one version are set. A test compares this table
// with what is recorded of Windows, another with what a C compiler makes of declarations of our own.

import { readGuid, writeGuid, type Guid } from '../../../bytes/index.js';

/** What a member can be, and the bytes that Windows gives to it. */
export const MEMBER_BYTES = {
  /** also BOOL and every enum */
  uint32: 4,
  uint64: 8,
  pointer: 8,
  handle: 8,
  guid: 16,
  luid: 8,
  storageType: 20,
  /** the first character of one without a fixed end */
  text: 2,
} as const;

export type MemberType = keyof typeof MEMBER_BYTES;

export interface Layout {
  readonly size: number;
  readonly members: Readonly<Record<string, readonly [offset: number, type: MemberType]>>;
}

export const LAYOUTS = {
  VIRTUAL_STORAGE_TYPE: { size: 20, members: { DeviceId: [0, 'uint32'], VendorId: [4, 'guid'] } },
  OPEN_VIRTUAL_DISK_PARAMETERS: {
    size: 44,
    members: {
      Version: [0, 'uint32'],
      'Version1.RWDepth': [4, 'uint32'],
      'Version2.GetInfoOnly': [4, 'uint32'],
      'Version2.ReadOnly': [8, 'uint32'],
    },
  },
  // an older SDK has 8 bytes with Reserved at 4; with version 1, 24 zeroed bytes are right for both
  ATTACH_VIRTUAL_DISK_PARAMETERS: { size: 24, members: { Version: [0, 'uint32'] } },
  CREATE_VIRTUAL_DISK_PARAMETERS: {
    size: 184,
    members: {
      Version: [0, 'uint32'],
      'Version2.UniqueId': [8, 'guid'],
      'Version2.MaximumSize': [24, 'uint64'],
      'Version2.BlockSizeInBytes': [32, 'uint32'],
      'Version2.SectorSizeInBytes': [36, 'uint32'],
      'Version2.PhysicalSectorSizeInBytes': [40, 'uint32'],
      'Version2.ParentPath': [48, 'pointer'],
      'Version2.ParentVirtualStorageType': [68, 'storageType'],
    },
  },
  GET_VIRTUAL_DISK_INFO: {
    size: 32,
    members: {
      Version: [0, 'uint32'],
      'Size.VirtualSize': [8, 'uint64'],
      'Size.PhysicalSize': [16, 'uint64'],
      'Size.BlockSize': [24, 'uint32'],
      'Size.SectorSize': [28, 'uint32'],
      'ParentLocation.ParentResolved': [8, 'uint32'],
      'ParentLocation.ParentLocationBuffer': [12, 'text'],
      ProviderSubtype: [8, 'uint32'],
      VhdPhysicalSectorSize: [8, 'uint32'],
      VirtualDiskId: [8, 'guid'],
      'ChangeTrackingState.Enabled': [8, 'uint32'],
      'ChangeTrackingState.NewerChanges': [12, 'uint32'],
      'ChangeTrackingState.MostRecentId': [16, 'text'],
    },
  },
  SET_VIRTUAL_DISK_INFO: {
    size: 32,
    members: { Version: [0, 'uint32'], VirtualDiskId: [8, 'guid'] },
  },
  QUERY_CHANGES_VIRTUAL_DISK_RANGE: {
    size: 24,
    members: { ByteOffset: [0, 'uint64'], ByteLength: [8, 'uint64'] },
  },
  MERGE_VIRTUAL_DISK_PARAMETERS: {
    size: 12,
    members: { Version: [0, 'uint32'], 'Version1.MergeDepth': [4, 'uint32'] },
  },
  RESIZE_VIRTUAL_DISK_PARAMETERS: {
    size: 16,
    members: { Version: [0, 'uint32'], 'Version1.NewSize': [8, 'uint64'] },
  },
  TOKEN_PRIVILEGES: {
    size: 16,
    members: {
      PrivilegeCount: [0, 'uint32'],
      'Privileges.Luid': [4, 'luid'],
      'Privileges.Attributes': [12, 'uint32'],
    },
  },
  OVERLAPPED: {
    size: 32,
    members: { Offset: [16, 'uint32'], OffsetHigh: [20, 'uint32'], hEvent: [24, 'handle'] },
  },
} as const satisfies Readonly<Record<string, Layout>>;

export type StructName = keyof typeof LAYOUTS;
export type MemberOf<S extends StructName> = keyof (typeof LAYOUTS)[S]['members'] & string;

/** The members of a structure that are of one of the types. */
type MemberAs<S extends StructName, T extends MemberType> = {
  [M in MemberOf<S>]: (typeof LAYOUTS)[S]['members'][M] extends readonly [number, T] ? M : never;
}[MemberOf<S>];

/** Zeroed bytes outside the garbage collector's heap: their address stays as long as they are referenced. */
export function nativeBytes(lengthBytes: number): Buffer {
  return Buffer.from(new ArrayBuffer(lengthBytes));
}

/** A zeroed structure. */
export function newStruct(name: StructName): Buffer {
  return nativeBytes(LAYOUTS[name].size);
}

/** Where a member lies in its structure. */
export function offsetOf<S extends StructName>(name: S, member: MemberOf<S>): number {
  return placeOf(name, member);
}

// The accessors take only members of their own width, so that the table alone says how wide one is.

export function setUint32<S extends StructName>(
  bytes: Buffer,
  name: S,
  member: MemberAs<S, 'uint32'>,
  value: number,
): void {
  bytes.writeUInt32LE(value, placeOf(name, member));
}

export function getUint32<S extends StructName>(
  bytes: Buffer,
  name: S,
  member: MemberAs<S, 'uint32'>,
): number {
  return bytes.readUInt32LE(placeOf(name, member));
}

export function setUint64<S extends StructName>(
  bytes: Buffer,
  name: S,
  member: MemberAs<S, 'uint64' | 'pointer' | 'handle'>,
  value: bigint,
): void {
  bytes.writeBigUInt64LE(value, placeOf(name, member));
}

export function getUint64<S extends StructName>(
  bytes: Buffer,
  name: S,
  member: MemberAs<S, 'uint64'>,
): bigint {
  return bytes.readBigUInt64LE(placeOf(name, member));
}

export function setGuid<S extends StructName>(
  bytes: Buffer,
  name: S,
  member: MemberAs<S, 'guid'>,
  value: Guid,
): void {
  writeGuid(bytes, placeOf(name, member), value);
}

export function getGuid<S extends StructName>(
  bytes: Buffer,
  name: S,
  member: MemberAs<S, 'guid'>,
): Guid {
  return readGuid(bytes, placeOf(name, member));
}

function placeOf(name: StructName, member: string): number {
  const { members }: Layout = LAYOUTS[name];
  return members[member]?.[0] ?? 0;
}
