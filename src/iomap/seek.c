/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* SEEK_DATA and SEEK_HOLE: the first mapping of the wanted kind, clipped to the size. */

#include <unistd.h>

#include "iomap/iomap.h"

/* Space that reads as zeros without being written is a hole to the user (B22). */
static bool is_hole(const struct iomap *map)
{
        return map->type == IOMAP_HOLE || map->type == IOMAP_UNWRITTEN;
}

/* The first position from `pos` on that is a hole (or is none); `size` when there is none. */
static int64_t seek_kind(struct vfs_inode *inode, uint64_t pos, uint64_t size, bool want_hole,
                         const struct iomap_ops *ops)
{
        struct iomap_iter it = IOMAP_ITER(inode, pos, size - pos, 0, ops);
        int ret;

        while ((ret = iomap_iter_next(&it)) > 0) {
                if (is_hole(&it.map) == want_hole)
                        return (int64_t)it.pos;
                iomap_iter_advance(&it, iomap_iter_length(&it));
        }
        return ret < 0 ? ret : (int64_t)size;
}

int64_t iomap_seek(struct vfs_inode *inode, uint64_t pos, int whence,
                   const struct iomap_ops *ops)
{
        uint64_t size = vfs_size(inode);
        int64_t found;

        if (whence != SEEK_DATA && whence != SEEK_HOLE)
                return -EINVAL;
        if (pos >= size)
                return -ENXIO;
        found = seek_kind(inode, pos, size, whence == SEEK_HOLE, ops);
        if (found >= 0 && whence == SEEK_DATA && (uint64_t)found == size)
                return -ENXIO;
        return found;
}
