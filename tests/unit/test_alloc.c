/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Memory: failing on purpose, and products that overflow. */

#include "t_util.h"

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

static void fail_after_counts_down_and_fails_once(void **state)
{
        for (int n = 0; n < 4; n++) {
                mem_fail_after(n);
                for (int i = 0; i < 6; i++) {
                        void *p = mem_alloc(16);

                        if ((p == NULL) != (i == n))
                                fail_msg("after %d: allocation %d gave %p", n, i, p);
                        mem_free(p);
                }
        }
}

static void negative_turns_failing_off(void **state)
{
        mem_fail_after(0);
        mem_fail_after(-1);
        for (int i = 0; i < 4; i++) {
                void *p = mem_alloc(1);

                assert_non_null(p);
                mem_free(p);
        }
}

static void every_kind_of_allocation_can_fail(void **state)
{
        mem_fail_after(0);
        assert_null(mem_alloc(8));
        mem_fail_after(0);
        assert_null(mem_zalloc(8));
        mem_fail_after(0);
        assert_null(mem_array(2, 8));
        mem_fail_after(0);
        assert_null(mem_alloc_aligned(64, 8));
}

static void array_whose_size_overflows_is_refused(void **state)
{
        volatile size_t half = SIZE_MAX / 2 + 1; /* or the compiler sees it */
        volatile size_t root = (size_t)1 << (sizeof(size_t) * 4);

        assert_null(mem_array(half, 2));
        assert_null(mem_array(2, half));
        assert_null(mem_array(root, root));
}

static void arrays_are_zeroed(void **state)
{
        static const char zeros[4096];
        char *p;

        for (int i = 0; i < 8; i++) {
                p = mem_array(64, 64);
                assert_non_null(p);
                assert_memory_equal(p, zeros, 4096);
                memset(p, 0xff, 4096);
                mem_free(p);
        }
        p = mem_zalloc(4096);
        assert_non_null(p);
        assert_memory_equal(p, zeros, 4096);
        mem_free(p);
}

static void aligned_memory_is_aligned(void **state)
{
        for (size_t align = 1; align <= 65536; align *= 2) {
                void *p = mem_alloc_aligned(align, 100);

                assert_non_null(p);
                assert_int_equal((uintptr_t)p % align, 0);
                mem_free(p);
        }
}

static void allocations_are_counted(void **state)
{
        uint64_t before = mem_count();

        mem_free(mem_alloc(1));
        mem_free(mem_zalloc(1));
        mem_free(mem_array(1, 1));
        mem_free(mem_alloc_aligned(8, 1));
        assert_int_equal(mem_count() - before, 4);
}

static void freeing_nothing_is_fine(void **state)
{
        _cleanup_mem_ void *none = NULL;

        mem_free(none);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(fail_after_counts_down_and_fails_once),
                cmocka_unit_test(negative_turns_failing_off),
                cmocka_unit_test(every_kind_of_allocation_can_fail),
                cmocka_unit_test(array_whose_size_overflows_is_refused),
                cmocka_unit_test(arrays_are_zeroed),
                cmocka_unit_test(aligned_memory_is_aligned),
                cmocka_unit_test(allocations_are_counted),
                cmocka_unit_test(freeing_nothing_is_fine),
        };

        return cmocka_run_group_tests_name("alloc", tests, NULL, NULL);
}
