/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_ORPHAN_H
#define EXT4_ORPHAN_H

/*
 * Orphans: inodes that need work after a crash.  One without links is deleted, another
 * is truncated to its size.
 *
 *      orphan.c        what is common to both kinds, and the pass at mounting
 *      orphan_list.c   superblock -> inode -> inode, chained through i_dtime (J45)
 *      orphan_file.c   a file of inode numbers (J46)
 *
 * Which inodes are on disk as orphans is known in memory, too: an entry each, which belongs to
 * the inode's number and not to its object.  When the work on an orphan fails the entry stays
 * behind, because the inode stays on disk and is some other's predecessor there.
 *
 * Without a journal there are no orphans: e2fsck will look at everything.
 */

#include "ext4/inode_store.h"

struct ext4_orphans;

/* At mounting for writing, after ext4_ialloc_new().  -EUCLEAN: the orphan file is damaged. */
must_check int ext4_orphan_new(struct ext4_fs *fs);
/* After jbd2_unload() and the last ext4_iput().  Nothing happens when there is none. */
void ext4_orphan_free(struct ext4_fs *fs);

/* What adding may dirty: superblock and inode, or a block of the file.  Deleting: the
 * superblock or the predecessor, and the inode; or a block of the file. */
#define EXT4_ORPHAN_CREDITS 2u

/*
 * The inode becomes an orphan, if it is not one.  The inode itself is not stored: the caller
 * stores nlink and size (J47).  On an error nothing has changed.  The caller holds the inode
 * lock exclusive.
 */
must_check int ext4_orphan_add(struct jbd2_handle *h, struct ext4_inode *inode);

/*
 * It is no orphan any more.  Nothing happens to one without links (B42): that one stops being
 * an orphan when it is freed.  `h` NULL: no handle could be had (B43); it remains one on
 * disk.
 */
must_check int ext4_orphan_del(struct jbd2_handle *h, struct ext4_inode *inode);

/* The same also for one without links: by who frees it. */
must_check int ext4_orphan_del_freed(struct jbd2_handle *h, struct ext4_inode *inode);

/* The object goes; if it is an orphan it stays one on disk.  Called by the table. */
void ext4_orphan_leave(struct ext4_inode *inode);

bool ext4_is_orphan(struct ext4_inode *inode);

/* Whether some are on disk, which is damage in what is unmounted otherwise in order. */
bool ext4_orphans_left(struct ext4_fs *fs);

/*
 * At mounting for writing, after recovery, before anybody else has the file system: delete and
 * truncate what the last mount has left.  An orphan that cannot be helped is said and left; of
 * a list that is damaged the rest is cut off.  Fails only when nothing can be written.
 */
must_check int ext4_orphan_pass(struct ext4_fs *fs);

#endif
