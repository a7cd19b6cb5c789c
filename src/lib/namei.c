/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Names. */

#include "ext4/namei.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include "lib/lib.h"

#define PERMISSIONS 07777u

static int create(const struct ext4_new_name *new, struct uext4_inode **ret_inode)
{
        struct ext4_inode *inode;
        int ret = ext4_create(new, &inode);

        if (ret < 0)
                return ret;
        if (ret_inode)
                *ret_inode = inode_out(inode);
        else
                ext4_iput(inode);
        return 0;
}

int uext4_create(struct uext4_inode *dir, const char *name, size_t len, uint32_t mode,
                 struct uext4_inode **ret_inode)
{
        return uext4_mknod(dir, name, len, (mode & PERMISSIONS) | S_IFREG, 0, 0, ret_inode);
}

int uext4_mknod(struct uext4_inode *dir, const char *name, size_t len, uint32_t mode,
                uint32_t rdev_major, uint32_t rdev_minor, struct uext4_inode **ret_inode)
{
        const struct ext4_new_name new = {
                .dir = inode_in(dir),
                .name = {name, len},
                .mode = (uint16_t)mode,
                .rdev_major = rdev_major,
                .rdev_minor = rdev_minor,
        };

        if (mode & ~(PERMISSIONS | S_IFMT))
                return -EINVAL;
        if (!S_ISREG(mode) && !S_ISCHR(mode) && !S_ISBLK(mode) && !S_ISFIFO(mode) &&
            !S_ISSOCK(mode))
                return -EINVAL;
        /* What the format can hold. */
        if (rdev_major > 0xfff || rdev_minor > 0xfffff)
                return -EINVAL;
        return create(&new, ret_inode);
}

int uext4_tmpfile(struct uext4_inode *dir, uint32_t mode, int flags,
                  struct uext4_inode **ret_inode)
{
        const struct ext4_new_name new = {
                .dir = inode_in(dir),
                .mode = (uint16_t)((mode & PERMISSIONS) | S_IFREG),
        };
        struct ext4_inode *inode;
        int ret;

        if (flags & ~O_EXCL)
                return -EINVAL;
        ret = ext4_tmpfile(&new, !(flags & O_EXCL), &inode);
        if (ret == 0)
                *ret_inode = inode_out(inode);
        return ret;
}

int uext4_mkdir(struct uext4_inode *dir, const char *name, size_t len, uint32_t mode,
                struct uext4_inode **ret_inode)
{
        const struct ext4_new_name new = {
                .dir = inode_in(dir),
                .name = {name, len},
                .mode = (uint16_t)((mode & PERMISSIONS) | S_IFDIR),
        };

        return create(&new, ret_inode);
}

int uext4_symlink(struct uext4_inode *dir, const char *name, size_t len, const char *target,
                  size_t target_len, struct uext4_inode **ret_inode)
{
        const struct ext4_new_name new = {
                .dir = inode_in(dir),
                .name = {name, len},
                .mode = S_IFLNK | 0777,
                .target = {target, target_len},
        };

        return create(&new, ret_inode);
}

int uext4_link(struct uext4_inode *inode, struct uext4_inode *dir, const char *name, size_t len)
{
        const struct ext4_name what = {name, len};

        if (inode_in(inode)->fs != inode_in(dir)->fs)
                return -EXDEV;
        return ext4_link(inode_in(dir), &what, inode_in(inode));
}

int uext4_unlink(struct uext4_inode *dir, const char *name, size_t len)
{
        const struct ext4_name what = {name, len};

        return ext4_unlink(inode_in(dir), &what);
}

int uext4_rmdir(struct uext4_inode *dir, const char *name, size_t len)
{
        const struct ext4_name what = {name, len};

        return ext4_rmdir(inode_in(dir), &what);
}

int uext4_rename(struct uext4_inode *old_dir, const char *old_name, size_t old_len,
                 struct uext4_inode *new_dir, const char *new_name, size_t new_len,
                 unsigned flags)
{
        const struct ext4_name from = {old_name, old_len};
        const struct ext4_name to = {new_name, new_len};

        if (inode_in(old_dir)->fs != inode_in(new_dir)->fs)
                return -EXDEV;
        if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
                return -EINVAL;
        if ((flags & RENAME_EXCHANGE) && flags != RENAME_EXCHANGE)
                return -EINVAL;
        return ext4_rename(inode_in(old_dir), &from, inode_in(new_dir), &to,
                           (flags & RENAME_NOREPLACE ? EXT4_RENAME_NOREPLACE : 0) |
                                   (flags & RENAME_EXCHANGE ? EXT4_RENAME_EXCHANGE : 0) |
                                   (flags & RENAME_WHITEOUT ? EXT4_RENAME_WHITEOUT : 0));
}
