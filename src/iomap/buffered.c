/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Reads and writes at any position and length, without a cache: whole device units go through a
 * bounce buffer.
 */

#include <string.h>

#include "iomap/iomap.h"
#include "util/alloc.h"

#define BOUNCE_SIZE (256u << 10) /* a multiple of every block of a device or file system */

struct bounce {
        struct uext4_bdev *dev;
        char *mem; /* made when first needed */
};

static int bounce_make(struct bounce *b)
{
        const struct uext4_bdev_geometry *geo = uext4_bdev_geometry(b->dev);

        if (!b->mem)
                b->mem = mem_alloc_aligned(max_t(uint32_t, geo->mem_align, 64), BOUNCE_SIZE);
        return b->mem ? 0 : -ENOMEM;
}

/* ---- reading ---- */

/* Copy [addr, addr + *len) of the device out; *len is cut to what one bounce holds. */
static int read_piece(struct bounce *b, struct iov_iter *iter, uint64_t addr, uint64_t *len)
{
        const uint32_t unit = uext4_bdev_geometry(b->dev)->logical_block;
        uint64_t start = round_down_pow2(addr, unit);
        uint64_t end;
        int ret = bounce_make(b);

        if (ret < 0)
                return ret;
        *len = min_t(uint64_t, *len, BOUNCE_SIZE - (addr - start));
        end = round_up_pow2(addr + *len, unit);
        ret = uext4_bdev_read(b->dev, b->mem, end - start, start);
        if (ret < 0)
                return ret;
        iov_iter_copy_to(iter, b->mem + (addr - start), *len);
        return 0;
}

static int read_round(struct bounce *b, struct iov_iter *iter, struct iomap_iter *it)
{
        uint64_t len = iomap_iter_length(it);
        int ret = 0;

        switch (it->map.type) {
        case IOMAP_HOLE:
        case IOMAP_UNWRITTEN:
                iov_iter_zero(iter, len);
                break;
        case IOMAP_INLINE:
                iov_iter_copy_to(iter,
                                 (const char *)it->map.inline_data + (it->pos - it->map.offset),
                                 len);
                break;
        case IOMAP_MAPPED:
                ret = read_piece(b, iter, iomap_addr_of(&it->map, it->pos), &len);
                break;
        case IOMAP_DELALLOC:
                ret = -EIO; /* nothing in this library makes delayed extents */
                break;
        }
        if (ret == 0)
                iomap_iter_advance(it, len);
        return ret;
}

int64_t iomap_buffered_read(struct vfs_kiocb *iocb, struct iov_iter *iter,
                            const struct iomap_ops *ops)
{
        struct vfs_inode *inode = iocb->inode;
        struct bounce bounce = {.dev = inode->sb->dev};
        uint64_t size = vfs_size(inode);
        struct iomap_iter it;
        int ret;

        if (iocb->pos >= size || iter->count == 0)
                return 0;
        iov_iter_truncate(iter, size - iocb->pos);
        it = (struct iomap_iter)IOMAP_ITER(inode, iocb->pos, iter->count, iomap_op_flags(iocb),
                                           ops);
        while ((ret = iomap_iter_next(&it)) > 0)
                it.status = read_round(&bounce, iter, &it);
        mem_free(bounce.mem);
        return it.pos > iocb->pos ? (int64_t)(it.pos - iocb->pos) : ret;
}

/* ---- writing ---- */

/* A piece of a write, with the unit that it is rounded to. */
struct piece {
        uint64_t addr, len;
        uint32_t unit;
        bool fresh; /* what is around it in its units is zeros, not what the device has */
};

/* The bytes around a piece that do not come from the user, into the bounce buffer. */
static int fill_around(struct bounce *b, const struct piece *p, uint64_t start, uint64_t end)
{
        const uint64_t last = end - p->unit; /* start of the last unit */
        int ret = 0;

        if (p->fresh) {
                memset(b->mem, 0, p->addr - start);
                memset(b->mem + (p->addr + p->len - start), 0, end - p->addr - p->len);
                return 0;
        }
        if (p->addr != start)
                ret = uext4_bdev_read(b->dev, b->mem, p->unit, start);
        if (ret == 0 && p->addr + p->len != end && (last != start || p->addr == start))
                ret = uext4_bdev_read(b->dev, b->mem + (last - start), p->unit, last);
        return ret;
}

static int write_piece(struct bounce *b, struct iov_iter *iter, const struct piece *p)
{
        const uint64_t start = round_down_pow2(p->addr, p->unit);
        const uint64_t end = round_up_pow2(p->addr + p->len, p->unit);
        int ret = bounce_make(b);

        if (ret == 0)
                ret = fill_around(b, p, start, end);
        if (ret < 0)
                return ret;
        iov_iter_copy_from(iter, b->mem + (p->addr - start), p->len);
        return uext4_bdev_write(b->dev, b->mem, end - start, start, 0);
}

/* All of what a mapping has of the range: end() is called once for it. */
static int write_round(struct bounce *b, struct iov_iter *iter, struct iomap_iter *it)
{
        const bool fresh = it->map.type == IOMAP_UNWRITTEN || (it->map.flags & IOMAP_F_NEW);
        uint64_t left = iomap_iter_length(it);

        if (it->map.type != IOMAP_MAPPED && it->map.type != IOMAP_UNWRITTEN)
                return -EIO;
        while (left > 0) {
                struct piece p = {.addr = iomap_addr_of(&it->map, it->pos), .fresh = fresh};
                int ret;

                p.unit = fresh ? 1u << it->inode->sb->block_bits
                               : uext4_bdev_geometry(b->dev)->logical_block;
                p.len = min_t(uint64_t, left, BOUNCE_SIZE - (p.addr & (p.unit - 1)));
                ret = write_piece(b, iter, &p);
                if (ret < 0)
                        return ret;
                iomap_iter_advance(it, p.len);
                left -= p.len;
        }
        return 0;
}

int64_t iomap_buffered_write(struct vfs_kiocb *iocb, struct iov_iter *iter,
                             const struct iomap_ops *ops)
{
        struct vfs_inode *inode = iocb->inode;
        struct bounce bounce = {.dev = inode->sb->dev};
        struct iomap_iter it =
                IOMAP_ITER(inode, iocb->pos, iter->count, iomap_op_flags(iocb), ops);
        uint64_t done; /* and given back: a size may have moved with it */
        int ret;

        while ((ret = iomap_iter_next(&it)) > 0)
                it.status = write_round(&bounce, iter, &it);
        done = max_t(uint64_t, it.given_back, iocb->pos) - iocb->pos;
        vfs_written(inode);
        mem_free(bounce.mem);
        return done > 0 ? (int64_t)done : ret;
}
