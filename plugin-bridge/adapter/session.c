// SPDX-License-Identifier: AGPL-3.0-only

#include "session.h"
#include "command.h"
#include "item.h"
#include "names.h"
#include "options.h"
#include "ptcomm.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BACKENDS_MAX 256
#define PATH_BYTES 4096

struct backend *backend_for(struct job *job, const char *command) {
    for (struct backend *found = job->backends; found != NULL; found = found->next) {
        if (strcmp(found->command, command) == 0) return found;
    }
    return NULL;
}

void cancel_job(struct job *job) {
    lock_take(job->lock);
    job->is_cancelled = true;
    for (struct backend *each = job->backends; each != NULL; each = each->next) {
        if (each->process != NULL) process_cancel(each->process);
    }
    if (job->early != NULL) process_cancel(job->early);
    lock_give(job->lock);
}

/** Into the list, at its end: END is said in the order of the starts. */
static void enlist(struct job *job, struct backend *backend) {
    lock_take(job->lock);
    struct backend **end = &job->backends;
    while (*end != NULL) end = &(*end)->next;
    *end = backend;
    bool is_cancelled = job->is_cancelled;
    if (is_cancelled && backend->process != NULL) process_cancel(backend->process);
    lock_give(job->lock);
}

static bool acknowledged(struct backend *backend, const char *what, int seconds) {
    enum received got = receive(backend, seconds);
    if (got == GOT_END) return true;
    if (got == GOT_ERROR) break_off(backend, "%s: %s", what, backend->line);
    else break_off(backend, "the backend broke the protocol: %s was not acknowledged", what);
    return false;
}

static bool greet(struct backend *backend) {
    if (!send_line(backend, "Hello %s %s", PLUGIN_NAME, PLUGIN_API)) return false;
    enum received got = receive(backend, HANDSHAKE_SECONDS);
    if (got == GOT_LINE && strcmp(backend->line, "Hello Bacula") == 0) return true;
    if (got == GOT_ERROR) break_off(backend, "the backend refused the plugin: %s", backend->line);
    else break_off(backend, "the program that answered is no backend of %s", PLUGIN_NAME);
    return false;
}

static char type_letter(enum backend_kind kind) {
    return kind == KIND_BACKUP ? 'B' : kind == KIND_RESTORE ? 'R' : 'E';
}

static bool send_text(struct backend *backend, const char *key, enum job_variable variable) {
    const char *text = job_text(backend->job, variable);
    return text == NULL || text[0] == 0 || send_line(backend, "%s=%s", key, text);
}

static char level_of(struct job *job) {
    return job->level != 0 ? job->level : (char)job_number(job, VAR_LEVEL, 0);
}

/** Level and reference of a backup; a level that we do not know would be a wrong chain. */
static bool send_level(struct backend *backend) {
    struct job *job = backend->job;
    char level = level_of(job);
    if (level == 0 || strchr("FID", level) == NULL) {
        // an estimate from a console may come without
        if (backend->kind == KIND_ESTIMATE) return true;
        break_off(backend, "the job's level is none of Full, Incremental and Differential");
        return false;
    }
    if (!send_line(backend, "Level=%c", level)) return false;
    int64_t since = job->since != 0 ? job->since : job_number(job, VAR_SINCE, 0);
    return level == 'F' || send_line(backend, "Since=%" PRId64, since);
}

static bool send_targets(struct backend *backend) {
    struct job *job = backend->job;
    const char *where = job_text(job, VAR_WHERE);
    // the operator's / is no prefix
    if (where == NULL || strcmp(where, "/") == 0) where = "";
    int replace = job_number(job, VAR_REPLACE, 0);
    return send_line(backend, "Where=%s", where) &&
           send_text(backend, "RegexWhere", VAR_REGEX_WHERE) &&
           (replace <= ' ' || replace > 'z' || send_line(backend, "Replace=%c", replace));
}

static bool send_job(struct backend *backend) {
    struct job *job = backend->job;
    const char *name = job_text(job, VAR_JOB_NAME);
    const char *previous = job_text(job, VAR_PREV_JOB_NAME);
    bool has_level = backend->kind == KIND_BACKUP || backend->kind == KIND_ESTIMATE;
    return send_line(backend, "Job") &&
           send_line(backend, "Name=%s", name != NULL && name[0] != 0 ? name : "unnamed") &&
           send_line(backend, "JobID=%d", job_number(job, VAR_JOB_ID, 0)) &&
           send_line(backend, "Type=%c", type_letter(backend->kind)) &&
           (!has_level || send_level(backend)) &&
           (backend->kind != KIND_RESTORE || send_targets(backend)) &&
           send_line(backend, "Namespace=%s", PLUGIN_NAMESPACE) &&
           send_line(backend, "PrevJobName=%s", previous == NULL ? "" : previous) &&
           send_text(backend, "WorkingDir", VAR_WORKING_DIR) &&
           send_text(backend, "SysconfigPath", VAR_SYSCONFIG_PATH) &&
           send_text(backend, "ExePath", VAR_EXE_PATH) && send_letter(backend, 'F') &&
           acknowledged(backend, "the job", HANDSHAKE_SECONDS);
}

/** The newest answers of the operator for this command, NULL when nothing was changed. */
static struct kept_object *answers_for(struct backend *backend) {
    struct kept_object *newest = NULL;
    for (struct kept_object *kept = backend->job->objects; kept != NULL; kept = kept->next) {
        if (kept->is_options && strcmp(kept->command, backend->command) == 0) newest = kept;
    }
    return backend->kind == KIND_RESTORE ? newest : NULL;
}

static bool has_key_of(const struct words *words, const char *word) {
    char key[64];
    size_t length = strcspn(word, "=");
    if (length >= sizeof key) return false;
    memcpy(key, word, length);
    key[length] = 0;
    return word_value(words, key) != NULL;
}

/** The command's words and the operator's, which take the place of those with the same key. */
static bool send_words(struct backend *backend, const struct words *words) {
    struct words answers = {.count = 0};
    struct kept_object *kept = answers_for(backend);
    const char *reason = kept == NULL ? NULL : read_options(kept->bytes, kept->length, &answers);
    if (reason != NULL) {
        break_off(backend, "the changed Plugin Options of this restore %s: a Director of Bacula 9.6 "
                           "loses them; leave them as they are, and write them into the file "
                           "podheitor-restore.conf of the folder that you restore to", reason);
    }
    bool is_sent = reason == NULL;
    for (int i = 0; is_sent && i < words->count; i++) {
        if (has_key_of(&answers, words->word[i])) continue;
        is_sent = send_line(backend, "%s", words->word[i]);
    }
    for (int i = 0; is_sent && i < answers.count; i++) {
        is_sent = send_line(backend, "%s", answers.word[i]);
    }
    free_words(&answers);
    return is_sent;
}

static bool send_parameters(struct backend *backend, const struct words *words) {
    if (!send_line(backend, "Params") || !send_words(backend, words)) return false;
    bool is_accurate = backend->kind == KIND_BACKUP && job_number(backend->job, VAR_ACCURATE, 0) != 0;
    if (is_accurate && !send_line(backend, "Accurate=1")) return false;
    return send_letter(backend, 'F') && acknowledged(backend, "parameters", SILENCE_SECONDS);
}

static const char *start_word(enum backend_kind kind) {
    switch (kind) {
    case KIND_BACKUP: return "BackupStart";
    case KIND_RESTORE: return "RestoreStart";
    case KIND_LISTING: return "ListingStart";
    case KIND_QUERY: return "QueryStart";
    default: return "EstimateStart";
    }
}

/** An estimate is a listing or a query when a parameter says so. */
static enum backend_kind kind_of(enum backend_kind kind, const struct words *words) {
    if (kind != KIND_ESTIMATE) return kind;
    if (word_value(words, "query") != NULL) return KIND_QUERY;
    return word_value(words, "listing") != NULL ? KIND_LISTING : kind;
}

static void converse(struct backend *backend, const struct words *words) {
    const char *aborts = word_value(words, "abort_on_error");
    backend->aborts_on_error = aborts != NULL && aborts[0] != '0';
    bool is_ready = greet(backend) && send_job(backend) && send_parameters(backend, words) &&
                    send_line(backend, "%s", start_word(backend->kind)) &&
                    acknowledged(backend, "the start", SILENCE_SECONDS);
    backend->offers_options = backend->kind == KIND_BACKUP && level_of(backend->job) == 'F';
    if (is_ready) backend->state = STATE_LOOP;
    else if (backend->state != STATE_BROKEN) break_off(backend, "the backend was not started");
}

static struct backend *new_backend(struct job *job, const char *command, enum backend_kind kind) {
    struct backend *backend = calloc(1, sizeof *backend);
    char *copy = copy_text(command, strlen(command));
    if (backend == NULL || copy == NULL) {
        free(backend);
        free(copy);
        say(job, SAY_FATAL, "no memory is left");
        return NULL;
    }
    backend->job = job;
    backend->command = copy;
    backend->kind = kind;
    return backend;
}

static bool is_sound(const char *command) {
    struct words words;
    bool is_cut = cut_command(command, &words) == NULL;
    free_words(&words);
    return is_cut;
}

void start_early(struct job *job, const char *command) {
    char path[PATH_BYTES], why[PATH_BYTES];
    if (job->early != NULL || job->backends != NULL || job_is_cancelled(job)) return;
    if (!is_our_command(command) || !is_sound(command)) return;
    if (!backend_path(path, sizeof path, why, sizeof why)) return;
    struct process *process = process_start(path, why, sizeof why);
    lock_take(job->lock);
    job->early = process;
    if (process != NULL && job->is_cancelled) process_cancel(process);
    lock_give(job->lock);
}

static struct process *take_early(struct job *job) {
    lock_take(job->lock);
    struct process *process = job->early;
    job->early = NULL;
    lock_give(job->lock);
    return process;
}

/** The early one, unless it has not lived through the wait for the storage; then another one. */
static struct process *take_process(struct job *job, const char *path, char *why, size_t why_size) {
    struct process *early = take_early(job);
    if (early == NULL || !process_has_exited(early)) {
        return early != NULL ? early : process_start(path, why, why_size);
    }
    struct process_exit exit;
    process_wait(early, clock_ms(), &exit);
    process_free(early);
    return process_start(path, why, why_size);
}

struct backend *open_backend(struct job *job, const char *command, enum backend_kind kind) {
    char path[PATH_BYTES], why[PATH_BYTES];
    struct words words;
    struct backend *backend = new_backend(job, command, kind);
    if (backend == NULL) return NULL;
    const char *refusal = cut_command(command, &words);
    int count = 0;
    for (struct backend *each = job->backends; each != NULL; each = each->next) count++;
    if (refusal == NULL && count >= BACKENDS_MAX) refusal = "is one of too many in this job";
    bool can_start = refusal == NULL && backend_path(path, sizeof path, why, sizeof why);
    if (can_start) {
        backend->kind = kind_of(kind, &words);
        backend->process = take_process(job, path, why, sizeof why);
    }
    enlist(job, backend);
    if (refusal != NULL) break_off(backend, "the Plugin line %s", refusal);
    else if (backend->process == NULL) break_off(backend, "%s", why);
    else converse(backend, &words);
    free_words(&words);
    return backend;
}

/** END, its F, and T; a query has no END. Errors come too late for the job's state, and are told. */
static void part(struct backend *backend) {
    bool is_ended = backend->kind == KIND_QUERY ||
                    (send_line(backend, "END") && acknowledged(backend, "the end", EXIT_SECONDS));
    if (is_ended) send_letter(backend, 'T');
}

static void end_process(struct backend *backend) {
    struct process_exit exit;
    bool is_asked = backend->state == STATE_ENDED;
    if (is_asked) part(backend);
    else process_cancel(backend->process);
    int seconds = backend->state == STATE_ENDED ? EXIT_SECONDS : CANCEL_SECONDS;
    process_wait(backend->process, clock_ms() + (int64_t)seconds * 1000, &exit);
    report_stderr(backend);
    if (exit.was_killed) {
        say(backend->job, SAY_WARNING, "the backend did not end in %d s and was killed", seconds);
    } else if (is_asked && (exit.code != 0 || exit.signal != 0)) {
        say(backend->job, SAY_ERROR, "the backend ended with exit code %d, signal %d", exit.code,
            exit.signal);
    }
    process_free(backend->process);
}

/** The process that no backend was opened for: it has done nothing yet. */
static void end_early(struct job *job) {
    struct process_exit exit;
    struct process *process = take_early(job);
    if (process == NULL) return;
    process_cancel(process);
    process_wait(process, clock_ms() + CANCEL_SECONDS * 1000, &exit);
    process_free(process);
}

void close_backends(struct job *job) {
    end_early(job);
    for (;;) {
        // out of the list before its process is reaped: a cancel must not signal a number reused
        lock_take(job->lock);
        struct backend *backend = job->backends;
        if (backend != NULL) job->backends = backend->next;
        lock_give(job->lock);
        if (backend == NULL) break;
        if (backend->process != NULL) end_process(backend);
        free_item(&backend->item);
        free_item(&backend->waiting);
        free(backend->attributes);
        free(backend->gathered);
        free(backend->answer);
        free(backend->command);
        free(backend);
    }
    job->current = NULL;
}
