// SPDX-License-Identifier: AGPL-3.0-only

#ifndef HVDR_QUERY_H
#define HVDR_QUERY_H

#include "job.h"

/** One line of the answer in packet.result and MORE; OK at the end. */
fd_rc query_step(struct job *job, struct query_packet *packet);

#endif
