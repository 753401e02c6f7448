// SPDX-License-Identifier: AGPL-3.0-only
// One job of the File Daemon and its backends, one for each Plugin line. All of it belongs to the job's
// thread but `is_cancelled`, `early` and the list of backends, which the cancelling thread reads under `lock`.

#ifndef HVDR_JOB_H
#define HVDR_JOB_H

#include "layout.h"
#include "platform.h"

enum backend_kind { KIND_BACKUP, KIND_RESTORE, KIND_ESTIMATE, KIND_LISTING, KIND_QUERY };

/** LOOP: in conversation. ENDED: idle, END may be said. BROKEN: the job was made red, nothing more is said. */
enum backend_state { STATE_LOOP, STATE_ENDED, STATE_BROKEN };

enum content_state { CONTENT_NONE, CONTENT_UNREAD, CONTENT_FLOWS, CONTENT_DONE, CONTENT_FAILED };

enum received {
    GOT_LINE,  // C: backend.line
    GOT_DATA,  // D: backend.data_left bytes are to be read
    GOT_END,   // F
    GOT_ERROR, // E: backend.line; whoever waits says what it means
    GOT_BROKEN // all else; was said, the conversation is over
};

#define LINE_MAX_BYTES 16384

enum item_kind { ITEM_FILE, ITEM_RESTORE_OBJECT, ITEM_PLUGIN_OBJECT, ITEM_OPTIONS };

/** What the backend announces; the texts belong to the item until the next one is read. */
struct item {
    enum item_kind kind;
    char *name;
    char *link;
    char type; // F E D S L
    int64_t size, atime, mtime, ctime;
    uint32_t uid, gid, mode, links;
    int32_t link_index;
    bool has_stat;
    char *bytes; // of a restore object
    uint32_t length;
    char *category, *object_type, *object_name, *source, *uuid;
    uint64_t object_size;
    uint32_t count;
    int32_t status;
};

struct backend {
    struct backend *next;
    struct job *job;
    struct process *process; // NULL: it could not be started
    char *command;
    enum backend_kind kind;
    enum backend_state state;
    bool aborts_on_error;

    // the packet that came last
    enum received last;
    bool is_pushed_back;
    uint32_t data_left;
    char line[LINE_MAX_BYTES + 1];
    unsigned stderr_lines;

    // backup
    struct item item;
    bool has_item;
    struct item waiting; // the first item, while the offer goes before it
    bool has_waiting;
    bool offers_options; // a Full that has not done so yet
    enum content_state content; // on restore: of the file that is sent
    char *attributes;           // ACL or XATTR that the core reads right now
    // restore
    int create_status;
    unsigned restore_errors; // told as warnings so far
    char *gathered;          // data of a file behind room for a header
    size_t gathered_size;
    // query
    char *answer;
};

struct kept_object {
    struct kept_object *next;
    bool is_options; // the operator's answers, not an object of the backend
    char *command;
    char *name;
    char *bytes;
    uint32_t length;
};

struct job {
    struct fd_context *context;
    struct lock *lock;
    bool is_cancelled;
    struct backend *backends;
    struct backend *current;
    struct process *early; // started before its command is worked on; of whichever backend is opened first
    struct kept_object *objects; // restore objects until their backend runs, in order
    size_t object_bytes;
    char level;
    int64_t since;
};

extern const struct layout *fd_layout;
extern const struct fd_core *fd_core;

bool job_is_cancelled(struct job *job);
/** Number of a variable, or `otherwise` where this version has none. */
int job_number(struct job *job, enum job_variable variable, int otherwise);
/** Text of a variable, NULL where there is none. */
const char *job_text(struct job *job, enum job_variable variable);

/** A line in the job's log; SAY_FATAL makes the job red. */
void say(struct job *job, enum message_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** A copy of `size` bytes with a zero behind; NULL without memory. */
char *copy_text(const char *text, size_t size);

#endif
