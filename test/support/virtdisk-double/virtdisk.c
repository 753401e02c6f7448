// SPDX-License-Identifier: Apache-2.0
/* A virtdisk.dll for tests, and the few functions of kernel32.dll that go with it, the same source for Windows (mingw-w64,
   virtdisk.def) and for Linux (a shared object). It refuses every field that real Windows would not take, or that
   the product has no business to pass, with ERROR_INVALID_PARAMETER and a line in X.refused; it answers with what
   the sidecar of the file says (sidecar.c). While a handle is open, X.open-PID-N stands beside the file. Calls are
   written to X.calls when that file is there.

   With `handle real` in the sidecar (Windows only) a handle is a real one on the image, so that the functions of
   kernel32.dll itself can be tried on it; nothing is marked as open then. */
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef _WIN32
#include <windows.h>
#define CALL __stdcall
#define NAME(function) CALL double_##function
#else
#include <unistd.h>
#define NAME(function) __attribute__((visibility("default"))) function
#endif

#include "sidecar.h"

enum code {
    OK = 0,
    FILE_NOT_FOUND = 2,
    INVALID_HANDLE = 6,
    SHARING_VIOLATION = 32,
    HANDLE_EOF = 38,
    ALREADY_EXISTS_FILE = 80,
    INVALID_PARAMETER = 87,
    TOO_SMALL = 122,
    ABORTED = 995,
    INCOMPLETE = 996,
    PENDING = 997,
    WAIT_RAN_OUT = 258,
    NOT_ALL_ASSIGNED = 1300,
    PRIVILEGE_NOT_HELD = 1314,
};
#define BAD_TRACKING_ID 0xC03A0029u
#define TRACKING_OFF 0xC03A002Au
#define METAOPS 0x200000u
#define STATUS_PENDING_VALUE 0x103u
#define PAGE_BYTES 4096u
#define HANDLES_MAX 256

static const struct guid NO_GUID;
static const struct guid MICROSOFT = {
    0xEC984AEC, 0xA0F9, 0x47E9, {0x90, 0x1F, 0x71, 0x41, 0x5A, 0x66, 0x34, 0x5B}};

struct handle {
    int64_t value; /* 0: free */
    int is_event;
    int is_set;
    int is_attached;
    int is_read_only;
    int is_info_only;
    uint32_t depth; /* of a version 1 open; 0 otherwise */
    uint32_t mask;
    char marker[32];
    struct sidecar disk;
};

struct transfer {
    struct sidecar disk; /* a copy: the handle may be closed before a deaf transfer ends */
    int64_t event;
    struct overlapped *overlapped;
    uint8_t *buffer;
    uint32_t length;
    uint64_t offset;
    int is_write;
    int is_cancelled;
    struct transfer *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct handle handles[HANDLES_MAX];
static struct transfer *under_way;
static int64_t next_value = 0x1000;
/* Of this process: whether the privilege is switched on, and whether a disk was seen that nobody here may attach. */
static int has_privilege, is_barred;
static const struct luid MANAGE_VOLUME = {28, 0};

static void set_error(uint32_t code) {
#ifdef _WIN32
    SetLastError(code);
#else
    extern __thread uint32_t last_error;
    last_error = code;
#endif
}

#ifndef _WIN32
__thread uint32_t last_error;
#endif

uint32_t NAME(GetLastError)(void) {
#ifdef _WIN32
    return GetLastError();
#else
    return last_error;
#endif
}

static int32_t fail_with(uint32_t code) {
    set_error(code);
    return 0;
}

/* Why a call is refused, beside the disk. */
static uint32_t refuse(const char *path, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    append_line(path, ".refused", text, 0);
    return INVALID_PARAMETER;
}

static void note(const char *path, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    append_line(path, ".calls", text, 1);
}

static int is_guid(const struct guid *id, const struct guid *wanted) {
    return memcmp(id, wanted, sizeof *id) == 0;
}

static int is_storage(const struct storage_type *type, uint32_t device, const struct guid *vendor) {
    return type->DeviceId == device && is_guid(&type->VendorId, vendor);
}

static void to_utf8(const uint16_t *wide, char *out, size_t size) {
    size_t at = 0;
    while (*wide && at + 5 < size) {
        uint32_t code = *wide++;
        if (code >= 0xD800 && code < 0xDC00 && *wide >= 0xDC00 && *wide < 0xE000)
            code = 0x10000 + ((code - 0xD800) << 10) + (*wide++ - 0xDC00u);
        if (code < 0x80) {
            out[at++] = (char)code;
        } else if (code < 0x800) {
            out[at++] = (char)(0xC0 | code >> 6);
            out[at++] = (char)(0x80 | (code & 63));
        } else if (code < 0x10000) {
            out[at++] = (char)(0xE0 | code >> 12);
            out[at++] = (char)(0x80 | (code >> 6 & 63));
            out[at++] = (char)(0x80 | (code & 63));
        } else {
            out[at++] = (char)(0xF0 | code >> 18);
            out[at++] = (char)(0x80 | (code >> 12 & 63));
            out[at++] = (char)(0x80 | (code >> 6 & 63));
            out[at++] = (char)(0x80 | (code & 63));
        }
    }
    out[at] = 0;
}

/* The answers of the tests are ASCII, except paths. */
static size_t to_wide(const char *text, uint16_t *out, size_t room) {
    size_t at = 0;
    const uint8_t *byte = (const uint8_t *)text;
    while (*byte) {
        uint32_t code = *byte++;
        int more = code < 0x80 ? 0 : code < 0xE0 ? 1 : code < 0xF0 ? 2 : 3;
        if (more) code &= 0x3Fu >> more;
        while (more-- > 0) code = code << 6 | (*byte++ & 63u);
        if (code >= 0x10000) {
            if (at < room) out[at] = (uint16_t)(0xD7C0 + (code >> 10));
            at++;
            code = 0xDC00 + (code & 0x3FF);
        }
        if (at < room) out[at] = (uint16_t)code;
        at++;
    }
    if (at < room) out[at] = 0;
    return at + 1;
}

static struct handle *find(int64_t value) {
    for (int i = 0; i < HANDLES_MAX; i++)
        if (value != 0 && handles[i].value == value) return &handles[i];
    return NULL;
}

static struct handle *find_disk(int64_t value) {
    struct handle *found = find(value);
    return found && !found->is_event ? found : NULL;
}

static struct handle *new_handle(int64_t value) {
    struct handle *free_one = find(value);
    for (int i = 0; !free_one && i < HANDLES_MAX; i++)
        if (handles[i].value == 0) free_one = &handles[i];
    if (!free_one) abort();
    memset(free_one, 0, sizeof *free_one);
    if (value == 0) {
        value = next_value;
        next_value += 4;
    }
    free_one->value = value;
    return free_one;
}

static int64_t real_handle(const struct sidecar *disk, int is_read_only) {
#ifdef _WIN32
    wchar_t wide[TEXT_SIZE];
    MultiByteToWideChar(CP_UTF8, 0, disk->image, -1, wide, TEXT_SIZE);
    HANDLE file = CreateFileW(wide, GENERIC_READ | (is_read_only ? 0 : GENERIC_WRITE),
                              FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_EXISTING,
                              FILE_FLAG_OVERLAPPED | FILE_FLAG_NO_BUFFERING, NULL);
    return (int64_t)(intptr_t)file;
#else
    (void)disk;
    (void)is_read_only;
    return -1;
#endif
}

/* Registers an open disk; under the lock. */
static uint32_t open_handle(const struct sidecar *disk, int is_read_only, int is_info_only,
                            int64_t *out) {
    int64_t value = disk->real ? real_handle(disk, is_read_only) : 0;
    if (value == -1) return FILE_NOT_FOUND;
    struct handle *opened = new_handle(value);
    opened->disk = *disk;
    opened->is_read_only = is_read_only;
    opened->is_info_only = is_info_only;
    if (!disk->real) {
        snprintf(opened->marker, sizeof opened->marker, ".open-%d-%" PRId64, (int)getpid(),
                 opened->value);
        append_line(disk->path, opened->marker, "open", 0);
    }
    *out = opened->value;
    return OK;
}

uint32_t NAME(OpenVirtualDisk)(const struct storage_type *type, const uint16_t *path, uint32_t mask,
                               uint32_t flags, const struct open_parameters *wanted,
                               int64_t *handle) {
    char name[TEXT_SIZE];
    struct sidecar disk;
    if (!type || !path || !wanted || !handle) return INVALID_PARAMETER;
    to_utf8(path, name, sizeof name);
    uint32_t code = sidecar_load(name, &disk);
    if (code) return code;
    note(name, "OpenVirtualDisk version=%u mask=0x%x", wanted->Version, mask);
    if (!is_storage(type, 0, &NO_GUID) && !is_storage(type, 3, &MICROSOFT))
        return refuse(name, "OpenVirtualDisk: storage type %u", type->DeviceId);
    if (flags != 0) return refuse(name, "OpenVirtualDisk: flags 0x%x", flags);
    int is_read_only = 0, is_info_only = 0;
    if (wanted->Version == 1) {
        if (mask != METAOPS) return refuse(name, "OpenVirtualDisk: version 1, mask 0x%x", mask);
        if (wanted->Version1.RWDepth == 0) return refuse(name, "OpenVirtualDisk: RWDepth 0");
    } else if (wanted->Version == 2) {
        if (mask != 0) return refuse(name, "OpenVirtualDisk: version 2, mask 0x%x", mask);
        is_info_only = wanted->Version2.GetInfoOnly;
        is_read_only = wanted->Version2.ReadOnly;
        if (is_info_only & ~1 || is_read_only & ~1)
            return refuse(name, "OpenVirtualDisk: BOOL %d %d", is_info_only, is_read_only);
        if (!is_guid(&wanted->Version2.ResiliencyGuid, &NO_GUID))
            return refuse(name, "OpenVirtualDisk: ResiliencyGuid");
    } else {
        return refuse(name, "OpenVirtualDisk: version %u", wanted->Version);
    }
    code = sidecar_failure(&disk, "OpenVirtualDisk");
    if (code) return code;
    pthread_mutex_lock(&lock);
    code = open_handle(&disk, is_read_only, is_info_only, handle);
    if (code == OK && wanted->Version == 1) {
        find(*handle)->depth = wanted->Version1.RWDepth;
        find(*handle)->mask = mask;
    }
    pthread_mutex_unlock(&lock);
    return code;
}

static uint32_t copy_image(const struct sidecar *from, const struct sidecar *to) {
    static uint8_t buffer[1 << 16];
    FILE *source = open_file(from->image, "rb"), *target = open_file(to->image, "wb");
    size_t got;
    while (source && target && (got = fread(buffer, 1, sizeof buffer, source)) > 0)
        fwrite(buffer, 1, got, target);
    if (source) fclose(source);
    if (target) fclose(target);
    return target ? OK : FILE_NOT_FOUND;
}

static uint32_t check_new(const char *name, const struct create_parameters *wanted, int is_child) {
    if (!is_guid(&wanted->Version2.UniqueId, &NO_GUID) || wanted->Version2.SourcePath ||
        wanted->Version2.OpenFlags || !is_guid(&wanted->Version2.ResiliencyGuid, &NO_GUID) ||
        !is_storage(&wanted->Version2.SourceVirtualStorageType, 0, &NO_GUID))
        return refuse(name, "CreateVirtualDisk: a member that must be zero");
    uint32_t logical = wanted->Version2.SectorSizeInBytes;
    uint32_t physical = wanted->Version2.PhysicalSectorSizeInBytes;
    uint64_t size = wanted->Version2.MaximumSize;
    if (is_child) {
        if (size || logical || physical || wanted->Version2.BlockSizeInBytes)
            return refuse(name, "CreateVirtualDisk: sizes of a differencing disk");
        if (!is_storage(&wanted->Version2.ParentVirtualStorageType, 3, &MICROSOFT))
            return refuse(name, "CreateVirtualDisk: storage type of the parent");
        return OK;
    }
    if ((logical != 512 && logical != 4096) || (physical != 512 && physical != 4096))
        return refuse(name, "CreateVirtualDisk: sectors %u %u", logical, physical);
    if (size == 0 || size % logical)
        return refuse(name, "CreateVirtualDisk: size %" PRIu64, size);
    if (!is_storage(&wanted->Version2.ParentVirtualStorageType, 0, &NO_GUID))
        return refuse(name, "CreateVirtualDisk: a parent's storage type without a parent");
    return OK;
}

uint32_t NAME(CreateVirtualDisk)(const struct storage_type *type, const uint16_t *path,
                                 uint32_t mask, void *security, uint32_t flags,
                                 uint32_t provider_flags, const struct create_parameters *wanted,
                                 struct overlapped *overlapped, int64_t *handle) {
    char name[TEXT_SIZE], parent_name[TEXT_SIZE] = "";
    struct sidecar disk, parent;
    if (!type || !path || !wanted || !handle) return INVALID_PARAMETER;
    to_utf8(path, name, sizeof name);
    if (!is_storage(type, 3, &MICROSOFT)) return refuse(name, "CreateVirtualDisk: storage type");
    if (mask || security || flags || provider_flags || overlapped || wanted->Version != 2)
        return refuse(name, "CreateVirtualDisk: mask 0x%x, flags 0x%x, version %u", mask, flags,
                      wanted->Version);
    int is_child = wanted->Version2.ParentPath != NULL;
    uint32_t code = check_new(name, wanted, is_child);
    if (code) return code;
    if (file_exists(name)) return ALREADY_EXISTS_FILE;
    sidecar_load(name, &disk);
    if (is_child) {
        to_utf8(wanted->Version2.ParentPath, parent_name, sizeof parent_name);
        code = sidecar_load(parent_name, &parent);
        if (code) return code;
        code = sidecar_failure(&parent, "CreateVirtualDisk");
        if (code) return code;
        disk.size = parent.size;
        disk.logical = parent.logical;
        disk.physical = parent.physical;
        disk.id = parent.id;
        disk.kind = 4;
        strcpy(disk.parent, parent.path);
        code = copy_image(&parent, &disk);
    } else {
        disk.size = wanted->Version2.MaximumSize;
        disk.logical = wanted->Version2.SectorSizeInBytes;
        disk.physical = wanted->Version2.PhysicalSectorSizeInBytes;
        if (wanted->Version2.BlockSizeInBytes) disk.block = wanted->Version2.BlockSizeInBytes;
        FILE *image = open_file(disk.image, "wb");
        if (image) fclose(image);
        code = image ? OK : FILE_NOT_FOUND;
    }
    if (code) return code;
    if (sidecar_create(&disk)) return FILE_NOT_FOUND;
    pthread_mutex_lock(&lock);
    code = open_handle(&disk, 0, 1, handle);
    pthread_mutex_unlock(&lock);
    return code;
}

uint32_t NAME(AttachVirtualDisk)(int64_t value, void *security, uint32_t flags,
                                 uint32_t provider_flags, const struct attach_parameters *wanted,
                                 struct overlapped *overlapped) {
    pthread_mutex_lock(&lock);
    struct handle *opened = find_disk(value);
    uint32_t code = INVALID_HANDLE;
    if (opened) {
        const char *name = opened->disk.path;
        static const uint8_t zeros[20];
        note(name, "AttachVirtualDisk flags=0x%x", flags);
        code = sidecar_failure(&opened->disk, "AttachVirtualDisk");
        if (security || provider_flags || overlapped || !wanted || wanted->Version != 1 ||
            memcmp((const uint8_t *)wanted + 4, zeros, sizeof zeros) != 0)
            code = refuse(name, "AttachVirtualDisk: parameters");
        else if (flags != (opened->is_read_only ? 9u : 8u))
            code = refuse(name, "AttachVirtualDisk: flags 0x%x", flags);
        else if (opened->is_info_only || opened->depth || opened->is_attached)
            code = refuse(name, "AttachVirtualDisk: opened for something else");
        else if (opened->disk.privilege == 2 || (opened->disk.privilege == 1 && !has_privilege))
            code = PRIVILEGE_NOT_HELD;
        else if (code == OK)
            opened->is_attached = 1;
        is_barred = opened->disk.privilege == 2;
    }
    pthread_mutex_unlock(&lock);
    return code;
}

uint32_t NAME(DetachVirtualDisk)(int64_t value, uint32_t flags, uint32_t provider_flags) {
    pthread_mutex_lock(&lock);
    struct handle *opened = find_disk(value);
    uint32_t code = INVALID_HANDLE;
    if (opened) {
        note(opened->disk.path, "DetachVirtualDisk");
        code = sidecar_failure(&opened->disk, "DetachVirtualDisk");
        if (flags || provider_flags || !opened->is_attached)
            code = refuse(opened->disk.path, "DetachVirtualDisk: flags, or not attached");
        if (code == OK) opened->is_attached = 0;
    }
    pthread_mutex_unlock(&lock);
    return code;
}

static uint64_t file_bytes(const char *path) {
    FILE *file = open_file(path, "rb");
    if (!file) return 0;
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    fclose(file);
    return size < 0 ? 0 : (uint64_t)size;
}

static int lies(const struct sidecar *disk, const char *how) {
    return strcmp(disk->lies, how) == 0;
}

static uint32_t text_info(const struct sidecar *disk, const char *text, uint16_t *out,
                          uint32_t head, uint32_t *size) {
    size_t room = *size > head ? (*size - head) / 2 : 0;
    if (lies(disk, "text")) {
        for (size_t i = 0; i < room; i++) out[i] = 'x';
        return OK;
    }
    size_t units = to_wide(text, out, room);
    uint32_t needed = lies(disk, "room") ? 64u << 20 : head + 2 * (uint32_t)units;
    if (needed <= *size) return OK;
    *size = needed;
    return TOO_SMALL;
}

uint32_t NAME(GetVirtualDiskInformation)(int64_t value, uint32_t *size, struct get_info *info,
                                         uint32_t *used) {
    pthread_mutex_lock(&lock);
    struct handle *opened = find_disk(value);
    uint32_t code = INVALID_HANDLE;
    if (opened && size && info && !used && *size < sizeof *info) {
        *size = sizeof *info;
        code = TOO_SMALL;
    } else if (opened && size && info && !used) {
        struct sidecar *disk = &opened->disk;
        char function[64];
        note(disk->path, "GetVirtualDiskInformation version=%u", info->Version);
        snprintf(function, sizeof function, "GetVirtualDiskInformation:%u", info->Version);
        code = sidecar_failure(disk, function);
        if (code == OK) switch (info->Version) {
            case 1:
                info->Size.VirtualSize = disk->size;
                info->Size.PhysicalSize = file_bytes(disk->path);
                info->Size.BlockSize = disk->block;
                info->Size.SectorSize = disk->logical;
                break;
            case 3:
                info->ParentLocation.ParentResolved = disk->parent[0] != 0;
                code = text_info(disk, disk->parent, info->ParentLocation.ParentLocationBuffer, 12,
                                 size);
                break;
            case 7: info->ProviderSubtype = disk->kind; break;
            case 10: info->VhdPhysicalSectorSize = disk->physical; break;
            case 14: info->VirtualDiskId = disk->id; break;
            case 15:
                info->ChangeTrackingState.Enabled = disk->tracking;
                info->ChangeTrackingState.NewerChanges = disk->newer;
                code = text_info(disk, disk->latest, info->ChangeTrackingState.MostRecentId, 16,
                                 size);
                break;
            default: code = refuse(disk->path, "GetVirtualDiskInformation: %u", info->Version);
            }
    }
    pthread_mutex_unlock(&lock);
    return code;
}

uint32_t NAME(SetVirtualDiskInformation)(int64_t value, const struct set_info *info) {
    pthread_mutex_lock(&lock);
    struct handle *opened = find_disk(value);
    uint32_t code = INVALID_HANDLE;
    if (opened && info) {
        const char *name = opened->disk.path;
        note(name, "SetVirtualDiskInformation version=%u", info->Version);
        code = sidecar_failure(&opened->disk, "SetVirtualDiskInformation");
        if (opened->mask != METAOPS || opened->is_attached)
            code = refuse(name, "SetVirtualDiskInformation: not opened for it");
        else if (info->Version != 5)
            code = refuse(name, "SetVirtualDiskInformation: version %u", info->Version);
        if (code == OK) {
            char text[40];
            guid_text(&info->VirtualDiskId, text);
            opened->disk.id = info->VirtualDiskId;
            sidecar_set(&opened->disk, "id", text);
        }
    }
    pthread_mutex_unlock(&lock);
    return code;
}

/* A page of the ranges that begin in [offset, offset + length), in the order of the sidecar. */
static uint32_t page(const struct sidecar *disk, const char *id, uint64_t offset, uint64_t length,
                     struct changes_range *out, uint32_t *count, uint64_t *processed) {
    struct range *ranges;
    int total = sidecar_changes(disk, id, &ranges);
    uint32_t room = *count, used = 0;
    if (total < 0) return BAD_TRACKING_ID;
    if (!disk->tracking) {
        free(ranges);
        return TRACKING_OFF;
    }
    if (disk->page_bytes && disk->page_bytes < length) length = disk->page_bytes;
    if (disk->page_ranges && disk->page_ranges < room) room = disk->page_ranges;
    for (int i = 0; i < total; i++) {
        if (ranges[i].offset < offset || ranges[i].offset >= offset + length) continue;
        if (used == room) {
            /* the rest is for the next query, which begins at the first range that did not fit */
            length = ranges[i].offset - offset;
            break;
        }
        out[used].ByteOffset = ranges[i].offset;
        out[used].ByteLength = ranges[i].length;
        out[used++].Reserved = 0;
    }
    free(ranges);
    *count = lies(disk, "count") ? *count + 1 : used;
    *processed = length;
    return OK;
}

uint32_t NAME(QueryChangesVirtualDisk)(int64_t value, const uint16_t *id, uint64_t offset,
                                       uint64_t length, uint32_t flags, struct changes_range *out,
                                       uint32_t *count, uint64_t *processed) {
    pthread_mutex_lock(&lock);
    struct handle *opened = find_disk(value);
    uint32_t code = INVALID_HANDLE;
    if (opened && id && out && count && processed) {
        char text[TEXT_SIZE];
        struct sidecar *disk = &opened->disk;
        to_utf8(id, text, sizeof text);
        note(disk->path, "QueryChangesVirtualDisk id=%s offset=%" PRIu64 " length=%" PRIu64, text,
             offset, length);
        code = sidecar_failure(disk, "QueryChangesVirtualDisk");
        if (flags || *count == 0 || !text[0] || length == 0 || offset + length > disk->size ||
            opened->is_info_only || opened->depth)
            code = refuse(disk->path, "QueryChangesVirtualDisk: offset %" PRIu64 " length %" PRIu64,
                          offset, length);
        if (code == OK) code = page(disk, text, offset, length, out, count, processed);
    }
    pthread_mutex_unlock(&lock);
    return code;
}

uint32_t NAME(MergeVirtualDisk)(int64_t value, uint32_t flags,
                                const struct merge_parameters *wanted,
                                struct overlapped *overlapped) {
    pthread_mutex_lock(&lock);
    struct handle *opened = find_disk(value);
    uint32_t code = INVALID_HANDLE;
    if (opened && wanted) {
        struct sidecar target = opened->disk;
        uint32_t depth = wanted->Version1.MergeDepth;
        note(target.path, "MergeVirtualDisk depth=%u", depth);
        code = sidecar_failure(&opened->disk, "MergeVirtualDisk");
        if (flags || overlapped || wanted->Version != 1 || depth == 0 || opened->mask != METAOPS ||
            opened->depth != depth + 1)
            code = refuse(target.path, "MergeVirtualDisk: depth %u of %u", depth, opened->depth);
        for (; code == OK && depth > 0; depth--) {
            char parent[TEXT_SIZE];
            strcpy(parent, target.parent);
            code = parent[0] ? sidecar_load(parent, &target)
                             : refuse(target.path, "MergeVirtualDisk: no parent");
        }
        if (code == OK) code = copy_image(&opened->disk, &target);
    }
    pthread_mutex_unlock(&lock);
    return code;
}

uint32_t NAME(ResizeVirtualDisk)(int64_t value, uint32_t flags,
                                 const struct resize_parameters *wanted,
                                 struct overlapped *overlapped) {
    pthread_mutex_lock(&lock);
    struct handle *opened = find_disk(value);
    uint32_t code = INVALID_HANDLE;
    if (opened && wanted) {
        struct sidecar *disk = &opened->disk;
        uint64_t size = wanted->Version1.NewSize;
        note(disk->path, "ResizeVirtualDisk size=%" PRIu64, size);
        code = sidecar_failure(disk, "ResizeVirtualDisk");
        if (flags || overlapped || wanted->Version != 1 || opened->mask != METAOPS ||
            size < disk->size || size % disk->logical)
            code = refuse(disk->path, "ResizeVirtualDisk: size %" PRIu64, size);
        if (code == OK) {
            char text[32];
            snprintf(text, sizeof text, "%" PRIu64, size);
            disk->size = size;
            sidecar_set(disk, "size", text);
        }
    }
    pthread_mutex_unlock(&lock);
    return code;
}

int64_t NAME(CreateEventW)(void *security, int32_t is_manual, int32_t is_set, const uint16_t *name) {
    if (security || !is_manual || name) return fail_with(INVALID_PARAMETER);
    pthread_mutex_lock(&lock);
    struct handle *event = new_handle(0);
    event->is_event = 1;
    event->is_set = is_set;
    int64_t value = event->value;
    pthread_mutex_unlock(&lock);
    return value;
}

int32_t NAME(CloseHandle)(int64_t value) {
    pthread_mutex_lock(&lock);
    struct handle *opened = find(value);
    if (opened && !opened->is_event) {
        char marker[TEXT_SIZE + 64];
        note(opened->disk.path, "CloseHandle");
        snprintf(marker, sizeof marker, "%s%s", opened->disk.path, opened->marker);
        if (opened->marker[0]) remove_file(marker);
#ifdef _WIN32
        if (opened->disk.real) CloseHandle((HANDLE)(intptr_t)value);
#endif
    }
    if (opened) opened->value = 0;
    pthread_mutex_unlock(&lock);
    return opened ? 1 : fail_with(INVALID_HANDLE);
}

/* The bytes of the image; behind its end it reads as zeros. */
static uint32_t move(const struct transfer *job) {
    FILE *image = open_file(job->disk.image, job->is_write ? "r+b" : "rb");
    if (!image && job->is_write) return FILE_NOT_FOUND;
    uint32_t code = image && seek_to(image, job->offset) ? HANDLE_EOF : OK;
    if (job->is_write) {
        if (code == OK && fwrite(job->buffer, 1, job->length, image) != job->length) code = HANDLE_EOF;
    } else {
        size_t got = image ? fread(job->buffer, 1, job->length, image) : 0;
        memset(job->buffer + got, 0, job->length - got);
    }
    if (image) fclose(image);
    return code;
}

static struct timespec later(uint32_t ms) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_nsec -= 1000000000;
        at.tv_sec++;
    }
    return at;
}

/* Ends a transfer; under the lock. Internal holds the code of Windows, where Windows keeps an NTSTATUS. */
static void finish(struct transfer *job, uint32_t code) {
    for (struct transfer **at = &under_way; *at; at = &(*at)->next)
        if (*at == job) {
            *at = job->next;
            break;
        }
    job->overlapped->InternalHigh = code == OK ? job->length - lies(&job->disk, "short") : 0;
    job->overlapped->Internal = code;
    struct handle *event = find(job->event);
    if (event) event->is_set = 1;
    pthread_cond_broadcast(&changed);
}

/* The library stays when nobody refers to it any more: a thread of ours may still run in it. On Linux the linker sees
   to that (-z nodelete). */
static void stay_loaded(void) {
#ifdef _WIN32
    HMODULE self;
    GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                       (LPCWSTR)(void *)stay_loaded, &self);
#endif
}

static void *work_late(void *argument) {
    struct transfer *job = argument;
    pthread_mutex_lock(&lock);
    const struct sidecar *disk = &job->disk;
    struct timespec until = later(disk->delay_ms);
    int is_time = 0;
    while (!is_time && (disk->deaf || !job->is_cancelled))
        is_time = pthread_cond_timedwait(&changed, &lock, &until) != 0;
    const char *function = job->is_write ? "WriteFile" : "ReadFile";
    uint32_t code = job->is_cancelled && !disk->deaf ? ABORTED : sidecar_failure(disk, function);
    finish(job, code ? code : move(job));
    pthread_mutex_unlock(&lock);
    free(job);
    return NULL;
}

static int32_t transfer(const char *function, int is_write, int64_t value, void *buffer,
                        uint32_t length, uint32_t *done, struct overlapped *overlapped) {
    pthread_mutex_lock(&lock);
    struct handle *opened = find_disk(value);
    uint32_t code = INVALID_HANDLE;
    if (opened && buffer && overlapped) {
        struct sidecar *disk = &opened->disk;
        uint64_t offset = (uint64_t)overlapped->OffsetHigh << 32 | overlapped->Offset;
        struct handle *event = find(overlapped->hEvent);
        note(disk->path, "%s offset=%" PRIu64 " length=%u", function, offset, length);
        code = OK;
        if (!opened->is_attached || (is_write && opened->is_read_only))
            code = refuse(disk->path, "%s: not attached for it", function);
        else if (done || !event || !event->is_event)
            code = refuse(disk->path, "%s: its event", function);
        else if (length == 0 || offset % disk->logical || length % disk->logical ||
                 (uintptr_t)buffer % PAGE_BYTES)
            code = refuse(disk->path, "%s: misaligned, offset %" PRIu64 " length %u at %p", function,
                          offset, length, buffer);
        else if (offset + length > disk->size)
            code = HANDLE_EOF;
        if (code == OK) {
            struct transfer *job = calloc(1, sizeof *job);
            *job = (struct transfer){*disk, overlapped->hEvent, overlapped, buffer, length, offset,
                                     is_write, 0, under_way};
            under_way = job;
            event->is_set = 0;
            overlapped->Internal = STATUS_PENDING_VALUE;
            if (disk->delay_ms) {
                pthread_t thread;
                stay_loaded();
                pthread_create(&thread, NULL, work_late, job);
                pthread_detach(thread);
                code = PENDING;
            } else {
                code = sidecar_failure(disk, function);
                if (code == OK) code = move(job);
                finish(job, code);
                free(job);
            }
        }
    }
    pthread_mutex_unlock(&lock);
    return code == OK ? 1 : fail_with(code);
}

int32_t NAME(ReadFile)(int64_t value, void *buffer, uint32_t length, uint32_t *done,
                       struct overlapped *overlapped) {
    return transfer("ReadFile", 0, value, buffer, length, done, overlapped);
}

int32_t NAME(WriteFile)(int64_t value, void *buffer, uint32_t length, uint32_t *done,
                        struct overlapped *overlapped) {
    return transfer("WriteFile", 1, value, buffer, length, done, overlapped);
}

int32_t NAME(FlushFileBuffers)(int64_t value) {
    pthread_mutex_lock(&lock);
    struct handle *opened = find_disk(value);
    uint32_t code = INVALID_HANDLE;
    if (opened) {
        note(opened->disk.path, "FlushFileBuffers");
        code = opened->is_read_only ? refuse(opened->disk.path, "FlushFileBuffers: read-only")
                                    : sidecar_failure(&opened->disk, "FlushFileBuffers");
    }
    pthread_mutex_unlock(&lock);
    return code == OK ? 1 : fail_with(code);
}

uint32_t NAME(WaitForSingleObject)(int64_t value, uint32_t timeout_ms) {
    struct timespec until = later(timeout_ms);
    pthread_mutex_lock(&lock);
    struct handle *event = find(value);
    int is_late = 0;
    while (event && !event->is_set && !is_late)
        is_late = pthread_cond_timedwait(&changed, &lock, &until) != 0;
    uint32_t answer = event && event->is_set ? 0 : WAIT_RAN_OUT;
    pthread_mutex_unlock(&lock);
    return answer;
}

int32_t NAME(GetOverlappedResult)(int64_t value, struct overlapped *overlapped, uint32_t *done,
                                  int32_t is_waiting) {
    (void)value;
    if (!overlapped || !done || is_waiting) return fail_with(INVALID_PARAMETER);
    pthread_mutex_lock(&lock);
    uint32_t code = (uint32_t)overlapped->Internal;
    *done = (uint32_t)overlapped->InternalHigh;
    pthread_mutex_unlock(&lock);
    if (code == STATUS_PENDING_VALUE) return fail_with(INCOMPLETE);
    return code == OK ? 1 : fail_with(code);
}

int32_t NAME(CancelIoEx)(int64_t value, struct overlapped *overlapped) {
    (void)value;
    pthread_mutex_lock(&lock);
    for (struct transfer *job = under_way; job; job = job->next)
        if (job->overlapped == overlapped) job->is_cancelled = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return 1;
}

int64_t NAME(GetCurrentProcess)(void) {
    return -1;
}

int32_t NAME(OpenProcessToken)(int64_t process, uint32_t access, int64_t *token) {
    if (process != -1 || access != 0x28 || !token) return fail_with(INVALID_PARAMETER);
    pthread_mutex_lock(&lock);
    struct handle *made = new_handle(0);
    made->is_event = 1;
    *token = made->value;
    pthread_mutex_unlock(&lock);
    return 1;
}

int32_t NAME(LookupPrivilegeValueW)(void *system, const uint16_t *name, struct luid *out) {
    char text[64];
    to_utf8(name, text, sizeof text);
    if (system || !out || strcmp(text, "SeManageVolumePrivilege") != 0)
        return fail_with(INVALID_PARAMETER);
    *out = MANAGE_VOLUME;
    return 1;
}

int32_t NAME(AdjustTokenPrivileges)(int64_t token, int32_t is_all, const struct token_privileges *wanted,
                                    uint32_t size, void *former, void *used) {
    pthread_mutex_lock(&lock);
    struct handle *opened = find(token);
    int is_legal = opened && !is_all && wanted && !size && !former && !used &&
                   wanted->PrivilegeCount == 1 && wanted->Privileges.Attributes == 2 &&
                   memcmp(&wanted->Privileges.Luid, &MANAGE_VOLUME, sizeof MANAGE_VOLUME) == 0;
    uint32_t code = is_legal ? is_barred ? NOT_ALL_ASSIGNED : OK : INVALID_PARAMETER;
    if (code == OK) has_privilege = 1;
    pthread_mutex_unlock(&lock);
    set_error(code);
    return is_legal;
}
