/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Setting what an inode has beside its contents: permissions, owner, times, flags. */

#include <linux/fs.h>
#include <sys/stat.h>

#include "ext4/setattr.h"
#include "lib/lib.h"

static int time_of(struct timespec t, unsigned what, unsigned now, unsigned *mask,
                   struct timespec *ret_time)
{
        *mask |= what;
        if (t.tv_nsec == UTIME_NOW) {
                *mask |= now;
                return 0;
        }
        if (t.tv_nsec < 0 || t.tv_nsec > 999999999)
                return -EINVAL;
        *ret_time = t;
        return 0;
}

int uext4_setattr(struct uext4_inode *inode, const struct uext4_setattr *attr)
{
        struct ext4_setattr set = {
                .mode = (uint16_t)(attr->mode & 07777),
                .uid = attr->uid,
                .gid = attr->gid,
        };
        int ret = 0;

        if (attr->mask & ~(UEXT4_SET_MODE | UEXT4_SET_UID | UEXT4_SET_GID | UEXT4_SET_ATIME |
                           UEXT4_SET_MTIME))
                return -EINVAL;
        if (attr->mask == 0)
                return 0;
        set.mask = (attr->mask & UEXT4_SET_MODE ? EXT4_ATTR_MODE : 0) |
                   (attr->mask & UEXT4_SET_UID ? EXT4_ATTR_UID : 0) |
                   (attr->mask & UEXT4_SET_GID ? EXT4_ATTR_GID : 0);
        if (attr->mask & UEXT4_SET_ATIME)
                ret = time_of(attr->atime, EXT4_ATTR_ATIME, EXT4_ATTR_ATIME_NOW, &set.mask,
                              &set.atime);
        if (ret == 0 && (attr->mask & UEXT4_SET_MTIME))
                ret = time_of(attr->mtime, EXT4_ATTR_MTIME, EXT4_ATTR_MTIME_NOW, &set.mask,
                              &set.mtime);
        return ret < 0 ? ret : ext4_setattr(inode_in(inode), &set);
}

/* ---- flags ---- */

static bool has_flags(const struct ext4_inode *inode)
{
        return S_ISREG(inode->mode) || S_ISDIR(inode->mode);
}

int uext4_get_flags(struct uext4_inode *inode, uint32_t *ret_flags)
{
        if (!has_flags(inode_in(inode)))
                return -ENOTTY;
        *ret_flags = ext4_visible_flags(inode_in(inode));
        return 0;
}

int uext4_set_flags(struct uext4_inode *inode, uint32_t flags)
{
        const struct ext4_new_flags new = {.flags = flags};

        return ext4_set_flags(inode_in(inode), &new);
}

int uext4_get_version(struct uext4_inode *inode, uint32_t *ret_version)
{
        *ret_version = inode_in(inode)->generation;
        return 0;
}

/* ---- the other form ---- */

static const struct {
        uint32_t xflag, flag;
} xflags[] = {
        {FS_XFLAG_SYNC, FS_SYNC_FL},
        {FS_XFLAG_IMMUTABLE, FS_IMMUTABLE_FL},
        {FS_XFLAG_APPEND, FS_APPEND_FL},
        {FS_XFLAG_NODUMP, FS_NODUMP_FL},
        {FS_XFLAG_NOATIME, FS_NOATIME_FL},
        {FS_XFLAG_DAX, FS_DAX_FL},
        {FS_XFLAG_PROJINHERIT, FS_PROJINHERIT_FL},
};

int uext4_get_fsxattr(struct uext4_inode *handle, struct fsxattr *ret_attr)
{
        struct ext4_inode *inode = inode_in(handle);
        uint32_t flags;

        if (!has_flags(inode))
                return -ENOTTY;
        rwsem_read_lock(&inode->vfs.lock);
        flags = ext4_visible_flags(inode);
        *ret_attr = (struct fsxattr){.fsx_projid = inode->projid};
        rwsem_read_unlock(&inode->vfs.lock);
        for (size_t i = 0; i < ARRAY_LEN(xflags); i++) {
                if (flags & xflags[i].flag)
                        ret_attr->fsx_xflags |= xflags[i].xflag;
        }
        return 0;
}

int uext4_set_fsxattr(struct uext4_inode *inode, const struct fsxattr *attr)
{
        struct ext4_new_flags new = {
                .is_common = true, .sets_projid = true, .projid = attr->fsx_projid};
        uint32_t left = attr->fsx_xflags;

        for (size_t i = 0; i < ARRAY_LEN(xflags); i++) {
                if (left & xflags[i].xflag)
                        new.flags |= xflags[i].flag;
                left &= ~xflags[i].xflag;
        }
        return left ? -EOPNOTSUPP : ext4_set_flags(inode_in(inode), &new);
}
