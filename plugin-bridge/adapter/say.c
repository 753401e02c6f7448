// SPDX-License-Identifier: AGPL-3.0-only
// The job's log and the job's variables.

#include "job.h"
#include "names.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// the core cuts near 2000 bytes
#define SAID_MAX 1900

/** One line without control characters, cut between characters. */
static void make_line(char *text) {
    size_t length = strlen(text);
    if (length >= SAID_MAX) {
        length = SAID_MAX - 1;
        while (length > 0 && ((unsigned char)text[length] & 0xC0) == 0x80) length--;
    }
    while (length > 0 && (unsigned char)text[length - 1] <= ' ') length--;
    text[length] = 0;
    for (char *at = text; *at != 0; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) *at = ' ';
    }
}

void say(struct job *job, enum message_kind kind, const char *format, ...) {
    char text[LINE_MAX_BYTES + 256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    make_line(text);
    fd_core->job_message(job->context, "adapter", 0, fd_layout->message[kind], 0, "%s: %s\n",
                         PLUGIN_NAME, text);
}

int job_number(struct job *job, enum job_variable variable, int otherwise) {
    int number = otherwise;
    if (fd_layout->variable[variable] == 0) return otherwise;
    fd_rc rc = fd_core->get_value(job->context, fd_layout->variable[variable], &number);
    return rc == RC_OK ? number : otherwise;
}

const char *job_text(struct job *job, enum job_variable variable) {
    char *text = NULL;
    if (fd_layout->variable[variable] == 0) return NULL;
    fd_rc rc = fd_core->get_value(job->context, fd_layout->variable[variable], &text);
    return rc == RC_OK ? text : NULL;
}

bool job_is_cancelled(struct job *job) {
    lock_take(job->lock);
    bool is_cancelled = job->is_cancelled;
    lock_give(job->lock);
    return is_cancelled;
}

char *copy_text(const char *text, size_t size) {
    char *copy = malloc(size + 1);
    if (copy == NULL) return NULL;
    memcpy(copy, text, size);
    copy[size] = 0;
    return copy;
}
