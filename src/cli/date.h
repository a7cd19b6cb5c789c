/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_DATE_H
#define UEXT4_CLI_DATE_H

/* date.h - times as people write them. */

#include "cli/cli.h"

/*
 * "@SECONDS[.FRACTION]" since the epoch, "YYYY-MM-DD[{T| }HH:MM[:SS[.FRACTION]]][{Z|+HH:MM}]"
 * in local time where no zone is given, or "now".  -EINVAL.
 */
int date_parse(const char *text, struct timespec *ret_ts);

/* Is SOURCE_DATE_EPOCH set, and to what?  When it is no number, a usage error. */
bool date_epoch(struct cli *cli, int64_t *ret_seconds);

/* The time of day, but never later than SOURCE_DATE_EPOCH says. */
struct timespec date_now(struct cli *cli);

#endif
