/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_SETATTR_H
#define EXT4_SETATTR_H

/*
 * What can be set of an inode, beside its size and its map.
 *
 *      setattr.c   permissions, owner, times
 *      flags.c     the flags that programs may set, and the project
 *      atime.c     access times
 *
 * A change holds the inode lock exclusive, then a handle, then the map lock: completions of
 * writes store the inode without its lock.
 */

#include "ext4/inode_store.h"

enum ext4_attr {
        EXT4_ATTR_MODE = 1u << 0,
        EXT4_ATTR_UID = 1u << 1,
        EXT4_ATTR_GID = 1u << 2,
        EXT4_ATTR_ATIME = 1u << 3,
        EXT4_ATTR_MTIME = 1u << 4,
        EXT4_ATTR_ATIME_NOW = 1u << 5, /* with ATIME: not the time given */
        EXT4_ATTR_MTIME_NOW = 1u << 6,
};

struct ext4_setattr {
        unsigned mask; /* EXT4_ATTR_* */
        uint16_t mode; /* permissions, without the type */
        uint32_t uid, gid;
        struct timespec atime, mtime;
};

/*
 * As chmod(2), chown(2), utimensat(2), in one transaction; the access ACL goes with the mode.
 * Who changes the owner of what is no directory takes S_ISUID and S_ISGID, unless he gives a
 * mode, and "security.capability", in a transaction of its own, before.
 *
 * Takes the inode lock; no handle is open.  -EPERM, -EACCES, -EOPNOTSUPP for the mode of a
 * symlink, -EROFS, -EIO and the like, -ENOSPC for an ACL: nothing has changed.
 */
must_check int ext4_setattr(struct ext4_inode *inode, const struct ext4_setattr *attr);

/*
 * The fields, for who has checked all that and holds the map lock: `raw` tells how fine times
 * are.  The inode is not stored.
 */
void ext4_setattr_apply(struct ext4_inode *inode, const struct ext4_setattr *attr,
                        const struct ext4_inode_disk *raw);

/*
 * What changing contents or owner takes away: S_ISUID, S_ISGID where the group may execute it,
 * unless the identity has CAP_FSETID; and "security.capability", whoever it is.  The inode lock
 * is held, exclusive to take them, and no handle is open.
 */
bool ext4_has_privileges(const struct ext4_inode *inode);
must_check int ext4_drop_privileges(struct ext4_inode *inode);

/*
 * "security.capability": whether it is not known to be missing; whether it is there (1, 0,
 * -errno), which is remembered; removing it (xattr_change.c).  The inode lock is held likewise.
 */
static inline bool ext4_may_have_capability(const struct ext4_inode *inode)
{
        return !(atomic_load_explicit(&inode->lacks, memory_order_acquire) &
                 EXT4_LACKS_CAPABILITY);
}

must_check int ext4_find_capability(struct ext4_inode *inode);
must_check int ext4_drop_capability(struct ext4_inode *inode);

/* ---- flags.c ---- */

/* FS_*_FL of linux/fs.h, as FS_IOC_GETFLAGS has them. */
uint32_t ext4_visible_flags(const struct ext4_inode *inode);

struct ext4_new_flags {
        uint32_t flags; /* FS_*_FL */
        bool is_common; /* of these FS_COMMON flags are meant only: FS_IOC_FSSETXATTR */
        uint32_t projid;
        bool sets_projid;
};

/* One transaction; before it another one when data journalling changes.  -ENOTTY for what is
 * neither file nor directory, -EOPNOTSUPP, -EOVERFLOW no room for a project, -EPERM, -EROFS. */
must_check int ext4_set_flags(struct ext4_inode *inode, const struct ext4_new_flags *new);

/* ---- atime.c ---- */

/*
 * A file is read, with the inode lock held, shared at least.  The time is kept in memory until
 * the inode is stored.  flags: VFS_* of the request, which may be over and gone (B32).
 */
void ext4_accessed(struct ext4_inode *inode, uint32_t flags);

/* The same, and store it if there is something to store: without locks and handles.  For what
 * has no handle that will be closed. */
void ext4_accessed_now(struct ext4_inode *inode);

/* Times that are due are stored: a reader lets go of the file. */
void ext4_store_access(struct ext4_inode *inode);

#endif
