/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Checksums of the superblock, group descriptors and inodes.  Those of other blocks are beside
 * the verifier of the block, on the seed of their inode. */

#include <string.h>

#include "ext4/ext4.h"
#include "util/crc.h"

static uint32_t super_csum(const struct ext4_super_block *sb)
{
        return crc32c(~0u, sb, offsetof(struct ext4_super_block, s_checksum));
}

bool ext4_super_csum_ok(const struct ext4_super_block *sb)
{
        return super_csum(sb) == le32_get(sb->s_checksum);
}

void ext4_super_seal(struct ext4_super_block *sb)
{
        sb->s_checksum = le32_make(super_csum(sb));
}

static uint16_t desc_crc32c(const struct ext4_fs *fs, ext4_group_t group, const uint8_t *desc)
{
        const size_t at = offsetof(struct ext4_group_desc, bg_checksum);
        const le32 nr = le32_make(group);
        const le16 zero = le16_make(0);
        uint32_t crc = crc32c(fs->csum_seed, &nr, sizeof(nr));

        crc = crc32c(crc, desc, at);
        crc = crc32c(crc, &zero, sizeof(zero));
        crc = crc32c(crc, desc + at + sizeof(zero), fs->desc_size - at - sizeof(zero));
        return (uint16_t)crc;
}

/* gdt_csum, which knows only the first half of the fields by name but covers all of them. */
static uint16_t desc_crc16(const struct ext4_fs *fs, ext4_group_t group, const uint8_t *desc)
{
        const size_t at = offsetof(struct ext4_group_desc, bg_checksum);
        const le32 nr = le32_make(group);
        uint16_t crc = crc16(0xffff, fs->sb.s_uuid, sizeof(fs->sb.s_uuid));

        crc = crc16(crc, &nr, sizeof(nr));
        crc = crc16(crc, desc, at);
        if (ext4_has_incompat(fs, EXT4_INCOMPAT_64BIT))
                crc = crc16(crc, desc + at + 2, fs->desc_size - at - 2);
        return crc;
}

bool ext4_desc_csum_ok(const struct ext4_fs *fs, ext4_group_t group, const void *desc)
{
        const struct ext4_group_desc *gd = desc;

        if (fs->has_metadata_csum)
                return desc_crc32c(fs, group, desc) == le16_get(gd->bg_checksum);
        if (fs->has_gdt_csum)
                return desc_crc16(fs, group, desc) == le16_get(gd->bg_checksum);
        return true;
}

uint32_t ext4_inode_csum_seed(const struct ext4_fs *fs, uint32_t ino, le32 generation)
{
        const le32 nr = le32_make(ino);
        uint32_t crc = crc32c(fs->csum_seed, &nr, sizeof(nr));

        return crc32c(crc, &generation, sizeof(generation));
}

void ext4_desc_seal(const struct ext4_fs *fs, ext4_group_t group, void *desc)
{
        struct ext4_group_desc *gd = desc;

        if (fs->has_metadata_csum)
                gd->bg_checksum = le16_make(desc_crc32c(fs, group, desc));
        else if (fs->has_gdt_csum)
                gd->bg_checksum = le16_make(desc_crc16(fs, group, desc));
}

/* Whether the inode is large enough to hold the upper half of its checksum. */
static bool has_csum_hi(const struct ext4_fs *fs, const struct ext4_inode_disk *di)
{
        const size_t end = offsetof(struct ext4_inode_disk, i_checksum_hi) + sizeof(le16);

        return fs->inode_size > EXT4_GOOD_OLD_INODE_SIZE &&
               (size_t)EXT4_GOOD_OLD_INODE_SIZE + le16_get(di->i_extra_isize) >= end;
}

static uint32_t inode_csum(const struct ext4_fs *fs, uint32_t ino,
                           const struct ext4_inode_disk *di)
{
        const size_t lo = offsetof(struct ext4_inode_disk, i_checksum_lo);
        const size_t hi = offsetof(struct ext4_inode_disk, i_checksum_hi);
        const uint8_t *bytes = (const void *)di;
        const le16 zero = le16_make(0);
        uint32_t crc = ext4_inode_csum_seed(fs, ino, di->i_generation);

        crc = crc32c(crc, bytes, lo);
        crc = crc32c(crc, &zero, sizeof(zero));
        crc = crc32c(crc, bytes + lo + 2, EXT4_GOOD_OLD_INODE_SIZE - lo - 2);
        if (fs->inode_size == EXT4_GOOD_OLD_INODE_SIZE)
                return crc;
        crc = crc32c(crc, bytes + EXT4_GOOD_OLD_INODE_SIZE, hi - EXT4_GOOD_OLD_INODE_SIZE);
        if (!has_csum_hi(fs, di))
                return crc32c(crc, bytes + hi, fs->inode_size - hi);
        crc = crc32c(crc, &zero, sizeof(zero));
        return crc32c(crc, bytes + hi + 2, fs->inode_size - hi - 2);
}

bool ext4_inode_csum_ok(const struct ext4_fs *fs, uint32_t ino, const void *raw)
{
        const struct ext4_inode_disk *di = raw;
        uint32_t crc = inode_csum(fs, ino, di);

        if (!has_csum_hi(fs, di))
                return (crc & 0xffff) == le16_get(di->i_checksum_lo);
        return crc == le32_join(di->i_checksum_lo, di->i_checksum_hi);
}

void ext4_inode_seal(const struct ext4_fs *fs, uint32_t ino, void *raw)
{
        struct ext4_inode_disk *di = raw;
        uint32_t crc;

        if (!fs->has_metadata_csum)
                return;
        crc = inode_csum(fs, ino, di);
        di->i_checksum_lo = le16_make((uint16_t)crc);
        if (has_csum_hi(fs, di))
                di->i_checksum_hi = le16_make((uint16_t)(crc >> 16));
}
