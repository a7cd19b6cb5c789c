/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gate.c - see gate.h. */

#include "gate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct gate_queue {
        struct gate *g;
        struct gate_queue *next;     /* [g->lock] */
        struct uext4_bdev_req *head; /* [g->lock] under way, linked by req->next */
        int eventfd;                 /* [g->lock] -1: none */
        bool cancelled;              /* [g->lock] what is under way ends with -ECANCELED */
};

static struct gate *to_gate(struct uext4_bdev *dev)
{
        return (struct gate *)(void *)((char *)dev - offsetof(struct gate, dev));
}

static void notify_locked(struct gate_queue *q)
{
        if (q->head && q->eventfd >= 0 && eventfd_write(q->eventfd, 1) < 0)
                abort();
}

/* ---- the synchronous face ------------------------------------------------ */

static int64_t gate_read(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                         uint64_t pos)
{
        struct gate *g = to_gate(dev);
        ssize_t ret;

        pthread_mutex_lock(&g->lock);
        g->nr_reads++;
        bool fail = g->fail;
        pthread_mutex_unlock(&g->lock);
        if (fail)
                return -EIO;
        ret = preadv(g->fd, iov, nr_iov, (off_t)pos);
        return ret < 0 ? -errno : ret;
}

static int64_t gate_write(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                          uint64_t pos, uint32_t flags)
{
        return -EROFS;
}

static int gate_flush(struct uext4_bdev *dev)
{
        return 0;
}

static int gate_discard(struct uext4_bdev *dev, uint64_t pos, uint64_t len)
{
        return -EROFS;
}

static int gate_write_zeroes(struct uext4_bdev *dev, uint64_t pos, uint64_t len, uint32_t flags)
{
        return -EROFS;
}

static void gate_close(struct uext4_bdev *dev)
{
        close(to_gate(dev)->fd);
}

/* ---- queues ---------------------------------------------------------------- */

static int gate_new_queue(struct uext4_bdev *dev, unsigned depth, void **ret_impl)
{
        struct gate *g = to_gate(dev);
        struct gate_queue *q = calloc(1, sizeof(*q));

        if (!q)
                return -ENOMEM;
        q->g = g;
        q->eventfd = -1;
        pthread_mutex_lock(&g->lock);
        q->next = g->queues;
        g->queues = q;
        pthread_mutex_unlock(&g->lock);
        *ret_impl = q;
        return 0;
}

static void gate_free_queue(void *impl)
{
        struct gate_queue *q = impl;
        struct gate *g = q->g;

        pthread_mutex_lock(&g->lock);
        for (struct gate_queue **p = &g->queues; *p; p = &(*p)->next)
                if (*p == q) {
                        *p = q->next;
                        break;
                }
        if (q->head) {
                fprintf(stderr, "gate: a queue is freed with requests under way\n");
                abort();
        }
        pthread_mutex_unlock(&g->lock);
        free(q);
}

static int gate_add(void *impl, struct uext4_bdev_req *req)
{
        struct gate_queue *q = impl;

        pthread_mutex_lock(&q->g->lock);
        req->next = q->head;
        q->head = req;
        q->g->nr_pending++;
        q->g->nr_queued++;
        pthread_mutex_unlock(&q->g->lock);
        return 0;
}

static int gate_kick(void *impl)
{
        struct gate_queue *q = impl;

        pthread_mutex_lock(&q->g->lock);
        if (q->g->open)
                notify_locked(q);
        pthread_cond_broadcast(&q->g->changed);
        pthread_mutex_unlock(&q->g->lock);
        return 0;
}

static int64_t carry_out(struct gate *g, struct uext4_bdev_req *req, bool cancelled, bool fail)
{
        ssize_t ret;

        if (cancelled)
                return -ECANCELED;
        if (fail)
                return -EIO;
        if (req->op != UEXT4_BDEV_READ)
                return 0;
        ret = preadv(g->fd, req->iov, req->nr_iov, (off_t)req->pos);
        return ret < 0 ? -errno : ret;
}

static int gate_reap(void *impl, int64_t timeout_ns)
{
        struct gate_queue *q = impl;
        struct gate *g = q->g;
        struct timespec until;
        int nr = 0;

        clock_gettime(CLOCK_REALTIME, &until);
        if (timeout_ns > 0) {
                until.tv_sec += timeout_ns / 1000000000;
                until.tv_nsec += timeout_ns % 1000000000;
                if (until.tv_nsec >= 1000000000) {
                        until.tv_sec++;
                        until.tv_nsec -= 1000000000;
                }
        }
        pthread_mutex_lock(&g->lock);
        while (!(q->head && (g->open || q->cancelled)) && timeout_ns != 0) {
                if (timeout_ns < 0)
                        pthread_cond_wait(&g->changed, &g->lock);
                else if (pthread_cond_timedwait(&g->changed, &g->lock, &until) == ETIMEDOUT)
                        break;
        }
        while (q->head && (g->open || q->cancelled)) {
                struct uext4_bdev_req *req = q->head;
                bool cancelled = q->cancelled && !g->open;
                bool fail = g->fail;

                q->head = req->next;
                g->nr_pending--;
                pthread_mutex_unlock(&g->lock);
                uext4_bdev_complete(req, carry_out(g, req, cancelled, fail));
                nr++;
                pthread_mutex_lock(&g->lock);
        }
        pthread_mutex_unlock(&g->lock);
        return nr;
}

static void gate_cancel_all(void *impl)
{
        struct gate_queue *q = impl;

        pthread_mutex_lock(&q->g->lock);
        q->cancelled = true;
        q->g->nr_cancels++;
        notify_locked(q);
        pthread_cond_broadcast(&q->g->changed);
        pthread_mutex_unlock(&q->g->lock);
}

static int gate_set_eventfd(void *impl, int fd)
{
        struct gate_queue *q = impl;

        pthread_mutex_lock(&q->g->lock);
        q->eventfd = fd;
        if (q->g->open)
                notify_locked(q);
        pthread_mutex_unlock(&q->g->lock);
        return 0;
}

/* ---- the device ---------------------------------------------------------- */

static const struct uext4_bdev_queue_ops queue_ops = {
        .new_queue = gate_new_queue,
        .free_queue = gate_free_queue,
        .add = gate_add,
        .kick = gate_kick,
        .reap = gate_reap,
        .cancel_all = gate_cancel_all,
        .set_eventfd = gate_set_eventfd,
};

static const struct uext4_bdev_ops gate_ops = {
        .name = "gate",
        .read = gate_read,
        .write = gate_write,
        .flush = gate_flush,
        .discard = gate_discard,
        .write_zeroes = gate_write_zeroes,
        .close = gate_close,
        .queue = &queue_ops,
};

void gate_init(struct gate *g, const char *path)
{
        struct uext4_bdev_geometry geo = {
                .logical_block = 512,
                .mem_align = 4, /* as discs have it: less than a block */
                .caps = UEXT4_BDEV_CAP_READONLY,
        };
        struct stat st;

        *g = (struct gate){.open = true, .fd = open(path, O_RDONLY | O_CLOEXEC)};
        if (g->fd < 0 || fstat(g->fd, &st) < 0) {
                perror(path);
                exit(1);
        }
        geo.size = (uint64_t)st.st_size / 512 * 512;
        pthread_mutex_init(&g->lock, NULL);
        pthread_cond_init(&g->changed, NULL);

        int ret = uext4_bdev_init(&g->dev, &gate_ops, &geo);

        if (ret < 0) {
                fprintf(stderr, "gate: uext4_bdev_init: %d\n", ret);
                exit(1);
        }
}

void gate_done(struct gate *g)
{
        uext4_bdev_close(&g->dev);
        pthread_mutex_destroy(&g->lock);
        pthread_cond_destroy(&g->changed);
}

void gate_set(struct gate *g, bool open)
{
        pthread_mutex_lock(&g->lock);
        g->open = open;
        if (open)
                for (struct gate_queue *q = g->queues; q; q = q->next)
                        notify_locked(q);
        pthread_cond_broadcast(&g->changed);
        pthread_mutex_unlock(&g->lock);
}

void gate_fail(struct gate *g, bool fail)
{
        pthread_mutex_lock(&g->lock);
        g->fail = fail;
        pthread_mutex_unlock(&g->lock);
}

static unsigned get(struct gate *g, const unsigned *value)
{
        pthread_mutex_lock(&g->lock);
        unsigned v = *value;
        pthread_mutex_unlock(&g->lock);
        return v;
}

unsigned gate_pending(struct gate *g)
{
        return get(g, &g->nr_pending);
}

unsigned gate_reads(struct gate *g)
{
        return get(g, &g->nr_reads);
}

unsigned gate_queued(struct gate *g)
{
        return get(g, &g->nr_queued);
}

unsigned gate_cancels(struct gate *g)
{
        return get(g, &g->nr_cancels);
}
