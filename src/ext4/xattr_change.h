/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_XATTR_CHANGE_H
#define EXT4_XATTR_CHANGE_H

/*
 * Changing extended attributes.
 *
 *      xattr_edit.c    runs of attributes, in memory
 *      xattr_value.c   values in inodes of their own
 *      xattr_plan.c    what setting or removing one will do
 *      xattr_change.c  doing it
 *      acl_change.c    POSIX ACLs: to the form on disk; what new inodes inherit
 */

#include "ext4/xattr_edit.h"
#include "jbd2/jbd2.h"

enum ext4_xattr_flags {
        EXT4_XATTR_CREATE = 1u << 0,  /* -EEXIST when it is there */
        EXT4_XATTR_REPLACE = 1u << 1, /* -ENODATA when it is not */
};

/*
 * By full name, as setxattr(2) and removexattr(2): one transaction, after which the old value
 * or the new one is there (a large value is written before, in transactions of its own).  Takes
 * the inode lock; no handle is open.
 *
 * Where it goes: the inode's own space, else the attribute block, else, with ea_inode, an inode
 * of its own, named in one of the two.  -ENOSPC when there is no room in these, or no block.
 *
 * A POSIX ACL is in the form of setxattr(2): -EINVAL, -EOPNOTSUPP for a symlink, -EACCES for
 * the default ACL of what is no directory.  The access ACL sets the permissions of the mode,
 * and is itself stored only if these do not say the same.
 *
 * -E2BIG for more than 64 KiB; -EPERM for what is immutable, append-only or the file system's
 * own, and for "user." attributes of what is neither file nor directory; -EOPNOTSUPP, -EINVAL,
 * -ERANGE for names; -EROFS, -EUCLEAN, -EIO, -ENOMEM.  Then nothing has changed.
 */
must_check int ext4_xattr_set(struct ext4_inode *inode, const char *name, const void *value,
                              size_t size, unsigned flags);
must_check int ext4_xattr_remove(struct ext4_inode *inode, const char *name);

/* The first attribute sets a flag in the superblock.  Credits: EXT4_XATTR_MARK_CREDITS. */
must_check int ext4_xattr_mark(struct jbd2_handle *h, struct ext4_fs *fs);

#define EXT4_XATTR_MARK_CREDITS 1u

/* ---- POSIX ACLs (acl_change.c) ---- */

struct ext4_acl {
        size_t nr;
        struct ext4_acl_ace {
                uint16_t tag, perm;
                uint32_t id;
        } * aces;
};

void ext4_acl_done(struct ext4_acl *acl);

/* From the form of setxattr(2); valid.  No entries: there is no ACL.  -EINVAL, -EOPNOTSUPP,
 * -ENOMEM. */
must_check int ext4_acl_of_xattr(struct ext4_acl *acl, const void *value, size_t size);

/* That of an inode whose lock is held, likewise; -EUCLEAN when it is damaged, said. */
must_check int ext4_acl_read_locked(struct ext4_inode *inode, uint8_t index,
                                    struct ext4_acl *ret_acl);

/* To the form on disk, to be freed with mem_free().  NULL: no memory. */
void *ext4_acl_to_disk(const struct ext4_acl *acl, size_t *ret_size);

/* The permissions of the mode that go with an ACL; *ret_same: they say all of it. */
uint16_t ext4_acl_mode(const struct ext4_acl *acl, bool *ret_same);

/*
 * The access ACL of an inode, whose lock is held, with other permissions: on disk, to be freed
 * with mem_free(); NULL when it has none.
 */
must_check int ext4_acl_with_mode(struct ext4_inode *inode, uint16_t mode, void **ret_value,
                                  size_t *ret_size);

/* What a new inode's attributes are. */
struct ext4_inherited {
        uint16_t mode;       /* masked by the ACL */
        bool has_acl;        /* there is one: the umask is not looked at */
        uint8_t *ibody;      /* its own space, or NULL: zeros */
        uint32_t ibody_size; /* of that */
        ext4_fsblk_t block;  /* its attribute block, or 0 */
        uint64_t sectors;    /* that it has for that */
};

/*
 * What an inode of `mode` inherits from `dir`, whose lock is held: the default ACL becomes its
 * access ACL, masked with the mode, as the mode is with it; of a directory also its default
 * ACL.  `ibody_size`: the space that it will have.  A block is allocated for what has no room
 * there.  On an error nothing has changed.  Then it is given to the inode, or undone.
 */
must_check int ext4_acl_inherit(struct jbd2_handle *h, struct ext4_inode *dir, uint16_t mode,
                                uint32_t ibody_size, struct ext4_inherited *ret_inherited);
void ext4_acl_inherit_undo(struct jbd2_handle *h, struct ext4_inode *dir,
                           struct ext4_inherited *inherited);

/* A block (bitmap and descriptor; undone, the same), its bytes. */
#define EXT4_ACL_INHERIT_CREDITS 3u

#endif
