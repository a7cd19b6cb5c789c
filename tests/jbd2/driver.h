/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef DRIVER_H
#define DRIVER_H

/*
 * Random work on a journal: handles that change, create, free and forget blocks, restart and
 * extend, order data, commit; and file data in blocks that were metadata before (J39).  Each
 * step is written down in a model first.
 *
 * Several drivers, one a thread, share a model.  What keeps them apart in a block is a lock of
 * the block's, taken under the handle and in order of block numbers.
 */

#include "model.h"

struct ordered;

struct driver_shared {
        struct rig *r;
        struct model *m;
        pthread_mutex_t *block_locks; /* of the metadata */
        atomic_bool *data_busy;       /* of the data */
        struct ordered *over;         /* whose transaction has ended [model.lock] */
        atomic_uint nr_callbacks_due; /* added and not called yet */
        unsigned max_blocks;          /* that a handle changes; 0: 6 */
        bool may_fail;                /* the device fails sooner or later */
        bool no_waits;                /* nobody asks for durability, but by commits of size */
};

struct driver {
        struct driver_shared *s;
        uint64_t rand;
        uint64_t nr_handles, nr_commits, nr_freed, nr_reused;
};

/* The model must have been set up for the rig.  `j` may be loaded anew between calls. */
void driver_shared_init(struct driver_shared *s, struct rig *r, struct model *m);
void driver_shared_done(struct driver_shared *s);

/* The tid of the first transaction, into the model; needs a handle that changes nothing. */
void driver_learn_tid(struct driver_shared *s);

/* One step; -errno (of an abort, mostly) only when s->may_fail. */
int driver_step(struct driver *d);

/* Steps until the device fails, `nr` at most; how many. */
uint64_t driver_run(struct driver *d, uint64_t nr);

#endif
