/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Copying from file to file, through the page cache of both. */

#include "ext4/write.h"
#include "lib/lib.h"
#include "util/alloc.h"

#define PIECE (256u << 10)

static int64_t read_piece(struct uext4_file *file, void *buf, size_t len, uint64_t pos)
{
        struct vfs_kiocb iocb = {
                .inode = &file->inode->vfs, .pos = pos, .readahead = &file->readahead};
        const struct iovec iov = {buf, len};
        struct iov_iter iter;
        int ret = iov_iter_init(&iter, &iov, 1);

        return ret < 0 ? ret : ext4_file_read_buffered(&iocb, &iter);
}

static int64_t write_piece(struct uext4_file *file, void *buf, size_t len, uint64_t pos)
{
        struct vfs_kiocb iocb = {.inode = &file->inode->vfs,
                                 .pos = pos,
                                 .flags = file->write_flags,
                                 .error_seen = &file->error_seen};
        const struct iovec iov = {buf, len};
        struct iov_iter iter;
        int ret = iov_iter_init(&iter, &iov, 1);

        return ret < 0 ? ret : ext4_file_write_buffered(&iocb, &iter);
}

static int check(const struct uext4_file *in, uint64_t in_pos, const struct uext4_file *out,
                 uint64_t out_pos, size_t len)
{
        if (!in->reads || !out->writes || (out->write_flags & VFS_APPEND))
                return -EBADF;
        if (in->inode->fs != out->inode->fs)
                return -EXDEV;
        if (in_pos > INT64_MAX || out_pos > INT64_MAX || len > INT64_MAX - in_pos)
                return -EINVAL;
        if (in->inode == out->inode && in_pos < out_pos + len && out_pos < in_pos + len)
                return -EINVAL;
        return 0;
}

ssize_t uext4_copy_range(struct uext4_file *in, uint64_t in_pos, struct uext4_file *out,
                         uint64_t out_pos, size_t len)
{
        const uint64_t size =
                vfs_size(&in->inode->vfs); /* it may be growing by this very copy */
        _cleanup_mem_ char *buf = NULL;
        size_t done = 0;
        int64_t n = check(in, in_pos, out, out_pos, len);

        if (n < 0 || in_pos >= size)
                return n;
        len = min_t(uint64_t, len, size - in_pos);
        buf = mem_alloc(PIECE);
        if (!buf)
                return -ENOMEM;
        while (done < len) {
                n = read_piece(in, buf, min_t(size_t, len - done, PIECE), in_pos + done);
                if (n > 0)
                        n = write_piece(out, buf, (size_t)n, out_pos + done);
                if (n <= 0)
                        break;
                done += (size_t)n; /* after a short write the rest is read again */
        }
        return done > 0 ? (ssize_t)done : n;
}
