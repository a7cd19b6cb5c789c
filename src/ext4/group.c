/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Group descriptors, each read when it is first needed: a mount costs the same for any size. */

#include <string.h>

#include "ext4/ext4.h"

static bool is_power_of(uint64_t n, uint64_t base)
{
        while (n > base && n % base == 0)
                n /= base;
        return n == base;
}

/* Whether a group holds a copy of the superblock (and of descriptors beside it). */
static bool group_has_super(const struct ext4_fs *fs, ext4_group_t group)
{
        if (group == 0)
                return true;
        if (ext4_has_compat(fs, EXT4_COMPAT_SPARSE_SUPER2))
                return group == le32_get(fs->sb.s_backup_bgs[0]) ||
                       group == le32_get(fs->sb.s_backup_bgs[1]);
        if (group == 1 || !ext4_has_ro_compat(fs, EXT4_RO_COMPAT_SPARSE_SUPER))
                return true;
        return group % 2 == 1 &&
               (is_power_of(group, 3) || is_power_of(group, 5) || is_power_of(group, 7));
}

/*
 * The block that holds descriptor block `nr`.  Without meta_bg (and for the groups before
 * s_first_meta_bg) they follow the superblock in use, so that a backup brings its own; with it,
 * each meta group keeps its descriptors in its first group, with copies in its second and last.
 */
static ext4_fsblk_t desc_block(const struct ext4_fs *fs, uint32_t nr)
{
        uint64_t group = (uint64_t)nr * fs->descs_per_block;
        uint64_t has_super;

        if (!ext4_has_incompat(fs, EXT4_INCOMPAT_META_BG) ||
            nr < le32_get(fs->sb.s_first_meta_bg))
                return fs->sb_fsblk + 1 + nr;
        if (fs->opts.sb_block != 1 && group + 1 < fs->nr_groups)
                group++;
        has_super = group_has_super(fs, (ext4_group_t)group);
        /* In group 0 of a 1k-block image whose first data block is 0, the boot block is in the
         * way. */
        if (group == 0 && fs->block_size == 1024 && fs->first_data_block == 0)
                has_super++;
        return fs->first_data_block + group * fs->blocks_per_group + has_super;
}

static int check_group(struct ext4_fs *fs, ext4_group_t group, const void *desc,
                       const struct ext4_group *g, ext4_fsblk_t blk)
{
        const struct ext4_where at = {fs, 0, blk};
        uint64_t itable_blocks =
                div_round_up((uint64_t)fs->inodes_per_group * fs->inode_size, fs->block_size);

        if (!fs->opts.nocsum && !ext4_desc_csum_ok(fs, group, desc))
                return ext4_bad_csum(&at, "group descriptor");
        if (!ext4_blocks_valid(fs, g->inode_table, itable_blocks))
                return ext4_corrupt(&at, "group %u: the inode table at %llu is outside", group,
                                    (unsigned long long)g->inode_table);
        if (!ext4_blocks_valid(fs, g->block_bitmap, 1))
                return ext4_corrupt(&at, "group %u: the block bitmap at %llu is outside", group,
                                    (unsigned long long)g->block_bitmap);
        if (!ext4_blocks_valid(fs, g->inode_bitmap, 1))
                return ext4_corrupt(&at, "group %u: the inode bitmap at %llu is outside", group,
                                    (unsigned long long)g->inode_bitmap);
        return 0;
}

int ext4_group_get(struct ext4_fs *fs, ext4_group_t group, unsigned flags,
                   struct ext4_group *ret_group)
{
        ext4_fsblk_t blk = desc_block(fs, group / fs->descs_per_block);
        struct ext4_group_desc gd = {}; /* the upper halves stay 0 where there are none */
        struct ext4_group g;
        const void *desc;
        struct buf *buf;
        int ret;

        assert(group < fs->nr_groups);
        if (!ext4_blocks_valid(fs, blk, 1)) {
                const struct ext4_where at = {fs, 0, 0};

                return ext4_corrupt(&at,
                                    "group %u: its descriptor would be at block %llu, outside",
                                    group, (unsigned long long)blk);
        }
        ret = buf_read(fs->bufs, blk, NULL, flags, &buf);
        if (ret < 0)
                return ret;
        desc = (const char *)buf->data + (size_t)(group % fs->descs_per_block) * fs->desc_size;
        memcpy(&gd, desc, min_t(size_t, fs->desc_size, sizeof(gd)));
        g = (struct ext4_group){
                .block_bitmap = le64_join(gd.bg_block_bitmap_lo, gd.bg_block_bitmap_hi),
                .inode_bitmap = le64_join(gd.bg_inode_bitmap_lo, gd.bg_inode_bitmap_hi),
                .inode_table = le64_join(gd.bg_inode_table_lo, gd.bg_inode_table_hi),
                .free_clusters =
                        le32_join(gd.bg_free_blocks_count_lo, gd.bg_free_blocks_count_hi),
                .free_inodes =
                        le32_join(gd.bg_free_inodes_count_lo, gd.bg_free_inodes_count_hi),
                .used_dirs = le32_join(gd.bg_used_dirs_count_lo, gd.bg_used_dirs_count_hi),
                .itable_unused = le32_join(gd.bg_itable_unused_lo, gd.bg_itable_unused_hi),
                .flags = le16_get(gd.bg_flags),
        };
        ret = check_group(fs, group, desc, &g, blk);
        buf_put(buf);
        if (ret == 0)
                *ret_group = g;
        return ret;
}
