/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Shutting down: no more writing, at once, on purpose.
 *
 * The journal stops as if it had been aborted, but nobody is told on disk: what is there is
 * what a power cut would leave.  Whoever would write past the journal asks ext4_is_down():
 * writing back, errors for the superblock, unmounting.  Files are not opened, read or written
 * any more (lib/).
 */

#include "ext4/fsync.h"
#include "ext4/super_write.h"

/* What of the state in memory is to last. */
static int make_durable(struct ext4_fs *fs, enum ext4_shutdown how)
{
        if (!fs->journal || how == EXT4_SHUTDOWN_NOW)
                return 0;
        return how == EXT4_SHUTDOWN_LOG ? jbd2_commit_all(fs->journal) : ext4_sync_fs(fs);
}

int ext4_shut_down(struct ext4_fs *fs, enum ext4_shutdown how)
{
        int ret;

        if (ext4_is_down(fs))
                return 0;
        ret = make_durable(fs, how);
        if (ret < 0 && how == EXT4_SHUTDOWN_SYNC)
                return ret;
        log_say(&fs->vfs.log, LOG_WARNING, "shut down: no more reading or writing");
        atomic_store(&fs->vfs.is_down, true);
        if (fs->journal)
                jbd2_shut_down(fs->journal);
        return ret;
}
