// SPDX-License-Identifier: Apache-2.0
// The log of a service: what its program prints, and lines of ours. Written by the threads that read the program's
// output; one at a time.

#include "phsvc.h"
#include <stdarg.h>
#include <stdio.h>

#define PATH_CHARS 1024
#define EVENT_ID 1

static CRITICAL_SECTION turn;
static HANDLE file = INVALID_HANDLE_VALUE;
static wchar_t log_path[PATH_CHARS];
static LONGLONG written;
static char last_byte = '\n';
static HANDLE events;

void log_events_as(const wchar_t *name) { events = RegisterEventSourceW(NULL, name); }

static HANDLE open_at(const wchar_t *path) {
    DWORD share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    return CreateFileW(path, FILE_APPEND_DATA, share, NULL, OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
}

static BOOL open_file(void) {
    LARGE_INTEGER size;
    HANDLE opened = open_at(log_path);
    if (opened == INVALID_HANDLE_VALUE) return FALSE;
    if (file != INVALID_HANDLE_VALUE) CloseHandle(file);
    file = opened;
    written = GetFileSizeEx(file, &size) ? size.QuadPart : 0;
    return TRUE;
}

BOOL log_open(const wchar_t *path) {
    if (wcslen(path) + 4 >= PATH_CHARS) {
        SetLastError(ERROR_FILENAME_EXCED_RANGE);
        return FALSE;
    }
    wcscpy(log_path, path);
    InitializeCriticalSection(&turn);
    return open_file();
}

static void rotate(void) {
    wchar_t from[PATH_CHARS + 4], to[PATH_CHARS + 4];
    // the former file stays open under its new name until there is another: no output goes nowhere
    for (int number = LOG_FILES - 1; number >= 0; number--) {
        if (number == 0) swprintf(from, PATH_CHARS + 4, L"%ls", log_path);
        else swprintf(from, PATH_CHARS + 4, L"%ls.%d", log_path, number);
        swprintf(to, PATH_CHARS + 4, L"%ls.%d", log_path, number + 1);
        MoveFileExW(from, to, MOVEFILE_REPLACE_EXISTING);
    }
    // tried again after as much output as a whole file holds
    if (!open_file() || written >= LOG_BYTES) written = 0;
}

void log_bytes(const char *bytes, DWORD count) {
    DWORD done;
    if (count == 0) return;
    EnterCriticalSection(&turn);
    // lines stay whole; a program that prints none is cut all the same
    if (written >= LOG_BYTES && (last_byte == '\n' || written >= 2LL * LOG_BYTES)) rotate();
    if (file != INVALID_HANDLE_VALUE && WriteFile(file, bytes, count, &done, NULL)) {
        written += done;
        last_byte = bytes[count - 1];
    }
    LeaveCriticalSection(&turn);
}

void log_line(WORD type, const char *format, ...) {
    char text[1024], line[1100];
    SYSTEMTIME now;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    GetSystemTime(&now);
    int length = snprintf(line, sizeof line, "%04d-%02d-%02dT%02d:%02d:%02dZ service: %s\n", now.wYear,
                          now.wMonth, now.wDay, now.wHour, now.wMinute, now.wSecond, text);
    if (file != INVALID_HANDLE_VALUE) log_bytes(line, (DWORD)length);
    if (type != 0 && events != NULL) {
        const char *strings[] = {text};
        ReportEventA(events, type, 0, EVENT_ID, NULL, 1, 0, strings, NULL);
    }
}
