/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_BENCH_ENGINE_H
#define UEXT4_CLI_BENCH_ENGINE_H

/* bench_engine.h - reading or writing a file, or its places of the bare device, for some time.
 */

#include <stdbool.h>
#include <stdint.h>

#include "cli/cli.h"
#include "cli/hist.h"

enum bench_pattern {
        BENCH_PATTERN_READ,
        BENCH_PATTERN_RANDREAD,
        BENCH_PATTERN_WRITE,
        BENCH_PATTERN_RANDWRITE,
        BENCH_PATTERN_RANDRW, /* one half each */
        BENCH_PATTERN_APPEND, /* behind the size that the file has; it gets that back */
        BENCH_NR_PATTERNS,
};

/* When a write counts as done. */
enum bench_sync {
        BENCH_SYNC_NONE,
        BENCH_SYNC_DSYNC,     /* each is RWF_DSYNC, on the raw side FUA */
        BENCH_SYNC_FDATASYNC, /* after an fdatasync that began behind it; raw: a flush */
        BENCH_SYNC_FSYNC,
        BENCH_NR_SYNCS,
};

enum bench_side {
        BENCH_SIDE_UEXT4,
        BENCH_SIDE_RAW,
        BENCH_NR_SIDES,
};

struct bench_options {
        enum bench_pattern pattern;
        uint64_t block_size; /* bytes */
        unsigned depth;      /* 1 when not direct */
        uint64_t size;       /* bytes of the file; 0: all, or what suits appending */
        uint64_t seed;
        enum bench_sync sync;
        bool prealloc;      /* the range is preallocated space at the start of each run */
        bool direct;        /* the uext4 side; the raw side always is */
        bool fixed_buffers; /* memory is registered with the queue */
        unsigned sides;     /* bit (1 << enum bench_side) for each that will run */
};

/* What was measured in one run of one side. */
struct bench_result {
        double seconds;
        uint64_t requests, bytes, errors; /* bytes of requests without error */
        unsigned max_in_flight;
        double cpu_user, cpu_system; /* seconds */
        struct hist lat;             /* nanoseconds */
        struct uext4_stats stats_before, stats_after;
};

struct bench_engine;

bool bench_pattern_writes(enum bench_pattern pattern);

/* Prepare everything that must not be timed.  NULL when that failed and was said.  The
 * options and the operand must live as long. */
struct bench_engine *bench_engine_new(struct cli *cli, const struct bench_options *opt,
                                      const struct cli_operand *op);
void bench_engine_free(struct bench_engine *e); /* NULL is fine */

/* Bytes of the file that are read or written: whole blocks. */
uint64_t bench_engine_size(const struct bench_engine *e);

/* Run one side.  0, or -errno when the queue broke; errors of requests are counted. */
int bench_engine_run(struct bench_engine *e, enum bench_side side, uint64_t runtime_ns,
                     struct bench_result *ret_result);

#endif
