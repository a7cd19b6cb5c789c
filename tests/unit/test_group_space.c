/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A group's free space as runs: a table of single changes, searches by hand, and random changes
 * against a plain array of bits, from which everything can be answered the slow way.
 */

#include "ext4/bitmap.h"
#include "ext4/group_space.h"
#include "t_util.h"

/* A set written as "2+3 9+1": runs of start and length. */
static void from_text(struct group_space *s, const char *text)
{
        struct group_run run;
        int n;

        *s = (struct group_space){};
        while (sscanf(text, "%u+%u %n", &run.start, &run.len, &n) == 2) {
                T_CHECK(group_space_reserve(s, 1) == 0);
                group_space_add(s, run);
                text += n;
        }
}

static void to_text(const struct group_space *s, char *text, size_t size)
{
        size_t used = 0;

        text[0] = '\0';
        for (uint32_t i = 0; i < s->nr; i++)
                used += (size_t)snprintf(text + used, size - used, "%s%u+%u", i ? " " : "",
                                         s->runs[i].start, s->runs[i].len);
}

enum op {
        ADD,
        TAKE
};

static const struct change {
        const char *name;
        const char *before;
        enum op op;
        struct group_run run;
        const char *after;
} changes[] = {
        {"first run", "", ADD, {5, 2}, "5+2"},
        {"before all", "5+2", ADD, {0, 3}, "0+3 5+2"},
        {"behind all", "5+2", ADD, {9, 1}, "5+2 9+1"},
        {"between", "0+1 9+1", ADD, {4, 2}, "0+1 4+2 9+1"},
        {"touching the left", "2+3 9+1", ADD, {5, 2}, "2+5 9+1"},
        {"touching the right", "2+3 9+1", ADD, {8, 1}, "2+3 8+2"},
        {"filling the gap", "2+3 9+1", ADD, {5, 4}, "2+8"},
        {"filling a gap among others", "0+1 2+3 9+1 12+4", ADD, {5, 4}, "0+1 2+8 12+4"},
        {"all of the only run", "5+2", TAKE, {5, 2}, ""},
        {"all of a run among others", "0+1 5+2 9+1", TAKE, {5, 2}, "0+1 9+1"},
        {"head", "5+4", TAKE, {5, 1}, "6+3"},
        {"tail", "5+4", TAKE, {7, 2}, "5+2"},
        {"middle", "5+4", TAKE, {6, 2}, "5+1 8+1"},
        {"middle among others", "0+1 5+4 12+1", TAKE, {6, 1}, "0+1 5+1 7+2 12+1"},
};

static void single_changes(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
                const struct change *c = &changes[i];
                struct group_space s;
                char text[128];

                from_text(&s, c->before);
                assert_int_equal(group_space_reserve(&s, 1), 0);
                if (c->op == ADD)
                        group_space_add(&s, c->run);
                else
                        group_space_take(&s, c->run);
                to_text(&s, text, sizeof(text));
                if (strcmp(text, c->after) != 0)
                        fail_msg("%s: got '%s', want '%s'", c->name, text, c->after);
                group_space_done(&s);
        }
}

enum search {
        AT,
        FIRST,
        TIGHT
};

static const struct question {
        const char *set;
        enum search search;
        uint32_t len; /* of AT: the place */
        uint32_t from;
        struct group_run want;
} questions[] = {
        {"2+3 9+4", AT, 2, 0, {2, 3}},
        {"2+3 9+4", AT, 4, 0, {4, 1}},
        {"2+3 9+4", AT, 5, 0, {5, 0}},
        {"2+3 9+4", AT, 20, 0, {20, 0}},
        {"2+3 9+4 20+3", FIRST, 3, 0, {2, 3}},
        {"2+3 9+4 20+3", FIRST, 3, 3, {9, 4}},   /* the rest of the first is too short */
        {"2+3 9+4 20+3", FIRST, 3, 10, {10, 3}}, /* from there on, not from the start */
        {"2+3 9+4 20+3", FIRST, 3, 11, {20, 3}},
        {"2+3 9+4 20+3", FIRST, 3, 30, {2, 3}}, /* round */
        {"2+3 9+4", FIRST, 4, 10, {9, 4}},      /* all of the run that covers `from` */
        {"2+3 9+4", FIRST, 5, 0, {0, 0}},
        {"", FIRST, 1, 0, {0, 0}},
        {"2+5 9+4 20+3 30+3", TIGHT, 3, 0, {20, 3}},
        {"2+5 9+4 20+3", TIGHT, 4, 0, {9, 4}},
        {"2+7 20+6 40+5", TIGHT, 4, 0, {40, 5}},
        {"2+5", TIGHT, 6, 0, {0, 0}},
};

static void searches(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(questions); i++) {
                const struct question *q = &questions[i];
                struct group_space s;
                struct group_run got;

                from_text(&s, q->set);
                if (q->search == AT)
                        got = group_space_at(&s, q->len);
                else if (q->search == FIRST)
                        got = group_space_first(&s, q->len, q->from);
                else
                        got = group_space_tight(&s, q->len);
                if (got.start != q->want.start || got.len != q->want.len)
                        fail_msg("row %zu: got %u+%u, want %u+%u", i, got.start, got.len,
                                 q->want.start, q->want.len);
                group_space_done(&s);
        }
}

static void building_from_a_bitmap(void **state)
{
        uint8_t bits[16];
        struct group_space s = {};
        char text[64];

        memset(bits, 0xff, sizeof(bits));
        ext4_bits_clear(bits, 0, 1);
        ext4_bits_clear(bits, 62, 4);
        ext4_bits_clear(bits, 99, 20); /* some of it behind the end */
        assert_int_equal(group_space_build(&s, bits, 100), 0);
        to_text(&s, text, sizeof(text));
        assert_string_equal(text, "0+1 62+4 99+1");
        assert_int_equal(s.total, 6);
        assert_int_equal(group_space_longest(&s), 4);
        group_space_done(&s);
}

static void no_memory_changes_nothing(void **state)
{
        struct group_space s;
        char text[64];

        from_text(&s, "1+1 3+1");
        mem_fail_after(0);
        assert_int_equal(group_space_reserve(&s, 1000), -ENOMEM);
        mem_fail_after(-1);
        to_text(&s, text, sizeof(text));
        assert_string_equal(text, "1+1 3+1");
        group_space_done(&s);
}

/* ---- against bits ---- */

#define NR_BITS 512

static void assert_same(struct group_space *s, const bool *bits)
{
        uint32_t longest = 0;
        uint32_t total = 0;
        uint32_t i = 0;

        for (uint32_t at = 0; at < NR_BITS;) {
                uint32_t end = at;

                while (end < NR_BITS && bits[end])
                        end++;
                if (end > at) {
                        assert_true(i < s->nr);
                        assert_int_equal(s->runs[i].start, at);
                        assert_int_equal(s->runs[i].len, end - at);
                        longest = max_t(uint32_t, longest, end - at);
                        total += end - at;
                        i++;
                }
                at = end + 1;
        }
        assert_int_equal(s->nr, i);
        assert_int_equal(s->total, total);
        assert_true(s->longest >= longest);
        assert_int_equal(group_space_longest(s), longest);
}

/* A stretch that is all free or all in use, as `value` says, in bits. */
static bool random_run(uint64_t *rng, const bool *bits, bool value, struct group_run *ret_run)
{
        uint32_t start = (uint32_t)t_below(rng, NR_BITS);
        uint32_t most = 1 + (uint32_t)t_below(rng, 24);
        uint32_t len = 0;

        while (len < most && start + len < NR_BITS && bits[start + len] == value)
                len++;
        *ret_run = (struct group_run){start, len};
        return len > 0;
}

static void random_changes(void **state)
{
        static bool bits[NR_BITS];
        uint64_t rng = t_seed();
        struct group_space s = {};

        memset(bits, 0, sizeof(bits));
        for (unsigned round = 0; round < 50000; round++) {
                bool add = t_below(&rng, 2);
                struct group_run probe = {(uint32_t)t_below(&rng, NR_BITS - 8),
                                          1 + (uint32_t)t_below(&rng, 8)};
                bool meets = false;
                struct group_run run;

                if (!random_run(&rng, bits, !add, &run))
                        continue;
                assert_int_equal(group_space_reserve(&s, 1), 0);
                if (add)
                        group_space_add(&s, run);
                else
                        group_space_take(&s, run);
                for (uint32_t i = 0; i < run.len; i++)
                        bits[run.start + i] = add;
                for (uint32_t i = 0; i < probe.len; i++)
                        meets |= bits[probe.start + i];
                assert_int_equal(group_space_overlaps(&s, probe), meets);
                assert_int_equal(group_space_at(&s, probe.start).len > 0, bits[probe.start]);
                if (round % 16 == 0)
                        assert_same(&s, bits);
        }
        assert_same(&s, bits);
        group_space_done(&s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(single_changes),
                cmocka_unit_test(searches),
                cmocka_unit_test(building_from_a_bitmap),
                cmocka_unit_test(no_memory_changes_nothing),
                cmocka_unit_test(random_changes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
