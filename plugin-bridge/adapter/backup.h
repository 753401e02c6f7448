// SPDX-License-Identifier: AGPL-3.0-only
// The callbacks of backup and estimate.

#ifndef HVDR_BACKUP_H
#define HVDR_BACKUP_H

#include "item.h"
#include "job.h"

fd_rc backup_start_file(struct backend *backend, void *packet);
fd_rc backup_end_file(struct backend *backend);
void backup_io(struct backend *backend, struct io_packet *io);
fd_rc backup_xacl(struct backend *backend, struct xacl_packet *xacl);

#endif
