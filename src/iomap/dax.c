/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Reads and writes of a device that is memory: copies from and to it, at any position, with no
 * request and no other memory between.
 *
 * There is no completion: what begin() gives for writing is written blocks, which the file
 * system has made zeros if they were not the file's before, or held nothing.  So there is
 * nothing to convert, and no part of a block to care for.
 */

#include "iomap/iomap.h"

void *iomap_dax_addr(struct vfs_super *sb, uint64_t addr, uint64_t len)
{
        const uint64_t size = uext4_bdev_geometry(sb->dev)->size;

        return addr <= size && len <= size - addr ? sb->map + addr : NULL;
}

/* ---- reading ---- */

static int read_round(struct iov_iter *iter, struct iomap_iter *it)
{
        const uint64_t len = iomap_iter_length(it);
        const void *from;

        switch (it->map.type) {
        case IOMAP_HOLE:
        case IOMAP_UNWRITTEN:
                iov_iter_zero(iter, len);
                break;
        case IOMAP_MAPPED:
                from = iomap_dax_addr(it->inode->sb, iomap_addr_of(&it->map, it->pos), len);
                if (!from)
                        return -ENXIO;
                iov_iter_copy_to(iter, from, len);
                break;
        case IOMAP_INLINE:
        case IOMAP_DELALLOC:
                return -EIO; /* such files are not read here */
        }
        iomap_iter_advance(it, len);
        return 0;
}

int64_t iomap_dax_read(struct vfs_kiocb *iocb, struct iov_iter *iter,
                       const struct iomap_ops *ops)
{
        const uint64_t size = vfs_size(iocb->inode);
        struct iomap_iter it;
        int ret;

        if (iocb->pos >= size || iter->count == 0)
                return 0;
        iov_iter_truncate(iter, size - iocb->pos);
        it = (struct iomap_iter)IOMAP_ITER(iocb->inode, iocb->pos, iter->count,
                                           iomap_op_flags(iocb), ops);
        while ((ret = iomap_iter_next(&it)) > 0)
                it.status = read_round(iter, &it);
        return it.pos > iocb->pos ? (int64_t)(it.pos - iocb->pos) : ret;
}

/* ---- writing ---- */

static int write_round(struct iov_iter *iter, struct iomap_iter *it)
{
        const uint64_t len = iomap_iter_length(it);
        void *to;

        if (it->map.type != IOMAP_MAPPED)
                return -EIO;
        to = iomap_dax_addr(it->inode->sb, iomap_addr_of(&it->map, it->pos), len);
        if (!to)
                return -ENXIO;
        iov_iter_copy_from(iter, to, len);
        iomap_iter_advance(it, len);
        return 0;
}

int64_t iomap_dax_write(struct vfs_kiocb *iocb, struct iov_iter *iter,
                        const struct iomap_ops *ops)
{
        struct iomap_iter it =
                IOMAP_ITER(iocb->inode, iocb->pos, iter->count, iomap_op_flags(iocb), ops);
        int ret;

        while ((ret = iomap_iter_next(&it)) > 0)
                it.status = write_round(iter, &it);
        vfs_written(iocb->inode);
        return it.pos > iocb->pos ? (int64_t)(it.pos - iocb->pos) : ret;
}
