/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CUT_H
#define CUT_H

/*
 * Look at what power cuts would leave: take images of what may survive, recover each, and
 * hold it against the model.  What does not fit ends the process, having said how to repeat it.
 */

#include "model.h"

struct cutter {
        struct rig *r;
        struct model *m;
        uint64_t rand;

        uint64_t first, last; /* points to look at: first .. last - 1 */
        unsigned one_in;      /* only so many of those, by chance; 0: all */
        unsigned nr_random;   /* random images at each point */
        unsigned
                exhaust_writes; /* all outcomes where so many writes or fewer are not durable */
        unsigned exhaust_sectors; /* the same for sectors */
        unsigned second_one_in;   /* cut the recovery of one image in so many; 0: never */

        void *images[RIG_NR_DEVS], *work[RIG_NR_DEVS], *safe[RIG_NR_DEVS], *all[RIG_NR_DEVS];
        uint32_t last_crc; /* of the image with nothing that is not durable */
        uint32_t last_durable;

        uint64_t nr_points, nr_looked, nr_images, nr_second, nr_uncut;
};

/* Fields up to second_one_in are the caller's.  The rig may be opened later. */
void cutter_init(struct cutter *cut, const struct rig_config *c, struct rig *r,
                 struct model *m);
void cutter_done(struct cutter *cut);

/* A point: the function of a watch_hook, its argument a struct cutter. */
void cutter_look(void *arg, enum watch_when when, enum uext4_bdev_op op);

/* The same at once, after a real cut: all ways, the model's lock is not held. */
void cutter_look_now(struct cutter *cut);

/* What survives a real cut, recovered: images to go on with, and the model made to agree. */
void cutter_restart(struct cutter *cut, void *images[RIG_NR_DEVS]);

#endif
