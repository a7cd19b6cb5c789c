/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Writing dirty folios back.
 *
 * Neighbours are taken together, up to BATCH_BYTES.  Each run of dirty blocks among them is
 * walked mapping by mapping: begin() allocates where there is nothing yet, the run's part of
 * the mapping is sent as one request, end() does what has to follow: conversion, size.
 *
 * From being taken until its end a folio is marked; its bytes and the states of its blocks do
 * not change in that time.  No lock is held across the I/O.
 */

#include <sys/uio.h>

#include "iomap/iomap.h"

#define BATCH_FOLIOS 256
#define BATCH_BYTES  (8ull << 20)

struct batch {
        struct folio *folios[BATCH_FOLIOS]; /* each begins where the one before ends */
        unsigned nr;
};

/* ---- the folios ---- */

static void take(struct batch *b, struct vfs_inode *inode, uint64_t from, uint64_t to)
{
        struct folio *f = vfs_pages_take_dirty(inode, from, to);
        uint64_t bytes = 0;

        b->nr = 0;
        while (f) {
                uint64_t end = folio_end(f);

                b->folios[b->nr++] = f;
                bytes += f->size;
                /* Whoever is changing it ends first, and is the last for now. */
                mtx_lock(&f->lock);
                mtx_unlock(&f->lock);
                if (b->nr == BATCH_FOLIOS || bytes >= BATCH_BYTES || end >= to)
                        return;
                f = vfs_pages_take_dirty(inode, end, end + 1);
        }
}

static void give_back(struct batch *b)
{
        for (unsigned i = 0; i < b->nr; i++) {
                struct folio *f = b->folios[i];

                mtx_lock(&f->lock);
                folio_clear_dirty(f);
                mtx_unlock(&f->lock);
                vfs_pages_written(f);
        }
}

/* The run of dirty blocks that begins at or behind *from: across folios. */
static bool next_run(const struct batch *b, uint64_t *from, uint64_t *ret_end)
{
        bool found = false;

        for (unsigned i = 0; i < b->nr; i++) {
                const struct folio *f = b->folios[i];
                uint64_t start, end;

                if (folio_end(f) <= *from)
                        continue;
                if (!folio_next_dirty(f, max_t(uint64_t, *from, f->pos), folio_end(f), &start,
                                      &end)) {
                        if (found)
                                break;
                        continue;
                }
                if (found && start != *ret_end)
                        break;
                if (!found)
                        *from = start;
                found = true;
                *ret_end = end;
                if (end != folio_end(f))
                        break;
        }
        return found;
}

/* ---- the device ---- */

/* The memory of [pos, end). */
static int vector_of(const struct batch *b, uint64_t pos, uint64_t end, struct iovec *iov)
{
        int nr = 0;

        for (unsigned i = 0; i < b->nr && pos < end; i++) {
                const struct folio *f = b->folios[i];

                if (folio_end(f) <= pos)
                        continue;
                iov[nr].iov_base = folio_at(f, pos);
                iov[nr].iov_len = min_t(uint64_t, end, folio_end(f)) - pos;
                pos += iov[nr++].iov_len;
        }
        return nr;
}

/* Whole blocks are written; behind the end of the file they have zeros. */
static int write_round(const struct batch *b, struct iomap_iter *it)
{
        struct vfs_super *sb = it->inode->sb;
        const uint64_t block = 1ull << sb->block_bits;
        const uint64_t len = iomap_iter_length(it);
        struct iovec iov[BATCH_FOLIOS];
        int nr, ret;

        if (it->map.type != IOMAP_MAPPED && it->map.type != IOMAP_UNWRITTEN)
                return -EIO;
        if (atomic_load(&sb->is_down))
                return -EIO;
        nr = vector_of(b, it->pos, round_up_pow2(it->pos + len, block), iov);
        vfs_count(sb, VFS_DEVICE_WRITES);
        ret = uext4_bdev_writev(sb->dev, iov, nr, iomap_addr_of(&it->map, it->pos), 0);
        vfs_written(it->inode);
        if (ret == 0) /* order: the data before what makes it visible (C32) */
                iomap_iter_advance(it, len);
        return ret;
}

static int write_run(const struct batch *b, struct vfs_inode *inode, uint64_t from,
                     uint64_t end, const struct iomap_ops *ops)
{
        struct iomap_iter it = IOMAP_ITER(inode, from, end - from, 0, ops);
        int ret;

        while ((ret = iomap_iter_next(&it)) > 0)
                it.status = write_round(b, &it);
        return ret;
}

/* ---- all of a range ---- */

static int write_batch(const struct batch *b, struct vfs_inode *inode,
                       const struct iomap_ops *ops)
{
        const uint64_t size = vfs_size(inode);
        uint64_t from = b->folios[0]->pos;
        uint64_t end;
        int ret = 0;

        while (next_run(b, &from, &end)) {
                int err = 0;

                if (from < size)
                        err = write_run(b, inode, from, min_t(uint64_t, end, size), ops);
                if (err < 0)
                        vfs_pages_set_error(inode, err);
                ret = first_error(ret, err);
                from = end;
        }
        return ret;
}

int iomap_writeback(struct vfs_inode *inode, uint64_t from, uint64_t to, uint64_t ordered,
                    const struct iomap_ops *ops)
{
        struct batch b;
        int ret = 0;

        for (;;) {
                take(&b, inode, from, to);
                if (b.nr == 0)
                        return ret;
                if (folio_end(b.folios[b.nr - 1]) > ordered)
                        vfs_pages_wait(inode, ordered, b.folios[0]->pos); /* order: C20 */
                ret = first_error(ret, write_batch(&b, inode, ops));
                from = folio_end(b.folios[b.nr - 1]);
                give_back(&b);
        }
}
