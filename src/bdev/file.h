/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef BDEV_FILE_H
#define BDEV_FILE_H

/* The file backend, as its queue (uring.c) sees it. */

#include <stdatomic.h>

#include "bdev/bdev.h"
#include "bdev/host.h"
#include "util/log.h"

struct bdev_file {
        struct uext4_bdev dev;
        struct host_file file;      /* [const after open] */
        struct log_sink log;        /* [const after open] */
        _Atomic bool said_no_uring; /* a queue has told the user already */
};

static inline struct bdev_file *bdev_file_of(struct uext4_bdev *dev)
{
        return container_of(dev, struct bdev_file, dev);
}

/*
 * How many segments of a vector one system call may take: all, or as many whole units
 * as IOV_MAX segments hold.  0 when not even one unit.
 */
int bdev_file_nr_segs(const struct uext4_bdev *dev, const struct iovec *iov, int nr_iov);

/* The queue of the file backend; new_queue is -EOPNOTSUPP on a host without io_uring. */
extern const struct uext4_bdev_queue_ops bdev_uring_ops;

/* Of pwritev2(2) since Linux 6.11; headers may be older. */
#ifndef RWF_ATOMIC
#define RWF_ATOMIC 0x40
#endif

#endif
