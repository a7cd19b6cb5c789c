/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef BDEV_FILTER_H
#define BDEV_FILTER_H

/*
 * What the filters (fault, trace, slice) have in common: a device on top of
 * another one, both faces of which come down to two hooks.
 *
 * Ownership: a filter owns its lower device and closes it.  When opening the
 * filter fails, the lower device is still the caller's.
 */

#include "bdev/bdev.h"

/* One request on its way down. */
struct bdev_filter_io {
        enum uext4_bdev_op op;
        uint32_t flags;
        uint64_t pos; /* begin() may move it */
        uint64_t len; /* begin() may cut it down, to whole units; READ and WRITE only */
        bool queued;
};

struct bdev_filter;

/*
 * Called by any thread, many at a time, with no lock held.  A lock of their own they
 * release before they return.
 */
struct bdev_filter_hooks {
        /* 0: pass it on as *io is now.  -errno: the request ends with this. */
        int (*begin)(struct bdev_filter *f, struct bdev_filter_io *io);

        /* Once for each begin() that returned 0, before the request's done().  NULL is fine. */
        void (*end)(struct bdev_filter *f, const struct bdev_filter_io *io);
};

struct bdev_filter {
        struct uext4_bdev dev; /* [const after open] */
        struct uext4_bdev *lower;
        const struct bdev_filter_hooks *hooks;
};

static inline struct bdev_filter *bdev_filter_of(struct uext4_bdev *dev)
{
        return container_of(dev, struct bdev_filter, dev);
}

/* The methods of every filter.  close and mapping are its own. */
int64_t bdev_filter_read(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                         uint64_t pos);
int64_t bdev_filter_write(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                          uint64_t pos, uint32_t flags);
int bdev_filter_flush(struct uext4_bdev *dev);
int bdev_filter_discard(struct uext4_bdev *dev, uint64_t pos, uint64_t len);
int bdev_filter_write_zeroes(struct uext4_bdev *dev, uint64_t pos, uint64_t len,
                             uint32_t flags);

extern const struct uext4_bdev_queue_ops bdev_filter_queue_ops;

static inline bool bdev_is_filter(const struct uext4_bdev *dev)
{
        return dev->ops->queue == &bdev_filter_queue_ops;
}

#endif
