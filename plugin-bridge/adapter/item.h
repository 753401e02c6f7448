// SPDX-License-Identifier: AGPL-3.0-only
// What stands between two files: the next thing that the backend announces.

#ifndef HVDR_ITEM_H
#define HVDR_ITEM_H

#include "job.h"

/** Reads the next item into backend.item. False: the loop has ended, or is broken (backend.state). */
bool next_item(struct backend *backend);
void free_item(struct item *item);

#endif
