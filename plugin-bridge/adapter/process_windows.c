// SPDX-License-Identifier: AGPL-3.0-only
// A backend on Windows: three named pipes of this process alone, our ends overlapped, so that every wait
// has a limit; the child gets exactly its three handles and lives in a job object. There is no SIGUSR1:
// the end of its input is the cancel.

#include "names.h"
#include "platform.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

#define PIPE_BUFFER 65536
#define PATH_CHARS 2048

struct lock {
    CRITICAL_SECTION section;
};

struct process {
    HANDLE process, group;
    HANDLE input, output, errors;
    HANDLE cancel; // an event that stays
    CRITICAL_SECTION lock; // input, is_cancelled, is_writing
    bool is_cancelled, is_writing;
    OVERLAPPED errors_wait;
    bool errors_pending;
    char errors_part[1024];
    size_t errors_held;
    char errors_buffer[4096];
};

struct lock *lock_new(void) {
    struct lock *lock = calloc(1, sizeof *lock);
    if (lock != NULL) InitializeCriticalSection(&lock->section);
    return lock;
}

void lock_take(struct lock *lock) { EnterCriticalSection(&lock->section); }

void lock_give(struct lock *lock) { LeaveCriticalSection(&lock->section); }

void lock_free(struct lock *lock) {
    if (lock == NULL) return;
    DeleteCriticalSection(&lock->section);
    free(lock);
}

int64_t clock_ms(void) { return (int64_t)GetTickCount64(); }

static void close_handle(HANDLE *handle) {
    if (*handle != NULL && *handle != INVALID_HANDLE_VALUE) CloseHandle(*handle);
    *handle = NULL;
}

/** Beside the plugin and nowhere else: another place could be writable for others. */
bool backend_path(char *path, size_t size, char *why, size_t why_size) {
    HMODULE self = NULL;
    wchar_t wide[PATH_CHARS];
    DWORD flags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
    GetModuleHandleExW(flags, (LPCWSTR)(uintptr_t)&backend_path, &self);
    DWORD length = self == NULL ? 0 : GetModuleFileNameW(self, wide, PATH_CHARS);
    while (length > 0 && length < PATH_CHARS && wide[length - 1] != L'\\') length--;
    int bytes = length == 0 || length >= PATH_CHARS
                    ? 0
                    : WideCharToMultiByte(CP_UTF8, 0, wide, (int)length, path, (int)size - 1, NULL, NULL);
    if (bytes > 0 && (size_t)bytes + sizeof BACKEND_NAME <= size) {
        memcpy(path + bytes, BACKEND_NAME, sizeof BACKEND_NAME);
        MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, PATH_CHARS);
        DWORD found = GetFileAttributesW(wide);
        if (found != INVALID_FILE_ATTRIBUTES && (found & FILE_ATTRIBUTE_DIRECTORY) == 0) return true;
    }
    snprintf(why, why_size, "no file %s beside the plugin: install the backend of this release",
             BACKEND_NAME);
    return false;
}

/** Ours is overlapped, the child's is a plain handle that it may inherit. */
static bool make_pipe(HANDLE *ours, HANDLE *of_child, bool is_input) {
    static LONG counter;
    wchar_t name[128];
    LARGE_INTEGER ticks;
    QueryPerformanceCounter(&ticks);
    swprintf(name, 128, L"\\\\.\\pipe\\" L"podheitor-%lu-%ld-%lld", GetCurrentProcessId(),
             InterlockedIncrement(&counter), (long long)ticks.QuadPart);
    DWORD direction = is_input ? PIPE_ACCESS_OUTBOUND : PIPE_ACCESS_INBOUND;
    // whoever was quicker with this name makes one of the two calls fail
    *ours = CreateNamedPipeW(name, direction | FILE_FLAG_OVERLAPPED | FILE_FLAG_FIRST_PIPE_INSTANCE,
                             PIPE_TYPE_BYTE | PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS, 1, PIPE_BUFFER,
                             PIPE_BUFFER, 0, NULL);
    if (*ours == INVALID_HANDLE_VALUE) return false;
    SECURITY_ATTRIBUTES inherited = {sizeof inherited, NULL, TRUE};
    DWORD access = is_input ? GENERIC_READ : GENERIC_WRITE | FILE_READ_ATTRIBUTES;
    *of_child = CreateFileW(name, access, 0, &inherited, OPEN_EXISTING, 0, NULL);
    return *of_child != INVALID_HANDLE_VALUE;
}

/** The child inherits these three and nothing else of the daemon. */
static LPPROC_THREAD_ATTRIBUTE_LIST only_these(HANDLE *handles) {
    SIZE_T size = 0;
    InitializeProcThreadAttributeList(NULL, 1, 0, &size);
    LPPROC_THREAD_ATTRIBUTE_LIST list = calloc(1, size);
    if (list == NULL) return NULL;
    if (InitializeProcThreadAttributeList(list, 1, 0, &size) &&
        UpdateProcThreadAttribute(list, 0, PROC_THREAD_ATTRIBUTE_HANDLE_LIST, handles,
                                  3 * sizeof *handles, NULL, NULL)) {
        return list;
    }
    free(list);
    return NULL;
}

static HANDLE new_group(void) {
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits;
    memset(&limits, 0, sizeof limits);
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    HANDLE group = CreateJobObjectW(NULL, NULL);
    if (group != NULL) {
        SetInformationJobObject(group, JobObjectExtendedLimitInformation, &limits, sizeof limits);
    }
    return group;
}

static bool launch(struct process *process, const char *path, HANDLE *ends) {
    wchar_t program[PATH_CHARS], quoted[PATH_CHARS + 2];
    if (MultiByteToWideChar(CP_UTF8, 0, path, -1, program, PATH_CHARS) == 0) return false;
    swprintf(quoted, PATH_CHARS + 2, L"\"%ls\"", program);
    STARTUPINFOEXW start;
    PROCESS_INFORMATION made;
    memset(&start, 0, sizeof start);
    start.StartupInfo.cb = sizeof start;
    start.StartupInfo.dwFlags = STARTF_USESTDHANDLES;
    start.StartupInfo.hStdInput = ends[0];
    start.StartupInfo.hStdOutput = ends[1];
    start.StartupInfo.hStdError = ends[2];
    start.lpAttributeList = only_these(ends);
    if (start.lpAttributeList == NULL) return false;
    DWORD flags = CREATE_SUSPENDED | CREATE_NO_WINDOW | EXTENDED_STARTUPINFO_PRESENT;
    BOOL is_made = CreateProcessW(program, quoted, NULL, NULL, TRUE, flags, NULL, NULL,
                                  &start.StartupInfo, &made);
    DeleteProcThreadAttributeList(start.lpAttributeList);
    free(start.lpAttributeList);
    if (!is_made) return false;
    process->process = made.hProcess;
    process->group = new_group();
    if (process->group != NULL) AssignProcessToJobObject(process->group, made.hProcess);
    ResumeThread(made.hThread);
    CloseHandle(made.hThread);
    return true;
}

/** Keeps one read of stderr under way. */
static void listen_to_errors(struct process *process) {
    if (process->errors_pending || process->errors == NULL) return;
    ResetEvent(process->errors_wait.hEvent);
    BOOL is_done = ReadFile(process->errors, process->errors_part, sizeof process->errors_part, NULL,
                            &process->errors_wait);
    process->errors_pending = is_done || GetLastError() == ERROR_IO_PENDING;
    if (!process->errors_pending) close_handle(&process->errors);
}

struct process *process_start(const char *path, char *why, size_t why_size) {
    struct process *process = calloc(1, sizeof *process);
    if (process == NULL) {
        snprintf(why, why_size, "no memory is left");
        return NULL;
    }
    InitializeCriticalSection(&process->lock);
    process->cancel = CreateEventW(NULL, TRUE, FALSE, NULL);
    process->errors_wait.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL);
    HANDLE ends[3] = {NULL, NULL, NULL};
    bool is_started = process->cancel != NULL && process->errors_wait.hEvent != NULL &&
                      make_pipe(&process->input, &ends[0], true) &&
                      make_pipe(&process->output, &ends[1], false) &&
                      make_pipe(&process->errors, &ends[2], false) && launch(process, path, ends);
    DWORD reason = GetLastError();
    for (int i = 0; i < 3; i++) close_handle(&ends[i]);
    if (is_started) {
        listen_to_errors(process);
        return process;
    }
    snprintf(why, why_size, "%s cannot be started: error %lu", path, reason);
    process_free(process);
    return NULL;
}

static void take_errors(struct process *process) {
    while (process->errors_pending) {
        DWORD got = 0;
        if (!GetOverlappedResult(process->errors, &process->errors_wait, &got, FALSE)) {
            if (GetLastError() == ERROR_IO_INCOMPLETE) return;
            process->errors_pending = false;
            close_handle(&process->errors);
            return;
        }
        process->errors_pending = false;
        size_t room = sizeof process->errors_buffer - process->errors_held;
        size_t kept = got < room ? got : room;
        memcpy(process->errors_buffer + process->errors_held, process->errors_part, kept);
        process->errors_held += kept;
        listen_to_errors(process);
    }
}

static DWORD left_until(int64_t deadline) {
    int64_t left = deadline - clock_ms();
    return left <= 0 ? 0 : left > 3600000 ? 3600000 : (DWORD)left;
}

/** Waits for one overlapped operation; none is under way any more afterwards. */
static enum pipe_result await(struct process *process, HANDLE pipe, OVERLAPPED *operation, DWORD *got,
                              int64_t deadline) {
    enum pipe_result result = PIPE_OK;
    for (bool is_done = false; !is_done && result == PIPE_OK;) {
        HANDLE waits[3] = {process->cancel, operation->hEvent, process->errors_wait.hEvent};
        DWORD count = process->errors_pending ? 3 : 2;
        DWORD which = WaitForMultipleObjects(count, waits, FALSE, left_until(deadline));
        if (which == WAIT_OBJECT_0) result = PIPE_CANCELLED;
        else if (which == WAIT_OBJECT_0 + 1) is_done = true;
        else if (which == WAIT_OBJECT_0 + 2) take_errors(process);
        else if (which != WAIT_TIMEOUT) result = PIPE_FAILED;
        else if (clock_ms() >= deadline) result = PIPE_TIMEOUT;
    }
    if (result != PIPE_OK) CancelIoEx(pipe, operation);
    if (GetOverlappedResult(pipe, operation, got, TRUE)) return result;
    if (result != PIPE_OK) return result;
    DWORD reason = GetLastError();
    bool is_ended = reason == ERROR_BROKEN_PIPE || reason == ERROR_NO_DATA ||
                    reason == ERROR_PIPE_NOT_CONNECTED;
    return is_ended ? PIPE_ENDED : PIPE_FAILED;
}

static enum pipe_result start_failure(void) {
    DWORD reason = GetLastError();
    bool is_ended = reason == ERROR_BROKEN_PIPE || reason == ERROR_NO_DATA ||
                    reason == ERROR_PIPE_NOT_CONNECTED;
    return is_ended ? PIPE_ENDED : PIPE_FAILED;
}

enum pipe_result process_read(struct process *process, void *buffer, size_t size, size_t *got,
                              int64_t deadline) {
    OVERLAPPED operation;
    DWORD count = 0;
    memset(&operation, 0, sizeof operation);
    operation.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL);
    if (operation.hEvent == NULL) return PIPE_FAILED;
    BOOL is_done = ReadFile(process->output, buffer, (DWORD)size, NULL, &operation);
    enum pipe_result result = is_done || GetLastError() == ERROR_IO_PENDING
                                  ? await(process, process->output, &operation, &count, deadline)
                                  : start_failure();
    CloseHandle(operation.hEvent);
    if (result == PIPE_OK && count == 0) return PIPE_ENDED;
    *got = count;
    return result;
}

/** A close by the cancelling thread waits for the write that is under way. */
static bool begin_write(struct process *process) {
    EnterCriticalSection(&process->lock);
    bool can_write = process->input != NULL && !process->is_cancelled;
    process->is_writing = can_write;
    LeaveCriticalSection(&process->lock);
    return can_write;
}

static void end_write(struct process *process) {
    EnterCriticalSection(&process->lock);
    process->is_writing = false;
    if (process->is_cancelled) close_handle(&process->input);
    LeaveCriticalSection(&process->lock);
}

enum pipe_result process_write(struct process *process, const void *buffer, size_t size,
                               int64_t deadline) {
    const char *from = buffer;
    OVERLAPPED operation;
    memset(&operation, 0, sizeof operation);
    if (!begin_write(process)) return PIPE_CANCELLED;
    operation.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL);
    enum pipe_result result = operation.hEvent == NULL ? PIPE_FAILED : PIPE_OK;
    while (size > 0 && result == PIPE_OK) {
        DWORD count = 0;
        ResetEvent(operation.hEvent);
        BOOL is_done = WriteFile(process->input, from, (DWORD)size, NULL, &operation);
        result = is_done || GetLastError() == ERROR_IO_PENDING
                     ? await(process, process->input, &operation, &count, deadline)
                     : start_failure();
        from += count;
        size -= count;
    }
    if (operation.hEvent != NULL) CloseHandle(operation.hEvent);
    end_write(process);
    return result;
}

size_t process_take_stderr(struct process *process, char *buffer, size_t size) {
    take_errors(process);
    size_t count = process->errors_held < size ? process->errors_held : size;
    memcpy(buffer, process->errors_buffer, count);
    process->errors_held -= count;
    memmove(process->errors_buffer, process->errors_buffer + count, process->errors_held);
    return count;
}

void process_close_input(struct process *process) {
    EnterCriticalSection(&process->lock);
    if (!process->is_writing) close_handle(&process->input);
    LeaveCriticalSection(&process->lock);
}

void process_cancel(struct process *process) {
    EnterCriticalSection(&process->lock);
    process->is_cancelled = true;
    if (!process->is_writing) close_handle(&process->input);
    LeaveCriticalSection(&process->lock);
    SetEvent(process->cancel);
}

bool process_has_exited(struct process *process) {
    return WaitForSingleObject(process->process, 0) == WAIT_OBJECT_0;
}

void process_wait(struct process *process, int64_t deadline, struct process_exit *exit) {
    memset(exit, 0, sizeof *exit);
    process_close_input(process);
    close_handle(&process->output); // a backend that still talks must not hang in a full pipe
    for (;;) {
        HANDLE waits[2] = {process->process, process->errors_wait.hEvent};
        DWORD limit = exit->was_killed ? 10000 : left_until(deadline);
        DWORD which = WaitForMultipleObjects(process->errors_pending ? 2 : 1, waits, FALSE, limit);
        if (which == WAIT_OBJECT_0) break;
        if (which == WAIT_OBJECT_0 + 1) {
            take_errors(process);
            continue;
        }
        if (exit->was_killed) break;
        if (which == WAIT_TIMEOUT && clock_ms() < deadline) continue;
        exit->was_killed = true;
        if (process->group == NULL || !TerminateJobObject(process->group, 1)) {
            TerminateProcess(process->process, 1);
        }
    }
    DWORD code = 0;
    GetExitCodeProcess(process->process, &code);
    exit->code = (int)code;
    close_handle(&process->group); // whatever it has started goes with it
}

void process_free(struct process *process) {
    if (process == NULL) return;
    if (process->errors_pending) {
        DWORD got = 0;
        CancelIoEx(process->errors, &process->errors_wait);
        GetOverlappedResult(process->errors, &process->errors_wait, &got, TRUE);
    }
    close_handle(&process->input);
    close_handle(&process->output);
    close_handle(&process->errors);
    close_handle(&process->process);
    close_handle(&process->group);
    close_handle(&process->cancel);
    close_handle(&process->errors_wait.hEvent);
    DeleteCriticalSection(&process->lock);
    free(process);
}
