/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_PERM_H
#define EXT4_PERM_H

/*
 * Who asks, and what he may.
 *
 * Each thread has an identity, or none.  Without one, or with one that is trusted, all of this
 * says yes: what an inode's flags forbid to everybody is looked at where it is changed.
 *
 * The identity of a thread is asked where the thread calls in, not where a request ends: that
 * may be in any thread.
 */

#include <linux/capability.h>

#include "ext4/ext4.h"

struct ext4_cred {
        uint32_t uid, gid;
        const uint32_t *groups;
        uint32_t nr_groups;
        uint32_t umask;
        uint64_t caps; /* 1 << CAP_* */
        bool trusted;  /* has been asked already: for whom new things belong to only */
};

/* Of this thread; NULL: none.  What it points to stays until another is set. */
void ext4_cred_set(const struct ext4_cred *cred);
const struct ext4_cred *ext4_cred_get(void);

/* The identity that is to be asked, or NULL. */
static inline const struct ext4_cred *ext4_cred_asked(void)
{
        const struct ext4_cred *cred = ext4_cred_get();

        return cred && !cred->trusted ? cred : NULL;
}

/* CAP_*. */
bool ext4_capable(unsigned cap);
bool ext4_is_in_group(uint32_t gid);

enum ext4_may {
        EXT4_MAY_EXEC = 1, /* search a directory */
        EXT4_MAY_WRITE = 2,
        EXT4_MAY_READ = 4,
};

/*
 * By mode and access ACL: -EACCES; -EIO and the like when the ACL cannot be read.  The first
 * takes the inode lock shared, the second is for who holds it.
 */
must_check int ext4_permission(struct ext4_inode *inode, unsigned may);
must_check int ext4_permission_locked(struct ext4_inode *inode, unsigned may);

/* The rest is for who holds the inode lock, shared at least. */

/* -EPERM for who is neither the owner nor has CAP_FOWNER. */
must_check int ext4_may_own(const struct ext4_inode *inode);

/* -EPERM in a directory with S_ISVTX for what is somebody else's.  Both locks are held. */
must_check int ext4_may_take_name(const struct ext4_inode *dir, const struct ext4_inode *inode);

/* S_ISGID may be in the mode of what belongs to this group. */
bool ext4_may_set_sgid(uint32_t gid);

/* What the mode becomes when it is given to something that is made in `dir` (its group may be
 * the directory's). */
uint16_t ext4_creation_mode(const struct ext4_inode *dir, uint16_t mode);

/* -EPERM for a device, without CAP_MKNOD. */
must_check int ext4_may_mknod(uint16_t mode, uint32_t rdev_major, uint32_t rdev_minor);

/*
 * Extended attributes: -EACCES, -EPERM; reading what is not to be seen is -ENODATA.  The inode
 * lock is taken by the first, and held for the second.
 */
struct ext4_xattr_key;
must_check int ext4_may_get_xattr(struct ext4_inode *inode, const struct ext4_xattr_key *key);
must_check int ext4_may_set_xattr(struct ext4_inode *inode, const struct ext4_xattr_key *key);

/* "security.capability", and what it can be. */
bool ext4_xattr_is_capability(const struct ext4_xattr_key *key);
bool ext4_capability_is_valid(const void *value, size_t size);

#endif
