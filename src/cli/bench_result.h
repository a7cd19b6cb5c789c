/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_BENCH_RESULT_H
#define UEXT4_CLI_BENCH_RESULT_H

/* bench_result.h - one run of `uext4 bench`, for people and as JSON. */

#include "cli/bench_engine.h"
#include "cli/json.h"

const char *bench_side_name(enum bench_side side);

/* Requests without error per second. */
double bench_result_iops(const struct bench_result *r);

void bench_result_print(enum bench_side side, const struct bench_result *r);
json_t *bench_result_json(enum bench_side side, const struct bench_result *r);

#endif
