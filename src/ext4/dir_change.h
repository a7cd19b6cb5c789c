/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_DIR_CHANGE_H
#define EXT4_DIR_CHANGE_H

/*
 * Changing directories.
 *
 *      dir_change.c     one entry: finding it, taking it out, leading it elsewhere
 *      dir_insert.c     room for one more, in blocks that are there or new (dir_insert.h)
 *      htree_change.c   the same in a hashed directory, whose index grows with it
 *      unlink.c namei.c rename.c  names (namei.h)
 */

#include "ext4/dir.h"
#include "ext4/inode_store.h"

/* Where an entry is. */
struct ext4_dir_place {
        struct buf *buf; /* a reference; NULL: in the inode */
        void *bytes;     /* of buf, once they may be changed */
        uint32_t start;  /* of the run of entries: in the block, or in inline_data */
        uint32_t size;   /* of the run */
        uint32_t pos;    /* of the entry, in the run */
        uint32_t prev;   /* of the entry before it; pos if it is the run's first */
        uint32_t ino;    /* that it leads to */
};

/*
 * Find the entry of a name, for changing it.  -ENOENT; -EUCLEAN, -EBADMSG when it may be in
 * what is damaged.  The caller holds the inode lock exclusive until it is done with the place.
 */
must_check int ext4_dir_find_locked(struct ext4_inode *dir, const struct ext4_name *name,
                                    struct ext4_dir_place *ret_place);
void ext4_dir_place_put(struct ext4_dir_place *place);

/* The block with the entry, and the directory's inode. */
#define EXT4_DIR_REMOVE_CREDITS (1u + EXT4_INODE_CREDITS)

/*
 * Changing what is at a place, for who changes several things at once: first access to what it
 * is in, which can fail, then one of the changes, which cannot, if nothing else has changed the
 * run since the place was found.  The directory's inode is the caller's to store.
 *
 * Taken out, the entry's space goes to the one before it, or is marked unused.
 */
must_check int ext4_dir_place_begin(struct jbd2_handle *h, struct ext4_dir_place *place);
void ext4_dir_take_out(struct jbd2_handle *h, struct ext4_inode *dir,
                       const struct ext4_dir_place *place);
void ext4_dir_lead_to(struct jbd2_handle *h, struct ext4_inode *dir,
                      const struct ext4_dir_place *place, const struct ext4_inode *inode);

/* Where ".." is: a place like others, but in a directory that is inline, where it is no entry
 * and the place is all zeros but for `ino`.  -EUCLEAN if it does not lead to `parent`. */
must_check int ext4_dir_find_parent_locked(struct ext4_inode *dir,
                                           const struct ext4_inode *parent,
                                           struct ext4_dir_place *ret_place);

/* An entry came, went, changed or has another place: by who changes the bytes. */
static inline void ext4_dir_changed(struct ext4_inode *dir)
{
        dir->dir_seq++;
}

/* ---- entries (pure) ---- */

/* The inverse of ext4_dir_rec_len(). */
le16 ext4_dir_rec_len_make(uint32_t block_size, uint32_t len);

/* What an entry says of the inode that it leads to. */
uint8_t ext4_dir_type(const struct ext4_fs *fs, uint32_t mode);

/* Where the entries of a leaf end: at the checksum, if there is one. */
static inline uint32_t ext4_dir_leaf_end(const struct ext4_fs *fs)
{
        return fs->block_size -
               (fs->has_metadata_csum ? (uint32_t)sizeof(struct ext4_dir_tail) : 0);
}

/* The checksum of a block of any form. */
void ext4_dir_seal(const struct ext4_inode *dir, uint8_t *block);

#endif
