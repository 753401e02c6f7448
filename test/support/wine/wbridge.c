// SPDX-License-Identifier: Apache-2.0
// wbridge named|anonymous PROGRAM ARGUMENTS…: runs a Windows program with real Win32 pipes as its three standard
// streams, pumps them to and from our own, and ends with its exit code. Under Wine our own are Unix pipes, which
// Node for Windows refuses. "named" makes the pipes as Node makes them for its children (overlapped at the child's
// end); "anonymous" as CreatePipe does, which is what a File Daemon hands over.
// wbridge hold: writes a line and stays until it is ended. Wine's services start with the first program of a prefix and
// end with the last one; with this one they stay, and nobody else's streams are held open by them.

#define WIN32_LEAN_AND_MEAN
#include <stdio.h>
#include <wchar.h>
#include <windows.h>

#define BUFFER_BYTES 65536
#define OUTPUT_WAIT_MS 10000
#define CANNOT_START 127

struct pipe {
    HANDLE child;
    HANDLE ours;
};

struct pump {
    HANDLE source;
    HANDLE target;
};

static void stop(const char *what) {
    fprintf(stderr, "wbridge: %s: error %lu\n", what, GetLastError());
    ExitProcess(CANNOT_START);
}

static struct pipe named_pipe(BOOL child_reads) {
    static int count;
    struct pipe made;
    wchar_t name[64];
    SECURITY_ATTRIBUTES inheritable = {sizeof inheritable, NULL, TRUE};
    swprintf(name, 64, L"\\\\.\\pipe\\wbridge-%lu-%d", GetCurrentProcessId(), count++);
    made.ours = CreateNamedPipeW(name, child_reads ? PIPE_ACCESS_OUTBOUND : PIPE_ACCESS_INBOUND,
                                 PIPE_TYPE_BYTE | PIPE_WAIT, 1, BUFFER_BYTES, BUFFER_BYTES, 0, NULL);
    if (made.ours == INVALID_HANDLE_VALUE) stop("a named pipe");
    made.child = CreateFileW(
        name, child_reads ? GENERIC_READ | FILE_WRITE_ATTRIBUTES : GENERIC_WRITE | FILE_READ_ATTRIBUTES,
        0, &inheritable, OPEN_EXISTING, FILE_FLAG_OVERLAPPED, NULL);
    if (made.child == INVALID_HANDLE_VALUE) stop("the other end of a named pipe");
    return made;
}

static struct pipe anonymous_pipe(BOOL child_reads) {
    struct pipe made;
    HANDLE reader, writer;
    if (!CreatePipe(&reader, &writer, NULL, BUFFER_BYTES)) stop("an anonymous pipe");
    made.child = child_reads ? reader : writer;
    made.ours = child_reads ? writer : reader;
    if (!SetHandleInformation(made.child, HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT)) stop("inheriting");
    return made;
}

static DWORD WINAPI run_pump(LPVOID argument) {
    struct pump *pump = argument;
    BYTE *buffer = HeapAlloc(GetProcessHeap(), 0, BUFFER_BYTES);
    DWORD got = 0;
    BOOL is_open = buffer != NULL;
    while (is_open && ReadFile(pump->source, buffer, BUFFER_BYTES, &got, NULL) && got > 0) {
        for (DWORD sent = 0, step; is_open && sent < got; sent += step) {
            is_open = WriteFile(pump->target, buffer + sent, got - sent, &step, NULL);
        }
    }
    CloseHandle(pump->target);
    return 0;
}

/* The command line behind its first word. */
static wchar_t *next_word(wchar_t *at) {
    for (BOOL quoted = FALSE; *at && (quoted || (*at != L' ' && *at != L'\t')); at++)
        if (*at == L'"') quoted = !quoted;
    while (*at == L' ' || *at == L'\t') at++;
    return at;
}

int wmain(int count, wchar_t **words) {
    if (count == 2 && wcscmp(words[1], L"hold") == 0) {
        puts("holding");
        fflush(stdout);
        Sleep(INFINITE);
    }
    BOOL is_named = count > 2 && wcscmp(words[1], L"named") == 0;
    if (count < 3 || (!is_named && wcscmp(words[1], L"anonymous") != 0)) {
        fprintf(stderr, "wbridge: usage: wbridge named|anonymous PROGRAM ARGUMENTS\n");
        return CANNOT_START;
    }
    struct pipe (*make)(BOOL) = is_named ? named_pipe : anonymous_pipe;
    struct pipe in = make(TRUE), out = make(FALSE), err = make(FALSE);
    STARTUPINFOW start = {.cb = sizeof start, .dwFlags = STARTF_USESTDHANDLES};
    start.hStdInput = in.child;
    start.hStdOutput = out.child;
    start.hStdError = err.child;
    PROCESS_INFORMATION child;
    wchar_t *command = next_word(next_word(GetCommandLineW()));
    if (!CreateProcessW(NULL, command, NULL, NULL, TRUE, 0, NULL, NULL, &start, &child))
        stop("starting the program");
    CloseHandle(in.child);
    CloseHandle(out.child);
    CloseHandle(err.child);
    struct pump pumps[3] = {{GetStdHandle(STD_INPUT_HANDLE), in.ours},
                            {out.ours, GetStdHandle(STD_OUTPUT_HANDLE)},
                            {err.ours, GetStdHandle(STD_ERROR_HANDLE)}};
    HANDLE threads[3];
    for (int i = 0; i < 3; i++) threads[i] = CreateThread(NULL, 0, run_pump, &pumps[i], 0, NULL);
    DWORD code = CANNOT_START;
    WaitForSingleObject(child.hProcess, INFINITE);
    GetExitCodeProcess(child.hProcess, &code);
    /* our own input may stay open for ever; what the program wrote must arrive */
    WaitForMultipleObjects(2, threads + 1, TRUE, OUTPUT_WAIT_MS);
    ExitProcess(code);
}
