/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/truncate.h"

#include <sys/stat.h>

#include "ext4/cache.h"
#include "ext4/inline_change.h"
#include "ext4/map_change.h"
#include "ext4/orphan.h"
#include "ext4/setattr.h"
#include "ext4/super_write.h"
#include "ext4/zero.h"
#include "vfs/lease.h"

/*
 * The block that holds the end of the file, and what a power cut may show of it.
 *
 * When a file grows, what lies behind its old end must have been made zeros before (C23).  That
 * is done on the device, before the transaction with the new size: behind the end of a file
 * nobody looks.
 *
 * When it shrinks, the rest of the block that stays is made zeros too, for other readers of
 * the image.  But not before the new size is durable, or a cut would show the file as long as
 * it was and with a gap: neither the old file nor the new one.  So if there is anything to
 * zero, the transaction is committed first; the orphan entry sees to it that a cut after that
 * commit ends with zeros as well.
 */

void ext4_io_exclude(struct ext4_inode *inode)
{
        rwsem_write_lock(&inode->vfs.lock);
        rwsem_write_lock(&inode->vfs.invalidate_lock);
        vfs_pending_drain(inode->vfs.sb, &inode->vfs.dio); /* order: before blocks go (C11) */
}

void ext4_io_admit(struct ext4_inode *inode)
{
        rwsem_write_unlock(&inode->vfs.invalidate_lock);
        rwsem_write_unlock(&inode->vfs.lock);
}

int ext4_io_exclude_leases(struct ext4_inode *inode, uint64_t from, uint64_t to)
{
        for (;;) {
                int ret;

                ext4_io_exclude(inode);
                if (!vfs_is_leased(&inode->vfs, from, to))
                        return 0;
                ext4_io_admit(inode);
                ret = vfs_lease_wait(&inode->vfs, from, to);
                if (ret < 0)
                        return ret;
        }
}

/* ---- what may be ---- */

uint64_t ext4_max_size(const struct ext4_inode *inode)
{
        const struct ext4_fs *fs = inode->fs;
        uint64_t nr = inode->flags & (EXT4_FL_EXTENTS | EXT4_FL_INLINE_DATA)
                              ? EXT4_NR_LBLKS
                              : min_t(uint64_t, ext4_indirect_nr_lblks(fs), EXT4_NR_LBLKS);

        /* A file without holes must fit in i_blocks. */
        if (!ext4_has_ro_compat(fs, EXT4_RO_COMPAT_HUGE_FILE))
                nr = min_t(uint64_t, nr, UINT32_MAX >> (fs->block_bits - 9));
        return min_t(uint64_t, nr << fs->block_bits, INT64_MAX);
}

bool ext4_is_own(const struct ext4_inode *inode)
{
        const struct ext4_super_block *sb = &inode->fs->sb;
        const uint32_t ino = ext4_ino(inode);

        return ino < inode->fs->first_ino || (inode->flags & EXT4_FL_EA_INODE) ||
               ino == le32_get(sb->s_orphan_file_inum) ||
               ino == le32_get(sb->s_usr_quota_inum) || ino == le32_get(sb->s_grp_quota_inum) ||
               ino == le32_get(sb->s_prj_quota_inum);
}

int ext4_may_change(const struct ext4_inode *inode)
{
        int ret;

        if (S_ISDIR(inode->mode))
                return -EISDIR;
        if (!S_ISREG(inode->mode))
                return -EINVAL;
        ret = ext4_writable(inode->fs);
        if (ret < 0)
                return ret;
        if (ext4_is_own(inode) || (inode->flags & (EXT4_FL_IMMUTABLE | EXT4_FL_VERITY)))
                return -EPERM;
        return inode->flags & EXT4_FL_ENCRYPT ? -ENOKEY : 0;
}

/* ---- sizes and times ---- */

struct timespec ext4_now(const struct ext4_fs *fs)
{
        struct timespec now = {.tv_sec = fs->opts.epoch};

        if (fs->opts.has_epoch)
                return now;
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
        return now;
}

void ext4_touch_changed(struct ext4_inode *inode)
{
        inode->mtime = ext4_now(inode->fs);
        ext4_set_ctime(inode, inode->mtime);
        atomic_store_explicit(&inode->written_at, 0, memory_order_relaxed);
}

void ext4_set_size(struct ext4_inode *inode, uint64_t size)
{
        atomic_store_explicit(&inode->vfs.size, size, memory_order_release);
        inode->disk_size = size; /* together: C15, C20 */
}

/* Sizes from 2 GiB on are a feature; of revision 0 there are none. */
static int mark_large_file(struct jbd2_handle *h, struct ext4_fs *fs)
{
        struct ext4_super_loc loc;
        uint32_t features;
        int ret;

        if (le32_get(fs->sb.s_rev_level) == 0)
                return -EFBIG;
        ret = ext4_super_begin(h, fs, &loc);
        if (ret < 0)
                return ret;
        features = le32_get(loc.sb->s_feature_ro_compat);
        if (features & EXT4_RO_COMPAT_LARGE_FILE) {
                ext4_super_put(fs, &loc); /* since this mount */
                return 0;
        }
        loc.sb->s_feature_ro_compat = le32_make(features | EXT4_RO_COMPAT_LARGE_FILE);
        ext4_super_store(h, fs, &loc);
        return 0;
}

int ext4_grow(struct jbd2_handle *h, struct ext4_inode *inode, uint64_t size)
{
        struct ext4_fs *fs = inode->fs;
        int ret = 0;

        if (size > INT32_MAX && !ext4_has_ro_compat(fs, EXT4_RO_COMPAT_LARGE_FILE))
                ret = mark_large_file(h, fs);
        if (ret < 0)
                return ret;
        inode->disk_size = max_t(uint64_t, inode->disk_size, size);
        if (size > vfs_size(&inode->vfs))
                atomic_store_explicit(&inode->vfs.size, size, memory_order_release);
        return 0;
}

enum times {
        KEEP_TIMES,
        TOUCH_TIMES,
};

static int grow_and_store(struct jbd2_handle *h, struct ext4_inode *inode, uint64_t size,
                          enum times times)
{
        struct ext4_iloc loc;
        int ret = ext4_inode_begin(h, inode, &loc);

        if (ret < 0)
                return ret;
        rwsem_write_lock(&inode->map_lock);
        if (size > inode->disk_size)
                ret = ext4_grow(h, inode, size);
        if (ret == 0 && times == TOUCH_TIMES)
                ext4_touch_changed(inode);
        if (ret == 0)
                ext4_inode_store(h, inode, &loc);
        else
                ext4_iloc_put(&loc);
        rwsem_write_unlock(&inode->map_lock);
        return ret;
}

int ext4_grow_and_store(struct jbd2_handle *h, struct ext4_inode *inode, uint64_t size)
{
        return grow_and_store(h, inode, size, TOUCH_TIMES);
}

int ext4_grow_on_disk(struct jbd2_handle *h, struct ext4_inode *inode, uint64_t size)
{
        return grow_and_store(h, inode, size, KEEP_TIMES);
}

/* ---- up ---- */

static int truncate_up(struct ext4_inode *inode, uint64_t size)
{
        struct jbd2_handle *h;
        int ret = ext4_zero_tail(inode, vfs_size(&inode->vfs));

        if (ret == 0)
                ret = jbd2_start(inode->fs->journal, EXT4_GROW_CREDITS + EXT4_INODE_CREDITS, 0,
                                 &h);
        if (ret < 0)
                return ret;
        ret = ext4_grow_and_store(h, inode, size);
        return first_error(ret, jbd2_stop(h));
}

/* ---- down ---- */

/* What removing the blocks behind the end takes, the end of the orphan entry included. */
static uint32_t cut_credits(const struct ext4_inode *inode)
{
        return ext4_map_remove_credits(inode) + EXT4_ORPHAN_CREDITS;
}

/* Free the blocks behind the size; then the inode is no orphan. */
static int cut(struct jbd2_handle *h, struct ext4_inode *inode)
{
        uint64_t from = div_round_up(vfs_size(&inode->vfs), inode->fs->block_size);
        int ret = ext4_map_remove_all(h, inode, from, EXT4_NR_LBLKS, EXT4_ORPHAN_CREDITS);

        return ret < 0 ? ret : ext4_orphan_del(h, inode);
}

static int start_to_cut(struct ext4_inode *inode, uint32_t more, struct jbd2_handle **ret_h)
{
        return jbd2_start(inode->fs->journal, cut_credits(inode) + more,
                          ext4_map_remove_revokes(inode), ret_h);
}

static int cut_in_new_handle(struct ext4_inode *inode)
{
        struct jbd2_handle *h;
        int ret = start_to_cut(inode, 0, &h);

        if (ret < 0)
                return ret;
        ret = cut(h, inode);
        return first_error(ret, jbd2_stop(h));
}

/* The new size, and the inode as an orphan. */
static int shrink(struct jbd2_handle *h, struct ext4_inode *inode, uint64_t size)
{
        struct ext4_iloc loc;
        int ret = ext4_inode_begin(h, inode, &loc);

        if (ret < 0)
                return ret;
        ret = ext4_orphan_add(h, inode);
        if (ret < 0) {
                ext4_iloc_put(&loc);
                return ret;
        }
        ext4_set_size(inode, size);
        ext4_touch_changed(inode);
        ext4_inode_store(h, inode, &loc);
        return 0;
}

/* See above: first the size becomes durable, then the tail is made zeros. */
static int zero_behind(struct ext4_inode *inode, uint32_t tid)
{
        /* Zeros that go through the journal come after the size in any case. */
        int ret = ext4_journals_data(inode) ? 0 : jbd2_commit(inode->fs->journal, tid);

        return ret < 0 ? ret : ext4_zero_tail(inode, vfs_size(&inode->vfs));
}

static int truncate_down(struct ext4_inode *inode, uint64_t size)
{
        bool shorter = size < vfs_size(&inode->vfs);
        int dirty = shorter ? ext4_tail_is_dirty(inode, size) : 0;
        struct jbd2_handle *h;
        uint32_t tid;
        int ret;

        if (dirty < 0)
                return dirty;
        ret = start_to_cut(inode, EXT4_ORPHAN_CREDITS + EXT4_INODE_CREDITS, &h);
        if (ret < 0)
                return ret;
        tid = jbd2_tid(h);
        ret = shrink(h, inode, size);
        if (ret == 0 && !dirty)
                ret = cut(h, inode);
        ret = first_error(ret, jbd2_stop(h));
        if (ret == 0 && dirty)
                ret = zero_behind(inode, tid);
        if (ret == 0 && dirty)
                ret = cut_in_new_handle(inode);
        return ret;
}

/* ---- inline data ---- */

static int truncate_inline(struct ext4_inode *inode, uint64_t size)
{
        struct jbd2_handle *h;
        struct ext4_iloc loc;
        int ret = jbd2_start(inode->fs->journal, EXT4_INODE_CREDITS, 0, &h);

        if (ret < 0)
                return ret;
        ret = ext4_inode_begin(h, inode, &loc);
        if (ret == 0) {
                ret = ext4_inline_set_size(inode, size);
                if (ret == 0) {
                        ext4_set_size(inode, size);
                        ext4_touch_changed(inode);
                        ext4_inode_store(h, inode, &loc);
                } else {
                        ext4_iloc_put(&loc);
                }
        }
        return first_error(ret, jbd2_stop(h));
}

/* ---- the whole ---- */

static int truncate_locked(struct ext4_inode *inode, uint64_t size)
{
        int ret = ext4_may_change(inode);

        if (ret < 0)
                return ret;
        if (inode->flags & EXT4_FL_APPEND)
                return -EPERM;
        if (size > ext4_max_size(inode))
                return -EFBIG;
        ret = ext4_drop_privileges(inode);
        if (ret < 0)
                return ret;
        if (inode->flags & EXT4_FL_INLINE_DATA) {
                ret = truncate_inline(inode, size);
                if (ret != -ERANGE)
                        return ret;
                ret = ext4_inline_to_blocks(inode); /* it grows out of the inode */
                if (ret < 0)
                        return ret;
        }
        /* What else could not be written back has nothing to do with it: fsync tells. */
        (void)!ext4_cache_leave(inode, size, UINT64_MAX, size, UINT64_MAX);
        if (size > vfs_size(&inode->vfs))
                return truncate_up(inode, size);
        return truncate_down(inode, size);
}

int ext4_truncate(struct ext4_inode *inode, uint64_t size)
{
        int ret = ext4_io_exclude_leases(inode, size, UINT64_MAX);

        if (ret < 0)
                return ret;
        ret = truncate_locked(inode, size);
        ext4_io_admit(inode);
        return ret;
}

/* ---- for orphans ---- */

static bool has_map(const struct ext4_inode *inode)
{
        if (inode->flags & EXT4_FL_INLINE_DATA)
                return false;
        return S_ISREG(inode->mode) || S_ISDIR(inode->mode) ||
               (S_ISLNK(inode->mode) && !ext4_symlink_is_fast(inode));
}

int ext4_truncate_tail(struct ext4_inode *inode)
{
        int ret;

        if (!has_map(inode)) { /* its size is in the inode, and was set with it */
                struct jbd2_handle *h;

                ret = jbd2_start(inode->fs->journal, EXT4_ORPHAN_CREDITS, 0, &h);
                if (ret < 0)
                        return ret;
                ret = ext4_orphan_del(h, inode);
                return first_error(ret, jbd2_stop(h));
        }
        ret = ext4_zero_tail(inode, vfs_size(&inode->vfs));
        return ret < 0 ? ret : cut_in_new_handle(inode);
}

int ext4_truncate_all(struct ext4_inode *inode)
{
        struct jbd2_handle *h;
        int ret;

        if (!has_map(inode))
                return 0;
        ret = jbd2_start(inode->fs->journal, ext4_map_remove_credits(inode),
                         ext4_map_remove_revokes(inode), &h);
        if (ret < 0)
                return ret;
        ret = ext4_map_remove_all(h, inode, 0, EXT4_NR_LBLKS, 0);
        return first_error(ret, jbd2_stop(h));
}
