// SPDX-License-Identifier: AGPL-3.0-only
// The command of a Plugin line, `name: key=value …`, cut into its words.

#ifndef HVDR_COMMAND_H
#define HVDR_COMMAND_H

#include <stdbool.h>

#define WORDS_MAX 1000

struct words {
    char *memory;
    int count;
    char *word[WORDS_MAX]; // `key=value`; never without =
};

/** True when the text before the first colon is our name. */
bool is_our_command(const char *command);

/** NULL, or what cannot be read in it. Free with free_words in any case. */
const char *cut_command(const char *command, struct words *words);
void free_words(struct words *words);

/** Value of the last word with this key, or NULL. */
const char *word_value(const struct words *words, const char *key);

#endif
