// SPDX-License-Identifier: AGPL-3.0-only
// A restored file goes to the backend as attributes, DATA, ACL, XATTR; each of them is answered once.
// FINISH asks the backend to commit, and is only said to a job that is sound so far.

#include "restore.h"
#include "command.h"
#include "names.h"
#include "ptcomm.h"
#include "session.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OBJECTS_BYTES_MAX (64 * 1024 * 1024)
#define NAME_MAX_BYTES 8192

fd_rc keep_restore_object(struct job *job, const struct restore_object_packet *packet) {
    if (packet == NULL) return RC_OK; // the end of the list
    if (!PACKET_FITS(packet)) {
        say(job, SAY_FATAL, "this File Daemon's restore objects have another layout");
        return RC_ERROR;
    }
    start_early(job, packet->plugin_name);
    // the offer itself comes back as well when nothing was changed: it is no answer
    bool is_options = packet->object_type == FILE_PLUGIN_CONFIG_FILLED;
    bool is_wanted = (packet->object_type == FILE_RESTORE_OBJECT || is_options) &&
                     packet->object_name != NULL && is_our_command(packet->plugin_name);
    if (!is_wanted) return RC_OK;
    size_t length = packet->object_len > 0 && packet->object != NULL ? (size_t)packet->object_len : 0;
    struct kept_object *kept = calloc(1, sizeof *kept);
    if (kept == NULL || job->object_bytes + length > OBJECTS_BYTES_MAX) {
        free(kept);
        say(job, SAY_FATAL, "restore objects take more than %d bytes", OBJECTS_BYTES_MAX);
        return RC_ERROR;
    }
    struct kept_object **end = &job->objects;
    while (*end != NULL) end = &(*end)->next;
    *end = kept;
    kept->command = copy_text(packet->plugin_name, strlen(packet->plugin_name));
    kept->name = copy_text(packet->object_name, strlen(packet->object_name));
    kept->bytes = copy_text(packet->object == NULL ? "" : packet->object, length);
    kept->length = (uint32_t)length;
    kept->is_options = is_options;
    job->object_bytes += length;
    return kept->command != NULL && kept->name != NULL && kept->bytes != NULL ? RC_OK : RC_ERROR;
}

void forget_restore_objects(struct job *job) {
    while (job->objects != NULL) {
        struct kept_object *kept = job->objects;
        job->objects = kept->next;
        free(kept->command);
        free(kept->name);
        free(kept->bytes);
        free(kept);
    }
    job->object_bytes = 0;
}

/** Waits for the one answer: true for OK. An E is an error of this file; the rest goes on. */
static bool answered_ok(struct backend *backend, const char *what) {
    enum received got = receive(backend, SILENCE_SECONDS);
    if (got == GOT_LINE && strcmp(backend->line, "OK") == 0) return true;
    if (got == GOT_ERROR) file_error(backend, what);
    else break_off(backend, "the backend broke the protocol: no answer to %s", what);
    return false;
}

static void send_objects(struct backend *backend) {
    for (struct kept_object *kept = backend->job->objects; kept != NULL; kept = kept->next) {
        bool is_its = kept->command != NULL && strcmp(kept->command, backend->command) == 0;
        if (!is_its || kept->is_options || kept->name == NULL || kept->bytes == NULL) continue;
        bool is_sent = send_line(backend, "RESTOREOBJ:%s", kept->name) &&
                       send_line(backend, "RESTOREOBJ_LEN:%u", kept->length) &&
                       send_data(backend, kept->bytes, kept->length) && send_letter(backend, 'F');
        if (is_sent) answered_ok(backend, kept->name);
        if (backend->state == STATE_BROKEN) return;
    }
}

struct backend *restore_select(struct job *job, const char *command) {
    struct backend *backend = backend_for(job, command);
    if (backend == NULL) {
        backend = open_backend(job, command, KIND_RESTORE);
        if (backend != NULL && backend->state == STATE_LOOP) send_objects(backend);
    }
    job->current = backend;
    return backend;
}

/** The core leaves a file without a word when its stream breaks. */
static void settle(struct backend *backend) {
    if (backend->content != CONTENT_FLOWS) return;
    backend->content = CONTENT_DONE;
    if (!send_gathered(backend) || !send_letter(backend, 'F')) return;
    if (!answered_ok(backend, "the data of a file")) backend->content = CONTENT_FAILED;
}

static char stat_letter(int32_t type) {
    switch (type) {
    case FILE_REGULAR: return 'F';
    case FILE_EMPTY: return 'E';
    case FILE_FOLDER: return 'D';
    case FILE_SYMLINK: return 'S';
    case FILE_HARD_LINK: return 'L';
    default: return 0;
    }
}

/** What no line can carry: the backend would be told another name. */
static bool is_sendable(const char *name) {
    size_t length = strlen(name);
    if (length == 0 || length > NAME_MAX_BYTES || (unsigned char)name[length - 1] <= ' ') return false;
    for (const char *at = name; *at != 0; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) return false;
    }
    return true;
}

static bool send_attributes(struct backend *backend, const struct restore_view *view, char letter) {
    const struct fd_stat *stat = view->statp;
    bool has_link = letter == 'S' && view->link != NULL;
    return send_line(backend, "FNAME:%s", view->fname) &&
           send_line(backend, "STAT:%c %lld %lu %lu %06o %ld %d", letter, (long long)stat->st_size,
                     (unsigned long)stat->st_uid, (unsigned long)stat->st_gid,
                     (unsigned)stat->st_mode, (long)stat->st_nlink, view->link_index) &&
           send_line(backend, "TSTAMP:%lld %lld %lld", (long long)stat->STAT_ATIME,
                     (long long)stat->STAT_MTIME, (long long)stat->STAT_CTIME) &&
           (!has_link || send_line(backend, "LSTAT:%s", view->link)) && send_letter(backend, 'F');
}

static int answer_to_attributes(struct backend *backend, const char *name, bool has_content) {
    enum received got = receive(backend, SILENCE_SECONDS);
    if (got == GOT_ERROR) {
        file_error(backend, name);
        // CREATE_ERROR would be an error of the core's own
        return backend->state == STATE_LOOP ? CREATE_SKIP : CREATE_ERROR;
    }
    if (got == GOT_LINE && strcmp(backend->line, "OK") == 0) {
        return has_content ? CREATE_EXTRACT : CREATE_CREATED;
    }
    if (got == GOT_LINE && strcmp(backend->line, "SKIP") == 0) return CREATE_SKIP;
    if (got == GOT_LINE && strcmp(backend->line, "CORE") == 0) return CREATE_CORE;
    break_off(backend, "the backend broke the protocol: no answer to the attributes of %s", name);
    return CREATE_ERROR;
}

fd_rc restore_create(struct backend *backend, void *packet) {
    struct restore_view view;
    if (!restore_view_of(fd_layout, packet, &view)) {
        break_off(backend, "this File Daemon's packets differ from interface version %u: it needs "
                           "another build of the plugin",
                  fd_layout->version);
        return RC_ERROR;
    }
    settle(backend);
    backend->content = CONTENT_NONE;
    backend->create_status = *view.create_status = CREATE_ERROR;
    if (backend->state != STATE_LOOP) return RC_OK;
    char letter = stat_letter(view.type);
    if (letter == 0 || view.fname == NULL || !is_sendable(view.fname)) {
        tell_error(backend, "%s: a file of this kind or name cannot be restored",
                   view.fname == NULL ? "(no name)" : view.fname);
        backend->create_status = *view.create_status = CREATE_SKIP;
        return RC_OK;
    }
    if (send_attributes(backend, &view, letter)) {
        bool has_content = view.type == FILE_REGULAR;
        backend->create_status = answer_to_attributes(backend, view.fname, has_content);
    }
    *view.create_status = backend->create_status;
    if (backend->create_status == CREATE_EXTRACT) backend->content = CONTENT_UNREAD;
    return RC_OK;
}

static int32_t write_content(struct backend *backend, const char *bytes, int32_t count) {
    if (count < 0 || (count > 0 && bytes == NULL)) return -1;
    if (backend->content == CONTENT_UNREAD && count > 0) {
        backend->content = send_line(backend, "DATA") ? CONTENT_FLOWS : CONTENT_FAILED;
    }
    if (count > 0 && backend->content != CONTENT_FLOWS) return -1;
    return gather_data(backend, bytes, (size_t)count) ? count : -1;
}

void restore_io(struct backend *backend, struct io_packet *io) {
    io->status = 0;
    switch (io->func) {
    case IO_OPEN:
        if (backend->state != STATE_LOOP || backend->content != CONTENT_UNREAD) io->status = -1;
        break;
    case IO_WRITE: io->status = write_content(backend, io->buf, io->count); break;
    case IO_CLOSE:
        settle(backend);
        // an E of the backend has been told
        if (backend->content == CONTENT_FAILED && backend->state != STATE_LOOP) io->status = -1;
        break;
    default: io->status = -1; // there is no going back in a stream
    }
    if (io->status < 0) io->io_errno = EIO;
}

fd_rc restore_attributes(struct backend *backend, void *packet) {
    struct restore_view view;
    if (!restore_view_of(fd_layout, packet, &view)) return RC_ERROR;
    // the file that the core writes itself gets its attributes from the core
    if (backend->create_status == CREATE_CORE) *view.create_status = CREATE_CORE;
    return RC_OK;
}

fd_rc restore_xacl(struct backend *backend, struct xacl_packet *xacl) {
    bool is_taken = backend->create_status == CREATE_EXTRACT || backend->create_status == CREATE_CREATED;
    if (backend->state != STATE_LOOP || !is_taken) return RC_OK;
    if (xacl->count <= 0 || xacl->content == NULL) return RC_OK;
    settle(backend);
    const char *name = xacl->func == ACL_RESTORE ? "ACL" : "XATTR";
    bool is_sent = send_line(backend, "%s", name) &&
                   send_data(backend, xacl->content, (size_t)xacl->count) && send_letter(backend, 'F');
    if (is_sent) answered_ok(backend, name);
    return backend->state == STATE_LOOP ? RC_OK : RC_ERROR;
}

/** Cancelled, fatal, in error or incomplete: the core has not delivered all that it should have. */
static bool job_is_lost(struct job *job) {
    int status = job_number(job, VAR_JOB_STATUS, 'R');
    return job_is_cancelled(job) || strchr("AfEDI", status) != NULL;
}

/** What could be restored is committed. */
static void finished(struct backend *backend) {
    backend->state = STATE_ENDED;
    if (backend->restore_errors == 0) return;
    say(backend->job, SAY_FATAL, "the restore is not whole; errors that are told above as warnings: %u",
        backend->restore_errors);
}

void restore_finish(struct job *job) {
    bool is_lost = job_is_lost(job);
    for (struct backend *backend = job->backends; backend != NULL; backend = backend->next) {
        if (backend->kind != KIND_RESTORE || backend->state != STATE_LOOP) continue;
        if (is_lost) {
            process_cancel(backend->process);
            continue;
        }
        settle(backend);
        if (!send_line(backend, "FINISH")) continue;
        enum received got = receive(backend, SILENCE_SECONDS);
        if (got == GOT_END) finished(backend);
        else if (got == GOT_ERROR) break_off(backend, "%s", backend->line);
        else break_off(backend, "the backend broke the protocol: FINISH was not acknowledged");
    }
}
