// SPDX-License-Identifier: AGPL-3.0-only
// The binary interface between a File Daemon and its plugins: values, packets and tables of functions
// for the interface versions 14 (Bacula 9.6), 21 (11.0), 22 (13.0) and 23 (15.0). Declared here from
// measured offsets; abi_check.c holds every one of them for each platform that we build for.

#ifndef HVDR_ABI_H
#define HVDR_ABI_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#ifdef _WIN32
typedef uint32_t fd_uid;
// the core's own on Windows, not the one of the C library
struct fd_stat {
    uint32_t st_dev;
    uint64_t st_ino;
    uint16_t st_mode;
    int16_t st_nlink;
    uint32_t st_uid;
    uint32_t st_gid;
    uint32_t st_rdev;
    uint64_t st_size;
    int64_t st_atime_s;
    int64_t st_mtime_s;
    int64_t st_ctime_s;
    uint32_t st_blksize;
    uint64_t st_blocks;
    uint32_t st_fattrs;
};
#define STAT_ATIME st_atime_s
#define STAT_MTIME st_mtime_s
#define STAT_CTIME st_ctime_s
#else
#include <sys/stat.h>
typedef uid_t fd_uid;
#define fd_stat stat
#define STAT_ATIME st_atime
#define STAT_MTIME st_mtime
#define STAT_CTIME st_ctime
#endif

typedef enum {
    RC_OK = 0,
    RC_STOP = 1,
    RC_ERROR = 2,
    RC_MORE = 3,
    RC_TERM = 4,
    RC_SEEN = 5,
    RC_CORE = 6,
    RC_SKIP = 7,
    RC_CANCEL = 8,
    RC_MAX = 9999
} fd_rc;

enum fd_event_type {
    EVENT_JOB_START = 1,
    EVENT_JOB_END = 2,
    EVENT_END_BACKUP = 4,
    EVENT_END_RESTORE = 6,
    EVENT_BACKUP_COMMAND = 9,
    EVENT_RESTORE_COMMAND = 10,
    EVENT_ESTIMATE_COMMAND = 11,
    EVENT_LEVEL = 12,
    EVENT_SINCE = 13,
    EVENT_CANCEL = 14,
    EVENT_RESTORE_OBJECT = 18,
    EVENT_PLUGIN_COMMAND = 20
};

enum fd_file_type {
    FILE_HARD_LINK = 1,
    FILE_EMPTY = 2,
    FILE_REGULAR = 3,
    FILE_SYMLINK = 4,
    FILE_FOLDER = 5,
    FILE_RESTORE_OBJECT = 25,
    FILE_PLUGIN_CONFIG = 27,
    FILE_PLUGIN_CONFIG_FILLED = 28,
    FILE_PLUGIN_OBJECT = 29
};

enum fd_io { IO_OPEN = 1, IO_READ = 2, IO_WRITE = 3, IO_CLOSE = 4, IO_SEEK = 5 };

enum fd_create_status {
    CREATE_SKIP = 1,
    CREATE_ERROR = 2,
    CREATE_EXTRACT = 3,
    CREATE_CREATED = 4,
    CREATE_CORE = 5
};

enum fd_xacl { ACL_BACKUP = 1, ACL_RESTORE = 2, XATTR_BACKUP = 3, XATTR_RESTORE = 4 };

struct fd_context {
    void *of_core;
    void *ours;
};

struct fd_info {
    uint32_t size;
    uint32_t version;
};

struct fd_event {
    uint32_t type;
};

struct fd_plugin_info {
    uint32_t size;
    uint32_t version;
    const char *magic;
    const char *license;
    const char *author;
    const char *date;
    const char *description_version;
    const char *description;
};

// Functions of the core. The later ones exist only in later versions; we call none of those.
struct fd_core {
    uint32_t size;
    uint32_t version;
    fd_rc (*register_events)(struct fd_context *, ...);
    fd_rc (*get_value)(struct fd_context *, int variable, void *out);
    fd_rc (*set_value)(struct fd_context *, int variable, void *in);
    fd_rc (*job_message)(struct fd_context *, const char *file, int line, int type, int64_t mtime,
                         const char *format, ...);
    fd_rc (*debug_message)(struct fd_context *, const char *file, int line, int level,
                           const char *format, ...);
    void *(*allocate)(struct fd_context *, const char *file, int line, size_t size);
    void (*release)(struct fd_context *, const char *file, int line, void *memory);
    void *others[9];
};

struct io_packet {
    int32_t pkt_size;
    int32_t func;
    int32_t count;
    int32_t flags;
    mode_t mode;
    char *buf;
    const char *fname;
    int32_t status;
    int32_t io_errno;
    int32_t lerror;
    int32_t whence;
    int64_t offset;
    bool win32;
    int32_t pkt_end;
};

struct xacl_packet {
    int32_t pkt_size;
    int32_t func;
    int32_t count;
    char *content;
    int32_t pkt_end;
};

struct save_packet_14 {
    int32_t pkt_size;
    char *fname;
    char *link;
    struct fd_stat statp;
    int32_t type;
    uint64_t flags;
    bool no_read, portable, accurate_found;
    char *cmd;
    uint32_t delta_seq;
    char *object_name;
    char *object;
    int32_t object_len;
    int32_t index;
    int32_t link_index;
    int32_t pkt_end;
};

struct save_packet_21 {
    int32_t pkt_size;
    char *fname;
    char *snap_fname;
    int32_t plugin_mode;
    char *link;
    struct fd_stat statp;
    int32_t type;
    uint64_t flags;
    bool no_read, portable, accurate_found, do_dedup;
    char *cmd;
    uint32_t delta_seq;
    char *object_name;
    char *object;
    int32_t object_len;
    int32_t index;
    int32_t link_index;
    int32_t pkt_end;
};

struct saved_restore_object {
    char *object_name;
    char *object;
    int32_t object_len;
    int32_t index;
    int32_t compression;
};

struct saved_plugin_object {
    char *path;
    char *plugin_name;
    char *category;
    char *type;
    char *name;
    char *source;
    char *uuid;
    uint64_t size;
    int32_t status;
    uint32_t count;
};

// 22 and 23: the flag that 23 adds stands in padding of 22
struct save_packet_23 {
    int32_t pkt_size;
    char *fname;
    char *snap_fname;
    int32_t plugin_mode;
    char *link;
    struct fd_stat statp;
    int32_t type;
    uint64_t flags;
    bool no_read, portable, accurate_found, do_dedup, stat_update;
    char *cmd;
    struct saved_restore_object restore_object;
    struct saved_plugin_object plugin_object;
    void *metadata; // a C++ object of the core: stays NULL
    uint32_t delta_seq;
    int32_t link_index;
    int32_t pkt_end;
};

struct restore_packet_14 {
    int32_t pkt_size;
    int32_t stream, data_stream, type, file_index, link_index;
    fd_uid uid;
    struct fd_stat statp;
    const char *attributes_ex;
    const char *fname;
    const char *link;
    const char *where;
    const char *regex_where;
    int replace;
    int create_status;
    uint32_t delta_seq;
    int32_t pkt_end;
};

struct restore_packet_21 {
    int32_t pkt_size;
    int32_t plugin_mode;
    int32_t stream, data_stream, type, file_index, link_index;
    fd_uid uid;
    struct fd_stat statp;
    const char *attributes_ex;
    const char *fname;
    const char *link;
    const char *where;
    const char *regex_where;
    int replace;
    int create_status;
    uint32_t delta_seq;
    int32_t pkt_end;
};

struct restore_object_packet {
    int32_t pkt_size;
    char *object_name;
    char *object;
    char *plugin_name; // the whole command of the backup
    int32_t object_type;
    int32_t object_len;
    int32_t object_full_len;
    int32_t object_index;
    int32_t object_compression;
    int32_t stream;
    uint32_t job_id;
    int32_t pkt_end;
};

struct query_packet {
    int32_t pkt_size;
    char *parameter;
    char *command;
    char *api_options;
    char *result;
    int32_t pkt_end;
};

struct stream_packet {
    int32_t pkt_size;
    int32_t stream;
    int32_t pkt_end;
};

typedef fd_rc fd_stream_check(struct fd_context *, struct stream_packet *);

// Functions that every version has, in their places.
struct fd_functions_common {
    uint32_t size;
    uint32_t version;
    fd_rc (*new_plugin)(struct fd_context *);
    fd_rc (*free_plugin)(struct fd_context *);
    fd_rc (*get_plugin_value)(struct fd_context *, int, void *);
    fd_rc (*set_plugin_value)(struct fd_context *, int, void *);
    fd_rc (*handle_event)(struct fd_context *, struct fd_event *, void *);
    fd_rc (*start_backup_file)(struct fd_context *, void *save_packet);
    fd_rc (*end_backup_file)(struct fd_context *);
    fd_rc (*start_restore_file)(struct fd_context *, const char *command);
    fd_rc (*end_restore_file)(struct fd_context *);
    fd_rc (*plugin_io)(struct fd_context *, struct io_packet *);
    fd_rc (*create_file)(struct fd_context *, void *restore_packet);
    fd_rc (*set_file_attributes)(struct fd_context *, void *restore_packet);
    fd_rc (*check_file)(struct fd_context *, char *fname);
    fd_rc (*handle_xacl)(struct fd_context *, struct xacl_packet *);
};

struct fd_functions_14 {
    struct fd_functions_common common;
    fd_stream_check *check_stream;
};

struct fd_functions_21 {
    struct fd_functions_common common;
    void *restore_file_list;
    fd_stream_check *check_stream;
    fd_rc (*query_parameter)(struct fd_context *, struct query_packet *);
};

struct fd_functions_22 {
    struct fd_functions_21 up_to_21;
    void *metadata_restore;
};

struct fd_functions_23 {
    struct fd_functions_22 up_to_22;
    void *start_verify_file;
    void *end_verify_file;
};

#endif
