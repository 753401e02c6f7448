// SPDX-License-Identifier: AGPL-3.0-only

#include "layout.h"
#include <string.h>

// fatal, error, warning, info, saved, not saved, skipped; restored, mount and events are told as the
// nearest kind that every version has
#define MESSAGES_TO_21 {3, 4, 5, 6, 7, 8, 9, 6, 10, 6}
#define MESSAGES_FROM_22 {4, 5, 6, 7, 8, 9, 10, 7, 11, 3}

// clang-format off
//                    id lvl name stat since acc  wdir where regex exe prev index repl sysconf
#define VARIABLES_14 { 1, 3,  6,   7,   8,   9,   13,  14,   15,   16, 20,  23,   24,  0 }
#define VARIABLES_21 { 1, 3,  6,   7,   8,   9,   13,  14,   15,   16, 19,  22,   23,  0 }
#define VARIABLES_22 { 1, 3,  6,   7,   8,   9,   13,  15,   16,   17, 20,  23,   24,  0 }
#define VARIABLES_23 { 1, 3,  6,   7,   8,   9,   13,  15,   16,   17, 20,  23,   24,  28 }
// clang-format on

static const struct layout layouts[] = {
    {14, 144, false, MESSAGES_TO_21, VARIABLES_14},
    {21, 144, false, MESSAGES_TO_21, VARIABLES_21},
    {22, 152, true, MESSAGES_FROM_22, VARIABLES_22},
    {23, 168, true, MESSAGES_FROM_22, VARIABLES_23},
};

const struct layout *layout_of(uint32_t version) {
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        if (layouts[i].version == version) return &layouts[i];
    }
    return NULL;
}

#define VIEW_COMMON(p)                                                                             \
    view->fname = &(p)->fname;                                                                     \
    view->link = &(p)->link;                                                                       \
    view->statp = &(p)->statp;                                                                     \
    view->type = &(p)->type;                                                                       \
    view->link_index = &(p)->link_index

#define VIEW_OBJECT(p)                                                                       \
    view->object_name = &(p)->object_name;                                                         \
    view->object = &(p)->object;                                                                   \
    view->object_len = &(p)->object_len;                                                           \
    view->object_index = &(p)->index

bool save_view_of(const struct layout *layout, void *packet, struct save_view *view) {
    memset(view, 0, sizeof *view);
    if (packet == NULL) return false;
    if (layout->version == 14) {
        struct save_packet_14 *p = packet;
        if (!PACKET_FITS(p)) return false;
        VIEW_COMMON(p);
        VIEW_OBJECT(p);
    } else if (layout->version == 21) {
        struct save_packet_21 *p = packet;
        if (!PACKET_FITS(p)) return false;
        VIEW_COMMON(p);
        VIEW_OBJECT(p);
    } else {
        struct save_packet_23 *p = packet;
        if (!PACKET_FITS(p)) return false;
        VIEW_COMMON(p);
        VIEW_OBJECT(&p->restore_object);
        view->plugin_object = &p->plugin_object;
    }
    return true;
}

#define VIEW_RESTORE(p)                                                                            \
    view->type = (p)->type;                                                                        \
    view->link_index = (p)->link_index;                                                            \
    view->statp = &(p)->statp;                                                                     \
    view->fname = (p)->fname;                                                                      \
    view->link = (p)->link;                                                                        \
    view->create_status = &(p)->create_status

bool restore_view_of(const struct layout *layout, void *packet, struct restore_view *view) {
    memset(view, 0, sizeof *view);
    if (packet == NULL) return false;
    if (layout->version == 14) {
        struct restore_packet_14 *p = packet;
        if (!PACKET_FITS(p)) return false;
        VIEW_RESTORE(p);
    } else {
        struct restore_packet_21 *p = packet;
        if (!PACKET_FITS(p)) return false;
        VIEW_RESTORE(p);
    }
    return true;
}
