/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The parts of the journal's reader: the superblock with one field wrong at a time, the sizes
 * of tags and revoke records, the walk, and the table of revoked blocks.
 */

#include "jbd2/journal.h"
#include "t_journal.h"
#include "t_util.h"

#define NR_BLOCKS 64
#define NR_FC     16

struct world {
        struct tj j;
        uint8_t *mem;
        struct uext4_bdev *dev;
        struct t_log log;
};

static void init(struct world *w, const struct tj_format *f)
{
        size_t size = (size_t)f->nr_blocks * f->block_size;

        w->mem = t_alloc(size);
        t_log_init(&w->log);
        T_CHECK(uext4_bdev_open_buffer(w->mem, size, 0, &w->dev) == 0);
        tj_init(&w->j, f, (const struct tj_run[2]){{0, f->nr_blocks, w->mem}});
}

static void done(struct world *w)
{
        uext4_bdev_close(w->dev);
        free(w->mem);
}

static int open_journal(struct world *w, uint32_t nr_blocks, struct jbd2_journal *ret_j)
{
        const struct log_sink sink = t_log_sink(&w->log);
        struct jbd2_place place = {
                .dev = w->dev,
                .block_size = w->j.f.block_size,
                .nr_blocks = nr_blocks,
                .runs = mem_array(1, sizeof(*place.runs)),
                .nr_runs = 1,
        };

        T_CHECK(place.runs);
        place.runs[0] = (struct jbd2_run){0, nr_blocks, 0};
        return jbd2_open(&place, &sink, ret_j);
}

/* ---- the superblock ---- */

enum kind {
        PLAIN,
        V1,
        V3,
        FC, /* v3 and a fast-commit area */
};

static const struct tj_format kinds[] = {
        [PLAIN] = {TJ_NONE, false, 1024, NR_BLOCKS, 0, 1, 7},
        [V1] = {TJ_V1, false, 1024, NR_BLOCKS, 0, 1, 7},
        [V3] = {TJ_V3, true, 1024, NR_BLOCKS, 0, 1, 7},
        [FC] = {TJ_V3, true, 1024, NR_BLOCKS, NR_FC, 1, 7},
};

/* Sealed again after the change, unless that is to the checksum. */
static const struct {
        const char *name;
        enum kind kind;
        struct {
                uint32_t at, value;
        } change[3];
        int want;
        const char *said;
} rows[] = {
        {"plain as made", PLAIN, {}, 0, NULL},
        {"v1 as made", V1, {}, 0, NULL},
        {"v3 as made", V3, {}, 0, NULL},
        {"fast commits as made", FC, {}, 0, NULL},
        {"magic", PLAIN, {{0, TJ_MAGIC + 1}}, -EUCLEAN, "magic"},
        {"a descriptor", PLAIN, {{4, TJ_DESCRIPTOR}}, -EUCLEAN, "another kind"},
        {"a type that there is not", PLAIN, {{4, 6}}, -EUCLEAN, "another kind"},
        {"block size 0", PLAIN, {{0x0c, 0}}, -EUCLEAN, "block size"},
        {"block size of others", V3, {{0x0c, 4096}}, -EUCLEAN, "block size"},
        {"longer than its place", PLAIN, {{0x10, NR_BLOCKS + 1}}, -EUCLEAN, "shorter"},
        {"as long as can be", V3, {{0x10, 0xffffffff}}, -EUCLEAN, "shorter"},
        {"shorter than its place", PLAIN, {{0x10, NR_BLOCKS - 1}}, 0, NULL},
        {"no length", PLAIN, {{0x10, 0}}, -EUCLEAN, "no blocks"},
        {"first 0", PLAIN, {{0x14, 0}}, -EUCLEAN, "no blocks"},
        {"first at the end", PLAIN, {{0x14, NR_BLOCKS}}, -EUCLEAN, "no blocks"},
        {"first far outside", PLAIN, {{0x14, 0xffffffff}}, -EUCLEAN, "no blocks"},
        {"first in the fast commits", FC, {{0x14, NR_BLOCKS - NR_FC}}, -EUCLEAN, "no blocks"},
        {"first is the last", PLAIN, {{0x14, NR_BLOCKS - 1}, {0x1c, NR_BLOCKS - 1}}, 0, NULL},
        {"start at the end", PLAIN, {{0x1c, NR_BLOCKS}}, -EUCLEAN, "begins outside"},
        {"start before first", PLAIN, {{0x14, 5}, {0x1c, 4}}, -EUCLEAN, "begins outside"},
        {"start far outside", V3, {{0x1c, 0xffffffff}}, -EUCLEAN, "begins outside"},
        {"start in the fast commits (J30)",
         FC,
         {{0x1c, NR_BLOCKS - NR_FC}},
         -EUCLEAN,
         "begins outside"},
        {"start in the last block", FC, {{0x1c, NR_BLOCKS - NR_FC - 1}}, 0, NULL},
        {"an unknown feature", PLAIN, {{0x28, 0x40}}, -EOPNOTSUPP, "0x40"},
        {"the highest feature", V3, {{0x28, 0x80000011}}, -EOPNOTSUPP, "0x80000000"},
        {"an unknown ro feature", V3, {{0x2c, 1}}, -EOPNOTSUPP, "feature"},
        {"an unknown ro feature, no other", PLAIN, {{0x28, 0}, {0x2c, 1}}, -EOPNOTSUPP, "feat"},
        {"an unknown compat feature", PLAIN, {{0x24, 0x80}}, 0, NULL},
        {"async commit", V3, {{0x28, 0x17}}, 0, NULL},
        {"v2 and v3 (J4)", V3, {{0x28, 0x19}}, -EUCLEAN, "v2 and v3"},
        {"v1 and v3 (J4)", V3, {{0x24, 1}}, -EUCLEAN, "two generations"},
        {"v1 and v2 (J4)", V3, {{0x24, 1}, {0x28, 0x09}}, -EUCLEAN, "two generations"},
        {"checksum type 1", V3, {{0x50, 0x01000000}}, -EOPNOTSUPP, "checksum type"},
        {"no checksum type", V3, {{0x50, 0}}, -EOPNOTSUPP, "checksum type"},
        {"checksum type that nobody needs", PLAIN, {{0x50, 0x01000000}}, 0, NULL},
        {"checksum", V3, {{0xfc, 0x12345678}}, -EBADMSG, "checksum"},
        {"checksum that nobody needs", PLAIN, {{0xfc, 0x12345678}}, 0, NULL},
        {"fast commits all over", FC, {{0x54, NR_BLOCKS}}, -EUCLEAN, "fast commits"},
        {"all but the superblock", FC, {{0x54, NR_BLOCKS - 1}}, -EUCLEAN, "no blocks"},
        {"fast commits without end", FC, {{0x54, 0xffffffff}}, -EUCLEAN, "fast commits"},
        {"as many fast commits as usual", FC, {{0x54, 0}}, -EUCLEAN, "fast commits"},
        {"fast commits without the feature", V3, {{0x54, NR_BLOCKS}}, 0, NULL},
        {"wiped (J3, J32)", PLAIN, {{0x1c, 0}}, 0, NULL},
        {"wiped, tid 0 (J3)", V3, {{0x1c, 0}, {0x18, 0}}, 0, NULL},
        {"version 1", PLAIN, {{4, TJ_SUPER_V1}}, 0, NULL},
        /* What is a feature in version 2 means nothing in version 1. */
        {"version 1, junk behind", PLAIN, {{4, TJ_SUPER_V1}, {0x28, 0xffffffff}}, 0, NULL},
        {"version 1, ro feature",
         PLAIN,
         {{4, TJ_SUPER_V1}, {0x28, 0}, {0x2c, 0xffffffff}},
         0,
         NULL},
};

static void test_super_verifier(void **state)
{
        for (size_t r = 0; r < ARRAY_LEN(rows); r++) {
                bool reseal = kinds[rows[r].kind].csum == TJ_V3;
                struct jbd2_journal j;
                struct world w;
                int ret;

                init(&w, &kinds[rows[r].kind]);
                for (size_t c = 0; c < 3 && (c == 0 || rows[r].change[c].at); c++) {
                        if (rows[r].change[c].at || rows[r].change[c].value)
                                tj_put32(w.mem + rows[r].change[c].at, rows[r].change[c].value);
                        reseal &= rows[r].change[c].at != 0xfc;
                }
                if (reseal)
                        tj_seal_super(w.mem);
                ret = open_journal(&w, NR_BLOCKS, &j);
                t_assert_row(rows[r].name, ret, rows[r].want);
                if (rows[r].said && !t_log_has(&w.log, rows[r].said))
                        fail_msg("%s: the log says '%s'", rows[r].name, w.log.text);
                if (ret == 0) {
                        t_assert_row(rows[r].name, jbd2_is_empty(&j),
                                     tj_get32(w.mem + 0x1c) == 0);
                        jbd2_close(&j);
                }
                done(&w);
        }
}

/* Any bit of a superblock with a checksum: never taken for good. */
static void test_super_bits(void **state)
{
        struct jbd2_journal j;
        struct world w;

        init(&w, &kinds[FC]);
        for (size_t bit = 0; bit < 1024 * 8; bit++) {
                /* The version and the feature say whether there is a checksum at all. */
                bool counts = bit / 8 != 0x07 && bit / 8 != 0x2b;
                int ret;

                w.mem[bit / 8] ^= 1 << bit % 8;
                ret = open_journal(&w, NR_BLOCKS, &j);
                assert_false(counts && ret == 0);
                if (ret == 0)
                        jbd2_close(&j);
                w.mem[bit / 8] ^= 1 << bit % 8;
        }
        done(&w);
}

static void test_no_blocks(void **state)
{
        struct jbd2_journal j;
        struct world w;

        init(&w, &kinds[PLAIN]);
        assert_int_equal(open_journal(&w, 0, &j), -EUCLEAN);
        done(&w);
}

static void test_geometry(void **state)
{
        struct jbd2_journal j;
        struct world w;

        init(&w, &kinds[FC]);
        assert_int_equal(open_journal(&w, NR_BLOCKS, &j), 0);
        assert_int_equal(j.first, 1);
        assert_int_equal(j.last, NR_BLOCKS - NR_FC);
        assert_int_equal(j.fc_first, NR_BLOCKS - NR_FC + 1); /* J14 */
        assert_int_equal(j.fc_last, NR_BLOCKS);
        assert_int_equal(jbd2_log_after(&j, 1, 3), 4);
        assert_int_equal(jbd2_log_after(&j, NR_BLOCKS - NR_FC - 1, 1), 1); /* J30 */
        assert_int_equal(jbd2_log_after(&j, 5, NR_BLOCKS - NR_FC - 1), 5);
        assert_int_equal(jbd2_log_after(&j, 5, 0xffffffff),
                         1 + (4 + 0xffffffff % (NR_BLOCKS - NR_FC - 1)) %
                                         (NR_BLOCKS - NR_FC - 1));
        jbd2_close(&j);
        done(&w);
}

/* ---- tags and records ---- */

#define HIGH 0x123400000000u

static const char plain_data[1024] = "as it is";
static const char magic_data[1024] = "\xc0\x3b\x39\x98";

static void check_tags(struct world *w, const struct jbd2_walk *walk,
                       const struct tj_copy copies[3])
{
        static const uint32_t log_blks[] = {NR_BLOCKS - 1, 1, 2};
        static const uint32_t flags[] = {
                0,
                JBD2_TAG_SAME_UUID | JBD2_TAG_ESCAPED,
                JBD2_TAG_SAME_UUID | JBD2_TAG_LAST,
        };
        struct jbd2_tag_iter tags;
        struct jbd2_tag_info tag;

        assert_int_equal(walk->type, JBD2_DESCRIPTOR);
        assert_int_equal(walk->tid, 0xffffffff);
        assert_int_equal(walk->blk, NR_BLOCKS - 2);
        assert_true(jbd2_tail_csum_ok(walk->j, walk->block));
        jbd2_tags(walk, &tags);
        for (int i = 0; i < 3; i++) {
                assert_true(jbd2_tag_next(&tags, &tag));
                assert_true(tag.fs_blk == copies[i].fs_blk);
                assert_int_equal(tag.log_blk, log_blks[i]);
                assert_int_equal(tag.flags, flags[i]);
                assert_true(jbd2_data_csum_ok(walk->j, tj_at(&w->j, tag.log_blk), walk->tid,
                                              tag.checksum));
        }
        assert_false(jbd2_tag_next(&tags, &tag));
}

static void check_revokes(const struct jbd2_walk *walk, const uint64_t revokes[2])
{
        struct jbd2_revoke_iter records;
        uint64_t blk;

        assert_int_equal(walk->type, JBD2_REVOKE);
        assert_int_equal(walk->blk, 3);
        assert_true(jbd2_tail_csum_ok(walk->j, walk->block));
        assert_int_equal(jbd2_revokes(walk, &records), 0);
        assert_true(jbd2_revoke_next(&records, &blk));
        assert_true(blk == revokes[0]);
        assert_true(jbd2_revoke_next(&records, &blk));
        assert_true(blk == revokes[1]);
        assert_false(jbd2_revoke_next(&records, &blk));
}

static void check_walk(enum tj_csum csum, bool is64)
{
        static const uint32_t sizes[TJ_NR_CSUM][2] = {{8, 12}, {8, 12}, {10, 14}, {16, 16}};
        const struct tj_format f = {csum, is64, 1024, NR_BLOCKS, 0, NR_BLOCKS - 2, 0xffffffff};
        uint64_t high = is64 ? HIGH : 0;
        const struct tj_copy copies[] = {
                {high + 5, plain_data, false},
                {high + 0xfffffffe, magic_data, false},
                {0, plain_data, false},
        };
        const uint64_t revokes[] = {high + 17, 18};
        struct jbd2_journal j;
        struct jbd2_walk walk;
        struct world w;

        init(&w, &f);
        tj_write_copies(&w.j, copies, 3);
        tj_write_revokes(&w.j, revokes, 2);
        tj_write_commit(&w.j);
        assert_int_equal(open_journal(&w, NR_BLOCKS, &j), 0);
        assert_int_equal(j.tag_size, sizes[csum][is64]);
        assert_int_equal(jbd2_walk_init(&walk, &j), 0);

        assert_int_equal(jbd2_walk_next(&walk), 1);
        check_tags(&w, &walk, copies);
        assert_int_equal(jbd2_walk_next(&walk), 1);
        check_revokes(&walk, revokes);
        assert_int_equal(jbd2_walk_next(&walk), 1);
        assert_int_equal(walk.type, JBD2_COMMIT);
        assert_true(csum == TJ_V1 || jbd2_commit_csum_ok(&j, walk.block));
        assert_int_equal(jbd2_walk_next(&walk), 0);
        assert_int_equal(walk.next_tid, 0); /* J3 */

        jbd2_walk_done(&walk);
        jbd2_close(&j);
        done(&w);
}

/* J5: what is in the log, field by field, for all kinds of tags; the log wraps. */
static void test_walk(void **state)
{
        for (int csum = TJ_NONE; csum < TJ_NR_CSUM; csum++) {
                check_walk(csum, false);
                check_walk(csum, true);
        }
}

/* A descriptor that is full to the brim ends by itself, with LAST_TAG or without. */
static void test_full_descriptor(void **state)
{
        for (int csum = TJ_NONE; csum < TJ_NR_CSUM; csum++) {
                for (int is64 = 0; is64 < 2; is64++) {
                        const struct tj_format f = {csum, is64, 1024, 256, 0, 1, 1};
                        struct tj_copy copies[256];
                        struct jbd2_tag_iter tags;
                        struct jbd2_tag_info tag;
                        struct jbd2_journal j;
                        struct jbd2_walk walk;
                        struct world w;
                        uint32_t max = tj_max_copies(&f);
                        uint32_t nr = 0;
                        uint8_t *desc;

                        for (uint32_t i = 0; i < max; i++)
                                copies[i] = (struct tj_copy){i, plain_data, false};
                        init(&w, &f);
                        desc = tj_write_copies(&w.j, copies, max);
                        /* the flags of the last tag, in each kind of tag */
                        desc[12 + 16 + (max - 1) * tj_tag_size(&f) + 7] &= ~TJ_LAST;
                        assert_int_equal(open_journal(&w, 256, &j), 0);
                        assert_int_equal(jbd2_walk_init(&walk, &j), 0);
                        assert_int_equal(jbd2_walk_next(&walk), 1);
                        jbd2_tags(&walk, &tags);
                        while (jbd2_tag_next(&tags, &tag)) {
                                assert_int_equal(tag.fs_blk, nr);
                                nr++;
                        }
                        assert_int_equal(nr, max);
                        assert_int_equal(walk.next_blk, 2 + max);
                        jbd2_walk_done(&walk);
                        jbd2_close(&j);
                        done(&w);
                }
        }
}

/* J12 */
static void test_revoke_counts(void **state)
{
        static const struct {
                enum tj_csum csum;
                bool is64;
                uint32_t count;
                int want;
                int nr;
        } counts[] = {
                {TJ_NONE, false, 0, -EUCLEAN, 0},
                {TJ_NONE, false, 15, -EUCLEAN, 0},
                {TJ_NONE, false, 16, 0, 0},
                {TJ_NONE, false, 19, 0, 0}, /* a part of a record is none */
                {TJ_NONE, false, 20, 0, 1},
                {TJ_NONE, true, 20, 0, 0},
                {TJ_NONE, true, 24, 0, 1},
                {TJ_NONE, false, 1024, 0, 252},
                {TJ_NONE, true, 1024, 0, 126},
                {TJ_NONE, false, 1025, -EUCLEAN, 0},
                {TJ_NONE, false, 0xffffffff, -EUCLEAN, 0},
                {TJ_V1, false, 1024, 0, 252},
                {TJ_V2, false, 1020, 0, 251},
                {TJ_V2, true, 1021, -EUCLEAN, 0},
                {TJ_V3, true, 1020, 0, 125},
                {TJ_V3, true, 1024, -EUCLEAN, 0},
                {TJ_V3, false, 0xfffffff0, -EUCLEAN, 0},
        };

        for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
                const struct tj_format f = {
                        counts[c].csum, counts[c].is64, 1024, NR_BLOCKS, 0, 1, 1};
                struct jbd2_revoke_iter it;
                struct jbd2_journal j;
                struct jbd2_walk walk;
                struct world w;
                uint64_t blk;
                int nr = 0;

                init(&w, &f);
                tj_put32(tj_write_revokes(&w.j, NULL, 0) + 12, counts[c].count);
                assert_int_equal(open_journal(&w, NR_BLOCKS, &j), 0);
                assert_int_equal(jbd2_walk_init(&walk, &j), 0);
                assert_int_equal(jbd2_walk_next(&walk), 1);
                assert_int_equal(jbd2_revokes(&walk, &it), counts[c].want);
                if (counts[c].want == 0) {
                        while (jbd2_revoke_next(&it, &blk))
                                nr++;
                        assert_int_equal(nr, counts[c].nr);
                }
                jbd2_walk_done(&walk);
                jbd2_close(&j);
                done(&w);
        }
}

/* ---- tids and the table ---- */

static void test_tids(void **state)
{
        assert_true(jbd2_tid_after(1, 0));
        assert_false(jbd2_tid_after(0, 1));
        assert_false(jbd2_tid_after(7, 7));
        assert_true(jbd2_tid_after(0, 0xffffffff)); /* 0 is a tid as any other */
        assert_false(jbd2_tid_after(0xffffffff, 0));
        assert_true(jbd2_tid_after(5, 0xfffffff0));
        assert_true(jbd2_tid_after(0x80000000, 1));
        assert_false(jbd2_tid_after(0x80000002, 1));
}

/* J28 */
static void test_revoke_table(void **state)
{
        struct jbd2_revoke_table *t;

        assert_int_equal(jbd2_revoke_table_new(&t), 0);
        assert_false(jbd2_is_revoked(t, 0, 0));
        assert_int_equal(jbd2_revoke_add(t, 0, 0), 0); /* block 0, tid 0 */
        assert_true(jbd2_is_revoked(t, 0, 0));
        assert_false(jbd2_is_revoked(t, 0, 1));
        assert_false(jbd2_is_revoked(t, 1, 0));

        /* The latest counts, in whatever order they come. */
        assert_int_equal(jbd2_revoke_add(t, 5, 10), 0);
        assert_int_equal(jbd2_revoke_add(t, 5, 12), 0);
        assert_int_equal(jbd2_revoke_add(t, 5, 11), 0);
        assert_true(jbd2_is_revoked(t, 5, 9));
        assert_true(jbd2_is_revoked(t, 5, 12));
        assert_false(jbd2_is_revoked(t, 5, 13));

        /* Around 2^32 (J3). */
        assert_int_equal(jbd2_revoke_add(t, HIGH, 0xfffffffe), 0);
        assert_int_equal(jbd2_revoke_add(t, HIGH, 1), 0);
        assert_int_equal(jbd2_revoke_add(t, HIGH, 0xffffffff), 0);
        assert_true(jbd2_is_revoked(t, HIGH, 0xfffffff0));
        assert_true(jbd2_is_revoked(t, HIGH, 0));
        assert_true(jbd2_is_revoked(t, HIGH, 1));
        assert_false(jbd2_is_revoked(t, HIGH, 2));
        jbd2_revoke_table_free(t);
}

/* J34; the allocation that grows the table may fail. */
static void test_revoke_table_grows(void **state)
{
        const uint64_t nr = 300000;
        struct jbd2_revoke_table *t;

        assert_int_equal(jbd2_revoke_table_new(&t), 0);
        for (uint64_t i = 0; i < nr; i++)
                assert_int_equal(jbd2_revoke_add(t, i * 32768, (uint32_t)i), 0);
        for (uint64_t i = 0; i < nr; i++) {
                assert_true(jbd2_is_revoked(t, i * 32768, (uint32_t)i));
                assert_false(jbd2_is_revoked(t, i * 32768, (uint32_t)i + 1));
                assert_false(jbd2_is_revoked(t, i * 32768 + 1, (uint32_t)i));
        }
        mem_fail_after(0);
        for (uint64_t i = nr; i < 2 * nr; i++) {
                int ret = jbd2_revoke_add(t, i * 32768, 1);

                if (ret == 0)
                        continue;
                assert_int_equal(ret, -ENOMEM);
                assert_true(jbd2_is_revoked(t, 0, 0));
                assert_false(jbd2_is_revoked(t, i * 32768, 1));
                jbd2_revoke_table_free(t);
                return;
        }
        fail_msg("no allocation failed");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_super_verifier),
                cmocka_unit_test(test_super_bits),
                cmocka_unit_test(test_no_blocks),
                cmocka_unit_test(test_geometry),
                cmocka_unit_test(test_walk),
                cmocka_unit_test(test_full_descriptor),
                cmocka_unit_test(test_revoke_counts),
                cmocka_unit_test(test_tids),
                cmocka_unit_test(test_revoke_table),
                cmocka_unit_test(test_revoke_table_grows),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
