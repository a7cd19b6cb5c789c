/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_EXTENT_CHANGE_H
#define EXT4_EXTENT_CHANGE_H

/*
 * Changing an extent tree, under a handle.
 *
 *      extent_edit.c    one node (pure)
 *      extent_path.c    from the root to a leaf; making room, taking empty nodes away
 *                       (extent_path.h)
 *      extent_change.c  insert, convert
 *      extent_remove.c  remove
 *      extent_shift.c   shift
 *
 * The caller holds the map lock exclusive, and has the extent status cache follow.
 *
 * Whatever is returned, the inode's `block` and `blocks` may have changed: the caller stores
 * the inode in the same handle after each call, also after an error (a tree that got room for
 * an extent which then found no space).  The tree is consistent at every return, and says what
 * it said before, but for what was asked for and is done.
 *
 * -EUCLEAN, -EBADMSG, -EIO: of nodes that were read.  -ENOSPC: no block for a node.
 */

#include <sys/stat.h>

#include "ext4/balloc.h"
#include "ext4/data_journal.h"

/* Blocks of these files are journalled, so that freeing one revokes it (J36). */
static inline bool ext4_data_is_meta(const struct ext4_inode *inode)
{
        return S_ISDIR(inode->mode) || S_ISLNK(inode->mode) || ext4_journals_data(inode) ||
               (inode->flags & (EXT4_FL_EA_INODE | EXT4_FL_JOURNAL_DATA));
}

/* ---- credits (J17) ---- */

/* How many levels below the root a tree has now. */
static inline uint32_t ext4_extent_depth(const struct ext4_inode *inode)
{
        return atomic_load_explicit(&inode->extent_depth, memory_order_relaxed);
}

/*
 * The levels that a change may find.  Handles are begun without the map lock, and who writes
 * back needs no other: the tree may have got a level when its turn comes.
 */
static inline uint32_t ext4_extent_depth_soon(const struct ext4_inode *inode)
{
        return min_t(uint32_t, ext4_extent_depth(inode) + 1, EXT4_EXTENT_MAX_DEPTH);
}

/*
 * One extent more, or up to two more where one is split.  With d levels below the root: the d
 * nodes of the path; in the worst case all are full, the root too.  Then d nodes are split and
 * the root moves down into a node: d + 1 new blocks, each with a bitmap and a descriptor.
 */
static inline uint32_t ext4_extent_credits_at(uint32_t depth)
{
        return depth + (depth + 1) * (1 + EXT4_BALLOC_CREDITS);
}

static inline uint32_t ext4_extent_change_credits(const struct ext4_inode *inode)
{
        return ext4_extent_credits_at(ext4_extent_depth_soon(inode));
}

/*
 * Freed at once: at most a run inside one group.  Then the nodes of the path, each of which may
 * become empty and be freed.  Or a hole is made in the middle of an extent.
 */
static inline uint32_t ext4_extent_remove_credits(const struct ext4_inode *inode)
{
        uint32_t depth = ext4_extent_depth_soon(inode);
        uint32_t node = ext4_bfree_credits(inode->fs, 1u << inode->fs->cluster_bits);

        return ext4_bfree_credits(inode->fs, 1) + depth * (1 + node) +
               ext4_extent_change_credits(inode);
}

/* Revoke records of one step of it: the nodes of a path; and data that are metadata (of a
 * directory) are freed in pieces of EXT4_EXTENT_META_PIECE blocks or one cluster. */
#define EXT4_EXTENT_META_PIECE 64u

uint32_t ext4_extent_remove_revokes(const struct ext4_inode *inode);

/* Leaf by leaf: a path, and what cutting an extent in two takes. */
static inline uint32_t ext4_extent_shift_credits(const struct ext4_inode *inode)
{
        return ext4_extent_change_credits(inode);
}

/* ---- the operations ---- */

/*
 * Add an extent where there is a hole, no longer than ext4_extent_max_len().  It becomes one
 * with its neighbours where it can.  Nodes are allocated with the EXT4_ALLOC_RIGHTS and
 * EXT4_ALLOC_KEPT that are in `alloc_flags`.  Credits: ext4_extent_change_credits().
 */
must_check int ext4_extent_insert(struct jbd2_handle *h, struct ext4_inode *inode,
                                  const struct ext4_map *new, unsigned alloc_flags);

/*
 * What is left to do of an operation on a range.  The operations below go on as long as the
 * handle has credits or can get more in place.  Then they return 1, and `from` or `to` has
 * moved: the caller stores the inode, restarts the handle and calls again (J18).
 */
struct ext4_extent_range {
        uint64_t from, to; /* logical blocks, `to` not included */
        uint32_t keep; /* credits that the caller wants to have left: storing the inode, .. */
        uint32_t revokes;     /* revoke records that the handle has for this; counted down */
        unsigned alloc_flags; /* for nodes: EXT4_ALLOC_RIGHTS, EXT4_ALLOC_KEPT; what must
                               * not fail has them all */
};

/*
 * Make all extents in the range `type`, which is WRITTEN or UNWRITTEN; from its start.
 *
 * To WRITTEN, which is what completes a write: blocks for nodes may come from the pool (C33),
 * and when there is none even there, unwritten blocks beside the range are zeroed on the device
 * and become written with it, so that no node is needed; never others, and never beyond the
 * end of the file (C34, C21).  What is not mapped is damage: -EUCLEAN.
 * To UNWRITTEN: holes stay holes.
 *
 * Credits for a step: ext4_extent_change_credits().
 */
must_check int ext4_extent_convert(struct jbd2_handle *h, struct ext4_inode *inode,
                                   struct ext4_extent_range *range, enum ext4_map_type type);

/*
 * Take the range out of the map and free its blocks, from its end; range->to falls.  The depth
 * of the tree shrinks when what is left fits.  Takes the freed blocks off inode->blocks.
 *
 * A cluster is freed with the last of its blocks that is mapped (bigalloc).
 *
 * Credits for a step: ext4_extent_remove_credits(), revokes: ext4_extent_remove_revokes().
 */
must_check int ext4_extent_remove(struct jbd2_handle *h, struct ext4_inode *inode,
                                  struct ext4_extent_range *range);

/*
 * Move all that is mapped in the range by `delta` logical blocks.  The extents at `from` and
 * `to` are cut if they go over it.  Where they move to is a hole: for collapsing, remove [a, b)
 * and shift [b, EXT4_NR_LBLKS) by a - b; for inserting n at a, shift [a, EXT4_NR_LBLKS) by n.
 * Forward begins at the end and `to` falls, backward at the start and `from` rises.
 *
 * -EFBIG, at the first call: something would end up beyond EXT4_MAX_LBLK.
 * Credits for a step: ext4_extent_shift_credits().
 */
must_check int ext4_extent_shift(struct jbd2_handle *h, struct ext4_inode *inode,
                                 struct ext4_extent_range *range, int64_t delta);

/* Make i_block the root of an empty tree. */
void ext4_extent_init(struct ext4_inode *inode);

#endif
