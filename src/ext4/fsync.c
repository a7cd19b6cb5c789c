/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/fsync.h"

#include "ext4/delayed.h"
#include "ext4/inode_store.h"
#include "ext4/super_write.h"

/* ---- the device ---- */

static bool has_barrier(const struct ext4_fs *fs)
{
        return !fs->opts.nobarrier;
}

static int flush(struct ext4_fs *fs)
{
        const uint64_t number = vfs_flush_begin(&fs->vfs);
        int ret = has_barrier(fs) ? uext4_bdev_flush(fs->vfs.dev) : 0;

        vfs_count(&fs->vfs, VFS_FLUSHES);
        if (ret == 0)
                vfs_flush_end(&fs->vfs, number);
        return ret;
}

/* Make a transaction durable; its flush is one that counts for data, too. */
static int commit(struct ext4_fs *fs, uint32_t tid)
{
        const uint64_t number = vfs_flush_begin(&fs->vfs);
        bool flushes = jbd2_will_flush(fs->journal, tid); /* J25: asked before it begins */
        int ret = jbd2_commit(fs->journal, tid);

        if (ret == 0 && (flushes || !has_barrier(fs)))
                vfs_flush_end(&fs->vfs, number);
        return ret;
}

/* ---- times ---- */

static int store_times(struct jbd2_handle *h, struct ext4_inode *inode)
{
        struct ext4_iloc loc;
        int ret = ext4_inode_begin(h, inode, &loc);

        if (ret < 0)
                return ret;
        /* Completions store the inode under this lock alone. */
        rwsem_write_lock(&inode->map_lock);
        ext4_inode_store(h, inode, &loc);
        rwsem_write_unlock(&inode->map_lock);
        return 0;
}

int ext4_store_times(struct ext4_inode *inode)
{
        struct jbd2_handle *h;
        int ret;

        if (!atomic_load(&inode->times_due))
                return 0;
        ret = jbd2_start(inode->fs->journal, EXT4_INODE_CREDITS, 0, &h);
        if (ret < 0)
                return ret;
        ret = store_times(h, inode);
        return first_error(ret, jbd2_stop(h));
}

static int store_times_if_free(struct ext4_inode *inode)
{
        int ret;

        if (!atomic_load(&inode->times_due) || !rwsem_read_trylock(&inode->vfs.lock))
                return 0;
        ret = ext4_store_times(inode);
        rwsem_read_unlock(&inode->vfs.lock);
        return ret;
}

/* ---- the calls ---- */

int ext4_fsync(struct ext4_inode *inode, enum ext4_sync what)
{
        int ret = vfs_pages_flush(&inode->vfs, 0, UINT64_MAX); /* order: then the commit */
        int err;

        ext4_delayed_try_settle(inode); /* what nobody could who wrote back */
        err = ext4_fsync_written(inode, what);
        return first_error(ret, err);
}

int ext4_fsync_written(struct ext4_inode *inode, enum ext4_sync what)
{
        struct ext4_fs *fs = inode->fs;
        uint32_t tid;
        int ret;

        if (!fs->journal)
                return 0;
        ret = ext4_writable(fs);
        if (ret < 0)
                return ret;
        vfs_count(&fs->vfs, VFS_SYNCS);
        if (what == EXT4_SYNC_ALL)
                ret = store_times_if_free(inode);
        if (ret < 0)
                return ret;
        tid = atomic_load(what == EXT4_SYNC_ALL ? &inode->sync_tid : &inode->datasync_tid);
        if (!jbd2_is_durable(fs->journal, tid))
                ret = commit(fs, tid); /* order: what finds the data is durable (B49) */
        if (ret == 0 && vfs_needs_flush(&inode->vfs))
                ret = flush(fs); /* order: the data is durable (B49) */
        return ret;
}

int ext4_sync_fs(struct ext4_fs *fs)
{
        int ret, err;

        if (ext4_is_down(fs))
                return -EIO;
        if (!fs->journal)
                return 0;
        err = vfs_write_all(&fs->vfs);
        ret = jbd2_commit_all(fs->journal);
        if (ret == 0)
                ret = flush(fs);
        return first_error(err, ret);
}
