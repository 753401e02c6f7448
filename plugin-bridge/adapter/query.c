// SPDX-License-Identifier: AGPL-3.0-only
// A question from the console: the backend answers in lines `key=value,…` or in data, passed as they are.

#include "query.h"
#include "command.h"
#include "names.h"
#include "ptcomm.h"
#include "session.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX PAYLOAD_MAX

/** The console names what it asks for beside the command; the backend gets it as a parameter. */
static struct backend *open_query(struct job *job, const struct query_packet *packet) {
    size_t size = strlen(packet->command) + 2 * strlen(packet->parameter) + 16;
    char *command = malloc(size);
    if (command == NULL) return NULL;
    char *to = command + sprintf(command, "%s%s query=\"", packet->command,
                                 strchr(packet->command, ':') == NULL ? ":" : "");
    for (const char *from = packet->parameter; *from != 0; from++) {
        if (*from == '"' || *from == '\\') *to++ = '\\';
        *to++ = *from;
    }
    memcpy(to, "\"", 2);
    struct backend *backend = open_backend(job, command, KIND_QUERY);
    free(command);
    return backend;
}

static char *take_data(struct backend *backend) {
    uint32_t size = backend->data_left;
    char *text = size <= ANSWER_MAX ? calloc(1, (size_t)size + 1) : NULL;
    for (size_t at = 0; text != NULL && at < size;) {
        size_t got = receive_bytes(backend, text + at, size - at);
        if (got == 0) break;
        at += got;
    }
    return text;
}

static char *take_line(struct backend *backend) {
    size_t length = strlen(backend->line);
    char *text = copy_text(backend->line, length + 1);
    if (text != NULL) memcpy(text + length, "\n", 2);
    return text;
}

fd_rc query_step(struct job *job, struct query_packet *packet) {
    if (!PACKET_FITS(packet) || packet->command == NULL || packet->parameter == NULL) return RC_ERROR;
    packet->result = NULL;
    if (job->current == NULL) job->current = open_query(job, packet);
    struct backend *backend = job->current;
    if (backend == NULL || backend->state != STATE_LOOP) return RC_ERROR;
    free(backend->answer);
    backend->answer = NULL;
    enum received got = receive(backend, SILENCE_SECONDS);
    if (got == GOT_END) {
        backend->state = STATE_ENDED;
        return RC_OK;
    }
    if (got == GOT_LINE) backend->answer = take_line(backend);
    if (got == GOT_DATA) backend->answer = take_data(backend);
    if (got == GOT_ERROR) break_off(backend, "%s", backend->line);
    packet->result = backend->answer;
    return backend->answer != NULL && backend->state == STATE_LOOP ? RC_MORE : RC_ERROR;
}
