// SPDX-License-Identifier: Apache-2.0
/* Prints the sizes and offsets that the compiler gives to layouts.h, as JSON: the oracle for native/layouts.ts. */
#include <stddef.h>
#include <stdio.h>

#include "layouts.h"

#define BEGIN(name, type) printf("\"%s\": {\"size\": %u, \"members\": {", name, (unsigned)sizeof(struct type))
#define PLACE(type, member) \
    printf("\"%s\": {\"offset\": %u, \"size\": %u}", #member, (unsigned)offsetof(struct type, member), \
           (unsigned)sizeof(((struct type *)0)->member))
#define MEMBER(type, member) PLACE(type, member), printf(", ")
#define LAST(type, member, end) PLACE(type, member), printf("}}%s\n", end)

int main(void) {
    printf("{");
    BEGIN("VIRTUAL_STORAGE_TYPE", storage_type);
    MEMBER(storage_type, DeviceId);
    LAST(storage_type, VendorId, ",");
    BEGIN("OPEN_VIRTUAL_DISK_PARAMETERS", open_parameters);
    MEMBER(open_parameters, Version);
    MEMBER(open_parameters, Version1.RWDepth);
    MEMBER(open_parameters, Version2.GetInfoOnly);
    LAST(open_parameters, Version2.ReadOnly, ",");
    BEGIN("ATTACH_VIRTUAL_DISK_PARAMETERS", attach_parameters);
    LAST(attach_parameters, Version, ",");
    BEGIN("CREATE_VIRTUAL_DISK_PARAMETERS", create_parameters);
    MEMBER(create_parameters, Version);
    MEMBER(create_parameters, Version2.UniqueId);
    MEMBER(create_parameters, Version2.MaximumSize);
    MEMBER(create_parameters, Version2.BlockSizeInBytes);
    MEMBER(create_parameters, Version2.SectorSizeInBytes);
    MEMBER(create_parameters, Version2.PhysicalSectorSizeInBytes);
    MEMBER(create_parameters, Version2.ParentPath);
    LAST(create_parameters, Version2.ParentVirtualStorageType, ",");
    BEGIN("GET_VIRTUAL_DISK_INFO", get_info);
    MEMBER(get_info, Version);
    MEMBER(get_info, Size.VirtualSize);
    MEMBER(get_info, Size.PhysicalSize);
    MEMBER(get_info, Size.BlockSize);
    MEMBER(get_info, Size.SectorSize);
    MEMBER(get_info, ParentLocation.ParentResolved);
    MEMBER(get_info, ParentLocation.ParentLocationBuffer);
    MEMBER(get_info, ProviderSubtype);
    MEMBER(get_info, VhdPhysicalSectorSize);
    MEMBER(get_info, VirtualDiskId);
    MEMBER(get_info, ChangeTrackingState.Enabled);
    MEMBER(get_info, ChangeTrackingState.NewerChanges);
    LAST(get_info, ChangeTrackingState.MostRecentId, ",");
    BEGIN("SET_VIRTUAL_DISK_INFO", set_info);
    MEMBER(set_info, Version);
    LAST(set_info, VirtualDiskId, ",");
    BEGIN("QUERY_CHANGES_VIRTUAL_DISK_RANGE", changes_range);
    MEMBER(changes_range, ByteOffset);
    LAST(changes_range, ByteLength, ",");
    BEGIN("MERGE_VIRTUAL_DISK_PARAMETERS", merge_parameters);
    MEMBER(merge_parameters, Version);
    LAST(merge_parameters, Version1.MergeDepth, ",");
    BEGIN("RESIZE_VIRTUAL_DISK_PARAMETERS", resize_parameters);
    MEMBER(resize_parameters, Version);
    LAST(resize_parameters, Version1.NewSize, ",");
    BEGIN("TOKEN_PRIVILEGES", token_privileges);
    MEMBER(token_privileges, PrivilegeCount);
    MEMBER(token_privileges, Privileges.Luid);
    LAST(token_privileges, Privileges.Attributes, ",");
    BEGIN("OVERLAPPED", overlapped);
    MEMBER(overlapped, Offset);
    MEMBER(overlapped, OffsetHigh);
    LAST(overlapped, hEvent, "");
    printf("}\n");
    return 0;
}
