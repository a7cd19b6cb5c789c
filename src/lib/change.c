/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What changes a file system: sizes and space of files. */

#include "ext4/balloc.h"
#include "ext4/fallocate.h"
#include "ext4/fsync.h"
#include "ext4/truncate.h"
#include "lib/lib.h"

int uext4_truncate(struct uext4_file *file, uint64_t size)
{
        if (!file->writes)
                return -EBADF;
        if (size > INT64_MAX)
                return -EINVAL;
        return ext4_truncate(file->inode, size);
}

int uext4_fallocate(struct uext4_file *file, int mode, uint64_t pos, uint64_t len)
{
        return file->writes ? ext4_fallocate(file->inode, mode, pos, len) : -EBADF;
}

int uext4_trim(struct uext4_fs *fs, uint64_t start, uint64_t len, uint64_t minlen,
               uint64_t *ret_trimmed)
{
        return ext4_trim(fs->ext4, start, len, minlen, ret_trimmed);
}

int uext4_shutdown(struct uext4_fs *fs, enum uext4_shutdown how)
{
        switch (how) {
        case UEXT4_SHUTDOWN_SYNC:
                return ext4_shut_down(fs->ext4, EXT4_SHUTDOWN_SYNC);
        case UEXT4_SHUTDOWN_LOG:
                return ext4_shut_down(fs->ext4, EXT4_SHUTDOWN_LOG);
        case UEXT4_SHUTDOWN_NOW:
                return ext4_shut_down(fs->ext4, EXT4_SHUTDOWN_NOW);
        }
        return -EINVAL;
}

int uext4_syncfs(struct uext4_fs *fs)
{
        return ext4_sync_fs(fs->ext4);
}
