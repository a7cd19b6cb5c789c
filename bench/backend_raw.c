/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * backend_raw.c - a bare device: a file, by the code of the library that it uses for its own
 * device, too (worker.h).
 *
 * It is one file of a fixed size that is there already, under any name: making, removing and
 * preallocating it is nothing to do.  Durable is what FUA or a flush makes so.
 */
#include <errno.h>
#include <stdlib.h>

#include "worker.h"

static int raw_start(struct bench *b)
{
        return uext4_bdev_open(b->path, 0, NULL, NULL, &b->root.dev);
}

static int raw_stop(struct bench *b)
{
        uext4_bdev_close(b->root.dev);
        return 0;
}

static int raw_open(union handle dir, const char *name, int flags, union handle *ret_file)
{
        (void)name;
        (void)flags;
        *ret_file = dir;
        return 0;
}

static void raw_close(union handle file)
{
        (void)file;
}

static int raw_unlink(union handle dir, const char *name)
{
        (void)dir;
        (void)name;
        return 0;
}

static ssize_t raw_read(union handle file, void *buf, size_t len, uint64_t pos)
{
        int ret = uext4_bdev_read(file.dev, buf, len, pos);

        return ret < 0 ? ret : (ssize_t)len;
}

static ssize_t raw_write(union handle file, const void *buf, size_t len, uint64_t pos,
                         bool durable)
{
        int ret = uext4_bdev_write(file.dev, buf, len, pos, durable ? UEXT4_BDEV_FUA : 0);

        return ret < 0 ? ret : (ssize_t)len;
}

static int raw_fdatasync(union handle file)
{
        return uext4_bdev_flush(file.dev);
}

static int raw_fallocate(union handle file, uint64_t len)
{
        return len <= uext4_bdev_geometry(file.dev)->size ? 0 : -ENOSPC;
}

static int raw_syncfs(const struct bench *b)
{
        return uext4_bdev_flush(b->root.dev);
}

/* ---- queues -------------------------------------------------------------- */

struct raw_request {
        struct uext4_bdev_req req; /* first: done() finds us */
        struct io_queue *queue;
        struct slot *slot;
};

struct io_queue {
        struct uext4_bdev_queue *queue;
        struct raw_request *requests;
        struct raw_request **idle;
        unsigned nr_idle;
        struct slot **finished;
        unsigned nr_finished;
};

static void raw_done(struct uext4_bdev_req *req)
{
        struct raw_request *raw = (struct raw_request *)req;
        struct io_queue *q = raw->queue;

        check("request", req->result);
        q->finished[q->nr_finished++] = raw->slot;
        q->idle[q->nr_idle++] = raw;
}

static int raw_queue_new(const struct bench *b, union handle file, unsigned depth,
                         struct io_queue **ret_queue)
{
        struct io_queue *q = get_memory(1, sizeof(*q));

        (void)b;
        q->requests = get_memory(depth, sizeof(*q->requests));
        q->idle = get_memory(depth, sizeof(*q->idle));
        q->finished = get_memory(depth, sizeof(*q->finished));
        while (q->nr_idle < depth) {
                struct raw_request *raw = &q->requests[q->nr_idle];

                raw->queue = q;
                raw->req.done = raw_done;
                raw->req.nr_iov = 1;
                q->idle[q->nr_idle++] = raw;
        }
        *ret_queue = q;
        return uext4_bdev_queue_new(file.dev, depth, &q->queue);
}

static void raw_queue_free(struct io_queue *q)
{
        uext4_bdev_queue_free(q->queue);
        free(q->requests);
        free(q->idle);
        free(q->finished);
        free(q);
}

static int raw_queue_submit(struct io_queue *q, struct slot **slots, unsigned nr)
{
        for (unsigned i = 0; i < nr; i++) {
                struct raw_request *raw = q->idle[--q->nr_idle];

                raw->slot = slots[i];
                raw->req.op = slots[i]->write ? UEXT4_BDEV_WRITE : UEXT4_BDEV_READ;
                raw->req.flags = slots[i]->durable ? UEXT4_BDEV_FUA : 0;
                raw->req.pos = slots[i]->pos;
                raw->req.len = slots[i]->iov.iov_len;
                raw->req.iov = &slots[i]->iov;
                check("request", uext4_bdev_queue_add(q->queue, &raw->req));
        }
        return uext4_bdev_queue_kick(q->queue);
}

static int raw_queue_wait(struct io_queue *q, struct slot **done)
{
        unsigned nr;

        while (q->nr_finished == 0)
                check("queue", uext4_bdev_queue_drive(q->queue, -1));
        nr = q->nr_finished;
        for (unsigned i = 0; i < nr; i++)
                done[i] = q->finished[i];
        q->nr_finished = 0;
        return (int)nr;
}

/* No directories: jobs of names are for others. */
const struct backend backend_raw = {
        .name = "raw",
        .start = raw_start,
        .stop = raw_stop,
        .create = raw_open,
        .open = raw_open,
        .close = raw_close,
        .unlink = raw_unlink,
        .read = raw_read,
        .write = raw_write,
        .fdatasync = raw_fdatasync,
        .fallocate = raw_fallocate,
        .syncfs = raw_syncfs,
        .queue_new = raw_queue_new,
        .queue_free = raw_queue_free,
        .queue_submit = raw_queue_submit,
        .queue_wait = raw_queue_wait,
};
