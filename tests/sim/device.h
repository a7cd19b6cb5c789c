/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef SIM_DEVICE_H
#define SIM_DEVICE_H

/*
 * A device whose requests take their time on the clock of a run (baton.h), on top of one whose
 * power can be cut (uext4_bdev_open_sim).
 *
 * A request has an end by chance, so that requests of one queue, and of several threads, end in
 * any order; what it does, it does when its end is seen.  The power goes at an event: a request
 * that begins or ends, or when something has just become durable.  Some requests fail: nothing
 * of them is done, or all of it.
 */

#include <stdbool.h>

#include "uext4_bdev.h"

struct device_params {
        uint64_t seed;
        uint64_t cut_at;       /* event; 0: never */
        uint64_t cut_at_flush; /* so many flushes and writes with FUA have just ended; 0: never
                                */
        uint64_t fault_at;     /* event from which on requests may fail; 0: never */
        uint64_t nr_faults;    /* so many fail; 0: all from then on */
        uint32_t fault_ops;    /* 1 << UEXT4_BDEV_*: which kinds */
        uint64_t max_read_ns, max_write_ns, max_flush_ns; /* a few take longer */
};

/* Owns lower.  Used by threads of a run only. */
int device_open(struct uext4_bdev *lower, const struct device_params *params,
                struct uext4_bdev **ret_dev);

bool device_is_cut(struct uext4_bdev *dev);
uint64_t device_events(struct uext4_bdev *dev);

/* How many requests have failed that were not cut. */
uint64_t device_faults(struct uext4_bdev *dev);

#endif
