// SPDX-License-Identifier: AGPL-3.0-only
// The seam to the operating system: a backend as a process with three pipes, a clock and a lock.
// process_posix.c and process_windows.c implement it; nothing else knows which of them it has.

#ifndef HVDR_PLATFORM_H
#define HVDR_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pipe_result { PIPE_OK, PIPE_ENDED, PIPE_TIMEOUT, PIPE_CANCELLED, PIPE_FAILED };

struct process;

struct process_exit {
    bool was_killed; // by us, when its time was over
    int signal;      // 0, or what ended it
    int code;
};

/** Path of the backend to start. False: `why` says what was looked for. */
bool backend_path(char *path, size_t size, char *why, size_t why_size);

/** Starts the backend in a process group (a job object) of its own. NULL: `why` says the reason. */
struct process *process_start(const char *path, char *why, size_t why_size);

/** Milliseconds of a clock that only goes forward. */
int64_t clock_ms(void);

/** Reads at least one byte until `deadline` (of clock_ms). */
enum pipe_result process_read(struct process *process, void *buffer, size_t size, size_t *got,
                              int64_t deadline);

/** Writes all of it until `deadline`. */
enum pipe_result process_write(struct process *process, const void *buffer, size_t size,
                               int64_t deadline);

/** Takes what the backend said on stderr since the last call; at most `size` bytes. */
size_t process_take_stderr(struct process *process, char *buffer, size_t size);

/** The backend sees the end of its input. From any thread. */
void process_close_input(struct process *process);

/** Input closed, SIGUSR1 where there is one; a waiting read or write ends at once. From any thread. */
void process_cancel(struct process *process);

/** It has ended, by whatever; what it said can still be read. */
bool process_has_exited(struct process *process);

/** Waits for the exit until `deadline`, then kills all of the group. Pipes stay readable for stderr. */
void process_wait(struct process *process, int64_t deadline, struct process_exit *exit);

/** After process_wait. */
void process_free(struct process *process);

struct lock;
struct lock *lock_new(void);
void lock_take(struct lock *lock);
void lock_give(struct lock *lock);
void lock_free(struct lock *lock);

#endif
