/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_MAP_CHANGE_H
#define EXT4_MAP_CHANGE_H

/*
 * Changing the map of a file, of either kind, and its extent status cache with it.
 *
 * Each call takes the map lock exclusive, changes map and cache, and stores the inode in the
 * same transaction: between two calls everybody sees a consistent map (C37).  The caller holds
 * the inode lock exclusive, or is the completion of a request that is counted.
 *
 * -EUCLEAN, -EBADMSG, -EIO: what was found on the way.
 */

#include "ext4/extent_change.h"
#include "ext4/indirect_change.h"
#include "ext4/inode_store.h"

/* ---- allocating ---- */

struct ext4_map_request {
        ext4_lblk_t lblk;
        uint64_t len;            /* blocks, at most; > 0 */
        enum ext4_map_type type; /* of what is allocated: UNWRITTEN, or WRITTEN */
        unsigned alloc_flags;    /* EXT4_ALLOC_* beside DATA and DELAYED; KEPT for nodes */
};

/* The map, a run of data, its failure undone (same blocks), the inode. */
static inline uint32_t ext4_map_alloc_credits(const struct ext4_inode *inode)
{
        uint32_t n = inode->flags & EXT4_FL_EXTENTS
                             ? ext4_extent_change_credits(inode) + EXT4_BALLOC_CREDITS
                             : EXT4_INDIRECT_ALLOC_CREDITS;

        return n + EXT4_INODE_CREDITS;
}

/*
 * What is at lblk: if it is mapped, that, cut to the request; else as much as can be had in one
 * piece is allocated, and *ret_map says what.  A file without extents gets written blocks,
 * whatever is asked for, and only where there is a hole: -EEXIST.
 * -ENOSPC: see ext4_balloc_retry().
 */
must_check int ext4_map_alloc(struct jbd2_handle *h, struct ext4_inode *inode,
                              const struct ext4_map_request *req, struct ext4_map *ret_map);

/* ext4_indirect_alloc() for files without extents: for who has more to say than the other.
 * Same credits. */
must_check int ext4_map_alloc_indirect(struct jbd2_handle *h, struct ext4_inode *inode,
                                       const struct ext4_indirect_request *req,
                                       struct ext4_map *ret_map);

/*
 * The table of B10 .. B12: how a request that writes at block lblk gets its space where the
 * file has none.  The inode lock is held.
 */
enum ext4_alloc_mode {
        EXT4_MODE_WRITTEN,   /* behind i_size: nobody can read it; a crash truncates */
        EXT4_MODE_UNWRITTEN, /* inside: reads as zeros until it is converted */
        EXT4_MODE_NONE,      /* inside, indirect map: no, buffered (-ENOTBLK) */
};

enum ext4_alloc_mode ext4_alloc_mode(struct ext4_inode *inode, ext4_lblk_t lblk);

/* ---- steps: 1 when the handle has to be restarted (J18), the range says what is left ---- */

static inline uint32_t ext4_map_convert_credits(const struct ext4_inode *inode)
{
        return ext4_extent_change_credits(inode) + EXT4_INODE_CREDITS;
}

uint32_t ext4_map_remove_credits(const struct ext4_inode *inode);
uint32_t ext4_map_remove_revokes(const struct ext4_inode *inode);

static inline uint32_t ext4_map_shift_credits(const struct ext4_inode *inode)
{
        return ext4_extent_shift_credits(inode) + EXT4_INODE_CREDITS;
}

must_check int ext4_map_convert(struct jbd2_handle *h, struct ext4_inode *inode,
                                struct ext4_extent_range *range, enum ext4_map_type type);
must_check int ext4_map_remove(struct jbd2_handle *h, struct ext4_inode *inode,
                               struct ext4_extent_range *range);
must_check int ext4_map_shift(struct jbd2_handle *h, struct ext4_inode *inode,
                              struct ext4_extent_range *range, int64_t delta);

/*
 * Remove [from, to), restarting `h` as often as it takes; in the end it has at least `keep`
 * unused credits.
 */
must_check int ext4_map_remove_all(struct jbd2_handle *h, struct ext4_inode *inode,
                                   uint64_t from, uint64_t to, uint32_t keep);

#endif
