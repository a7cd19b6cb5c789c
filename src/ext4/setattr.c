/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/setattr.h"

#include <linux/capability.h>
#include <string.h>
#include <sys/stat.h>

#include "ext4/balloc.h"
#include "ext4/inode_raw.h"
#include "ext4/perm.h"
#include "ext4/super_write.h"
#include "ext4/truncate.h"
#include "ext4/xattr_change.h"
#include "ext4/xattr_plan.h"
#include "util/alloc.h"

/*
 * Without an ACL a change is a transaction of the inode alone.  If the mode of an inode with an
 * access ACL changes it is a change of that attribute, which takes the rest with it.
 */

#define OWNER (EXT4_ATTR_UID | EXT4_ATTR_GID)
#define TIMES (EXT4_ATTR_ATIME | EXT4_ATTR_MTIME)
#define NOW   (EXT4_ATTR_ATIME_NOW | EXT4_ATTR_MTIME_NOW)

#define PERMISSIONS 07777u

/* ---- may it be ---- */

/* Both times become now: that is what who may write may do as well. */
static bool is_touch(const struct ext4_setattr *attr)
{
        return (attr->mask & (TIMES | NOW)) == (TIMES | NOW);
}

static uint32_t uid_after(const struct ext4_inode *inode, const struct ext4_setattr *attr)
{
        return attr->mask & EXT4_ATTR_UID ? attr->uid : inode->uid;
}

static uint32_t gid_after(const struct ext4_inode *inode, const struct ext4_setattr *attr)
{
        return attr->mask & EXT4_ATTR_GID ? attr->gid : inode->gid;
}

/* What the flags forbid to everybody. */
static int check_inode(const struct ext4_inode *inode, const struct ext4_setattr *attr)
{
        uint32_t forbidden = EXT4_FL_IMMUTABLE | EXT4_FL_APPEND;
        int ret = ext4_writable(inode->fs);

        if (ret < 0)
                return ret;
        if (is_touch(attr) && !(attr->mask & (OWNER | EXT4_ATTR_MODE)))
                forbidden = EXT4_FL_IMMUTABLE;
        if ((inode->flags & forbidden) ||
            (ext4_is_own(inode) && ext4_ino(inode) != EXT4_INO_ROOT))
                return -EPERM;
        return (attr->mask & EXT4_ATTR_MODE) && S_ISLNK(inode->mode) ? -EOPNOTSUPP : 0;
}

static int check_owner(const struct ext4_inode *inode, const struct ext4_setattr *attr)
{
        const bool may_all = ext4_capable(CAP_CHOWN);

        if (may_all)
                return 0;
        if ((attr->mask & EXT4_ATTR_UID) &&
            (attr->uid != inode->uid || ext4_cred_get()->uid != inode->uid))
                return -EPERM;
        if ((attr->mask & EXT4_ATTR_GID) &&
            (ext4_cred_get()->uid != inode->uid ||
             (attr->gid != inode->gid && !ext4_is_in_group(attr->gid))))
                return -EPERM;
        return 0;
}

/* As if the owner were changed first, and the mode afterwards. */
static int check_mode(const struct ext4_inode *inode, const struct ext4_setattr *attr)
{
        const struct ext4_cred *cred = ext4_cred_asked();
        int ret = ext4_may_own(inode);

        if (ret == 0 && cred && uid_after(inode, attr) != inode->uid &&
            uid_after(inode, attr) != cred->uid && !ext4_capable(CAP_FOWNER))
                ret = -EPERM;
        return ret;
}

/* What the identity may not. */
static int check_identity(struct ext4_inode *inode, const struct ext4_setattr *attr)
{
        int ret = 0;

        if (!ext4_cred_asked())
                return 0;
        if (attr->mask & OWNER)
                ret = check_owner(inode, attr);
        if (ret == 0 && (attr->mask & EXT4_ATTR_MODE))
                ret = check_mode(inode, attr);
        if (ret < 0 || !(attr->mask & TIMES))
                return ret;
        ret = ext4_may_own(inode);
        if (ret < 0 && is_touch(attr))
                ret = ext4_permission_locked(inode, EXT4_MAY_WRITE);
        return ret;
}

/* ---- what it is to be ---- */

/* Without a group for which somebody may execute it S_ISGID means something else (a lock that
 * is mandatory), and stays for who may set it. */
static bool loses_sgid(const struct ext4_inode *inode)
{
        return (inode->mode & S_ISGID) &&
               ((inode->mode & S_IXGRP) || !ext4_may_set_sgid(inode->gid));
}

/* The whole of the change: what follows from what is asked for is in it, too. */
static struct ext4_setattr complete(const struct ext4_inode *inode,
                                    const struct ext4_setattr *attr)
{
        struct ext4_setattr all = *attr;

        all.mode &= PERMISSIONS;
        if (all.mask & EXT4_ATTR_MODE) {
                if ((all.mode & S_ISGID) && !ext4_may_set_sgid(gid_after(inode, attr)))
                        all.mode &= (uint16_t)~S_ISGID;
        } else if ((all.mask & OWNER) && !S_ISDIR(inode->mode)) {
                all.mode = inode->mode & PERMISSIONS & (uint16_t)~S_ISUID;
                if (loses_sgid(inode))
                        all.mode &= (uint16_t)~S_ISGID;
                if (all.mode != (inode->mode & PERMISSIONS))
                        all.mask |= EXT4_ATTR_MODE;
        }
        return all;
}

static void set_times(struct ext4_inode *inode, const struct ext4_setattr *attr,
                      const struct ext4_inode_disk *raw)
{
        const struct ext4_fs *fs = inode->fs;
        struct timespec now = ext4_now(inode->fs);

        if (attr->mask & EXT4_ATTR_ATIME) {
                inode->atime =
                        ext4_time_fit(attr->mask & EXT4_ATTR_ATIME_NOW ? now : attr->atime,
                                      EXT4_RAW_HAS(fs, raw, i_atime_extra));
                atomic_store(&inode->accessed_at, 0);
        }
        if (attr->mask & EXT4_ATTR_MTIME) {
                inode->mtime =
                        ext4_time_fit(attr->mask & EXT4_ATTR_MTIME_NOW ? now : attr->mtime,
                                      EXT4_RAW_HAS(fs, raw, i_mtime_extra));
                atomic_store(&inode->written_at, 0);
        }
        ext4_set_ctime(inode, ext4_time_fit(now, EXT4_RAW_HAS(fs, raw, i_ctime_extra)));
}

void ext4_setattr_apply(struct ext4_inode *inode, const struct ext4_setattr *attr,
                        const struct ext4_inode_disk *raw)
{
        if (attr->mask & EXT4_ATTR_UID)
                inode->uid = attr->uid;
        if (attr->mask & EXT4_ATTR_GID)
                inode->gid = attr->gid;
        if (attr->mask & EXT4_ATTR_MODE)
                inode->mode = (uint16_t)((inode->mode & ~PERMISSIONS) | attr->mode);
        set_times(inode, attr, raw);
}

/* ---- doing it ---- */

static int change_in(struct jbd2_handle *h, struct ext4_inode *inode,
                     const struct ext4_setattr *attr)
{
        struct ext4_iloc loc;
        int ret = ext4_inode_begin(h, inode, &loc);

        if (ret < 0)
                return ret;
        rwsem_write_lock(&inode->map_lock);
        ext4_setattr_apply(inode, attr, loc.raw);
        ext4_inode_store(h, inode, &loc);
        rwsem_write_unlock(&inode->map_lock);
        if (inode->flags & EXT4_FL_SYNC)
                jbd2_sync(h);
        return 0;
}

static int change_inode(struct ext4_inode *inode, const struct ext4_setattr *attr)
{
        struct jbd2_handle *h;
        int ret = jbd2_start(inode->fs->journal, EXT4_INODE_CREDITS, 0, &h);

        if (ret < 0)
                return ret;
        ret = change_in(h, inode, attr);
        return first_error(ret, jbd2_stop(h));
}

/* One try.  The plan is to be given up afterwards. */
static int change_locked(struct ext4_inode *inode, const struct ext4_setattr *attr,
                         struct ext4_xattr_order *order, struct ext4_xattr_plan *plan)
{
        _cleanup_mem_ void *acl = NULL;
        struct ext4_setattr all;
        int ret = check_inode(inode, attr);

        if (ret == 0)
                ret = check_identity(inode, attr);
        if (ret == 0 && (attr->mask & OWNER) && !S_ISDIR(inode->mode))
                ret = ext4_drop_capability(inode);
        if (ret < 0)
                return ret;
        all = complete(inode, attr);
        if ((all.mask & EXT4_ATTR_MODE) && !S_ISLNK(inode->mode))
                ret = ext4_acl_with_mode(inode, all.mode, &acl, &order->size);
        if (ret < 0)
                return ret;
        if (!acl)
                return change_inode(inode, &all);
        order->value = acl;
        order->also = &all;
        return ext4_xattr_change_locked(plan);
}

int ext4_setattr(struct ext4_inode *inode, const struct ext4_setattr *attr)
{
        bool no_room;
        int tries = 0;
        int ret;

        do {
                struct ext4_xattr_order order = {
                        .key = {EXT4_XATTR_INDEX_POSIX_ACL_ACCESS, "", 0}};
                struct ext4_xattr_plan plan = {.inode = inode, .order = &order};

                rwsem_write_lock(&inode->vfs.lock);
                ret = change_locked(inode, attr, &order, &plan);
                rwsem_write_unlock(&inode->vfs.lock);
                no_room = plan.no_room;
                ext4_xattr_plan_done(&plan);
        } while (ext4_xattr_try_again(inode->fs, ret, no_room, &tries));
        return ret;
}

/* ---- what a change of contents takes away ---- */

static bool has_set_id(const struct ext4_inode *inode)
{
        return ((inode->mode & S_ISUID) || loses_sgid(inode)) && !ext4_capable(CAP_FSETID);
}

bool ext4_has_privileges(const struct ext4_inode *inode)
{
        return has_set_id(inode) || ext4_may_have_capability(inode);
}

int ext4_drop_privileges(struct ext4_inode *inode)
{
        struct ext4_setattr attr = {.mask = EXT4_ATTR_MODE};
        int ret = ext4_drop_capability(inode);

        if (ret < 0 || !has_set_id(inode))
                return ret;
        attr.mode = inode->mode & PERMISSIONS & (uint16_t)~S_ISUID;
        if (loses_sgid(inode))
                attr.mode &= (uint16_t)~S_ISGID;
        return change_inode(inode, &attr);
}
