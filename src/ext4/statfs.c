/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How much space there is: what the superblock says, and what the groups add up to. */

#include <string.h>
#include <sys/statvfs.h>

#include "ext4/delayed.h"
#include "ext4/super_write.h"

/* Blocks that no file can ever have: superblocks, descriptors, bitmaps, inode tables, journal.
 */
static uint64_t overhead_blocks(const struct ext4_fs *fs)
{
        return (uint64_t)le32_get(fs->sb.s_overhead_blocks) << fs->cluster_bits;
}

struct ext4_free_counts ext4_super_free_counts(const struct ext4_fs *fs)
{
        const struct ext4_super_block *sb = &fs->sb;
        struct ext4_free_counts n = {
                .blocks = le32_get(sb->s_free_blocks_count_lo),
                .inodes = le32_get(sb->s_free_inodes_count),
        };

        if (ext4_has_incompat(fs, EXT4_INCOMPAT_64BIT))
                n.blocks |= (uint64_t)le32_get(sb->s_free_blocks_count_hi) << 32;
        return n;
}

ext4_fsblk_t ext4_reserved_blocks(const struct ext4_fs *fs)
{
        ext4_fsblk_t n = le32_get(fs->sb.s_r_blocks_count_lo);

        if (ext4_has_incompat(fs, EXT4_INCOMPAT_64BIT))
                n |= (uint64_t)le32_get(fs->sb.s_r_blocks_count_hi) << 32;
        return n;
}

/*
 * While a file system is mounted for writing only the group descriptors are kept up to date,
 * and after a crash nothing tells that the superblock's counts are old ones.
 */
int ext4_count_free(struct ext4_fs *fs, struct ext4_free_counts *ret_n)
{
        struct ext4_free_counts n = {0};

        for (ext4_group_t g = 0; g < fs->nr_groups; g++) {
                struct ext4_group group;
                int ret = ext4_group_get(fs, g, 0, &group);

                if (ret < 0)
                        return ret;
                n.blocks += (uint64_t)group.free_clusters << fs->cluster_bits;
                n.inodes += group.free_inodes;
        }
        n.blocks = min_t(uint64_t, n.blocks, fs->nr_blocks);
        n.inodes = min_t(uint64_t, n.inodes, fs->nr_inodes);
        *ret_n = n;
        return 0;
}

int ext4_statfs(struct ext4_fs *fs, struct statvfs *ret_st)
{
        const struct ext4_super_block *sb = &fs->sb;
        uint64_t overhead = overhead_blocks(fs);
        uint64_t reserved = ext4_reserved_blocks(fs);
        struct ext4_free_counts n;
        uint64_t promised;
        int ret = ext4_count_free(fs, &n);

        if (ret < 0)
                return ret;
        promised = (ext4_delayed_clusters(fs) + ext4_delayed_map_clusters(fs))
                   << fs->cluster_bits;
        n.blocks -= min_t(uint64_t, promised, n.blocks);
        *ret_st = (struct statvfs){
                .f_bsize = fs->block_size,
                .f_frsize = fs->block_size,
                .f_blocks = fs->nr_blocks - min_t(uint64_t, overhead, fs->nr_blocks),
                .f_bfree = n.blocks,
                .f_bavail = n.blocks > reserved ? n.blocks - reserved : 0,
                .f_files = fs->nr_inodes,
                .f_ffree = n.inodes,
                .f_favail = n.inodes,
                .f_flag = ext4_writable(fs) < 0 ? ST_RDONLY : 0,
                .f_namemax = EXT4_NAME_LEN,
        };
        memcpy(&ret_st->f_fsid, sb->s_uuid, min_t(size_t, sizeof(ret_st->f_fsid), 16));
        return 0;
}
