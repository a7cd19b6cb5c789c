/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Buffered reads and writes: between the caller's memory and the page cache.
 *
 * What is missing in a folio is read from where the mappings say that it is; holes and
 * unwritten space become zeros.  Behind the end of the file a folio has zeros, always: so a
 * file can grow by moving its size alone (C23).
 */

#include <string.h>

#include "iomap/iomap.h"

/* ---- filling ---- */

/* Bytes of the device, into a folio: all of one mapping that the run has. */
static int fill_round(struct folio *f, struct iomap_iter *it)
{
        struct vfs_super *sb = it->inode->sb;
        const uint64_t len = iomap_iter_length(it);
        char *to = folio_at(f, it->pos);
        int ret = 0;

        switch (it->map.type) {
        case IOMAP_MAPPED:
                vfs_count(sb, VFS_DEVICE_READS);
                ret = uext4_bdev_read(sb->dev, to, len, iomap_addr_of(&it->map, it->pos));
                break;
        case IOMAP_HOLE:
        case IOMAP_UNWRITTEN:
        case IOMAP_DELALLOC: /* blocks beside those that are dirty */
                memset(to, 0, len);
                break;
        case IOMAP_INLINE:
                ret = -EIO; /* such a file has no pages */
                break;
        }
        if (ret == 0)
                iomap_iter_advance(it, len);
        return ret;
}

/* One run of blocks that are missing, all before the end of the file's last block. */
static int fill_run(struct folio *f, uint64_t from, uint64_t to, uint64_t size,
                    const struct iomap_ops *ops)
{
        struct iomap_iter it = IOMAP_ITER(f->inode, from, to - from, 0, ops);
        int ret;

        while ((ret = iomap_iter_next(&it)) > 0)
                it.status = fill_round(f, &it);
        if (ret < 0)
                return ret;
        if (to > size)
                memset(folio_at(f, max_t(uint64_t, from, size)), 0,
                       to - max_t(uint64_t, from, size));
        folio_set_uptodate(f, from, to);
        return 0;
}

/* Make the blocks that [from, to) touches uptodate.  The folio is locked. */
static int fill(struct folio *f, uint64_t from, uint64_t to, const struct iomap_ops *ops)
{
        const uint64_t block = 1ull << f->block_bits;
        const uint64_t size = vfs_size(f->inode);
        const uint64_t last = round_up_pow2(size, block);
        uint64_t start, end;

        while (folio_next_missing(f, from, to, &start, &end)) {
                if (start >= last) {
                        memset(folio_at(f, start), 0, end - start);
                        folio_set_uptodate(f, start, end);
                } else {
                        int ret;

                        end = min_t(uint64_t, end, last);
                        ret = fill_run(f, start, end, size, ops);
                        if (ret < 0)
                                return ret;
                }
                if (end >= to)
                        break;
                from = end;
        }
        return 0;
}

/* ---- reading ---- */

/* Of the cache, what is read ahead may be that part. */
#define AHEAD_PART 32u

static uint64_t pow2_above(uint64_t n)
{
        return n <= 1 ? 1 : 1ull << (64 - __builtin_clzll(n - 1));
}

/* How much to have in memory from pos on: more and more for who reads on and on. */
static uint32_t window_for(struct vfs_kiocb *iocb, uint64_t pos, uint64_t len)
{
        struct vfs_readahead *ra = iocb->readahead;
        uint64_t window = min_t(uint64_t, len, FOLIO_MAX_SIZE);

        if (ra && pos == atomic_load_explicit(&ra->next, memory_order_relaxed)) {
                uint32_t old = atomic_load_explicit(&ra->window, memory_order_relaxed);

                window = max_t(uint64_t, window, max_t(uint32_t, 2 * old, VFS_READAHEAD_FIRST));
        }
        window = min_t(uint64_t, pow2_above(window), FOLIO_MAX_SIZE);
        if (ra)
                atomic_store_explicit(&ra->window, (uint32_t)window, memory_order_relaxed);
        return (uint32_t)min_t(uint64_t, window, pow2_above(vfs_size(iocb->inode)));
}

/* All of the folio from pos on, if that can be had; else what is wanted. */
static int fill_ahead(struct folio *f, uint64_t pos, uint64_t end, const struct iomap_ops *ops)
{
        int ret;

        mtx_lock(&f->lock);
        ret = fill(f, pos, folio_end(f), ops);
        if (ret < 0)
                ret = fill(f, pos, end, ops);
        mtx_unlock(&f->lock);
        return ret;
}

uint64_t iomap_buffered_fill(struct vfs_inode *inode, uint64_t pos, uint32_t size,
                             const struct iomap_ops *ops)
{
        struct folio *f;
        uint64_t end;
        int ret;

        if (pos >= vfs_size(inode) || vfs_pages_get(inode, pos, size, &f) < 0)
                return 0;
        end = folio_end(f);
        ret = fill_ahead(f, pos, end, ops);
        folio_put(f);
        return ret < 0 ? 0 : end;
}

static bool has_bytes(struct folio *f, uint64_t pos, uint64_t end)
{
        bool has;

        if (likely(atomic_load_explicit(&f->is_uptodate, memory_order_acquire)))
                return true;
        mtx_lock(&f->lock);
        has = folio_is_uptodate(f, pos, end);
        mtx_unlock(&f->lock);
        return has;
}

/* A folio that has the bytes from pos on, with a reference. */
static int folio_to_read(struct vfs_kiocb *iocb, uint64_t pos, uint64_t len,
                         const struct iomap_ops *ops, struct folio **ret_folio)
{
        struct vfs_inode *inode = iocb->inode;
        struct folio *f = vfs_pages_find(inode, pos);
        int ret;

        if (f && has_bytes(f, pos, min_t(uint64_t, pos + len, folio_end(f)))) {
                *ret_folio = f;
                return 0;
        }
        if (f)
                folio_put(f);
        if (iocb->flags & VFS_NOWAIT)
                return -EAGAIN;
        ret = vfs_pages_get(inode, pos, window_for(iocb, pos, len), &f);
        if (ret < 0)
                return ret;
        ret = fill_ahead(f, pos, min_t(uint64_t, pos + len, folio_end(f)), ops);
        if (ret < 0)
                folio_put(f);
        else
                *ret_folio = f;
        return ret;
}

/* Whether it goes on where the last one ended. */
static bool goes_on(const struct vfs_kiocb *iocb)
{
        struct vfs_readahead *ra = iocb->readahead;

        if (!ra || iocb->pos == 0)
                return false;
        if (iocb->pos == atomic_load_explicit(&ra->next, memory_order_relaxed))
                return true;
        if (atomic_load_explicit(&ra->ahead, memory_order_relaxed) > 0)
                atomic_store_explicit(&ra->ahead, 0, memory_order_relaxed);
        return false;
}

/*
 * The thread of the mount is to be two windows ahead of who reads on and on, and is asked when
 * it is less than one.  Not where a few of these would fill the cache.
 */
static void ask_ahead(const struct vfs_kiocb *iocb, const struct folio *f)
{
        struct vfs_readahead *ra = iocb->readahead;
        const uint64_t part = iocb->inode->sb->pagecache.limit / AHEAD_PART;
        const uint64_t most = min_t(uint64_t, pow2_above(part / 2 + 1), FOLIO_MAX_SIZE);
        const uint64_t end = folio_end(f);
        const uint64_t ahead = atomic_load_explicit(&ra->ahead, memory_order_relaxed);
        uint64_t window = atomic_load_explicit(&ra->window, memory_order_relaxed);
        uint64_t from, to;

        if (likely(end + window <= ahead) || end >= vfs_size(iocb->inode))
                return;
        window = min_t(uint64_t, max_t(uint64_t, 2 * window, VFS_READAHEAD_FIRST), most);
        from = max_t(uint64_t, ahead, end);
        to = min_t(uint64_t, end + 2 * window, vfs_size(iocb->inode));
        if (most < VFS_READAHEAD_FIRST || from >= to)
                return;
        atomic_store_explicit(&ra->window, (uint32_t)window, memory_order_relaxed);
        atomic_store_explicit(&ra->ahead, to, memory_order_relaxed);
        if (!vfs_pages_have(iocb->inode, from, from + 1)) /* else it is in the cache already */
                vfs_readahead_ask(ra, iocb->inode, end, to, (uint32_t)window);
}

int64_t iomap_buffered_read(struct vfs_kiocb *iocb, struct iov_iter *iter,
                            const struct iomap_ops *ops)
{
        const uint64_t size = vfs_size(iocb->inode); /* B29 */
        const bool goes_ahead = goes_on(iocb);
        uint64_t pos = iocb->pos;
        int ret = 0;

        if (pos >= size || iter->count == 0)
                return 0;
        iov_iter_truncate(iter, size - pos);
        while (iter->count > 0) {
                struct folio *f;
                uint64_t n;

                ret = folio_to_read(iocb, pos, iter->count, ops, &f);
                if (ret < 0)
                        break;
                if (goes_ahead)
                        ask_ahead(iocb, f);
                n = min_t(uint64_t, iter->count, folio_end(f) - pos);
                iov_iter_copy_to(iter, folio_at(f, pos), n);
                folio_put(f);
                pos += n;
        }
        if (iocb->readahead)
                atomic_store_explicit(&iocb->readahead->next, pos, memory_order_relaxed);
        return pos > iocb->pos ? (int64_t)(pos - iocb->pos) : ret;
}

int iomap_buffered_lend(struct vfs_kiocb *iocb, uint64_t len, const struct iomap_ops *ops,
                        struct folio **ret_folio)
{
        const bool goes_ahead = goes_on(iocb);
        int ret = folio_to_read(iocb, iocb->pos, len, ops, ret_folio);

        if (ret < 0 || !iocb->readahead)
                return ret;
        if (goes_ahead)
                ask_ahead(iocb, *ret_folio);
        atomic_store_explicit(&iocb->readahead->next,
                              min_t(uint64_t, iocb->pos + len, folio_end(*ret_folio)),
                              memory_order_relaxed);
        return 0;
}

/* ---- writing ---- */

/*
 * [pos, end) of a locked folio.  What the rest of a block is that is only partly written is
 * asked for now: the mapping that the write has may be older than what was written back
 * meanwhile.
 */
static int write_in_folio(struct folio *f, struct iov_iter *iter, uint64_t pos, uint64_t end,
                          const struct iomap_ops *read_ops)
{
        const uint64_t block = 1ull << f->block_bits;
        int ret = 0;

        if (pos & (block - 1))
                ret = fill(f, pos, pos + 1, read_ops);
        if (ret == 0 && (end & (block - 1)))
                ret = fill(f, end - 1, end, read_ops);
        if (ret < 0)
                return ret;
        iov_iter_copy_from(iter, folio_at(f, pos), end - pos);
        /* The size before the mark: who writes back stops at the size. */
        if (end > vfs_size(f->inode))
                atomic_store_explicit(&f->inode->size, end, memory_order_release);
        vfs_pages_dirty(f, pos, end);
        return 0;
}

static int write_piece(struct iov_iter *iter, struct iomap_iter *it,
                       const struct iomap_ops *read_ops)
{
        const uint64_t left = iomap_iter_length(it);
        struct folio *f;
        uint64_t end;
        int ret = vfs_pages_get(
                it->inode, it->pos,
                (uint32_t)min_t(uint64_t, pow2_above(left / 2 + 1), FOLIO_MAX_SIZE), &f);

        if (ret < 0)
                return ret;
        end = min_t(uint64_t, it->pos + left, folio_end(f));
        folio_lock_stable(f);
        ret = write_in_folio(f, iter, it->pos, end, read_ops);
        mtx_unlock(&f->lock);
        folio_put(f);
        if (ret == 0)
                iomap_iter_advance(it, end - it->pos);
        return ret;
}

static int write_round(struct iov_iter *iter, struct iomap_iter *it,
                       const struct iomap_ops *read_ops)
{
        const uint64_t end = it->pos + iomap_iter_length(it);

        if (it->map.type == IOMAP_HOLE || it->map.type == IOMAP_INLINE)
                return -EIO;
        while (it->pos < end) {
                int ret = write_piece(iter, it, read_ops);

                if (ret < 0)
                        return ret;
                vfs_balance_dirty(it->inode);
        }
        return 0;
}

int64_t iomap_buffered_write(struct vfs_kiocb *iocb, struct iov_iter *iter,
                             const struct iomap_ops *ops, const struct iomap_ops *read_ops)
{
        struct iomap_iter it =
                IOMAP_ITER(iocb->inode, iocb->pos, iter->count, iomap_op_flags(iocb), ops);
        int ret;

        while ((ret = iomap_iter_next(&it)) > 0)
                it.status = write_round(iter, &it, read_ops);
        return it.pos > iocb->pos ? (int64_t)(it.pos - iocb->pos) : ret;
}
