// SPDX-License-Identifier: AGPL-3.0-only
// Grammar of items: FNAME, STAT, TSTAMP, LSTAT, F · RESTOREOBJ, RESTOREOBJ_LEN, D…, F · PLUGINOBJ lines, F ·
// the query FileIndex. Everything else breaks the conversation: a backup that is read wrongly must be red.

#include "item.h"
#include "names.h"
#include "ptcomm.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OBJECT_MAX (4 * 1024 * 1024)
#define ITEM_LINES_MAX 64
#define NAME_MAX_BYTES 4096

void free_item(struct item *item) {
    free(item->name);
    free(item->link);
    free(item->bytes);
    free(item->category);
    free(item->object_type);
    free(item->object_name);
    free(item->source);
    free(item->uuid);
    memset(item, 0, sizeof *item);
}

static bool broken(struct backend *backend, const char *what) {
    break_off(backend, "the backend broke the protocol: %s: %.200s", what, backend->line);
    return false;
}

/** The text behind `key` when the line begins with it. */
static const char *after(const char *line, const char *key) {
    size_t length = strlen(key);
    return strncmp(line, key, length) == 0 ? line + length : NULL;
}

static bool keep(struct backend *backend, char **field, const char *text) {
    if (*field != NULL) return broken(backend, "a line that came before");
    *field = copy_text(text, strlen(text));
    return *field != NULL || broken(backend, "no memory is left");
}

/** `/@hyperv/…`; a folder ends with a slash, nothing else does. */
static bool is_our_name(const char *name) {
    size_t length = strlen(PLUGIN_NAMESPACE);
    return name[0] == '/' && strncmp(name + 1, PLUGIN_NAMESPACE, length) == 0 &&
           name[length + 1] == '/';
}

static bool parse_stat(struct backend *backend, const char *text) {
    struct item *item = &backend->item;
    int64_t size = -1, uid = -1, gid = -1, links = -1, index = 0;
    unsigned mode = 0;
    int end = -1;
    char type = 0;
    int count = sscanf(text, "%c %" SCNd64 " %" SCNd64 " %" SCNd64 " %o %" SCNd64 "%n %" SCNd64 "%n",
                       &type, &size, &uid, &gid, &mode, &links, &end, &index, &end);
    bool is_whole = count >= 6 && end >= 0 && text[end] == 0 && text[1] == ' ';
    bool is_sane = size >= 0 && uid >= 0 && uid <= UINT32_MAX && gid >= 0 && gid <= UINT32_MAX &&
                   mode <= 0177777 && links >= 0 && links <= INT16_MAX && index >= 0 &&
                   index <= INT32_MAX;
    if (!is_whole || !is_sane || strchr("FEDSL", type) == NULL || (type == 'L' && count < 7)) {
        return broken(backend, "a STAT that cannot be read");
    }
    item->type = type;
    item->size = size;
    item->uid = (uint32_t)uid;
    item->gid = (uint32_t)gid;
    item->mode = mode;
    item->links = (uint32_t)links;
    item->link_index = (int32_t)index;
    item->has_stat = true;
    return true;
}

static bool parse_times(struct backend *backend, const char *text) {
    struct item *item = &backend->item;
    int end = -1;
    int count = sscanf(text, "%" SCNd64 " %" SCNd64 " %" SCNd64 "%n", &item->atime, &item->mtime,
                       &item->ctime, &end);
    return (count == 3 && text[end] == 0) || broken(backend, "a TSTAMP that cannot be read");
}

static bool file_line(struct backend *backend) {
    const char *text;
    if ((text = after(backend->line, "STAT:")) != NULL) {
        if (backend->item.has_stat) return broken(backend, "a second STAT");
        return parse_stat(backend, text);
    }
    if ((text = after(backend->line, "TSTAMP:")) != NULL) return parse_times(backend, text);
    if ((text = after(backend->line, "LSTAT:")) != NULL) {
        return keep(backend, &backend->item.link, text);
    }
    return broken(backend, "an attribute that this plugin does not know");
}

static bool check_file_item(struct backend *backend) {
    const struct item *item = &backend->item;
    size_t length = strlen(item->name);
    bool is_folder = length > 0 && item->name[length - 1] == '/';
    if (!item->has_stat) return broken(backend, "a file without STAT");
    if (length == 0 || length > NAME_MAX_BYTES) return broken(backend, "a name that is too long or empty");
    if ((item->type == 'S' || item->type == 'L') && item->link == NULL) {
        return broken(backend, "a link without its target");
    }
    if (backend->kind == KIND_LISTING) return true;
    if (!is_our_name(item->name)) return broken(backend, "a name outside of its namespace");
    return is_folder == (item->type == 'D') || broken(backend, "a name and a type that differ");
}

static const char *status_letters(const char *word) {
    if (strcmp(word, "OK") == 0) return "T";
    if (strcmp(word, "WARNING") == 0) return "W";
    if (strcmp(word, "ERROR") == 0) return "E";
    return strcmp(word, "FATAL") == 0 ? "f" : NULL;
}

static bool object_line(struct backend *backend) {
    struct item *item = &backend->item;
    const char *text;
    if ((text = after(backend->line, "PLUGINOBJ_CAT:")) != NULL) return keep(backend, &item->category, text);
    if ((text = after(backend->line, "PLUGINOBJ_TYPE:")) != NULL) return keep(backend, &item->object_type, text);
    if ((text = after(backend->line, "PLUGINOBJ_NAME:")) != NULL) return keep(backend, &item->object_name, text);
    if ((text = after(backend->line, "PLUGINOBJ_SRC:")) != NULL) return keep(backend, &item->source, text);
    if ((text = after(backend->line, "PLUGINOBJ_UUID:")) != NULL) return keep(backend, &item->uuid, text);
    char end = 0;
    if ((text = after(backend->line, "PLUGINOBJ_SIZE:")) != NULL) {
        return sscanf(text, "%20" SCNu64 "%c", &item->object_size, &end) == 1 || broken(backend, "a size");
    }
    if ((text = after(backend->line, "PLUGINOBJ_COUNT:")) != NULL) {
        return sscanf(text, "%10" SCNu32 "%c", &item->count, &end) == 1 || broken(backend, "a count");
    }
    if ((text = after(backend->line, "PLUGINOBJ_STATUS:")) != NULL) {
        const char *letter = status_letters(text);
        if (letter != NULL) item->status = letter[0];
        return letter != NULL || broken(backend, "a status");
    }
    return broken(backend, "a line of an object that this plugin does not know");
}

/** Lines up to F. */
static bool read_lines(struct backend *backend, bool (*take)(struct backend *)) {
    for (int count = 0; count < ITEM_LINES_MAX; count++) {
        enum received got = receive(backend, SILENCE_SECONDS);
        if (got == GOT_END) return true;
        if (got == GOT_ERROR) return break_off(backend, "%s", backend->line), false;
        if (got != GOT_LINE) return broken(backend, "no line where one was due");
        if (!take(backend)) return false;
    }
    return broken(backend, "an item without end");
}

static bool read_restore_object(struct backend *backend) {
    struct item *item = &backend->item;
    unsigned announced = 0;
    char end = 0;
    if (receive(backend, SILENCE_SECONDS) != GOT_LINE ||
        sscanf(backend->line, "RESTOREOBJ_LEN:%9u%c", &announced, &end) != 1) {
        return broken(backend, "a restore object without its length");
    }
    item->bytes = receive_block(backend, OBJECT_MAX, &item->length);
    if (item->bytes == NULL) return false;
    return item->length == announced || broken(backend, "a restore object of another length");
}

static bool answer_file_index(struct backend *backend) {
    return send_line(backend, "%d", job_number(backend->job, VAR_FILE_INDEX, 0));
}

static bool read_item(struct backend *backend) {
    struct item *item = &backend->item;
    const char *text;
    if ((text = after(backend->line, "FNAME:")) != NULL) {
        item->kind = ITEM_FILE;
        return keep(backend, &item->name, text) && read_lines(backend, file_line) &&
               check_file_item(backend);
    }
    if ((text = after(backend->line, "RESTOREOBJ:")) != NULL && text[0] != 0) {
        item->kind = ITEM_RESTORE_OBJECT;
        return keep(backend, &item->name, text) && read_restore_object(backend);
    }
    if ((text = after(backend->line, "PLUGINOBJ:")) != NULL && text[0] != 0) {
        item->kind = ITEM_PLUGIN_OBJECT;
        item->status = 'T';
        return keep(backend, &item->name, text) && read_lines(backend, object_line);
    }
    return broken(backend, "a command that this plugin does not know");
}

/** Versions that have no place for such an object pass over it. */
static bool is_for_core(const struct item *item) {
    return item->kind != ITEM_PLUGIN_OBJECT || fd_layout->has_plugin_objects;
}

bool next_item(struct backend *backend) {
    backend->has_item = false;
    for (;;) {
        free_item(&backend->item);
        if (backend->state != STATE_LOOP) return false;
        enum received got = receive(backend, SILENCE_SECONDS);
        if (got == GOT_END) {
            backend->state = STATE_ENDED;
            return false;
        }
        if (got == GOT_ERROR) break_off(backend, "%s", backend->line);
        if (got == GOT_DATA) broken(backend, "data where an item was due");
        if (got != GOT_LINE) return false;
        if (strcmp(backend->line, "FileIndex") == 0 && backend->kind == KIND_BACKUP) {
            if (!answer_file_index(backend)) return false;
            continue;
        }
        if (!read_item(backend)) return false;
        if (!is_for_core(&backend->item)) continue;
        backend->has_item = true;
        return true;
    }
}
