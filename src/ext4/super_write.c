/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Writing the superblock: as part of a transaction, and past the journal at mount and unmount.
 */

#include <string.h>

#include "ext4/orphan.h"
#include "ext4/super_write.h"
#include "ext4/truncate.h"
#include "util/alloc.h"

static bool has_csum(const struct ext4_super_block *sb)
{
        return le32_get(sb->s_feature_ro_compat) & EXT4_RO_COMPAT_METADATA_CSUM;
}

/* ---- under a handle ---- */

/* Where the superblock is in its block. */
static size_t offset_in_block(const struct ext4_fs *fs)
{
        return (size_t)(fs->opts.sb_block * 1024 & (fs->block_size - 1));
}

int ext4_super_begin(struct jbd2_handle *h, struct ext4_fs *fs, struct ext4_super_loc *ret_loc)
{
        struct buf *buf;
        void *bytes;
        int ret = buf_read(fs->bufs, fs->sb_fsblk, NULL, 0, &buf);

        if (ret < 0)
                return ret;
        mtx_lock(&fs->super_lock);
        ret = jbd2_get_write(h, buf, &bytes);
        if (ret < 0) {
                mtx_unlock(&fs->super_lock);
                buf_put(buf);
                return ret;
        }
        *ret_loc = (struct ext4_super_loc){buf, (void *)((char *)bytes + offset_in_block(fs))};
        return 0;
}

void ext4_super_put(struct ext4_fs *fs, struct ext4_super_loc *loc)
{
        mtx_unlock(&fs->super_lock);
        buf_put(loc->buf);
        *loc = (struct ext4_super_loc){0};
}

void ext4_super_store(struct jbd2_handle *h, struct ext4_fs *fs, struct ext4_super_loc *loc)
{
        if (has_csum(loc->sb))
                ext4_super_seal(loc->sb);
        jbd2_dirty(h, loc->buf);
        ext4_super_put(fs, loc);
}

/* ---- past the journal ---- */

int ext4_super_write_home(struct ext4_fs *fs,
                          void (*change)(struct ext4_super_block *sb, void *arg), void *arg)
{
        uint64_t pos = fs->opts.sb_block * 1024;
        uint64_t start = round_down_pow2(pos, fs->block_size);
        uint32_t align = max_t(uint32_t, uext4_bdev_geometry(fs->vfs.dev)->mem_align, 64);
        _cleanup_mem_ char *block = mem_alloc_aligned(align, fs->block_size);
        struct ext4_super_block *sb;
        int ret;

        if (!block)
                return -ENOMEM;
        ret = uext4_bdev_read(fs->vfs.dev, block, fs->block_size, start);
        if (ret < 0)
                return ret;
        sb = (void *)(block + (pos - start));
        change(sb, arg);
        if (has_csum(sb))
                ext4_super_seal(sb);
        return uext4_bdev_write(fs->vfs.dev, block, fs->block_size, start, UEXT4_BDEV_FUA);
}

/* ---- its fields ---- */

static void set_time(le32 *lo, uint8_t *hi, int64_t now)
{
        *lo = le32_make((uint32_t)now);
        *hi = (uint8_t)(now >> 32);
}

void ext4_super_set_free(struct ext4_super_block *sb, const struct ext4_free_counts *n)
{
        sb->s_free_blocks_count_lo = le32_make((uint32_t)n->blocks);
        if (le32_get(sb->s_feature_incompat) & EXT4_INCOMPAT_64BIT)
                sb->s_free_blocks_count_hi = le32_make((uint32_t)(n->blocks >> 32));
        sb->s_free_inodes_count = le32_make((uint32_t)n->inodes);
}

const char *ext4_super_write_obstacle(const struct ext4_fs *fs)
{
        if (uext4_bdev_geometry(fs->vfs.dev)->caps & UEXT4_BDEV_CAP_READONLY)
                return "the device is read-only";
        if (fs->opts.sb_block != 1)
                return "a backup of the superblock is in use (sb=)";
        if (le32_get(fs->sb.s_creator_os) == EXT4_OS_HURD)
                return "uext4 does not write images of the Hurd";
        return NULL;
}

/* ---- mount and unmount ---- */

struct mount {
        bool journalled;
        int64_t now;
};

/* What says that the file system is in use. */
static void mark_in_use(struct ext4_super_block *sb, void *arg)
{
        const struct mount *m = arg;

        if (m->journalled)
                sb->s_feature_incompat =
                        le32_make(le32_get(sb->s_feature_incompat) | EXT4_INCOMPAT_RECOVER);
        else
                sb->s_state = le16_make(le16_get(sb->s_state) & (uint16_t)~EXT4_STATE_VALID);
        if (m->journalled && (le32_get(sb->s_feature_compat) & EXT4_COMPAT_ORPHAN_FILE))
                sb->s_feature_ro_compat = le32_make(le32_get(sb->s_feature_ro_compat) |
                                                    EXT4_RO_COMPAT_ORPHAN_PRESENT);
        sb->s_mnt_count = le16_make((uint16_t)(le16_get(sb->s_mnt_count) + 1));
        set_time(&sb->s_mtime, &sb->s_mtime_hi, m->now);
        set_time(&sb->s_wtime, &sb->s_wtime_hi, m->now);
}

int ext4_super_begin_writing(struct ext4_fs *fs)
{
        struct mount m = {
                .journalled = ext4_has_compat(fs, EXT4_COMPAT_HAS_JOURNAL),
                .now = ext4_now(fs).tv_sec,
        };
        int ret;

        fs->mount_state = le16_get(fs->sb.s_state);
        ret = ext4_super_write_home(fs, mark_in_use, &m);
        if (ret < 0)
                return ret;
        mark_in_use(&fs->sb, &m);
        return 0;
}

struct unmount {
        struct ext4_free_counts n;
        bool counted;
        uint16_t state;
        bool orphans_left;
        int64_t now;
};

static void mark_clean(struct ext4_super_block *sb, void *arg)
{
        const struct unmount *u = arg;

        sb->s_feature_incompat =
                le32_make(le32_get(sb->s_feature_incompat) & ~EXT4_INCOMPAT_RECOVER);
        if (!u->orphans_left)
                sb->s_feature_ro_compat = le32_make(le32_get(sb->s_feature_ro_compat) &
                                                    ~EXT4_RO_COMPAT_ORPHAN_PRESENT);
        sb->s_state = le16_make(u->state | (le16_get(sb->s_state) & EXT4_STATE_ERROR));
        if (u->counted)
                ext4_super_set_free(sb, &u->n);
        set_time(&sb->s_wtime, &sb->s_wtime_hi, u->now);
}

int ext4_super_end_writing(struct ext4_fs *fs)
{
        struct unmount u = {
                .state = fs->mount_state,
                /* What never was looked for may be there. */
                .orphans_left = !fs->orphans || ext4_orphans_left(fs),
                .now = ext4_now(fs).tv_sec,
        };

        u.counted = ext4_count_free(fs, &u.n) == 0;
        return ext4_super_write_home(fs, mark_clean, &u);
}
