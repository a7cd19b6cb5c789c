/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Writing to open files, and making them durable. */

#include <fcntl.h>
#include <string.h>

#include "ext4/fsync.h"
#include "ext4/write.h"
#include "lib/lib.h"

/* The host's headers may be older. */
#ifndef RWF_ATOMIC
#define RWF_ATOMIC 0x40
#endif

/* What is unknown is refused, and RWF_ATOMIC where it cannot be: direct I/O says where it can.
 */
int lib_write_flags(const struct uext4_file *file, int rwf, uint32_t *ret_flags)
{
        uint32_t flags = file->write_flags;

        if (rwf & ~(RWF_NOWAIT | RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_APPEND | RWF_ATOMIC))
                return -EOPNOTSUPP;
        if ((rwf & RWF_ATOMIC) && !file->direct)
                return -EOPNOTSUPP; /* C53 */
        if (rwf & RWF_ATOMIC)
                flags |= VFS_ATOMIC;
        if (rwf & RWF_NOWAIT)
                flags |= VFS_NOWAIT;
        if (rwf & RWF_DSYNC)
                flags |= VFS_DSYNC;
        if (rwf & RWF_SYNC)
                flags |= VFS_SYNC | VFS_DSYNC;
        if (rwf & RWF_APPEND)
                flags |= VFS_APPEND;
        *ret_flags = flags;
        return lib_check_up(file->inode);
}

ssize_t uext4_pwritev2(struct uext4_file *file, const struct iovec *iov, int nr_iov,
                       uint64_t pos, int flags)
{
        struct vfs_kiocb iocb = {
                .inode = &file->inode->vfs, .pos = pos, .error_seen = &file->error_seen};
        struct iomap_dio dio;
        struct iov_iter iter;
        int ret = lib_write_flags(file, flags, &iocb.flags);

        if (ret == 0)
                ret = iov_iter_init(&iter, iov, nr_iov);
        if (ret < 0)
                return ret;
        if (!file->writes)
                return -EBADF;
        if (pos > INT64_MAX)
                return -EINVAL;
        if (file->direct)
                return ext4_file_write_direct(&dio, &iocb, &iter);
        return ext4_file_write_buffered(&iocb, &iter);
}

ssize_t uext4_pwrite(struct uext4_file *file, const void *buf, size_t len, uint64_t pos)
{
        struct iovec iov = {.iov_len = len};

        memcpy(&iov.iov_base, &buf, sizeof(buf)); /* it is not written to */
        return uext4_pwritev2(file, &iov, 1, pos, 0);
}

/* Errors of writing back that this file has not been told yet, whoever met them. */
static int sync_file(struct uext4_file *file, enum ext4_sync what)
{
        int ret = ext4_fsync(file->inode, what);
        int err = vfs_pages_tell_error(&file->inode->vfs, &file->error_seen);

        return first_error(ret, err);
}

int uext4_fsync(struct uext4_file *file)
{
        return sync_file(file, EXT4_SYNC_ALL);
}

int uext4_fdatasync(struct uext4_file *file)
{
        return sync_file(file, EXT4_SYNC_DATA);
}

int uext4_fsync_inode(struct uext4_inode *inode)
{
        return ext4_fsync(inode_in(inode), EXT4_SYNC_ALL);
}
