/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* SEEK_DATA and SEEK_HOLE: the first mapping of the wanted kind, clipped to the size. */

#include <unistd.h>

#include "iomap/iomap.h"

/* The first bytes behind some position that were only in memory when they were asked for. */
struct dirty {
        uint64_t from, to;
};

/* From pos on.  Asked for before the mapping: what is written back in between is found there.
 */
static void look_for_dirty(struct dirty *d, struct vfs_inode *inode, uint64_t pos,
                           uint64_t size)
{
        if (pos >= d->to && !vfs_pages_next_dirty(inode, pos, size, &d->from, &d->to))
                d->from = d->to = size;
}

/*
 * Space that reads as zeros without being written is a hole to the user (B22), unless there is
 * data for it in memory (B21).  *ret_len bytes from it->pos on are alike.
 */
static bool is_hole(const struct iomap_iter *it, const struct dirty *d, uint64_t *ret_len)
{
        *ret_len = iomap_iter_length(it);
        if (it->map.type != IOMAP_HOLE && it->map.type != IOMAP_UNWRITTEN)
                return false;
        if (d->from > it->pos) {
                *ret_len = min_t(uint64_t, *ret_len, d->from - it->pos);
                return true;
        }
        *ret_len = min_t(uint64_t, *ret_len, d->to - it->pos);
        return false;
}

/* The first position from `pos` on that is a hole (or is none); `size` when there is none. */
static int64_t seek_kind(struct vfs_inode *inode, uint64_t pos, uint64_t size, bool want_hole,
                         const struct iomap_ops *ops)
{
        struct iomap_iter it = IOMAP_ITER(inode, pos, size - pos, 0, ops);
        struct dirty d = {.to = 0};
        int ret;

        look_for_dirty(&d, inode, pos, size);
        while ((ret = iomap_iter_next(&it)) > 0) {
                uint64_t len;

                if (is_hole(&it, &d, &len) == want_hole)
                        return (int64_t)it.pos;
                iomap_iter_advance(&it, len);
                look_for_dirty(&d, inode, it.pos, size);
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
