/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "iomap/iomap.h"

uint64_t iomap_iter_length(const struct iomap_iter *it)
{
        uint64_t in_map = it->map.length - (it->pos - it->map.offset);

        return min_t(uint64_t, in_map, it->len);
}

void iomap_iter_advance(struct iomap_iter *it, uint64_t n)
{
        assert(n <= iomap_iter_length(it));
        it->pos += n;
        it->len -= n;
}

/* Give the last mapping back.  1: go on, 0: the range is done, -errno. */
static int finish_round(struct iomap_iter *it)
{
        uint64_t done = it->pos - it->map_pos;
        int ret = 0;

        if (it->map_len == 0)
                return 1; /* the first round */
        if (it->ops->end)
                ret = it->ops->end(it->inode, it->map_pos, it->map_len, done, it->op_flags,
                                   &it->map);
        it->map_len = 0;
        if (ret == 0)
                it->given_back = it->pos;
        if (it->status < 0)
                return it->status; /* C30: the iteration's own error wins */
        if (ret < 0)
                return ret;
        return done > 0;
}

int iomap_iter_next(struct iomap_iter *it)
{
        int ret = finish_round(it);

        if (ret <= 0)
                return ret;
        if (it->len == 0)
                return 0;
        it->status = 0;
        if (it->has_first) {
                it->has_first = false;
        } else {
                ret = it->ops->begin(it->inode, it->pos, it->len, it->op_flags, &it->map);
                if (ret < 0)
                        return ret;
        }
        /* What begin promises (B9). */
        assert(it->map.length > 0);
        assert(it->map.offset <= it->pos);
        assert(it->pos - it->map.offset < it->map.length);
        it->map_pos = it->pos;
        it->map_len = it->len;
        return 1;
}
