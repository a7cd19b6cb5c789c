/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_DATA_JOURNAL_H
#define EXT4_DATA_JOURNAL_H

/*
 * Files whose data goes through the journal: those with the flag for it, and with data=journal
 * all of them.
 *
 * Their blocks are metadata as far as the journal is concerned: they are changed in the buffer
 * cache, under a handle, and freed with a revoke record.  What is in the log and not yet at
 * home is seen only there, so that nothing reads or writes such blocks on the device:
 *
 *  I1. A written block of such a file that is cached has the bytes of the file.  One that is
 *      not is on the device as it should be.
 *      What is cached of an unwritten one, or in the log, does not matter: it becomes written
 *      by being filled.
 *  I2. Blocks become written with their bytes, and the size moves behind them, in one
 *      transaction: no orphan entry is needed.
 *
 * A mount without a log does the same; there a commit writes the blocks home.
 *
 * All of these are called with the inode lock held, exclusive but for reading, and no direct
 * I/O under way; with no handle open, unless one is given.  The file has no inline data.
 */

#include <sys/stat.h>

#include "ext4/ext4.h"
#include "jbd2/jbd2.h"

/* On a mount that writes. */
static inline bool ext4_journals_data(const struct ext4_inode *inode)
{
        const struct ext4_fs *fs = inode->fs;

        return fs->journal && S_ISREG(inode->mode) &&
               ((inode->flags & EXT4_FL_JOURNAL_DATA) || fs->opts.data == EXT4_DATA_JOURNAL);
}

/* As iomap_uncached_read(): at any position, of a file of any form.  Under VFS_NOWAIT only what
 * is cached is read: a short count, or -EAGAIN. */
int64_t ext4_data_journal_read(struct vfs_kiocb *iocb, struct iov_iter *iter);

/*
 * Write iter->count > 0 bytes at iocb->pos, with size and times.  One transaction, and so all
 * or nothing after a power cut, if it has room for it: jbd2_max_credits() blocks less what
 * changing the map may take.  A longer write, or one that has to wait for space, is several, in
 * the order of the file.  Bytes written before an error are returned.
 */
must_check int64_t ext4_data_journal_write(struct vfs_kiocb *iocb, struct iov_iter *iter);

/* The same with zeros for bytes, at any length: also holes become written blocks. */
must_check int ext4_data_journal_fill(struct ext4_inode *inode, uint64_t pos, uint64_t len);

/* Zero the bytes [pos, pos + len) where blocks are written; the size stays. */
must_check int ext4_data_journal_zero(struct ext4_inode *inode, uint64_t pos, uint64_t len);

/* Copy out bytes of a written block, which is at `addr` of the device, in bytes. */
must_check int ext4_data_journal_peek(struct ext4_inode *inode, uint64_t addr, void *data,
                                      uint32_t len);

/*
 * Under a handle: a block that was allocated in it gets `len` bytes, and zeros behind them.
 * 1 credit.  On an error the block is to be freed with EXT4_FREE_FORGET.
 */
must_check int ext4_data_journal_new_block(struct jbd2_handle *h, struct ext4_fs *fs,
                                           ext4_fsblk_t pblk, const void *data, uint32_t len);

/*
 * Give the file the flag EXT4_FL_JOURNAL_DATA, or take it away: for who has called
 * ext4_io_exclude_leases() for the whole file.  When it is taken away the log is emptied first,
 * so that no copy in it can come back over what is written directly afterwards.  -EROFS, -EIO
 * and the like: the flag is as it was.
 */
must_check int ext4_data_journal_change_locked(struct ext4_inode *inode, bool on);

/* Blocks that are, or will be, on the device as they should be: nothing else is cached (I1). */
void ext4_data_journal_forget(struct ext4_fs *fs, ext4_fsblk_t pblk, uint64_t len);

#endif
