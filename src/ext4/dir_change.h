/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_DIR_CHANGE_H
#define EXT4_DIR_CHANGE_H

/*
 * Changing directories: for now, taking an entry out.
 */

#include "ext4/dir.h"
#include "ext4/inode_store.h"

/* Where an entry is. */
struct ext4_dir_place {
        struct buf *buf; /* a reference; NULL: in the inode */
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
 * Take the entry out.  The space goes to the entry before it, or is marked unused.  Times of
 * the directory change, and it is stored.  On an error nothing has changed.
 */
must_check int ext4_dir_remove_locked(struct jbd2_handle *h, struct ext4_inode *dir,
                                      const struct ext4_dir_place *place);

/* ---- names (unlink.c) ---- */

/*
 * Remove a name of something that is no directory, and a link of that.  What has no links any
 * more lives until the last reference goes.  -ENOENT, -ENOTDIR, -EISDIR, -EPERM (immutable or
 * append-only), -EROFS.  Takes the inode locks of both.
 */
must_check int ext4_unlink(struct ext4_inode *dir, const struct ext4_name *name);

#endif
