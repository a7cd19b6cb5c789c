/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Group descriptors, each read when it is first needed.
 *
 * A mount that writes changes them under the lock of their group.  Readers need no lock: the
 * bytes are copied under one of a few locks of RANK_LEAF, and are whole.
 */

#include <string.h>

#include "ext4/balloc_group.h"

static bool is_power_of(uint64_t n, uint64_t base)
{
        while (n > base && n % base == 0)
                n /= base;
        return n == base;
}

bool ext4_group_has_super(const struct ext4_fs *fs, ext4_group_t group)
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
        has_super = ext4_group_has_super(fs, (ext4_group_t)group);
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

/* ---- reading ---- */

static struct mtx *desc_lock(const struct ext4_fs *fs, ext4_group_t group)
{
        return fs->balloc ? &fs->balloc->desc_locks[group % EXT4_NR_DESC_LOCKS] : NULL;
}

/* The block with the descriptor, with a reference, and the place in it. */
static int read_desc_block(struct ext4_fs *fs, ext4_group_t group, unsigned flags,
                           struct buf **ret_buf, size_t *ret_offset)
{
        ext4_fsblk_t blk = desc_block(fs, group / fs->descs_per_block);

        assert(group < fs->nr_groups);
        if (!ext4_blocks_valid(fs, blk, 1)) {
                const struct ext4_where at = {fs, 0, 0};

                return ext4_corrupt(&at,
                                    "group %u: its descriptor would be at block %llu, outside",
                                    group, (unsigned long long)blk);
        }
        *ret_offset = (size_t)(group % fs->descs_per_block) * fs->desc_size;
        return buf_read(fs->bufs, blk, NULL, flags, ret_buf);
}

static struct ext4_group group_from_disk(const struct ext4_group_desc *gd)
{
        return (struct ext4_group){
                .block_bitmap = le64_join(gd->bg_block_bitmap_lo, gd->bg_block_bitmap_hi),
                .inode_bitmap = le64_join(gd->bg_inode_bitmap_lo, gd->bg_inode_bitmap_hi),
                .inode_table = le64_join(gd->bg_inode_table_lo, gd->bg_inode_table_hi),
                .free_clusters =
                        le32_join(gd->bg_free_blocks_count_lo, gd->bg_free_blocks_count_hi),
                .free_inodes =
                        le32_join(gd->bg_free_inodes_count_lo, gd->bg_free_inodes_count_hi),
                .used_dirs = le32_join(gd->bg_used_dirs_count_lo, gd->bg_used_dirs_count_hi),
                .itable_unused = le32_join(gd->bg_itable_unused_lo, gd->bg_itable_unused_hi),
                .block_bitmap_csum =
                        le32_join(gd->bg_block_bitmap_csum_lo, gd->bg_block_bitmap_csum_hi),
                .inode_bitmap_csum =
                        le32_join(gd->bg_inode_bitmap_csum_lo, gd->bg_inode_bitmap_csum_hi),
                .flags = le16_get(gd->bg_flags),
        };
}

static int read_desc(struct ext4_fs *fs, ext4_group_t group, const struct buf *buf,
                     size_t offset, struct ext4_group *ret_group)
{
        struct mtx *lock = desc_lock(fs, group);
        union {
                struct ext4_group_desc gd;
                uint8_t raw[EXT4_MAX_DESC_SIZE];
        } desc;

        memset(&desc.gd, 0, sizeof(desc.gd)); /* the upper halves, where there are none */
        if (lock)
                mtx_lock(lock);
        memcpy(desc.raw, (const char *)buf->data + offset, fs->desc_size);
        if (lock)
                mtx_unlock(lock);
        *ret_group = group_from_disk(&desc.gd);
        return check_group(fs, group, desc.raw, ret_group, buf->blk);
}

int ext4_group_get(struct ext4_fs *fs, ext4_group_t group, unsigned flags,
                   struct ext4_group *ret_group)
{
        struct ext4_group g;
        struct buf *buf;
        size_t offset;
        int ret = read_desc_block(fs, group, flags, &buf, &offset);

        if (ret < 0)
                return ret;
        ret = read_desc(fs, group, buf, offset, &g);
        buf_put(buf);
        if (ret == 0)
                *ret_group = g;
        return ret;
}

/* ---- writing ---- */

void ext4_group_lock(struct ext4_fs *fs, ext4_group_t group)
{
        mtx_lock(&ext4_group_state(fs, group)->lock);
}

void ext4_group_unlock(struct ext4_fs *fs, ext4_group_t group)
{
        mtx_unlock(&ext4_group_state(fs, group)->lock);
}

int ext4_group_begin(struct jbd2_handle *h, struct ext4_fs *fs, ext4_group_t group,
                     struct ext4_group_loc *ret_loc, struct ext4_group *ret_group)
{
        struct ext4_group_loc loc = {.fs = fs, .group = group};
        struct ext4_group g;
        size_t offset;
        void *bytes;
        int ret;

        if (ext4_group_state(fs, group)->bad_desc)
                return -EUCLEAN;
        ret = read_desc_block(fs, group, 0, &loc.buf, &offset);
        if (ret < 0)
                return ret;
        ret = read_desc(fs, group, loc.buf, offset, &g);
        if (ret == 0)
                ret = jbd2_get_write(h, loc.buf, &bytes);
        if (ret < 0) {
                buf_put(loc.buf);
                return ret;
        }
        loc.desc = (char *)bytes + offset;
        *ret_loc = loc;
        *ret_group = g;
        return 0;
}

static void split64(uint64_t from, le32 *lo, le32 *hi)
{
        *lo = le32_make((uint32_t)from);
        *hi = le32_make((uint32_t)(from >> 32));
}

static void split32(uint32_t from, le16 *lo, le16 *hi)
{
        *lo = le16_make((uint16_t)from);
        *hi = le16_make((uint16_t)(from >> 16));
}

static void group_to_disk(const struct ext4_group *g, struct ext4_group_desc *gd)
{
        split64(g->block_bitmap, &gd->bg_block_bitmap_lo, &gd->bg_block_bitmap_hi);
        split64(g->inode_bitmap, &gd->bg_inode_bitmap_lo, &gd->bg_inode_bitmap_hi);
        split64(g->inode_table, &gd->bg_inode_table_lo, &gd->bg_inode_table_hi);
        split32(g->free_clusters, &gd->bg_free_blocks_count_lo, &gd->bg_free_blocks_count_hi);
        split32(g->free_inodes, &gd->bg_free_inodes_count_lo, &gd->bg_free_inodes_count_hi);
        split32(g->used_dirs, &gd->bg_used_dirs_count_lo, &gd->bg_used_dirs_count_hi);
        split32(g->itable_unused, &gd->bg_itable_unused_lo, &gd->bg_itable_unused_hi);
        split32(g->block_bitmap_csum, &gd->bg_block_bitmap_csum_lo,
                &gd->bg_block_bitmap_csum_hi);
        split32(g->inode_bitmap_csum, &gd->bg_inode_bitmap_csum_lo,
                &gd->bg_inode_bitmap_csum_hi);
        gd->bg_flags = le16_make(g->flags);
}

void ext4_group_store(struct jbd2_handle *h, struct ext4_group_loc *loc,
                      const struct ext4_group *g)
{
        struct ext4_fs *fs = loc->fs;
        struct mtx *lock = desc_lock(fs, loc->group);
        union {
                struct ext4_group_desc gd;
                uint8_t raw[EXT4_MAX_DESC_SIZE];
        } desc;

        memcpy(desc.raw, loc->desc, fs->desc_size);
        group_to_disk(g, &desc.gd);
        ext4_desc_seal(fs, loc->group, desc.raw);
        mtx_lock(lock);
        memcpy(loc->desc, desc.raw, fs->desc_size);
        mtx_unlock(lock);
        jbd2_dirty(h, loc->buf);
        ext4_group_loc_put(loc);
}

void ext4_group_loc_put(struct ext4_group_loc *loc)
{
        buf_put(loc->buf);
        loc->buf = NULL;
}
