// SPDX-License-Identifier: AGPL-3.0-only
// Plays the part of a File Daemon to a plugin: loads it, runs the jobs that the arguments describe with the
// order of calls of a real one, and prints what it saw as lines of JSON. It includes the adapter's
// declarations and therefore has its licence.
//
//   fd-host PLUGIN VERSION KIND COMMAND… [options]     KIND: load, backup, estimate, restore, query
//   --level L --since N --accurate --where DIR --previous NAME --replace C --status C
//   --file T:NAME:COUNT     a file to restore: T is F, E, D or S; COUNT bytes of x in parts of 65536
//   --object NAME:TEXT      a restore object         --acl TEXT    sent after each restored file
//   --answers TEXT          what the console makes of the operator's answers
//   --cancel-at COUNT       event 14 from another thread when COUNT bytes were read (0: when the loop begins)
//   --stop-at COUNT         the core leaves the job there, as after a failure of its own
//   --idle                  the job ends before a command of its FileSet is worked on
//   --jobs COUNT            so many at once          --wrong WHAT  save, io, restore, xacl, object: other sizes

#include "../../../plugin-bridge/adapter/abi.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

#define LIST_MAX 64

struct arguments {
    uint32_t version;
    const char *plugin, *kind, *wrong, *where, *previous, *acl, *parameter, *answers;
    const char *commands[LIST_MAX], *files[LIST_MAX], *objects[LIST_MAX];
    int command_count, file_count, object_count, jobs, accurate, idle;
    long long since, cancel_at, stop_at;
    char level, replace, status;
};

struct core_job {
    int number;
    char status;
    long long bytes;
    bool has_cancelled;
    pthread_t canceller;
    struct fd_context context;
};

static struct arguments given;
static struct fd_functions_common *functions;
static pthread_mutex_t printing = PTHREAD_MUTEX_INITIALIZER;

// ---- output

static void put_text(const char *text, size_t length) {
    putchar('"');
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') printf("\\%c", c);
        else if (c < ' ') printf("\\u%04x", c);
        else putchar(c);
    }
    putchar('"');
}

static void begin(struct core_job *job, const char *what) {
    pthread_mutex_lock(&printing);
    printf("{\"job\":%d,\"what\":\"%s\"", job->number, what);
}

static void text_field(const char *key, const char *text) {
    printf(",\"%s\":", key);
    if (text == NULL) printf("null");
    else put_text(text, strlen(text));
}

static void number_field(const char *key, long long number) { printf(",\"%s\":%lld", key, number); }

static void finish(void) {
    printf("}\n");
    fflush(stdout);
    pthread_mutex_unlock(&printing);
}

static void call(struct core_job *job, const char *name, int rc) {
    begin(job, "call");
    text_field("name", name);
    number_field("rc", rc);
    finish();
}

// ---- functions of the core

static fd_rc register_events(struct fd_context *context, ...) {
    (void)context;
    return RC_OK;
}

static fd_rc job_message(struct fd_context *context, const char *file, int line, int type, int64_t mtime,
                         const char *format, ...) {
    struct core_job *job = context->of_core;
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    (void)file;
    (void)line;
    (void)mtime;
    int fatal = given.version >= 22 ? 4 : 3;
    static const char *const kinds[] = {"fatal", "error", "warning", "info", "saved", "notsaved", "skipped", "mount"};
    if (type == fatal) job->status = 'f';
    begin(job, "message");
    bool is_known = type >= fatal && type < fatal + 8;
    text_field("kind", is_known ? kinds[type - fatal] : "other");
    text_field("text", text);
    finish();
    return RC_OK;
}

static fd_rc get_value(struct fd_context *context, int variable, void *out) {
    struct core_job *job = context->of_core;
    int late = given.version >= 22;
    int shifted = given.version == 21 ? 1 : 0;
    static const char *name[] = {"job.2026-11-26_20.00.00_01", "job.2026-11-26_20.00.00_02"};
    const char *text = NULL;
    int number = 0;
    bool is_text = true;
    if (variable == 6) text = name[job->number % 2];
    else if (variable == 13) text = "/var/dir";
    else if (variable == 14 + late) text = given.where;
    else if (variable == 16 + late) text = "/usr/sbin/";
    else if (variable == 20 - shifted) text = given.previous;
    else if (variable == 28 && given.version == 23) text = "/etc/core/";
    else is_text = false;
    if (is_text) {
        *(const char **)out = text;
        return text == NULL ? RC_ERROR : RC_OK;
    }
    if (variable == 1) number = 7 + job->number;
    else if (variable == 3) number = given.level;
    else if (variable == 7) number = job->status;
    else if (variable == 8) number = (int)given.since;
    else if (variable == 9) number = given.accurate;
    else if (variable == 23 - shifted) number = 5;
    else if (variable == 24 - shifted) number = given.replace;
    else return RC_ERROR;
    *(int *)out = number;
    return RC_OK;
}

static struct fd_core core = {.register_events = register_events, .get_value = get_value, .job_message = job_message};

// ---- calls

static fd_rc event(struct core_job *job, uint32_t type, const void *value) {
    struct fd_event what = {type};
    return functions->handle_event(&job->context, &what, (void *)(uintptr_t)value);
}

static bool is_wrong(const char *what) { return given.wrong != NULL && strcmp(given.wrong, what) == 0; }

static int32_t size_of(const char *what, size_t size) { return (int32_t)size - (is_wrong(what) ? 8 : 0); }

static void *cancel(void *argument) {
    struct core_job *job = argument;
    event(job, EVENT_CANCEL, NULL);
    return NULL;
}

/** True when the core goes no further. */
static bool is_left(struct core_job *job) {
    if (given.cancel_at >= 0 && job->bytes >= given.cancel_at && !job->has_cancelled) {
        job->has_cancelled = true;
        job->status = 'A';
        pthread_create(&job->canceller, NULL, cancel, job);
    }
    return given.stop_at >= 0 && job->bytes >= given.stop_at;
}

static int32_t io(struct core_job *job, int func, char *buffer, int32_t count) {
    struct io_packet packet;
    memset(&packet, 0, sizeof packet);
    packet.pkt_size = packet.pkt_end = size_of("io", sizeof packet);
    packet.func = func;
    packet.buf = buffer;
    packet.count = count;
    packet.status = -1;
    fd_rc rc = functions->plugin_io(&job->context, &packet);
    if (rc != RC_OK && packet.status >= 0) call(job, "pluginIO without status", (int)rc);
    return packet.status;
}

struct seen_file {
    const char *fname, *link, *object_name, *object;
    int32_t type, object_len;
    struct fd_stat stat;
    struct saved_plugin_object plugin_object;
};

#define FILL(p) (p)->pkt_size = (p)->pkt_end = size_of("save", sizeof *(p))
#define TAKE(p, object_part)                                                                       \
    *seen = (struct seen_file){.fname = (p)->fname, .link = (p)->link, .type = (p)->type,          \
                               .object_name = (object_part)->object_name,                          \
                               .object = (object_part)->object,                                    \
                               .object_len = (object_part)->object_len, .stat = (p)->statp}

static fd_rc start_file(struct core_job *job, struct seen_file *seen) {
    union {
        struct save_packet_14 v14;
        struct save_packet_21 v21;
        struct save_packet_23 v23;
    } packet;
    memset(&packet, 0, sizeof packet);
    fd_rc rc;
    if (given.version == 14) FILL(&packet.v14);
    else if (given.version == 21) FILL(&packet.v21);
    else FILL(&packet.v23);
    rc = functions->start_backup_file(&job->context, &packet);
    if (given.version == 14) TAKE(&packet.v14, &packet.v14);
    else if (given.version == 21) TAKE(&packet.v21, &packet.v21);
    else {
        TAKE(&packet.v23, &packet.v23.restore_object);
        seen->plugin_object = packet.v23.plugin_object;
    }
    return rc;
}

static void print_file(struct core_job *job, const struct seen_file *file) {
    begin(job, "file");
    text_field("name", file->fname);
    number_field("type", file->type);
    number_field("size", (long long)file->stat.st_size);
    number_field("mode", file->stat.st_mode);
    number_field("mtime", (long long)file->stat.STAT_MTIME);
    text_field("link", file->link);
    if (file->object_name != NULL) text_field("objectName", file->object_name);
    if (file->object != NULL) {
        printf(",\"object\":");
        put_text(file->object, (size_t)file->object_len);
    }
    if (file->type == FILE_PLUGIN_OBJECT) {
        text_field("category", file->plugin_object.category);
        text_field("pluginName", file->plugin_object.plugin_name);
        number_field("objectSize", (long long)file->plugin_object.size);
        number_field("status", file->plugin_object.status);
    }
    finish();
}

static void read_file(struct core_job *job) {
    static char buffers[LIST_MAX][65536];
    char *buffer = buffers[job->number];
    long long total = 0;
    int32_t got = io(job, IO_OPEN, NULL, 0);
    char first = 0;
    bool is_uniform = true;
    if (got == 0) {
        while ((got = io(job, IO_READ, buffer, 65536)) > 0) {
            if (total == 0) first = buffer[0];
            for (int32_t i = 0; i < got; i++) is_uniform = is_uniform && buffer[i] == first;
            total += got;
            job->bytes += got;
            if (is_left(job)) break;
        }
        io(job, IO_CLOSE, NULL, 0);
    }
    char fill[2] = {first, 0};
    begin(job, "content");
    number_field("bytes", total);
    number_field("status", got);
    text_field("fill", is_uniform ? fill : NULL);
    finish();
}

static void read_attributes(struct core_job *job, int func) {
    struct xacl_packet packet;
    memset(&packet, 0, sizeof packet);
    packet.pkt_size = packet.pkt_end = size_of("xacl", sizeof packet);
    if (!is_wrong("xacl")) packet.pkt_end = (int32_t)sizeof packet;
    packet.func = func;
    fd_rc rc = functions->handle_xacl(&job->context, &packet);
    if (rc == RC_OK && packet.count == 0) return;
    begin(job, func == ACL_BACKUP ? "acl" : "xattr");
    number_field("rc", (int)rc);
    number_field("bytes", packet.count);
    if (packet.content != NULL) {
        printf(",\"text\":");
        put_text(packet.content, (size_t)packet.count);
    }
    finish();
}

static void save_loop(struct core_job *job, bool has_io) {
    for (;;) {
        struct seen_file file;
        if (is_left(job)) return;
        fd_rc rc = start_file(job, &file);
        if (rc != RC_OK) return call(job, "startBackupFile", (int)rc);
        print_file(job, &file);
        if (has_io && file.type == FILE_REGULAR) read_file(job);
        if (given.stop_at >= 0 && job->bytes >= given.stop_at) return;
        if (has_io && file.type < FILE_RESTORE_OBJECT) {
            read_attributes(job, ACL_BACKUP);
            read_attributes(job, XATTR_BACKUP);
        }
        rc = functions->end_backup_file(&job->context);
        if (rc != RC_MORE) return call(job, "endBackupFile", (int)rc);
    }
}

static void save_job(struct core_job *job) {
    bool has_io = strcmp(given.kind, "backup") == 0;
    event(job, EVENT_LEVEL, (void *)(intptr_t)given.level);
    if (given.since != 0) event(job, EVENT_SINCE, (void *)(intptr_t)given.since);
    for (int i = 0; i < given.command_count; i++) event(job, EVENT_PLUGIN_COMMAND, given.commands[i]);
    if (given.idle) {
        usleep(500000); // the storage lets the job wait, and is then not there
        return;
    }
    for (int i = 0; i < given.command_count; i++) {
        uint32_t type = has_io ? EVENT_BACKUP_COMMAND : EVENT_ESTIMATE_COMMAND;
        fd_rc rc = event(job, type, given.commands[i]);
        call(job, "command", (int)rc);
        if (rc == RC_OK) save_loop(job, has_io);
    }
    if (has_io) event(job, EVENT_END_BACKUP, NULL);
}

// ---- restore

static void give_object(struct core_job *job, int type, const char *object) {
    char name[256];
    struct restore_object_packet packet;
    memset(&packet, 0, sizeof packet);
    const char *colon = strchr(object, ':');
    snprintf(name, sizeof name, "%.*s", (int)(colon - object), object);
    packet.pkt_size = packet.pkt_end = size_of("object", sizeof packet);
    packet.object_name = name;
    packet.object = (char *)(uintptr_t)(colon + 1);
    packet.object_len = packet.object_full_len = (int32_t)strlen(colon + 1);
    packet.plugin_name = (char *)(uintptr_t)given.commands[0];
    packet.object_type = type;
    event(job, EVENT_RESTORE_OBJECT, &packet);
}

#define FILL_RESTORE(p)                                                                            \
    (p)->pkt_size = (p)->pkt_end = size_of("restore", sizeof *(p));                                \
    (p)->type = type;                                                                              \
    (p)->fname = name;                                                                             \
    (p)->link = type == FILE_SYMLINK ? "target" : NULL;                                            \
    (p)->where = given.where;                                                                      \
    (p)->statp.st_size = (__typeof__((p)->statp.st_size))count;                                    \
    (p)->statp.st_mode = 0100600;                                                                  \
    (p)->statp.st_nlink = 1;                                                                       \
    (p)->statp.STAT_MTIME = 1795444060;                                                            \
    (p)->create_status = CREATE_ERROR;                                                             \
    rc = step(&job->context, (p));                                                                 \
    status = (p)->create_status

static int with_packet(struct core_job *job, fd_rc (*step)(struct fd_context *, void *), int type, const char *name, long long count) {
    fd_rc rc;
    int status;
    if (given.version == 14) {
        struct restore_packet_14 packet;
        memset(&packet, 0, sizeof packet);
        FILL_RESTORE(&packet);
    } else {
        struct restore_packet_21 packet;
        memset(&packet, 0, sizeof packet);
        FILL_RESTORE(&packet);
    }
    return rc == RC_OK ? status : -(int)rc;
}

static int write_file(struct core_job *job, long long count) {
    static char buffers[LIST_MAX][65536];
    memset(buffers[job->number], 'x', 65536);
    int status = io(job, IO_OPEN, NULL, 0);
    while (status >= 0 && count > 0) {
        int32_t part = count < 65536 ? (int32_t)count : 65536;
        is_left(job);
        int32_t taken = io(job, IO_WRITE, buffers[job->number], part);
        if (taken != part) status = -1;
        job->bytes += part;
        count -= part;
    }
    return status;
}

static void restore_acl(struct core_job *job) {
    struct xacl_packet packet;
    if (given.acl == NULL) return;
    memset(&packet, 0, sizeof packet);
    packet.pkt_size = packet.pkt_end = (int32_t)sizeof packet;
    packet.func = ACL_RESTORE;
    packet.content = (char *)(uintptr_t)given.acl;
    packet.count = (int32_t)strlen(given.acl);
    call(job, "restore ACL", (int)functions->handle_xacl(&job->context, &packet));
}

static void restore_file(struct core_job *job, const char *file) {
    char name[4096];
    const char *last = strrchr(file, ':');
    long long count = atoll(last + 1);
    snprintf(name, sizeof name, "%.*s", (int)(last - file - 2), file + 2);
    int type = file[0] == 'F' ? FILE_REGULAR : file[0] == 'E' ? FILE_EMPTY : file[0] == 'D' ? FILE_FOLDER : FILE_SYMLINK;
    event(job, EVENT_RESTORE_COMMAND, given.commands[0]);
    fd_rc rc = functions->start_restore_file(&job->context, given.commands[0]);
    if (rc != RC_OK) return call(job, "startRestoreFile", (int)rc);
    int created = with_packet(job, functions->create_file, type, name, count);
    int written = 0, closed = 0, attributes = 0;
    if (created == CREATE_EXTRACT) written = write_file(job, count);
    if (created >= CREATE_EXTRACT) attributes = with_packet(job, functions->set_file_attributes, type, name, count);
    if (created == CREATE_EXTRACT) closed = io(job, IO_CLOSE, NULL, 0);
    if (created >= CREATE_EXTRACT) restore_acl(job);
    begin(job, "restored");
    text_field("name", name);
    number_field("created", created);
    number_field("written", written);
    number_field("attributes", attributes);
    number_field("closed", closed);
    finish();
    functions->end_restore_file(&job->context);
}

static void restore_job(struct core_job *job) {
    for (int i = 0; i < given.object_count; i++) give_object(job, FILE_RESTORE_OBJECT, given.objects[i]);
    if (given.answers != NULL) give_object(job, FILE_PLUGIN_CONFIG_FILLED, given.answers);
    event(job, EVENT_RESTORE_OBJECT, NULL);
    event(job, 5, NULL);
    for (int i = 0; i < given.file_count; i++) restore_file(job, given.files[i]);
    if (given.status != 0) job->status = given.status;
    event(job, EVENT_END_RESTORE, NULL);
}

static void query_job(struct core_job *job) {
    struct query_packet packet;
    struct fd_functions_21 *table = (struct fd_functions_21 *)(void *)functions;
    memset(&packet, 0, sizeof packet);
    packet.pkt_size = packet.pkt_end = (int32_t)sizeof packet;
    packet.command = (char *)(uintptr_t)given.commands[0];
    packet.parameter = (char *)(uintptr_t)given.parameter;
    fd_rc rc;
    while ((rc = table->query_parameter(&job->context, &packet)) == RC_MORE) {
        begin(job, "answer");
        text_field("text", packet.result);
        finish();
    }
    call(job, "query", (int)rc);
}

static void *run_job(void *argument) {
    struct core_job *job = argument;
    job->status = 'R';
    job->context.of_core = job;
    functions->new_plugin(&job->context);
    event(job, EVENT_JOB_START, "");
    if (strcmp(given.kind, "restore") == 0) restore_job(job);
    else if (strcmp(given.kind, "query") == 0) query_job(job);
    else save_job(job);
    // the core waits for nobody who cancels, but the job must not be gone meanwhile
    if (job->has_cancelled) pthread_join(job->canceller, NULL);
    event(job, EVENT_JOB_END, NULL);
    functions->free_plugin(&job->context);
    char status[2] = {job->status, 0};
    begin(job, "end");
    text_field("status", status);
    finish();
    return NULL;
}

// ---- loading

typedef int load_function(struct fd_info *, struct fd_core *, struct fd_plugin_info **, struct fd_functions_common **);
typedef int unload_function(void);

static void *symbol(const char *name) {
#ifdef _WIN32
    static HMODULE module;
    if (module == NULL) module = LoadLibraryA(given.plugin);
    return module == NULL ? NULL : (void *)(uintptr_t)GetProcAddress(module, name);
#else
    static void *module;
    if (module == NULL) module = dlopen(given.plugin, RTLD_NOW | RTLD_LOCAL);
    if (module == NULL) fprintf(stderr, "%s\n", dlerror());
    return module == NULL ? NULL : dlsym(module, name);
#endif
}

static unsigned core_size(uint32_t version) { return version >= 23 ? 168 : version >= 22 ? 152 : 144; }

static int load(void) {
    struct fd_info info = {sizeof info, given.version};
    struct fd_plugin_info *plugin = NULL;
    struct core_job loading = {.number = 0};
    core.size = core_size(given.version);
    core.version = given.version;
    load_function *loader = (load_function *)(uintptr_t)symbol("loadPlugin");
    if (loader == NULL || symbol("unloadPlugin") == NULL) return 3;
    // the table of this host is shorter than a core's: a copy of the full length
    static struct { struct fd_core table; void *rest[8]; } whole;
    whole.table = core;
    int rc = loader(&info, &whole.table, &plugin, &functions);
    begin(&loading, "load");
    number_field("rc", rc);
    if (rc == 0) {
        number_field("infoSize", plugin->size);
        number_field("version", plugin->version);
        text_field("magic", plugin->magic);
        text_field("license", plugin->license);
        number_field("functionsSize", functions->size);
        number_field("seen", (int)functions->check_file(&loading.context, "/@hyperv/SQL01/config/vm.json"));
        number_field("seenBare", (int)functions->check_file(&loading.context, "@hyperv/SQL01"));
        number_field("other", (int)functions->check_file(&loading.context, "/@hypervisor/x"));
    }
    finish();
    return rc;
}

static const char *next(int *at, int count, char **words) {
    if (*at + 1 >= count) exit(2);
    return words[++*at];
}

static void parse(int count, char **words) {
    if (count < 4) exit(2);
    given = (struct arguments){.plugin = words[1], .version = (uint32_t)atoi(words[2]), .kind = words[3], .jobs = 1, .level = 'F', .cancel_at = -1, .stop_at = -1, .replace = 'a', .previous = "", .parameter = "vm"};
    for (int i = 4; i < count; i++) {
        const char *word = words[i];
        if (strcmp(word, "--level") == 0) given.level = next(&i, count, words)[0];
        else if (strcmp(word, "--since") == 0) given.since = atoll(next(&i, count, words));
        else if (strcmp(word, "--accurate") == 0) given.accurate = 1;
        else if (strcmp(word, "--idle") == 0) given.idle = 1;
        else if (strcmp(word, "--where") == 0) given.where = next(&i, count, words);
        else if (strcmp(word, "--previous") == 0) given.previous = next(&i, count, words);
        else if (strcmp(word, "--replace") == 0) given.replace = next(&i, count, words)[0];
        else if (strcmp(word, "--status") == 0) given.status = next(&i, count, words)[0];
        else if (strcmp(word, "--file") == 0) given.files[given.file_count++] = next(&i, count, words);
        else if (strcmp(word, "--object") == 0) given.objects[given.object_count++] = next(&i, count, words);
        else if (strcmp(word, "--acl") == 0) given.acl = next(&i, count, words);
        else if (strcmp(word, "--cancel-at") == 0) given.cancel_at = atoll(next(&i, count, words));
        else if (strcmp(word, "--stop-at") == 0) given.stop_at = atoll(next(&i, count, words));
        else if (strcmp(word, "--jobs") == 0) given.jobs = atoi(next(&i, count, words));
        else if (strcmp(word, "--wrong") == 0) given.wrong = next(&i, count, words);
        else if (strcmp(word, "--answers") == 0) {
            static char answers[65536];
            snprintf(answers, sizeof answers, "RestoreOptions:%s", next(&i, count, words));
            given.answers = answers;
        } else if (strcmp(word, "--parameter") == 0) given.parameter = next(&i, count, words);
        else given.commands[given.command_count++] = word;
    }
}

int main(int count, char **words) {
    static struct core_job jobs[LIST_MAX];
    pthread_t threads[LIST_MAX];
    parse(count, words);
    int rc = load();
    if (rc != 0 || strcmp(given.kind, "load") == 0) return rc;
    for (int i = 0; i < given.jobs; i++) {
        jobs[i].number = i;
        pthread_create(&threads[i], NULL, run_job, &jobs[i]);
    }
    for (int i = 0; i < given.jobs; i++) pthread_join(threads[i], NULL);
    unload_function *unload = (unload_function *)(uintptr_t)symbol("unloadPlugin");
    return unload();
}
