/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Open files and their synchronous requests. */

#include <fcntl.h>
#include <sys/stat.h>

#include "ext4/perm.h"
#include "ext4/setattr.h"
#include "ext4/truncate.h"
#include "ext4/write.h"
#include "lib/lib.h"
#include "util/alloc.h"

#define OPEN_FLAGS                                                                    \
        (O_ACCMODE | O_DIRECT | O_APPEND | O_DSYNC | O_SYNC | O_CLOEXEC | O_NOATIME | \
         O_LARGEFILE | O_NONBLOCK)

/* glibc says 0 for O_LARGEFILE on 64-bit hosts; programs pass what the kernel calls so. */
#define KERNEL_O_LARGEFILE 0100000

static bool reads(int flags)
{
        return (flags & O_ACCMODE) == O_RDONLY || (flags & O_ACCMODE) == O_RDWR;
}

static bool writes(int flags)
{
        return (flags & O_ACCMODE) == O_WRONLY || (flags & O_ACCMODE) == O_RDWR;
}

static int check_open(const struct ext4_inode *inode, int flags)
{
        if (flags & ~(OPEN_FLAGS | KERNEL_O_LARGEFILE))
                return -EINVAL;
        if (!reads(flags) && !writes(flags))
                return -EINVAL;
        if (S_ISDIR(inode->mode))
                return -EISDIR;
        if (!S_ISREG(inode->mode))
                return -EINVAL;
        if (inode->flags & EXT4_FL_ENCRYPT)
                return -ENOKEY;
        return 0;
}

static int may_open(struct ext4_inode *inode, int flags)
{
        unsigned may =
                (reads(flags) ? EXT4_MAY_READ : 0) | (writes(flags) ? EXT4_MAY_WRITE : 0);
        int ret = writes(flags) ? ext4_may_change(inode) : 0;

        if (ret == 0)
                ret = ext4_permission_locked(inode, may);
        if (ret == 0 && writes(flags) && (inode->flags & EXT4_FL_APPEND) && !(flags & O_APPEND))
                ret = -EPERM;
        if (ret == 0 && (flags & O_NOATIME))
                ret = ext4_may_own(inode);
        /* So that the first write need not look for it.  What is damaged stops nobody. */
        if (ret == 0 && writes(flags) && ext4_find_capability(inode) == -ENOMEM)
                ret = -ENOMEM;
        return ret;
}

/* O_SYNC contains the bit of O_DSYNC. */
static uint32_t write_flags(int flags)
{
        return (flags & O_APPEND ? VFS_APPEND : 0) | (flags & O_DSYNC ? VFS_DSYNC : 0) |
               ((flags & O_SYNC) == O_SYNC ? VFS_SYNC : 0);
}

int uext4_open(struct uext4_inode *handle, int flags, struct uext4_file **ret_file)
{
        struct ext4_inode *inode = inode_in(handle);
        struct uext4_file *file;
        int ret = lib_check_up(inode);

        if (ret == 0)
                ret = check_open(inode, flags);
        if (ret == 0) {
                rwsem_read_lock(&inode->vfs.lock);
                ret = may_open(inode, flags);
                rwsem_read_unlock(&inode->vfs.lock);
        }
        if (ret < 0)
                return ret;
        file = mem_zalloc(sizeof(*file));
        if (!file)
                return -ENOMEM;
        ext4_iget_again(inode);
        file->inode = inode;
        file->direct = flags & O_DIRECT;
        file->reads = reads(flags);
        file->writes = writes(flags);
        file->read_flags = flags & O_NOATIME ? VFS_NOATIME : 0;
        file->write_flags = write_flags(flags);
        atomic_init(&file->error_seen, vfs_pages_error_now(&inode->vfs));
        if (file->writes)
                ext4_writer_open(inode);
        *ret_file = file;
        return 0;
}

int uext4_open_path(struct uext4_fs *fs, const char *path, int flags,
                    struct uext4_file **ret_file)
{
        struct uext4_inode *inode;
        int ret = uext4_resolve(fs, path, 0, &inode);

        if (ret < 0)
                return ret;
        ret = uext4_open(inode, flags, ret_file);
        uext4_inode_put(inode);
        return ret;
}

void uext4_close(struct uext4_file *file)
{
        if (!file)
                return;
        vfs_pending_drain(file->inode->vfs.sb, &file->queued);
        vfs_readahead_end(&file->readahead, &file->inode->vfs);
        if (file->writes)
                ext4_writer_close(file->inode);
        else
                ext4_store_access(file->inode);
        ext4_iput(file->inode);
        mem_free(file);
}

struct uext4_inode *uext4_file_inode(struct uext4_file *file)
{
        return inode_out(file->inode);
}

int lib_read_flags(const struct uext4_file *file, int rwf, uint32_t *ret_flags)
{
        if (rwf & ~(RWF_NOWAIT | RWF_HIPRI))
                return -EOPNOTSUPP;
        *ret_flags = file->read_flags | (rwf & RWF_NOWAIT ? VFS_NOWAIT : 0);
        return lib_check_up(file->inode);
}

ssize_t uext4_preadv2(struct uext4_file *file, const struct iovec *iov, int nr_iov,
                      uint64_t pos, int flags)
{
        struct vfs_kiocb iocb = {
                .inode = &file->inode->vfs, .pos = pos, .readahead = &file->readahead};
        struct iomap_dio dio;
        struct iov_iter iter;
        int ret = lib_read_flags(file, flags, &iocb.flags);

        if (ret == 0)
                ret = iov_iter_init(&iter, iov, nr_iov);
        if (ret < 0)
                return ret;
        if (!file->reads)
                return -EBADF;
        if (pos > INT64_MAX)
                return -EINVAL;
        if (file->direct)
                return ext4_file_read_direct(&dio, &iocb, &iter);
        return ext4_file_read_buffered(&iocb, &iter);
}

ssize_t uext4_pread(struct uext4_file *file, void *buf, size_t len, uint64_t pos)
{
        const struct iovec iov = {buf, len};

        return uext4_preadv2(file, &iov, 1, pos, 0);
}

int64_t uext4_seek(struct uext4_file *file, uint64_t pos, int whence)
{
        return ext4_file_seek(file->inode, pos, whence);
}

int uext4_fiemap(struct uext4_file *file, uint64_t pos, uint64_t len,
                 struct fiemap_extent *extents, unsigned max)
{
        const struct ext4_inode *inode = file->inode;

        if (pos >> inode->fs->block_bits > EXT4_MAX_LBLK)
                return -EFBIG;
        return ext4_file_fiemap(file->inode, pos, len, extents, max);
}
