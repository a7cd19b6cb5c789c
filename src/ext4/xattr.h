/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_XATTR_H
#define EXT4_XATTR_H

#include "ext4/ext4.h"

/* The longest value, as in Linux: a longer one in an ea_inode is damage. */
#define EXT4_XATTR_MAX_VALUE 65536

/* What an attribute is called on disk. */
struct ext4_xattr_key {
        uint8_t index;
        const char *name; /* not terminated */
        size_t len;
};

#define EXT4_XATTR_CAPABILITY                               \
        {                                                   \
                EXT4_XATTR_INDEX_SECURITY, "capability", 10 \
        }

/* Of a full name, which lives as long as the key.  -ERANGE when it is too long, -EOPNOTSUPP for
 * a namespace that there is not, -EINVAL for nothing behind a prefix. */
must_check int ext4_xattr_key_of(const char *name, struct ext4_xattr_key *ret_key);

/* The value of an attribute, for who holds the inode lock: its length, at most `size` bytes of
 * it copied unless size is 0.  -ERANGE when it does not fit, -ENODATA. */
must_check ssize_t ext4_xattr_get_locked(struct ext4_inode *inode,
                                         const struct ext4_xattr_key *key, void *buf,
                                         size_t size);

/* For struct buf_check of an attribute block; arg is the struct ext4_fs.  Such a block may
 * belong to many inodes: its owner is 0. */
int ext4_xattr_block_verify(const void *data, size_t size, uint64_t blk, const void *arg);

/* Set the checksum of such a block. */
void ext4_xattr_block_seal(const struct ext4_fs *fs, uint64_t blk, void *data);

/*
 * Give up this inode's share of a block that may be written: true when it was not the only one;
 * then it is sealed again.  Others may be doing the same.  And: free the block
 * (inode_delete.c).
 */
struct jbd2_handle;
bool ext4_xattr_block_unshare(struct ext4_fs *fs, uint64_t blk, void *bytes);
must_check int ext4_xattr_block_free(struct jbd2_handle *h, struct ext4_inode *inode,
                                     ext4_fsblk_t blk);

/*
 * The first entry whose value is in an inode of its own, in the checked attribute space of an
 * inode or in a checked block; NULL.
 */
struct ext4_xattr_entry *ext4_xattr_ibody_outside(void *ibody, size_t size);
struct ext4_xattr_entry *ext4_xattr_block_outside(void *data, size_t size);

/*
 * Find an attribute in the checked attribute space of an inode, with its value in place: the
 * value's length, or -ENODATA; -EUCLEAN when the value is in another inode.  *ret_value lies
 * in inode->ibody.  Takes no lock: for use while the inode is loaded, or with its lock held.
 */
ssize_t ext4_xattr_ibody_find(const struct ext4_inode *inode, uint8_t index, const char *name,
                              size_t name_len, const void **ret_value);

/*
 * ext4's form of a POSIX ACL to that of getxattr(2): the length, as ext4_xattr_get() returns
 * it; -EUCLEAN.
 */
ssize_t ext4_acl_to_xattr(const struct ext4_where *at, const void *value, size_t len, void *buf,
                          size_t size);

#endif
