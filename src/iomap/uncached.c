/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Reads at any position and length, beside the page cache: of data that lies in an inode, and
 * of values that are kept like files.  Whole device units go through a bounce buffer.
 */

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
                ret = -EIO; /* such a file has pages */
                break;
        }
        if (ret == 0)
                iomap_iter_advance(it, len);
        return ret;
}

int64_t iomap_uncached_read(struct vfs_kiocb *iocb, struct iov_iter *iter,
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
