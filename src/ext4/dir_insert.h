/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_DIR_INSERT_H
#define EXT4_DIR_INSERT_H

/*
 * Entering a name, in two parts: making room, which may take a new block and can fail, and
 * writing the entry, which cannot.
 */

#include "ext4/dir_change.h"
#include "ext4/map_change.h"
#include "ext4/truncate.h"

/* A run of entries, to be changed, with room for one more. */
struct ext4_dir_slot {
        struct buf *buf; /* a reference; NULL: in the inode */
        uint8_t *block;  /* the bytes of buf */
        uint32_t start;  /* of the run, in block or in inline_data */
        uint32_t size;   /* of the run */
        uint32_t pos;    /* in the run: the entry that has room, */
        uint64_t seq;    /* as long as the directory's dir_seq is this */
};

/*
 * What one block more takes.  With extents: a tree that may have got a level since the caller
 * asked, an allocation, the inode; else three pointer blocks.  Then the block itself, the inode
 * with its size and the superblock, which learns of the first large directory.
 */
static inline uint32_t ext4_dir_append_credits(const struct ext4_inode *dir)
{
        uint32_t depth = 1;
        uint32_t map = EXT4_INDIRECT_ALLOC_CREDITS + EXT4_INODE_CREDITS;

        if (dir->flags & EXT4_FL_EXTENTS && !(dir->flags & EXT4_FL_INLINE_DATA))
                depth = ext4_extent_depth_soon(dir);
        if (ext4_has_incompat(dir->fs, EXT4_INCOMPAT_EXTENTS))
                map = max_t(uint32_t, map,
                            ext4_extent_credits_at(depth) + EXT4_BALLOC_CREDITS +
                                    EXT4_INODE_CREDITS);
        return map + 1 + EXT4_INODE_CREDITS + EXT4_GROW_CREDITS;
}

/*
 * What ext4_dir_make_room() and ext4_dir_enter() take together.  At most three blocks are new:
 * a leaf, and in the index a node and one more or the old root's contents; in a directory that
 * was linear a leaf and another one; and one before if it was inline.  Of those that are there,
 * the path through the index and the leaf.  The directory's inode is in the first of these.
 */
static inline uint32_t ext4_dir_insert_credits(const struct ext4_inode *dir)
{
        uint32_t nr = dir->flags & EXT4_FL_INLINE_DATA ? 4 : 3;

        return nr * ext4_dir_append_credits(dir) + 4;
}

/*
 * Make room for an entry with this name.  What it does on the way leaves a good directory each
 * time, so that nothing needs to be undone when it fails or the slot is not used.  alloc_flags:
 * EXT4_ALLOC_RESERVED or 0.  -ENOSPC, also when the index can have no more levels.
 */
must_check int ext4_dir_make_room(struct jbd2_handle *h, struct ext4_inode *dir,
                                  const struct ext4_name *name, unsigned alloc_flags,
                                  struct ext4_dir_slot *ret_slot);
void ext4_dir_slot_put(struct ext4_dir_slot *slot);

/*
 * Write the entry.  Since there was room, nothing was entered; entries may have been taken out.
 * The directory's inode is the caller's to store.
 */
void ext4_dir_enter(struct jbd2_handle *h, struct ext4_inode *dir, struct ext4_dir_slot *slot,
                    const struct ext4_name *name, const struct ext4_inode *inode);

/* ---- new directories ---- */

/* The first block of a directory that has none, with "." and "..".  -ENOSPC and others: nothing
 * has changed but the map. */
must_check int ext4_dir_init(struct jbd2_handle *h, struct ext4_inode *dir, uint32_t parent,
                             unsigned alloc_flags);

/* 1 when the directory has nothing but "." and "..", 0, -EUCLEAN and others. */
must_check int ext4_dir_is_empty_locked(struct ext4_inode *dir);

/* ---- for htree_change.c and namei.c ---- */

/*
 * One block more at the end of an inode whose blocks are metadata: zeros, to be changed; the
 * size of the inode covers it, and it is stored.  On an error nothing has changed but the map.
 */
struct ext4_new_block {
        struct buf *buf; /* a reference */
        uint8_t *bytes;
        ext4_lblk_t lblk;
};

must_check int ext4_append_block(struct jbd2_handle *h, struct ext4_inode *inode,
                                 unsigned alloc_flags, struct ext4_new_block *ret_new);

/* Whether a run has room for an entry of `need` bytes: 1 and where, 0, -EUCLEAN. */
must_check int ext4_dir_run_has_room(const struct ext4_inode *dir, const uint8_t *run,
                                     uint32_t size, uint32_t need, uint32_t *ret_pos);

/* A block of entries at work: entries are put one behind the other, then it is ended. */
struct ext4_dir_filler {
        const struct ext4_inode *dir;
        uint8_t *block;
        uint32_t pos;  /* where the next one goes */
        uint32_t last; /* where the last one is; pos if there is none */
};

void ext4_dir_fill_one(struct ext4_dir_filler *f, uint32_t ino, uint8_t type, const char *name,
                       size_t len);
void ext4_dir_fill_end(struct ext4_dir_filler *f); /* seals it, too */

/* In a hashed directory (htree_change.c); and from a linear one of one block to a hashed one:
 * 1, or 0 when it cannot be one. */
must_check int ext4_htree_make_room(struct jbd2_handle *h, struct ext4_inode *dir,
                                    const struct ext4_name *name, unsigned alloc_flags,
                                    struct ext4_dir_slot *ret_slot);
must_check int ext4_htree_convert(struct jbd2_handle *h, struct ext4_inode *dir,
                                  unsigned alloc_flags);

#endif
