/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * queue_sync.c - the queue of a device that has none: a request is carried out
 * through the synchronous face by the thread that kicks, and waits on a list
 * for the one that reaps.
 *
 *      add -> pending -> (carried out, no lock held) -> finished -> reap -> done()
 *
 * Several threads may kick at once; each takes one request at a time.  reap
 * carries out what is pending itself, so that it never sleeps on a request that
 * nobody has kicked.
 */
#include <sys/eventfd.h>

#include "bdev/bdev.h"
#include "util/alloc.h"
#include "util/lock.h"

struct sync_queue {
        struct uext4_bdev *dev;    /* [const] */
        struct mtx lock;           /* RANK_LEAF; never held across I/O or done() */
        struct cond wake;          /* something is pending or finished, and reap sleeps */
        struct bdev_fifo pending;  /* [lock] */
        struct bdev_fifo finished; /* with req->result set [lock] */
        bool reap_sleeps;          /* [lock] */
        int eventfd;               /* -1: none; not ours [lock] */
};

static int sync_new(struct uext4_bdev *dev, unsigned depth, void **ret_impl)
{
        struct sync_queue *sq = mem_zalloc(sizeof(*sq));

        if (!sq)
                return -ENOMEM;
        sq->dev = dev;
        sq->eventfd = -1;
        mtx_init(&sq->lock, RANK_LEAF);
        cond_init(&sq->wake);
        *ret_impl = sq;
        return 0;
}

static void sync_free(void *impl)
{
        struct sync_queue *sq = impl;

        cond_done(&sq->wake);
        mtx_done(&sq->lock);
        mem_free(sq);
}

static void wake_reaper_locked(struct sync_queue *sq)
{
        if (sq->reap_sleeps)
                cond_signal(&sq->wake);
}

static int sync_add(void *impl, struct uext4_bdev_req *req)
{
        struct sync_queue *sq = impl;

        mtx_lock(&sq->lock);
        bdev_fifo_push(&sq->pending, req);
        wake_reaper_locked(sq);
        mtx_unlock(&sq->lock);
        return 0;
}

static void finished_locked(struct sync_queue *sq, struct uext4_bdev_req *req, int result)
{
        req->result = result;
        bdev_fifo_push(&sq->finished, req);
        wake_reaper_locked(sq);
        if (sq->eventfd >= 0)
                eventfd_write(sq->eventfd, 1);
}

/* The lock is let go of while the device works. */
static void carry_out_pending_locked(struct sync_queue *sq)
{
        struct uext4_bdev_req *req;

        while ((req = bdev_fifo_pop(&sq->pending)) != NULL) {
                int result;

                mtx_unlock(&sq->lock);
                result = bdev_execute(sq->dev, req);
                mtx_lock(&sq->lock);
                finished_locked(sq, req, result);
        }
}

static int sync_kick(void *impl)
{
        struct sync_queue *sq = impl;

        mtx_lock(&sq->lock);
        carry_out_pending_locked(sq);
        mtx_unlock(&sq->lock);
        return 0;
}

/* False on a time-out. */
static bool sleep_locked(struct sync_queue *sq, int64_t timeout_ns, uint64_t deadline)
{
        bool in_time;

        sq->reap_sleeps = true;
        in_time = cond_wait_for(&sq->wake, &sq->lock, timeout_ns, deadline);
        sq->reap_sleeps = false;
        return in_time;
}

/* What has finished, perhaps after a while.  Other threads may be carrying requests out. */
static struct bdev_fifo take_finished(struct sync_queue *sq, int64_t timeout_ns)
{
        const uint64_t deadline = clock_deadline(timeout_ns);
        struct bdev_fifo ret;

        mtx_lock(&sq->lock);
        while (!sq->finished.first) {
                if (sq->pending.first)
                        carry_out_pending_locked(sq);
                else if (!sleep_locked(sq, timeout_ns, deadline))
                        break;
        }
        ret = sq->finished;
        sq->finished.first = NULL;
        mtx_unlock(&sq->lock);
        return ret;
}

static int sync_reap(void *impl, int64_t timeout_ns)
{
        struct bdev_fifo finished = take_finished(impl, timeout_ns);
        struct uext4_bdev_req *req;
        int nr = 0;

        while ((req = bdev_fifo_pop(&finished)) != NULL) {
                bdev_queue_finish(req, req->result);
                nr++;
        }
        return nr;
}

static void sync_cancel_all(void *impl)
{
        struct sync_queue *sq = impl;
        struct uext4_bdev_req *req;

        mtx_lock(&sq->lock);
        while ((req = bdev_fifo_pop(&sq->pending)) != NULL)
                finished_locked(sq, req, -ECANCELED);
        mtx_unlock(&sq->lock);
}

static int sync_set_eventfd(void *impl, int fd)
{
        struct sync_queue *sq = impl;

        mtx_lock(&sq->lock);
        sq->eventfd = fd;
        mtx_unlock(&sq->lock);
        return 0;
}

const struct uext4_bdev_queue_ops bdev_sync_queue_ops = {
        .new_queue = sync_new,
        .free_queue = sync_free,
        .add = sync_add,
        .kick = sync_kick,
        .reap = sync_reap,
        .cancel_all = sync_cancel_all,
        .set_eventfd = sync_set_eventfd,
};
