/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/perm.h"

#include <linux/posix_acl.h>
#include <string.h>
#include <sys/stat.h>

#include "ext4/xattr_change.h"

/* ---- who asks ---- */

static _Thread_local const struct ext4_cred *current;

void ext4_cred_set(const struct ext4_cred *cred)
{
        current = cred;
}

const struct ext4_cred *ext4_cred_get(void)
{
        return current;
}

bool ext4_capable(unsigned cap)
{
        const struct ext4_cred *cred = ext4_cred_asked();

        return !cred || (cred->caps >> cap & 1);
}

bool ext4_is_in_group(uint32_t gid)
{
        const struct ext4_cred *cred = ext4_cred_asked();

        if (!cred || cred->gid == gid)
                return true;
        for (uint32_t i = 0; i < cred->nr_groups; i++) {
                if (cred->groups[i] == gid)
                        return true;
        }
        return false;
}

static bool is_owner(const struct ext4_inode *inode)
{
        const struct ext4_cred *cred = ext4_cred_asked();

        return !cred || cred->uid == inode->uid;
}

int ext4_may_own(const struct ext4_inode *inode)
{
        return is_owner(inode) || ext4_capable(CAP_FOWNER) ? 0 : -EPERM;
}

/* ---- the access ACL ---- */

/* 0, or -ENODATA: there is none, which is remembered. */
static int read_acl(struct ext4_inode *inode, struct ext4_acl *ret_acl)
{
        int ret;

        if (atomic_load(&inode->lacks) & EXT4_LACKS_ACL)
                return -ENODATA;
        ret = ext4_acl_read_locked(inode, EXT4_XATTR_INDEX_POSIX_ACL_ACCESS, ret_acl);
        if (ret < 0 || ret_acl->nr > 0)
                return ret;
        atomic_fetch_or(&inode->lacks, EXT4_LACKS_ACL);
        return -ENODATA;
}

static unsigned mask_of(const struct ext4_acl *acl)
{
        for (size_t i = 0; i < acl->nr; i++) {
                if (acl->aces[i].tag == ACL_MASK)
                        return acl->aces[i].perm;
        }
        return EXT4_MAY_READ | EXT4_MAY_WRITE | EXT4_MAY_EXEC;
}

/*
 * acl(5): the first class that the identity belongs to decides: the owner, who is known by the
 * mode already; a named user; any of the groups, if one of them allows all of it; others.
 */
static bool acl_allows(const struct ext4_acl *acl, const struct ext4_inode *inode,
                       const struct ext4_cred *cred, unsigned may)
{
        const unsigned mask = mask_of(acl);
        bool in_group = false;

        for (size_t i = 0; i < acl->nr; i++) {
                const struct ext4_acl_ace *ace = &acl->aces[i];
                const uint32_t gid = ace->tag == ACL_GROUP ? ace->id : inode->gid;

                switch (ace->tag) {
                case ACL_USER:
                        if (ace->id == cred->uid)
                                return (may & ~(ace->perm & mask)) == 0;
                        break;
                case ACL_GROUP_OBJ:
                case ACL_GROUP:
                        if (!ext4_is_in_group(gid))
                                break;
                        in_group = true;
                        if ((may & ~(unsigned)ace->perm) == 0)
                                return (may & ~mask) == 0;
                        break;
                case ACL_OTHER:
                        return !in_group && (may & ~(unsigned)ace->perm) == 0;
                default:
                        break;
                }
        }
        return false;
}

/* ---- permission ---- */

/* 1: yes, 0: no, -errno. */
static int is_allowed(struct ext4_inode *inode, const struct ext4_cred *cred, unsigned may)
{
        const unsigned mode = inode->mode;
        struct ext4_acl acl;
        int ret;

        if (cred->uid == inode->uid)
                return (may & ~(mode >> 6)) == 0;
        /* Where the class of the group has nothing, an ACL is not asked: as the kernel does. */
        if ((mode & S_IRWXG) && !S_ISLNK(mode)) {
                ret = read_acl(inode, &acl);
                if (ret == 0) {
                        ret = acl_allows(&acl, inode, cred, may);
                        ext4_acl_done(&acl);
                        return ret;
                }
                if (ret != -ENODATA)
                        return ret;
        }
        return (may & ~(ext4_is_in_group(inode->gid) ? mode >> 3 : mode)) == 0;
}

/* What capabilities allow all the same. */
static bool is_overridden(const struct ext4_inode *inode, unsigned may)
{
        if (S_ISDIR(inode->mode))
                return (!(may & EXT4_MAY_WRITE) && ext4_capable(CAP_DAC_READ_SEARCH)) ||
                       ext4_capable(CAP_DAC_OVERRIDE);
        if (may == EXT4_MAY_READ && ext4_capable(CAP_DAC_READ_SEARCH))
                return true;
        /* What nobody may execute is no program. */
        return (!(may & EXT4_MAY_EXEC) || (inode->mode & 0111)) &&
               ext4_capable(CAP_DAC_OVERRIDE);
}

int ext4_permission_locked(struct ext4_inode *inode, unsigned may)
{
        const struct ext4_cred *cred = ext4_cred_asked();
        int ret;

        if (!cred)
                return 0;
        ret = is_allowed(inode, cred, may);
        if (ret < 0)
                return ret;
        return ret > 0 || is_overridden(inode, may) ? 0 : -EACCES;
}

int ext4_permission(struct ext4_inode *inode, unsigned may)
{
        int ret;

        if (!ext4_cred_asked())
                return 0;
        rwsem_read_lock(&inode->vfs.lock);
        ret = ext4_permission_locked(inode, may);
        rwsem_read_unlock(&inode->vfs.lock);
        return ret;
}

/* ---- names ---- */

int ext4_may_take_name(const struct ext4_inode *dir, const struct ext4_inode *inode)
{
        if (!(dir->mode & S_ISVTX) || is_owner(inode) || is_owner(dir))
                return 0;
        return ext4_capable(CAP_FOWNER) ? 0 : -EPERM;
}

bool ext4_may_set_sgid(uint32_t gid)
{
        return ext4_is_in_group(gid) || ext4_capable(CAP_FSETID);
}

/*
 * The group of what is made in a directory with S_ISGID is the directory's.  A program that
 * runs with that group's rights is not for everybody to make.
 */
uint16_t ext4_creation_mode(const struct ext4_inode *dir, uint16_t mode)
{
        if (!ext4_cred_asked())
                return mode;
        if (S_ISDIR(mode))
                return mode & (uint16_t) ~(S_ISUID | S_ISGID); /* as mkdir(2) */
        if ((dir->mode & S_ISGID) && (mode & S_ISGID) && (mode & S_IXGRP) &&
            !ext4_may_set_sgid(dir->gid))
                return mode & (uint16_t)~S_ISGID;
        return mode;
}

int ext4_may_mknod(uint16_t mode, uint32_t rdev_major, uint32_t rdev_minor)
{
        bool is_whiteout = S_ISCHR(mode) && rdev_major == 0 && rdev_minor == 0;

        if ((!S_ISCHR(mode) && !S_ISBLK(mode)) || is_whiteout)
                return 0;
        return ext4_capable(CAP_MKNOD) ? 0 : -EPERM;
}

/* ---- extended attributes ---- */

static bool has_user_attributes(const struct ext4_inode *inode)
{
        return S_ISREG(inode->mode) || S_ISDIR(inode->mode);
}

int ext4_may_get_xattr(struct ext4_inode *inode, const struct ext4_xattr_key *key)
{
        if (!ext4_cred_asked())
                return 0;
        switch (key->index) {
        case EXT4_XATTR_INDEX_TRUSTED:
                return ext4_capable(CAP_SYS_ADMIN) ? 0 : -ENODATA;
        case EXT4_XATTR_INDEX_USER:
                return has_user_attributes(inode) ? ext4_permission(inode, EXT4_MAY_READ)
                                                  : -ENODATA;
        default:
                return 0;
        }
}

bool ext4_xattr_is_capability(const struct ext4_xattr_key *key)
{
        const struct ext4_xattr_key it = EXT4_XATTR_CAPABILITY;

        return key->index == it.index && key->len == it.len &&
               memcmp(key->name, it.name, key->len) == 0;
}

bool ext4_capability_is_valid(const void *value, size_t size)
{
        uint32_t revision;
        le32 magic;

        if (size < sizeof(magic))
                return false;
        memcpy(&magic, value, sizeof(magic));
        revision = le32_get(magic) & ~(uint32_t)VFS_CAP_FLAGS_EFFECTIVE;
        return (revision == VFS_CAP_REVISION_2 && size == XATTR_CAPS_SZ_2) ||
               (revision == VFS_CAP_REVISION_3 && size == XATTR_CAPS_SZ_3);
}

static int may_set_user(struct ext4_inode *inode)
{
        if (!has_user_attributes(inode))
                return -EPERM;
        if (S_ISDIR(inode->mode) && (inode->mode & S_ISVTX) && ext4_may_own(inode) < 0)
                return -EPERM;
        return ext4_permission_locked(inode, EXT4_MAY_WRITE);
}

int ext4_may_set_xattr(struct ext4_inode *inode, const struct ext4_xattr_key *key)
{
        switch (key->index) {
        case EXT4_XATTR_INDEX_TRUSTED:
                return ext4_capable(CAP_SYS_ADMIN) ? 0 : -EPERM;
        case EXT4_XATTR_INDEX_SECURITY:
                return ext4_capable(ext4_xattr_is_capability(key) ? CAP_SETFCAP : CAP_SYS_ADMIN)
                               ? 0
                               : -EPERM;
        case EXT4_XATTR_INDEX_USER:
                return may_set_user(inode);
        default:
                return ext4_may_own(inode);
        }
}
