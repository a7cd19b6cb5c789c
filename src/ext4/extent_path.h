/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_EXTENT_PATH_H
#define EXT4_EXTENT_PATH_H

/*
 * From the root of an extent tree down to a leaf, for those who change it: shared by the files
 * that extent_change.h names.  What is at the end (credits, blocks of a map) is for indirect
 * maps, too.
 *
 *  P1  The key of an index entry is the key of its child's first entry.  Whoever changes the
 *      first entry of a node says so to ext4_path_begin(), and ext4_path_end() puts it right
 *      all the way up.  (A tree made by others may have lower keys; they do no harm.)
 *  P2  But for the root, no node is empty between two operations.
 */

#include "ext4/extent_change.h"
#include "ext4/extent_edit.h"

struct ext4_extent_level {
        struct buf *buf;               /* NULL: the root, in the inode */
        struct ext4_extent_header *eh; /* changed only behind ext4_path_begin() */
        unsigned at;                   /* of an index node: the entry that the path takes */
        uint64_t from, to;             /* the logical blocks that the node may speak of */
        bool writable;
};

struct ext4_extent_path {
        struct ext4_inode *inode;
        unsigned depth; /* level[depth] is the leaf */
        struct ext4_extent_level level[EXT4_EXTENT_MAX_DEPTH + 1];
};

/* To the leaf where lblk is or would be; with references, until ext4_path_put(). */
must_check int ext4_path_find(struct ext4_inode *inode, ext4_lblk_t lblk,
                              struct ext4_extent_path *ret_path);
void ext4_path_put(struct ext4_extent_path *path);

static inline struct ext4_extent_header *ext4_path_leaf(struct ext4_extent_path *path)
{
        return path->level[path->depth].eh;
}

/*
 * For a path to lblk - 1: nothing is mapped between this block, which is lower, and the leaf's
 * first extent, as far as that is before lblk.  What is before it is in other leaves.
 */
uint64_t ext4_path_empty_from(const struct ext4_extent_path *path, uint64_t lblk);

enum ext4_path_key {
        EXT4_KEY_STAYS,
        EXT4_KEY_CHANGES, /* or may change: access to what is above, too */
};

/* Access to the node at `level`.  Nothing has changed when it fails. */
must_check int ext4_path_begin(struct jbd2_handle *h, struct ext4_extent_path *path,
                               unsigned level, enum ext4_path_key key);

/* The node has been changed: seal it, and put right the keys above. */
void ext4_path_end(struct jbd2_handle *h, struct ext4_extent_path *path, unsigned level);

/*
 * Room for `need` more entries in the leaf, 1 or 2, that will come in at `pos`.  0: there is.
 * 1: one step was made towards it (a node split, or the tree grown); the path is to be put and
 * found again.  Each step leaves a good tree.  -ENOSPC; -EFBIG: the tree cannot grow.
 */
must_check int ext4_path_make_room(struct jbd2_handle *h, struct ext4_extent_path *path,
                                   unsigned need, unsigned pos, unsigned alloc_flags);

/* The leaf is empty: free it, and what is above and would be empty without it. */
must_check int ext4_path_drop_leaf(struct jbd2_handle *h, struct ext4_extent_path *path,
                                   struct ext4_extent_range *range);

/* Let the root take the place of its only child, as often as that fits.  1: no credits. */
must_check int ext4_path_shrink(struct jbd2_handle *h, struct ext4_inode *inode,
                                struct ext4_extent_range *range);

/* ---- one extent ---- */

enum ext4_leaf_op {
        EXT4_LEAF_INSERT,
        EXT4_LEAF_CONVERT,
        EXT4_LEAF_CUT, /* in two, at `from` */
};

struct ext4_leaf_change {
        enum ext4_leaf_op op;
        uint64_t from, to; /* lies in one extent, or in a hole */
        ext4_fsblk_t pblk; /* for INSERT */
        enum ext4_map_type type;
};

/* Do it.  `alloc_flags`: the EXT4_ALLOC_RIGHTS for nodes that are needed. */
must_check int ext4_leaf_change(struct jbd2_handle *h, struct ext4_inode *inode,
                                const struct ext4_leaf_change *c, unsigned alloc_flags);

/* ---- credits ---- */

/*
 * At least that many credits beside those that the caller keeps, and revoke records: those that
 * the handle has, or more of them in place.  1: there are no more.
 */
must_check int ext4_range_ensure(struct jbd2_handle *h, struct ext4_extent_range *range,
                                 uint32_t credits, uint32_t revokes);

/* ---- blocks of a map ---- */

/*
 * Allocate a block of a map, of either kind.  req->flags: EXT4_ALLOC_RIGHTS, EXT4_ALLOC_KEPT;
 * they become those that it was done with, for ext4_bfree_map(), which undoes it in the same
 * transaction (`err`: why; for ext4_abort() if that fails, too).
 */
must_check int ext4_balloc_map(struct jbd2_handle *h, struct ext4_alloc *req,
                               ext4_fsblk_t *ret_pblk, uint32_t *ret_len);
void ext4_bfree_map(struct jbd2_handle *h, const struct ext4_alloc *req, ext4_fsblk_t pblk,
                    uint32_t len, int err);

/* Nodes take a whole cluster each. */
static inline uint32_t ext4_node_blocks(const struct ext4_fs *fs)
{
        return 1u << fs->cluster_bits;
}

/* The count of an inode's blocks, in units of 512 bytes, by file system blocks. */
static inline void ext4_add_blocks(struct ext4_inode *inode, uint64_t nr)
{
        inode->blocks += nr << (inode->fs->block_bits - 9);
}

/* What the disk says of it may be too low. */
static inline void ext4_sub_blocks(struct ext4_inode *inode, uint64_t nr)
{
        nr <<= inode->fs->block_bits - 9;
        inode->blocks -= min_t(uint64_t, nr, inode->blocks);
}

#endif
