// SPDX-License-Identifier: AGPL-3.0-only
// Content of a file: `DATA` D… F, or a lone F; then ACL and XATTR. An E in its middle marks the file as
// truncated: the core stores an error for it, and the next item follows.

#include "backup.h"
#include "names.h"
#include "options.h"
#include "ptcomm.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ATTRIBUTES_MAX PAYLOAD_MAX

static int32_t core_type(const struct item *item) {
    switch (item->type) {
    case 'E': return FILE_EMPTY;
    case 'D': return FILE_FOLDER;
    case 'S': return FILE_SYMLINK;
    case 'L': return FILE_HARD_LINK;
    default: return FILE_REGULAR;
    }
}

static void fill_stat(const struct item *item, struct fd_stat *stat) {
    memset(stat, 0, sizeof *stat);
    stat->st_mode = item->mode;
    stat->st_nlink = item->links;
    stat->st_uid = item->uid;
    stat->st_gid = item->gid;
    stat->st_size = item->size;
    stat->st_blksize = 4096;
    stat->st_blocks = (item->size + 511) / 512;
    stat->STAT_ATIME = item->atime;
    stat->STAT_MTIME = item->mtime;
    stat->STAT_CTIME = item->ctime;
}

static void fill_plugin_object(const struct item *item, struct saved_plugin_object *object) {
    object->path = item->name;
    object->plugin_name = (char *)(uintptr_t)PLUGIN_NAME;
    object->category = item->category;
    object->type = item->object_type;
    object->name = item->object_name;
    object->source = item->source;
    object->uuid = item->uuid;
    object->size = item->object_size;
    object->status = item->status;
    object->count = item->count;
}

static void fill_packet(const struct item *item, struct save_view *view) {
    *view->fname = item->name;
    if (item->kind == ITEM_FILE) {
        *view->type = core_type(item);
        *view->link = item->type == 'D' ? item->name : item->link;
        *view->link_index = item->link_index;
        fill_stat(item, view->statp);
        return;
    }
    memset(view->statp, 0, sizeof *view->statp);
    *view->object_name = item->name;
    if (item->kind != ITEM_PLUGIN_OBJECT) {
        *view->type = item->kind == ITEM_OPTIONS ? FILE_PLUGIN_CONFIG : FILE_RESTORE_OBJECT;
        *view->object = item->bytes;
        *view->object_len = (int32_t)item->length;
        *view->object_index = 1;
    } else {
        *view->type = FILE_PLUGIN_OBJECT;
        if (item->object_name != NULL) *view->object_name = item->object_name;
        fill_plugin_object(item, view->plugin_object);
    }
}

/** Before the first item of a Full stands what an operator may change when it is restored. */
static bool first_item(struct backend *backend) {
    if (!next_item(backend)) return false;
    if (!backend->offers_options) return true;
    backend->offers_options = false;
    backend->waiting = backend->item;
    memset(&backend->item, 0, sizeof backend->item);
    backend->has_waiting = true;
    struct item *offer = &backend->item;
    const char *text = options_offer();
    offer->kind = ITEM_OPTIONS;
    offer->length = (uint32_t)strlen(text);
    offer->name = copy_text(OPTIONS_OBJECT, strlen(OPTIONS_OBJECT));
    offer->bytes = copy_text(text, offer->length);
    if (offer->name != NULL && offer->bytes != NULL) return true;
    break_off(backend, "no memory is left");
    return false;
}

/** The item that stood behind the offer, or the backend's next one. */
static bool following_item(struct backend *backend) {
    if (!backend->has_waiting) return backend->state == STATE_LOOP && next_item(backend);
    free_item(&backend->item);
    backend->item = backend->waiting;
    memset(&backend->waiting, 0, sizeof backend->waiting);
    backend->has_waiting = false;
    return true;
}

fd_rc backup_start_file(struct backend *backend, void *packet) {
    struct save_view view;
    if (backend->state == STATE_BROKEN) return RC_ERROR;
    if (!save_view_of(fd_layout, packet, &view)) {
        break_off(backend, "this File Daemon's packets differ from interface version %u: it needs "
                           "another build of the plugin",
                  fd_layout->version);
        return RC_ERROR;
    }
    if (!backend->has_item && !first_item(backend)) {
        if (backend->state == STATE_BROKEN) return RC_ERROR;
        if (backend->kind == KIND_BACKUP) say(backend->job, SAY_ERROR, "the backend had nothing to save");
        return RC_MAX;
    }
    fill_packet(&backend->item, &view);
    bool has_content = backend->kind == KIND_BACKUP && backend->item.kind == ITEM_FILE;
    backend->content = has_content ? CONTENT_UNREAD : CONTENT_NONE;
    return RC_OK;
}

/** Reads what the content begins with. */
static void open_content(struct backend *backend) {
    if (backend->content != CONTENT_UNREAD) return;
    enum received got = receive(backend, SILENCE_SECONDS);
    backend->content = CONTENT_FAILED;
    if (got == GOT_END) backend->content = CONTENT_DONE;
    else if (got == GOT_LINE && strcmp(backend->line, "DATA") == 0) backend->content = CONTENT_FLOWS;
    else if (got == GOT_ERROR) file_error(backend, backend->item.name);
    else break_off(backend, "the backend broke the protocol: no content after the attributes of %s",
                   backend->item.name);
}

/** The next D packet, or the end of the content. */
static void advance(struct backend *backend) {
    enum received got = receive(backend, SILENCE_SECONDS);
    if (got == GOT_DATA) return;
    backend->content = got == GOT_END ? CONTENT_DONE : CONTENT_FAILED;
    if (got == GOT_ERROR) file_error(backend, backend->item.name);
    if (got == GOT_LINE) {
        break_off(backend, "the backend broke the protocol: a command within the content of %s",
                  backend->item.name);
    }
}

static int32_t read_content(struct backend *backend, char *buffer, size_t size) {
    size_t filled = 0;
    while (filled < size && backend->content == CONTENT_FLOWS) {
        if (backend->data_left == 0) {
            advance(backend);
            continue;
        }
        size_t got = receive_bytes(backend, buffer + filled, size - filled);
        if (got == 0) backend->content = CONTENT_FAILED;
        filled += got;
    }
    return backend->content == CONTENT_FAILED ? -1 : (int32_t)filled;
}

/** The core may leave a file early, or never open it. */
static void finish_content(struct backend *backend) {
    open_content(backend);
    while (backend->content == CONTENT_FLOWS) {
        if (backend->data_left > 0 && !drop_data(backend)) backend->content = CONTENT_FAILED;
        else advance(backend);
    }
}

void backup_io(struct backend *backend, struct io_packet *io) {
    io->status = 0;
    switch (io->func) {
    case IO_OPEN:
        open_content(backend);
        if (backend->content == CONTENT_FAILED) io->status = -1;
        break;
    case IO_READ:
        io->status = io->buf == NULL || io->count < 0 ? -1
                                                      : read_content(backend, io->buf, (size_t)io->count);
        break;
    case IO_CLOSE: break;
    default: io->status = -1;
    }
    if (io->status < 0) io->io_errno = EIO;
}

/** True when the wanted block is next; its name is taken. */
static bool begins(struct backend *backend, const char *name) {
    if (backend->state != STATE_LOOP) return false;
    enum received got = receive(backend, SILENCE_SECONDS);
    if (got == GOT_LINE && strcmp(backend->line, name) == 0) return true;
    if (got == GOT_LINE || got == GOT_END) push_back(backend);
    if (got == GOT_ERROR) break_off(backend, "%s", backend->line);
    if (got == GOT_DATA) break_off(backend, "the backend broke the protocol: data after a file");
    return false;
}

fd_rc backup_xacl(struct backend *backend, struct xacl_packet *xacl) {
    xacl->count = 0;
    xacl->content = NULL;
    if (backend->content == CONTENT_NONE) return RC_OK;
    finish_content(backend);
    if (!begins(backend, xacl->func == ACL_BACKUP ? "ACL" : "XATTR")) {
        return backend->state == STATE_BROKEN ? RC_ERROR : RC_OK;
    }
    uint32_t length = 0;
    free(backend->attributes);
    backend->attributes = receive_block(backend, ATTRIBUTES_MAX, &length);
    if (backend->attributes == NULL) return RC_ERROR;
    xacl->content = backend->attributes;
    xacl->count = (int32_t)length;
    return RC_OK;
}

/** ACL and XATTR that the core did not ask for. */
static void pass_over_attributes(struct backend *backend) {
    while (begins(backend, "ACL") || begins(backend, "XATTR")) {
        uint32_t length = 0;
        char *block = receive_block(backend, ATTRIBUTES_MAX, &length);
        if (block == NULL) return;
        free(block);
    }
}

fd_rc backup_end_file(struct backend *backend) {
    if (backend->content != CONTENT_NONE) {
        finish_content(backend);
        pass_over_attributes(backend);
    }
    backend->content = CONTENT_NONE;
    free(backend->attributes);
    backend->attributes = NULL;
    if (following_item(backend)) return RC_MORE;
    return backend->state == STATE_ENDED ? RC_OK : RC_ERROR;
}
