/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_VERIFY_H
#define UEXT4_CLI_VERIFY_H

/* verify.h - between verify.c, which reads, verify_compare.c and verify_report.c. */

#include "cli/cli.h"
#include "cli/host.h"
#include "cli/json.h"
#include "cli/reader.h"
#include "cli/speed.h"
#include "cli/sums.h"
#include "cli/walk.h"

struct verify_options {
        const char *against;
        unsigned depth;
        size_t request_size;
        bool sums, raw, json;
};

struct verify_counts {
        uint64_t files, directories, symlinks, others;
        uint64_t bytes, extents;
        uint64_t differences, unreadable;
};

struct verify {
        struct cli *cli;
        const struct verify_options *opt;
        struct cli_operand *op;
        struct reader *reader;
        bool broken; /* the reader is */
        bool comparing;
        struct host_tree host;
        uint8_t *host_buffer; /* of opt->request_size */
        bool summing;
        struct sums *sums;
        struct speed_plan *plan; /* NULL without --raw */
        json_t *differences;     /* NULL without --json */
        json_t *json_sums;       /* NULL without --json and --sums */
        struct verify_counts counts;
        double seconds;
};

/* ---- verify_compare.c: what differs is said, and counted ---- */

/* The directory: go into that of the host.  False when the walk should not go in. */
bool verify_enter_host(struct verify *v, const struct walk_item *item);

/* The regular file: the host's to read, or -1, and nothing is to be compared. */
int verify_open_host(struct verify *v, const struct walk_item *item);

/* False when these bytes are not those of the host's file, or that cannot be read. */
bool verify_compare_chunk(struct verify *v, const char *path, int fd,
                          const struct reader_chunk *chunk);

void verify_compare_symlink(struct verify *v, const struct walk_item *item, const char *target);
void verify_compare_other(struct verify *v, const struct walk_item *item);

/* ---- verify_report.c ---- */

/* Measure how fast it can be read, if that is wanted, and print what there is to say. */
void verify_report(struct verify *v);

#endif
