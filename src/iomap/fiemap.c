/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* FIEMAP: every mapping of a range that is not a hole. */

#include <linux/fiemap.h>

#include "iomap/iomap.h"

static uint32_t extent_flags(const struct iomap *map)
{
        uint32_t flags = 0;

        switch (map->type) {
        case IOMAP_DELALLOC:
                flags |= FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNKNOWN;
                break;
        case IOMAP_UNWRITTEN:
                flags |= FIEMAP_EXTENT_UNWRITTEN;
                break;
        case IOMAP_INLINE:
                flags |= FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_NOT_ALIGNED;
                break;
        case IOMAP_MAPPED:
        case IOMAP_HOLE:
                break;
        }
        if (map->flags & IOMAP_F_MERGED)
                flags |= FIEMAP_EXTENT_MERGED;
        if (map->flags & IOMAP_F_SHARED)
                flags |= FIEMAP_EXTENT_SHARED;
        return flags;
}

static void fill(struct fiemap_extent *fe, const struct iomap *map, uint32_t flags)
{
        *fe = (struct fiemap_extent){
                .fe_logical = map->offset,
                .fe_physical = map->addr == IOMAP_NULL_ADDR ? 0 : map->addr,
                .fe_length = map->length,
                .fe_flags = extent_flags(map) | flags,
        };
}

/*
 * One mapping is held back until the next one is known, because the last one of the file
 * carries FIEMAP_EXTENT_LAST: the walk goes one extent beyond the range to find out.
 */
int iomap_fiemap(struct vfs_inode *inode, uint64_t pos, uint64_t len,
                 struct fiemap_extent *extents, unsigned max, const struct iomap_ops *ops)
{
        struct iomap_iter it = IOMAP_ITER(inode, pos, INT64_MAX - pos, 0, ops);
        uint64_t end = len > INT64_MAX - pos ? INT64_MAX : pos + len;
        struct iomap held = {.type = IOMAP_HOLE};
        unsigned nr = 0;
        int ret;

        while ((ret = iomap_iter_next(&it)) > 0) {
                uint64_t next = it.pos + iomap_iter_length(&it);

                if (it.map.type != IOMAP_HOLE) {
                        if (held.type != IOMAP_HOLE) {
                                if (nr < max)
                                        fill(&extents[nr], &held, 0);
                                if (++nr == max || it.pos >= end)
                                        return (int)nr;
                        } else if (it.pos >= end) {
                                return 0;
                        }
                        held = it.map;
                }
                iomap_iter_advance(&it, next - it.pos);
        }
        if (ret < 0)
                return ret;
        if (held.type != IOMAP_HOLE) {
                if (nr < max)
                        fill(&extents[nr], &held, FIEMAP_EXTENT_LAST);
                nr++;
        }
        return (int)nr;
}
