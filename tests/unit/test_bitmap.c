/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Bitmaps, on images from mke2fs: that those it left out are what e2fsck thinks they are, that
 * checksums are those that e2fsck computes, and that damaged ones are not believed.
 */

#include "ext4/balloc_group.h"
#include "ext4/bitmap.h"
#include "t_write.h"

/* ---- bits ---- */

#define NR_BITS 1024

static bool get(const uint8_t *bytes, uint32_t i)
{
        return bytes[i / 8] >> i % 8 & 1;
}

static uint32_t next_slowly(const uint8_t *bytes, uint32_t from, uint32_t end, bool value)
{
        while (from < end && get(bytes, from) != value)
                from++;
        return from;
}

static void bits_are_those_of_a_loop(void **state)
{
        uint64_t rng = t_seed();
        uint8_t want[NR_BITS / 8] = {};
        uint8_t got[NR_BITS / 8] = {};

        for (unsigned round = 0; round < 20000; round++) {
                uint32_t from = (uint32_t)t_below(&rng, NR_BITS);
                uint32_t most = t_below(&rng, 8) ? 20 : NR_BITS;
                uint32_t end = from + (uint32_t)t_below(
                                              &rng, min_t(uint32_t, most, NR_BITS - from) + 1);
                bool set = t_below(&rng, 2);
                uint32_t nr_clear = 0;

                for (uint32_t i = from; i < end; i++)
                        want[i / 8] = (uint8_t)((want[i / 8] & ~(1u << i % 8)) |
                                                (unsigned)set << i % 8);
                if (set)
                        ext4_bits_set(got, from, end - from);
                else
                        ext4_bits_clear(got, from, end - from);
                assert_memory_equal(got, want, sizeof(got));
                from = (uint32_t)t_below(&rng, NR_BITS);
                end = from + (uint32_t)t_below(&rng, NR_BITS - from + 1);
                assert_int_equal(ext4_bits_next_set(got, from, end),
                                 next_slowly(got, from, end, true));
                assert_int_equal(ext4_bits_next_clear(got, from, end),
                                 next_slowly(got, from, end, false));
                for (uint32_t i = 0; i < end; i++)
                        nr_clear += !get(got, i);
                assert_int_equal(ext4_bits_count_clear(got, end), nr_clear);
        }
}

/* ---- as mke2fs leaves them ---- */

static struct t_image image_of(const struct t_config *c)
{
        return t_mkfs((uint64_t)c->mib << 20, c->options, NULL);
}

/* Every group can be used: the number of clear bits is the descriptor's. */
static void bitmaps_of_mke2fs_are_believed(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(t_configs); i++) {
                struct t_image img = image_of(&t_configs[i]);
                uint64_t nr_free = 0;
                struct t_write w;
                uint8_t *bytes;

                t_write_begin(&w, &img);
                bytes = t_alloc(w.fs->block_size);
                for (ext4_group_t group = 0; group < w.fs->nr_groups; group++) {
                        struct ext4_group g;

                        ext4_group_lock(w.fs, group);
                        t_assert_row(t_configs[i].name, ext4_space_load(w.fs, group), 0);
                        assert_int_equal(ext4_group_get(w.fs, group, 0, &g), 0);
                        t_assert_row(
                                t_configs[i].name,
                                ext4_bitmap_load(w.fs, group, &g, EXT4_INODE_BITMAP, bytes), 0);
                        ext4_group_unlock(w.fs, group);
                        t_assert_row(t_configs[i].name,
                                     ext4_bits_count_clear(bytes, w.fs->inodes_per_group),
                                     g.free_inodes);
                        nr_free += g.free_clusters;
                }
                t_assert_row(t_configs[i].name, ext4_free_clusters(w.fs), nr_free);
                t_assert_row(t_configs[i].name, ext4_free_clusters(w.fs) << w.fs->cluster_bits,
                             ext4_super_free_counts(w.fs).blocks);
                t_assert_row(t_configs[i].name, w.m.log.nr_lines, 0);
                free(bytes);
                assert_int_equal(t_write_end(&w), 0);
                t_image_free(&img);
        }
}

/* Store one bitmap of each group, changed by nobody. */
static void store_all(struct t_write *w, enum ext4_bitmap_kind kind)
{
        for (ext4_group_t group = 0; group < w->fs->nr_groups; group++) {
                struct jbd2_handle *h = t_start(w, 2, 0);
                struct ext4_bitmap_loc bm;
                struct ext4_group_loc at;
                struct ext4_group g;

                ext4_group_lock(w->fs, group);
                T_CHECK(ext4_group_begin(h, w->fs, group, &at, &g) == 0);
                T_CHECK(ext4_bitmap_begin(h, &at, &g, kind, &bm) == 0);
                ext4_bitmap_store(h, &at, &bm, &g);
                ext4_group_store(h, &at, &g);
                ext4_group_unlock(w->fs, group);
                T_CHECK(jbd2_stop(h) == 0);
        }
}

/* Including those that were not there before, and every checksum. */
static void bitmaps_that_were_stored_are_those_of_e2fsck(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(t_configs); i++) {
                struct t_image img = image_of(&t_configs[i]);
                const char *complaint;
                struct t_write w;

                t_write_begin(&w, &img);
                store_all(&w, EXT4_BLOCK_BITMAP);
                store_all(&w, EXT4_INODE_BITMAP);
                t_assert_row(t_configs[i].name, t_write_end(&w), 0);
                complaint = t_fsck(&img, false);
                if (complaint)
                        fail_msg("%s: %s", t_configs[i].name, complaint);
                t_image_free(&img);
        }
}

/* ---- damaged ones ---- */

#define OPTIONS "-b 1024 -g 1024 -O extents,64bit"
#define MIB     4
#define VICTIM  3 /* the last one, whose bitmap mke2fs writes */

/* The descriptor of a group, in an image with the options above. */
static struct ext4_group_desc *desc_of(struct t_image *img, ext4_group_t group)
{
        return (void *)(img->data + 2048 + (size_t)group * 64);
}

static uint8_t *block_of(struct t_image *img, le32 blk)
{
        return (uint8_t *)img->data + ((size_t)le32_get(blk) << 10);
}

static void turn_a_bit(struct t_image *img)
{
        block_of(img, desc_of(img, VICTIM)->bg_block_bitmap_lo)[60] ^= 0x10;
}

static void wrong_count(struct t_image *img)
{
        struct ext4_group_desc *gd = desc_of(img, VICTIM);

        gd->bg_free_blocks_count_lo = le16_make(le16_get(gd->bg_free_blocks_count_lo) - 1);
}

static void free_table(struct t_image *img)
{
        uint8_t *bits = block_of(img, desc_of(img, VICTIM)->bg_block_bitmap_lo);
        uint32_t bit = le32_get(desc_of(img, VICTIM)->bg_inode_table_lo) - 1 - VICTIM * 1024;

        bits[bit / 8] ^= (uint8_t)(1u << bit % 8);
        bits[100] |= 1; /* and another one is not, so that the count is right */
}

static void bitmap_in_a_table(struct t_image *img)
{
        desc_of(img, VICTIM)->bg_block_bitmap_lo = desc_of(img, 2)->bg_inode_table_lo;
}

static void bitmap_in_the_superblock(struct t_image *img)
{
        desc_of(img, VICTIM)->bg_inode_bitmap_lo = le32_make(1);
}

static void bitmap_outside(struct t_image *img)
{
        desc_of(img, VICTIM)->bg_block_bitmap_lo = le32_make(0x7fffffff);
}

static const struct damage {
        const char *name;
        void (*make)(struct t_image *img);
        bool no_csum; /* the image has none, so that they cannot give it away */
        const char *says;
} damages[] = {
        {"a bit, with checksum", turn_a_bit, false, "checksum"},
        {"a bit, without", turn_a_bit, true, "clusters are free"},
        {"a count, with checksum", wrong_count, false, "checksum"},
        {"a count, without", wrong_count, true, "clusters are free"},
        {"the table is free", free_table, true, "blocks of the file system are free"},
        {"two at one place", bitmap_in_a_table, true, "lie where others do"},
        {"one in the superblock", bitmap_in_the_superblock, true, "lie where others do"},
        {"one outside", bitmap_outside, true, "outside"},
};

/* The group is out, the others are in, and it is said once. */
static void a_group_that_is_damaged_is_not_used(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
                const struct damage *d = &damages[i];
                struct t_image img =
                        t_mkfs(MIB << 20,
                               d->no_csum ? OPTIONS " -O ^metadata_csum,^uninit_bg,64bit"
                                          : OPTIONS ",metadata_csum",
                               NULL);
                struct t_write w;

                d->make(&img);
                t_write_begin(&w, &img);
                for (unsigned again = 0; again < 2; again++) {
                        ext4_group_lock(w.fs, VICTIM);
                        t_assert_row(d->name, ext4_space_load(w.fs, VICTIM), -EUCLEAN);
                        ext4_group_unlock(w.fs, VICTIM);
                }
                t_assert_row(d->name, ext4_group_free_clusters(w.fs, VICTIM), 0);
                if (!t_log_has(&w.m.log, d->says))
                        fail_msg("%s: the log has '%s'", d->name, w.m.log.text);
                ext4_group_lock(w.fs, 1);
                t_assert_row(d->name, ext4_space_load(w.fs, 1), 0);
                ext4_group_unlock(w.fs, 1);
                assert_int_equal(t_write_end(&w), 0);
                t_image_free(&img);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(bits_are_those_of_a_loop),
                cmocka_unit_test(bitmaps_of_mke2fs_are_believed),
                cmocka_unit_test(bitmaps_that_were_stored_are_those_of_e2fsck),
                cmocka_unit_test(a_group_that_is_damaged_is_not_used),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
