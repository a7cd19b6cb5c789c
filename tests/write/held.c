/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "held.h"

#include <errno.h>
#include <sys/eventfd.h>

#include "util/lock.h"

struct held {
        struct uext4_bdev dev;
        struct uext4_bdev *lower;
        held_fn *fn;
        void *arg;

        pthread_mutex_t lock;
        pthread_cond_t changed;
        bool stopped;        /* [lock] */
        unsigned waits_left; /* [lock] then it goes on; 0: it does not */
        unsigned nr_waiters; /* [lock] threads that wait while something is held */
        unsigned nr_held;    /* [lock] */
};

struct held_queue {
        struct held *held;
        struct uext4_bdev_req *first, **last; /* [held->lock] */
        int eventfd;                          /* [held->lock] */
};

static struct held *held_of(struct uext4_bdev *dev)
{
        return container_of(dev, struct held, dev);
}

/* ---- the synchronous face ---- */

static void tell(struct held *h, enum held_when when, const struct held_io *io)
{
        if (h->fn)
                h->fn(h->arg, when, io);
}

static int64_t sum(const struct iovec *iov, int nr)
{
        int64_t len = 0;

        for (int i = 0; i < nr; i++)
                len += (int64_t)iov[i].iov_len;
        return len;
}

static int64_t held_read(struct uext4_bdev *dev, const struct iovec *iov, int nr, uint64_t pos)
{
        struct held *h = held_of(dev);
        const int64_t len = sum(iov, nr);
        const struct held_io io = {
                .op = UEXT4_BDEV_READ, .pos = pos, .len = (uint64_t)len, .mem = iov->iov_base};
        int ret;

        tell(h, HELD_BEFORE, &io);
        ret = uext4_bdev_readv(h->lower, iov, nr, pos);
        tell(h, HELD_AFTER, &io);
        return ret < 0 ? ret : len;
}

static int64_t held_write(struct uext4_bdev *dev, const struct iovec *iov, int nr, uint64_t pos,
                          uint32_t flags)
{
        struct held *h = held_of(dev);
        const int64_t len = sum(iov, nr);
        const struct held_io io = {.op = UEXT4_BDEV_WRITE,
                                   .flags = flags,
                                   .pos = pos,
                                   .len = (uint64_t)len,
                                   .mem = iov->iov_base};
        int ret;

        tell(h, HELD_BEFORE, &io);
        ret = uext4_bdev_writev(h->lower, iov, nr, pos, flags);
        tell(h, HELD_AFTER, &io);
        return ret < 0 ? ret : len;
}

static int held_flush(struct uext4_bdev *dev)
{
        struct held *h = held_of(dev);
        const struct held_io io = {.op = UEXT4_BDEV_FLUSH};
        int ret;

        tell(h, HELD_BEFORE, &io);
        ret = uext4_bdev_flush(h->lower);
        tell(h, HELD_AFTER, &io);
        return ret;
}

static int held_discard(struct uext4_bdev *dev, uint64_t pos, uint64_t len)
{
        return uext4_bdev_discard(held_of(dev)->lower, pos, len);
}

static int held_write_zeroes(struct uext4_bdev *dev, uint64_t pos, uint64_t len, uint32_t flags)
{
        struct held *h = held_of(dev);
        const struct held_io io = {
                .op = UEXT4_BDEV_WRITE_ZEROES, .flags = flags, .pos = pos, .len = len};
        int ret;

        tell(h, HELD_BEFORE, &io);
        ret = uext4_bdev_write_zeroes(h->lower, pos, len, flags);
        tell(h, HELD_AFTER, &io);
        return ret;
}

static void held_close(struct uext4_bdev *dev)
{
        struct held *h = held_of(dev);

        uext4_bdev_close(h->lower);
        pthread_cond_destroy(&h->changed);
        pthread_mutex_destroy(&h->lock);
        free(h);
}

/* ---- queues ---- */

static int queue_new(struct uext4_bdev *dev, unsigned depth, void **ret_impl)
{
        struct held_queue *q = t_alloc(sizeof(*q));

        q->held = held_of(dev);
        q->last = &q->first;
        q->eventfd = -1;
        *ret_impl = q;
        return 0;
}

static void queue_free(void *impl)
{
        free(impl);
}

static int queue_add(void *impl, struct uext4_bdev_req *req)
{
        struct held_queue *q = impl;

        pthread_mutex_lock(&q->held->lock);
        req->next = NULL;
        *q->last = req;
        q->last = &req->next;
        q->held->nr_held++;
        if (q->eventfd >= 0)
                eventfd_write(q->eventfd, 1);
        pthread_mutex_unlock(&q->held->lock);
        return 0;
}

static int queue_kick(void *impl)
{
        return 0;
}

static void go_locked(struct held *h)
{
        h->stopped = false;
        h->waits_left = 0;
        pthread_cond_broadcast(&h->changed);
}

/* One wait has begun; perhaps it was the last one that had to. */
static void note_waiter_locked(struct held *h)
{
        h->nr_waiters++;
        if (h->waits_left > 0 && --h->waits_left == 0)
                go_locked(h);
        else
                pthread_cond_broadcast(&h->changed);
}

static void wait_while_stopped_locked(struct held *h, int64_t timeout_ns)
{
        const uint64_t deadline = clock_ns() + (timeout_ns > 0 ? (uint64_t)timeout_ns : 0);
        const struct timespec at = {.tv_sec = (time_t)(deadline / 1000000000),
                                    .tv_nsec = (long)(deadline % 1000000000)};
        int ret = 0;

        note_waiter_locked(h);
        while (h->stopped && ret == 0)
                ret = timeout_ns < 0 ? pthread_cond_wait(&h->changed, &h->lock)
                                     : pthread_cond_timedwait(&h->changed, &h->lock, &at);
        h->nr_waiters--;
}

/* Carry out what there is; its result is at hand at once. */
static int queue_reap(void *impl, int64_t timeout_ns)
{
        struct held_queue *q = impl;
        struct held *h = q->held;
        struct uext4_bdev_req *req;
        int nr = 0;

        pthread_mutex_lock(&h->lock);
        if (h->stopped && q->first && timeout_ns != 0)
                wait_while_stopped_locked(h, timeout_ns);
        while (!h->stopped && (req = q->first)) {
                int64_t ret;

                q->first = req->next;
                if (!q->first)
                        q->last = &q->first;
                h->nr_held--;
                pthread_mutex_unlock(&h->lock);
                ret = req->op == UEXT4_BDEV_READ
                              ? uext4_bdev_readv(h->lower, req->iov, req->nr_iov, req->pos)
                              : uext4_bdev_writev(h->lower, req->iov, req->nr_iov, req->pos,
                                                  req->flags);
                uext4_bdev_complete(req, ret < 0 ? ret : (int64_t)req->len);
                nr++;
                pthread_mutex_lock(&h->lock);
        }
        pthread_mutex_unlock(&h->lock);
        return nr;
}

static void queue_cancel_all(void *impl)
{
        struct held_queue *q = impl;

        held_go(&q->held->dev); /* they are carried out */
}

static int queue_set_eventfd(void *impl, int fd)
{
        struct held_queue *q = impl;

        pthread_mutex_lock(&q->held->lock);
        q->eventfd = fd;
        pthread_mutex_unlock(&q->held->lock);
        return 0;
}

static const struct uext4_bdev_queue_ops queue_ops = {
        .new_queue = queue_new,
        .free_queue = queue_free,
        .add = queue_add,
        .kick = queue_kick,
        .reap = queue_reap,
        .cancel_all = queue_cancel_all,
        .set_eventfd = queue_set_eventfd,
};

static const struct uext4_bdev_ops held_ops = {
        .name = "held",
        .read = held_read,
        .write = held_write,
        .flush = held_flush,
        .discard = held_discard,
        .write_zeroes = held_write_zeroes,
        .close = held_close,
        .queue = &queue_ops,
};

/* ---- the test's side ---- */

struct uext4_bdev *held_open(struct uext4_bdev *lower)
{
        struct held *h = t_alloc(sizeof(*h));
        pthread_condattr_t attr;

        h->lower = lower;
        pthread_mutex_init(&h->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&h->changed, &attr);
        pthread_condattr_destroy(&attr);
        T_CHECK(uext4_bdev_init(&h->dev, &held_ops, uext4_bdev_geometry(lower)) == 0);
        return &h->dev;
}

void held_set_hook(struct uext4_bdev *dev, held_fn *fn, void *arg)
{
        struct held *h = held_of(dev);

        h->arg = arg;
        h->fn = fn;
}

void held_stop_until_waited(struct uext4_bdev *dev, unsigned nr)
{
        struct held *h = held_of(dev);

        pthread_mutex_lock(&h->lock);
        h->stopped = true;
        h->waits_left = nr;
        pthread_mutex_unlock(&h->lock);
}

void held_stop(struct uext4_bdev *dev)
{
        held_stop_until_waited(dev, 0);
}

void held_go(struct uext4_bdev *dev)
{
        struct held *h = held_of(dev);

        pthread_mutex_lock(&h->lock);
        go_locked(h);
        pthread_mutex_unlock(&h->lock);
}

unsigned held_nr(struct uext4_bdev *dev)
{
        struct held *h = held_of(dev);
        unsigned nr;

        pthread_mutex_lock(&h->lock);
        nr = h->nr_held;
        pthread_mutex_unlock(&h->lock);
        return nr;
}

void held_wait_for_waiter(struct uext4_bdev *dev)
{
        struct held *h = held_of(dev);

        pthread_mutex_lock(&h->lock);
        while (h->nr_waiters == 0)
                pthread_cond_wait(&h->changed, &h->lock);
        pthread_mutex_unlock(&h->lock);
}

/* ---- gates ---- */

void held_gate_arm(struct held_gate *g)
{
        pthread_mutex_lock(&g->lock);
        g->is_armed = true;
        g->is_at = g->may_go = false;
        pthread_mutex_unlock(&g->lock);
}

void held_gate_pass(struct held_gate *g)
{
        pthread_mutex_lock(&g->lock);
        if (g->is_armed) {
                g->is_armed = false;
                g->is_at = true;
                pthread_cond_broadcast(&g->changed);
                while (!g->may_go)
                        pthread_cond_wait(&g->changed, &g->lock);
        }
        pthread_mutex_unlock(&g->lock);
}

void held_gate_wait(struct held_gate *g)
{
        pthread_mutex_lock(&g->lock);
        while (!g->is_at)
                pthread_cond_wait(&g->changed, &g->lock);
        pthread_mutex_unlock(&g->lock);
}

void held_gate_open(struct held_gate *g)
{
        pthread_mutex_lock(&g->lock);
        g->may_go = true;
        pthread_cond_broadcast(&g->changed);
        pthread_mutex_unlock(&g->lock);
}
