/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The extent status cache, against an array that knows the state of every block.  The cache may
 * know less than the array (it may forget), never something else.
 */

#include "t_fs.h"

struct cache {
        struct ext4_es es;
        _Atomic uint64_t total;
};

static void cache_init(struct cache *c)
{
        ext4_es_init(&c->es);
        atomic_init(&c->total, 0);
}

static void cache_done(struct cache *c)
{
        ext4_es_clear(&c->es, &c->total);
        T_CHECK(atomic_load(&c->total) == 0 && c->es.nr == 0);
        rwsem_done(&c->es.lock);
}

static void insert(struct cache *c, uint32_t lblk, uint64_t len, uint64_t pblk,
                   enum ext4_map_type type)
{
        const struct ext4_map map = {lblk, len, pblk, type};

        ext4_es_insert(&c->es, &map, &c->total);
}

static void assert_found(struct cache *c, uint32_t at, struct ext4_map want)
{
        struct ext4_map got;

        assert_true(ext4_es_lookup(&c->es, at, &got));
        assert_int_equal(got.lblk, want.lblk);
        assert_int_equal(got.len, want.len);
        assert_int_equal(got.type, want.type);
        if (want.type != EXT4_MAP_HOLE)
                assert_int_equal(got.pblk, want.pblk);
}

static void assert_unknown(struct cache *c, uint32_t at)
{
        struct ext4_map got;

        assert_false(ext4_es_lookup(&c->es, at, &got));
}

/* ---- cases ---- */

static void empty_cache_knows_nothing(void **state)
{
        struct cache c;

        cache_init(&c);
        assert_unknown(&c, 0);
        assert_unknown(&c, EXT4_MAX_LBLK);
        cache_done(&c);
}

static void entry_is_found_inside_only(void **state)
{
        struct cache c;

        cache_init(&c);
        insert(&c, 100, 10, 5000, EXT4_MAP_WRITTEN);
        assert_unknown(&c, 99);
        assert_found(&c, 100, (struct ext4_map){100, 10, 5000, EXT4_MAP_WRITTEN});
        assert_found(&c, 105, (struct ext4_map){100, 10, 5000, EXT4_MAP_WRITTEN});
        assert_found(&c, 109, (struct ext4_map){100, 10, 5000, EXT4_MAP_WRITTEN});
        assert_unknown(&c, 110);
        assert_int_equal(c.es.nr, 1);
        cache_done(&c);
}

static void unknown_between_entries_is_no_hole(void **state)
{
        struct cache c;

        cache_init(&c);
        insert(&c, 0, 1, 50, EXT4_MAP_WRITTEN);
        insert(&c, 2, 1, 52, EXT4_MAP_WRITTEN);
        assert_unknown(&c, 1);
        assert_int_equal(c.es.nr, 2);
        cache_done(&c);
}

/* Two neighbours in the file, and whether they become one entry. */
static const struct {
        const char *name;
        struct ext4_map a, b;
        bool merges;
} neighbours[] = {
        {"written, in one piece on disk",
         {10, 5, 100, EXT4_MAP_WRITTEN},
         {15, 3, 105, EXT4_MAP_WRITTEN},
         true},
        {"unwritten, in one piece",
         {10, 5, 100, EXT4_MAP_UNWRITTEN},
         {15, 3, 105, EXT4_MAP_UNWRITTEN},
         true},
        {"holes", {10, 5, 0, EXT4_MAP_HOLE}, {15, 3, 0, EXT4_MAP_HOLE}, true},
        {"holes with something in pblk",
         {10, 5, 7, EXT4_MAP_HOLE},
         {15, 3, 99, EXT4_MAP_HOLE},
         true},
        {"a gap on disk",
         {10, 5, 100, EXT4_MAP_WRITTEN},
         {15, 3, 106, EXT4_MAP_WRITTEN},
         false},
        {"backwards on disk",
         {10, 5, 100, EXT4_MAP_WRITTEN},
         {15, 3, 97, EXT4_MAP_WRITTEN},
         false},
        {"the same place on disk",
         {10, 5, 100, EXT4_MAP_WRITTEN},
         {15, 5, 100, EXT4_MAP_WRITTEN},
         false},
        {"a gap in the file",
         {10, 5, 100, EXT4_MAP_WRITTEN},
         {16, 3, 106, EXT4_MAP_WRITTEN},
         false},
        {"written, then unwritten",
         {10, 5, 100, EXT4_MAP_WRITTEN},
         {15, 3, 105, EXT4_MAP_UNWRITTEN},
         false},
        {"unwritten, then written",
         {10, 5, 100, EXT4_MAP_UNWRITTEN},
         {15, 3, 105, EXT4_MAP_WRITTEN},
         false},
        {"a hole, then written",
         {10, 5, 100, EXT4_MAP_HOLE},
         {15, 3, 105, EXT4_MAP_WRITTEN},
         false},
        {"written, then a hole",
         {10, 5, 100, EXT4_MAP_WRITTEN},
         {15, 3, 105, EXT4_MAP_HOLE},
         false},
};

static void neighbours_become_one_when_they_continue_each_other(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(neighbours); i++) {
                const struct ext4_map *a = &neighbours[i].a, *b = &neighbours[i].b;

                for (int swap = 0; swap < 2; swap++) { /* in either order of insertion */
                        struct cache c;

                        cache_init(&c);
                        ext4_es_insert(&c.es, swap ? b : a, &c.total);
                        ext4_es_insert(&c.es, swap ? a : b, &c.total);
                        t_assert_row(neighbours[i].name, c.es.nr, neighbours[i].merges ? 1 : 2);
                        t_assert_row(neighbours[i].name, atomic_load(&c.total), c.es.nr);
                        if (neighbours[i].merges) {
                                struct ext4_map want = *a;

                                want.len += b->len;
                                assert_found(&c, a->lblk, want);
                                assert_found(&c, b->lblk, want);
                        } else {
                                assert_found(&c, a->lblk, *a);
                                assert_found(&c, b->lblk, *b);
                        }
                        cache_done(&c);
                }
        }
}

static void missing_piece_joins_both_sides(void **state)
{
        struct cache c;

        cache_init(&c);
        insert(&c, 0, 10, 1000, EXT4_MAP_WRITTEN);
        insert(&c, 20, 10, 1020, EXT4_MAP_WRITTEN);
        assert_int_equal(c.es.nr, 2);
        insert(&c, 10, 10, 1010, EXT4_MAP_WRITTEN);
        assert_int_equal(c.es.nr, 1);
        assert_found(&c, 15, (struct ext4_map){0, 30, 1000, EXT4_MAP_WRITTEN});
        cache_done(&c);
}

static void known_fact_again_changes_nothing(void **state)
{
        struct cache c;

        cache_init(&c);
        insert(&c, 0, 100, 1000, EXT4_MAP_WRITTEN);
        insert(&c, 0, 100, 1000, EXT4_MAP_WRITTEN);
        insert(&c, 40, 20, 1040, EXT4_MAP_WRITTEN);
        assert_int_equal(c.es.nr, 1);
        assert_found(&c, 0, (struct ext4_map){0, 100, 1000, EXT4_MAP_WRITTEN});
        cache_done(&c);
}

static void larger_fact_replaces_its_pieces(void **state)
{
        struct cache c;

        cache_init(&c);
        for (uint32_t i = 0; i < 10; i++)
                insert(&c, 10 * i, 5, 1000 + 10 * i, EXT4_MAP_WRITTEN);
        assert_int_equal(c.es.nr, 10);
        insert(&c, 0, 100, 1000, EXT4_MAP_WRITTEN);
        assert_int_equal(c.es.nr, 1);
        assert_found(&c, 57, (struct ext4_map){0, 100, 1000, EXT4_MAP_WRITTEN});
        cache_done(&c);
}

static void hole_of_a_whole_file_is_one_entry(void **state) /* C43: 64-bit lengths */
{
        struct cache c;

        cache_init(&c);
        insert(&c, 0, EXT4_NR_LBLKS, 0, EXT4_MAP_HOLE);
        assert_found(&c, EXT4_MAX_LBLK, (struct ext4_map){0, EXT4_NR_LBLKS, 0, EXT4_MAP_HOLE});
        cache_done(&c);

        cache_init(&c);
        insert(&c, EXT4_MAX_LBLK, 1, 77, EXT4_MAP_WRITTEN);
        insert(&c, 0, EXT4_MAX_LBLK, 0, EXT4_MAP_HOLE);
        assert_int_equal(c.es.nr, 2);
        assert_found(&c, EXT4_MAX_LBLK,
                     (struct ext4_map){EXT4_MAX_LBLK, 1, 77, EXT4_MAP_WRITTEN});
        assert_unknown(&c, UINT32_MAX);
        cache_done(&c);
}

static void clear_forgets_and_counts_down(void **state)
{
        struct cache c;

        cache_init(&c);
        atomic_store(&c.total, 5); /* those of other inodes */
        for (uint32_t i = 0; i < 100; i++)
                insert(&c, 2 * i, 1, 7, EXT4_MAP_WRITTEN);
        assert_int_equal(atomic_load(&c.total), 105);
        ext4_es_clear(&c.es, &c.total);
        assert_int_equal(atomic_load(&c.total), 5);
        assert_unknown(&c, 0);
        atomic_store(&c.total, 0);
        cache_done(&c);
}

static void shrinking_goes_round(void **state)
{
        struct cache c;

        cache_init(&c);
        atomic_store(&c.total, 5); /* those of other inodes */
        for (uint32_t i = 0; i < 10; i++)
                insert(&c, 2 * i, 1, 7, EXT4_MAP_WRITTEN);
        ext4_es_shrink(&c.es, 4, &c.total);
        assert_int_equal(c.es.nr, 6);
        assert_int_equal(atomic_load(&c.total), 11);
        for (uint32_t i = 0; i < 10; i++) {
                if (i < 4)
                        assert_unknown(&c, 2 * i);
                else
                        assert_found(&c, 2 * i,
                                     (struct ext4_map){2 * i, 1, 7, EXT4_MAP_WRITTEN});
        }
        insert(&c, 0, 1, 7, EXT4_MAP_WRITTEN); /* what came back is the last to go */
        ext4_es_shrink(&c.es, 6, &c.total);
        assert_int_equal(c.es.nr, 1);
        assert_found(&c, 0, (struct ext4_map){0, 1, 7, EXT4_MAP_WRITTEN});
        ext4_es_shrink(&c.es, 6, &c.total);
        ext4_es_shrink(&c.es, 6, &c.total);
        assert_int_equal(atomic_load(&c.total), 5);
        atomic_store(&c.total, 0);
        cache_done(&c);
}

static void without_memory_it_knows_less_but_nothing_wrong(void **state)
{
        struct cache c;

        cache_init(&c);
        insert(&c, 0, 10, 1000, EXT4_MAP_WRITTEN);
        mem_fail_after(0);
        insert(&c, 50, 10, 2000, EXT4_MAP_WRITTEN);
        mem_fail_after(-1);
        assert_unknown(&c, 50);
        assert_found(&c, 0, (struct ext4_map){0, 10, 1000, EXT4_MAP_WRITTEN});
        mem_fail_after(0);
        insert(&c, 10, 10, 1010, EXT4_MAP_WRITTEN); /* would join */
        mem_fail_after(-1);
        assert_unknown(&c, 10);
        insert(&c, 0, 20, 1000, EXT4_MAP_WRITTEN);
        assert_found(&c, 19, (struct ext4_map){0, 20, 1000, EXT4_MAP_WRITTEN});
        cache_done(&c);
}

/* ---- against a model ---- */

#define NR_BLKS 300

struct model {
        struct ext4_map of[NR_BLKS]; /* the truth: len 1 each */
        bool known[NR_BLKS];         /* was inserted at least once */
};

/* A truth with extents that often continue each other. */
static void model_fill(struct model *m, uint64_t *seed)
{
        uint32_t i = 0;

        memset(m, 0, sizeof(*m));
        while (i < NR_BLKS) {
                enum ext4_map_type type = (enum ext4_map_type)t_below(seed, 3);
                uint64_t pblk = t_below(seed, 2) && i > 0 ? m->of[i - 1].pblk + 1
                                                          : 1000 * (1 + t_below(seed, 90));
                uint64_t len = 1 + t_below(seed, 12);

                for (; len > 0 && i < NR_BLKS; len--, i++)
                        m->of[i] = (struct ext4_map){i, 1, pblk++, type};
        }
}

static bool model_continues(const struct model *m, uint32_t i)
{
        const struct ext4_map *a = &m->of[i], *b = &m->of[i + 1];

        return a->type == b->type && (a->type == EXT4_MAP_HOLE || a->pblk + 1 == b->pblk);
}

/* A true statement about block `at` and some of its surroundings. */
static struct ext4_map model_fact(const struct model *m, uint32_t at, uint64_t *seed)
{
        struct ext4_map map = m->of[at];
        uint32_t end = at + 1;

        while (map.lblk > 0 && model_continues(m, map.lblk - 1) && t_below(seed, 5))
                map = m->of[map.lblk - 1];
        while (end < NR_BLKS && model_continues(m, end - 1) && t_below(seed, 5))
                end++;
        map.len = end - map.lblk;
        return map;
}

static void assert_true_of(const struct model *m, const struct ext4_map *map)
{
        for (uint64_t i = 0; i < map->len; i++) {
                const struct ext4_map *truth = &m->of[map->lblk + i];

                assert_int_equal(map->type, truth->type);
                if (map->type != EXT4_MAP_HOLE)
                        assert_int_equal(map->pblk + i, truth->pblk);
                assert_true(m->known[map->lblk + i]);
        }
}

/* Entries are disjoint and in order, and no two continue each other. */
static void assert_tree_sound(struct cache *c, const struct model *m)
{
        uint64_t end = 0;
        uint32_t nr = 0;

        for (uint32_t i = 0; i < NR_BLKS; nr++) {
                struct ext4_map map;

                if (!ext4_es_lookup(&c->es, i, &map)) {
                        i++;
                        nr--;
                        continue;
                }
                assert_int_equal(map.lblk, i);
                assert_true_of(m, &map);
                if (nr > 0 && end == map.lblk)
                        assert_false(model_continues(m, map.lblk - 1));
                end = map.lblk + map.len;
                i = (uint32_t)end;
        }
        assert_int_equal(nr, c->es.nr);
        assert_int_equal(nr, atomic_load(&c->total));
}

static void random_facts_stay_true(void **state)
{
        uint64_t seed = t_seed();

        for (int round = 0; round < 200; round++) {
                struct cache c;
                struct model m;

                cache_init(&c);
                model_fill(&m, &seed);
                for (int i = 0; i < 150; i++) {
                        uint32_t at = (uint32_t)t_below(&seed, NR_BLKS);
                        struct ext4_map fact = model_fact(&m, at, &seed);
                        struct ext4_map got;

                        for (uint64_t j = 0; j < fact.len; j++)
                                m.known[fact.lblk + j] = true;
                        ext4_es_insert(&c.es, &fact, &c.total);
                        /* What was just said is known, all of it in one entry. */
                        assert_true(ext4_es_lookup(&c.es, at, &got));
                        assert_in_range(fact.lblk, got.lblk, got.lblk + got.len);
                        assert_in_range(fact.lblk + fact.len, got.lblk, got.lblk + got.len);
                        assert_tree_sound(&c, &m);
                        if (t_below(&seed, 60) == 0) {
                                ext4_es_clear(&c.es, &c.total);
                                memset(m.known, 0, sizeof(m.known));
                        }
                }
                cache_done(&c);
        }
}

/* ---- changes of the map (C37, C38) ---- */

static void forgetting_the_middle_keeps_both_ends(void **state)
{
        struct cache c;

        cache_init(&c);
        insert(&c, 100, 50, 5000, EXT4_MAP_WRITTEN);
        ext4_es_forget(&c.es, 110, 130, &c.total);
        assert_found(&c, 100, (struct ext4_map){100, 10, 5000, EXT4_MAP_WRITTEN});
        assert_unknown(&c, 110);
        assert_unknown(&c, 129);
        assert_found(&c, 130, (struct ext4_map){130, 20, 5030, EXT4_MAP_WRITTEN});
        assert_int_equal(c.es.nr, 2);
        cache_done(&c);
}

static void forgetting_takes_what_lies_inside_and_cuts_what_touches(void **state)
{
        struct cache c;

        cache_init(&c);
        insert(&c, 0, 10, 100, EXT4_MAP_WRITTEN);
        insert(&c, 20, 10, 200, EXT4_MAP_UNWRITTEN);
        insert(&c, 40, 10, 300, EXT4_MAP_WRITTEN);
        insert(&c, 60, EXT4_NR_LBLKS - 60, 0, EXT4_MAP_HOLE);
        ext4_es_forget(&c.es, 5, 45, &c.total);
        assert_found(&c, 4, (struct ext4_map){0, 5, 100, EXT4_MAP_WRITTEN});
        assert_unknown(&c, 5);
        assert_unknown(&c, 20);
        assert_found(&c, 45, (struct ext4_map){45, 5, 305, EXT4_MAP_WRITTEN});
        ext4_es_forget(&c.es, 47, EXT4_NR_LBLKS, &c.total);
        assert_found(&c, 46, (struct ext4_map){45, 2, 305, EXT4_MAP_WRITTEN});
        assert_unknown(&c, 60);
        assert_unknown(&c, EXT4_MAX_LBLK);
        ext4_es_forget(&c.es, 0, EXT4_NR_LBLKS, &c.total);
        assert_int_equal(c.es.nr, 0);
        cache_done(&c);
}

static void change_is_all_that_is_known_of_its_range(void **state)
{
        const struct ext4_map new = {30, 10, 900, EXT4_MAP_UNWRITTEN};
        struct cache c;

        cache_init(&c);
        insert(&c, 0, 1000, 0, EXT4_MAP_HOLE);
        ext4_es_set(&c.es, &new, &c.total);
        assert_found(&c, 0, (struct ext4_map){0, 30, 0, EXT4_MAP_HOLE});
        assert_found(&c, 35, new);
        assert_found(&c, 40, (struct ext4_map){40, 960, 0, EXT4_MAP_HOLE});
        assert_int_equal(c.es.nr, 3);
        cache_done(&c);
}

static void each_change_is_counted_and_nothing_else(void **state)
{
        const struct ext4_map new = {3, 1, 900, EXT4_MAP_WRITTEN};
        struct ext4_map got;
        struct cache c;
        uint64_t seq;

        cache_init(&c);
        seq = ext4_es_seq(&c.es);
        insert(&c, 0, 10, 500, EXT4_MAP_WRITTEN);
        assert_true(ext4_es_lookup(&c.es, 3, &got));
        ext4_es_clear(&c.es, &c.total);
        assert_int_equal(ext4_es_seq(&c.es), seq);
        ext4_es_forget(&c.es, 0, 1, &c.total); /* also when nothing was known */
        assert_int_equal(ext4_es_seq(&c.es), seq + 1);
        ext4_es_set(&c.es, &new, &c.total);
        assert_int_equal(ext4_es_seq(&c.es), seq + 2);
        cache_done(&c);
}

/* The truth changes with the cache: what it says stays true of the map as it is now. */
static void random_changes_leave_nothing_false(void **state)
{
        uint64_t seed = t_seed();

        for (int round = 0; round < 200; round++) {
                struct cache c;
                struct model m;

                cache_init(&c);
                model_fill(&m, &seed);
                for (int i = 0; i < 150; i++) {
                        uint32_t at = (uint32_t)t_below(&seed, NR_BLKS);
                        struct ext4_map map = model_fact(&m, at, &seed);

                        if (t_below(&seed, 3) > 0) {
                                ext4_es_insert(&c.es, &map, &c.total);
                        } else if (t_below(&seed, 2) == 0) {
                                ext4_es_forget(&c.es, map.lblk, map.lblk + map.len, &c.total);
                        } else {
                                map.type = EXT4_MAP_UNWRITTEN;
                                map.pblk = 1000000 + t_below(&seed, 1000);
                                for (uint64_t j = 0; j < map.len; j++)
                                        m.of[map.lblk + j] =
                                                (struct ext4_map){map.lblk + (uint32_t)j, 1,
                                                                  map.pblk + j, map.type};
                                ext4_es_set(&c.es, &map, &c.total);
                        }
                        memset(m.known, true, sizeof(m.known));
                        assert_tree_sound(&c, &m);
                }
                cache_done(&c);
        }
}

/* ---- threads ---- */

struct shared {
        struct cache c;
        struct model m;
        uint64_t seed;
};

static void check_truth(const struct model *m, const struct ext4_map *map)
{
        for (uint64_t i = 0; i < map->len; i++) {
                T_CHECK(map->type == m->of[map->lblk + i].type);
                T_CHECK(map->type == EXT4_MAP_HOLE ||
                        map->pblk + i == m->of[map->lblk + i].pblk);
        }
}

static void insert_and_look_up(void *arg, unsigned n)
{
        struct shared *s = arg;
        uint64_t seed = s->seed + n;

        for (int i = 0; i < 4000; i++) {
                uint32_t at = (uint32_t)t_below(&seed, NR_BLKS);
                struct ext4_map map;

                if (n == 0 && i % 500 == 499)
                        ext4_es_clear(&s->c.es, &s->c.total);
                if (ext4_es_lookup(&s->c.es, at, &map)) {
                        T_CHECK(map.lblk <= at && at < map.lblk + map.len);
                        check_truth(&s->m, &map);
                } else {
                        map = model_fact(&s->m, at, &seed);
                        ext4_es_insert(&s->c.es, &map, &s->c.total);
                }
        }
}

static void threads_that_say_the_same_agree(void **state)
{
        struct shared *s = t_alloc(sizeof(*s));

        s->seed = t_seed();
        cache_init(&s->c);
        model_fill(&s->m, &s->seed);
        memset(s->m.known, true, sizeof(s->m.known));
        t_run_threads(4, insert_and_look_up, s);
        assert_tree_sound(&s->c, &s->m);
        cache_done(&s->c);
        free(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(empty_cache_knows_nothing),
                cmocka_unit_test(entry_is_found_inside_only),
                cmocka_unit_test(unknown_between_entries_is_no_hole),
                cmocka_unit_test(neighbours_become_one_when_they_continue_each_other),
                cmocka_unit_test(missing_piece_joins_both_sides),
                cmocka_unit_test(known_fact_again_changes_nothing),
                cmocka_unit_test(larger_fact_replaces_its_pieces),
                cmocka_unit_test(hole_of_a_whole_file_is_one_entry),
                cmocka_unit_test(clear_forgets_and_counts_down),
                cmocka_unit_test(shrinking_goes_round),
                cmocka_unit_test(without_memory_it_knows_less_but_nothing_wrong),
                cmocka_unit_test(random_facts_stay_true),
                cmocka_unit_test(forgetting_the_middle_keeps_both_ends),
                cmocka_unit_test(forgetting_takes_what_lies_inside_and_cuts_what_touches),
                cmocka_unit_test(change_is_all_that_is_known_of_its_range),
                cmocka_unit_test(each_change_is_counted_and_nothing_else),
                cmocka_unit_test(random_changes_leave_nothing_false),
                cmocka_unit_test(threads_that_say_the_same_agree),
        };

        return cmocka_run_group_tests_name("extent_status", tests, NULL, NULL);
}
