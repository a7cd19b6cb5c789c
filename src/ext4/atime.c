/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* When files were last read. */

#include <sys/stat.h>

#include "ext4/fsync.h"
#include "ext4/setattr.h"
#include "ext4/super_write.h"
#include "ext4/truncate.h"

#define DAY (24 * 60 * 60)

/* A mount that writes, and an inode that is not excepted. */
static bool has_atime(const struct ext4_inode *inode)
{
        return inode->fs->journal && inode->fs->opts.atime != EXT4_ATIME_NEVER &&
               !(inode->flags & EXT4_FL_NOATIME);
}

static bool is_due(const struct ext4_inode *inode, struct timespec now)
{
        const struct timespec atime = ext4_atime(inode);

        if (atime.tv_sec == now.tv_sec && atime.tv_nsec == now.tv_nsec)
                return false;
        if (inode->fs->opts.atime == EXT4_ATIME_STRICT)
                return true;
        return !ext4_is_later(atime, ext4_mtime(inode)) ||
               !ext4_is_later(atime, ext4_ctime(inode)) || now.tv_sec - atime.tv_sec >= DAY;
}

static void access_locked(struct ext4_inode *inode)
{
        const struct timespec now = ext4_now(inode->fs);

        if (!has_atime(inode))
                return;
        if (!is_due(inode, now))
                return;
        atomic_store_explicit(&inode->accessed_at,
                              (int64_t)now.tv_sec * 1000000000 + now.tv_nsec,
                              memory_order_relaxed);
        atomic_store(&inode->times_due, true); /* after accessed_at */
}

void ext4_accessed(struct ext4_inode *inode, uint32_t flags)
{
        if (!(flags & VFS_NOATIME))
                access_locked(inode);
}

/* Reading has succeeded, whatever becomes of its time. */
void ext4_store_access(struct ext4_inode *inode)
{
        if (!atomic_load(&inode->times_due) || ext4_writable(inode->fs) < 0)
                return;
        rwsem_read_lock(&inode->vfs.lock);
        if (ext4_store_times(inode) < 0)
                log_say(&inode->fs->vfs.log, LOG_WARNING,
                        "inode %u: its access time could not be stored", ext4_ino(inode));
        rwsem_read_unlock(&inode->vfs.lock);
}

void ext4_accessed_now(struct ext4_inode *inode)
{
        if (!has_atime(inode))
                return;
        rwsem_read_lock(&inode->vfs.lock);
        access_locked(inode);
        rwsem_read_unlock(&inode->vfs.lock);
        ext4_store_access(inode);
}
