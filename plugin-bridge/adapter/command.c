// SPDX-License-Identifier: AGPL-3.0-only
// How a command is cut:
//   - everything up to the first colon is the name of the plugin, the rest are words between blanks
//     (space, tab, line end);
//   - double quotes may stand anywhere in a word; blanks between them belong to it; they fall away;
//   - a backslash makes the next character an ordinary one, in quotes and outside, and falls away:
//     D:\\path is D:\path, \" is a quote;
//   - the first = ends the key: later ones belong to the value, as do comma, # and single quotes;
//   - a word without = means `key=1`; `key=` has an empty value;
//   - UTF-8 passes as bytes.
// Open quotes and a backslash at the end are refused: the genuine plugin closes them silently, and then
// two parameters have become one.

#include "command.h"
#include "names.h"
#include <stdlib.h>
#include <string.h>

bool is_our_command(const char *command) {
    size_t length = strlen(PLUGIN_NAME);
    return command != NULL && strncmp(command, PLUGIN_NAME, length) == 0 &&
           (command[length] == ':' || command[length] == 0);
}

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static const char *add_word(struct words *words, char *from, char **to) {
    if (words->count == WORDS_MAX) return "has too many parameters";
    **to = 0;
    if (strchr(from, '=') == NULL) {
        memcpy(*to, "=1", 3);
        *to += 2;
    }
    *to += 1;
    for (const char *at = from; *at != 0; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) return "holds a control character";
    }
    words->word[words->count++] = from;
    return NULL;
}

const char *cut_command(const char *command, struct words *words) {
    memset(words, 0, sizeof *words);
    const char *at = strchr(command, ':');
    if (at == NULL) return NULL;
    at++;
    if (strlen(at) > 16000) return "is longer than 16000 bytes";
    // each word grows by =1 and a zero at the most, where one blank stood
    char *to = words->memory = malloc(3 * strlen(at) + 4);
    if (to == NULL) return "finds no memory";
    for (;;) {
        while (is_blank(*at)) at++;
        if (*at == 0) return NULL;
        char *from = to;
        bool is_quoted = false;
        for (; *at != 0 && (is_quoted || !is_blank(*at)); at++) {
            if (*at == '"') is_quoted = !is_quoted;
            else if (*at != '\\') *to++ = *at;
            else if (at[1] == 0) return "ends with a backslash";
            else *to++ = *++at;
        }
        if (is_quoted) return "has a double quote that is not closed";
        const char *reason = add_word(words, from, &to);
        if (reason != NULL) return reason;
    }
}

void free_words(struct words *words) {
    free(words->memory);
    words->memory = NULL;
    words->count = 0;
}

const char *word_value(const struct words *words, const char *key) {
    size_t length = strlen(key);
    for (int i = words->count - 1; i >= 0; i--) {
        const char *word = words->word[i];
        if (strncmp(word, key, length) == 0 && word[length] == '=') return word + length + 1;
    }
    return NULL;
}
