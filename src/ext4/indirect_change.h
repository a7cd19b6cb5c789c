/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_INDIRECT_CHANGE_H
#define EXT4_INDIRECT_CHANGE_H

/*
 * Changing the map of an ext2 or ext3 file, under a handle.
 *
 * The caller holds the map lock exclusive, has the extent status cache follow, and stores the
 * inode in the same handle after each call, also after an error: `block` and `blocks` may have
 * changed.  The map is consistent at every return.
 */

#include "ext4/balloc.h"
#include "ext4/extent_change.h"

/* Up to three new pointer blocks and one run of data, each with a bitmap and a descriptor, and
 * the pointer block that was there. */
#define EXT4_INDIRECT_ALLOC_CREDITS (3u * (1u + EXT4_BALLOC_CREDITS) + EXT4_BALLOC_CREDITS + 1u)

/* One run inside one group, or a pointer block; the pointer block that pointed to it; the
 * two above that may have become empty. */
static inline uint32_t ext4_indirect_remove_credits(const struct ext4_fs *fs)
{
        return ext4_bfree_credits(fs, 1) * 4 + 3;
}

/* Revokes of one step: data that are metadata, and three pointer blocks. */
#define EXT4_INDIRECT_REMOVE_REVOKES (EXT4_EXTENT_META_PIECE + 3u)

/*
 * Allocate at lblk, which is a hole, up to `len` blocks, as many as are in one piece on disk
 * and under one pointer block.  They are written blocks with whatever was on the device: the
 * caller sees to what they hold before the transaction is durable.  `alloc_flags` is
 * EXT4_ALLOC_DATA or EXT4_ALLOC_META, and others, for the data.  `goal` 0: behind the block
 * before, if there is one.
 *
 * -EFBIG beyond what three levels reach; -ENOSPC; -EEXIST: it is no hole.
 */
struct ext4_indirect_request {
        ext4_lblk_t lblk;
        uint32_t len;
        ext4_fsblk_t goal;
        unsigned alloc_flags;
};

must_check int ext4_indirect_alloc(struct jbd2_handle *h, struct ext4_inode *inode,
                                   const struct ext4_indirect_request *req,
                                   struct ext4_map *ret_map);

/*
 * Take the range out of the map, from its end, and free its blocks and the pointer blocks that
 * become empty.  range->to falls; 1 when the credits are used up, as ext4_extent_remove().
 */
must_check int ext4_indirect_remove(struct jbd2_handle *h, struct ext4_inode *inode,
                                    struct ext4_extent_range *range);

/* How many logical blocks three levels reach. */
uint64_t ext4_indirect_nr_lblks(const struct ext4_fs *fs);

#endif
