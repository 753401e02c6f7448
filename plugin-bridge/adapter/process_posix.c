// SPDX-License-Identifier: AGPL-3.0-only
// A backend as a child process: plain pipes, our ends non-blocking, every wait a poll with a limit.
// Job threads and the thread that cancels meet in `lock`: it guards the descriptor of the input, and a
// pipe of our own wakes whoever waits.

#define _GNU_SOURCE
#include "names.h"
#include "platform.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

struct lock {
    pthread_mutex_t mutex;
};

struct process {
    pid_t pid; // 0: reaped
    int input, output, errors;
    int wake[2];
    pthread_mutex_t lock; // input, is_cancelled
    bool is_cancelled;
    size_t errors_held;
    char errors_buffer[4096];
};

struct lock *lock_new(void) {
    struct lock *lock = calloc(1, sizeof *lock);
    if (lock != NULL) pthread_mutex_init(&lock->mutex, NULL);
    return lock;
}

void lock_take(struct lock *lock) { pthread_mutex_lock(&lock->mutex); }

void lock_give(struct lock *lock) { pthread_mutex_unlock(&lock->mutex); }

void lock_free(struct lock *lock) {
    if (lock == NULL) return;
    pthread_mutex_destroy(&lock->mutex);
    free(lock);
}

int64_t clock_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool is_program(const char *path) {
    struct stat found;
    return stat(path, &found) == 0 && S_ISREG(found.st_mode) && access(path, X_OK) == 0;
}

/** Beside the plugin, else as the environment of the File Daemon says, else where packages put it. */
bool backend_path(char *path, size_t size, char *why, size_t why_size) {
    Dl_info self;
    memset(&self, 0, sizeof self);
    const char *slash = NULL;
    if (dladdr((void *)(uintptr_t)&backend_path, &self) != 0 && self.dli_fname != NULL) {
        slash = strrchr(self.dli_fname, '/');
    }
    if (slash != NULL) {
        int length = snprintf(path, size, "%.*s/%s", (int)(slash - self.dli_fname),
                              self.dli_fname, BACKEND_NAME);
        if (length > 0 && (size_t)length < size && is_program(path)) return true;
    }
    const char *named = getenv("HVDR_BACKEND");
    if (named == NULL || named[0] != '/') named = BACKEND_DEFAULT;
    if (strlen(named) < size && is_program(named)) {
        memcpy(path, named, strlen(named) + 1);
        return true;
    }
    snprintf(why, why_size,
             "no executable file %s beside the plugin, in HVDR_BACKEND or at %s: install the "
             "backend of this release",
             BACKEND_NAME, BACKEND_DEFAULT);
    return false;
}

/** Above the three that a child is given, so that none of them is closed while it is moved there. */
static bool make_pipe(int ends[2]) {
    int made[2];
    ends[0] = ends[1] = -1;
    if (pipe2(made, O_CLOEXEC) != 0) return false;
    ends[0] = fcntl(made[0], F_DUPFD_CLOEXEC, 10);
    ends[1] = fcntl(made[1], F_DUPFD_CLOEXEC, 10);
    close(made[0]);
    close(made[1]);
    return ends[0] >= 0 && ends[1] >= 0;
}

/** So that the backend reads and hashes on while the daemon is at work, and the other way round. A wish only. */
static void widen(const int ends[2]) {
#ifdef F_SETPIPE_SZ
    fcntl(ends[1], F_SETPIPE_SZ, 1024 * 1024);
#else
    (void)ends;
#endif
}

static void close_end(int *end) {
    if (*end >= 0) close(*end);
    *end = -1;
}

static void close_pipe(int ends[2]) {
    close_end(&ends[0]);
    close_end(&ends[1]);
}

static void set_nonblocking(int end) { fcntl(end, F_SETFL, fcntl(end, F_GETFL) | O_NONBLOCK); }

/** In the child: only calls that are safe after a fork of a process with threads. */
static void close_all_from(int first, int limit) {
#ifdef SYS_close_range
    if (syscall(SYS_close_range, first, ~0U, 0) == 0) return;
#endif
    for (int end = first; end < limit; end++) close(end);
}

static void run_child(const char *path, const int ends[3], int status, int limit) {
    char *arguments[] = {(char *)(uintptr_t)path, NULL};
    setpgid(0, 0);
    for (int i = 0; i < 3; i++) dup2(ends[i], i);
    dup2(status, 3);
    fcntl(3, F_SETFD, FD_CLOEXEC);
    close_all_from(4, limit);
    struct sigaction standard;
    memset(&standard, 0, sizeof standard);
    standard.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; number++) sigaction(number, &standard, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(path, arguments, environ);
    int reason = errno;
    ssize_t told = write(3, &reason, sizeof reason);
    _exit(told == (ssize_t)sizeof reason ? 126 : 127);
}

/** 0 when the program runs, else the errno of its exec. */
static int exec_failure(int status) {
    int reason = 0;
    struct pollfd wait = {status, POLLIN, 0};
    int ready;
    do ready = poll(&wait, 1, HANDSHAKE_SECONDS * 1000);
    while (ready < 0 && errno == EINTR);
    if (ready == 0) return ETIMEDOUT;
    return read(status, &reason, sizeof reason) == (ssize_t)sizeof reason ? reason : 0;
}

static int descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > 1048576) return 1048576;
    return (int)limit.rlim_cur;
}

struct pipes {
    int input[2], output[2], errors[2], status[2];
};

static bool make_pipes(struct pipes *pipes, int wake[2]) {
    memset(pipes, -1, sizeof *pipes);
    bool are_made = make_pipe(pipes->input) && make_pipe(pipes->output) &&
                    make_pipe(pipes->errors) && make_pipe(pipes->status) && make_pipe(wake);
    if (!are_made) return false;
    widen(pipes->input);
    widen(pipes->output);
    return true;
}

static void close_pipes(struct pipes *pipes) {
    close_pipe(pipes->input);
    close_pipe(pipes->output);
    close_pipe(pipes->errors);
    close_pipe(pipes->status);
}

static int launch(struct process *process, struct pipes *pipes, const char *path) {
    int ends[3] = {pipes->input[0], pipes->output[1], pipes->errors[1]};
    int limit = descriptor_limit();
    pid_t pid = fork();
    if (pid < 0) return errno;
    if (pid == 0) run_child(path, ends, pipes->status[1], limit);
    setpgid(pid, pid); // whoever is first
    process->pid = pid;
    close_end(&pipes->status[1]);
    int reason = exec_failure(pipes->status[0]);
    if (reason == 0) return 0;
    kill(-pid, SIGKILL);
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
    return reason;
}

static void take_end(int *mine, int *end) {
    *mine = *end;
    *end = -1;
    set_nonblocking(*mine);
}

struct process *process_start(const char *path, char *why, size_t why_size) {
    struct process *process = calloc(1, sizeof *process);
    if (process == NULL) {
        snprintf(why, why_size, "no memory is left");
        return NULL;
    }
    process->input = process->output = process->errors = -1;
    process->wake[0] = process->wake[1] = -1;
    pthread_mutex_init(&process->lock, NULL);
    struct pipes pipes;
    int reason = make_pipes(&pipes, process->wake) ? launch(process, &pipes, path) : errno;
    if (reason == 0) {
        take_end(&process->input, &pipes.input[1]);
        take_end(&process->output, &pipes.output[0]);
        take_end(&process->errors, &pipes.errors[0]);
        set_nonblocking(process->wake[1]);
    }
    close_pipes(&pipes);
    if (reason == 0) return process;
    snprintf(why, why_size, "%s cannot be started: %s", path, strerror(reason));
    process->pid = 0;
    process_free(process);
    return NULL;
}

static void drain_errors(struct process *process) {
    for (;;) {
        char rest[512];
        size_t room = sizeof process->errors_buffer - process->errors_held;
        char *to = room > 0 ? process->errors_buffer + process->errors_held : rest;
        ssize_t got = read(process->errors, to, room > 0 ? room : sizeof rest);
        if (got == 0) close_end(&process->errors);
        if (got <= 0) return;
        if (room > 0) process->errors_held += (size_t)got;
    }
}

/** Waits until `end` can be used; what the backend says on stderr meanwhile is taken away. */
static enum pipe_result wait_for(struct process *process, int end, short events, int64_t deadline) {
    for (;;) {
        int64_t left = deadline - clock_ms();
        if (left <= 0) return PIPE_TIMEOUT;
        struct pollfd waits[3] = {
            {end, events, 0}, {process->wake[0], POLLIN, 0}, {process->errors, POLLIN, 0}};
        int ready = poll(waits, 3, left > 3600000 ? 3600000 : (int)left);
        if (ready < 0 && errno != EINTR) return PIPE_FAILED;
        if (ready <= 0) continue;
        if (waits[1].revents != 0) return PIPE_CANCELLED;
        if (waits[2].revents != 0) drain_errors(process);
        if (waits[0].revents != 0) return PIPE_OK;
    }
}

static bool was_cancelled(struct process *process) {
    pthread_mutex_lock(&process->lock);
    bool is_cancelled = process->is_cancelled;
    pthread_mutex_unlock(&process->lock);
    return is_cancelled;
}

enum pipe_result process_read(struct process *process, void *buffer, size_t size, size_t *got,
                              int64_t deadline) {
    for (;;) {
        if (was_cancelled(process)) return PIPE_CANCELLED;
        // mostly there is something: a look whether there is costs as much as taking it
        ssize_t count = read(process->output, buffer, size);
        if (count > 0) {
            *got = (size_t)count;
            return PIPE_OK;
        }
        if (count == 0) return PIPE_ENDED;
        if (errno != EAGAIN && errno != EINTR) return PIPE_FAILED;
        enum pipe_result ready = wait_for(process, process->output, POLLIN, deadline);
        if (ready != PIPE_OK) return ready;
    }
}

/** Writes without the SIGPIPE that would end a daemon which does not ignore it. */
static ssize_t write_quietly(int end, const void *buffer, size_t size) {
    sigset_t pipe_signal, before, pending;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    ssize_t count = write(end, buffer, size);
    int reason = errno;
    if (count < 0 && reason == EPIPE && sigismember(&pending, SIGPIPE) == 0) {
        struct timespec now = {0, 0};
        sigtimedwait(&pipe_signal, NULL, &now);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = reason;
    return count;
}

enum pipe_result process_write(struct process *process, const void *buffer, size_t size,
                               int64_t deadline) {
    const char *from = buffer;
    while (size > 0) {
        // a descriptor that was closed meanwhile (and is another's by now) is looked at, never used
        pthread_mutex_lock(&process->lock);
        int end = process->input;
        ssize_t count = end >= 0 ? write_quietly(end, from, size) : -1;
        int reason = end >= 0 ? errno : EPIPE;
        bool is_cancelled = process->is_cancelled;
        pthread_mutex_unlock(&process->lock);
        if (is_cancelled) return PIPE_CANCELLED;
        if (count > 0) {
            from += count;
            size -= (size_t)count;
            continue;
        }
        if (count < 0 && reason == EPIPE) return PIPE_ENDED;
        if (count < 0 && reason != EAGAIN && reason != EINTR) return PIPE_FAILED;
        enum pipe_result ready = wait_for(process, end, POLLOUT, deadline);
        if (ready != PIPE_OK) return ready;
    }
    return PIPE_OK;
}

size_t process_take_stderr(struct process *process, char *buffer, size_t size) {
    if (process->errors >= 0) drain_errors(process);
    size_t count = process->errors_held < size ? process->errors_held : size;
    memcpy(buffer, process->errors_buffer, count);
    process->errors_held -= count;
    memmove(process->errors_buffer, process->errors_buffer + count, process->errors_held);
    return count;
}

void process_close_input(struct process *process) {
    pthread_mutex_lock(&process->lock);
    close_end(&process->input);
    pthread_mutex_unlock(&process->lock);
}

void process_cancel(struct process *process) {
    pthread_mutex_lock(&process->lock);
    bool is_first = !process->is_cancelled;
    process->is_cancelled = true;
    close_end(&process->input);
    pthread_mutex_unlock(&process->lock);
    if (!is_first) return;
    if (process->pid > 0) kill(process->pid, SIGUSR1);
    ssize_t told = write(process->wake[1], "", 1);
    (void)told; // a full pipe wakes as well
}

/** Looks without reaping: as long as the child is there, no other group can have its number. */
bool process_has_exited(struct process *process) {
    siginfo_t found;
    memset(&found, 0, sizeof found);
    int looked = waitid(P_PID, (id_t)process->pid, &found, WEXITED | WNOHANG | WNOWAIT);
    return looked == 0 ? found.si_pid != 0 : errno != EINTR;
}

static void reap(struct process *process, struct process_exit *exit) {
    int status = 0;
    pid_t found;
    kill(-process->pid, SIGKILL); // whatever it has started goes with it
    do found = waitpid(process->pid, &status, 0);
    while (found < 0 && errno == EINTR);
    if (found > 0) {
        exit->code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
        exit->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    }
    process->pid = 0;
}

static void swallow(int *end) {
    char rest[4096];
    ssize_t got;
    do got = *end >= 0 ? read(*end, rest, sizeof rest) : -1;
    while (got > 0);
    if (got == 0) close_end(end);
}

void process_wait(struct process *process, int64_t deadline, struct process_exit *exit) {
    memset(exit, 0, sizeof *exit);
    process_close_input(process);
    while (!process_has_exited(process)) {
        if (clock_ms() >= deadline && !exit->was_killed) {
            exit->was_killed = true;
            kill(-process->pid, SIGKILL);
            kill(process->pid, SIGKILL);
        }
        // a backend that still talks must not hang in a full pipe
        swallow(&process->output);
        if (process->errors >= 0) drain_errors(process);
        struct pollfd waits[2] = {{process->output, POLLIN, 0}, {process->errors, POLLIN, 0}};
        poll(waits, 2, 20);
    }
    reap(process, exit);
}

void process_free(struct process *process) {
    if (process == NULL) return;
    close_end(&process->input);
    close_end(&process->output);
    close_end(&process->errors);
    close_pipe(process->wake);
    pthread_mutex_destroy(&process->lock);
    free(process);
}
