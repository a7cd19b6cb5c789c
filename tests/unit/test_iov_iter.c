/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The place in a caller's vector, against a flat model: the vector's memory as one array of
 * addresses, in which the iterator is a number.
 */

#include <limits.h>

#include "t_util.h"
#include "vfs/iov_iter.h"

#define MAX_NR   8
#define MAX_LEN  24
#define MAX_FLAT (MAX_NR * MAX_LEN)

struct flat {
        char mem[MAX_NR][MAX_LEN + 1]; /* so that no two elements touch */
        struct iovec iov[MAX_NR];
        int nr;
        char *at[MAX_FLAT]; /* address of each byte */
        size_t size;
};

static void flat_fill(struct flat *f, uint64_t *seed)
{
        f->nr = (int)t_below(seed, MAX_NR + 1);
        f->size = 0;
        memset(f->mem, 'x', sizeof(f->mem));
        for (int i = 0; i < f->nr; i++) {
                size_t len = t_below(seed, 3) ? t_below(seed, MAX_LEN + 1) : 0;

                f->iov[i] = (struct iovec){f->mem[i], len};
                for (size_t j = 0; j < len; j++)
                        f->at[f->size++] = &f->mem[i][j];
        }
}

/* Segments of the model: maximal runs inside one element. */
static int flat_segments(const struct flat *f, size_t pos, size_t n)
{
        int nr = 0;

        for (size_t i = pos; i < pos + n; i++)
                nr += i == pos || f->at[i] != f->at[i - 1] + 1;
        return nr;
}

static void check_slice(const struct flat *f, const struct iov_iter *it, size_t pos, size_t n)
{
        struct iovec slice[MAX_NR];
        size_t at = pos;

        iov_iter_slice(it, n, slice);
        for (int i = 0; i < flat_segments(f, pos, n); i++) {
                assert_int_not_equal(slice[i].iov_len, 0);
                for (size_t j = 0; j < slice[i].iov_len; j++)
                        assert_ptr_equal((char *)slice[i].iov_base + j, f->at[at++]);
        }
        assert_int_equal(at, pos + n);
}

static void one_walk(uint64_t *seed)
{
        struct flat f;
        struct iov_iter it;
        char want[MAX_FLAT];
        char src[MAX_FLAT];
        size_t pos = 0;

        flat_fill(&f, seed);
        memset(want, 'x', sizeof(want));
        assert_int_equal(iov_iter_init(&it, f.iov, f.nr), 0);
        assert_int_equal(it.count, f.size);
        while (pos < f.size) {
                size_t n = t_below(seed, f.size - pos + 1);

                assert_int_equal(iov_iter_nr_segments(&it, n), flat_segments(&f, pos, n));
                check_slice(&f, &it, pos, n);
                switch (t_below(seed, 3)) {
                case 0:
                        iov_iter_advance(&it, n);
                        break;
                case 1:
                        iov_iter_zero(&it, n);
                        memset(want + pos, 0, n);
                        break;
                case 2:
                        for (size_t i = 0; i < n; i++)
                                src[i] = (char)t_rand(seed);
                        iov_iter_copy_to(&it, src, n);
                        memcpy(want + pos, src, n);
                        break;
                }
                pos += n;
                assert_int_equal(it.count, f.size - pos);
        }
        for (size_t i = 0; i < f.size; i++)
                assert_int_equal(*f.at[i], want[i]);
        /* Nothing was written behind an element. */
        for (int i = 0; i < f.nr; i++) {
                for (size_t j = f.iov[i].iov_len; j < sizeof(f.mem[i]); j++)
                        assert_int_equal(f.mem[i][j], 'x');
        }
}

static void random_walks_touch_what_a_flat_array_would(void **state)
{
        uint64_t seed = t_seed();

        for (int i = 0; i < 5000; i++)
                one_walk(&seed);
}

static void empty_vectors_have_nothing(void **state)
{
        const struct iovec zeros[3] = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
        struct iov_iter it;

        assert_int_equal(iov_iter_init(&it, NULL, 0), 0);
        assert_int_equal(it.count, 0);
        assert_int_equal(iov_iter_nr_segments(&it, 0), 0);
        iov_iter_advance(&it, 0);
        assert_true(iov_iter_is_aligned(&it, 4096));
        assert_int_equal(iov_iter_init(&it, zeros, 3), 0);
        assert_int_equal(it.count, 0);
        iov_iter_zero(&it, 0);
        assert_true(iov_iter_is_aligned(&it, 4096));
}

static void init_refuses_vectors_that_are_too_long(void **state)
{
        static const struct iovec many[IOV_MAX + 1];
        const struct iovec huge[2] = {{NULL, INT64_MAX}, {NULL, 1}};
        const struct iovec wraps[2] = {{NULL, SIZE_MAX}, {NULL, 2}};
        struct iov_iter it;

        assert_int_equal(iov_iter_init(&it, many, IOV_MAX), 0);
        assert_int_equal(iov_iter_init(&it, many, IOV_MAX + 1), -EINVAL);
        assert_int_equal(iov_iter_init(&it, many, -1), -EINVAL);
        assert_int_equal(iov_iter_init(&it, huge, 1), 0);
        assert_int_equal(iov_iter_init(&it, huge, 2), -EINVAL);
        assert_int_equal(iov_iter_init(&it, wraps, 2), -EINVAL);
        assert_int_equal(iov_iter_init(&it, wraps, 1), -EINVAL);
}

static void truncate_only_shortens(void **state)
{
        char mem[10];
        const struct iovec iov = {mem, sizeof(mem)};
        struct iov_iter it;

        assert_int_equal(iov_iter_init(&it, &iov, 1), 0);
        iov_iter_truncate(&it, 20);
        assert_int_equal(it.count, 10);
        iov_iter_truncate(&it, 7);
        assert_int_equal(it.count, 7);
        iov_iter_truncate(&it, 8);
        assert_int_equal(it.count, 7);
}

static void alignment_is_of_each_piece_and_its_length(void **state)
{
        static _Alignas(4096) char mem[16384];
        static const struct {
                const char *name;
                size_t base1, len1, base2, len2;
                size_t advance;
                uint32_t align;
                bool ok;
        } rows[] = {
                {"all aligned", 0, 4096, 8192, 4096, 0, 4096, true},
                {"base off", 4, 4096, 8192, 4096, 0, 512, false},
                {"base off by less than asked", 4, 4096, 8192, 4096, 0, 4, true},
                {"length off", 0, 4090, 8192, 4096, 0, 512, false},
                {"second base off", 0, 512, 8193, 512, 0, 512, false},
                {"second length off", 0, 512, 8192, 511, 0, 512, false},
                {"an empty element anywhere", 0, 512, 8193, 0, 0, 512, true},
                {"an empty first element", 1, 0, 8192, 512, 0, 512, true},
                {"byte alignment takes all", 3, 5, 8191, 7, 0, 1, true},
                {"moved on by a unit", 0, 4096, 8192, 512, 512, 512, true},
                {"moved on by less", 0, 4096, 8192, 512, 100, 512, false},
                {"moved behind the bad one", 1, 100, 8192, 512, 100, 512, true},
                {"moved on inside the second", 1, 100, 8192, 1024, 612, 512, true},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                const struct iovec iov[2] = {{mem + rows[i].base1, rows[i].len1},
                                             {mem + rows[i].base2, rows[i].len2}};
                struct iov_iter it;

                assert_int_equal(iov_iter_init(&it, iov, 2), 0);
                iov_iter_advance(&it, rows[i].advance);
                t_assert_row(rows[i].name, iov_iter_is_aligned(&it, rows[i].align), rows[i].ok);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(random_walks_touch_what_a_flat_array_would),
                cmocka_unit_test(empty_vectors_have_nothing),
                cmocka_unit_test(init_refuses_vectors_that_are_too_long),
                cmocka_unit_test(truncate_only_shortens),
                cmocka_unit_test(alignment_is_of_each_piece_and_its_length),
        };

        return cmocka_run_group_tests_name("iov_iter", tests, NULL, NULL);
}
