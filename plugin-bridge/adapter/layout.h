// SPDX-License-Identifier: AGPL-3.0-only
// What differs between the interface versions: numbers of messages and variables, shapes of packets.
// A view points at the fields of a packet, so that the rest of the adapter knows no version.

#ifndef HVDR_LAYOUT_H
#define HVDR_LAYOUT_H

#include "abi.h"
#include <stddef.h>

enum message_kind {
    SAY_FATAL,
    SAY_ERROR,
    SAY_WARNING,
    SAY_INFO,
    SAY_SAVED,
    SAY_NOT_SAVED,
    SAY_SKIPPED,
    SAY_RESTORED,
    SAY_MOUNT,
    SAY_EVENT,
    SAY_KINDS
};

enum job_variable {
    VAR_JOB_ID,
    VAR_LEVEL,
    VAR_JOB_NAME,
    VAR_JOB_STATUS,
    VAR_SINCE,
    VAR_ACCURATE,
    VAR_WORKING_DIR,
    VAR_WHERE,
    VAR_REGEX_WHERE,
    VAR_EXE_PATH,
    VAR_PREV_JOB_NAME,
    VAR_FILE_INDEX,
    VAR_REPLACE,
    VAR_SYSCONFIG_PATH,
    VAR_COUNT
};

struct layout {
    uint32_t version;
    uint32_t core_size; // of the core's table of functions, at least
    bool has_plugin_objects;
    int message[SAY_KINDS];
    int variable[VAR_COUNT]; // 0: this version has none
};

/** NULL for a version that nobody measured. */
const struct layout *layout_of(uint32_t version);

struct save_view {
    char **fname;
    char **link;
    struct fd_stat *statp;
    int32_t *type;
    char **object_name;
    char **object;
    int32_t *object_len;
    int32_t *object_index;
    struct saved_plugin_object *plugin_object; // NULL before 22
    int32_t *link_index;
};

/** False when the core's packet is not the one we were built for: nothing of it may be touched. */
bool save_view_of(const struct layout *layout, void *packet, struct save_view *view);

struct restore_view {
    int32_t type;
    int32_t link_index;
    const struct fd_stat *statp;
    const char *fname;
    const char *link;
    int *create_status;
};

bool restore_view_of(const struct layout *layout, void *packet, struct restore_view *view);

/**
 * The core writes the size of its packet at both ends. pkt_size is compared first: it alone says
 * whether there is anything where we look for pkt_end.
 */
#define PACKET_FITS(packet)                                                                        \
    ((packet)->pkt_size == (int32_t)sizeof(*(packet)) &&                                           \
     (packet)->pkt_end == (int32_t)sizeof(*(packet)))

#endif
