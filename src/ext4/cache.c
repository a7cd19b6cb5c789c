/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/cache.h"

#include "ext4/dax.h"
#include "ext4/delayed.h"
#include "ext4/write_path.h"

static void hold(struct vfs_inode *inode)
{
        ext4_iget_again(ext4_inode_of(inode));
}

static void release(struct vfs_inode *inode)
{
        ext4_iput(ext4_inode_of(inode));
}

/* Behind the size on disk all that comes before goes, too: the size is about to pass it (C20).
 */
static int write(struct vfs_inode *inode, uint64_t from, uint64_t to)
{
        const uint64_t size = ext4_inode_of(inode)->disk_size;
        int ret;

        if (to > size)
                from = min_t(uint64_t, from, size); /* order: the size follows all data (C20) */
        ret = iomap_writeback(inode, from, to, size, &ext4_writeback_ops);
        ext4_delayed_try_settle(ext4_inode_of(inode));
        return ret;
}

bool ext4_has_pages(const struct ext4_inode *inode)
{
        return !ext4_journals_data(inode) && !(inode->flags & EXT4_FL_INLINE_DATA) &&
               !ext4_is_dax(inode);
}

/* Who waits for the lock exclusive is not kept waiting (and nor is the thread). */
static uint64_t fill(struct vfs_inode *vfs, uint64_t pos, uint32_t size)
{
        uint64_t end = 0;

        if (!rwsem_read_trylock(&vfs->lock))
                return 0;
        if (ext4_has_pages(ext4_inode_of(vfs)))
                end = iomap_buffered_fill(vfs, pos, size, &ext4_read_ops);
        rwsem_read_unlock(&vfs->lock);
        return end;
}

const struct vfs_pagecache_ops ext4_pagecache_ops = {
        .hold = hold,
        .release = release,
        .write = write,
        .fill = fill,
};

int ext4_cache_leave(struct ext4_inode *inode, uint64_t gone_from, uint64_t gone_to,
                     uint64_t from, uint64_t to)
{
        int ret;

        vfs_pages_discard(&inode->vfs, gone_from, gone_to);
        ret = vfs_pages_flush(&inode->vfs, 0, UINT64_MAX);
        (void)!vfs_pages_invalidate(&inode->vfs, from, to); /* nothing is dirty */
        ext4_delayed_clear(inode);
        return ret;
}

int ext4_cache_before_read(struct ext4_inode *inode, uint64_t pos, uint64_t end, bool nowait)
{
        if (likely(!vfs_has_dirty(&inode->vfs.pages)))
                return 0;
        if (nowait)
                return vfs_pages_are_due(&inode->vfs, pos, end) ? -EAGAIN : 0;
        return vfs_pages_flush(&inode->vfs, pos, end); /* order: what is new is there (B28) */
}

int ext4_cache_before_write(struct ext4_inode *inode, uint64_t pos, uint64_t end, bool nowait)
{
        int ret;

        if (likely(!vfs_has_pages(&inode->vfs.pages)))
                return 0;
        if (nowait)
                return vfs_pages_have(&inode->vfs, pos, end) ? -EAGAIN : 0;
        /* Of what is behind the size on disk everything: it is about to be passed. */
        ret = end > inode->disk_size ? vfs_pages_flush(&inode->vfs, 0, UINT64_MAX)
                                     : vfs_pages_flush(&inode->vfs, pos, end);
        return ret < 0 ? ret : vfs_pages_invalidate(&inode->vfs, pos, end);
}
