// SPDX-License-Identifier: Apache-2.0
// phsvc: runs a program of ours as a Windows service, and manages such services.
//
//   phsvc run NAME LOG -- PROGRAM ARGUMENTS…                   as the service manager starts it
//   phsvc install NAME TITLE ABOUT LOG -- PROGRAM ARGUMENTS…   or changes what it runs
//   phsvc start|stop|remove NAME                               waits until that is done
//   phsvc state NAME                    exit code: 0 runs, 3 not there, 4 does not run, 5 is starting
//   phsvc restore NAME TITLE -- COMMAND LINE                   as they were before install
//   phsvc protect configuration|programs FOLDER                takes it from other users, with what is in it
//   phsvc check FOLDER                                         exit code 5: users may change it
//   phsvc path add|remove FOLDER                               of the machine; programs see it when they are started
//
// Exit codes: 0 done, 1 failed, 2 wrong usage.

#include "phsvc.h"
#include <stdio.h>
#include <wchar.h>

#define LINE_CHARS 32768
#define NAME_CHARS 80

static int usage(const char *why) {
    fprintf(stderr,
            "phsvc: %s\n"
            "usage: phsvc run NAME LOG -- PROGRAM ARGUMENTS\n"
            "       phsvc install NAME TITLE ABOUT LOG -- PROGRAM ARGUMENTS\n"
            "       phsvc start|stop|remove|state NAME\n"
            "       phsvc restore NAME TITLE -- COMMAND LINE\n"
            "       phsvc protect configuration|programs FOLDER\n"
            "       phsvc check FOLDER\n"
            "       phsvc path add|remove FOLDER\n",
            why);
    return 2;
}

/** The command line behind its first `count` words, as it was written. */
static wchar_t *behind(wchar_t *at, int count) {
    for (; count > 0; count--) {
        for (BOOL is_quoted = FALSE; *at != 0 && (is_quoted || (*at != L' ' && *at != L'\t')); at++)
            if (*at == L'"') is_quoted = !is_quoted;
        while (*at == L' ' || *at == L'\t') at++;
    }
    return at;
}

static BOOL is_name(const wchar_t *text) {
    size_t length = wcslen(text);
    size_t plain = wcsspn(text, L"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");
    return length > 0 && length <= NAME_CHARS && plain == length;
}

/** A service has no folder of its own that a relative path could begin at. */
static BOOL is_whole_path(const wchar_t *text) {
    return wcschr(text, L'"') == NULL && ((text[0] != 0 && text[1] == L':' && text[2] == L'\\') ||
                                          (text[0] == L'\\' && text[1] == L'\\'));
}

static int change_path(int count, wchar_t **words) {
    if (count != 4 || !is_whole_path(words[3]) || wcschr(words[3], L';') != NULL || wcslen(words[3]) > MAX_PATH)
        return usage("FOLDER is to be a whole path");
    if (wcscmp(words[2], L"add") == 0) return search_path(words[3], TRUE);
    if (wcscmp(words[2], L"remove") == 0) return search_path(words[3], FALSE);
    return usage("there is no such command");
}

static int protect(int count, wchar_t **words) {
    if (count != 4 || !is_whole_path(words[3])) return usage("FOLDER is to be a whole path");
    if (wcscmp(words[2], L"configuration") == 0) return folder_protect(words[3], CONFIGURATION);
    if (wcscmp(words[2], L"programs") == 0) return folder_protect(words[3], PROGRAMS);
    return usage("there is no such kind of folder");
}

static int restore(int count, wchar_t **words) {
    if (count < 6 || wcscmp(words[4], L"--") != 0) return usage("a command line is to stand behind --");
    return service_restore(words[2], words[3], behind(GetCommandLineW(), 5));
}

static int install(wchar_t **words, const wchar_t *program) {
    static wchar_t self[MAX_PATH], line[LINE_CHARS];
    DWORD length = GetModuleFileNameW(NULL, self, MAX_PATH);
    if (length == 0 || length >= MAX_PATH) return usage("its own path is too long");
    int written =
        swprintf(line, LINE_CHARS, L"\"%ls\" run %ls \"%ls\" -- %ls", self, words[2], words[5], program);
    if (written < 0) return usage("the command line is too long");
    return service_install(words[2], words[3], words[4], line);
}

int wmain(int count, wchar_t **words) {
    if (count < 3) return usage("a command and the name of a service are needed");
    const wchar_t *command = words[1];
    if (wcscmp(command, L"path") == 0) return change_path(count, words);
    if (wcscmp(command, L"protect") == 0) return protect(count, words);
    if (wcscmp(command, L"check") == 0)
        return count == 3 && is_whole_path(words[2]) ? folder_check(words[2]) : usage("FOLDER is to be a whole path");
    if (!is_name(words[2])) return usage("NAME has letters, digits, - and _");
    BOOL is_run = wcscmp(command, L"run") == 0;
    if (is_run || wcscmp(command, L"install") == 0) {
        int dashes = is_run ? 4 : 6; // the place of the "--"
        if (count <= dashes + 1 || wcscmp(words[dashes], L"--") != 0)
            return usage("a program is to stand behind --");
        if (!is_whole_path(words[dashes - 1])) return usage("LOG is to be a whole path");
        wchar_t *program = behind(GetCommandLineW(), dashes + 1);
        return is_run ? run_service(words[2], words[3], program) : install(words, program);
    }
    if (wcscmp(command, L"restore") == 0) return restore(count, words);
    if (count != 3) return usage("one name of a service is needed");
    if (wcscmp(command, L"start") == 0) return service_start(words[2]);
    if (wcscmp(command, L"stop") == 0) return service_stop(words[2]);
    if (wcscmp(command, L"remove") == 0) return service_remove(words[2]);
    if (wcscmp(command, L"state") == 0) return service_state(words[2]);
    return usage("there is no such command");
}
