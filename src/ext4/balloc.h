/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_BALLOC_H
#define EXT4_BALLOC_H

/*
 * Giving out and taking back blocks.
 *
 *      balloc.c        which group, how much, for whom
 *      balloc_group.c  one group at work: its lock, free space, changes on disk
 *      bfree.c         taking back, now on disk and in memory once that is durable
 *      prealloc.c      windows: space ahead of a file that grows
 *      group_space.c   a set of runs of clusters (pure)
 *      bitmap.c        block and inode bitmaps, read, checked, initialised, sealed
 *      system_zone.c   where the file system's own blocks are
 *      group.c         descriptors, read and written
 *
 * Each group has a lock of RANK_GROUP, and nobody holds two of them.  Under it are the
 * group's descriptor, both its bitmaps, and what is known in memory of its free space: read
 * from the bitmap when it is first needed.
 *
 * Space that is free in the bitmap may still be kept back in memory: what was freed by a
 * transaction that is not durable (J22), and windows.  Both count as free.
 *
 * A group whose descriptor and bitmap do not agree is said once, and not used again: its
 * space is not given out, and freeing in it is -EUCLEAN.
 */

#include "ext4/ext4.h"
#include "jbd2/jbd2.h"

struct ext4_balloc;

/* At mounting for writing: reads all descriptors.  A bad one makes its group unusable. */
must_check int ext4_balloc_new(struct ext4_fs *fs);

/* Nothing is pending: after jbd2_unload().  Nothing happens when there is none. */
void ext4_balloc_free(struct ext4_fs *fs);

/* ---- allocating (balloc.c) ---- */

enum ext4_alloc_flags {
        EXT4_ALLOC_DATA = 1u << 0,      /* of a file: near the goal, with a window ahead */
        EXT4_ALLOC_META = 1u << 1,      /* a map's block, a directory's: into small gaps */
        EXT4_ALLOC_RESERVED = 1u << 2,  /* may use what is reserved for root */
        EXT4_ALLOC_POOL = 1u << 3,      /* may use all: work that must not fail (C33) */
        EXT4_ALLOC_NO_WINDOW = 1u << 4, /* all that will be wanted is asked for: fallocate */
        EXT4_ALLOC_DELAYED = 1u << 5,   /* its inode has promises for it (delayed.h) */
        EXT4_ALLOC_KEPT = 1u << 6, /* a map's block, for data that is in memory only: by the
                                    * promises for the map, then as with POOL */
};

/* The right to space that not everybody has: whoever has it for data has it for the map. */
#define EXT4_ALLOC_RIGHTS ((unsigned)(EXT4_ALLOC_RESERVED | EXT4_ALLOC_POOL))

struct ext4_alloc {
        struct ext4_inode *inode; /* whose; its map lock is held exclusive for DATA */
        ext4_lblk_t lblk;         /* of the first block */
        ext4_fsblk_t goal;        /* best place, such as behind the extent before; 0: none */
        uint32_t len;             /* blocks wanted, > 0 */
        unsigned flags;           /* EXT4_ALLOC_*: one of DATA and META, and others */
};

/*
 * Allocate 1 .. len contiguous blocks of one group.  With clusters these are whole ones:
 * *ret_pblk and *ret_len are multiples of a cluster, and len is rounded up; a goal is rounded
 * down.  The inode's count of blocks is the caller's.
 *
 * -ENOSPC (see ext4_balloc_retry), -EUCLEAN, -EROFS, -EIO, -ENOMEM: nothing has changed.
 */
must_check int ext4_balloc(struct jbd2_handle *h, const struct ext4_alloc *req,
                           ext4_fsblk_t *ret_pblk, uint32_t *ret_len);

/* One group's bitmap and the block with its descriptor. */
#define EXT4_BALLOC_CREDITS 2u

/*
 * After -ENOSPC, with no handle open: 1 when trying again may help, at most three times for
 * one *tries (0 to begin with).  Makes transactions durable that have freed something (B16).
 * 0: there is no space.
 */
must_check int ext4_balloc_retry(struct ext4_fs *fs, int *tries);

/* Whether this user may use the reserved blocks: the superblock's or the mount's, or root. */
bool ext4_reserved_is_for(const struct ext4_fs *fs, uint32_t uid, uint32_t gid);

/* What the caller, whoever owns the file, may use: EXT4_ALLOC_RESERVED or 0. */
unsigned ext4_alloc_rights(const struct ext4_fs *fs);

/* ---- freeing (bfree.c) ---- */

enum ext4_free_flags {
        EXT4_FREE_META = 1u << 0,   /* journalled blocks: each is forgotten and revoked (J36) */
        EXT4_FREE_FORGET = 1u << 1, /* journalled in this transaction at most: just forgotten */
        EXT4_FREE_DELAYED = 1u << 2, /* undoes EXT4_ALLOC_DELAYED: the promise is still there */
};

/*
 * Free blocks of an inode, whole clusters.  On disk they are free with the handle's
 * transaction; they are given out again when it is durable, and discarded before that if the
 * mount is to discard.
 *
 * -EUCLEAN when they are not the inode's to free: outside, in a system zone, free already.
 * On any error nothing has changed, or the journal is aborted.
 */
must_check int ext4_bfree(struct jbd2_handle *h, struct ext4_inode *inode, ext4_fsblk_t pblk,
                          uint32_t len, unsigned flags);

/* Blocks that freeing one run of len blocks dirties: bitmap and descriptor of each group that
 * it can touch.  A run of len blocks lies in at most ceil(len / group) + 1 groups. */
static inline uint32_t ext4_bfree_credits(const struct ext4_fs *fs, uint32_t len)
{
        uint32_t groups = (uint32_t)div_round_up(len, fs->blocks_per_group) + 1;

        return 2 * min_t(uint32_t, groups, fs->nr_groups);
}

/* Revoke records of it. */
static inline uint32_t ext4_bfree_revokes(uint32_t len, unsigned flags)
{
        return flags & EXT4_FREE_META ? len : 0;
}

/* ---- trimming (trim.c) ---- */

/*
 * Discard what is free of the bytes [start, start + len), in runs of at least `least` bytes.
 * *ret_bytes: how many were.  Only what could be given out now, and nobody is given any of it
 * while the device is at it.  The caller has no handle open.
 *
 * -EINVAL: start behind the end, less than a block, runs longer than a group; -EOPNOTSUPP of
 * the device; -EROFS, -EIO, -ENOMEM.
 */
must_check int ext4_trim(struct ext4_fs *fs, uint64_t start, uint64_t len, uint64_t least,
                         uint64_t *ret_bytes);

/* ---- counting ---- */

/* Clusters that are free on disk, as of all that was done so far, and not promised to data in
 * memory.  Exact, no lock. */
uint64_t ext4_free_clusters(const struct ext4_fs *fs);

/* Of one group; no lock: for choosing a group.  0 when the group is bad. */
uint32_t ext4_group_free_clusters(const struct ext4_fs *fs, ext4_group_t group);

/* ---- windows (prealloc.c) ---- */

/*
 * Give back what is kept for the inode.  The caller holds the map lock exclusive, or nobody
 * else can reach the inode: when the file is closed by its last writer, truncated, unloaded.
 * Needs no handle.
 */
void ext4_prealloc_drop(struct ext4_inode *inode);

/* ---- groups, for who allocates inodes in them ---- */

void ext4_group_lock(struct ext4_fs *fs, ext4_group_t group);
void ext4_group_unlock(struct ext4_fs *fs, ext4_group_t group);

/* A descriptor that may be written. */
struct ext4_group_loc {
        struct ext4_fs *fs;
        ext4_group_t group;
        struct buf *buf;
        void *desc;
};

/*
 * Access to a descriptor (group.c); -EUCLEAN when it names blocks that are not its own.  The
 * caller holds the group's lock until ext4_group_store(), which writes all of *g, seals,
 * dirties and lets go, or ext4_group_loc_put(), which just lets go.  Credit: 1.
 */
must_check int ext4_group_begin(struct jbd2_handle *h, struct ext4_fs *fs, ext4_group_t group,
                                struct ext4_group_loc *ret_loc, struct ext4_group *ret_group);
void ext4_group_store(struct jbd2_handle *h, struct ext4_group_loc *loc,
                      const struct ext4_group *g);
void ext4_group_loc_put(struct ext4_group_loc *loc);

#endif
