// SPDX-License-Identifier: Apache-2.0
// The service itself: starts the program, tells the service manager its states, and ends it. The program is told to
// end by the end of its input, as there are no signals; it and all that it starts live in a job object and end with us.

#include "phsvc.h"
#include <stdio.h>
#include <stdlib.h>

#define CHECKPOINT_MS 1000
#define HINT_MS 10000
#define PUMP_WAIT_MS 5000

static SERVICE_STATUS_HANDLE manager;
static SERVICE_STATUS status;
static CRITICAL_SECTION status_turn;
static HANDLE stop_wanted, program_ready;
static wchar_t *service_name, *program_line;
static const wchar_t *service_log;

struct program {
    HANDLE process, job, input, output, errors;
};

/** `specific`: an exit code that is not one of Windows. */
static void tell(DWORD state, DWORD code, DWORD specific) {
    EnterCriticalSection(&status_turn);
    BOOL is_pending = state == SERVICE_START_PENDING || state == SERVICE_STOP_PENDING;
    status.dwServiceType = SERVICE_WIN32_OWN_PROCESS;
    // once it ends, it does not come back
    if (status.dwCurrentState != SERVICE_STOP_PENDING || state == SERVICE_STOPPED)
        status.dwCurrentState = state;
    BOOL takes_stop = state == SERVICE_RUNNING || state == SERVICE_START_PENDING;
    status.dwControlsAccepted =
        takes_stop && status.dwCurrentState == state ? SERVICE_ACCEPT_STOP | SERVICE_ACCEPT_PRESHUTDOWN : 0;
    status.dwWin32ExitCode = specific != 0 ? ERROR_SERVICE_SPECIFIC_ERROR : code;
    status.dwServiceSpecificExitCode = specific;
    status.dwCheckPoint = is_pending ? status.dwCheckPoint + 1 : 0;
    status.dwWaitHint = is_pending ? HINT_MS : 0;
    SetServiceStatus(manager, &status);
    LeaveCriticalSection(&status_turn);
}

static DWORD WINAPI on_control(DWORD control, DWORD type, void *data, void *context) {
    (void)type, (void)data, (void)context;
    switch (control) {
    case SERVICE_CONTROL_STOP:
    case SERVICE_CONTROL_PRESHUTDOWN:
        tell(SERVICE_STOP_PENDING, NO_ERROR, 0);
        SetEvent(stop_wanted);
        return NO_ERROR;
    case SERVICE_CONTROL_INTERROGATE: return NO_ERROR;
    default: return ERROR_CALL_NOT_IMPLEMENTED;
    }
}

static DWORD WINAPI pump_output(void *reader) {
    char bytes[16384];
    DWORD count;
    while (ReadFile(reader, bytes, sizeof bytes, &count, NULL) && count > 0) {
        SetEvent(program_ready); // receiver and agent say nothing on stdout before they work
        log_bytes(bytes, count);
    }
    return 0;
}

static DWORD WINAPI pump_errors(void *reader) {
    char bytes[16384];
    DWORD count;
    while (ReadFile(reader, bytes, sizeof bytes, &count, NULL) && count > 0) log_bytes(bytes, count);
    return 0;
}

/** Ours is not inherited, the other end is. */
static BOOL make_pipe(HANDLE *ours, HANDLE *theirs, BOOL is_input) {
    HANDLE reader, writer;
    if (!CreatePipe(&reader, &writer, NULL, 0)) return FALSE;
    *ours = is_input ? writer : reader;
    *theirs = is_input ? reader : writer;
    return SetHandleInformation(*theirs, HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT);
}

/** Starts the program with exactly its three handles, in a job that ends with this process. */
static DWORD start_program(struct program *program) {
    HANDLE theirs[3];
    SIZE_T size = 0;
    STARTUPINFOEXW start = {.StartupInfo = {.cb = sizeof start, .dwFlags = STARTF_USESTDHANDLES}};
    PROCESS_INFORMATION started;
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {0};
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;

    if (!make_pipe(&program->input, &theirs[0], TRUE) || !make_pipe(&program->output, &theirs[1], FALSE) ||
        !make_pipe(&program->errors, &theirs[2], FALSE))
        return GetLastError();
    program->job = CreateJobObjectW(NULL, NULL);
    if (program->job == NULL ||
        !SetInformationJobObject(program->job, JobObjectExtendedLimitInformation, &limits, sizeof limits))
        return GetLastError();

    InitializeProcThreadAttributeList(NULL, 1, 0, &size);
    start.lpAttributeList = malloc(size);
    if (start.lpAttributeList == NULL) return ERROR_NOT_ENOUGH_MEMORY;
    if (!InitializeProcThreadAttributeList(start.lpAttributeList, 1, 0, &size) ||
        !UpdateProcThreadAttribute(start.lpAttributeList, 0, PROC_THREAD_ATTRIBUTE_HANDLE_LIST, theirs,
                                   sizeof theirs, NULL, NULL))
        return GetLastError();
    start.StartupInfo.hStdInput = theirs[0];
    start.StartupInfo.hStdOutput = theirs[1];
    start.StartupInfo.hStdError = theirs[2];
    DWORD flags = CREATE_SUSPENDED | CREATE_NO_WINDOW | EXTENDED_STARTUPINFO_PRESENT;
    if (!CreateProcessW(NULL, program_line, NULL, NULL, TRUE, flags, NULL, NULL, &start.StartupInfo, &started))
        return GetLastError();
    DeleteProcThreadAttributeList(start.lpAttributeList);
    free(start.lpAttributeList);
    for (int index = 0; index < 3; index++) CloseHandle(theirs[index]);
    if (!AssignProcessToJobObject(program->job, started.hProcess)) {
        DWORD failure = GetLastError();
        TerminateProcess(started.hProcess, 1);
        return failure;
    }
    ResumeThread(started.hThread);
    CloseHandle(started.hThread);
    program->process = started.hProcess;
    log_line(0, "the program was started, process %lu", started.dwProcessId);
    return NO_ERROR;
}

/** Closes its input and waits; ends it by force when it takes too long. */
static void stop_program(struct program *program) {
    CloseHandle(program->input);
    program->input = NULL;
    for (int second = 0; second < STOP_SECONDS; second++) {
        if (WaitForSingleObject(program->process, CHECKPOINT_MS) == WAIT_OBJECT_0) return;
        tell(SERVICE_STOP_PENDING, NO_ERROR, 0);
    }
    log_line(EVENTLOG_WARNING_TYPE, "the program did not end in %d seconds and was ended", STOP_SECONDS);
    TerminateJobObject(program->job, 1);
    WaitForSingleObject(program->process, INFINITE);
}

/** Waits until the program works; TRUE when it does, FALSE when it has ended or is to end. */
static BOOL wait_ready(struct program *program) {
    HANDLE what[] = {stop_wanted, program->process, program_ready};
    for (int second = 0; second < START_SECONDS; second++) {
        DWORD which = WaitForMultipleObjects(3, what, FALSE, CHECKPOINT_MS);
        if (which != WAIT_TIMEOUT) return which == WAIT_OBJECT_0 + 2;
        tell(SERVICE_START_PENDING, NO_ERROR, 0);
    }
    log_line(EVENTLOG_WARNING_TYPE, "the program has said nothing in %d seconds; it goes on", START_SECONDS);
    return TRUE;
}

/** From the start of the program to its end; tells the service manager why it ended. */
static void serve(void) {
    struct program program = {0};
    DWORD failure = start_program(&program);
    if (failure != NO_ERROR) {
        log_line(EVENTLOG_ERROR_TYPE, "the program cannot be started: error %lu", failure);
        tell(SERVICE_STOPPED, failure, 0);
        return;
    }
    HANDLE pumps[] = {CreateThread(NULL, 0, pump_output, program.output, 0, NULL),
                      CreateThread(NULL, 0, pump_errors, program.errors, 0, NULL)};
    if (wait_ready(&program)) {
        tell(SERVICE_RUNNING, NO_ERROR, 0);
        HANDLE what[] = {stop_wanted, program.process};
        WaitForMultipleObjects(2, what, FALSE, INFINITE);
    }
    BOOL was_asked = WaitForSingleObject(stop_wanted, 0) == WAIT_OBJECT_0;
    if (was_asked) stop_program(&program);
    DWORD code = 1;
    GetExitCodeProcess(program.process, &code);
    TerminateJobObject(program.job, 1); // what it has left behind
    WaitForMultipleObjects(2, pumps, TRUE, PUMP_WAIT_MS);
    if (was_asked) {
        log_line(0, "the program was asked to end, and ended with %lu", code);
        tell(SERVICE_STOPPED, NO_ERROR, 0);
    } else {
        log_line(EVENTLOG_ERROR_TYPE, "the program ended by itself, with %lu", code);
        // both make the service manager take its recovery actions
        tell(SERVICE_STOPPED, ERROR_PROCESS_ABORTED, code);
    }
}

static void WINAPI service_main(DWORD count, wchar_t **words) {
    (void)count, (void)words;
    InitializeCriticalSection(&status_turn);
    stop_wanted = CreateEventW(NULL, TRUE, FALSE, NULL);
    program_ready = CreateEventW(NULL, TRUE, FALSE, NULL);
    manager = RegisterServiceCtrlHandlerExW(service_name, on_control, NULL);
    if (manager == NULL) return;
    tell(SERVICE_START_PENDING, NO_ERROR, 0);
    log_events_as(service_name);
    if (log_open(service_log)) {
        serve();
    } else {
        DWORD failure = GetLastError();
        log_line(EVENTLOG_ERROR_TYPE, "the log %ls cannot be opened: error %lu", service_log, failure);
        tell(SERVICE_STOPPED, failure, 0);
    }
}

int run_service(wchar_t *name, const wchar_t *log_file, wchar_t *command_line) {
    service_name = name;
    service_log = log_file;
    program_line = command_line;
    SERVICE_TABLE_ENTRYW table[] = {{name, service_main}, {NULL, NULL}};
    if (StartServiceCtrlDispatcherW(table)) return 0;
    fprintf(stderr, "phsvc: only the service manager can start a service (error %lu); use phsvc start NAME\n",
            GetLastError());
    return 1;
}
