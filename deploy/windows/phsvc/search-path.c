// SPDX-License-Identifier: Apache-2.0
// The search path of the machine: a folder is added to it, or taken out, and all else stays as it is written there.

#include "phsvc.h"
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>

#define ENVIRONMENT L"SYSTEM\\CurrentControlSet\\Control\\Session Manager\\Environment"
/** Longer ones do not reach programs. */
#define PATH_CHARS 32767

static BOOL is_folder(const wchar_t *part, size_t length, const wchar_t *folder) {
    return length == wcslen(folder) && _wcsnicmp(part, folder, length) == 0;
}

/** Copies `from` without the folder; returns the length. */
static size_t without(const wchar_t *from, const wchar_t *folder, wchar_t *to) {
    size_t written = 0;
    for (BOOL is_first = TRUE;; is_first = FALSE) {
        size_t length = wcscspn(from, L";");
        if (!is_folder(from, length, folder)) {
            if (!is_first && written > 0) to[written++] = L';';
            wmemcpy(to + written, from, length);
            written += length;
        }
        if (from[length] == 0) break;
        from += length + 1;
    }
    to[written] = 0;
    return written;
}

int search_path(const wchar_t *folder, BOOL is_added) {
    HKEY key;
    DWORD type = REG_EXPAND_SZ, size = PATH_CHARS * sizeof(wchar_t);
    wchar_t *former = calloc(PATH_CHARS + 1, sizeof *former);
    wchar_t *next = calloc(2 * PATH_CHARS, sizeof *next);
    LSTATUS failure = former == NULL || next == NULL
                          ? ERROR_NOT_ENOUGH_MEMORY
                          : RegOpenKeyExW(HKEY_LOCAL_MACHINE, ENVIRONMENT, 0,
                                          KEY_QUERY_VALUE | KEY_SET_VALUE, &key);
    if (failure == ERROR_SUCCESS) {
        failure = RegQueryValueExW(key, L"Path", NULL, &type, (BYTE *)former, &size);
        if (failure == ERROR_FILE_NOT_FOUND) failure = ERROR_SUCCESS;
        if (failure == ERROR_SUCCESS && type != REG_EXPAND_SZ && type != REG_SZ) failure = ERROR_INVALID_DATA;
        if (failure == ERROR_SUCCESS) {
            size_t length = without(former, folder, next);
            if (is_added) {
                if (length > 0) next[length++] = L';';
                wcscpy(next + length, folder);
            }
            size_t chars = wcslen(next) + 1;
            if (chars > PATH_CHARS) failure = ERROR_FILENAME_EXCED_RANGE;
            else if (wcscmp(former, next) != 0)
                failure = RegSetValueExW(key, L"Path", 0, type, (const BYTE *)next,
                                         (DWORD)(chars * sizeof *next));
        }
        RegCloseKey(key);
    }
    free(former);
    free(next);
    if (failure == ERROR_SUCCESS) return 0;
    fprintf(stderr, "phsvc: the search path cannot be changed: error %ld\n", failure);
    return 1;
}
