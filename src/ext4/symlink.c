/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <string.h>
#include <sys/stat.h>

#include "ext4/ext4.h"
#include "util/alloc.h"

/*
 * Symlinks: the target is in i_block when it is short (fast), else in the first block, or it is
 * inline data.
 */

/* Blocks of 512 bytes that are not the target's: an attribute block takes a whole cluster. */
static uint64_t attribute_blocks(const struct ext4_inode *inode)
{
        const struct ext4_fs *fs = inode->fs;

        return inode->file_acl ? 1ull << (fs->block_bits + fs->cluster_bits - 9) : 0;
}

/* By what is allocated rather than by length: a short target may lie in a block. */
bool ext4_symlink_is_fast(const struct ext4_inode *inode)
{
        if (vfs_size(&inode->vfs) >= EXT4_I_BLOCK_SIZE)
                return false;
        if (inode->blocks == attribute_blocks(inode))
                return true;
        /* Values in inodes of their own are counted with this inode, so that the count says
         * nothing; file systems of that age have no short slow symlinks. */
        return ext4_has_incompat(inode->fs, EXT4_INCOMPAT_EA_INODE);
}

/* Such a block is journalled, so it is read like metadata. */
static int read_slow(struct ext4_inode *inode, char *target, uint64_t len)
{
        const struct ext4_where at = ext4_at(inode, 0);
        struct buf *buf;
        int ret = ext4_read_block(inode, 0, NULL, &buf);

        if (ret < 0)
                return ret;
        if (!buf)
                return ext4_corrupt(&at, "symlink without a block");
        memcpy(target, buf->data, len);
        buf_put(buf);
        return 0;
}

static int read_target(struct ext4_inode *inode, char *target, uint64_t len)
{
        if (inode->flags & EXT4_FL_INLINE_DATA)
                memcpy(target, inode->inline_data, len); /* all of it is there: inline.c */
        else if (ext4_symlink_is_fast(inode))
                memcpy(target, inode->block, len);
        else
                return read_slow(inode, target, len);
        return 0;
}

static ssize_t readlink_locked(struct ext4_inode *inode, char *buf, size_t size)
{
        const struct ext4_where at = ext4_at(inode, 0);
        _cleanup_mem_ char *target = NULL;
        uint64_t len = vfs_size(&inode->vfs);
        int ret;

        if (len == 0 || len >= inode->fs->block_size)
                return ext4_corrupt(&at, "symlink of %llu bytes", (unsigned long long)len);
        target = mem_alloc(len);
        if (!target)
                return -ENOMEM;
        ret = read_target(inode, target, len);
        if (ret < 0)
                return ret;
        if (memchr(target, '\0', len))
                return ext4_corrupt(&at, "symlink with a zero byte in its target");
        memcpy(buf, target, min_t(uint64_t, size, len));
        return (ssize_t)len;
}

ssize_t ext4_readlink(struct ext4_inode *inode, char *buf, size_t size)
{
        ssize_t ret;

        if (!S_ISLNK(inode->mode))
                return -EINVAL;
        if (inode->flags & EXT4_FL_ENCRYPT)
                return -ENOKEY;
        rwsem_read_lock(&inode->vfs.lock);
        ret = readlink_locked(inode, buf, size);
        rwsem_read_unlock(&inode->vfs.lock);
        return ret;
}
