/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the map may need is estimated chunk by chunk, so that a change costs little however
 * much is promised.  The estimate does not ask what the map looks like, but for its depth: it
 * is right whatever others do to the map meanwhile.
 */

#include "ext4/delayed_need.h"

#include "ext4/bitmap.h"
#include "ext4/extent_change.h"
#include "ext4/extent_edit.h"

/* How many of the equal spans of the file, the first of which begins at block `first`, have a
 * promised block.  (No clusters here.) */
static uint32_t count_spans(const uint8_t *bits, uint64_t base, uint64_t first, uint64_t span)
{
        const uint64_t end = base + EXT4_DELAYED_CHUNK;
        uint64_t lblk = max_t(uint64_t, base, first);
        uint32_t nr = 0;

        while (lblk < end) {
                uint64_t stop = min_t(uint64_t, end,
                                      first + round_down_pow2(lblk - first, span) + span);
                uint32_t hi = (uint32_t)(stop - base);

                nr += ext4_bits_next_set(bits, (uint32_t)(lblk - base), hi) < hi;
                lblk = stop;
        }
        return nr;
}

/* Pointer blocks on the way to the promised blocks of a chunk.  Some of them are counted in
 * another chunk, too. */
static uint32_t need_of_pointers(const struct ext4_fs *fs, const uint8_t *bits, uint64_t base)
{
        const uint64_t ptrs = 1ull << ext4_ptr_bits(fs);
        const uint64_t second = EXT4_NR_DIRECT + ptrs; /* where the second level begins */
        const uint64_t third = second + ptrs * ptrs;
        uint32_t nr = count_spans(bits, base, EXT4_NR_DIRECT, ptrs);

        if (base + EXT4_DELAYED_CHUNK > second)
                nr += count_spans(bits, base, second, ptrs * ptrs);
        if (base + EXT4_DELAYED_CHUNK > third)
                nr += count_spans(bits, base, third, ptrs * ptrs * ptrs);
        return nr;
}

uint64_t ext4_delayed_extents(const struct ext4_fs *fs)
{
        return fs->cluster_bits ? 1ull << (fs->cluster_bits - 1) : 1;
}

/* And how many more, when blocks of it that were unwritten become written: what is before them
 * and behind them is an extent each. */
static uint64_t extents_of_conversion(const struct ext4_fs *fs)
{
        return 2ull << fs->cluster_bits;
}

/*
 * Leaves that are full and in the way: a full one speaks of as many blocks as it has entries,
 * and one that is split at its end stays full, and is split again.  At most one for each new
 * extent.
 */
static uint64_t need_of_extents(const struct ext4_fs *fs, uint64_t extents)
{
        const uint64_t blocks = (uint64_t)EXT4_DELAYED_CHUNK << fs->cluster_bits;

        return min_t(uint64_t, extents, 4 + 2 * blocks / ext4_node_room(fs->block_size));
}

uint32_t ext4_delayed_need(const struct ext4_inode *inode, const struct ext4_delayed_chunk *c)
{
        const struct ext4_fs *fs = inode->fs;
        uint64_t extents;

        if (!(inode->flags & EXT4_FL_EXTENTS))
                return need_of_pointers(fs, c->promised[EXT4_DELAYED_DATA],
                                        ext4_delayed_base(c));
        extents = ext4_delayed_count(c, EXT4_DELAYED_DATA) * ext4_delayed_extents(fs) +
                  ext4_delayed_count(c, EXT4_DELAYED_CONVERSION) * extents_of_conversion(fs);
        return (uint32_t)need_of_extents(fs, extents);
}

/*
 * Nodes for `extents` new entries in a tree, of whose nodes at each level `full` may be split
 * for one entry.  For more, each half has to fill up again.  Last, the root moves down: for
 * each new level, which takes three splits below it.
 */
static uint64_t need_of_tree(const struct ext4_inode *inode, uint64_t extents, uint64_t full)
{
        const uint64_t room = ext4_node_room(inode->fs->block_size);
        const unsigned depth = ext4_extent_depth(inode);
        uint64_t nr = extents, sum = 0;

        if (extents == 0)
                return 0;
        for (unsigned k = 0; k < max_t(unsigned, depth, 2); k++) {
                nr = min_t(uint64_t, nr, (k < depth ? full : 0) + 4 * nr / room);
                sum += nr;
        }
        return sum + (sum < 3 ? 1 : 3);
}

uint64_t ext4_delayed_need_in_all(const struct ext4_inode *inode, uint64_t nr,
                                  uint64_t nr_unwritten, uint64_t need)
{
        const uint64_t loose = inode->delayed.nr_loose;

        if (!(inode->flags & EXT4_FL_EXTENTS))
                return need;
        return need_of_tree(inode,
                            nr * ext4_delayed_extents(inode->fs) +
                                    nr_unwritten * extents_of_conversion(inode->fs) + loose,
                            need + loose);
}
