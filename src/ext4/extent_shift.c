/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Moving what is mapped in a range to other logical blocks, for collapsing and inserting.
 *
 * Only keys change.  Leaf by leaf, from the side towards which the extents move, so that each
 * step moves a run of extents into a hole: the order in the tree stays, and it is a good tree
 * whenever the credits are used up.
 */

#include "ext4/extent_change.h"
#include "ext4/extent_path.h"

/* Cut the extent that goes over this block, if there is one. */
static int cut_over(struct jbd2_handle *h, struct ext4_inode *inode,
                    struct ext4_extent_range *range, uint64_t lblk)
{
        const struct ext4_leaf_change c = {.op = EXT4_LEAF_CUT, .from = lblk, .to = lblk};
        struct ext4_map map;
        int ret;

        if (lblk == 0 || lblk >= EXT4_NR_LBLKS)
                return 0;
        ret = ext4_extent_lookup(inode, (ext4_lblk_t)lblk, 0, &map);
        if (ret < 0 || map.type == EXT4_MAP_HOLE || map.lblk == lblk)
                return ret;
        ret = ext4_range_ensure(h, range, ext4_extent_shift_credits(inode), 0);
        return ret == 0 ? ext4_leaf_change(h, inode, &c, range->alloc_flags) : ret;
}

/* A run of extents in a leaf. */
struct run {
        unsigned first, nr;
        uint64_t from, to; /* what they cover, before the move */
};

/* The extents of the leaf that lie in the range; none: nr is 0. */
static struct run find_run(struct ext4_extent_path *path, const struct ext4_extent_range *range)
{
        const struct ext4_extent_header *leaf = ext4_path_leaf(path);
        int before =
                range->from > 0 ? ext4_node_find(leaf, (ext4_lblk_t)(range->from - 1)) : -1;
        int last = ext4_node_find(leaf, (ext4_lblk_t)(range->to - 1));
        struct run run = {.first = (unsigned)(before + 1)};
        struct ext4_map end;

        if (last <= before)
                return run;
        end = ext4_node_extent(leaf, (unsigned)last);
        run.nr = (unsigned)(last - before);
        run.from = ext4_node_key(leaf, run.first);
        run.to = ext4_map_end(&end);
        return run;
}

/* Whether the run can go there, as far as this leaf and the largest file tell. */
static int check_target(struct ext4_extent_path *path, const struct run *run, int64_t delta)
{
        const struct ext4_extent_header *leaf = ext4_path_leaf(path);
        const struct ext4_where at = ext4_at(path->inode, 0);
        int64_t from = (int64_t)run->from + delta, to = (int64_t)run->to + delta;
        int64_t free_from = 0, free_to = (int64_t)EXT4_NR_LBLKS;

        if (to > free_to)
                return -EFBIG;
        if (run->first > 0) {
                struct ext4_map before = ext4_node_extent(leaf, run->first - 1);

                free_from = (int64_t)ext4_map_end(&before);
        }
        if (run->first + run->nr < ext4_node_entries(leaf))
                free_to = ext4_node_key(leaf, run->first + run->nr);
        if (from < free_from || to > free_to)
                return ext4_corrupt(&at, "extents cannot move by %lld: there is no hole",
                                    (long long)delta);
        return 0;
}

static int shift_run(struct jbd2_handle *h, struct ext4_extent_path *path,
                     const struct run *run, int64_t delta)
{
        int ret = check_target(path, run, delta);

        if (ret == 0)
                ret = ext4_path_begin(h, path, path->depth,
                                      run->first == 0 ? EXT4_KEY_CHANGES : EXT4_KEY_STAYS);
        if (ret < 0)
                return ret;
        ext4_node_shift(ext4_path_leaf(path), run->first, run->nr, delta);
        ext4_path_end(h, path, path->depth);
        return 0;
}

/* In the leaf at the side of the range from which it begins. */
static int shift_in_leaf(struct jbd2_handle *h, struct ext4_extent_path *path,
                         struct ext4_extent_range *range, int64_t delta)
{
        const struct ext4_extent_level *leaf = &path->level[path->depth];
        struct run run = find_run(path, range);
        int ret;

        if (run.nr > 0) {
                ret = shift_run(h, path, &run, delta);
                if (ret < 0)
                        return ret;
        } else if (delta < 0) {
                run.to = leaf->to; /* on to the next leaf */
        } else {
                run.from = ext4_path_empty_from(path, range->to);
        }
        if (delta < 0)
                range->from = min_t(uint64_t, run.to, range->to);
        else
                range->to = max_t(uint64_t, run.from, range->from);
        return 0;
}

static int shift_step(struct jbd2_handle *h, struct ext4_inode *inode,
                      struct ext4_extent_range *range, int64_t delta)
{
        uint64_t at = delta < 0 ? range->from : range->to - 1;
        struct ext4_extent_path path;
        int ret = ext4_range_ensure(h, range, ext4_extent_shift_credits(inode), 0);

        if (ret != 0)
                return ret;
        ret = ext4_path_find(inode, (ext4_lblk_t)at, &path);
        if (ret < 0)
                return ret;
        ret = shift_in_leaf(h, &path, range, delta);
        ext4_path_put(&path);
        return ret;
}

int ext4_extent_shift(struct jbd2_handle *h, struct ext4_inode *inode,
                      struct ext4_extent_range *range, int64_t delta)
{
        int ret;

        assert(range->to <= EXT4_NR_LBLKS && delta != 0);
        if (range->from >= range->to)
                return 0;
        ret = cut_over(h, inode, range, range->from);
        if (ret == 0)
                ret = cut_over(h, inode, range, range->to);
        while (ret == 0 && range->from < range->to)
                ret = shift_step(h, inode, range, delta);
        return ret;
}
