/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow.c - a private overlay: what is written stays in memory, the rest is the
 * lower device's.
 *
 * The device is cut into chunks.  The first write to a chunk makes a copy of
 * all of it, in `chunks`; from then on the copy is the chunk.
 *
 *  I1. The lower device is only ever read, so that its bytes are the same whenever
 *      they are looked at.  Hence a copy can be prepared without the lock:
 *      whoever comes second throws his away and uses the first one's.
 *  I2. No lock is held while the lower device works; its locks may be of the same rank.
 *
 * The queue hands a read that meets no copy to the lower device's own queue as it is:
 * the very request, so that it costs nothing.  Everything else waits on
 * `own` and is carried out through the synchronous face by the thread that reaps.
 * A filter's queue cannot be used in this way (its add() takes locks of the rank
 * under which ours is called); on top of one all requests are synchronous.
 */
#include <bsd/sys/tree.h>
#include <sys/eventfd.h>

#include "bdev/filter.h"
#include "bdev/vec.h"
#include "util/alloc.h"
#include "util/lock.h"

#define MIN_CHUNK 4096

struct chunk {
        RB_ENTRY(chunk) link; /* [cow.lock] */
        uint64_t index;       /* pos / chunk_size [const] */
        char data[];          /* chunk_size bytes; the last chunk may use fewer [cow.lock] */
};

RB_HEAD(chunk_tree, chunk);

struct cow {
        struct uext4_bdev dev;
        struct uext4_bdev *lower; /* [const] */
        uint64_t chunk_size;      /* a power of two, a multiple of the lower unit [const] */
        uint64_t max_chunks;      /* [const] */

        struct rwsem lock;        /* RANK_LEAF */
        struct chunk_tree chunks; /* [lock] */
        uint64_t nr_chunks;       /* [lock] */
        bool borrows_lower;       /* bdev_cow_borrow(): it stays open */
};

static int chunk_cmp(const struct chunk *a, const struct chunk *b)
{
        return a->index < b->index ? -1 : a->index > b->index;
}

RB_GENERATE_INTERNAL(chunk_tree, chunk, link, chunk_cmp, static __attribute__((unused)))

static struct cow *cow_of(struct uext4_bdev *dev)
{
        return container_of(dev, struct cow, dev);
}

/* ---- the map ---- */

/* The chunk `index`, or the first one behind it, or NULL. */
static struct chunk *chunk_at_or_after_locked(struct cow *c, uint64_t index)
{
        struct chunk key = {.index = index};

        return RB_NFIND(chunk_tree, &c->chunks, &key);
}

static struct chunk *chunk_at_locked(struct cow *c, uint64_t pos)
{
        struct chunk key = {.index = pos / c->chunk_size};

        return RB_FIND(chunk_tree, &c->chunks, &key);
}

/* How many of the bytes at `pos` lie before the next copy. */
static uint64_t gap_at(struct cow *c, uint64_t pos, uint64_t len)
{
        struct chunk *ch;

        rwsem_read_lock(&c->lock);
        ch = chunk_at_or_after_locked(c, pos / c->chunk_size);
        if (ch) {
                const uint64_t start = ch->index * c->chunk_size;

                len = start > pos ? min_t(uint64_t, len, start - pos) : 0;
        }
        rwsem_read_unlock(&c->lock);
        return len;
}

/* To the end of its chunk. */
static uint64_t part_at(const struct cow *c, uint64_t pos, uint64_t len)
{
        return min_t(uint64_t, len, c->chunk_size - pos % c->chunk_size);
}

/* ---- reading ---- */

/* False when there is no copy. */
static bool read_copy(struct cow *c, struct vec *v, uint64_t pos, uint64_t part)
{
        struct chunk *ch;

        rwsem_read_lock(&c->lock);
        ch = chunk_at_locked(c, pos);
        if (ch)
                vec_put(v, ch->data + pos % c->chunk_size, part);
        rwsem_read_unlock(&c->lock);
        return ch != NULL;
}

/* A piece of a vector may be finer than the lower device takes: hence by bytes. */
static int read_lower(struct cow *c, struct vec *v, uint64_t pos, uint64_t len)
{
        while (len > 0) {
                struct iovec piece = vec_next(v, len);
                int ret = uext4_bdev_read_bytes(c->lower, piece.iov_base, piece.iov_len, pos);

                if (ret < 0)
                        return ret;
                pos += piece.iov_len;
                len -= piece.iov_len;
        }
        return 0;
}

static int read_mixed(struct cow *c, struct vec *v, uint64_t pos, uint64_t len)
{
        while (len > 0) {
                uint64_t part = part_at(c, pos, len);

                if (!read_copy(c, v, pos, part)) {
                        int ret;

                        /* Bytes of a copy made meanwhile are the lower ones, or of a write that
                         * has no order with this read. */
                        part = max_t(uint64_t, part, gap_at(c, pos, len));
                        ret = read_lower(c, v, pos, part);
                        if (ret < 0)
                                return ret;
                }
                pos += part;
                len -= part;
        }
        return 0;
}

static int64_t cow_read(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                        uint64_t pos)
{
        struct cow *c = cow_of(dev);
        const uint64_t len = vec_sum(iov, nr_iov);
        struct vec v = {.iov = iov};
        int ret;

        if (gap_at(c, pos, len) == len)
                ret = uext4_bdev_readv(c->lower, iov, nr_iov, pos);
        else
                ret = read_mixed(c, &v, pos, len);
        return ret < 0 ? ret : (int64_t)len;
}

/* ---- writing ---- */

/* What a write puts into its range: bytes of a vector, or zeros where there is none. */
static void fill_locked(struct cow *c, struct chunk *ch, struct vec *v, uint64_t pos,
                        uint64_t part)
{
        char *to = ch->data + pos % c->chunk_size;

        if (v)
                vec_get(v, to, part);
        else
                memset(to, 0, part);
}

static bool write_copy(struct cow *c, struct vec *v, uint64_t pos, uint64_t part)
{
        struct chunk *ch;

        rwsem_write_lock(&c->lock);
        ch = chunk_at_locked(c, pos);
        if (ch)
                fill_locked(c, ch, v, pos, part);
        rwsem_write_unlock(&c->lock);
        return ch != NULL;
}

/* I1: without the lock.  The lower bytes are needed unless all of them are overwritten. */
static int prepare(struct cow *c, uint64_t pos, uint64_t part, struct chunk **ret_chunk)
{
        const uint64_t start = round_down_pow2(pos, c->chunk_size);
        const uint64_t used = min_t(uint64_t, c->chunk_size, c->dev.geo.size - start);
        struct chunk *ch = mem_alloc(sizeof(*ch) + c->chunk_size);
        int ret = 0;

        if (!ch)
                return -ENOMEM;
        ch->index = start / c->chunk_size;
        if (part < used)
                ret = uext4_bdev_read_bytes(c->lower, ch->data, used, start);
        if (ret < 0)
                mem_free(ch);
        else
                *ret_chunk = ch;
        return ret;
}

/* Takes `ch`, unless the chunk has a copy already; NULL: there is no room. */
static struct chunk *insert_locked(struct cow *c, struct chunk *ch)
{
        struct chunk *there = RB_FIND(chunk_tree, &c->chunks, ch);

        if (there)
                return there;
        if (c->nr_chunks >= c->max_chunks)
                return NULL;
        RB_INSERT(chunk_tree, &c->chunks, ch);
        c->nr_chunks++;
        return ch;
}

static int write_new(struct cow *c, struct vec *v, uint64_t pos, uint64_t part)
{
        struct chunk *mine, *ch;
        int ret = prepare(c, pos, part, &mine);

        if (ret < 0)
                return ret;
        rwsem_write_lock(&c->lock);
        ch = insert_locked(c, mine);
        if (ch)
                fill_locked(c, ch, v, pos, part);
        rwsem_write_unlock(&c->lock);
        if (ch != mine)
                mem_free(mine);
        return ch ? 0 : -ENOSPC;
}

static int write_range(struct cow *c, struct vec *v, uint64_t pos, uint64_t len)
{
        while (len > 0) {
                const uint64_t part = part_at(c, pos, len);

                if (!write_copy(c, v, pos, part)) {
                        int ret = write_new(c, v, pos, part);

                        if (ret < 0)
                                return ret;
                }
                pos += part;
                len -= part;
        }
        return 0;
}

static int64_t cow_write(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                         uint64_t pos, uint32_t flags)
{
        const uint64_t len = vec_sum(iov, nr_iov);
        struct vec v = {.iov = iov};
        int ret = write_range(cow_of(dev), &v, pos, len);

        return ret < 0 ? ret : (int64_t)len;
}

static int cow_write_zeroes(struct uext4_bdev *dev, uint64_t pos, uint64_t len, uint32_t flags)
{
        return write_range(cow_of(dev), NULL, pos, len);
}

/* Whole copies inside of the range are given back: the lower bytes are seen again. */
static int cow_discard(struct uext4_bdev *dev, uint64_t pos, uint64_t len)
{
        struct cow *c = cow_of(dev);
        const uint64_t first = div_round_up(pos, c->chunk_size);
        const bool to_end = pos + len == dev->geo.size;
        const uint64_t stop = to_end ? div_round_up(dev->geo.size, c->chunk_size)
                                     : (pos + len) / c->chunk_size;
        struct chunk *ch;

        rwsem_write_lock(&c->lock);
        while ((ch = chunk_at_or_after_locked(c, first)) != NULL && ch->index < stop) {
                RB_REMOVE(chunk_tree, &c->chunks, ch);
                c->nr_chunks--;
                mem_free(ch);
        }
        rwsem_write_unlock(&c->lock);
        return 0;
}

/* ---- the queue ---- */

struct cow_queue {
        struct cow *c;                          /* [const] */
        const struct uext4_bdev_queue_ops *ops; /* of the lower device [const] */
        void *impl;                             /* its queue [const] */

        /*
         * Requests that it has of us.  Raised before they are added, lowered by the
         * reaper.  A reaper that finds nothing on `own` may sleep on it: what the public
         * queue counted before its kick was on `own`, or is below and started.
         */
        _Atomic int64_t nr_below;

        struct mtx lock;      /* RANK_LEAF */
        struct bdev_fifo own; /* [lock] */
        int eventfd;          /* -1: none; not ours [lock] */
};

static int cow_queue_new(struct uext4_bdev *dev, unsigned depth, void **ret_impl)
{
        struct cow *c = cow_of(dev);
        struct cow_queue *cq;
        int ret;

        if (!c->lower->ops->queue || bdev_is_filter(c->lower))
                return -EOPNOTSUPP;
        cq = mem_zalloc(sizeof(*cq));
        if (!cq)
                return -ENOMEM;
        cq->c = c;
        cq->ops = c->lower->ops->queue;
        cq->eventfd = -1;
        ret = cq->ops->new_queue(c->lower, depth, &cq->impl);
        if (ret < 0) {
                mem_free(cq);
                return ret;
        }
        mtx_init(&cq->lock, RANK_LEAF);
        *ret_impl = cq;
        return 0;
}

static void cow_queue_free(void *impl)
{
        struct cow_queue *cq = impl;

        cq->ops->free_queue(cq->impl);
        mtx_done(&cq->lock);
        mem_free(cq);
}

static int add_below(struct cow_queue *cq, struct uext4_bdev_req *req)
{
        int ret;

        atomic_fetch_add_explicit(&cq->nr_below, 1, memory_order_relaxed);
        ret = cq->ops->add(cq->impl, req);
        if (ret < 0)
                atomic_fetch_sub_explicit(&cq->nr_below, 1, memory_order_relaxed);
        return ret;
}

static void add_own(struct cow_queue *cq, struct uext4_bdev_req *req)
{
        mtx_lock(&cq->lock);
        bdev_fifo_push(&cq->own, req);
        if (cq->eventfd >= 0)
                eventfd_write(cq->eventfd, 1);
        mtx_unlock(&cq->lock);
}

static int cow_queue_add(void *impl, struct uext4_bdev_req *req)
{
        struct cow_queue *cq = impl;

        if (req->op == UEXT4_BDEV_READ && gap_at(cq->c, req->pos, req->len) == req->len)
                return add_below(cq, req);
        add_own(cq, req);
        return 0;
}

static int cow_queue_kick(void *impl)
{
        struct cow_queue *cq = impl;

        return cq->ops->kick(cq->impl);
}

static struct bdev_fifo take_own(struct cow_queue *cq)
{
        struct bdev_fifo own;

        mtx_lock(&cq->lock);
        own = cq->own;
        cq->own.first = NULL;
        mtx_unlock(&cq->lock);
        return own;
}

static int complete_own(struct cow_queue *cq)
{
        struct bdev_fifo own = take_own(cq);
        struct uext4_bdev_req *req;
        int nr = 0;

        while ((req = bdev_fifo_pop(&own)) != NULL) {
                bdev_queue_finish(req, bdev_execute(&cq->c->dev, req));
                nr++;
        }
        return nr;
}

/* What joins `own` while we sleep below is seen when that wakes up. */
static int cow_queue_reap(void *impl, int64_t timeout_ns)
{
        struct cow_queue *cq = impl;
        int nr = complete_own(cq);
        int ret = 0;

        if (atomic_load_explicit(&cq->nr_below, memory_order_relaxed) > 0)
                ret = cq->ops->reap(cq->impl, nr > 0 ? 0 : timeout_ns);
        if (ret < 0)
                return ret;
        atomic_fetch_sub_explicit(&cq->nr_below, ret, memory_order_relaxed);
        return nr + ret;
}

static void cow_queue_cancel_all(void *impl)
{
        struct cow_queue *cq = impl;

        cq->ops->cancel_all(cq->impl);
}

static int cow_queue_set_eventfd(void *impl, int fd)
{
        struct cow_queue *cq = impl;
        int ret = cq->ops->set_eventfd(cq->impl, fd);

        if (ret < 0)
                return ret;
        mtx_lock(&cq->lock);
        cq->eventfd = fd;
        mtx_unlock(&cq->lock);
        return 0;
}

static int cow_queue_set_buffers(void *impl, const struct iovec *buffers, unsigned nr)
{
        struct cow_queue *cq = impl;

        return cq->ops->set_buffers ? cq->ops->set_buffers(cq->impl, buffers, nr) : 0;
}

static const struct uext4_bdev_queue_ops cow_queue_ops = {
        .new_queue = cow_queue_new,
        .free_queue = cow_queue_free,
        .add = cow_queue_add,
        .kick = cow_queue_kick,
        .reap = cow_queue_reap,
        .cancel_all = cow_queue_cancel_all,
        .set_eventfd = cow_queue_set_eventfd,
        .set_buffers = cow_queue_set_buffers,
};

/* ---- open, close ---- */

static void cow_close(struct uext4_bdev *dev)
{
        struct cow *c = cow_of(dev);
        struct chunk *ch, *next;

        RB_FOREACH_SAFE (ch, chunk_tree, &c->chunks, next) {
                RB_REMOVE(chunk_tree, &c->chunks, ch);
                mem_free(ch);
        }
        rwsem_done(&c->lock);
        if (!c->borrows_lower)
                uext4_bdev_close(c->lower);
        mem_free(c);
}

/* No flush: nothing is volatile.  No mapping: the bytes lie in two places. */
static const struct uext4_bdev_ops cow_ops = {
        .name = "cow",
        .read = cow_read,
        .write = cow_write,
        .discard = cow_discard,
        .write_zeroes = cow_write_zeroes,
        .close = cow_close,
        .queue = &cow_queue_ops,
};

int uext4_bdev_open_cow(struct uext4_bdev *lower, uint64_t max_bytes,
                        struct uext4_bdev **ret_dev)
{
        struct uext4_bdev_geometry geo = lower->geo;
        struct cow *c = mem_zalloc(sizeof(*c));
        int ret;

        if (!c)
                return -ENOMEM;
        geo.caps = (geo.caps & UEXT4_BDEV_CAP_DIRECT) | UEXT4_BDEV_CAP_DISCARD;
        geo.atomic_min = geo.atomic_max = 0; /* memory may run out in the middle */
        ret = uext4_bdev_init(&c->dev, &cow_ops, &geo);
        if (ret < 0) {
                mem_free(c);
                return ret;
        }
        c->lower = lower;
        c->chunk_size = max_t(uint64_t, MIN_CHUNK, bdev_unit(lower));
        c->max_chunks = max_bytes == 0 ? UINT64_MAX : max_bytes / c->chunk_size;
        rwsem_init(&c->lock, RANK_LEAF);
        RB_INIT(&c->chunks);
        *ret_dev = &c->dev;
        return 0;
}

uint64_t uext4_bdev_cow_bytes(struct uext4_bdev *dev)
{
        struct cow *c = cow_of(dev);
        uint64_t bytes;

        assert(dev->ops == &cow_ops);
        rwsem_read_lock(&c->lock);
        bytes = c->nr_chunks * c->chunk_size;
        rwsem_read_unlock(&c->lock);
        return bytes;
}

void bdev_cow_borrow(struct uext4_bdev *cow)
{
        cow_of(cow)->borrows_lower = true;
}
