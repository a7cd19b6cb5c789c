/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Inode handles: get, look up, and everything that is read from them but file data. */

#include <dirent.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/stat.h>

#include "ext4/dax.h"
#include "ext4/perm.h"
#include "ext4/setattr.h"
#include "lib/lib.h"

/* The generation is random, and 0 in what mke2fs has made; the time of birth makes the rest.
 * Bit 63, so that it is neither 0 nor a generation alone. */
static uint64_t incarnation_of(const struct ext4_inode *inode)
{
        uint64_t born =
                (uint64_t)inode->btime.tv_sec * 1000000000u + (uint64_t)inode->btime.tv_nsec;

        born *= 0x9e3779b97f4a7c15u;
        return (born | 1ull << 63) >> 32 << 32 | inode->generation;
}

static bool is_incarnation(const struct ext4_inode *inode, uint64_t wanted)
{
        return wanted == (wanted >> 32 ? incarnation_of(inode) : inode->generation);
}

int uext4_inode_get(struct uext4_fs *fs, uint64_t ino, uint64_t incarnation,
                    struct uext4_inode **ret_inode)
{
        struct ext4_inode *inode;
        int ret = ext4_iget(fs->ext4, ino, &inode);

        if (ret < 0)
                return ret;
        if (incarnation != 0 && !is_incarnation(inode, incarnation)) {
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

int lib_lookup(struct ext4_inode *dir, const char *name, size_t len,
               struct ext4_inode **ret_inode)
{
        int ret = S_ISDIR(dir->mode) ? ext4_permission(dir, EXT4_MAY_EXEC) : -ENOTDIR;

        return ret < 0 ? ret : ext4_dir_get(dir, name, len, ret_inode);
}

int uext4_lookup(struct uext4_inode *dir, const char *name, size_t len,
                 struct uext4_inode **ret_inode)
{
        struct ext4_inode *inode;
        int ret = lib_lookup(inode_in(dir), name, len, &inode);

        if (ret < 0)
                return ret;
        *ret_inode = inode_out(inode);
        return 0;
}

/* What is copied from and to memory (DAX) may lie anywhere. */
static void set_alignment(const struct ext4_inode *inode, struct uext4_stat *st)
{
        const struct uext4_bdev_geometry *geo = uext4_bdev_geometry(inode->vfs.sb->dev);

        if (ext4_direct_fallback(inode) != EXT4_DIRECT_OK || (inode->flags & EXT4_FL_ENCRYPT))
                return;
        st->dio_mem_align = ext4_is_dax(inode) ? 1 : geo->mem_align;
        st->dio_offset_align = ext4_is_dax(inode) ? 1 : geo->logical_block;
        st->atomic_write_min = st->atomic_write_max = ext4_atomic_unit(inode);
}

static void set_attributes(const struct ext4_inode *inode, struct uext4_stat *st)
{
        static const struct {
                uint64_t attribute;
                uint32_t flag;
        } attributes[] = {
                {STATX_ATTR_COMPRESSED, FS_COMPR_FL},
                {STATX_ATTR_IMMUTABLE, EXT4_FL_IMMUTABLE},
                {STATX_ATTR_APPEND, EXT4_FL_APPEND},
                {STATX_ATTR_NODUMP, EXT4_FL_NODUMP},
                {STATX_ATTR_ENCRYPTED, EXT4_FL_ENCRYPT},
                {STATX_ATTR_VERITY, EXT4_FL_VERITY},
        };

        for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
                st->attributes_mask |= attributes[i].attribute;
                if (inode->flags & attributes[i].flag)
                        st->attributes |= attributes[i].attribute;
        }
        st->attributes_mask |= STATX_ATTR_DAX;
        if (S_ISREG(inode->mode) && ext4_is_dax(inode))
                st->attributes |= STATX_ATTR_DAX;
}

/* In units of 512 bytes, with what is promised to data in memory: who finds none takes the file
 * for one without data. */
static uint64_t blocks_of(struct ext4_inode *inode)
{
        const unsigned bits = inode->fs->cluster_bits + inode->fs->block_bits - 9;
        uint64_t blocks;

        rwsem_read_lock(&inode->map_lock); /* a promise becomes blocks under it */
        blocks = inode->blocks + (atomic_load(&inode->delayed.nr_data) << bits);
        rwsem_read_unlock(&inode->map_lock);
        return blocks;
}

int uext4_stat(struct uext4_inode *handle, struct uext4_stat *ret_st)
{
        struct ext4_inode *inode = inode_in(handle);

        rwsem_read_lock(&inode->vfs.lock);
        *ret_st = (struct uext4_stat){
                .ino = inode->vfs.ino,
                .generation = inode->generation,
                .incarnation = incarnation_of(inode),
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
                .blocks = blocks_of(inode),
                .atime = ext4_atime(inode),
                .mtime = ext4_mtime(inode),
                .ctime = ext4_ctime(inode),
                .btime = inode->btime,
                .version = ext4_get_version(inode),
        };
        set_alignment(inode, ret_st);
        set_attributes(inode, ret_st);
        rwsem_read_unlock(&inode->vfs.lock);
        return 0;
}

ssize_t uext4_readlink(struct uext4_inode *inode, char *buf, size_t size)
{
        ssize_t ret = ext4_readlink(inode_in(inode), buf, size);

        if (ret >= 0)
                ext4_accessed_now(inode_in(inode));
        return ret;
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
        const bool is_first = *cookie == 0;
        struct ext4_dirent entry;
        int ret = S_ISDIR(inode_in(dir)->mode) ? ext4_permission(inode_in(dir), EXT4_MAY_READ)
                                               : -ENOTDIR;

        if (ret == 0)
                ret = ext4_dir_read(inode_in(dir), cookie, &entry);
        if (ret <= 0)
                return ret;
        if (is_first)
                ext4_accessed_now(inode_in(dir));
        ret_entry->ino = entry.ino;
        ret_entry->cookie = *cookie;
        ret_entry->type = dirent_type(entry.file_type);
        ret_entry->name_len = entry.name_len;
        memcpy(ret_entry->name, entry.name, entry.name_len + 1u);
        return 1;
}
