/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reading a file: checks, the inode lock, the counters. */

#include <sys/stat.h>

#include "ext4/cache.h"
#include "ext4/data_journal.h"
#include "ext4/dax.h"
#include "ext4/setattr.h"

/* A mount that writes, with data=journal. */
static bool journals_data(const struct ext4_fs *fs)
{
        return fs->journal && fs->opts.data == EXT4_DATA_JOURNAL;
}

enum ext4_fallback ext4_direct_fallback(const struct ext4_inode *inode)
{
        if (inode->flags & EXT4_FL_VERITY)
                return EXT4_FALLBACK_VERITY;
        if ((inode->flags & EXT4_FL_JOURNAL_DATA) || journals_data(inode->fs))
                return EXT4_FALLBACK_DATA_JOURNAL;
        if (inode->flags & EXT4_FL_INLINE_DATA)
                return EXT4_FALLBACK_INLINE;
        return EXT4_DIRECT_OK;
}

/* Without extents a block may have to be written buffered, and memory is copied to byte by
 * byte. */
uint32_t ext4_atomic_unit(const struct ext4_inode *inode)
{
        const struct uext4_bdev_geometry *geo = uext4_bdev_geometry(inode->vfs.sb->dev);
        const uint32_t block = inode->fs->block_size;

        if (!S_ISREG(inode->mode) || !(inode->flags & EXT4_FL_EXTENTS) ||
            (inode->flags & EXT4_FL_ENCRYPT) || ext4_is_dax(inode) ||
            ext4_direct_fallback(inode) != EXT4_DIRECT_OK)
                return 0;
        return block >= geo->atomic_min && block <= geo->atomic_max ? block : 0;
}

void ext4_count_fallback(const struct ext4_inode *inode, enum ext4_fallback why)
{
        static const enum vfs_counter counters[] = {
                [EXT4_FALLBACK_INLINE] = VFS_FALLBACK_INLINE,
                [EXT4_FALLBACK_DATA_JOURNAL] = VFS_FALLBACK_DATA_JOURNAL,
                [EXT4_FALLBACK_VERITY] = VFS_FALLBACK_VERITY,
        };

        vfs_count(inode->vfs.sb, counters[why]);
}

int ext4_io_lock(struct vfs_inode *inode, bool is_exclusive, bool nowait)
{
        if (nowait) {
                bool got = is_exclusive ? rwsem_write_trylock(&inode->lock)
                                        : rwsem_read_trylock(&inode->lock);

                return got ? 0 : -EAGAIN;
        }
        if (is_exclusive)
                rwsem_write_lock(&inode->lock);
        else
                rwsem_read_lock(&inode->lock);
        return 0;
}

void ext4_io_unlock(struct vfs_inode *inode, bool is_exclusive)
{
        if (is_exclusive)
                rwsem_write_unlock(&inode->lock);
        else
                rwsem_read_unlock(&inode->lock);
}

int64_t ext4_count_again(struct vfs_inode *inode, int64_t ret)
{
        if (ret == -EAGAIN)
                vfs_count(inode->sb, VFS_NOWAIT_AGAIN);
        return ret;
}

/* B25: shared, and never asleep under NOWAIT. */
static int lock_for_read(const struct vfs_kiocb *iocb)
{
        return ext4_io_lock(iocb->inode, false, iocb->flags & VFS_NOWAIT);
}

/*
 * The unit is the device's, not the file system's block (B27).  Position and total length are
 * bound to the logical block, each piece of memory to what the host needs.
 */
static bool is_aligned(const struct vfs_kiocb *iocb, const struct iov_iter *iter)
{
        const struct uext4_bdev_geometry *geo = uext4_bdev_geometry(iocb->inode->sb->dev);

        return ((iocb->pos | iter->count) & (geo->logical_block - 1)) == 0 &&
               iov_iter_is_aligned(iter, geo->mem_align);
}

int64_t ext4_file_read_buffered(struct vfs_kiocb *iocb, struct iov_iter *iter)
{
        struct vfs_inode *inode = iocb->inode;
        int64_t ret;

        if (ext4_has_dax(ext4_inode_of(inode)->fs)) {
                ret = ext4_dax_read(iocb, iter);
                if (ret != EXT4_NOT_DAX)
                        return ret;
        }
        vfs_count(inode->sb, VFS_BUFFERED_READS);
        ret = lock_for_read(iocb);
        if (ret < 0)
                return ext4_count_again(inode, ret);
        if (ext4_journals_data(ext4_inode_of(inode)))
                ret = ext4_data_journal_read(iocb, iter);
        else if (ext4_inode_of(inode)->flags & EXT4_FL_INLINE_DATA)
                ret = iomap_uncached_read(iocb, iter, &ext4_read_ops);
        else
                ret = iomap_buffered_read(iocb, iter, &ext4_read_ops);
        ext4_accessed(ext4_inode_of(inode), iocb->flags);
        rwsem_read_unlock(&inode->lock);
        return ext4_count_again(inode, ret);
}

int64_t ext4_file_lend(struct vfs_kiocb *iocb, uint64_t len, struct folio **ret_folio)
{
        struct vfs_inode *inode = iocb->inode;
        const uint64_t pos = iocb->pos;
        int64_t ret = -EOPNOTSUPP;
        uint64_t size;

        rwsem_read_lock(&inode->lock);
        size = vfs_size(inode);
        if (pos >= size) {
                ret = 0;
        } else if (ext4_has_pages(ext4_inode_of(inode))) {
                len = min_t(uint64_t, len, size - pos);
                ret = iomap_buffered_lend(iocb, len, &ext4_read_ops, ret_folio);
                if (ret == 0)
                        ret = (int64_t)min_t(uint64_t, len, folio_end(*ret_folio) - pos);
        }
        rwsem_read_unlock(&inode->lock);
        return ret;
}

int64_t ext4_file_read_direct(struct iomap_dio *dio, struct vfs_kiocb *iocb,
                              struct iov_iter *iter)
{
        struct vfs_inode *inode = iocb->inode;
        const uint32_t flags = iocb->flags; /* when it has been submitted it may be gone: B32 */
        enum ext4_fallback why;
        int64_t ret;

        if (ext4_has_dax(ext4_inode_of(inode)->fs)) {
                ret = ext4_dax_read(iocb, iter);
                if (ret != EXT4_NOT_DAX)
                        return ret;
        }
        ret = lock_for_read(iocb);
        if (ret < 0)
                return ext4_count_again(inode, ret);
        why = ext4_direct_fallback(ext4_inode_of(inode)); /* decided under the lock (B26) */
        if (why != EXT4_DIRECT_OK) {
                rwsem_read_unlock(&inode->lock);
                ext4_count_fallback(ext4_inode_of(inode), why);
                return ext4_file_read_buffered(iocb, iter);
        }
        if (!is_aligned(iocb, iter)) {
                rwsem_read_unlock(&inode->lock);
                return -EINVAL;
        }
        vfs_count(inode->sb, VFS_DIRECT_READS);
        vfs_count_by(inode->sb, VFS_DIRECT_READ_BYTES, iter->count);
        ret = ext4_cache_before_read(ext4_inode_of(inode), iocb->pos, iocb->pos + iter->count,
                                     flags & VFS_NOWAIT);
        if (ret == 0)
                ret = iomap_dio_read(dio, iocb, iter, &ext4_read_ops);
        ext4_accessed(ext4_inode_of(inode), flags);
        rwsem_read_unlock(&inode->lock);
        return ext4_count_again(inode, ret);
}

int64_t ext4_file_seek(struct ext4_inode *inode, uint64_t pos, int whence)
{
        int64_t ret;

        rwsem_read_lock(&inode->vfs.lock);
        ret = iomap_seek(&inode->vfs, pos, whence, &ext4_report_ops);
        rwsem_read_unlock(&inode->vfs.lock);
        return ret;
}

int ext4_file_fiemap(struct ext4_inode *inode, uint64_t pos, uint64_t len,
                     struct fiemap_extent *extents, unsigned max)
{
        int ret;

        rwsem_read_lock(&inode->vfs.lock);
        ret = iomap_fiemap(&inode->vfs, pos, len, extents, max, &ext4_report_ops);
        rwsem_read_unlock(&inode->vfs.lock);
        return ret;
}
