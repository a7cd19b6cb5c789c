/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/dax.h"

#include "ext4/write_path.h"

/*
 * The order of a write behind the size is that of a direct one, with the same helpers: orphan
 * entry, blocks, data; then size and end of the entry in one transaction.  A write that
 * got less far than it was to keeps the entry until what it has not used is gone (C19).
 */

/* ---- which files ---- */

int ext4_dax_init(struct ext4_fs *fs)
{
        const struct log_sink *log = &fs->vfs.log;

        if (fs->opts.dax == EXT4_DAX_NEVER)
                return 0;
        fs->vfs.map = bdev_mapping(fs->vfs.dev);
        if (fs->opts.dax != EXT4_DAX_ALWAYS)
                return 0;
        if (!fs->vfs.map) {
                log_say(log, LOG_ERR,
                        "mount option dax needs a device that is memory (mem:, mmap:), not %s",
                        fs->vfs.dev->ops->name);
                return -EOPNOTSUPP;
        }
        if (fs->opts.data == EXT4_DATA_JOURNAL) {
                log_say(log, LOG_ERR, "mount option dax does not go with data=journal");
                return -EINVAL;
        }
        return 0;
}

bool ext4_is_dax(const struct ext4_inode *inode)
{
        const struct ext4_fs *fs = inode->fs;

        if (!ext4_has_dax(fs) || ext4_direct_fallback(inode) != EXT4_DIRECT_OK)
                return false;
        return fs->opts.dax == EXT4_DAX_ALWAYS || inode->is_dax;
}

/* ---- reading ---- */

int64_t ext4_dax_read(struct vfs_kiocb *iocb, struct iov_iter *iter)
{
        struct vfs_inode *inode = iocb->inode;
        int64_t ret = ext4_io_lock(inode, false, iocb->flags & VFS_NOWAIT);

        if (ret < 0)
                return ext4_count_again(iocb->inode, ret);
        if (!ext4_is_dax(ext4_inode_of(inode))) {
                ext4_io_unlock(inode, false);
                return EXT4_NOT_DAX;
        }
        vfs_count(inode->sb, VFS_DAX_READS);
        ret = iomap_dax_read(iocb, iter, &ext4_read_ops);
        ext4_accessed(ext4_inode_of(inode), iocb->flags);
        ext4_io_unlock(inode, false);
        return ext4_count_again(iocb->inode, ret);
}

/* ---- writing ---- */

/* Give the lock back and begin again with the exclusive one.  Not an errno. */
#define RESTART (-531)

struct dax_write {
        struct ext4_inode *inode;
        struct vfs_kiocb *iocb;
        struct iov_iter *iter;
        bool is_exclusive; /* how the lock is held */
        uint64_t pos, end;
        bool is_extending; /* ends behind the size */
        bool is_written;   /* all of it has written blocks */
};

static bool nowait(const struct dax_write *w)
{
        return w->iocb->flags & VFS_NOWAIT;
}

static int check(struct dax_write *w)
{
        int ret = ext4_write_check(w->inode, w->iocb, w->iter, ext4_max_size(w->inode),
                                   w->is_exclusive);

        if (ret <= 0)
                return ret;
        w->pos = w->iocb->pos;
        w->end = w->pos + w->iter->count;
        w->is_extending = w->end > vfs_size(&w->inode->vfs) || w->end > w->inode->disk_size;
        return 1;
}

/* What the range is made of.  Under NOWAIT it must be one mapping (C9). */
static int look(struct dax_write *w)
{
        uint64_t pos = w->pos;

        w->is_written = true;
        while (pos < w->end && w->is_written) {
                struct iomap map;
                int ret;

                if (pos > w->pos && nowait(w))
                        return -EAGAIN;
                ret = ext4_write_look(w->inode, pos, w->end, nowait(w) ? IOMAP_OP_NOWAIT : 0,
                                      &map);
                if (ret < 0)
                        return ret;
                w->is_written = map.type == IOMAP_MAPPED;
                pos = map.offset + map.length;
        }
        return 0;
}

static int64_t copy(struct dax_write *w)
{
        ext4_note_written(w->inode);
        return iomap_dax_write(w->iocb, w->iter, &ext4_dax_ops);
}

static int64_t write_extending(struct dax_write *w)
{
        struct ext4_inode *inode = w->inode;
        struct ext4_extension x = {.inode = inode,
                                   .pos = w->pos,
                                   /* Blocks that are there already need nobody to free them. */
                                   .is_orphan = !w->is_written,
                                   .has_new = !w->is_written};
        int64_t ret = ext4_zero_tail(inode, vfs_size(&inode->vfs)); /* C23, C24 */

        if (ret == 0 && x.is_orphan)
                ret = ext4_begin_extend(inode);
        if (ret < 0)
                return ret;
        ret = copy(w);
        x.end = w->pos + (uint64_t)max_t(int64_t, ret, 0);
        x.is_short = x.end < w->end; /* C19 */
        return ext4_end_extension(&x, ret);
}

static int64_t write_locked(struct dax_write *w)
{
        int64_t ret = check(w);

        if (ret <= 0)
                return ret;
        ret = look(w);
        if (ret < 0)
                return ret;
        if (!w->is_extending && w->is_written && !ext4_has_privileges(w->inode)) {
                vfs_count(w->inode->vfs.sb, VFS_OVERWRITES);
                return copy(w);
        }
        if (nowait(w))
                return -EAGAIN; /* before anything was done */
        if (!w->is_exclusive)
                return RESTART;
        ret = ext4_drop_privileges(w->inode);
        if (ret < 0)
                return ret;
        return w->is_extending ? write_extending(w) : copy(w);
}

/* EXT4_NOT_DAX, RESTART, or the result. */
static int64_t write_once(struct vfs_kiocb *iocb, struct iov_iter *iter, bool is_exclusive)
{
        struct vfs_inode *inode = iocb->inode;
        struct dax_write w = {.inode = ext4_inode_of(inode),
                              .iocb = iocb,
                              .iter = iter,
                              .is_exclusive = is_exclusive};
        int64_t ret = ext4_io_lock(inode, is_exclusive, nowait(&w));

        if (ret < 0)
                return ret;
        ret = ext4_is_dax(w.inode) ? write_locked(&w) : EXT4_NOT_DAX;
        ext4_io_unlock(inode, is_exclusive);
        return ret;
}

int64_t ext4_dax_write(struct vfs_kiocb *iocb, struct iov_iter *iter)
{
        struct ext4_inode *inode = ext4_inode_of(iocb->inode);
        int64_t ret = write_once(iocb, iter, ext4_write_will_extend(iocb, iter));
        int err;

        if (ret == RESTART) {
                vfs_count(iocb->inode->sb, VFS_LOCK_RESTARTS);
                ret = write_once(iocb, iter, true);
        }
        if (ret <= 0)
                return ext4_count_again(iocb->inode, ret);
        vfs_count(iocb->inode->sb, VFS_DAX_WRITES);
        if (!(iocb->flags & VFS_DSYNC))
                return ret;
        /* Without the lock: others can join the commit. */
        err = ext4_fsync(inode, iocb->flags & VFS_SYNC ? EXT4_SYNC_ALL : EXT4_SYNC_DATA);
        return err < 0 ? err : ret;
}

/* ---- in place ---- */

/* The rest of the inode's work when it is about to be written through a pointer. */
static int prepare_to_write(struct ext4_inode *inode)
{
        int ret = ext4_may_change(inode);

        if (ret < 0)
                return ret;
        if (inode->flags & EXT4_FL_APPEND)
                return -EPERM;
        ret = ext4_drop_privileges(inode);
        if (ret == 0)
                ext4_note_written(inode);
        return ret;
}

static int lease_locked(const struct vfs_lease *want, void **ret_addr,
                        struct vfs_lease **ret_lease)
{
        struct ext4_inode *inode = ext4_inode_of(want->inode);
        const struct iomap_ops *ops = want->writes ? &ext4_dax_ops : &ext4_read_ops;
        struct vfs_lease lease = *want;
        struct iomap map;
        void *addr;
        int ret;

        if (!ext4_is_dax(inode))
                return -EOPNOTSUPP;
        lease.end = min_t(uint64_t, lease.end, vfs_size(&inode->vfs));
        if (lease.pos >= lease.end)
                return -ENXIO;
        ret = want->writes ? prepare_to_write(inode) : 0;
        if (ret == 0)
                ret = ops->begin(&inode->vfs, lease.pos, lease.end - lease.pos, 0, &map);
        if (ret < 0)
                return ret;
        if (map.type != IOMAP_MAPPED)
                return -ENXIO;
        lease.end = min_t(uint64_t, lease.end, map.offset + map.length);
        addr = iomap_dax_addr(inode->vfs.sb, iomap_addr_of(&map, lease.pos),
                              lease.end - lease.pos);
        if (!addr)
                return -ENXIO;
        ret = vfs_lease_begin(&lease, ret_lease);
        if (ret == 0)
                *ret_addr = addr;
        return ret;
}

int ext4_dax_lease(const struct vfs_lease *want, void **ret_addr, struct vfs_lease **ret_lease)
{
        int ret = ext4_io_lock(want->inode, want->writes, false);

        if (ret == 0) {
                ret = lease_locked(want, ret_addr, ret_lease);
                ext4_io_unlock(want->inode, want->writes);
        }
        return ret;
}

void ext4_dax_end_lease(struct vfs_lease *lease)
{
        if (lease->writes)
                ext4_note_written(ext4_inode_of(lease->inode));
        vfs_lease_end(lease);
}
