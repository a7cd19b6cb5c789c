/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_BENCH_SIDE_H
#define UEXT4_CLI_BENCH_SIDE_H

/* bench_side.h - what the loop of bench_engine.c and the two sides share; for nobody else. */

#include "cli/bench_engine.h"
#include "cli/filemap.h"

struct bench_slot {
        void *buffer;
        struct iovec iov; /* all of the buffer */
        uint64_t start_ns;
        uint64_t block; /* from the engine's base */
        bool write;
        int error;
        unsigned pieces_left;       /* raw */
        struct raw_request *pieces; /* raw */
};

struct bench_engine {
        struct cli *cli;
        const struct bench_options *opt;
        const struct cli_operand *op;
        struct uext4_file *file;
        uint64_t base; /* bytes: block 0 of the file's range begins here */
        uint64_t nr_blocks;

        struct bench_slot *slots;
        struct iovec all_buffers;
        struct bench_slot **idle; /* slots to submit */
        unsigned nr_idle;

        struct uext4_queue *queue; /* uext4 */
        struct uext4_request *requests;
        struct uext4_completion *completions;

        struct uext4_bdev_queue *raw_queue; /* raw */
        struct filemap_piece *pieces;
        size_t nr_pieces;
        size_t *first_piece; /* of each block; one more at the end */
        struct raw_request *raw_requests;
        struct bench_slot **finished; /* until wait() takes them */
        unsigned nr_finished;
};

/*
 * submit() starts all slots in engine->idle; wait() puts at least one finished slot into
 * done[] and returns how many; sync() makes durable what has finished.  Negative errno when
 * the queue is broken, or the sync failed.
 */
struct bench_side_ops {
        int (*submit)(struct bench_engine *e);
        int (*wait)(struct bench_engine *e, struct bench_slot **done);
        int (*sync)(struct bench_engine *e);
};

/* Fill in done[] from engine->finished. */
int bench_take_finished(struct bench_engine *e, struct bench_slot **done);

/* What registering all_buffers gave; false when it failed, which is said. */
bool bench_registered(struct bench_engine *e, int ret);

extern const struct bench_side_ops bench_raw_side;

/* False when the file does not lie on the device in a way that can be measured, which is said.
 */
bool bench_raw_init(struct bench_engine *e);
void bench_raw_done(struct bench_engine *e);

#endif
