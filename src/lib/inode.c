/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Inode handles: get, look up, and everything that is read from them but file data. */

#include <dirent.h>
#include <string.h>

#include "lib/lib.h"

int uext4_inode_get(struct uext4_fs *fs, uint64_t ino, uint32_t generation,
                    struct uext4_inode **ret_inode)
{
        struct ext4_inode *inode;
        int ret = ext4_iget(fs->ext4, ino, &inode);

        if (ret < 0)
                return ret;
        if (generation != 0 && inode->generation != generation) {
                ext4_iput(inode);
                return -ESTALE;
        }
        *ret_inode = inode_out(inode);
        return 0;
}

void uext4_inode_put(struct uext4_inode *inode)
{
        ext4_iput(inode_in(inode));
}

int uext4_lookup(struct uext4_inode *dir, const char *name, size_t len,
                 struct uext4_inode **ret_inode)
{
        struct ext4_inode *inode;
        int ret = ext4_dir_get(inode_in(dir), name, len, &inode);

        if (ret < 0)
                return ret;
        *ret_inode = inode_out(inode);
        return 0;
}

int uext4_stat(struct uext4_inode *handle, struct uext4_stat *ret_st)
{
        struct ext4_inode *inode = inode_in(handle);
        const struct uext4_bdev_geometry *geo = uext4_bdev_geometry(inode->vfs.sb->dev);

        rwsem_read_lock(&inode->vfs.lock);
        *ret_st = (struct uext4_stat){
                .ino = inode->vfs.ino,
                .generation = inode->generation,
                .mode = inode->mode,
                .nlink = inode->nlink,
                .uid = inode->uid,
                .gid = inode->gid,
                .projid = inode->projid,
                .rdev_major = inode->rdev_major,
                .rdev_minor = inode->rdev_minor,
                .flags = inode->flags,
                .blksize = inode->fs->block_size,
                .size = vfs_size(&inode->vfs),
                .blocks = inode->blocks,
                .atime = inode->atime,
                .mtime = ext4_mtime(inode),
                .ctime = ext4_ctime(inode),
                .btime = inode->btime,
        };
        if (ext4_direct_fallback(inode) == EXT4_DIRECT_OK &&
            !(inode->flags & EXT4_FL_ENCRYPT)) {
                ret_st->dio_mem_align = geo->mem_align;
                ret_st->dio_offset_align = geo->logical_block;
        }
        rwsem_read_unlock(&inode->vfs.lock);
        return 0;
}

ssize_t uext4_readlink(struct uext4_inode *inode, char *buf, size_t size)
{
        return ext4_readlink(inode_in(inode), buf, size);
}

ssize_t uext4_getxattr(struct uext4_inode *inode, const char *name, void *buf, size_t size)
{
        return ext4_xattr_get(inode_in(inode), name, buf, size);
}

ssize_t uext4_listxattr(struct uext4_inode *inode, char *buf, size_t size)
{
        return ext4_xattr_list(inode_in(inode), buf, size);
}

static uint8_t dirent_type(uint8_t file_type)
{
        static const uint8_t types[] = {
                [EXT4_FT_UNKNOWN] = DT_UNKNOWN, [EXT4_FT_REG_FILE] = DT_REG,
                [EXT4_FT_DIR] = DT_DIR,         [EXT4_FT_CHRDEV] = DT_CHR,
                [EXT4_FT_BLKDEV] = DT_BLK,      [EXT4_FT_FIFO] = DT_FIFO,
                [EXT4_FT_SOCK] = DT_SOCK,       [EXT4_FT_SYMLINK] = DT_LNK,
        };

        return file_type < ARRAY_LEN(types) ? types[file_type] : DT_UNKNOWN;
}

int uext4_readdir(struct uext4_inode *dir, uint64_t *cookie, struct uext4_dirent *ret_entry)
{
        struct ext4_dirent entry;
        int ret = ext4_dir_read(inode_in(dir), cookie, &entry);

        if (ret <= 0)
                return ret;
        ret_entry->ino = entry.ino;
        ret_entry->cookie = *cookie;
        ret_entry->type = dirent_type(entry.file_type);
        ret_entry->name_len = entry.name_len;
        memcpy(ret_entry->name, entry.name, entry.name_len + 1u);
        return 1;
}
