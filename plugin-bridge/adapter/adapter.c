// SPDX-License-Identifier: AGPL-3.0-only
// The two symbols that a File Daemon looks for, and its callbacks, each passed to the job that it is for.

#include "backup.h"
#include "command.h"
#include "job.h"
#include "names.h"
#include "ptcomm.h"
#include "query.h"
#include "restore.h"
#include "session.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#define EXPORTED __declspec(dllexport)
#else
#define EXPORTED __attribute__((visibility("default")))
#endif

const struct layout *fd_layout;
const struct fd_core *fd_core;

static struct job *job_of(struct fd_context *context) {
    return context == NULL ? NULL : context->ours;
}

static struct backend *current_of(struct fd_context *context) {
    struct job *job = job_of(context);
    return job == NULL ? NULL : job->current;
}

/** For every job of the daemon, also for those that never mention us: nothing is started here. */
static fd_rc new_plugin(struct fd_context *context) {
    struct job *job = calloc(1, sizeof *job);
    if (job != NULL) job->lock = lock_new();
    if (job == NULL || job->lock == NULL) {
        free(job);
        context->ours = NULL;
        return RC_ERROR;
    }
    job->context = context;
    context->ours = job;
    return RC_OK;
}

static fd_rc free_plugin(struct fd_context *context) {
    struct job *job = job_of(context);
    if (job == NULL) return RC_OK;
    close_backends(job);
    forget_restore_objects(job);
    lock_free(job->lock);
    free(job);
    context->ours = NULL;
    return RC_OK;
}

static fd_rc no_value(struct fd_context *context, int variable, void *value) {
    (void)context;
    (void)variable;
    (void)value;
    return RC_OK;
}

static fd_rc start_loop(struct job *job, const char *command, enum backend_kind kind) {
    job->current = NULL;
    if (backend_for(job, command) != NULL) {
        say(job, SAY_FATAL, "the same Plugin line stands twice in the FileSet: %s", command);
        return RC_ERROR;
    }
    job->current = open_backend(job, command, kind);
    return job->current != NULL && job->current->state == STATE_LOOP ? RC_OK : RC_ERROR;
}

static fd_rc select_for_restore(struct job *job, const char *command) {
    struct backend *backend = restore_select(job, command);
    return backend != NULL && backend->state == STATE_LOOP ? RC_OK : RC_ERROR;
}

static fd_rc command_event(struct job *job, uint32_t type, const char *command) {
    if (!is_our_command(command)) return RC_OK;
    switch (type) {
    case EVENT_BACKUP_COMMAND: return start_loop(job, command, KIND_BACKUP);
    case EVENT_ESTIMATE_COMMAND: return start_loop(job, command, KIND_ESTIMATE);
    default: return select_for_restore(job, command);
    }
}

static fd_rc handle_event(struct fd_context *context, struct fd_event *event, void *value) {
    struct job *job = job_of(context);
    if (job == NULL || event == NULL) return RC_ERROR;
    switch (event->type) {
    case EVENT_LEVEL: job->level = (char)(intptr_t)value; return RC_OK;
    case EVENT_SINCE: job->since = (intptr_t)value; return RC_OK;
    case EVENT_CANCEL: cancel_job(job); return RC_OK;
    case EVENT_RESTORE_OBJECT: return keep_restore_object(job, value);
    case EVENT_BACKUP_COMMAND:
    case EVENT_ESTIMATE_COMMAND:
    case EVENT_RESTORE_COMMAND: return command_event(job, event->type, value);
    case EVENT_PLUGIN_COMMAND:
        start_early(job, value);
        return RC_OK;
    case EVENT_END_RESTORE: restore_finish(job); return RC_OK;
    case EVENT_JOB_END: close_backends(job); return RC_OK;
    default: return RC_OK;
    }
}

static fd_rc start_backup_file(struct fd_context *context, void *packet) {
    struct backend *backend = current_of(context);
    return backend == NULL ? RC_ERROR : backup_start_file(backend, packet);
}

static fd_rc end_backup_file(struct fd_context *context) {
    struct backend *backend = current_of(context);
    return backend == NULL ? RC_ERROR : backup_end_file(backend);
}

static fd_rc start_restore_file(struct fd_context *context, const char *command) {
    struct job *job = job_of(context);
    if (job == NULL || command == NULL) return RC_ERROR;
    return is_our_command(command) ? select_for_restore(job, command) : RC_OK;
}

static fd_rc end_restore_file(struct fd_context *context) {
    (void)context;
    return RC_OK;
}

static fd_rc plugin_io(struct fd_context *context, struct io_packet *io) {
    struct backend *backend = current_of(context);
    if (backend == NULL || io == NULL) return RC_ERROR;
    if (!PACKET_FITS(io)) {
        break_off(backend, "this File Daemon's packets of data have another layout");
        return RC_ERROR;
    }
    if (backend->kind == KIND_RESTORE) restore_io(backend, io);
    else backup_io(backend, io);
    return io->status < 0 ? RC_ERROR : RC_OK;
}

static fd_rc create_file(struct fd_context *context, void *packet) {
    struct backend *backend = current_of(context);
    return backend == NULL ? RC_ERROR : restore_create(backend, packet);
}

static fd_rc set_file_attributes(struct fd_context *context, void *packet) {
    struct backend *backend = current_of(context);
    return backend == NULL ? RC_ERROR : restore_attributes(backend, packet);
}

/** In accurate jobs: files that were not sent again are not "deleted". */
static fd_rc check_file(struct fd_context *context, char *name) {
    (void)context;
    size_t length = strlen(PLUGIN_NAMESPACE);
    if (name == NULL) return RC_OK;
    if (name[0] == '/') name++;
    return strncmp(name, PLUGIN_NAMESPACE, length) == 0 && name[length] == '/' ? RC_SEEN : RC_OK;
}

static fd_rc handle_xacl(struct fd_context *context, struct xacl_packet *xacl) {
    struct backend *backend = current_of(context);
    if (backend == NULL || xacl == NULL) return RC_ERROR;
    if (!PACKET_FITS(xacl)) {
        break_off(backend, "this File Daemon's packets of ACLs have another layout");
        return RC_ERROR;
    }
    switch (xacl->func) {
    case ACL_BACKUP:
    case XATTR_BACKUP: return backup_xacl(backend, xacl);
    case ACL_RESTORE:
    case XATTR_RESTORE: return restore_xacl(backend, xacl);
    default: return RC_OK;
    }
}

static fd_rc check_stream(struct fd_context *context, struct stream_packet *packet) {
    (void)context;
    (void)packet;
    return RC_OK;
}

static fd_rc query_parameter(struct fd_context *context, struct query_packet *packet) {
    struct job *job = job_of(context);
    return job == NULL || packet == NULL ? RC_ERROR : query_step(job, packet);
}

static struct fd_plugin_info info = {
    .size = sizeof info,
    .magic = "*FDPluginData*",
    .license = "AGPLv3",
    .author = "PodHeitor",
    .date = "2026",
    .description_version = PLUGIN_VERSION,
    .description = "disaster recovery of Hyper-V",
};

// one table for all versions: the later ones only add functions at its end
#define COMMON                                                                                     \
    {.new_plugin = new_plugin, .free_plugin = free_plugin, .get_plugin_value = no_value,           \
     .set_plugin_value = no_value, .handle_event = handle_event,                                   \
     .start_backup_file = start_backup_file, .end_backup_file = end_backup_file,                   \
     .start_restore_file = start_restore_file, .end_restore_file = end_restore_file,               \
     .plugin_io = plugin_io, .create_file = create_file,                                           \
     .set_file_attributes = set_file_attributes, .check_file = check_file,                         \
     .handle_xacl = handle_xacl}

static struct fd_functions_14 functions_14 = {.common = COMMON, .check_stream = check_stream};
static struct fd_functions_23 functions_23 = {
    .up_to_22 = {.up_to_21 = {.common = COMMON,
                              .check_stream = check_stream,
                              .query_parameter = query_parameter}}};

static struct fd_functions_common *functions_of(uint32_t version) {
    struct fd_functions_common *common =
        version == 14 ? &functions_14.common : &functions_23.up_to_22.up_to_21.common;
    common->version = version;
    common->size = version == 14   ? sizeof(struct fd_functions_14)
                   : version == 21 ? sizeof(struct fd_functions_21)
                   : version == 22 ? sizeof(struct fd_functions_22)
                                   : sizeof(struct fd_functions_23);
    return common;
}

EXPORTED int loadPlugin(struct fd_info *core_info, struct fd_core *core,
                        struct fd_plugin_info **plugin_info, struct fd_functions_common **functions);
EXPORTED int unloadPlugin(void);

/** Not 0: this daemon is none of those that were measured, and nothing of it was touched. */
int loadPlugin(struct fd_info *core_info, struct fd_core *core, struct fd_plugin_info **plugin_info,
               struct fd_functions_common **functions) {
    if (core_info == NULL || core == NULL || plugin_info == NULL || functions == NULL) return RC_ERROR;
    const struct layout *layout = layout_of(core_info->version);
    if (layout == NULL || core->size < layout->core_size) return RC_ERROR;
    fd_layout = layout;
    fd_core = core;
    info.version = layout->version;
    *plugin_info = &info;
    *functions = functions_of(layout->version);
    return RC_OK;
}

int unloadPlugin(void) {
    return RC_OK;
}
