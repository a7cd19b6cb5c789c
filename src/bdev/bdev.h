/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef BDEV_BDEV_H
#define BDEV_BDEV_H

/*
 * The inner side of the block-device contract (uext4_bdev.h): what the files of
 * this folder share, and the few things that higher layers need beyond the
 * public functions.
 */

#include <stdbool.h>

#include "uext4_bdev.h"

#include "util/base.h"

/* ---- checks (bdev.c) ---- */

/*
 * May this device carry out `op` on [pos, pos + len)?  0, -EROFS, -EINVAL for
 * a flag or an alignment, -ENXIO beyond the end.  For FLUSH the range is ignored.
 */
must_check int bdev_check_range(const struct uext4_bdev *dev, enum uext4_bdev_op op,
                                uint32_t flags, uint64_t pos, uint64_t len);

/* Do the vector's memory and lengths fit the device?  Gives their sum. */
must_check int bdev_check_iov(const struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                              uint64_t *ret_len);

/* Does it have memory? */
static inline bool bdev_is_transfer(enum uext4_bdev_op op)
{
        return op == UEXT4_BDEV_READ || op == UEXT4_BDEV_WRITE;
}

/* Positions, lengths and the points where a transfer may be split are multiples of it. */
static inline uint64_t bdev_unit(const struct uext4_bdev *dev)
{
        return max_t(uint64_t, dev->geo.logical_block, dev->geo.mem_align);
}

/* All of the device as memory, or NULL. */
void *bdev_mapping(struct uext4_bdev *dev);

/* ---- whole-or-error (bdev.c) ---- */

/* One transfer, checked. */
struct bdev_io {
        enum uext4_bdev_op op; /* READ or WRITE */
        uint32_t flags;
        const struct iovec *iov;
        int nr_iov;
        uint64_t pos;
        uint64_t len;
};

/* Of a READ or WRITE of a queue, for the methods of the synchronous face. */
static inline struct bdev_io bdev_io_of(const struct uext4_bdev_req *req)
{
        return (struct bdev_io){
                .op = req->op,
                .flags = req->flags & ~(uint32_t)UEXT4_BDEV_FIXED,
                .iov = req->iov,
                .nr_iov = req->nr_iov,
                .pos = req->pos,
                .len = req->len,
        };
}

/*
 * The device answered `moved` (bytes or -errno) to `io`: move what is missing,
 * synchronously.  An answer below one unit is an early end, -EIO.
 */
must_check int bdev_move_rest(struct uext4_bdev *dev, const struct bdev_io *io, int64_t moved);

/* Carry a checked request out through the synchronous face; 0 or -errno. */
must_check int bdev_execute(struct uext4_bdev *dev, const struct uext4_bdev_req *req);

/* What is left to do after a write with these flags has completed; 0 or -errno. */
must_check int bdev_settle_fua(struct uext4_bdev *dev, uint32_t flags);

/* Zeros by way of ops->write, for a device that has nothing better. */
must_check int bdev_zero_by_writing(struct uext4_bdev *dev, uint64_t pos, uint64_t len,
                                    uint32_t flags);

/* ---- queues (queue.c, queue_sync.c) ---- */

/*
 * From inside of reap: `req` has ended with `ret`, 0 for all of it or -errno.
 * uext4_bdev_complete() without the finishing of short counts.
 */
void bdev_queue_finish(struct uext4_bdev_req *req, int ret);

/* A list of requests, linked by their own `next` while they are a queue's. */
struct bdev_fifo {
        struct uext4_bdev_req *first;
        struct uext4_bdev_req *last; /* undefined when empty */
};

static inline void bdev_fifo_push(struct bdev_fifo *fifo, struct uext4_bdev_req *req)
{
        req->next = NULL;
        if (fifo->first)
                fifo->last->next = req;
        else
                fifo->first = req;
        fifo->last = req;
}

/* NULL when empty. */
static inline struct uext4_bdev_req *bdev_fifo_pop(struct bdev_fifo *fifo)
{
        struct uext4_bdev_req *req = fifo->first;

        if (req)
                fifo->first = req->next;
        return req;
}

/* What uext4_bdev_queue_free() does first.  The queue takes no more requests afterwards. */
void bdev_queue_cancel(struct uext4_bdev_queue *queue);

/* Signal `fd`, which belongs to somebody else. */
must_check int bdev_queue_use_eventfd(struct uext4_bdev_queue *queue, int fd);

/* The queue of devices that have none: requests are carried out when kicked. */
extern const struct uext4_bdev_queue_ops bdev_sync_queue_ops;

/* ---- memory as a device (mem.c) ---- */

struct bdev_mapped {
        struct uext4_bdev dev;
        char *map; /* dev.geo.size bytes */
};

int64_t bdev_mapped_read(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                         uint64_t pos);
int64_t bdev_mapped_write(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                          uint64_t pos, uint32_t flags);
int bdev_mapped_write_zeroes(struct uext4_bdev *dev, uint64_t pos, uint64_t len,
                             uint32_t flags);
void *bdev_mapped_mapping(struct uext4_bdev *dev);

/* The overlay does not own its lower device after all: closing the overlay leaves it open. */
void bdev_cow_borrow(struct uext4_bdev *cow);

#endif
