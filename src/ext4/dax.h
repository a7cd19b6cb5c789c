/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_DAX_H
#define EXT4_DAX_H

/*
 * Files on a device that is memory: read and written by copying, and used in place.
 *
 * Which files these are is decided by the mount option and the inode, under the inode lock; a
 * file that is one stays one for as long as it is in memory.  Files that direct I/O is not for
 * (inline data, data=journal, verity) are not.
 *
 * A write allocates blocks that are written from the start.  They are made zeros before
 * the handle is closed that has allocated or converted them, so that no commit, no reader and
 * no lease can have them with what was there before.
 */

#include "ext4/ext4.h"
#include "vfs/lease.h"

/* The mount's side: find the device's memory.  -EOPNOTSUPP, said to the log, when `dax` was
 * asked for and cannot be had; -EINVAL with data=journal. */
must_check int ext4_dax_init(struct ext4_fs *fs);

/* Some file of the mount may be one. */
static inline bool ext4_has_dax(const struct ext4_fs *fs)
{
        return fs->vfs.map;
}

/* The inode lock is held. */
bool ext4_is_dax(const struct ext4_inode *inode);

/* In place of a result: the file is none.  Nothing has happened.  Not an errno. */
#define EXT4_NOT_DAX (-530)

/*
 * The whole of a read or write, of whatever position and memory.  For a write as
 * ext4_file_write_direct(): it is durable when it was to be.
 */
int64_t ext4_dax_read(struct vfs_kiocb *iocb, struct iov_iter *iter);
must_check int64_t ext4_dax_write(struct vfs_kiocb *iocb, struct iov_iter *iter);

/*
 * A lease of what want->inode has at [pos, end), which is cut to what lies in one piece of the
 * device inside the size; *ret_addr is where.  For writing, blocks that are not there or not
 * written become zeros that are.
 *
 * -EOPNOTSUPP when the file is none of these; -ENXIO behind the end, and for reading where
 * nothing is written; for writing what a write says.  The lease holds no reference to the
 * inode.
 */
must_check int ext4_dax_lease(const struct vfs_lease *want, void **ret_addr,
                              struct vfs_lease **ret_lease);
void ext4_dax_end_lease(struct vfs_lease *lease);

#endif
