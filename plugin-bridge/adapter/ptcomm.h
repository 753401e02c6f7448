// SPDX-License-Identifier: AGPL-3.0-only
// Packets to and from a backend: a letter, six digits of length, a newline, the payload.

#ifndef HVDR_PTCOMM_H
#define HVDR_PTCOMM_H

#include "job.h"

#define PAYLOAD_MAX 999999

/** Whatever fails here makes the job red, says why and leaves the backend BROKEN. */
bool send_line(struct backend *backend, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
bool send_data(struct backend *backend, const char *bytes, size_t size);
/** The same for pieces of one stream: the core's are small, and a packet of each would cost more than its bytes. */
bool gather_data(struct backend *backend, const char *bytes, size_t size);
/** What is gathered goes out; before anything else is sent. */
bool send_gathered(struct backend *backend);
/** The letters without payload: F and T. */
bool send_letter(struct backend *backend, char letter);

/** Waits for the next packet; messages of the backend are passed to the job's log on the way. */
enum received receive(struct backend *backend, int seconds);
/** The next receive answers with the same packet again (one of GOT_LINE, GOT_END). */
void push_back(struct backend *backend);
/** Up to `size` bytes of the D packet that has come; 0: broken. */
size_t receive_bytes(struct backend *backend, char *buffer, size_t size);
/** Passes over what is left of the D packet. */
bool drop_data(struct backend *backend);
/** All D packets up to F in memory of their own; more than `limit` is refused. NULL: broken or E. */
char *receive_block(struct backend *backend, size_t limit, uint32_t *length);

/** Makes the job red and ends the conversation. */
void break_off(struct backend *backend, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/**
 * An error after which the work goes on. In a restore it is told as a warning, and the job is red at its
 * end: an error before would look, there, like a stream that broke off, and nothing would be committed.
 */
void tell_error(struct backend *backend, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/** An E where work on the rest goes on: an error of the job, or its end with abort_on_error. */
void file_error(struct backend *backend, const char *what);
/** Passes on what the backend said on stderr. */
void report_stderr(struct backend *backend);

#endif
