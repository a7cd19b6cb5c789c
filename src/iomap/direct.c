/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Direct I/O: between the caller's memory and the device, with nothing in between.
 *
 * The submitter walks the mappings of the range and makes device requests ("bios") of them;
 * neighbours on the device become one.  Each bio holds a reference on the struct iomap_dio,
 * the submitter another.  Who drops the last one finishes the request: the submitter, then the
 * result is simply returned; or whoever drove the queue, then complete() is called.
 *
 * Order at the end (C16): the count of direct I/O falls before the caller hears.  A write that
 * needs a transaction or a sync before goes on the list of its queue instead.
 *
 * A write whose mappings allow it is written through (FUA); the first mapping that does not
 * makes the whole request one that is synced at its end (B7).
 */

#include <limits.h>

#include "iomap/iomap.h"
#include "util/alloc.h"

/* The kernel moves at most this much per request; a multiple of every block size. */
#define BIO_MAX_LEN (1u << 30)

static void dio_set_error(struct iomap_dio *dio, int err)
{
        int none = 0;

        atomic_compare_exchange_strong(&dio->error, &none, err);
}

void iomap_dio_fail(struct iomap_dio *dio, int err)
{
        dio_set_error(dio, err);
}

int64_t iomap_dio_result(const struct iomap_dio *dio)
{
        int err = atomic_load_explicit(&dio->error, memory_order_relaxed);

        return err < 0 ? err : (int64_t)dio->done;
}

void iomap_dio_end(struct iomap_dio *dio)
{
        struct vfs_inode *inode = dio->iocb->inode;

        if ((dio->flags & (IOMAP_DIO_WRITE | IOMAP_DIO_THROUGH)) == IOMAP_DIO_WRITE)
                vfs_written(inode);
        /* What was read into the cache meanwhile may be older (B30).  Nothing there is dirty:
         * who writes through the cache waits for direct I/O first. */
        if ((dio->flags & IOMAP_DIO_WRITE) && unlikely(vfs_has_pages(&inode->pages)))
                (void)!vfs_pages_invalidate(inode, dio->iocb->pos,
                                            dio->iocb->pos + dio->done); /* order: C16 */
        vfs_pending_end(inode->sb, &inode->dio);
}

/* The count that the caller sees; references and errors start anew. */
static void dio_init(struct iomap_dio *dio, struct vfs_kiocb *iocb, uint64_t done,
                     uint32_t flags)
{
        dio->iocb = iocb;
        dio->queue = iocb->queue;
        dio->done = done;
        dio->first_used = false;
        dio->flags = flags;
        dio->stopped = 0;
        atomic_store_explicit(&dio->refs, 1, memory_order_relaxed);
        atomic_store_explicit(&dio->error, 0, memory_order_relaxed);
        vfs_pending_begin(&iocb->inode->dio);
}

static bool dio_put(struct iomap_dio *dio)
{
        return atomic_fetch_sub_explicit(&dio->refs, 1, memory_order_acq_rel) == 1;
}

/* ---- device requests ---- */

static void bio_release(struct iomap_bio *bio)
{
        if (bio->iov_heap)
                mem_free(bio->iov_heap);
        if (bio->is_heap)
                mem_free(bio);
}

/* Runs in whichever thread drives the queue. */
static void bio_done(struct uext4_bdev_req *req)
{
        struct iomap_bio *bio = container_of(req, struct iomap_bio, req);
        struct iomap_dio *dio = bio->dio;
        struct vfs_kiocb *iocb = dio->iocb;
        int64_t result;

        if (req->result < 0)
                dio_set_error(dio, req->result);
        bio_release(bio);
        if (!dio_put(dio))
                return;
        if (dio->flags & (IOMAP_DIO_UNWRITTEN | IOMAP_DIO_NEED_SYNC)) {
                vfs_queue_defer(dio->queue, &dio->work);
                return;
        }
        result = iomap_dio_result(dio);
        iomap_dio_end(dio);
        iocb->complete(iocb, result);
}

static struct iomap_bio *bio_new(struct iomap_dio *dio)
{
        struct iomap_bio *bio;

        if (!dio->first_used) {
                dio->first_used = true;
                bio = &dio->first;
                bio->is_heap = false;
        } else {
                bio = mem_alloc(sizeof(*bio));
                if (!bio)
                        return NULL;
                bio->is_heap = true;
        }
        bio->dio = dio;
        bio->iov_heap = NULL;
        return bio;
}

/* The vector of the bio: the next `len` bytes of the caller's memory. */
static int bio_set_vector(struct iomap_bio *bio, const struct iov_iter *iter, uint64_t len)
{
        struct iovec *iov = &bio->iov_inline;
        int nr = iov_iter_nr_segments(iter, len);

        if (nr > 1) {
                iov = bio->iov_heap = mem_array((size_t)nr, sizeof(*iov));
                if (!iov)
                        return -ENOMEM;
        }
        iov_iter_slice(iter, len, iov);
        bio->req.iov = iov;
        bio->req.nr_iov = nr;
        return 0;
}

static int transfer(struct uext4_bdev *dev, const struct uext4_bdev_req *req)
{
        if (req->op == UEXT4_BDEV_READ)
                return uext4_bdev_readv(dev, req->iov, req->nr_iov, req->pos);
        return uext4_bdev_writev(dev, req->iov, req->nr_iov, req->pos, req->flags);
}

static int bio_submit(struct iomap_dio *dio, struct iomap_bio *bio)
{
        struct uext4_bdev_req *req = &bio->req;
        struct vfs_super *sb = dio->iocb->inode->sb;
        int ret;

        vfs_count(sb, req->op == UEXT4_BDEV_READ ? VFS_DEVICE_READS : VFS_DEVICE_WRITES);
        if (!dio->queue) {
                ret = transfer(sb->dev, req);
                bio_release(bio);
                return ret;
        }
        atomic_fetch_add_explicit(&dio->refs, 1, memory_order_relaxed);
        ret = uext4_bdev_queue_add(dio->queue->bdev_queue, req);
        if (ret < 0) {
                bio_release(bio);
                dio_put(dio); /* never the last: the submitter holds one */
        }
        return ret;
}

/* ---- the submitting side ---- */

/* A stretch of the device that is being collected; it ends where the next does not follow on.
 */
struct stretch {
        struct iov_iter from; /* the caller's memory at its start */
        uint64_t addr;
        uint64_t len; /* 0: none */
};

/* Write-through means FUA where the device has something volatile. */
static uint32_t write_flags(const struct iomap_dio *dio)
{
        struct vfs_super *sb = dio->iocb->inode->sb;
        uint32_t flags = dio->iocb->flags & VFS_ATOMIC ? UEXT4_BDEV_ATOMIC : 0;

        if (!(dio->flags & IOMAP_DIO_THROUGH) ||
            !(uext4_bdev_geometry(sb->dev)->caps & UEXT4_BDEV_CAP_VOLATILE))
                return flags;
        vfs_count(sb, VFS_FUA_WRITES);
        return flags | UEXT4_BDEV_FUA;
}

/* What was registered with the queue is taken in one piece only. */
static void bio_use_registered(struct iomap_dio *dio, struct iomap_bio *bio)
{
        if (!(dio->iocb->flags & VFS_FIXED) || !dio->queue || bio->req.nr_iov != 1)
                return;
        bio->req.flags |= UEXT4_BDEV_FIXED;
        bio->req.buffer = dio->iocb->buffer;
}

static int stretch_submit(struct iomap_dio *dio, struct stretch *st)
{
        struct iomap_bio *bio;
        int ret;

        if (st->len == 0)
                return 0;
        bio = bio_new(dio);
        if (!bio)
                return -ENOMEM;
        bio->req = (struct uext4_bdev_req){
                .op = dio->flags & IOMAP_DIO_WRITE ? UEXT4_BDEV_WRITE : UEXT4_BDEV_READ,
                .flags = dio->flags & IOMAP_DIO_WRITE ? write_flags(dio) : 0,
                .pos = st->addr,
                .len = st->len,
                .done = bio_done,
        };
        ret = bio_set_vector(bio, &st->from, st->len);
        if (ret < 0) {
                bio_release(bio);
                return ret;
        }
        bio_use_registered(dio, bio);
        st->len = 0;
        return bio_submit(dio, bio);
}

/* Move `len` bytes between the device and what comes next in `iter`. */
static int move_mapped(struct iomap_dio *dio, struct stretch *st, struct iov_iter *iter,
                       uint64_t addr, uint64_t len)
{
        while (len > 0) {
                uint64_t n;

                if (st->len > 0 && (st->addr + st->len != addr || st->len == BIO_MAX_LEN)) {
                        int ret = stretch_submit(dio, st);

                        if (ret < 0)
                                return ret;
                }
                if (st->len == 0) {
                        st->from = *iter;
                        st->addr = addr;
                }
                n = min_t(uint64_t, len, BIO_MAX_LEN - st->len);
                st->len += n;
                iov_iter_advance(iter, n);
                addr += n;
                len -= n;
        }
        return 0;
}

/*
 * Fill memory that no device request will fill.  What is being collected ends here: the next
 * stretch may follow on the device (around a hole it often does) but not in memory.
 */
static int read_in_memory(struct iomap_dio *dio, struct stretch *st, struct iov_iter *iter,
                          const struct iomap *map, uint64_t pos, uint64_t len)
{
        int ret = stretch_submit(dio, st);

        if (ret < 0)
                return ret;
        if (map->type == IOMAP_INLINE)
                iov_iter_copy_to(iter, (const char *)map->inline_data + (pos - map->offset),
                                 len);
        else
                iov_iter_zero(iter, len);
        return 0;
}

/* One round: a switch over mapping types, each arm one call. */
static int read_round(struct iomap_dio *dio, struct stretch *st, struct iov_iter *iter,
                      struct iomap_iter *it)
{
        uint64_t len = iomap_iter_length(it);
        uint64_t pos = it->pos;
        int ret = 0;

        switch (it->map.type) {
        case IOMAP_HOLE:
        case IOMAP_UNWRITTEN:
        case IOMAP_INLINE:
                ret = read_in_memory(dio, st, iter, &it->map, pos, len);
                break;
        case IOMAP_MAPPED:
                ret = move_mapped(dio, st, iter, iomap_addr_of(&it->map, pos), len);
                break;
        case IOMAP_DELALLOC:
                /* The range was written back before; somebody dirtied it again (B30). */
                ret = -EIO;
                break;
        }
        if (ret == 0)
                iomap_iter_advance(it, len);
        return ret;
}

/* ---- writing ---- */

/* Whether the mapping lets the request be durable by being written through (B7). */
static bool can_write_through(const struct iomap *map)
{
        return map->type == IOMAP_MAPPED &&
               !(map->flags & (IOMAP_F_NEW | IOMAP_F_SHARED | IOMAP_F_DIRTY));
}

/* What the mapping means for the end of the request. */
static void note_mapping(struct iomap_dio *dio, const struct iomap *map)
{
        if (map->type == IOMAP_UNWRITTEN)
                dio->flags |= IOMAP_DIO_UNWRITTEN;
        if (map->flags & IOMAP_F_NEW)
                dio->flags |= IOMAP_DIO_NEW;
        if ((dio->flags & IOMAP_DIO_THROUGH) && !can_write_through(map)) {
                dio->flags &= ~(uint32_t)IOMAP_DIO_THROUGH;
                dio->flags |= IOMAP_DIO_NEED_SYNC;
        }
}

static int write_zeroes(struct iomap_dio *dio, uint64_t addr, uint64_t len)
{
        struct vfs_super *sb = dio->iocb->inode->sb;

        if (len == 0)
                return 0;
        vfs_count(sb, VFS_DEVICE_WRITES);
        return uext4_bdev_write_zeroes(sb->dev, addr, len, 0);
}

/* One round of a write: the data, and zeros for the rest of blocks that it does not fill. */
static int write_round(struct iomap_dio *dio, struct stretch *st, struct iov_iter *iter,
                       struct iomap_iter *it)
{
        const uint64_t block = 1ull << it->inode->sb->block_bits;
        const uint64_t len = iomap_iter_length(it), pos = it->pos, end = pos + len;
        const bool fresh = it->map.type == IOMAP_UNWRITTEN || (it->map.flags & IOMAP_F_NEW);
        int ret = 0;

        if (it->map.type != IOMAP_MAPPED && it->map.type != IOMAP_UNWRITTEN)
                return -EIO;
        note_mapping(dio, &it->map);
        if (fresh)
                ret = write_zeroes(dio, iomap_addr_of(&it->map, round_down_pow2(pos, block)),
                                   pos & (block - 1));
        if (ret == 0)
                ret = move_mapped(dio, st, iter, iomap_addr_of(&it->map, pos), len);
        if (ret == 0 && (fresh || end > vfs_size(it->inode)))
                ret = write_zeroes(dio, iomap_addr_of(&it->map, end),
                                   round_up_pow2(end, block) - end);
        if (ret == 0)
                iomap_iter_advance(it, len);
        return ret;
}

/* ---- the walk ---- */

/*
 * Walk the whole range.  Under NOWAIT a mapping that is not at hand ends it early, which is no
 * error if something came before; the same word from the device is one.  A write ends early for
 * any mapping that cannot be had: what came before counts.
 */
static int submit_all(struct iomap_dio *dio, struct iomap_iter *it, struct iov_iter *iter)
{
        const bool write = dio->flags & IOMAP_DIO_WRITE;
        const uint64_t start = it->pos;
        struct stretch st = {.len = 0};
        int round = 0;
        int ret, last;

        while ((ret = iomap_iter_next(it)) > 0)
                round = it->status = write ? write_round(dio, &st, iter, it)
                                           : read_round(dio, &st, iter, it);
        /* Neither the round failed nor end(): it was begin(), for what comes next. */
        if (ret < 0 && (write || ret == -EAGAIN) && round == 0 && it->pos > start &&
            it->given_back == it->pos) {
                dio->stopped = ret;
                ret = 0;
        }
        last = stretch_submit(dio, &st);
        return first_error(ret, last);
}

/* True when the I/O is over, and it is for the submitter to finish. */
static bool submit(struct iomap_dio *dio, struct iomap_iter *it, struct iov_iter *iter)
{
        const uint64_t start = it->pos;
        int ret = submit_all(dio, it, iter);

        if (ret < 0)
                dio_set_error(dio, ret);
        else
                dio->done = min_t(uint64_t, dio->done, it->pos - start);
        return dio_put(dio);
}

int64_t iomap_dio_read(struct iomap_dio *dio, struct vfs_kiocb *iocb, struct iov_iter *iter,
                       const struct iomap_ops *ops)
{
        struct vfs_inode *inode = iocb->inode;
        uint64_t size = vfs_size(inode); /* B29: sampled once */
        uint64_t unit = uext4_bdev_geometry(inode->sb->dev)->logical_block;
        struct iomap_iter it;

        if (iocb->pos >= size || iter->count == 0)
                return 0;
        /* Whole units go over the wire, also the one that holds the end of the file. */
        iov_iter_truncate(iter, round_up_pow2(size - iocb->pos, unit));
        dio_init(dio, iocb, min_t(uint64_t, iter->count, size - iocb->pos), 0);
        it = (struct iomap_iter)IOMAP_ITER(inode, iocb->pos, iter->count, iomap_op_flags(iocb),
                                           ops);
        if (!submit(dio, &it, iter))
                return VFS_QUEUED;
        iomap_dio_end(dio);
        return iomap_dio_result(dio);
}

/* O_DSYNC may be had by writing through, on devices that make that worth it; O_SYNC has times
 * to write in any case. */
static uint32_t sync_flags(const struct vfs_kiocb *iocb)
{
        uint32_t caps = uext4_bdev_geometry(iocb->inode->sb->dev)->caps;

        if (!(iocb->flags & VFS_DSYNC))
                return 0;
        if (!(iocb->flags & VFS_SYNC) &&
            ((caps & UEXT4_BDEV_CAP_FUA) || !(caps & UEXT4_BDEV_CAP_VOLATILE)))
                return IOMAP_DIO_THROUGH;
        return IOMAP_DIO_NEED_SYNC;
}

int64_t iomap_dio_write(struct iomap_dio *dio, struct vfs_kiocb *iocb, struct iov_iter *iter,
                        const struct iomap_dio_write *how)
{
        struct iomap_iter it =
                IOMAP_ITER(iocb->inode, iocb->pos, iter->count, iomap_op_flags(iocb), how->ops);

        /* Unwritten: asked for again, now that the request is counted (see may_zero() in ext4).
         */
        if (how->first && how->first->type != IOMAP_UNWRITTEN) {
                it.map = *how->first;
                it.has_first = true;
        }
        dio_init(dio, iocb, iter->count, IOMAP_DIO_WRITE | sync_flags(iocb));
        if (how->wait)
                dio->queue = NULL;
        return submit(dio, &it, iter) ? iomap_dio_result(dio) : VFS_QUEUED;
}
