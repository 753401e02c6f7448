// SPDX-License-Identifier: AGPL-3.0-only

#include "ptcomm.h"
#include "names.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_BYTES 8
/** Half of the pipe: the backend takes one while the next is gathered. */
#define GATHERED_MAX (512 * 1024)
#define STDERR_LINES_MAX 50
#define MESSAGE_BYTES 2000

static int64_t deadline_in(int seconds) { return clock_ms() + (int64_t)seconds * 1000; }

void break_off(struct backend *backend, const char *format, ...) {
    if (backend->state == STATE_BROKEN) return;
    backend->state = STATE_BROKEN;
    if (backend->process != NULL) {
        report_stderr(backend);
        process_cancel(backend->process);
    }
    if (job_is_cancelled(backend->job)) return; // the core tells that
    char text[LINE_MAX_BYTES + 128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    say(backend->job, SAY_FATAL, "%s", text);
}

void tell_error(struct backend *backend, const char *format, ...) {
    char text[LINE_MAX_BYTES + 256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    bool is_counted = backend->kind == KIND_RESTORE && backend->state != STATE_ENDED;
    if (is_counted) backend->restore_errors++;
    say(backend->job, is_counted ? SAY_WARNING : SAY_ERROR, "%s", text);
}

void file_error(struct backend *backend, const char *what) {
    if (backend->aborts_on_error) break_off(backend, "%s: %s", what, backend->line);
    else tell_error(backend, "%s: %s", what, backend->line);
}

void report_stderr(struct backend *backend) {
    char text[1024];
    size_t got;
    while ((got = process_take_stderr(backend->process, text, sizeof text - 1)) > 0) {
        text[got] = 0;
        for (char *line = text, *next; *line != 0; line = next) {
            size_t length = strcspn(line, "\r\n");
            next = line + length + (line[length] == 0 ? 0 : 1);
            line[length] = 0;
            if (length == 0 || backend->stderr_lines > STDERR_LINES_MAX) continue;
            bool is_last = backend->stderr_lines++ == STDERR_LINES_MAX;
            tell_error(backend, "backend: %s", is_last ? "says more on stderr" : line);
        }
    }
}

static void break_by(struct backend *backend, enum pipe_result result, const char *doing,
                     int seconds) {
    switch (result) {
    case PIPE_TIMEOUT:
        return break_off(backend, "the backend was silent for %d s while the plugin %s", seconds, doing);
    case PIPE_ENDED:
        return break_off(backend, "the backend ended while the plugin %s", doing);
    case PIPE_CANCELLED:
        return break_off(backend, "the job was cancelled");
    default:
        return break_off(backend, "the pipe to the backend failed while the plugin %s", doing);
    }
}

static bool read_exactly(struct backend *backend, char *buffer, size_t size, int seconds) {
    int64_t deadline = deadline_in(seconds);
    while (size > 0) {
        size_t got = 0;
        enum pipe_result result = process_read(backend->process, buffer, size, &got, deadline);
        if (result != PIPE_OK) {
            break_by(backend, result, "waited for it", seconds);
            return false;
        }
        buffer += got;
        size -= got;
    }
    return true;
}

static void put_header(char *header, char letter, size_t size) {
    char text[HEADER_BYTES + 1];
    snprintf(text, sizeof text, "%c%06u\n", letter, (unsigned)size);
    memcpy(header, text, HEADER_BYTES);
}

static bool write_all(struct backend *backend, const char *bytes, size_t size, int64_t deadline) {
    if (backend->state == STATE_BROKEN || backend->process == NULL) return false;
    enum pipe_result result = process_write(backend->process, bytes, size, deadline);
    if (result == PIPE_OK) return true;
    break_by(backend, result, "wrote to it", SILENCE_SECONDS);
    return false;
}

static bool write_packet(struct backend *backend, char letter, const char *bytes, size_t size) {
    char header[HEADER_BYTES];
    put_header(header, letter, size);
    int64_t deadline = deadline_in(SILENCE_SECONDS);
    return write_all(backend, header, HEADER_BYTES, deadline) &&
           (size == 0 || write_all(backend, bytes, size, deadline));
}

bool send_line(struct backend *backend, const char *format, ...) {
    char text[2 * LINE_MAX_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text - 1, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof text - 1) {
        break_off(backend, "a line for the backend is too long");
        return false;
    }
    if (strchr(text, '\n') != NULL) {
        break_off(backend, "a line for the backend holds a newline: %s", text);
        return false;
    }
    text[length] = '\n';
    return write_packet(backend, 'C', text, (size_t)length + 1);
}

bool send_data(struct backend *backend, const char *bytes, size_t size) {
    while (size > 0) {
        size_t part = size < PAYLOAD_MAX ? size : PAYLOAD_MAX;
        if (!write_packet(backend, 'D', bytes, part)) return false;
        bytes += part;
        size -= part;
    }
    return true;
}

bool gather_data(struct backend *backend, const char *bytes, size_t size) {
    if (backend->gathered == NULL) backend->gathered = malloc(HEADER_BYTES + GATHERED_MAX);
    if (backend->gathered == NULL) return send_data(backend, bytes, size);
    while (size > 0) {
        size_t room = GATHERED_MAX - backend->gathered_size;
        size_t part = size < room ? size : room;
        memcpy(backend->gathered + HEADER_BYTES + backend->gathered_size, bytes, part);
        backend->gathered_size += part;
        bytes += part;
        size -= part;
        if (backend->gathered_size == GATHERED_MAX && !send_gathered(backend)) return false;
    }
    return true;
}

bool send_gathered(struct backend *backend) {
    size_t size = backend->gathered_size;
    if (size == 0) return true;
    backend->gathered_size = 0;
    put_header(backend->gathered, 'D', size);
    return write_all(backend, backend->gathered, HEADER_BYTES + size, deadline_in(SILENCE_SECONDS));
}

bool send_letter(struct backend *backend, char letter) {
    return write_packet(backend, letter, NULL, 0);
}

/** The length of a header, or -1. */
static int32_t payload_length(const char *header) {
    int32_t length = 0;
    for (int i = 1; i <= 6; i++) {
        if (header[i] < '0' || header[i] > '9') return -1;
        length = length * 10 + (header[i] - '0');
    }
    return header[7] == '\n' ? length : -1;
}

/** Reads the payload into backend.line, up to a zero in it; what exceeds `limit` is read and dropped. */
static bool read_text(struct backend *backend, uint32_t length, uint32_t limit, int seconds) {
    uint32_t kept = length < limit ? length : limit;
    if (!read_exactly(backend, backend->line, kept, seconds)) return false;
    for (uint32_t left = length - kept; left > 0;) {
        char rest[4096];
        uint32_t part = left < sizeof rest ? left : (uint32_t)sizeof rest;
        if (!read_exactly(backend, rest, part, seconds)) return false;
        left -= part;
    }
    while (kept > 0 && (unsigned char)backend->line[kept - 1] <= ' ') kept--;
    backend->line[kept] = 0;
    return true;
}

/** The kind of a message that only goes into the log. */
static enum message_kind log_kind(char letter) {
    switch (letter) {
    case 'W': return SAY_WARNING;
    case 'I': return SAY_INFO;
    case 'S': return SAY_SAVED;
    case 'N': return SAY_NOT_SAVED;
    case 'R': return SAY_RESTORED;
    case 'P': return SAY_SKIPPED;
    case 'O': return SAY_MOUNT;
    default: return SAY_EVENT;
    }
}

static enum received receive_line(struct backend *backend, uint32_t length, int seconds) {
    if (length == 0) {
        break_off(backend, "the backend broke the protocol: an empty command");
        return GOT_BROKEN;
    }
    if (length > LINE_MAX_BYTES) {
        break_off(backend, "the backend broke the protocol: a command of %u bytes", length);
        return GOT_BROKEN;
    }
    if (!read_text(backend, length, LINE_MAX_BYTES, seconds)) return GOT_BROKEN;
    for (const char *at = backend->line; *at != 0; at++) {
        if ((unsigned char)*at >= ' ' && *at != 0x7f) continue;
        break_off(backend, "the backend broke the protocol: a control character in a command");
        return GOT_BROKEN;
    }
    // at most a newline was stripped: else a zero cut it, or blanks ended it, which no name may have
    if (strlen(backend->line) + 1 >= length) return GOT_LINE;
    break_off(backend, "the backend broke the protocol: a command that cannot be a text");
    return GOT_BROKEN;
}

/** One packet that is not only for the log; GOT_BROKEN with a state that is not BROKEN: a message. */
static enum received receive_packet(struct backend *backend, int seconds) {
    char header[HEADER_BYTES];
    if (!read_exactly(backend, header, sizeof header, seconds)) return GOT_BROKEN;
    int32_t length = payload_length(header);
    char letter = header[0];
    bool is_known = letter != 0 && strchr("CDFEAQWISNRPOV", letter) != NULL;
    if (length < 0 || !is_known || (letter == 'F' && length != 0)) {
        break_off(backend, "the backend broke the protocol: no packet begins with %02x %02x %02x %02x",
                  header[0] & 255, header[1] & 255, header[2] & 255, header[3] & 255);
        return GOT_BROKEN;
    }
    switch (letter) {
    case 'F': return GOT_END;
    case 'C': return receive_line(backend, (uint32_t)length, seconds);
    case 'D':
        backend->data_left = (uint32_t)length;
        if (length > 0) return GOT_DATA;
        break_off(backend, "the backend broke the protocol: an empty data packet");
        return GOT_BROKEN;
    default: break;
    }
    if (!read_text(backend, (uint32_t)length, MESSAGE_BYTES, seconds)) return GOT_BROKEN;
    if (letter == 'E') return GOT_ERROR;
    if (letter == 'A') break_off(backend, "%s", backend->line);
    else if (backend->line[0] == 0) return GOT_BROKEN;
    else if (letter == 'Q') tell_error(backend, "%s", backend->line);
    else say(backend->job, log_kind(letter), "%s", backend->line);
    return GOT_BROKEN;
}

enum received receive(struct backend *backend, int seconds) {
    if (backend->is_pushed_back) {
        backend->is_pushed_back = false;
        return backend->last;
    }
    backend->last = GOT_BROKEN;
    while (backend->last == GOT_BROKEN && backend->state != STATE_BROKEN) {
        backend->last = receive_packet(backend, seconds);
        if (backend->process != NULL) report_stderr(backend);
    }
    return backend->last;
}

void push_back(struct backend *backend) { backend->is_pushed_back = true; }

size_t receive_bytes(struct backend *backend, char *buffer, size_t size) {
    size_t part = size < backend->data_left ? size : backend->data_left;
    if (part == 0 || backend->state == STATE_BROKEN) return 0;
    if (!read_exactly(backend, buffer, part, SILENCE_SECONDS)) return 0;
    backend->data_left -= (uint32_t)part;
    return part;
}

bool drop_data(struct backend *backend) {
    char rest[16384];
    while (backend->data_left > 0) {
        if (receive_bytes(backend, rest, sizeof rest) == 0) return false;
    }
    return true;
}

char *receive_block(struct backend *backend, size_t limit, uint32_t *length) {
    char *block = NULL;
    size_t size = 0;
    for (;;) {
        enum received got = receive(backend, SILENCE_SECONDS);
        if (got == GOT_END && block == NULL) block = calloc(1, 1);
        if (got == GOT_END && block != NULL) {
            *length = (uint32_t)size;
            return block;
        }
        if (got != GOT_DATA) {
            if (got == GOT_ERROR) break_off(backend, "%s", backend->line);
            else break_off(backend, "the backend broke the protocol: no data where some were due");
            break;
        }
        size_t part = backend->data_left;
        char *larger = size + part <= limit ? realloc(block, size + part) : NULL;
        if (larger == NULL) {
            break_off(backend, "the backend sends more than %u bytes at once", (unsigned)limit);
            break;
        }
        block = larger;
        for (size_t end = size + part; size < end;) {
            size_t taken = receive_bytes(backend, block + size, end - size);
            if (taken == 0) break;
            size += taken;
        }
        if (backend->state == STATE_BROKEN) break;
    }
    free(block);
    return NULL;
}
