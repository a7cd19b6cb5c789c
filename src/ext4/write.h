/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_WRITE_H
#define EXT4_WRITE_H

/*
 * Writing files (docs/write-path.md).
 *
 *      write.c         what is asked, and may it be; which lock; the order of steps
 *      write_map.c     the answers for iomap: look up, allocate; buffered writes of each kind
 *      write_end.c     what follows the I/O: conversion, size, orphan; requests reaped together
 *      fsync.c         durability
 */

#include "ext4/ext4.h"

/*
 * One direct write of iter->count bytes at iocb->pos, which VFS_APPEND sets.  The result is
 * the count of bytes, or -errno; VFS_QUEUED as for iomap_dio_write().
 *
 * -EINVAL misaligned (B27); -EPERM, -EROFS as ext4_may_change(); -EFBIG; -ENOSPC; -EAGAIN under
 * VFS_NOWAIT, before anything was done; -EOPNOTSUPP for VFS_NOWAIT where the file must be
 * written buffered.
 */
must_check int64_t ext4_file_write_direct(struct iomap_dio *dio, struct vfs_kiocb *iocb,
                                          struct iov_iter *iter);

/* The same at any position and in any memory; on the device, not durable, when it returns. */
must_check int64_t ext4_file_write_buffered(struct vfs_kiocb *iocb, struct iov_iter *iter);

/* vfs_super.finish: requests that are over but for their conversion or sync. */
void ext4_finish_writes(struct vfs_super *sb, struct vfs_work *works);

/* A file is opened for writing, and closed: the last one gives back what is kept for it, and
 * stores its times. */
void ext4_writer_open(struct ext4_inode *inode);
void ext4_writer_close(struct ext4_inode *inode);

#endif
