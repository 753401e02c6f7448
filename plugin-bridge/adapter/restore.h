// SPDX-License-Identifier: AGPL-3.0-only
// The callbacks of a restore.

#ifndef HVDR_RESTORE_H
#define HVDR_RESTORE_H

#include "job.h"

/** Kept until the backend of its command runs. */
fd_rc keep_restore_object(struct job *job, const struct restore_object_packet *packet);
void forget_restore_objects(struct job *job);

/** The backend of a command, started when this is its first file. NULL or BROKEN: the job is red. */
struct backend *restore_select(struct job *job, const char *command);

fd_rc restore_create(struct backend *backend, void *packet);
void restore_io(struct backend *backend, struct io_packet *io);
fd_rc restore_attributes(struct backend *backend, void *packet);
fd_rc restore_xacl(struct backend *backend, struct xacl_packet *xacl);
/** FINISH to every backend, unless the job is lost: then nothing may be committed. */
void restore_finish(struct job *job);

#endif
