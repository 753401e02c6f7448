// SPDX-License-Identifier: Apache-2.0
// Parts of the service host; what it does stands in main.c.

#ifndef PHSVC_H
#define PHSVC_H

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

// Limits; tests are built with smaller ones.
#ifndef STOP_SECONDS
#define STOP_SECONDS 30 // from the end of its input to the end of the program, then it is ended
#endif
#ifndef START_SECONDS
#define START_SECONDS 120 // until the program has said that it works
#endif
#ifndef LOG_BYTES
#define LOG_BYTES (10 * 1024 * 1024)
#endif
#define LOG_FILES 5

/** Seconds that a caller waits for a service, longer than the service itself does. */
#define WAIT_SECONDS (START_SECONDS + STOP_SECONDS + 10)

// host.c

/** Runs as the service `name`; returns an exit code when the service manager did not start this process. */
int run_service(wchar_t *name, const wchar_t *log_file, wchar_t *command_line);

// log.c

/** Opens the log for appending; false and GetLastError() when that fails. */
BOOL log_open(const wchar_t *path);

/** Adds bytes of the program. A log that is full becomes PATH.1, that one PATH.2, up to LOG_FILES. */
void log_bytes(const char *bytes, DWORD count);

/** Adds a line of our own, with the time, and when `type` is not 0 an event to the system's log. */
void log_line(WORD type, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** The service whose events these are. */
void log_events_as(const wchar_t *name);

// manage.c: each returns an exit code and tells failures on stderr

int service_install(const wchar_t *name, const wchar_t *title, const wchar_t *about,
                    const wchar_t *command_line);
int service_remove(const wchar_t *name);
int service_start(const wchar_t *name);
int service_stop(const wchar_t *name);
int service_state(const wchar_t *name);

/** Gives a service that is there its former title and command line. */
int service_restore(const wchar_t *name, const wchar_t *title, const wchar_t *command_line);

// protect.c: each returns an exit code and tells failures on stderr

enum folder_kind { CONFIGURATION, PROGRAMS };

/** An exit code: others than administrators may change the folder. */
#define OPEN_TO_OTHERS 5

/**
 * Makes the folder when it is not there, gives it and what is in it to the administrators, and keeps others out. What
 * others have laid into it is refused before anything is changed, and so is a link; only configuration and keys that lie
 * there before the first installation are set aside. Accounts of our services keep their rights.
 */
int folder_protect(wchar_t *folder, enum folder_kind kind);

/** 0, or OPEN_TO_OTHERS. */
int folder_check(wchar_t *folder);

// search-path.c

/** Adds a folder (at most MAX_PATH characters) to the machine's search path, or takes it out. */
int search_path(const wchar_t *folder, BOOL is_added);

#endif
