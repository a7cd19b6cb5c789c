/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_IALLOC_H
#define EXT4_IALLOC_H

/*
 * Giving out and taking back inodes.
 *
 *      ialloc.c        allocating one: bitmap, descriptor, the new inode
 *      ialloc_group.c  in which group: Orlov for directories, near the parent for the rest
 *      inode_new.c     what a new one is like
 *      inode_delete.c  what happens when the last reference to an unlinked inode goes
 */

#include "ext4/inode_store.h"
#include "ext4/xattr_change.h"

struct ext4_ialloc;

/* At mounting for writing, after jbd2_load(), before anything else of this header, of
 * orphan.h and of inode_store.h. */
must_check int ext4_ialloc_new(struct ext4_fs *fs);
void ext4_ialloc_free(struct ext4_fs *fs); /* nothing happens when there is none */

/* What the caller wants. */
struct ext4_new_inode {
        uint16_t mode;     /* type and permissions */
        uint16_t umask;    /* of these the ones that it does not get, but by a default ACL */
        uint32_t uid, gid; /* gid: unless the directory has S_ISGID, then its own */
        uint32_t rdev_major, rdev_minor; /* of a device */
        struct timespec now;
        uint32_t goal; /* an inode near which to be; 0: as is best */
        bool is_part;  /* of `dir`, which may be anything, as the value of an attribute is:
                        * it inherits no ACL */
};

/*
 * Allocate an inode that will be entered into `dir`: referenced, in the table, on disk.  It has
 * one link, a directory two; it is empty, the root of its map set up; inline data are not used.
 * From the directory it inherits the flags that its type can have, the project, with S_ISGID
 * the group, and the default ACL, with which its mode is masked.  The caller holds the
 * directory's inode lock exclusive, and enters it or, when that fails, sets nlink to 0, which
 * the last ext4_iput() then makes good.
 *
 * -ENOSPC: no inode is free, or no block for the ACLs, or they are larger than one.  -EUCLEAN,
 * -EIO, -ENOMEM, -EROFS; nothing has changed, or the journal is aborted.
 */
must_check int ext4_ialloc(struct jbd2_handle *h, struct ext4_inode *dir,
                           const struct ext4_new_inode *want, struct ext4_inode **ret_inode);

/* Bitmap, descriptor, inode; what is inherited. */
#define EXT4_IALLOC_CREDITS (3u + EXT4_ACL_INHERIT_CREDITS)

/*
 * Give the inode back.  Its blocks and attributes are gone already, and it is on no orphan
 * list.  Stores it, with the time of deletion.  On an error nothing has changed.
 */
must_check int ext4_ifree(struct jbd2_handle *h, struct ext4_inode *inode);

/* Bitmap, descriptor, inode. */
#define EXT4_IFREE_CREDITS 3u

/*
 * Whether the inode's bit is set in its group's bitmap: 1, 0, -errno.  For inode numbers from
 * places that cannot be trusted.  Takes the group's lock.
 */
must_check int ext4_inode_in_use(struct ext4_fs *fs, uint32_t ino);

/* ---- deleting (inode_delete.c) ---- */

/*
 * Free all that an unlinked inode has, and itself, in as many transactions as it takes.  Nobody
 * else can reach it.  With no handle open, and no lock held.  When it fails the inode stays on
 * the orphan list, on disk (J49).  Called by ext4_iput() and by the orphan pass.
 */
must_check int ext4_inode_delete(struct ext4_inode *inode);

#endif
