/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CHANGE_SWEEP_H
#define CHANGE_SWEEP_H

/*
 * One run of a test again and again, in which each time something else fails: the Nth request
 * of the device, or all from the Nth on, or the Nth allocation of memory, for each N that a run
 * has.
 *
 * Who uses it says what a run does, and looks at what is left, on a device that works again.
 * A run that does not end is ended here, with the name of what had failed.
 */

#include "rig.h"

struct sweep {
        /* By the test. */
        const char *name;   /* of the configuration */
        struct t_image img; /* that each run begins with */
        /* 0, or what has failed; everything is given back in any case. */
        int (*run)(struct sweep *s, struct uext4_bdev *dev);
        /* After each run; `img` is the test's to change.  It ends the process if it must. */
        void (*look)(struct sweep *s, struct t_image *img);

        /* For it. */
        char what[128]; /* fails */
        uint64_t nr_runs, nr_failed;
};

enum sweep_kind {
        SWEEP_READS,
        SWEEP_WRITES,
        SWEEP_FLUSHES,
        SWEEP_DISCARDS,
        SWEEP_SHORT_READS, /* they move a sector less than they should */
        SWEEP_SHORT_WRITES,
        SWEEP_MEMORY,
        SWEEP_NR_KINDS,
};

/* For each `step`th N, from one on that UEXT4_SEED chooses; first without a fault. */
void sweep_kind(struct sweep *s, enum sweep_kind kind, uint64_t step);

#endif
