/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_INODE_RAW_H
#define EXT4_INODE_RAW_H

/* What reading (inode.c) and writing (inode_store.c) raw inodes share: which fields there are.
 */

#include <sys/stat.h>

#include "ext4/ext4.h"

/* How many bytes of the fields behind the first 128 are there. */
static inline uint32_t ext4_raw_extra(const struct ext4_fs *fs,
                                      const struct ext4_inode_disk *di)
{
        return fs->inode_size > EXT4_GOOD_OLD_INODE_SIZE ? le16_get(di->i_extra_isize) : 0;
}

#define EXT4_RAW_HAS(fs, di, field)                           \
        (EXT4_GOOD_OLD_INODE_SIZE + ext4_raw_extra(fs, di) >= \
         offsetof(struct ext4_inode_disk, field) + sizeof((di)->field))

/* Whether i_size has an upper half; elsewhere its place means something else. */
static inline bool ext4_has_size_hi(const struct ext4_fs *fs, uint32_t mode)
{
        return S_ISREG(mode) ||
               (S_ISDIR(mode) && ext4_has_incompat(fs, EXT4_INCOMPAT_LARGEDIR));
}

/* On the Hurd the place of the upper half of i_file_acl is taken. */
static inline bool ext4_has_file_acl_hi(const struct ext4_fs *fs)
{
        return le32_get(fs->sb.s_creator_os) != EXT4_OS_HURD;
}

static inline bool ext4_has_projid(const struct ext4_fs *fs, const struct ext4_inode_disk *di)
{
        return ext4_has_ro_compat(fs, EXT4_RO_COMPAT_PROJECT) && EXT4_RAW_HAS(fs, di, i_projid);
}

/* In units of 512 bytes. */
static inline uint64_t ext4_raw_blocks(const struct ext4_fs *fs,
                                       const struct ext4_inode_disk *di)
{
        uint64_t n = le32_get(di->i_blocks_lo);

        if (!ext4_has_ro_compat(fs, EXT4_RO_COMPAT_HUGE_FILE))
                return n;
        n |= (uint64_t)le16_get(di->i_blocks_hi) << 32;
        if (le32_get(di->i_flags) & EXT4_FL_HUGE_FILE)
                n <<= fs->block_bits - 9;
        return n;
}

static inline uint64_t ext4_raw_size(const struct ext4_fs *fs, const struct ext4_inode_disk *di)
{
        return ext4_has_size_hi(fs, le16_get(di->i_mode))
                       ? le64_join(di->i_size_lo, di->i_size_hi)
                       : le32_get(di->i_size_lo);
}

/* Where a raw inode lies. */
struct ext4_raw_place {
        ext4_fsblk_t blk;
        uint32_t offset; /* in it */
};

/* ino is one of the file system.  -errno of the group's descriptor. */
must_check int ext4_raw_find(struct ext4_fs *fs, uint32_t ino, struct ext4_raw_place *ret_at);

#endif
