/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * host.c - opening a file or block device of the host, and keeping others out.
 *
 * Writers take an exclusive flock, readers a shared one, so that one image is never
 * mounted twice for writing.  On a block device writers also use O_EXCL,
 * which the kernel's own mounts respect.
 */
#include "bdev/host.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "uext4_bdev.h"

/* Before opening: a pipe would block, a tape would wind. */
static int check_kind(mode_t mode)
{
        if (S_ISREG(mode) || S_ISBLK(mode))
                return 0;
        return S_ISDIR(mode) ? -EISDIR : -ENOTBLK;
}

static int open_fd(const char *path, int oflags, enum host_cache cache, struct host_file *file)
{
        if (cache == HOST_DIRECT) {
                file->fd = open(path, oflags | O_DIRECT);
                file->is_direct = file->fd >= 0;
                if (file->fd >= 0 || errno != EINVAL)
                        return file->fd < 0 ? -errno : 0;
        }
        file->fd = open(path, oflags);
        file->is_direct = false;
        return file->fd < 0 ? -errno : 0;
}

/* A host without flock on this file system cannot hold readers back, and need not. */
static int lock_fd(int fd, bool readonly)
{
        if (flock(fd, (readonly ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0)
                return 0;
        if (errno == EWOULDBLOCK)
                return -EBUSY;
        if (readonly && (errno == ENOLCK || errno == EOPNOTSUPP || errno == ENOSYS))
                return 0;
        return -errno;
}

/* The path may have changed its meaning since check_kind(). */
static int learn(struct host_file *file, bool readonly)
{
        struct stat st;
        int ret, is_protected = 0;

        if (fstat(file->fd, &st) < 0)
                return -errno;
        ret = check_kind(st.st_mode);
        if (ret < 0)
                return ret;
        file->is_block_device = S_ISBLK(st.st_mode);
        file->size = (uint64_t)st.st_size;
        if (!file->is_block_device)
                return 0;
        file->major = major(st.st_rdev);
        file->minor = minor(st.st_rdev);
        /* Some that are can be opened, and refuse each write. */
        if (!readonly && ioctl(file->fd, BLKROGET, &is_protected) == 0 && is_protected)
                return -EROFS;
        return ioctl(file->fd, BLKGETSIZE64, &file->size) < 0 ? -errno : 0;
}

int host_open(const char *path, uint32_t flags, enum host_cache cache,
              struct host_file *ret_file)
{
        const bool readonly = flags & UEXT4_BDEV_OPEN_READONLY;
        int oflags = O_CLOEXEC | (readonly ? O_RDONLY : O_RDWR);
        struct host_file file = {.fd = -1};
        struct stat st;
        int ret;

        if (stat(path, &st) < 0)
                return -errno;
        ret = check_kind(st.st_mode);
        if (ret < 0)
                return ret;
        if (S_ISBLK(st.st_mode) && !readonly)
                oflags |= O_EXCL;
        ret = open_fd(path, oflags, cache, &file);
        if (ret < 0)
                return ret;
        ret = learn(&file, readonly);
        if (ret == 0)
                ret = lock_fd(file.fd, readonly);
        if (ret < 0) {
                host_close(&file);
                return ret;
        }
        *ret_file = file;
        return 0;
}

int host_give_up_direct(struct host_file *file)
{
        int oflags = fcntl(file->fd, F_GETFL);

        if (oflags < 0 || fcntl(file->fd, F_SETFL, oflags & ~O_DIRECT) < 0)
                return -errno;
        file->is_direct = false;
        return 0;
}

/* The kernel may hold on to the file for a moment, for a ring that is gone; the lock goes now.
 */
void host_close(struct host_file *file)
{
        flock(file->fd, LOCK_UN);
        close(file->fd);
        file->fd = -1;
}
