/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * queue.c - the queue that callers see, on top of a device's queue_ops.
 *
 * What is added here: the checks, the count of requests in flight, one thread
 * at a time in add and kick (submit_lock), and one thread at a time in reap (the
 * baton).  The baton is a flag, not a lock, so that done() runs with no lock held;
 * threads that want to drive meanwhile wait until the driver has made a round:
 *
 *      free --take_baton--> held --give_baton--> free, round + 1 if it completed something
 *
 *  I1. Only the holder of the baton completes requests, so that nr_in_flight falls
 *      under the baton only.
 *  I2. `dirty` is set before nr_in_flight rises, both under submit_lock, and falls under
 *      submit_lock after a kick that started everything.  A driver that
 *      holds the baton, sees requests in flight and then kicks if dirty therefore
 *      waits for something that has been started.  (The other way round, it could go to
 *      sleep on a request that only its sleeping owner would kick.)
 *  I3. A waiter leaves when `round` has moved, or takes over when the baton is
 *      free; give_baton() changes both under drive_lock and wakes all waiters.
 *      Nobody misses a wake-up.
 *
 * A filter's queue and the synchronous queue look after their submission
 * themselves (ops_lock_themselves()): a filter adds to its lower queue, whose
 * submit_lock has the same rank, and the synchronous queue does I/O in kick.
 */
#include "bdev/bdev.h"

#include <limits.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bdev/filter.h"
#include "util/alloc.h"
#include "util/lock.h"

struct uext4_bdev_queue {
        struct uext4_bdev *dev;                 /* [const] */
        const struct uext4_bdev_queue_ops *ops; /* [const] */
        void *impl;                             /* [const] */
        bool has_submit_lock;                   /* [const] */
        struct iovec *buffers;                  /* registered [const while in flight] */
        unsigned nr_buffers;                    /* [const while in flight] */

        struct mtx submit_lock; /* RANK_BDEV_QUEUE */
        _Atomic bool dirty;     /* something may be added and not started [I2] */
        _Atomic bool closing;   /* takes no more requests; set once */
        _Atomic int eventfd;    /* -1 until it is asked for; changed under drive_lock */

        _Alignas(CACHE_LINE) _Atomic unsigned nr_in_flight; /* [I1, I2] */
        struct mtx drive_lock;                              /* RANK_BDEV_DRIVE */
        struct cond baton_moved;
        bool driving;        /* somebody has the baton [drive_lock] */
        unsigned nr_waiting; /* threads in take_baton [drive_lock] */
        uint64_t round;      /* [drive_lock] */
};

/* ---- life ---- */

static bool ops_lock_themselves(const struct uext4_bdev_queue_ops *ops)
{
        return ops == &bdev_filter_queue_ops || ops == &bdev_sync_queue_ops;
}

/* A device whose own queue is -EOPNOTSUPP on this host gets the synchronous one, too. */
static int new_impl(struct uext4_bdev_queue *q, unsigned depth)
{
        int ret = -EOPNOTSUPP;

        q->ops = q->dev->ops->queue;
        if (q->ops)
                ret = q->ops->new_queue(q->dev, depth, &q->impl);
        if (ret == -EOPNOTSUPP) {
                q->ops = &bdev_sync_queue_ops;
                ret = q->ops->new_queue(q->dev, depth, &q->impl);
        }
        return ret;
}

int uext4_bdev_queue_new(struct uext4_bdev *dev, unsigned depth,
                         struct uext4_bdev_queue **ret_queue)
{
        struct uext4_bdev_queue *q = mem_alloc_aligned(CACHE_LINE, sizeof(*q));
        int ret;

        if (!q)
                return -ENOMEM;
        *q = (struct uext4_bdev_queue){.dev = dev, .eventfd = -1};
        ret = new_impl(q, max_t(unsigned, depth, 1));
        if (ret < 0) {
                mem_free(q);
                return ret;
        }
        q->has_submit_lock = !ops_lock_themselves(q->ops);
        mtx_init(&q->submit_lock, RANK_BDEV_QUEUE);
        mtx_init(&q->drive_lock, RANK_BDEV_DRIVE);
        cond_init(&q->baton_moved);
        *ret_queue = q;
        return 0;
}

static void submit_lock(struct uext4_bdev_queue *q)
{
        if (q->has_submit_lock)
                mtx_lock(&q->submit_lock);
}

static void submit_unlock(struct uext4_bdev_queue *q)
{
        if (q->has_submit_lock)
                mtx_unlock(&q->submit_lock);
}

void bdev_queue_cancel(struct uext4_bdev_queue *q)
{
        atomic_store(&q->closing, true);
        submit_lock(q);
        q->ops->cancel_all(q->impl);
        submit_unlock(q);
}

/* Helpers that came before the owner decided to free: let them out. */
static void wait_for_drivers(struct uext4_bdev_queue *q)
{
        mtx_lock(&q->drive_lock);
        while (q->driving || q->nr_waiting > 0)
                cond_wait(&q->baton_moved, &q->drive_lock);
        mtx_unlock(&q->drive_lock);
}

void uext4_bdev_queue_free(struct uext4_bdev_queue *q)
{
        int ret = 0;

        if (!q)
                return;
        bdev_queue_cancel(q);
        /* A done() in another thread may have added one just before `closing`: hence the loop.
         */
        do {
                while (ret >= 0 && uext4_bdev_queue_in_flight(q) > 0)
                        ret = uext4_bdev_queue_drive(q, -1);
                wait_for_drivers(q);
        } while (ret >= 0 && uext4_bdev_queue_in_flight(q) > 0);
        q->ops->free_queue(q->impl);
        mem_free(q->buffers);
        if (q->eventfd >= 0)
                close(q->eventfd);
        cond_done(&q->baton_moved);
        mtx_done(&q->drive_lock);
        mtx_done(&q->submit_lock);
        mem_free(q);
}

/* ---- submission ---- */

static bool is_in_buffer(const struct uext4_bdev_queue *q, const struct uext4_bdev_req *req)
{
        const struct iovec *buffer;
        size_t skip;

        if (!bdev_is_transfer(req->op) || req->nr_iov != 1 || req->buffer >= q->nr_buffers)
                return false;
        buffer = &q->buffers[req->buffer];
        skip = (uintptr_t)req->iov->iov_base - (uintptr_t)buffer->iov_base;
        return skip <= buffer->iov_len && req->iov->iov_len <= buffer->iov_len - skip;
}

static int check_req(const struct uext4_bdev_queue *q, const struct uext4_bdev_req *req)
{
        const uint32_t flags = req->flags & ~(uint32_t)UEXT4_BDEV_FIXED;
        int ret = bdev_check_range(q->dev, req->op, flags, req->pos, req->len);
        uint64_t sum;

        if (unlikely(req->flags != flags) && !is_in_buffer(q, req))
                return -EINVAL;
        if (ret < 0 || !bdev_is_transfer(req->op))
                return ret;
        ret = bdev_check_iov(q->dev, req->iov, req->nr_iov, &sum);
        if (ret < 0)
                return ret;
        return likely(sum == req->len) ? 0 : -EINVAL;
}

int uext4_bdev_queue_add(struct uext4_bdev_queue *q, struct uext4_bdev_req *req)
{
        int ret = check_req(q, req);

        if (unlikely(ret < 0))
                return ret;
        if (unlikely(atomic_load_explicit(&q->closing, memory_order_relaxed)))
                return -ECANCELED;
        req->queue = q;
        req->next = NULL;
        submit_lock(q);
        atomic_store_explicit(&q->dirty, true, memory_order_relaxed); /* I2 */
        atomic_fetch_add_explicit(&q->nr_in_flight, 1, memory_order_release);
        ret = q->ops->add(q->impl, req);
        if (unlikely(ret < 0))
                atomic_fetch_sub_explicit(&q->nr_in_flight, 1, memory_order_release);
        submit_unlock(q);
        return ret;
}

/*
 * A positive answer of ops->kick means that there was no room to start
 * everything: kick again after the next reap.
 */
static int kick(struct uext4_bdev_queue *q)
{
        int ret;

        if (!q->has_submit_lock)
                return q->ops->kick(q->impl);
        if (!atomic_load_explicit(&q->dirty, memory_order_relaxed))
                return 0;
        mtx_lock(&q->submit_lock);
        ret = q->ops->kick(q->impl);
        if (ret == 0)
                atomic_store_explicit(&q->dirty, false, memory_order_relaxed);
        mtx_unlock(&q->submit_lock);
        return min_t(int, ret, 0);
}

int uext4_bdev_queue_kick(struct uext4_bdev_queue *q)
{
        return kick(q);
}

unsigned uext4_bdev_queue_in_flight(struct uext4_bdev_queue *q)
{
        return atomic_load_explicit(&q->nr_in_flight, memory_order_acquire);
}

/* ---- buffers ---- */

static bool buffers_ok(const struct iovec *buffers, unsigned nr)
{
        if (nr < 1 || nr > UEXT4_MAX_BUFFERS)
                return false;
        for (unsigned i = 0; i < nr; i++) {
                if (!buffers[i].iov_base || buffers[i].iov_len == 0)
                        return false;
        }
        return true;
}

static int set_buffers(struct uext4_bdev_queue *q, const struct iovec *buffers, unsigned nr)
{
        int ret;

        if (!q->ops->set_buffers)
                return 0;
        submit_lock(q);
        ret = q->ops->set_buffers(q->impl, buffers, nr);
        submit_unlock(q);
        return ret;
}

int uext4_bdev_queue_register(struct uext4_bdev_queue *q, const struct iovec *buffers,
                              unsigned nr)
{
        struct iovec *copy;
        int ret;

        if (!buffers_ok(buffers, nr))
                return -EINVAL;
        if (q->nr_buffers > 0 || uext4_bdev_queue_in_flight(q) > 0)
                return -EBUSY;
        copy = mem_array(nr, sizeof(*copy));
        if (!copy)
                return -ENOMEM;
        memcpy(copy, buffers, nr * sizeof(*copy));
        ret = set_buffers(q, copy, nr);
        if (ret < 0) {
                mem_free(copy);
                return ret;
        }
        q->buffers = copy;
        q->nr_buffers = nr;
        return 0;
}

int uext4_bdev_queue_unregister(struct uext4_bdev_queue *q)
{
        int ret;

        if (uext4_bdev_queue_in_flight(q) > 0)
                return -EBUSY;
        if (q->nr_buffers == 0)
                return 0;
        ret = set_buffers(q, NULL, 0);
        mem_free(q->buffers);
        q->buffers = NULL;
        q->nr_buffers = 0;
        return ret;
}

/* ---- completion ---- */

/* Counted down first: in done() the request is its caller's again, and the queue may be idle.
 */
void bdev_queue_finish(struct uext4_bdev_req *req, int ret)
{
        req->result = ret;
        atomic_fetch_sub_explicit(&req->queue->nr_in_flight, 1, memory_order_release);
        req->done(req);
}

void uext4_bdev_complete(struct uext4_bdev_req *req, int64_t result)
{
        struct uext4_bdev *dev = req->queue->dev;
        int ret = (int)min_t(int64_t, result, 0);

        if (ret == 0 && bdev_is_transfer(req->op) && unlikely((uint64_t)result != req->len)) {
                const struct bdev_io io = bdev_io_of(req);

                ret = bdev_move_rest(dev, &io, result);
        }
        if (ret == 0 && unlikely(req->flags & UEXT4_BDEV_FUA))
                ret = bdev_settle_fua(dev, req->flags);
        bdev_queue_finish(req, ret);
}

/* ---- the baton ---- */

enum baton {
        BATON_MINE,    /* drive, then give_baton() */
        BATON_MOVED,   /* another thread has completed something */
        BATON_TIMEOUT, /* nothing happened in time */
};

static enum baton take_baton(struct uext4_bdev_queue *q, int64_t timeout_ns, uint64_t deadline)
{
        enum baton ret = BATON_MINE;
        uint64_t round;

        mtx_lock(&q->drive_lock);
        round = q->round;
        q->nr_waiting++;
        while (ret == BATON_MINE && q->driving) { /* I3 */
                bool in_time =
                        cond_wait_for(&q->baton_moved, &q->drive_lock, timeout_ns, deadline);

                if (q->round != round)
                        ret = BATON_MOVED;
                else if (!in_time)
                        ret = BATON_TIMEOUT;
        }
        q->nr_waiting--;
        if (ret == BATON_MINE)
                q->driving = true;
        else if (atomic_load_explicit(&q->closing, memory_order_relaxed))
                cond_broadcast(&q->baton_moved); /* for wait_for_drivers() */
        mtx_unlock(&q->drive_lock);
        return ret;
}

static void give_baton(struct uext4_bdev_queue *q, bool made_round)
{
        mtx_lock(&q->drive_lock);
        q->driving = false;
        q->round += made_round;
        if (q->nr_waiting > 0 || atomic_load_explicit(&q->closing, memory_order_relaxed))
                cond_broadcast(&q->baton_moved);
        mtx_unlock(&q->drive_lock);
}

/* With the baton: complete something, or find that there is nothing in time. */
static int drive_round(struct uext4_bdev_queue *q, int64_t timeout_ns, uint64_t deadline)
{
        while (uext4_bdev_queue_in_flight(q) > 0) {
                int64_t left;
                int ret = kick(q); /* I2 */

                if (ret < 0)
                        return ret;
                left = clock_left(timeout_ns, deadline);
                ret = q->ops->reap(q->impl, left);
                if (ret > 0) /* what done() added, and what had no room before */
                        return first_error(kick(q), ret);
                if (ret < 0 || left == 0)
                        return ret;
                sched_yield(); /* a filter's request is on its way down, or a signal came */
        }
        return 0;
}

int uext4_bdev_queue_drive(struct uext4_bdev_queue *q, int64_t timeout_ns)
{
        uint64_t deadline;
        int ret;

        if (uext4_bdev_queue_in_flight(q) == 0)
                return 0;
        deadline = clock_deadline(timeout_ns);
        ret = kick(q); /* even if it is another thread that will wait for it */
        if (ret < 0)
                return ret;
        switch (take_baton(q, timeout_ns, deadline)) {
        case BATON_MOVED:
                return 1;
        case BATON_TIMEOUT:
                return 0;
        case BATON_MINE:
                break;
        }
        ret = drive_round(q, timeout_ns, deadline);
        give_baton(q, ret != 0);
        return min_t(int, ret, 1);
}

/* ---- eventfd ---- */

int bdev_queue_use_eventfd(struct uext4_bdev_queue *q, int fd)
{
        int ret;

        submit_lock(q);
        ret = q->ops->set_eventfd(q->impl, fd);
        submit_unlock(q);
        return ret;
}

/* Requests may have finished before the descriptor was there: it starts readable then. */
static int new_eventfd(struct uext4_bdev_queue *q)
{
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        int ret;

        if (fd < 0)
                return -errno;
        ret = bdev_queue_use_eventfd(q, fd);
        if (ret < 0) {
                close(fd);
                return ret;
        }
        if (uext4_bdev_queue_in_flight(q) > 0)
                eventfd_write(fd, 1);
        return fd;
}

int uext4_bdev_queue_eventfd(struct uext4_bdev_queue *q)
{
        int fd;

        mtx_lock(&q->drive_lock);
        fd = q->eventfd;
        if (fd < 0) {
                fd = new_eventfd(q);
                if (fd >= 0)
                        q->eventfd = fd;
        }
        mtx_unlock(&q->drive_lock);
        return fd;
}
