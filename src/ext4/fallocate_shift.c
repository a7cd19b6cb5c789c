/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/fallocate_shift.h"

#include "ext4/map_change.h"
#include "ext4/truncate.h"

/*
 * Extents move; the data stay where they are on the device.
 *
 * What fits in one transaction is all or nothing.  A file of very many extents takes more than
 * one, and a cut between them leaves it with a part moved and the rest not, as it does in the
 * kernel; never with blocks behind its end or blocks that are not its own.  For that the
 * size is at any time the larger one.
 */

static bool is_aligned(const struct ext4_inode *inode, uint64_t pos, uint64_t len)
{
        uint64_t unit = (uint64_t)inode->fs->block_size << inode->fs->cluster_bits;

        return ((pos | len) & (unit - 1)) == 0;
}

/* What is done beside moving: the size. */
#define SIZE_CREDITS (EXT4_INODE_CREDITS + EXT4_GROW_CREDITS)

/* Go on until all of the range has moved; a step has returned `ret`. */
static int shift_rest(struct jbd2_handle *h, struct ext4_inode *inode,
                      struct ext4_extent_range *range, int64_t delta, int ret)
{
        while (ret > 0) {
                ret = jbd2_restart(h, ext4_map_shift_credits(inode) + SIZE_CREDITS, 0);
                if (ret == 0)
                        ret = ext4_map_shift(h, inode, range, delta);
        }
        return ret;
}

static int set_size(struct jbd2_handle *h, struct ext4_inode *inode, uint64_t size)
{
        struct ext4_iloc loc;
        int ret = ext4_inode_begin(h, inode, &loc);

        if (ret < 0)
                return ret;
        if (size < vfs_size(&inode->vfs))
                ext4_set_size(inode, size);
        else
                ret = ext4_grow(h, inode, size);
        if (ret < 0) {
                ext4_iloc_put(&loc);
                return ret;
        }
        ext4_touch_changed(inode);
        ext4_inode_store(h, inode, &loc);
        return 0;
}

/* ---- collapse ---- */

static int collapse(struct jbd2_handle *h, struct ext4_inode *inode, uint64_t pos, uint64_t len)
{
        const uint32_t bits = inode->fs->block_bits;
        const uint64_t from = pos >> bits, nr = len >> bits;
        struct ext4_extent_range range = {
                .from = from + nr,
                .to = EXT4_NR_LBLKS,
                .keep = SIZE_CREDITS,
                .alloc_flags = ext4_alloc_rights(inode->fs),
        };
        const int64_t delta = -(int64_t)nr;
        int ret = ext4_map_remove_all(h, inode, from, from + nr,
                                      ext4_map_shift_credits(inode) + SIZE_CREDITS);

        if (ret == 0)
                ret = ext4_map_shift(h, inode, &range, delta);
        ret = shift_rest(h, inode, &range, delta, ret);
        return ret < 0 ? ret : set_size(h, inode, vfs_size(&inode->vfs) - len);
}

int ext4_collapse_range(struct ext4_inode *inode, uint64_t pos, uint64_t len)
{
        struct jbd2_handle *h;
        int ret;

        if (!is_aligned(inode, pos, len))
                return -EINVAL;
        if (pos + len >= vfs_size(&inode->vfs))
                return -EINVAL; /* that would be a truncation */
        ret = jbd2_start(inode->fs->journal,
                         ext4_map_remove_credits(inode) + ext4_map_shift_credits(inode) +
                                 SIZE_CREDITS,
                         ext4_map_remove_revokes(inode), &h);
        if (ret < 0)
                return ret;
        ret = collapse(h, inode, pos, len);
        return first_error(ret, jbd2_stop(h));
}

/* ---- insert ---- */

/* Nothing has moved: the size as it was. */
static void undo_size(struct jbd2_handle *h, struct ext4_inode *inode, uint64_t size)
{
        ext4_set_size(inode, size);
        (void)!ext4_inode_dirty(h, inode); /* it can fail only with the journal */
}

static int insert(struct jbd2_handle *h, struct ext4_inode *inode, uint64_t pos, uint64_t len)
{
        const uint32_t bits = inode->fs->block_bits;
        const uint64_t size = vfs_size(&inode->vfs);
        const int64_t delta = (int64_t)(len >> bits);
        struct ext4_extent_range range = {
                .from = pos >> bits,
                .to = EXT4_NR_LBLKS,
                .keep = SIZE_CREDITS,
                .alloc_flags = ext4_alloc_rights(inode->fs),
        };
        int ret = set_size(h, inode, size + len);

        if (ret < 0)
                return ret;
        ret = ext4_map_shift(h, inode, &range, delta);
        ret = shift_rest(h, inode, &range, delta, ret);
        if (ret < 0 && range.to == EXT4_NR_LBLKS)
                undo_size(h, inode, size);
        return ret;
}

int ext4_insert_range(struct ext4_inode *inode, uint64_t pos, uint64_t len)
{
        struct jbd2_handle *h;
        int ret;

        if (!is_aligned(inode, pos, len))
                return -EINVAL;
        if (len >
            ext4_max_size(inode) - min_t(uint64_t, vfs_size(&inode->vfs), ext4_max_size(inode)))
                return -EFBIG;
        if (pos >= vfs_size(&inode->vfs))
                return -EINVAL; /* there is nothing to move */
        ret = jbd2_start(inode->fs->journal, ext4_map_shift_credits(inode) + SIZE_CREDITS, 0,
                         &h);
        if (ret < 0)
                return ret;
        ret = insert(h, inode, pos, len);
        return first_error(ret, jbd2_stop(h));
}
