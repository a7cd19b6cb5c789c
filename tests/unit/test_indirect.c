/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Indirect maps in a memory device: every border between levels, holes of whole subtrees,
 * and pointers that lead outside.
 */

#include "t_fs.h"

#define BITS      10 /* 256 pointers in a block */
#define PTRS      256u
#define NR_BLOCKS (1u << 17)

/* First logical blocks of the levels. */
#define SINGLE 12u
#define DOUBLE (SINGLE + PTRS)
#define TRIPLE (DOUBLE + PTRS * PTRS)
#define BEYOND (TRIPLE + PTRS * PTRS * PTRS)

struct file {
        struct t_fs t;
        struct ext4_inode inode;
        uint32_t next_blk; /* for pointer blocks */
};

static void file_init(struct file *f)
{
        t_fs_init(&f->t, BITS, NR_BLOCKS);
        t_inode_init(&f->inode, f->t.fs, 12);
        f->next_blk = 10;
}

static void file_done(struct file *f)
{
        t_inode_done(&f->inode);
        t_fs_done(&f->t);
}

static le32 *root_ptr(struct file *f, unsigned slot)
{
        return (le32 *)(void *)f->inode.block + slot;
}

static le32 *block_ptr(struct file *f, uint32_t blk, uint32_t i)
{
        return (le32 *)t_block(&f->t, blk) + i;
}

/* The block that *ptr leads to, made when there is none. */
static uint32_t follow(struct file *f, le32 *ptr)
{
        if (le32_get(*ptr) == 0)
                *ptr = le32_make(f->next_blk++);
        return le32_get(*ptr);
}

/* Where the pointer to `lblk` is, with the blocks above it made. */
static le32 *ptr_of(struct file *f, uint32_t lblk)
{
        uint32_t blk;

        if (lblk < SINGLE)
                return root_ptr(f, lblk);
        if (lblk < DOUBLE)
                return block_ptr(f, follow(f, root_ptr(f, 12)), lblk - SINGLE);
        if (lblk < TRIPLE) {
                lblk -= DOUBLE;
                blk = follow(f, root_ptr(f, 13));
                blk = follow(f, block_ptr(f, blk, lblk / PTRS));
                return block_ptr(f, blk, lblk % PTRS);
        }
        lblk -= TRIPLE;
        blk = follow(f, root_ptr(f, 14));
        blk = follow(f, block_ptr(f, blk, lblk / PTRS / PTRS));
        blk = follow(f, block_ptr(f, blk, lblk / PTRS % PTRS));
        return block_ptr(f, blk, lblk % PTRS);
}

static void set(struct file *f, uint32_t lblk, uint32_t pblk)
{
        *ptr_of(f, lblk) = le32_make(pblk);
}

static int lookup(struct file *f, uint32_t lblk, struct ext4_map *ret_map)
{
        return ext4_indirect_lookup(&f->inode, lblk, 0, ret_map);
}

/* The mapping that covers lblk, seen from lblk on. */
static struct ext4_map from(struct file *f, uint32_t lblk)
{
        struct ext4_map map;

        assert_int_equal(lookup(f, lblk, &map), 0);
        assert_true(map.lblk <= lblk && lblk < map.lblk + map.len);
        assert_true(map.lblk + map.len <= EXT4_NR_LBLKS);
        map.len -= lblk - map.lblk;
        if (map.type != EXT4_MAP_HOLE)
                map.pblk += lblk - map.lblk;
        map.lblk = lblk;
        return map;
}

static void assert_from(struct file *f, uint32_t lblk, uint64_t len, uint32_t pblk)
{
        struct ext4_map map = from(f, lblk);

        if (map.len != len || (map.type == EXT4_MAP_HOLE) != (pblk == 0) ||
            (pblk && map.pblk != pblk))
                fail_msg("block %u: %llu blocks at %llu, type %d", lblk,
                         (unsigned long long)map.len, (unsigned long long)map.pblk, map.type);
        if (pblk)
                assert_int_equal(map.type, EXT4_MAP_WRITTEN);
}

/* ---- where blocks are ---- */

static void first_and_last_block_of_every_level(void **state)
{
        static const uint32_t borders[] = {0,
                                           SINGLE - 1,
                                           SINGLE,
                                           DOUBLE - 1,
                                           DOUBLE,
                                           TRIPLE - 1,
                                           TRIPLE,
                                           BEYOND - 1,
                                           DOUBLE + PTRS - 1,
                                           DOUBLE + PTRS,
                                           TRIPLE + PTRS * PTRS - 1,
                                           TRIPLE + PTRS * PTRS};
        struct file f;

        file_init(&f);
        for (uint32_t i = 0; i < ARRAY_LEN(borders); i++)
                set(&f, borders[i], 1000 + 10 * i);
        for (uint32_t i = 0; i < ARRAY_LEN(borders); i++)
                assert_from(&f, borders[i], 1, 1000 + 10 * i);
        /* Their neighbours are holes. */
        assert_from(&f, 1, 10, 0);
        assert_from(&f, SINGLE + 1, PTRS - 2, 0);
        assert_from(&f, DOUBLE - 2, 1, 0);
        assert_from(&f, DOUBLE + 1, PTRS - 2, 0);
        assert_from(&f, TRIPLE - 2, 1, 0);
        assert_from(&f, BEYOND - 2, 1, 0);
        file_done(&f);
}

static void beyond_the_third_level_is_a_hole(void **state) /* B23 */
{
        struct file f;

        file_init(&f);
        set(&f, BEYOND - 1, 1000);
        assert_from(&f, BEYOND, EXT4_NR_LBLKS - BEYOND, 0);
        assert_from(&f, BEYOND + 1, EXT4_NR_LBLKS - BEYOND - 1, 0);
        assert_from(&f, EXT4_MAX_LBLK, 1, 0);
        file_done(&f);
}

static void neighbours_on_disk_are_one_mapping(void **state)
{
        struct file f;

        file_init(&f);
        for (uint32_t i = 0; i < 6; i++)
                set(&f, 2 + i, 1000 + i);
        set(&f, 8, 1007); /* 1006 is missing */
        for (uint32_t i = 0; i < PTRS; i++)
                set(&f, SINGLE + i, 2000 + i);
        assert_from(&f, 0, 2, 0);
        assert_from(&f, 2, 6, 1000);
        assert_from(&f, 5, 3, 1003);
        assert_from(&f, 8, 1, 1007);
        assert_from(&f, 9, 3, 0);
        assert_from(&f, SINGLE, PTRS, 2000);
        assert_from(&f, SINGLE + 255, 1, 2255);
        file_done(&f);
}

static void missing_subtrees_are_holes_of_their_whole_size(void **state)
{
        struct file f;

        file_init(&f);
        assert_from(&f, 0, 12, 0);
        assert_from(&f, SINGLE, PTRS, 0);
        assert_from(&f, DOUBLE, PTRS * PTRS, 0);
        assert_from(&f, DOUBLE + 1000, PTRS * PTRS - 1000, 0);
        assert_from(&f, TRIPLE, PTRS * PTRS * PTRS, 0);
        assert_from(&f, BEYOND - 1, 1, 0);
        assert_int_equal(t_device_reads(&f.t), 0);

        /* Pointers inside: 10 in a double block, 3 at the first level of a triple tree. */
        set(&f, DOUBLE + 10 * PTRS, 1000);
        set(&f, DOUBLE + 20 * PTRS, 2000);
        assert_from(&f, DOUBLE, 10 * PTRS, 0);
        assert_from(&f, DOUBLE + 5 * PTRS + 17, 5 * PTRS - 17, 0);
        assert_from(&f, DOUBLE + 10 * PTRS + 1, PTRS - 1, 0);
        assert_from(&f, DOUBLE + 11 * PTRS, 9 * PTRS, 0);
        set(&f, TRIPLE + 3 * PTRS * PTRS + 7 * PTRS + 5, 3000);
        assert_from(&f, TRIPLE + 1, 3 * PTRS * PTRS - 1, 0);
        assert_from(&f, TRIPLE + 3 * PTRS * PTRS, 7 * PTRS, 0);
        assert_from(&f, TRIPLE + 3 * PTRS * PTRS + 7 * PTRS, 5, 0);
        assert_from(&f, TRIPLE + 3 * PTRS * PTRS + 7 * PTRS + 5, 1, 3000);
        assert_from(&f, TRIPLE + 4 * PTRS * PTRS, 252 * PTRS * PTRS, 0);
        file_done(&f);
}

static void with_64k_blocks_the_third_level_ends_with_the_file(void **state) /* C43 */
{
        const uint64_t triple = 12 + (1u << 14) + (1ull << 28);
        struct ext4_inode inode;
        struct ext4_map map;
        struct t_fs t;

        t_fs_init(&t, 16, 64);
        t_inode_init(&inode, t.fs, 12);
        assert_int_equal(ext4_indirect_lookup(&inode, EXT4_MAX_LBLK, 0, &map), 0);
        assert_int_equal(map.type, EXT4_MAP_HOLE);
        assert_int_equal(map.lblk, triple);
        assert_int_equal(map.len, EXT4_NR_LBLKS - triple);
        ((le32 *)(void *)inode.block)[14] = le32_make(10);
        assert_int_equal(ext4_indirect_lookup(&inode, EXT4_MAX_LBLK, 0, &map), 0);
        assert_int_equal(map.lblk + map.len, EXT4_NR_LBLKS);
        t_inode_done(&inode);
        t_fs_done(&t);
}

static void random_files_read_as_their_pointers(void **state)
{
        uint64_t seed = t_seed();

        for (int round = 0; round < 20; round++) {
                static uint32_t truth[DOUBLE + 4 * PTRS];
                uint32_t run = 0, pblk = 0;
                struct file f;

                file_init(&f);
                for (uint32_t i = 0; i < ARRAY_LEN(truth); i++) {
                        if (run-- == 0) {
                                run = (uint32_t)t_below(&seed, 300);
                                pblk = t_below(&seed, 3)
                                               ? 2000 + (uint32_t)t_below(&seed, 90000)
                                               : 0;
                        }
                        truth[i] = pblk ? pblk++ : 0;
                        if (truth[i])
                                set(&f, i, truth[i]);
                }
                for (uint32_t i = 0; i < ARRAY_LEN(truth); i++) {
                        struct ext4_map map = from(&f, i);

                        assert_int_equal(map.type == EXT4_MAP_HOLE, truth[i] == 0);
                        for (uint64_t j = 0; j < map.len && i + j < ARRAY_LEN(truth); j++)
                                assert_int_equal(truth[i + j], truth[i] ? map.pblk + j : 0);
                }
                file_done(&f);
        }
}

static void nowait_needs_warm_pointer_blocks(void **state)
{
        struct ext4_map map;
        struct file f;

        file_init(&f);
        set(&f, 3, 900);
        set(&f, TRIPLE, 1000);
        assert_int_equal(ext4_indirect_lookup(&f.inode, 3, EXT4_MAP_NOWAIT, &map), 0);
        assert_int_equal(ext4_indirect_lookup(&f.inode, TRIPLE, EXT4_MAP_NOWAIT, &map),
                         -EAGAIN);
        assert_int_equal(t_device_reads(&f.t), 0);
        assert_int_equal(lookup(&f, TRIPLE, &map), 0);
        assert_int_equal(t_device_reads(&f.t), 3);
        assert_int_equal(ext4_indirect_lookup(&f.inode, TRIPLE, EXT4_MAP_NOWAIT, &map), 0);
        assert_int_equal(map.pblk, 1000);
        file_done(&f);
}

/* ---- damage ---- */

/* A pointer that leads outside, at every place where there is one; blocks 10, 11, 12 are the
 * pointer blocks of the levels, from the top. */
static const struct {
        const char *name;
        uint32_t lblk; /* made, and asked for */
        uint32_t blk;  /* the pointer is in this block; 0: in the inode */
        uint32_t i;
        const char *said;
} places[] = {
        {"direct", 5, 0, 5, "direct pointer 5 leads outside"},
        {"root of the first level", SINGLE, 0, 12, "indirect root 12 leads outside"},
        {"root of the second level", DOUBLE, 0, 13, "indirect root 13 leads outside"},
        {"root of the third level", TRIPLE, 0, 14, "indirect root 14 leads outside"},
        {"first level", SINGLE, 10, 0, "block 10: indirect block: pointer 0 leads outside"},
        {"first level, beside", SINGLE, 10, 255, "pointer 255 leads outside"},
        {"second level, top", DOUBLE, 10, 0, "block 10: indirect block: pointer 0"},
        {"second level, bottom", DOUBLE, 11, 0, "block 11: indirect block: pointer 0"},
        {"third level, top", TRIPLE, 10, 0, "block 10: indirect block: pointer 0"},
        {"third level, middle", TRIPLE, 11, 0, "block 11: indirect block: pointer 0"},
        {"third level, bottom", TRIPLE, 12, 0, "block 12: indirect block: pointer 0"},
};

static void pointers_that_lead_outside_are_corrupt(void **state)
{
        static const uint32_t outside[] = {NR_BLOCKS, UINT32_MAX};

        for (size_t p = 0; p < ARRAY_LEN(places) * ARRAY_LEN(outside); p++) {
                size_t i = p / ARRAY_LEN(outside);
                struct ext4_map map = {.lblk = 4711};
                struct file f;

                file_init(&f);
                set(&f, places[i].lblk, 1000);
                *(places[i].blk ? block_ptr(&f, places[i].blk, places[i].i)
                                : root_ptr(&f, places[i].i)) =
                        le32_make(outside[p % ARRAY_LEN(outside)]);
                for (int n = 0; n < 3; n++)
                        t_assert_row(places[i].name, lookup(&f, places[i].lblk, &map),
                                     -EUCLEAN);
                t_assert_row(places[i].name, map.lblk, 4711);
                t_assert_row(places[i].name, f.t.log.nr_lines, 1);
                if (!t_log_has(&f.t.log, places[i].said) || !t_log_has(&f.t.log, "inode 12: "))
                        fail_msg("%s: the log says %s", places[i].name, f.t.log.text);
                file_done(&f);
        }
}

static void run_over_the_end_of_the_device_is_corrupt(void **state)
{
        struct ext4_map map;
        struct file f;

        file_init(&f);
        set(&f, 0, NR_BLOCKS - 1);
        assert_from(&f, 0, 1, NR_BLOCKS - 1);
        set(&f, 1, NR_BLOCKS);
        assert_int_equal(lookup(&f, 1, &map), -EUCLEAN);
        file_done(&f);
}

static void block_that_points_to_itself_ends(void **state)
{
        struct ext4_map map;
        struct file f;

        file_init(&f);
        for (unsigned slot = 12; slot < 15; slot++)
                *root_ptr(&f, slot) = le32_make(10);
        for (uint32_t i = 0; i < PTRS; i++)
                *block_ptr(&f, 10, i) = le32_make(10);
        assert_int_equal(lookup(&f, SINGLE, &map), 0);
        assert_int_equal(lookup(&f, DOUBLE, &map), 0);
        assert_int_equal(lookup(&f, BEYOND - 1, &map), 0);
        assert_int_equal(map.pblk, 10);
        assert_int_equal(t_device_reads(&f.t), 1);
        file_done(&f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(first_and_last_block_of_every_level),
                cmocka_unit_test(beyond_the_third_level_is_a_hole),
                cmocka_unit_test(neighbours_on_disk_are_one_mapping),
                cmocka_unit_test(missing_subtrees_are_holes_of_their_whole_size),
                cmocka_unit_test(with_64k_blocks_the_third_level_ends_with_the_file),
                cmocka_unit_test(random_files_read_as_their_pointers),
                cmocka_unit_test(nowait_needs_warm_pointer_blocks),
                cmocka_unit_test(pointers_that_lead_outside_are_corrupt),
                cmocka_unit_test(run_over_the_end_of_the_device_is_corrupt),
                cmocka_unit_test(block_that_points_to_itself_ends),
        };

        return cmocka_run_group_tests_name("indirect", tests, NULL, NULL);
}
