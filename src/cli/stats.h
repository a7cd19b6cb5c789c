/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_STATS_H
#define UEXT4_CLI_STATS_H

/* stats.h - the library's counters: differences, for people and as JSON. */

#include "cli/json.h"
#include "uext4.h"

/* Add what was counted between two calls of uext4_get_stats(). */
void stats_add(struct uext4_stats *sum, const struct uext4_stats *before,
               const struct uext4_stats *after);

/* Those that are not zero, some on a line, behind `indent`. */
void stats_print(const struct uext4_stats *stats, const char *indent);

/* All of them. */
json_t *stats_json(const struct uext4_stats *stats);

#endif
