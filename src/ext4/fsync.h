/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_FSYNC_H
#define EXT4_FSYNC_H

/*
 * Making files durable (B48 .. B51, C59).
 *
 * First the transaction that has the inode, if it is not durable; then the device's cache, if
 * that commit does not flush it and something of the file's data may still be there.  A file
 * of which nothing is pending costs no request.
 *
 * A mount without a journal has transactions, too: the same calls (jbd2.h).
 */

#include "ext4/ext4.h"

enum ext4_sync {
        EXT4_SYNC_DATA, /* the data, and what it takes to find them: fdatasync, O_DSYNC */
        EXT4_SYNC_ALL,  /* and the times: fsync, O_SYNC */
};

/*
 * Everything that was completed before the call is durable when it returns 0.  No handle is
 * open.  The inode lock may be held (B48), by whom ever: it is not waited for.  Then times of
 * writes under a shared lock may be left to the one who holds it, who stores them.
 * -EROFS when an error has ended writing; 0 on a mount that does not write (B50).
 */
must_check int ext4_fsync(struct ext4_inode *inode, enum ext4_sync what);

/* The same without what is in the page cache only: for direct writes. */
must_check int ext4_fsync_written(struct ext4_inode *inode, enum ext4_sync what);

/* Everything of the mount.  No inode lock is held. */
must_check int ext4_sync_fs(struct ext4_fs *fs);

/*
 * Times of writes that no transaction has yet (ext4_inode.written_at) become part of one.  The
 * caller holds the inode lock, shared at least, and no handle.
 */
must_check int ext4_store_times(struct ext4_inode *inode);

#endif
