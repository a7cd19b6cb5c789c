/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * trace.c - a filter that counts requests on their way down and remembers the
 * last of them in a ring.  Entry `seq` lies at entries[seq % nr_entries].
 */
#include "bdev/filter.h"

#include <string.h>

#include "util/alloc.h"
#include "util/lock.h"

struct trace {
        struct bdev_filter f;
        struct mtx lock;                        /* RANK_LEAF */
        struct uext4_bdev_counts counts;        /* [lock] */
        uint64_t next_seq;                      /* [lock] */
        size_t nr_entries;                      /* [const] */
        struct uext4_bdev_trace_entry *entries; /* the ring, NULL when it has none [lock] */
};

static struct trace *trace_of(struct bdev_filter *f)
{
        return container_of(f, struct trace, f);
}

static void remember_locked(struct trace *t, const struct bdev_filter_io *io)
{
        uint64_t seq = t->next_seq++;

        if (t->nr_entries > 0)
                t->entries[seq % t->nr_entries] = (struct uext4_bdev_trace_entry){
                        .seq = seq,
                        .op = io->op,
                        .flags = io->flags,
                        .pos = io->pos,
                        .len = io->len,
                };
}

static void count_locked(struct uext4_bdev_counts *c, const struct bdev_filter_io *io)
{
        c->requests[io->op]++;
        if (io->op != UEXT4_BDEV_FLUSH)
                c->bytes[io->op] += io->len;
        c->fua += (io->flags & UEXT4_BDEV_FUA) != 0;
        if (io->queued && ++c->in_flight > c->max_in_flight)
                c->max_in_flight = c->in_flight;
}

static int trace_begin(struct bdev_filter *f, struct bdev_filter_io *io)
{
        struct trace *t = trace_of(f);

        mtx_lock(&t->lock);
        remember_locked(t, io);
        count_locked(&t->counts, io);
        mtx_unlock(&t->lock);
        return 0;
}

static void trace_end(struct bdev_filter *f, const struct bdev_filter_io *io)
{
        struct trace *t = trace_of(f);

        if (!io->queued)
                return;
        mtx_lock(&t->lock);
        t->counts.in_flight--;
        mtx_unlock(&t->lock);
}

static const struct bdev_filter_hooks trace_hooks = {.begin = trace_begin, .end = trace_end};

static void trace_close(struct uext4_bdev *dev)
{
        struct bdev_filter *f = bdev_filter_of(dev);
        struct trace *t = trace_of(f);

        uext4_bdev_close(f->lower);
        mtx_done(&t->lock);
        mem_free(t->entries);
        mem_free(t);
}

/* No mapping: what goes through memory could not be counted. */
static const struct uext4_bdev_ops trace_ops = {
        .name = "trace",
        .read = bdev_filter_read,
        .write = bdev_filter_write,
        .flush = bdev_filter_flush,
        .discard = bdev_filter_discard,
        .write_zeroes = bdev_filter_write_zeroes,
        .close = trace_close,
        .queue = &bdev_filter_queue_ops,
};

static int trace_init(struct trace *t, struct uext4_bdev *lower, size_t nr_entries)
{
        if (nr_entries > 0) {
                t->entries = mem_array(nr_entries, sizeof(*t->entries));
                if (!t->entries)
                        return -ENOMEM;
        }
        t->nr_entries = nr_entries;
        t->f.lower = lower;
        t->f.hooks = &trace_hooks;
        return uext4_bdev_init(&t->f.dev, &trace_ops, &lower->geo);
}

int uext4_bdev_open_trace(struct uext4_bdev *lower, size_t nr_entries,
                          struct uext4_bdev **ret_dev)
{
        struct trace *t = mem_zalloc(sizeof(*t));
        int ret;

        if (!t)
                return -ENOMEM;
        ret = trace_init(t, lower, nr_entries);
        if (ret < 0) {
                mem_free(t->entries);
                mem_free(t);
                return ret;
        }
        mtx_init(&t->lock, RANK_LEAF);
        *ret_dev = &t->f.dev;
        return 0;
}

static struct trace *trace_of_dev(struct uext4_bdev *dev)
{
        assert(dev->ops == &trace_ops);
        return trace_of(bdev_filter_of(dev));
}

void uext4_bdev_trace_counts(struct uext4_bdev *dev, struct uext4_bdev_counts *ret_counts)
{
        struct trace *t = trace_of_dev(dev);

        mtx_lock(&t->lock);
        *ret_counts = t->counts;
        mtx_unlock(&t->lock);
}

/* What is in flight stays so: its end will be counted. */
void uext4_bdev_trace_reset(struct uext4_bdev *dev)
{
        struct trace *t = trace_of_dev(dev);

        mtx_lock(&t->lock);
        t->counts = (struct uext4_bdev_counts){
                .in_flight = t->counts.in_flight,
                .max_in_flight = t->counts.in_flight,
        };
        t->next_seq = 0;
        mtx_unlock(&t->lock);
}

size_t uext4_bdev_trace_list(struct uext4_bdev *dev, struct uext4_bdev_trace_entry *entries,
                             size_t max)
{
        struct trace *t = trace_of_dev(dev);
        uint64_t first;
        size_t nr;

        mtx_lock(&t->lock);
        nr = min_t(uint64_t, t->next_seq, t->nr_entries);
        first = t->next_seq - nr;
        nr = min_t(size_t, nr, max);
        for (size_t i = 0; i < nr; i++)
                entries[i] = t->entries[(first + i) % t->nr_entries];
        mtx_unlock(&t->lock);
        return nr;
}
