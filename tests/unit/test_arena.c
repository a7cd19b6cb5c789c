/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The arena: pieces do not overlap, go together again, and are given back. */

#include <sys/resource.h>

#include "t_util.h"
#include "util/arena.h"

/* The sanitizers would end the program where malloc gives NULL. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
        return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
        return "allocator_may_return_null=1";
}

#define NR_CHUNKS  4u
#define MAX_PIECES (NR_CHUNKS * ARENA_CHUNK_SIZE / ARENA_MIN_SIZE)

/* ---- a model: who has which page ---- */

struct piece {
        char *ptr;
        uint32_t size;
};

struct model {
        struct arena arena;
        bool used[MAX_PIECES];               /* pages */
        struct piece pieces[MAX_PIECES + 1]; /* one that is tried */
        unsigned nr;
};

static struct model *model_new(uint64_t size)
{
        struct model *m = t_alloc(sizeof(*m));

        arena_init(&m->arena, size);
        return m;
}

/* Of whole pages, and a power of two of them. */
static uint32_t size_of(uint32_t wanted)
{
        uint32_t size = ARENA_MIN_SIZE;

        while (size < wanted)
                size *= 2;
        return size;
}

static void mark(struct model *m, const struct piece *p, bool value)
{
        const uint64_t at = (uint64_t)(p->ptr - m->arena.memory);

        for (uint64_t i = at; i < at + size_of(p->size); i += ARENA_MIN_SIZE) {
                assert_int_equal(m->used[i / ARENA_MIN_SIZE], !value);
                m->used[i / ARENA_MIN_SIZE] = value;
        }
}

static bool model_get(struct model *m, uint32_t size)
{
        struct piece *p = &m->pieces[m->nr];

        *p = (struct piece){arena_get(&m->arena, size), size};
        if (!p->ptr)
                return false;
        assert_true(arena_has(&m->arena, p->ptr));
        assert_int_equal((uintptr_t)p->ptr % size_of(size), 0);
        mark(m, p, true);
        p->ptr[0] = (char)m->nr;
        p->ptr[size - 1] = (char)size;
        m->nr++;
        return true;
}

static void model_put(struct model *m, unsigned i)
{
        struct piece *p = &m->pieces[i];

        assert_int_equal(p->ptr[p->size - 1], (char)p->size);
        mark(m, p, false);
        arena_put(&m->arena, p->ptr, p->size);
        *p = m->pieces[--m->nr];
}

static void model_put_all(struct model *m)
{
        while (m->nr > 0)
                model_put(m, m->nr - 1);
}

static void model_done(struct model *m)
{
        model_put_all(m);
        arena_done(&m->arena);
        free(m);
}

/* ---- tests ---- */

static void pieces_of_each_size_fill_it(void **state)
{
        struct model *m = model_new(NR_CHUNKS * ARENA_CHUNK_SIZE);

        for (uint32_t size = ARENA_MIN_SIZE; size <= ARENA_MAX_SIZE; size *= 2) {
                while (model_get(m, size))
                        ;
                assert_int_equal(m->nr, NR_CHUNKS * (ARENA_CHUNK_SIZE / size));
                model_put_all(m);
        }
        model_done(m);
}

static void random_pieces_do_not_overlap(void **state)
{
        struct model *m = model_new(NR_CHUNKS * ARENA_CHUNK_SIZE);
        uint64_t rand = t_seed();

        for (unsigned i = 0; i < 50000; i++) {
                const uint32_t most = ARENA_MIN_SIZE << t_below(&rand, 9);

                /* Rather more than less, then rather less: full, and nearly empty. */
                if (m->nr == 0 || t_below(&rand, 8) < (i / 2000 % 2 ? 3 : 5))
                        (void)model_get(m, most - (uint32_t)t_below(&rand, most / 2));
                else
                        model_put(m, (unsigned)t_below(&rand, m->nr));
        }
        model_put_all(m);
        while (model_get(m, ARENA_MAX_SIZE)) /* all of it has gone together again */
                ;
        assert_int_equal(m->nr, NR_CHUNKS * 2);
        model_done(m);
}

/* A chunk that is in use is used up before another one is begun. */
static void small_pieces_stay_together(void **state)
{
        struct model *m = model_new(NR_CHUNKS * ARENA_CHUNK_SIZE);

        for (unsigned i = 0; i < 3; i++)
                assert_true(model_get(m, ARENA_MAX_SIZE));
        model_put(m, 0);
        model_put(m, 1); /* what is left is in the second chunk, the first is empty */
        for (unsigned i = 0; i < ARENA_MAX_SIZE / ARENA_MIN_SIZE; i++)
                assert_true(model_get(m, 1));
        for (unsigned i = 0; i < m->nr; i++)
                assert_true(m->pieces[i].ptr >= m->arena.memory + ARENA_CHUNK_SIZE);
        model_done(m);
}

static void without_memory(void **state)
{
        struct model *m = model_new(0);
        char here;

        assert_null(arena_get(&m->arena, 4096));
        assert_false(arena_has(&m->arena, &here));
        model_done(m);
        m = model_new(1ull << 62); /* more address space than there is */
        assert_null(arena_get(&m->arena, 4096));
        model_done(m);
        m = model_new(1);
        mem_fail_after(0);
        assert_false(model_get(m, 4096));
        mem_fail_after(-1);
        assert_true(model_get(m, 4096));
        model_done(m);
}

/* Bytes of the process that the kernel may take when it needs memory. */
static unsigned long lazily_free(void)
{
        FILE *f = fopen("/proc/self/smaps_rollup", "r");
        char line[256];
        unsigned long kib = 0;

        while (f && fgets(line, sizeof(line), f)) {
                if (sscanf(line, "LazyFree: %lu", &kib) == 1)
                        break;
        }
        if (!f)
                skip();
        fclose(f);
        return kib << 10;
}

static void what_nobody_uses_is_given_back(void **state)
{
        struct model *m = model_new(NR_CHUNKS * ARENA_CHUNK_SIZE);
        const unsigned long before = lazily_free();

        while (model_get(m, ARENA_MAX_SIZE))
                memset(m->pieces[m->nr - 1].ptr + 1, 1, ARENA_MAX_SIZE - 2);
        assert_true(lazily_free() < before + ARENA_CHUNK_SIZE);
        model_put_all(m);
        assert_true(lazily_free() >= before + ARENA_CHUNK_SIZE);
        model_done(m);
}

static void used_again_it_costs_no_faults(void **state)
{
        struct model *m = model_new(NR_CHUNKS * ARENA_CHUNK_SIZE);
        struct rusage before, after;

        for (unsigned round = 0; round < 20; round++) {
                if (round == 2)
                        getrusage(RUSAGE_SELF, &before);
                while (model_get(m, ARENA_MAX_SIZE))
                        memset(m->pieces[m->nr - 1].ptr + 1, 1, ARENA_MAX_SIZE - 2);
                model_put_all(m);
        }
        getrusage(RUSAGE_SELF, &after);
        /* Without memory that stays it is one for each page, or large page, in each round. */
        assert_true(after.ru_minflt - before.ru_minflt < 18 * NR_CHUNKS / 2);
        model_done(m);
}

static void get_and_put(void *arg, unsigned n)
{
        struct arena *a = arg;
        char *mine[16] = {NULL};
        uint64_t rand = n;

        for (unsigned i = 0; i < 20000; i++) {
                const unsigned at = (unsigned)t_below(&rand, ARRAY_LEN(mine));
                const uint32_t size = ARENA_MIN_SIZE << at % 9;

                if (mine[at]) {
                        T_CHECK(mine[at][0] == (char)n && mine[at][size - 1] == (char)at);
                        arena_put(a, mine[at], size);
                        mine[at] = NULL;
                } else if ((mine[at] = arena_get(a, size))) {
                        mine[at][0] = (char)n;
                        mine[at][size - 1] = (char)at;
                }
        }
        for (unsigned at = 0; at < ARRAY_LEN(mine); at++) {
                if (mine[at])
                        arena_put(a, mine[at], ARENA_MIN_SIZE << at % 9);
        }
}

static void threads_share_it(void **state)
{
        struct arena a;

        arena_init(&a, NR_CHUNKS * ARENA_CHUNK_SIZE);
        t_run_threads(4, get_and_put, &a);
        arena_done(&a);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(pieces_of_each_size_fill_it),
                cmocka_unit_test(random_pieces_do_not_overlap),
                cmocka_unit_test(small_pieces_stay_together),
                cmocka_unit_test(without_memory),
                cmocka_unit_test(what_nobody_uses_is_given_back),
                cmocka_unit_test(used_again_it_costs_no_faults),
                cmocka_unit_test(threads_share_it),
        };

        return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
