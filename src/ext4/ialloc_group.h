/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_IALLOC_GROUP_H
#define EXT4_IALLOC_GROUP_H

/*
 * In which group a new inode shall be, from counts that are kept in memory.
 *
 * The counts follow the descriptors and are read without a lock: they are for choosing only.  A
 * group that is bad has no free inodes in them.
 */

#include "ext4/ialloc.h"

struct ext4_ialloc_group {
        _Atomic uint32_t free_inodes; /* changes under the group's lock */
        _Atomic uint32_t used_dirs;   /* likewise */
        _Atomic bool bad;             /* likewise; stays */
};

struct ext4_ialloc {
        struct ext4_fs *fs;
        _Atomic uint64_t free_inodes; /* of all groups */
        _Atomic uint64_t used_dirs;
        _Atomic uint64_t random; /* state of what new generations and groups are drawn from */
        uint32_t groups_per_flex;
        struct ext4_ialloc_group groups[];
};

/* What one group's descriptor says now: `old` is what it said, `new` what it says. */
void ext4_ialloc_count(struct ext4_ialloc *ia, ext4_group_t group, const struct ext4_group *old,
                       const struct ext4_group *new);

/* The group is not used for new inodes any more. */
void ext4_ialloc_set_bad(struct ext4_ialloc *ia, ext4_group_t group);

uint32_t ext4_ialloc_random(struct ext4_ialloc *ia);

/* The best group for a new inode in `dir`; the others are to be tried upwards from there. */
ext4_group_t ext4_ialloc_choose(struct ext4_ialloc *ia, const struct ext4_inode *dir,
                                const struct ext4_new_inode *want);

/* ---- a new inode's fields (inode_new.c) ---- */

/* What it inherits beside the fields: xattr_change.h. */
struct ext4_inherited;

/*
 * All fields of the object, and the attributes that it inherits; security labels are added by
 * whoever knows the policy.  -ENOMEM.
 */
must_check int ext4_inode_init_new(struct ext4_inode *inode, const struct ext4_inode *dir,
                                   const struct ext4_new_inode *want,
                                   const struct ext4_inherited *inherited);

/* The space for attributes in a new inode. */
uint32_t ext4_new_ibody_size(const struct ext4_fs *fs);

/* i_extra_isize: how far the extra fields of new inodes go. */
uint32_t ext4_new_inode_extra(const struct ext4_fs *fs);

#endif
