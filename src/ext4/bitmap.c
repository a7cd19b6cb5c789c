/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Bitmaps: see bitmap.h.
 *
 * The checksum is computed anew with each change.  That is some hundred nanoseconds for the 4
 * KiB of a bitmap, less than the copy of the block into the log costs; carrying the checksum
 * along by its linearity would save little and could drift.
 */

#include "ext4/bitmap.h"

#include <endian.h>
#include <string.h>

#include "ext4/balloc_group.h"
#include "util/crc.h"

/* ---- bits ---- */

/* The 64 bits from bit 64 * i on, bit 0 lowest; a block has whole words. */
static uint64_t word(const uint8_t *bytes, uint32_t i)
{
        uint64_t w;

        memcpy(&w, bytes + (size_t)i * 8, sizeof(w));
        return le64toh(w);
}

/* The next bit that differs from those of `flip`, 0 or ~0. */
static uint32_t next_bit(const uint8_t *bytes, uint32_t from, uint32_t end, uint64_t flip)
{
        while (from < end) {
                uint64_t w = (word(bytes, from / 64) ^ flip) >> from % 64;

                if (w) {
                        from += (uint32_t)__builtin_ctzll(w);
                        break;
                }
                from = (from / 64 + 1) * 64;
        }
        return min_t(uint32_t, from, end);
}

uint32_t ext4_bits_next_set(const uint8_t *bytes, uint32_t from, uint32_t end)
{
        return next_bit(bytes, from, end, 0);
}

uint32_t ext4_bits_next_clear(const uint8_t *bytes, uint32_t from, uint32_t end)
{
        return next_bit(bytes, from, end, ~0ull);
}

static void put_bits(uint8_t *bytes, uint32_t from, uint32_t nr, bool set)
{
        uint32_t end = from + nr;

        while (from < end) {
                uint32_t in_byte = min_t(uint32_t, 8 - from % 8, end - from);
                uint8_t mask = (uint8_t)(((1u << in_byte) - 1) << from % 8);

                if (from % 8 == 0 && end - from >= 8) {
                        in_byte = (end - from) / 8 * 8;
                        memset(bytes + from / 8, set ? 0xff : 0, in_byte / 8);
                } else if (set) {
                        bytes[from / 8] |= mask;
                } else {
                        bytes[from / 8] &= (uint8_t)~mask;
                }
                from += in_byte;
        }
}

void ext4_bits_set(uint8_t *bytes, uint32_t from, uint32_t nr)
{
        put_bits(bytes, from, nr, true);
}

void ext4_bits_clear(uint8_t *bytes, uint32_t from, uint32_t nr)
{
        put_bits(bytes, from, nr, false);
}

uint32_t ext4_bits_count_clear(const uint8_t *bytes, uint32_t nr)
{
        uint32_t set = 0;

        for (uint32_t i = 0; i < nr / 64; i++)
                set += (uint32_t)__builtin_popcountll(word(bytes, i));
        for (uint32_t i = nr & ~63u; i < nr; i++)
                set += bytes[i / 8] >> i % 8 & 1;
        return nr - set;
}

/* ---- what a bitmap is ---- */

uint32_t ext4_bitmap_nr_bits(const struct ext4_fs *fs, ext4_group_t group,
                             enum ext4_bitmap_kind kind)
{
        uint64_t blocks;

        if (kind == EXT4_INODE_BITMAP)
                return fs->inodes_per_group;
        blocks = min_t(uint64_t, fs->blocks_per_group,
                       fs->nr_blocks - ext4_group_first_block(fs, group));
        return (uint32_t)div_round_up(blocks, 1ull << fs->cluster_bits);
}

bool ext4_bitmap_is_init(const struct ext4_fs *fs, const struct ext4_group *g,
                         enum ext4_bitmap_kind kind)
{
        uint16_t bit = kind == EXT4_BLOCK_BITMAP ? EXT4_BG_BLOCK_UNINIT : EXT4_BG_INODE_UNINIT;

        return !(g->flags & bit) || !(fs->has_gdt_csum || fs->has_metadata_csum);
}

static ext4_fsblk_t place_of(const struct ext4_group *g, enum ext4_bitmap_kind kind)
{
        return kind == EXT4_BLOCK_BITMAP ? g->block_bitmap : g->inode_bitmap;
}

static const char *name_of(enum ext4_bitmap_kind kind)
{
        return kind == EXT4_BLOCK_BITMAP ? "block bitmap" : "inode bitmap";
}

/* ---- checksums ---- */

static uint32_t csum_mask(const struct ext4_fs *fs)
{
        return fs->desc_size >= EXT4_MIN_DESC_SIZE_64BIT ? 0xffffffff : 0xffff;
}

/* Of all groups alike: the bits of a full group. */
static uint32_t csum(const struct ext4_fs *fs, enum ext4_bitmap_kind kind, const void *bytes)
{
        uint32_t nr = kind == EXT4_INODE_BITMAP ? fs->inodes_per_group
                                                : fs->blocks_per_group >> fs->cluster_bits;

        return crc32c(fs->csum_seed, bytes, div_round_up(nr, 8)) & csum_mask(fs);
}

/* ---- reading ---- */

struct expected {
        struct ext4_fs *fs;
        enum ext4_bitmap_kind kind;
        uint32_t csum;
};

static int verify(const void *data, size_t size, uint64_t blk, const void *arg)
{
        const struct expected *e = arg;
        const struct ext4_where at = {e->fs, 0, blk};

        if (ext4_verify_csums(e->fs) &&
            csum(e->fs, e->kind, data) != (e->csum & csum_mask(e->fs)))
                return ext4_bad_csum(&at, name_of(e->kind));
        return 0;
}

static int read_bitmap(struct ext4_fs *fs, ext4_group_t group, const struct ext4_group *g,
                       enum ext4_bitmap_kind kind, struct buf **ret_buf)
{
        const struct expected e = {fs, kind,
                                   kind == EXT4_BLOCK_BITMAP ? g->block_bitmap_csum
                                                             : g->inode_bitmap_csum};
        const struct buf_check check = {verify, &e, (uint64_t)kind << 32 | group};

        return buf_read(fs->bufs, place_of(g, kind), &check, 0, ret_buf);
}

/* Call fn for the clusters of each system zone in the group, until it is false. */
static bool each_zone(const struct ext4_fs *fs, ext4_group_t group, uint8_t *bytes,
                      bool (*fn)(uint8_t *bytes, uint32_t from, uint32_t end))
{
        const struct ext4_zones *zones = &fs->balloc->zones;
        ext4_fsblk_t first = ext4_group_first_block(fs, group);
        ext4_fsblk_t end = min_t(ext4_fsblk_t, first + fs->blocks_per_group, fs->nr_blocks);
        const struct ext4_zone *zone = ext4_zones_from(zones, first);

        for (; zone && zone < zones->zones + zones->nr && zone->start < end; zone++) {
                ext4_fsblk_t from = max_t(ext4_fsblk_t, zone->start, first);
                ext4_fsblk_t to = min_t(ext4_fsblk_t, zone->start + zone->len, end);

                if (!fn(bytes, ext4_cluster_of(fs, from), ext4_cluster_of(fs, to - 1) + 1))
                        return false;
        }
        return true;
}

static bool zone_is_set(uint8_t *bytes, uint32_t from, uint32_t end)
{
        return ext4_bits_next_clear(bytes, from, end) == end;
}

static bool zone_set(uint8_t *bytes, uint32_t from, uint32_t end)
{
        ext4_bits_set(bytes, from, end - from);
        return true;
}

/* What an uninitialised bitmap stands for.  `bytes` is a block. */
static void init_bytes(const struct ext4_fs *fs, ext4_group_t group, enum ext4_bitmap_kind kind,
                       uint8_t *bytes)
{
        uint32_t nr = ext4_bitmap_nr_bits(fs, group, kind);

        memset(bytes, 0, fs->block_size);
        ext4_bits_set(bytes, nr, fs->block_size * 8 - nr);
        if (kind == EXT4_BLOCK_BITMAP)
                each_zone(fs, group, bytes, zone_set);
}

int ext4_bitmap_load(struct ext4_fs *fs, ext4_group_t group, const struct ext4_group *g,
                     enum ext4_bitmap_kind kind, void *bytes)
{
        const struct ext4_where at = {fs, 0, place_of(g, kind)};
        struct buf *buf;
        int ret;

        if (!ext4_bitmap_is_init(fs, g, kind)) {
                init_bytes(fs, group, kind, bytes);
                return 0;
        }
        ret = read_bitmap(fs, group, g, kind, &buf);
        if (ret < 0)
                return ret;
        memcpy(bytes, buf->data, fs->block_size);
        buf_put(buf);
        if (kind == EXT4_BLOCK_BITMAP && !each_zone(fs, group, bytes, zone_is_set))
                return ext4_corrupt(&at, "group %u: blocks of the file system are free", group);
        return 0;
}

/* ---- writing ---- */

int ext4_bitmap_begin(struct jbd2_handle *h, const struct ext4_group_loc *at,
                      const struct ext4_group *g, enum ext4_bitmap_kind kind,
                      struct ext4_bitmap_loc *ret_loc)
{
        struct ext4_bitmap_loc loc = {.kind = kind};
        struct ext4_fs *fs = at->fs;
        bool is_init = ext4_bitmap_is_init(fs, g, kind);
        void *bytes;
        int ret;

        if (is_init)
                ret = read_bitmap(fs, at->group, g, kind, &loc.buf);
        else
                ret = buf_new(fs->bufs, place_of(g, kind), &loc.buf);
        if (ret < 0)
                return ret;
        if (is_init)
                ret = jbd2_get_write(h, loc.buf, &bytes);
        else
                ret = jbd2_get_create(h, loc.buf, &bytes);
        if (ret < 0) {
                buf_put(loc.buf);
                return ret;
        }
        if (!is_init)
                init_bytes(fs, at->group, kind, bytes);
        loc.bytes = bytes;
        *ret_loc = loc;
        return 0;
}

void ext4_bitmap_store(struct jbd2_handle *h, const struct ext4_group_loc *at,
                       struct ext4_bitmap_loc *loc, struct ext4_group *g)
{
        struct ext4_fs *fs = at->fs;
        bool is_block = loc->kind == EXT4_BLOCK_BITMAP;
        uint32_t *place = is_block ? &g->block_bitmap_csum : &g->inode_bitmap_csum;

        if (fs->has_metadata_csum)
                *place = csum(fs, loc->kind, loc->bytes);
        g->flags &= (uint16_t) ~(is_block ? EXT4_BG_BLOCK_UNINIT : EXT4_BG_INODE_UNINIT);
        jbd2_dirty(h, loc->buf);
        ext4_bitmap_put(loc);
}

void ext4_bitmap_put(struct ext4_bitmap_loc *loc)
{
        buf_put(loc->buf);
        loc->buf = NULL;
}
