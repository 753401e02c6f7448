// The structures that virtdisk.dll and kernel32.dll take, as sizes and byte offsets for 64-bit Windows (hyperv.md § 2.2).
// Unions are written by offset: a buffer is zeroed, then the members of one version are set. The test compares
// this table with what a C compiler makes of declarations of our own.

export const LAYOUTS = {
  VIRTUAL_STORAGE_TYPE: { size: 20, members: { DeviceId: 0, VendorId: 4 } },
  OPEN_VIRTUAL_DISK_PARAMETERS: {
    size: 44,
    members: {
      Version: 0,
      'Version1.RWDepth': 4,
      'Version2.GetInfoOnly': 4,
      'Version2.ReadOnly': 8,
    },
  },
  // an older SDK has 8 bytes with Reserved at 4; with version 1, 24 zeroed bytes are right for both
  ATTACH_VIRTUAL_DISK_PARAMETERS: { size: 24, members: { Version: 0 } },
  CREATE_VIRTUAL_DISK_PARAMETERS: {
    size: 184,
    members: {
      Version: 0,
      'Version2.UniqueId': 8,
      'Version2.MaximumSize': 24,
      'Version2.BlockSizeInBytes': 32,
      'Version2.SectorSizeInBytes': 36,
      'Version2.PhysicalSectorSizeInBytes': 40,
      'Version2.ParentPath': 48,
      'Version2.ParentVirtualStorageType': 68,
    },
  },
  GET_VIRTUAL_DISK_INFO: {
    size: 32,
    members: {
      Version: 0,
      'Size.VirtualSize': 8,
      'Size.PhysicalSize': 16,
      'Size.BlockSize': 24,
      'Size.SectorSize': 28,
      'ParentLocation.ParentResolved': 8,
      'ParentLocation.ParentLocationBuffer': 12,
      ProviderSubtype: 8,
      VhdPhysicalSectorSize: 8,
      VirtualDiskId: 8,
      'ChangeTrackingState.Enabled': 8,
      'ChangeTrackingState.NewerChanges': 12,
      'ChangeTrackingState.MostRecentId': 16,
    },
  },
  SET_VIRTUAL_DISK_INFO: { size: 32, members: { Version: 0, VirtualDiskId: 8 } },
  QUERY_CHANGES_VIRTUAL_DISK_RANGE: { size: 24, members: { ByteOffset: 0, ByteLength: 8 } },
  MERGE_VIRTUAL_DISK_PARAMETERS: { size: 12, members: { Version: 0, 'Version1.MergeDepth': 4 } },
  RESIZE_VIRTUAL_DISK_PARAMETERS: { size: 16, members: { Version: 0, 'Version1.NewSize': 8 } },
  TOKEN_PRIVILEGES: {
    size: 16,
    members: { PrivilegeCount: 0, 'Privileges.Luid': 4, 'Privileges.Attributes': 12 },
  },
  OVERLAPPED: { size: 32, members: { Offset: 16, OffsetHigh: 20, hEvent: 24 } },
} as const;

export type StructName = keyof typeof LAYOUTS;
export type MemberOf<S extends StructName> = keyof (typeof LAYOUTS)[S]['members'] & string;

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
  const members: Readonly<Record<string, number>> = LAYOUTS[name].members;
  return members[member] ?? 0;
}
