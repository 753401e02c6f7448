// SPDX-License-Identifier: Apache-2.0
/* The structures of virtdisk.dll and kernel32.dll that the product passes, declared by our own hands after the
   documented ones for 64-bit Windows. Fixed widths, so that gcc and mingw-w64 lay them out alike; the header of mingw
   is not used, as its CREATE_VIRTUAL_DISK_PARAMETERS misses a member. */
#ifndef LAYOUTS_H
#define LAYOUTS_H

#include <stdint.h>

struct guid {
    uint32_t Data1;
    uint16_t Data2;
    uint16_t Data3;
    uint8_t Data4[8];
};

struct storage_type {
    uint32_t DeviceId;
    struct guid VendorId;
};

struct open_parameters {
    uint32_t Version;
    union {
        struct {
            uint32_t RWDepth;
        } Version1;
        struct {
            int32_t GetInfoOnly;
            int32_t ReadOnly;
            struct guid ResiliencyGuid;
        } Version2;
        struct {
            int32_t GetInfoOnly;
            int32_t ReadOnly;
            struct guid ResiliencyGuid;
            struct guid SnapshotId;
        } Version3;
    };
};

struct attach_parameters {
    uint32_t Version;
    union {
        struct {
            uint32_t Reserved;
        } Version1;
        struct {
            uint64_t RestrictedOffset;
            uint64_t RestrictedLength;
        } Version2;
    };
};

struct create_parameters {
    uint32_t Version;
    union {
        struct {
            struct guid UniqueId;
            uint64_t MaximumSize;
            uint32_t BlockSizeInBytes;
            uint32_t SectorSizeInBytes;
            uint32_t PhysicalSectorSizeInBytes;
            const uint16_t *ParentPath;
            const uint16_t *SourcePath;
            uint32_t OpenFlags;
            struct storage_type ParentVirtualStorageType;
            struct storage_type SourceVirtualStorageType;
            struct guid ResiliencyGuid;
        } Version2;
        struct {
            struct guid UniqueId;
            uint64_t MaximumSize;
            uint32_t BlockSizeInBytes;
            uint32_t SectorSizeInBytes;
            uint32_t PhysicalSectorSizeInBytes;
            const uint16_t *ParentPath;
            const uint16_t *SourcePath;
            uint32_t OpenFlags;
            struct storage_type ParentVirtualStorageType;
            struct storage_type SourceVirtualStorageType;
            struct guid ResiliencyGuid;
            const uint16_t *SourceLimitPath;
            struct storage_type BackingStorageType;
            struct guid PmemAddressAbstractionType;
            uint64_t DataAlignment;
        } Version4;
    };
};

struct get_info {
    uint32_t Version;
    union {
        struct {
            uint64_t VirtualSize;
            uint64_t PhysicalSize;
            uint32_t BlockSize;
            uint32_t SectorSize;
        } Size;
        struct {
            int32_t ParentResolved;
            uint16_t ParentLocationBuffer[1];
        } ParentLocation;
        uint32_t ProviderSubtype;
        uint32_t VhdPhysicalSectorSize;
        struct guid VirtualDiskId;
        struct {
            int32_t Enabled;
            int32_t NewerChanges;
            uint16_t MostRecentId[1];
        } ChangeTrackingState;
    };
};

struct set_info {
    uint32_t Version;
    union {
        struct guid VirtualDiskId;
        struct {
            uint32_t ChildDepth;
            const uint16_t *ParentFilePath;
        } ParentPathWithDepthInfo;
        struct {
            struct guid LinkageId;
            const uint16_t *ParentFilePath;
        } ParentLocator;
    };
};

struct changes_range {
    uint64_t ByteOffset;
    uint64_t ByteLength;
    uint64_t Reserved;
};

struct merge_parameters {
    uint32_t Version;
    union {
        struct {
            uint32_t MergeDepth;
        } Version1;
        struct {
            uint32_t MergeSourceDepth;
            uint32_t MergeTargetDepth;
        } Version2;
    };
};

struct resize_parameters {
    uint32_t Version;
    struct {
        uint64_t NewSize;
    } Version1;
};

struct luid {
    uint32_t LowPart;
    int32_t HighPart;
};

struct token_privileges {
    uint32_t PrivilegeCount;
    struct {
        struct luid Luid;
        uint32_t Attributes;
    } Privileges;
};

struct overlapped {
    uint64_t Internal;
    uint64_t InternalHigh;
    uint32_t Offset;
    uint32_t OffsetHigh;
    int64_t hEvent;
};

#endif
