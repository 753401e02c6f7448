// SPDX-License-Identifier: AGPL-3.0-only
// The life of a backend: found by its command, started, greeted, told about the job, ended.

#ifndef HVDR_SESSION_H
#define HVDR_SESSION_H

#include "job.h"

/** The backend of a command that was opened before, or NULL. */
struct backend *backend_for(struct job *job, const char *command);

/**
 * Starts a process for the backend that will be opened first, when the command is one of ours: it loads while the
 * core still connects to its storage. What is wrong is told when the backend is opened.
 */
void start_early(struct job *job, const char *command);

/**
 * Starts the backend of a command and brings it to its loop. On failure the job is red; the backend
 * stays listed as BROKEN, so that it is not tried for each file again. NULL only without memory.
 */
struct backend *open_backend(struct job *job, const char *command, enum backend_kind kind);

/** END and T where the loop has ended, a cancel where it has not; then the exit, by force when late. */
void close_backends(struct job *job);

/** From the thread that cancels. */
void cancel_job(struct job *job);

#endif
