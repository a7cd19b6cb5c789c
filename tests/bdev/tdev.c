/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tdev.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void t_file_new(const char *dir, uint64_t size, char *ret_path, size_t path_size)
{
        int fd;

        if (!dir)
                dir = getenv("TMPDIR");
        snprintf(ret_path, path_size, "%s/uext4-bdev-XXXXXX", dir ? dir : "/tmp");
        fd = mkstemp(ret_path);
        T_CHECK(fd >= 0);
        T_CHECK(ftruncate(fd, (off_t)size) == 0);
        close(fd);
}

/* splitmix64, one stream per thread */
uint64_t t_random(void)
{
        static _Thread_local uint64_t state;
        uint64_t x;

        if (state == 0) {
                const char *seed = getenv("UEXT4_SEED");

                state = seed ? strtoull(seed, NULL, 0) : 1;
                print_message("UEXT4_SEED=%llu\n", (unsigned long long)state);
        }
        x = state += 0x9e3779b97f4a7c15u;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        return x ^ (x >> 31);
}

uint64_t t_random_below(uint64_t limit)
{
        return t_random() % limit;
}

void t_fill(void *buf, size_t len)
{
        uint64_t x = t_random();
        char *p = buf;

        for (size_t i = 0; i < len; i += sizeof(x)) {
                uint64_t word = x = x * 6364136223846793005u + 1442695040888963407u;

                word ^= word >> 32;
                memcpy(p + i, &word, len - i < sizeof(word) ? len - i : sizeof(word));
        }
}

void *t_alloc(size_t len)
{
        void *ptr;

        T_CHECK(posix_memalign(&ptr, 65536, len) == 0);
        return ptr;
}

/* ---- the user's device ---- */

struct user {
        struct t_user pub;
        pthread_mutex_t lock;
        bool held; /* [lock] */
};

static struct user *user_of(struct uext4_bdev *dev)
{
        return (struct user *)(void *)dev;
}

static size_t sum(const struct iovec *iov, int nr_iov)
{
        size_t len = 0;

        for (int i = 0; i < nr_iov; i++)
                len += iov[i].iov_len;
        return len;
}

/* How much of `len` to move this time. */
static size_t appetite(struct user *u, size_t len)
{
        const size_t block = u->pub.dev.geo.logical_block;

        if (!u->pub.short_counts || len <= block)
                return len;
        return atomic_fetch_add(&u->pub.nr_calls, 1) % 3 == 0 ? len : len - block;
}

static int64_t user_move(struct user *u, enum uext4_bdev_op op, const struct iovec *iov,
                         int nr_iov, uint64_t pos)
{
        const size_t want = appetite(u, sum(iov, nr_iov));
        size_t done = 0;

        for (int i = 0; done < want; i++) {
                size_t part = iov[i].iov_len < want - done ? iov[i].iov_len : want - done;

                if (part == 0)
                        continue;
                if (op == UEXT4_BDEV_READ)
                        memcpy(iov[i].iov_base, u->pub.mem + pos + done, part);
                else
                        memcpy(u->pub.mem + pos + done, iov[i].iov_base, part);
                done += part;
        }
        return (int64_t)done;
}

static int64_t user_read(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                         uint64_t pos)
{
        return user_move(user_of(dev), UEXT4_BDEV_READ, iov, nr_iov, pos);
}

static int64_t user_write(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                          uint64_t pos, uint32_t flags)
{
        return user_move(user_of(dev), UEXT4_BDEV_WRITE, iov, nr_iov, pos);
}

static int user_flush(struct uext4_bdev *dev)
{
        atomic_fetch_add(&user_of(dev)->pub.nr_flushes, 1);
        return 0;
}

static void user_close(struct uext4_bdev *dev)
{
        struct user *u = user_of(dev);

        pthread_mutex_destroy(&u->lock);
        free(u->pub.mem);
        free(u);
}

static const struct uext4_bdev_ops user_sync_ops = {
        .name = "user",
        .read = user_read,
        .write = user_write,
        .flush = user_flush,
        .close = user_close,
};

/*
 * Its queue: two stacks.  `added` is what add() left there; kick() moves it to
 * `started`, which reap() works on.
 */
struct user_queue {
        struct user *u;
        struct uext4_bdev_req *added;
        struct uext4_bdev_req *started; /* [u->lock] */
};

static int uq_new(struct uext4_bdev *dev, unsigned depth, void **ret_impl)
{
        struct user_queue *uq = calloc(1, sizeof(*uq));

        T_CHECK(uq && depth >= 1);
        uq->u = user_of(dev);
        *ret_impl = uq;
        return 0;
}

static void uq_free(void *impl)
{
        struct user_queue *uq = impl;

        T_CHECK(!uq->added && !uq->started);
        free(uq);
}

static int uq_add(void *impl, struct uext4_bdev_req *req)
{
        struct user_queue *uq = impl;

        req->next = uq->added;
        uq->added = req;
        return 0;
}

static int uq_kick(void *impl)
{
        struct user_queue *uq = impl;

        pthread_mutex_lock(&uq->u->lock);
        while (uq->added) {
                struct uext4_bdev_req *req = uq->added;

                uq->added = req->next;
                req->next = uq->started;
                uq->started = req;
        }
        pthread_mutex_unlock(&uq->u->lock);
        return 0;
}

static struct uext4_bdev_req *uq_take(struct user_queue *uq)
{
        struct uext4_bdev_req *req = NULL;

        pthread_mutex_lock(&uq->u->lock);
        T_CHECK(uq->started);
        if (!uq->u->held) {
                req = uq->started;
                uq->started = req->next;
        }
        pthread_mutex_unlock(&uq->u->lock);
        return req;
}

static int64_t uq_execute(struct user_queue *uq, const struct uext4_bdev_req *req)
{
        switch (req->op) {
        case UEXT4_BDEV_READ:
        case UEXT4_BDEV_WRITE:
                return user_move(uq->u, req->op, req->iov, req->nr_iov, req->pos);
        case UEXT4_BDEV_FLUSH:
                return user_flush(&uq->u->pub.dev);
        case UEXT4_BDEV_WRITE_ZEROES:
                memset(uq->u->pub.mem + req->pos, 0, req->len);
                return 0;
        default:
                return -EOPNOTSUPP;
        }
}

/* One at a time, and it looks again every millisecond while the device is held. */
static int uq_reap(void *impl, int64_t timeout_ns)
{
        struct user_queue *uq = impl;
        struct uext4_bdev_req *req;

        while ((req = uq_take(uq)) == NULL && timeout_ns != 0) {
                const int64_t ms = 1000000;
                const struct timespec ts = {
                        .tv_nsec = timeout_ns > 0 && timeout_ns < ms ? timeout_ns : ms,
                };

                nanosleep(&ts, NULL);
                if (timeout_ns > 0)
                        timeout_ns -= ts.tv_nsec;
        }
        if (!req)
                return 0;
        uext4_bdev_complete(req, uq_execute(uq, req));
        return 1;
}

static void uq_cancel_all(void *impl)
{
        struct user_queue *uq = impl;

        t_user_hold(&uq->u->pub, false);
}

static int uq_set_eventfd(void *impl, int fd)
{
        return -EOPNOTSUPP;
}

static const struct uext4_bdev_queue_ops user_queue_ops = {
        .new_queue = uq_new,
        .free_queue = uq_free,
        .add = uq_add,
        .kick = uq_kick,
        .reap = uq_reap,
        .cancel_all = uq_cancel_all,
        .set_eventfd = uq_set_eventfd,
};

static const struct uext4_bdev_ops user_queued_ops = {
        .name = "user",
        .read = user_read,
        .write = user_write,
        .flush = user_flush,
        .close = user_close,
        .queue = &user_queue_ops,
};

struct t_user *t_user_new(uint64_t size, uint32_t caps, enum t_user_queue queue)
{
        const struct uext4_bdev_geometry geo = {
                .size = size,
                .logical_block = 1024,
                .mem_align = 16,
                .caps = caps,
        };
        const struct uext4_bdev_ops *ops =
                queue == T_USER_QUEUE ? &user_queued_ops : &user_sync_ops;
        struct user *u = calloc(1, sizeof(*u));

        T_CHECK(u);
        u->pub.mem = calloc(1, size);
        T_CHECK(u->pub.mem);
        pthread_mutex_init(&u->lock, NULL);
        T_CHECK(uext4_bdev_init(&u->pub.dev, ops, &geo) == 0);
        return &u->pub;
}

void t_user_hold(struct t_user *user, bool held)
{
        struct user *u = user_of(&user->dev);

        pthread_mutex_lock(&u->lock);
        u->held = held;
        pthread_mutex_unlock(&u->lock);
}

/* ---- requests ---- */

static void req_done(struct uext4_bdev_req *req)
{
        struct t_req *r = (struct t_req *)(void *)req;

        atomic_store(&r->result, req->result);
        atomic_fetch_add(&r->nr_done, 1);
}

void t_req_init(struct t_req *r, enum uext4_bdev_op op, void *buf, uint64_t len, uint64_t pos)
{
        const bool transfer = op == UEXT4_BDEV_READ || op == UEXT4_BDEV_WRITE;

        *r = (struct t_req){.iov = {buf, len}};
        r->req = (struct uext4_bdev_req){
                .op = op,
                .pos = pos,
                .len = len,
                .iov = transfer ? &r->iov : NULL,
                .nr_iov = transfer ? 1 : 0,
                .done = req_done,
        };
}

void t_drain(struct uext4_bdev_queue *q)
{
        while (uext4_bdev_queue_in_flight(q) > 0)
                T_CHECK(uext4_bdev_queue_drive(q, -1) >= 0);
}
