// SPDX-License-Identifier: AGPL-3.0-only
// The answers come as lines `key=value`; values may stand in double quotes, with a backslash before
// quotes and backslashes in them. Lines of comments and of the prompts are passed over.

#include "options.h"
#include <stdlib.h>
#include <string.h>

#define OPTION(prompt, fallback, key)                                                              \
    "OptPrompt=\"" prompt "\"\nOptDefault=\"" fallback "\"\n" key "=@STR@\n\n"

// five are what a Director of 9.6.7 takes: with a sixth it says that it cannot configure the plugin
const char *options_offer(void) {
    return "# Plugin configuration file\n"
           "# Version 1\n\n" OPTION("What to make: vm, disks or files", "*as saved*", "restore_to")
               OPTION("Register the VM under this name, with a new GUID", "*as saved*", "new_vm_name")
                   OPTION("Folder to restore into, with forward slashes", "*Where of the job*", "restore_path")
                       OPTION("Replace a VM of this name: yes or no", "*as saved*", "replace_vm")
                           OPTION("Switches of its adapters, as in network_map", "*as saved*", "network_map");
}

static bool is_offered(const char *key, size_t length) {
    static const char *const keys[] = {"restore_to", "new_vm_name", "restore_path",
                                       "replace_vm", "network_map"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strlen(keys[i]) == length && strncmp(keys[i], key, length) == 0) return true;
    }
    return false;
}

/** The value without its quotes, to `to`; NULL when they are not closed. */
static char *copy_value(const char *from, char *to) {
    bool is_quoted = *from == '"';
    if (!is_quoted) {
        while (*from != 0) *to++ = *from++;
        while (to[-1] == ' ' || to[-1] == '\t' || to[-1] == '\r') to--;
        return to;
    }
    for (from++; *from != 0 && *from != '"'; from++) {
        if (*from == '\\' && from[1] != 0) from++;
        *to++ = *from;
    }
    return *from == '"' ? to : NULL;
}

static const char *read_line(char *line, char **to, struct words *words) {
    while (*line == ' ' || *line == '\t') line++;
    char *equals = strchr(line, '=');
    if (*line == '#' || *line == 0 || equals == NULL) return NULL;
    char *end = equals;
    while (end > line && (end[-1] == ' ' || end[-1] == '\t')) end--;
    if (!is_offered(line, (size_t)(end - line))) return NULL;
    if (words->count == WORDS_MAX) return "are too many";
    char *from = *to;
    memcpy(*to, line, (size_t)(end - line));
    *to += end - line;
    *(*to)++ = '=';
    for (equals++; *equals == ' ' || *equals == '\t';) equals++;
    *to = copy_value(equals, *to);
    if (*to == NULL) return "have a quote that is not closed";
    *(*to)++ = 0;
    for (const char *at = from; *at != 0; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) return "hold a control character";
    }
    words->word[words->count++] = from;
    return NULL;
}

const char *read_options(const char *text, uint32_t length, struct words *words) {
    memset(words, 0, sizeof *words);
    while (length > 0 && text[length - 1] == 0) length--; // the Director counts its zero
    if (length > 65536 || memchr(text, 0, length) != NULL) return "are no text";
    // the copies need no more room than the lines, which are cut in a copy of their own behind
    words->memory = malloc(2 * (size_t)length + 4);
    if (words->memory == NULL) return "find no memory";
    char *line = words->memory + length + 2, *to = words->memory;
    memcpy(line, text, length);
    line[length] = 0;
    while (line != NULL) {
        char *next = strchr(line, '\n');
        if (next != NULL) *next++ = 0;
        const char *reason = read_line(line, &to, words);
        if (reason != NULL) return reason;
        line = next;
    }
    return words->count > 0 ? NULL : "hold none of what was offered";
}
