// SPDX-License-Identifier: AGPL-3.0-only
// What an operator may change when a restore is run: offered with each Full as an object of the job, and
// read from the object that the console makes of the answers.

#ifndef HVDR_OPTIONS_H
#define HVDR_OPTIONS_H

#include "command.h"
#include "job.h"

#define OPTIONS_OBJECT "RestoreOptions"

/** The offer; the console shows its prompts. */
const char *options_offer(void);

/**
 * Words `key=value` out of the console's answers (`length` bytes, not ended by a zero); only the keys of
 * the offer, at least one. NULL, or what cannot be read: a Director of 9.6.7 sends other bytes of its
 * memory in their place, and a restore without the operator's answers is another restore. Free with free_words in any case.
 */
const char *read_options(const char *text, uint32_t length, struct words *words);

#endif
