/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * filemap.c - reading a file's whole mapping in portions (see filemap.h).
 *
 * The extents come from a hostile image through the library, which promises rising order;
 * nothing here relies on it for more than a sensible answer.
 */
#include "cli/filemap.h"

#include <errno.h>
#include <stdlib.h>

#include "cli/cli.h"

#define PORTION 512u

static uint64_t extent_end(const struct fiemap_extent *extent)
{
        uint64_t end;

        if (__builtin_add_overflow(extent->fe_logical, extent->fe_length, &end))
                return UINT64_MAX;
        return end;
}

int filemap_read(struct uext4_file *file, struct filemap *ret_map)
{
        struct filemap map = {0};
        size_t room = 0;
        uint64_t pos = 0;
        int ret;

        do {
                if (room - map.nr < PORTION) {
                        room = 2 * room + PORTION;
                        map.extents = cli_realloc(map.extents, room, sizeof(*map.extents));
                }
                ret = uext4_fiemap(file, pos, FIEMAP_MAX_OFFSET - pos, map.extents + map.nr,
                                   PORTION);
                if (ret <= 0)
                        break;
                map.nr += (size_t)ret;
                if (extent_end(&map.extents[map.nr - 1]) <= pos)
                        ret = -EUCLEAN; /* no progress */
                pos = extent_end(&map.extents[map.nr - 1]);
        } while (ret > 0 && !(map.extents[map.nr - 1].fe_flags & FIEMAP_EXTENT_LAST));
        if (ret < 0 && !(ret == -EFBIG && map.nr > 0)) { /* -EFBIG: the last one ended there */
                filemap_done(&map);
                return ret;
        }
        *ret_map = map;
        return 0;
}

void filemap_done(struct filemap *map)
{
        free(map->extents);
        map->extents = NULL;
        map->nr = 0;
}

int filemap_is_on_device(const struct fiemap_extent *extent)
{
        return !(extent->fe_flags &
                 (FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_DATA_INLINE |
                  FIEMAP_EXTENT_DATA_TAIL | FIEMAP_EXTENT_UNWRITTEN));
}

int filemap_next(const struct filemap *map, struct filemap_iter *at, uint64_t pos, uint64_t end,
                 struct filemap_piece *ret_piece)
{
        for (; pos < end && at->next < map->nr; at->next++) {
                const struct fiemap_extent *extent = &map->extents[at->next];
                uint64_t from = extent->fe_logical > pos ? extent->fe_logical : pos;
                uint64_t to = extent_end(extent) < end ? extent_end(extent) : end;

                if (extent->fe_logical >= end)
                        return 0;
                if (from >= to || !filemap_is_on_device(extent))
                        continue;
                ret_piece->file_pos = from;
                ret_piece->pos = extent->fe_physical + (from - extent->fe_logical);
                ret_piece->len = to - from;
                return 1;
        }
        return 0;
}
