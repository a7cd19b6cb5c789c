/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CHANGE_CUTS_H
#define CHANGE_CUTS_H

/*
 * Look at what power cuts would leave of a file system that is being changed: at each request
 * of its device (../jbd2/watch.h) take images of what may survive, and mount each to write, so
 * that it is recovered and its orphans are helped; what is found then must agree with the
 * model, and e2fsck be content.  The mount may be cut, too, and the next one must do it.
 */

#include "../jbd2/watch.h"
#include "model.h"

struct cutter {
        /* The caller's. */
        const char *name;
        uint64_t rand;
        unsigned one_in;        /* look at so many points only, by chance; 0: all */
        unsigned nr_random;     /* random images at each point */
        unsigned fsck_one_in;   /* of the images; 1: each */
        unsigned second_one_in; /* cut the recovery of one image in so many; 0: never */
        uint64_t max_looked;    /* 0: no limit */
        const char *options;    /* for mounts, beside RIG_OPTIONS; or NULL */

        struct model *md; /* NULL: nothing is looked at */
        struct uext4_bdev *sim, *dev;
        struct watch_hook hook;
        pthread_mutex_t lock;
        size_t size, log_super;
        size_t groups, groups_len, log_inode, log_inode_len; /* what leads to the log, bytes */
        char *image, *work, *safe, *all;
        uint32_t last_crc;
        uint64_t last_ops;

        uint64_t nr_points, nr_looked, nr_images, nr_fsck, nr_second;
};

/* A simulated device with the image, to be mounted: cut->dev. */
void cutter_open(struct cutter *cut, const struct t_image *img);
void cutter_close(struct cutter *cut);

/* Look from now on; stop it. */
void cutter_begin(struct cutter *cut, struct model *md);
void cutter_end(struct cutter *cut);

/* What the device would have now if all, or nothing of what is not durable survived. */
void cutter_take(struct cutter *cut, enum uext4_bdev_sim_mode mode, struct t_image *img);

/* Recover the image, hold it against the model, and ask e2fsck; the process ends if not. */
void cutter_check(struct cutter *cut, char *image, bool junk, const char *how);

#endif
