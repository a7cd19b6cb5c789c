/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One write: the checks, the lock, the order of its steps.
 *
 *  I1. All checks and the look at the range are made under the lock that the write is then done
 *      under.  When that was the wrong one it is given back, and everything is
 *      done again under the other one (C1).
 *  I2. Under the shared lock the size, and what is a hole, do not change.  What changes is
 *      what is unwritten, to written; whole blocks only.
 *  I3. Zeros are written to parts of blocks only when nothing else is under way in the file.
 */

#include <sys/stat.h>

#include "ext4/cache.h"
#include "ext4/dax.h"
#include "ext4/inline_change.h"
#include "ext4/write_path.h"

/* Give the lock back and begin again with the exclusive one.  Not an errno. */
#define RESTART 1

struct write {
        struct ext4_inode *inode;
        struct iomap_dio *dio; /* NULL: buffered */
        struct vfs_kiocb *iocb;
        struct iov_iter *iter;
        bool exclusive; /* how the lock is held */

        /* Of the range, as it was found. */
        uint64_t pos, end;
        bool is_partial;   /* not whole blocks */
        bool is_extending; /* ends behind the size */
        bool is_mapped;    /* has no hole */
        bool is_unwritten; /* what is mapped is so in part */
        struct iomap first;
        bool fell_back; /* a part of it was written buffered */
};

/* ---- the lock ---- */

static bool nowait(const struct write *w)
{
        return w->iocb->flags & VFS_NOWAIT;
}

static int lock_inode(const struct write *w)
{
        return ext4_io_lock(&w->inode->vfs, w->exclusive, nowait(w));
}

static void unlock_inode(const struct write *w)
{
        ext4_io_unlock(&w->inode->vfs, w->exclusive);
}

bool ext4_write_will_extend(const struct vfs_kiocb *iocb, const struct iov_iter *iter)
{
        return (iocb->flags & VFS_APPEND) || iocb->pos > INT64_MAX - iter->count ||
               iocb->pos + iter->count > vfs_size(iocb->inode);
}

/* ---- the checks ---- */

int ext4_write_check(struct ext4_inode *inode, struct vfs_kiocb *iocb, struct iov_iter *iter,
                     uint64_t max, bool is_exclusive)
{
        int ret = ext4_may_change(inode);

        if (ret < 0)
                return ret;
        if (iter->count == 0)
                return 0;
        if (inode->flags & EXT4_FL_SYNC)
                iocb->flags |= VFS_SYNC | VFS_DSYNC;
        if (iocb->flags & VFS_APPEND) {
                if (!is_exclusive)
                        return -EINVAL; /* who took the lock has seen to it */
                iocb->pos = vfs_size(&inode->vfs);
        }
        if (iocb->pos >= max)
                return -EFBIG;
        iov_iter_truncate(iter, max - iocb->pos);
        return 1;
}

static int check(struct write *w)
{
        const uint32_t bs = w->inode->fs->block_size;
        const uint64_t max = ext4_max_size(w->inode);
        int ret = ext4_write_check(w->inode, w->iocb, w->iter,
                                   w->dio ? round_down_pow2(max, bs) : max, w->exclusive);

        if (ret <= 0)
                return ret;
        w->pos = w->iocb->pos;
        w->end = w->pos + w->iter->count;
        w->is_partial = ((w->pos | w->end) & (bs - 1)) != 0;
        w->is_extending = w->end > vfs_size(&w->inode->vfs) || w->end > w->inode->disk_size;
        return 1;
}

/* B27: the unit is the device's. */
static bool is_aligned(const struct write *w)
{
        const struct uext4_bdev_geometry *geo = uext4_bdev_geometry(w->inode->vfs.sb->dev);

        return ((w->pos | w->iter->count) & (geo->logical_block - 1)) == 0 &&
               iov_iter_is_aligned(w->iter, geo->mem_align);
}

/* C52, C53: one block of the file system, at its place. */
static int check_atomic(const struct write *w)
{
        const uint32_t unit = ext4_atomic_unit(w->inode);

        if (!(w->iocb->flags & VFS_ATOMIC))
                return 0;
        if (unit == 0)
                return -EOPNOTSUPP;
        return w->end - w->pos == unit && (w->pos & (unit - 1)) == 0 ? 0 : -EINVAL;
}

/* What the range is made of.  Under NOWAIT it must be one mapping. */
static int look(struct write *w)
{
        uint64_t pos = w->pos;

        w->is_mapped = true;
        w->is_unwritten = false;
        while (pos < w->end && w->is_mapped) {
                struct iomap map;
                int ret = ext4_write_look(w->inode, pos, w->end,
                                          nowait(w) ? IOMAP_OP_NOWAIT : 0, &map);

                if (ret < 0)
                        return ret;
                if (pos == w->pos)
                        w->first = map;
                else if (nowait(w))
                        return -EAGAIN;
                w->is_mapped = map.type != IOMAP_HOLE;
                w->is_unwritten |= map.type == IOMAP_UNWRITTEN;
                pos = map.offset + map.length;
        }
        return 0;
}

/* C7, and C8 done better: several mappings are as good as one. */
static bool may_share(const struct write *w)
{
        return !w->is_extending && w->is_mapped && !(w->is_partial && w->is_unwritten) &&
               !ext4_has_privileges(w->inode);
}

/* ---- buffered ---- */

/* Into the inode.  -ERANGE when there is no room. */
static int write_inline(struct jbd2_handle *h, struct write *w)
{
        struct ext4_inode *inode = w->inode;
        struct ext4_iloc loc;
        int ret = ext4_inode_begin(h, inode, &loc);

        if (ret < 0)
                return ret;
        rwsem_write_lock(&inode->map_lock);
        if (w->end > inode->inline_size)
                ret = ext4_inline_set_size(inode, w->end);
        if (ret == 0 && w->end > vfs_size(&inode->vfs))
                ret = ext4_grow(h, inode, w->end);
        if (ret == 0) {
                iov_iter_copy_from(w->iter, inode->inline_data + w->pos, w->end - w->pos);
                ext4_inline_put(inode);
                ext4_touch_changed(inode);
                ext4_inode_store(h, inode, &loc);
        } else {
                ext4_iloc_put(&loc);
        }
        rwsem_write_unlock(&inode->map_lock);
        return ret;
}

static int64_t try_inline(struct write *w)
{
        const int64_t count = (int64_t)(w->end - w->pos);
        struct jbd2_handle *h;
        int ret = jbd2_start(w->inode->fs->journal, EXT4_INODE_CREDITS + EXT4_GROW_CREDITS, 0,
                             &h);

        if (ret < 0)
                return ret;
        ret = write_inline(h, w);
        ret = first_error(ret, jbd2_stop(h));
        return ret < 0 ? ret : count;
}

/* C23, once for a file: others may have left anything behind its end. */
static int prepare_tail(struct write *w)
{
        struct ext4_inode *inode = w->inode;
        const uint64_t size = vfs_size(&inode->vfs);
        int ret;

        if (w->end <= size || inode->tail_known)
                return 0;
        ret = vfs_pages_flush(&inode->vfs, round_down_pow2(size, inode->fs->block_size), size);
        if (ret == 0)
                ret = ext4_zero_tail(inode, size);
        inode->tail_known = ret == 0;
        return ret;
}

/* The range from iocb->pos on, which check() has found good, under the exclusive lock. */
static int64_t write_buffered_locked(struct write *w)
{
        struct ext4_inode *inode = w->inode;
        int64_t ret;

        vfs_pending_drain(inode->vfs.sb, &inode->vfs.dio); /* order: no old bytes (B45) */
        w->fell_back = true;
        if (inode->flags & EXT4_FL_INLINE_DATA) {
                ret = try_inline(w);
                if (ret != -ERANGE)
                        return ret;
                ret = ext4_inline_to_blocks(inode);
                if (ret < 0)
                        return ret;
        }
        ret = prepare_tail(w);
        if (ret < 0)
                return ret;
        if (ext4_journals_data(inode))
                return ext4_data_journal_write(w->iocb, w->iter);
        return iomap_buffered_write(w->iocb, w->iter, &ext4_buffered_ops, &ext4_read_ops);
}

/* ---- direct ---- */

static int64_t submit(struct write *w, const struct iomap *first, bool wait)
{
        const struct iomap_dio_write how = {
                .ops = &ext4_write_ops, .first = first, .wait = wait};

        return iomap_dio_write(w->dio, w->iocb, w->iter, &how);
}

/* I2: the mapping that was found is still right. */
static int64_t write_mapped(struct write *w)
{
        int64_t ret;

        if (!w->is_unwritten)
                vfs_count(w->inode->vfs.sb, VFS_OVERWRITES);
        ext4_note_written(w->inode);
        ret = submit(w, &w->first, false);
        return ret == VFS_QUEUED ? ret : ext4_end_write(w->dio, ret);
}

static int64_t write_extending(struct write *w)
{
        struct ext4_inode *inode = w->inode;
        /* Blocks that are there already need nobody to free them. */
        const bool needs_orphan = !w->is_mapped || w->is_unwritten;
        int64_t written;
        int ret = 0;

        if (w->pos > vfs_size(&inode->vfs))
                ret = ext4_zero_tail(inode, vfs_size(&inode->vfs)); /* C23 */
        if (ret == 0 && needs_orphan)
                ret = ext4_begin_extend(inode); /* order: the entry before the blocks (B38) */
        if (ret < 0)
                return ret;
        written = submit(w, NULL, true); /* B39 */
        return ext4_end_extend(w->dio, written, needs_orphan);
}

/* Inside the size, with holes or parts of blocks that are not written. */
static int64_t write_into(struct write *w)
{
        /* A file without extents may have to go on buffered; and I3. */
        bool wait = w->is_partial || !(w->inode->flags & EXT4_FL_EXTENTS);
        int64_t ret;

        ext4_note_written(w->inode);
        ret = submit(w, NULL, wait);
        return ret == VFS_QUEUED ? ret : ext4_end_write(w->dio, ret);
}

/* R2: what was written through the cache for a direct write does not stay there. */
static int64_t leave_cache(struct write *w, int64_t done)
{
        struct vfs_inode *vfs = &w->inode->vfs;
        const uint64_t end = w->pos + (uint64_t)done;
        int ret = vfs_pages_flush(vfs, w->pos, end);

        if (ret == 0)
                ret = vfs_pages_invalidate(vfs, w->pos, end);
        return ret < 0 ? ret : done;
}

/* R1: the rest of a direct write that met what cannot be written directly. */
static int64_t write_rest(struct write *w, int64_t direct)
{
        const uint64_t pos = w->iocb->pos;
        const int64_t done = max_t(int64_t, direct, 0);
        int64_t more;

        vfs_count(w->inode->vfs.sb, VFS_FALLBACK_HOLE);
        w->iocb->pos += (uint64_t)done;
        w->pos = w->iocb->pos;
        more = write_buffered_locked(w);
        if (more > 0)
                more = leave_cache(w, more);
        w->iocb->pos = pos; /* C28: the caller moves it, once */
        if (more < 0)
                return done > 0 ? done : more; /* C29: what was done counts */
        return done + more;
}

static int64_t write_exclusive(struct write *w)
{
        struct ext4_inode *inode = w->inode;
        int64_t ret = 0;

        if (nowait(w) && !may_share(w))
                return -EAGAIN; /* before anything was done: C9 */
        ret = ext4_drop_privileges(inode);
        if (ret < 0)
                return ret;
        if (w->is_partial && (!w->is_mapped || w->is_unwritten))
                vfs_pending_drain(inode->vfs.sb, &inode->vfs.dio); /* order: then zeros (B36) */
        if (w->is_extending)
                ret = write_extending(w);
        else if (may_share(w))
                return write_mapped(w);
        else
                ret = write_into(w);
        if (ret == -ENOTBLK || (ret > 0 && w->dio->stopped == -ENOTBLK))
                ret = write_rest(w, ret);
        return ret;
}

static int64_t write_direct_locked(struct write *w)
{
        int64_t ret = check(w);

        if (ret <= 0)
                return ret;
        if (!is_aligned(w))
                return -EINVAL;
        ret = check_atomic(w);
        if (ret < 0)
                return ret;
        ret = ext4_cache_before_write(w->inode, w->pos, w->end, nowait(w));
        if (ret == 0)
                ret = look(w);
        if (ret < 0)
                return ret;
        if (w->exclusive)
                return write_exclusive(w);
        if (may_share(w))
                return write_mapped(w);
        return nowait(w) ? -EAGAIN : RESTART;
}

/* ---- the calls ---- */

/* In the submitting thread, without the lock: others can join the commit.  As fsync it tells
 * the open file what could not be written back. */
static int64_t sync_if_asked(struct write *w, bool asked, int64_t ret)
{
        struct vfs_kiocb *iocb = w->iocb;
        int err, told = 0;

        if (ret <= 0 || !asked)
                return ret;
        err = ext4_fsync(w->inode, iocb->flags & VFS_SYNC ? EXT4_SYNC_ALL : EXT4_SYNC_DATA);
        if (iocb->error_seen)
                told = vfs_pages_tell_error(iocb->inode, iocb->error_seen);
        err = first_error(err, told);
        return err < 0 ? err : ret;
}

int64_t ext4_file_write_buffered(struct vfs_kiocb *iocb, struct iov_iter *iter)
{
        struct write w = {.inode = ext4_inode_of(iocb->inode),
                          .iocb = iocb,
                          .iter = iter,
                          .exclusive = true};
        int64_t ret;

        if (ext4_has_dax(w.inode->fs)) {
                ret = ext4_dax_write(iocb, iter);
                if (ret != EXT4_NOT_DAX)
                        return ret;
        }
        if (iocb->flags & VFS_NOWAIT)
                return -EOPNOTSUPP; /* B34 */
        ret = lock_inode(&w);
        if (ret < 0)
                return ret;
        vfs_count(iocb->inode->sb, VFS_BUFFERED_WRITES);
        ret = check(&w);
        if (ret > 0) {
                int err = ext4_drop_privileges(w.inode);

                ret = err < 0 ? err : ret;
        }
        if (ret > 0)
                ret = write_buffered_locked(&w);
        unlock_inode(&w);
        return sync_if_asked(&w, iocb->flags & VFS_DSYNC, ret);
}

static int64_t write_fallback(struct write *w, enum ext4_fallback why)
{
        if (w->iocb->flags & VFS_ATOMIC)
                return -EOPNOTSUPP;
        ext4_count_fallback(w->inode, why);
        return ext4_file_write_buffered(w->iocb, w->iter);
}

/* What is to be made durable here, when the request is over here. */
static bool needs_sync(const struct write *w)
{
        if (w->fell_back)
                return w->iocb->flags & VFS_DSYNC;
        return w->dio->flags & IOMAP_DIO_NEED_SYNC;
}

int64_t ext4_file_write_direct(struct iomap_dio *dio, struct vfs_kiocb *iocb,
                               struct iov_iter *iter)
{
        struct write w = {
                .inode = ext4_inode_of(iocb->inode), .dio = dio, .iocb = iocb, .iter = iter};
        int64_t ret;

        if ((iocb->flags & VFS_ATOMIC) && ext4_atomic_unit(w.inode) == 0)
                return -EOPNOTSUPP; /* C52: at the entrance */
        if (ext4_has_dax(w.inode->fs)) {
                ret = ext4_dax_write(iocb, iter);
                if (ret != EXT4_NOT_DAX)
                        return ret;
        }
        w.exclusive = ext4_write_will_extend(iocb, iter);
        for (;;) {
                enum ext4_fallback why;

                ret = lock_inode(&w);
                if (ret < 0)
                        return ext4_count_again(&w.inode->vfs, ret);
                why = ext4_direct_fallback(w.inode); /* decided under the lock (B34) */
                if (why != EXT4_DIRECT_OK) {
                        unlock_inode(&w);
                        return write_fallback(&w, why);
                }
                ret = write_direct_locked(&w);
                unlock_inode(&w);
                if (ret != RESTART)
                        break;
                vfs_count(w.inode->vfs.sb, VFS_LOCK_RESTARTS);
                w.exclusive = true;
        }
        if (ret > 0 || ret == VFS_QUEUED) {
                vfs_count(w.inode->vfs.sb, VFS_DIRECT_WRITES);
                vfs_count_by(w.inode->vfs.sb, VFS_DIRECT_WRITE_BYTES, w.end - w.pos);
        }
        if (ret == VFS_QUEUED)
                return ret;
        return ext4_count_again(&w.inode->vfs,
                                sync_if_asked(&w, ret > 0 && needs_sync(&w), ret));
}

/* ---- who writes ---- */

void ext4_writer_open(struct ext4_inode *inode)
{
        atomic_fetch_add(&inode->nr_writers, 1);
}

void ext4_writer_close(struct ext4_inode *inode)
{
        struct vfs_super *sb = inode->vfs.sb;

        if (atomic_fetch_sub(&inode->nr_writers, 1) > 1 || ext4_writable(inode->fs) < 0)
                return;
        rwsem_write_lock(&inode->map_lock);
        ext4_prealloc_drop(inode);
        rwsem_write_unlock(&inode->map_lock);
        if (!atomic_load(&inode->times_due))
                return;
        rwsem_read_lock(&inode->vfs.lock);
        if (ext4_store_times(inode) < 0)
                log_say(&sb->log, LOG_ERR, "inode %u: its times could not be stored",
                        ext4_ino(inode));
        rwsem_read_unlock(&inode->vfs.lock);
}
