/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * filter.c - both faces of a device that stands on another one.
 *
 * A filter's queue wraps a queue of the lower device.  Each request has a twin
 * that goes down in its place; when the twin is done the request completes, in
 * the thread that drives and in the order that the lower device gives.  A
 * request that begin() fails never goes down: it waits on `failed` until
 * somebody reaps.
 *
 *  I1. No lock is held across a call of the lower device, nor across begin() or
 *      end(): filters stack, and their locks are of one rank.
 *  I2. Twins are kept for reuse, so that a queue in steady state allocates nothing.
 */
#include "bdev/filter.h"

#include <sys/eventfd.h>

#include "bdev/vec.h"
#include "util/alloc.h"
#include "util/lock.h"

/* ---- vectors ---- */

/* The first `len` bytes of a vector, as a vector of its own; NULL without memory. */
static struct iovec *iov_cut(const struct iovec *iov, int nr_iov, uint64_t len, int *ret_nr)
{
        struct iovec *cut = mem_array((size_t)nr_iov, sizeof(*cut));
        int nr = 0;

        if (!cut)
                return NULL;
        while (len > 0) {
                cut[nr] = iov[nr];
                cut[nr].iov_len = min_t(uint64_t, iov[nr].iov_len, len);
                len -= cut[nr++].iov_len;
        }
        *ret_nr = nr;
        return cut;
}

/* ---- the synchronous face ---- */

static int begin(struct bdev_filter *f, struct bdev_filter_io *io)
{
        return f->hooks->begin(f, io);
}

static void end(struct bdev_filter *f, const struct bdev_filter_io *io)
{
        if (f->hooks->end)
                f->hooks->end(f, io);
}

static int lower_transfer(struct bdev_filter *f, const struct bdev_filter_io *io,
                          const struct iovec *iov, int nr_iov)
{
        if (io->op == UEXT4_BDEV_READ)
                return uext4_bdev_readv(f->lower, iov, nr_iov, io->pos);
        return uext4_bdev_writev(f->lower, iov, nr_iov, io->pos, io->flags);
}

/* A write that is cut down is torn; and cut down to nothing it has no memory. */
static uint32_t flags_when_cut(uint32_t flags)
{
        return flags & ~(uint32_t)(UEXT4_BDEV_ATOMIC | UEXT4_BDEV_FIXED);
}

static int cut_transfer(struct bdev_filter *f, const struct bdev_filter_io *io,
                        const struct iovec *iov, int nr_iov)
{
        int nr;
        _cleanup_mem_ struct iovec *cut = iov_cut(iov, nr_iov, io->len, &nr);

        return cut ? lower_transfer(f, io, cut, nr) : -ENOMEM;
}

static int64_t filter_transfer(struct bdev_filter *f, struct bdev_filter_io *io,
                               const struct iovec *iov, int nr_iov)
{
        const uint64_t asked = io->len;
        int ret = begin(f, io);

        if (ret < 0)
                return ret;
        if (io->len < asked) {
                io->flags = flags_when_cut(io->flags);
                ret = cut_transfer(f, io, iov, nr_iov);
        } else {
                ret = lower_transfer(f, io, iov, nr_iov);
        }
        end(f, io);
        return ret < 0 ? ret : (int64_t)io->len;
}

int64_t bdev_filter_read(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                         uint64_t pos)
{
        struct bdev_filter_io io = {
                .op = UEXT4_BDEV_READ,
                .pos = pos,
                .len = vec_sum(iov, nr_iov),
        };

        return filter_transfer(bdev_filter_of(dev), &io, iov, nr_iov);
}

int64_t bdev_filter_write(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                          uint64_t pos, uint32_t flags)
{
        struct bdev_filter_io io = {
                .op = UEXT4_BDEV_WRITE,
                .flags = flags,
                .pos = pos,
                .len = vec_sum(iov, nr_iov),
        };

        return filter_transfer(bdev_filter_of(dev), &io, iov, nr_iov);
}

static int lower_other(struct bdev_filter *f, const struct bdev_filter_io *io)
{
        switch (io->op) {
        case UEXT4_BDEV_FLUSH:
                return uext4_bdev_flush(f->lower);
        case UEXT4_BDEV_DISCARD:
                return uext4_bdev_discard(f->lower, io->pos, io->len);
        default:
                return uext4_bdev_write_zeroes(f->lower, io->pos, io->len, io->flags);
        }
}

static int filter_other(struct uext4_bdev *dev, struct bdev_filter_io io)
{
        struct bdev_filter *f = bdev_filter_of(dev);
        int ret = begin(f, &io);

        if (ret < 0)
                return ret;
        ret = lower_other(f, &io);
        end(f, &io);
        return ret;
}

int bdev_filter_flush(struct uext4_bdev *dev)
{
        return filter_other(dev, (struct bdev_filter_io){.op = UEXT4_BDEV_FLUSH});
}

int bdev_filter_discard(struct uext4_bdev *dev, uint64_t pos, uint64_t len)
{
        const struct bdev_filter_io io = {.op = UEXT4_BDEV_DISCARD, .pos = pos, .len = len};

        return filter_other(dev, io);
}

int bdev_filter_write_zeroes(struct uext4_bdev *dev, uint64_t pos, uint64_t len, uint32_t flags)
{
        const struct bdev_filter_io io = {
                .op = UEXT4_BDEV_WRITE_ZEROES,
                .flags = flags,
                .pos = pos,
                .len = len,
        };

        return filter_other(dev, io);
}

/* ---- the queue ---- */

struct filter_queue {
        struct bdev_filter *f;
        struct uext4_bdev_queue *lower; /* [const] */

        struct mtx lock;         /* RANK_LEAF, I1 */
        struct twin *spare;      /* I2 [lock] */
        struct bdev_fifo failed; /* with req->result set [lock] */
        int eventfd;             /* -1: none; not ours [lock] */
};

struct twin {
        struct uext4_bdev_req down; /* goes to the lower queue */
        struct uext4_bdev_req *up;  /* in whose place it goes */
        struct filter_queue *fq;
        struct bdev_filter_io io;
        struct iovec *cut; /* NULL, or the shortened vector of a request cut down */
        struct twin *next; /* in fq->spare */
};

static struct twin *twin_get(struct filter_queue *fq)
{
        struct twin *t;

        mtx_lock(&fq->lock);
        t = fq->spare;
        if (t)
                fq->spare = t->next;
        mtx_unlock(&fq->lock);
        if (!t)
                t = mem_alloc(sizeof(*t));
        return t;
}

static void twin_put(struct twin *t)
{
        struct filter_queue *fq = t->fq;

        mem_free(t->cut);
        mtx_lock(&fq->lock);
        t->next = fq->spare;
        fq->spare = t;
        mtx_unlock(&fq->lock);
}

static int filter_queue_new(struct uext4_bdev *dev, unsigned depth, void **ret_impl)
{
        struct bdev_filter *f = bdev_filter_of(dev);
        struct filter_queue *fq = mem_zalloc(sizeof(*fq));
        int ret;

        if (!fq)
                return -ENOMEM;
        ret = uext4_bdev_queue_new(f->lower, depth, &fq->lower);
        if (ret < 0) {
                mem_free(fq);
                return ret;
        }
        fq->f = f;
        fq->eventfd = -1;
        mtx_init(&fq->lock, RANK_LEAF);
        *ret_impl = fq;
        return 0;
}

static void filter_queue_free(void *impl)
{
        struct filter_queue *fq = impl;

        uext4_bdev_queue_free(fq->lower);
        while (fq->spare) {
                struct twin *t = fq->spare;

                fq->spare = t->next;
                mem_free(t);
        }
        mtx_done(&fq->lock);
        mem_free(fq);
}

static void twin_done(struct uext4_bdev_req *down)
{
        struct twin *t = container_of(down, struct twin, down);
        struct uext4_bdev_req *up = t->up;
        int64_t result = down->result;

        if (result == 0 && bdev_is_transfer(t->io.op))
                result = (int64_t)t->io.len;
        end(t->fq->f, &t->io);
        twin_put(t);
        uext4_bdev_complete(up, result);
}

/* begin() said no: the request ends here, as soon as somebody reaps. */
static void fail(struct filter_queue *fq, struct uext4_bdev_req *req, int error)
{
        req->result = error;
        mtx_lock(&fq->lock);
        bdev_fifo_push(&fq->failed, req);
        if (fq->eventfd >= 0)
                eventfd_write(fq->eventfd, 1);
        mtx_unlock(&fq->lock);
}

static int pass_down(struct twin *t)
{
        struct uext4_bdev_req *up = t->up;

        t->down = (struct uext4_bdev_req){
                .op = up->op,
                .flags = up->flags,
                .pos = t->io.pos,
                .len = t->io.len,
                .iov = up->iov,
                .nr_iov = up->nr_iov,
                .buffer = up->buffer,
                .done = twin_done,
        };
        if (t->io.len < up->len && bdev_is_transfer(up->op)) {
                t->cut = iov_cut(up->iov, up->nr_iov, t->io.len, &t->down.nr_iov);
                if (!t->cut)
                        return -ENOMEM;
                t->down.iov = t->cut;
                t->down.flags = flags_when_cut(up->flags);
        }
        return uext4_bdev_queue_add(t->fq->lower, &t->down);
}

static int filter_queue_add(void *impl, struct uext4_bdev_req *req)
{
        struct filter_queue *fq = impl;
        struct twin *t = twin_get(fq);
        int ret;

        if (!t)
                return -ENOMEM;
        t->fq = fq;
        t->up = req;
        t->cut = NULL;
        t->io = (struct bdev_filter_io){req->op, req->flags, req->pos, req->len, true};
        ret = begin(fq->f, &t->io);
        if (ret < 0) {
                twin_put(t);
                fail(fq, req, ret);
                return 0;
        }
        ret = pass_down(t);
        if (ret < 0) {
                end(fq->f, &t->io);
                twin_put(t);
        }
        return ret;
}

static int filter_queue_kick(void *impl)
{
        struct filter_queue *fq = impl;

        return uext4_bdev_queue_kick(fq->lower);
}

static int complete_failed(struct filter_queue *fq)
{
        struct bdev_fifo failed;
        struct uext4_bdev_req *req;
        int nr = 0;

        mtx_lock(&fq->lock);
        failed = fq->failed;
        fq->failed.first = NULL;
        mtx_unlock(&fq->lock);
        while ((req = bdev_fifo_pop(&failed)) != NULL) {
                uext4_bdev_complete(req, req->result);
                nr++;
        }
        return nr;
}

/* Requests that fail while we sleep in the lower queue are seen when that wakes up. */
static int filter_queue_reap(void *impl, int64_t timeout_ns)
{
        struct filter_queue *fq = impl;
        int nr = complete_failed(fq);
        int ret = uext4_bdev_queue_drive(fq->lower, nr > 0 ? 0 : timeout_ns);

        if (ret < 0)
                return ret;
        return nr > 0 ? nr : ret + complete_failed(fq);
}

static void filter_queue_cancel_all(void *impl)
{
        struct filter_queue *fq = impl;

        bdev_queue_cancel(fq->lower);
}

static int filter_queue_set_eventfd(void *impl, int fd)
{
        struct filter_queue *fq = impl;

        mtx_lock(&fq->lock);
        fq->eventfd = fd;
        mtx_unlock(&fq->lock);
        return bdev_queue_use_eventfd(fq->lower, fd);
}

static int filter_queue_set_buffers(void *impl, const struct iovec *buffers, unsigned nr)
{
        struct filter_queue *fq = impl;

        return nr > 0 ? uext4_bdev_queue_register(fq->lower, buffers, nr)
                      : uext4_bdev_queue_unregister(fq->lower);
}

const struct uext4_bdev_queue_ops bdev_filter_queue_ops = {
        .new_queue = filter_queue_new,
        .free_queue = filter_queue_free,
        .add = filter_queue_add,
        .kick = filter_queue_kick,
        .reap = filter_queue_reap,
        .cancel_all = filter_queue_cancel_all,
        .set_eventfd = filter_queue_set_eventfd,
        .set_buffers = filter_queue_set_buffers,
};
