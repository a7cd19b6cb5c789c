/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Indirect maps that change, on images of mke2fs in memory: one file, against an array that
 * says for each logical block where it is, up into the third level.  e2fsck looks at the image
 * in the end, and when all is removed every block is free again.
 */

#include "ext4/indirect_change.h"
#include "ext4/inode_store.h"
#include "t_write.h"

/* With blocks of 1 KiB the third level begins at 12 + 256 + 65536. */
#define NR_LBLKS   70000u
#define THIRD      65804u
#define NR_CONFIGS 3

struct file {
        struct t_target t;
        uint64_t rand;
        uint64_t nr_restarts;
        uint32_t pblk[NR_LBLKS]; /* the model; 0: hole */
};

static const struct t_config configs[NR_CONFIGS] = {
        {"ext3", "-b 1024 -O has_journal,resize_inode", 48},
        {"ext2", "-b 1024 -O ^has_journal", 48},
        {"ext4's features, 4k", "-b 4096 -O has_journal,huge_file,metadata_csum", 300},
};

static void file_open(struct file *f, const struct t_config *config)
{
        memset(f, 0, sizeof(*f));
        t_target_open(&f->t, config);
        T_CHECK(!(f->t.inode->flags & EXT4_FL_EXTENTS));
        f->t.inode->disk_size = (uint64_t)NR_LBLKS << f->t.w.fs->block_bits;
}

static struct jbd2_handle *begin(struct file *f, uint32_t credits, uint32_t revokes)
{
        struct jbd2_handle *h = t_start(&f->t.w, credits + f->t.keep, revokes);

        rwsem_write_lock(&f->t.inode->map_lock);
        return h;
}

static void store(struct file *f, struct jbd2_handle *h)
{
        T_CHECK(ext4_inode_dirty(h, f->t.inode) == 0);
        rwsem_write_unlock(&f->t.inode->map_lock);
}

static void end(struct file *f, struct jbd2_handle *h)
{
        store(f, h);
        T_CHECK(jbd2_stop(h) == 0);
}

static void compare(struct file *f)
{
        uint32_t lblk = 0;

        rwsem_read_lock(&f->t.inode->map_lock);
        while (lblk < NR_LBLKS) {
                struct ext4_map map;
                uint64_t to;

                T_CHECK(ext4_indirect_lookup(f->t.inode, lblk, 0, &map) == 0);
                to = min_t(uint64_t, map.lblk + map.len, NR_LBLKS);
                T_CHECK(map.lblk <= lblk && to > lblk);
                for (; lblk < to; lblk++) {
                        uint32_t want = map.type == EXT4_MAP_HOLE
                                                ? 0
                                                : (uint32_t)map.pblk + (lblk - map.lblk);

                        T_CHECK(f->pblk[lblk] == want);
                }
        }
        rwsem_read_unlock(&f->t.inode->map_lock);
}

/* At most `len` blocks from lblk on, which is a hole; how many it were. */
static uint32_t allocate(struct file *f, uint32_t lblk, uint32_t len)
{
        const struct ext4_indirect_request req = {
                .lblk = lblk, .len = len, .alloc_flags = EXT4_ALLOC_DATA};
        struct jbd2_handle *h = begin(f, EXT4_INDIRECT_ALLOC_CREDITS, 0);
        struct ext4_map map;

        T_CHECK(ext4_indirect_alloc(h, f->t.inode, &req, &map) == 0);
        T_CHECK(map.lblk == lblk && map.len >= 1 && map.len <= len);
        T_CHECK(map.type == EXT4_MAP_WRITTEN);
        end(f, h);
        for (uint32_t i = 0; i < map.len; i++) {
                T_CHECK(f->pblk[lblk + i] == 0);
                f->pblk[lblk + i] = (uint32_t)map.pblk + i;
        }
        return (uint32_t)map.len;
}

static void remove_range(struct file *f, uint32_t from, uint64_t to)
{
        const uint32_t credits = ext4_indirect_remove_credits(f->t.w.fs);
        struct ext4_extent_range range = {from, to, f->t.keep, EXT4_INDIRECT_REMOVE_REVOKES};
        struct jbd2_handle *h = begin(f, credits, range.revokes);
        int ret;

        while ((ret = ext4_indirect_remove(h, f->t.inode, &range)) == 1) {
                store(f, h);
                f->nr_restarts++;
                range.revokes = EXT4_INDIRECT_REMOVE_REVOKES;
                T_CHECK(jbd2_restart(h, credits + f->t.keep, range.revokes) == 0);
                rwsem_write_lock(&f->t.inode->map_lock);
        }
        T_CHECK(ret == 0 && range.from >= range.to);
        end(f, h);
        for (uint32_t i = from; i < to && i < NR_LBLKS; i++)
                f->pblk[i] = 0;
}

static void check_all_free(struct file *f)
{
        static const uint8_t zeros[EXT4_I_BLOCK_SIZE];

        remove_range(f, 0, EXT4_NR_LBLKS);
        compare(f);
        T_CHECK(memcmp(f->t.inode->block, zeros, sizeof(zeros)) == 0);
        T_CHECK(f->t.inode->blocks == 0);
        rwsem_write_lock(&f->t.inode->map_lock);
        ext4_prealloc_drop(f->t.inode);
        rwsem_write_unlock(&f->t.inode->map_lock);
        T_CHECK(jbd2_commit_all(f->t.w.fs->journal) == 0);
        T_CHECK(ext4_free_clusters(f->t.w.fs) == f->t.free_before);
}

/* ---- random ---- */

/* Around where levels and pointer blocks meet, or anywhere. */
static uint32_t random_lblk(struct file *f)
{
        static const uint32_t borders[] = {0, 12, 268, 524, 1036, THIRD, NR_LBLKS};
        uint32_t lblk;

        if (t_below(&f->rand, 3) == 0)
                return (uint32_t)t_below(&f->rand, NR_LBLKS);
        lblk = borders[t_below(&f->rand, ARRAY_LEN(borders))] + (uint32_t)t_below(&f->rand, 40);
        return lblk < 20 ? lblk : min_t(uint32_t, lblk - 20, NR_LBLKS - 1);
}

static void random_step(struct file *f)
{
        uint32_t lblk = random_lblk(f);
        uint32_t len = 1 + (uint32_t)t_below(&f->rand, t_below(&f->rand, 4) ? 10 : 300);

        if (t_below(&f->rand, 3) == 0)
                remove_range(f, lblk, lblk + (uint64_t)len * (t_below(&f->rand, 10) ? 1 : 100));
        else if (f->pblk[lblk] == 0)
                allocate(f, lblk, min_t(uint32_t, len, NR_LBLKS - lblk));
}

static void random_changes_equal_the_array(void **state)
{
        const unsigned ops = t_nr_ops(4000);
        struct file *f = t_alloc(sizeof(*f));
        uint64_t seed = t_seed();

        for (size_t c = 0; c < NR_CONFIGS; c++) {
                /* Looked at by e2fsck as it is, and once more when it is empty. */
                for (unsigned empty = 0; empty < 2; empty++) {
                        file_open(f, &configs[c]);
                        f->rand = seed + empty;
                        for (unsigned n = 0; n < ops; n++) {
                                random_step(f);
                                if (n % 256 != 0)
                                        continue;
                                compare(f);
                                /* What was freed can be had again. */
                                T_CHECK(jbd2_commit_all(f->t.w.fs->journal) == 0);
                        }
                        compare(f);
                        if (empty)
                                check_all_free(f);
                        t_target_close(&f->t, configs[c].name);
                }
        }
        free(f);
}

/* ---- one thing each ---- */

static void levels_come_and_go(void **state)
{
        static const struct {
                const char *name;
                uint32_t lblk;
                unsigned nr_pointer_blocks;
        } rows[] = {
                {"the first block", 0, 0},  {"the last direct one", 11, 0},
                {"one level", 12, 1},       {"the last of one level", 267, 1},
                {"two levels", 268, 2},     {"the last of two levels", THIRD - 1, 2},
                {"three levels", THIRD, 3},
        };
        struct file *f = t_alloc(sizeof(*f));

        file_open(f, &configs[0]);
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                assert_int_equal(allocate(f, rows[i].lblk, 1), 1);
                t_assert_row(rows[i].name, f->t.inode->blocks / 2,
                             rows[i].nr_pointer_blocks + 1);
                compare(f);
                remove_range(f, rows[i].lblk, rows[i].lblk + 1);
                t_assert_row(rows[i].name, f->t.inode->blocks, 0);
                compare(f);
        }
        check_all_free(f);
        t_target_close(&f->t, configs[0].name);
        free(f);
}

static void a_request_ends_with_its_pointer_block(void **state)
{
        struct file *f = t_alloc(sizeof(*f));

        file_open(f, &configs[0]);
        assert_int_equal(allocate(f, 5, 100), 7);
        assert_int_equal(allocate(f, 200, 100), 68);
        assert_int_equal(allocate(f, 190, 100), 10);
        check_all_free(f);
        t_target_close(&f->t, configs[0].name);
        free(f);
}

static void what_cannot_be_is_refused(void **state)
{
        struct ext4_indirect_request req = {
                .lblk = 300, .len = 1, .alloc_flags = EXT4_ALLOC_DATA};
        struct file *f = t_alloc(sizeof(*f));
        struct jbd2_handle *h;
        struct ext4_map map;

        file_open(f, &configs[0]);
        allocate(f, 300, 1);
        h = begin(f, EXT4_INDIRECT_ALLOC_CREDITS, 0);
        assert_int_equal(ext4_indirect_alloc(h, f->t.inode, &req, &map), -EEXIST);
        req.lblk = (uint32_t)ext4_indirect_nr_lblks(f->t.w.fs);
        assert_int_equal(ext4_indirect_alloc(h, f->t.inode, &req, &map), -EFBIG);
        end(f, h);
        check_all_free(f);
        t_target_close(&f->t, configs[0].name);
        free(f);
}

/* No space for all that a block needs: nothing has changed. */
static void without_space_nothing_changes(void **state)
{
        const struct ext4_indirect_request req = {
                .lblk = THIRD, .len = 1, .alloc_flags = EXT4_ALLOC_DATA | EXT4_ALLOC_POOL};
        struct file *f = t_alloc(sizeof(*f));
        struct jbd2_handle *h;
        struct ext4_map map;
        uint32_t lblk = 0;
        int ret = 0;

        file_open(f, &configs[0]);
        /* Fill the device but for two or three blocks: four are needed. */
        while (ret == 0 && ext4_free_clusters(f->t.w.fs) > 3) {
                const struct ext4_alloc data = {
                        .inode = f->t.inode,
                        .lblk = lblk++,
                        .len = min_t(uint32_t, ext4_free_clusters(f->t.w.fs) - 3, 4096),
                        .flags = EXT4_ALLOC_DATA | EXT4_ALLOC_POOL | EXT4_ALLOC_RESERVED |
                                 EXT4_ALLOC_NO_WINDOW,
                };
                ext4_fsblk_t pblk;
                uint32_t len;

                h = begin(f, EXT4_BALLOC_CREDITS, 0);
                ret = ext4_balloc(h, &data, &pblk, &len);
                end(f, h);
        }
        T_CHECK(ret == 0 && ext4_free_clusters(f->t.w.fs) == 3);
        h = begin(f, EXT4_INDIRECT_ALLOC_CREDITS, 0);
        assert_int_equal(ext4_indirect_alloc(h, f->t.inode, &req, &map), -ENOSPC);
        end(f, h);
        compare(f);
        assert_int_equal(f->t.inode->blocks, 0);
        assert_int_equal(ext4_free_clusters(f->t.w.fs), 3);
        t_target_close(&f->t, configs[0].name);
        free(f);
}

/* Made by others: freeing it twice would follow. */
static void a_pointer_block_that_leads_to_itself_is_damage(void **state)
{
        struct ext4_extent_range range = {0, EXT4_NR_LBLKS, 1, EXT4_INDIRECT_REMOVE_REVOKES};
        struct file *f = t_alloc(sizeof(*f));
        struct jbd2_handle *h;
        struct buf *buf;
        void *bytes;
        le32 top;

        file_open(f, &configs[0]);
        allocate(f, 268 + 256, 1);
        memcpy(&top, f->t.inode->block + EXT4_DIND_BLOCK * sizeof(le32), sizeof(top));
        h = begin(f, ext4_indirect_remove_credits(f->t.w.fs) + 1, range.revokes);
        assert_int_equal(ext4_indirect_read(f->t.inode, le32_get(top), 0, &buf), 0);
        assert_int_equal(jbd2_get_write(h, buf, &bytes), 0);
        ((le32 *)bytes)[1] = top;
        jbd2_dirty(h, buf);
        buf_put(buf);
        assert_int_equal(ext4_indirect_remove(h, f->t.inode, &range), -EUCLEAN);
        end(f, h);
        ext4_iput(f->t.inode);
        assert_int_equal(t_write_end(&f->t.w), 0);
        t_image_free(&f->t.img);
        free(f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(levels_come_and_go),
                cmocka_unit_test(a_request_ends_with_its_pointer_block),
                cmocka_unit_test(what_cannot_be_is_refused),
                cmocka_unit_test(without_space_nothing_changes),
                cmocka_unit_test(a_pointer_block_that_leads_to_itself_is_damage),
                cmocka_unit_test(random_changes_equal_the_array),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
