/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The metadata block cache on a memory device under the fault filter.  Every block holds its
 * own number; the check of these tests counts how often it is asked.
 */

#include "buf/buf.h"
#include "t_util.h"

#define NR_BLKS 4096

struct bench {
        struct uext4_bdev *fault;
        struct buf_cache *cache;
        uint32_t block_size;
        _Atomic unsigned nr_checks;
        _Atomic int verdict; /* what the check answers */
};

static int check_number(const void *data, size_t size, uint64_t blk, const void *arg)
{
        struct bench *b = (struct bench *)(uintptr_t)arg;
        uint64_t number;

        T_CHECK(size == b->block_size);
        memcpy(&number, data, sizeof(number));
        T_CHECK(number == blk);
        atomic_fetch_add(&b->nr_checks, 1);
        return atomic_load(&b->verdict);
}

/* The same, another function: another kind of block. */
static int check_other(const void *data, size_t size, uint64_t blk, const void *arg)
{
        return check_number(data, size, blk, arg) ? 0 : 0;
}

static void bench_init(struct bench *b, uint32_t block_size, uint64_t nr_blks,
                       uint64_t cache_bytes)
{
        struct uext4_bdev *mem;
        char *map;

        *b = (struct bench){.block_size = block_size};
        T_CHECK(uext4_bdev_open_mem(nr_blks * block_size, &mem) == 0);
        map = mem->ops->mapping(mem);
        for (uint64_t i = 0; i < nr_blks; i++)
                memcpy(map + i * block_size, &i, sizeof(i));
        T_CHECK(uext4_bdev_open_fault(mem, &b->fault) == 0);
        T_CHECK(buf_cache_new(b->fault, block_size, cache_bytes, &b->cache) == 0);
}

static void bench_done(struct bench *b)
{
        buf_cache_free(b->cache);
        uext4_bdev_close(b->fault);
}

static int get_as(struct bench *b, uint64_t blk, uint64_t owner, unsigned flags,
                  struct buf **ret_buf)
{
        const struct buf_check check = {check_number, b, owner};

        return buf_read(b->cache, blk, &check, flags, ret_buf);
}

/* Get and put. */
static int touch(struct bench *b, uint64_t blk, unsigned flags)
{
        struct buf *buf;
        int ret = get_as(b, blk, 0, flags, &buf);

        if (ret == 0) {
                T_CHECK(buf->blk == blk && *(const uint64_t *)buf->data == blk);
                buf_put(buf);
        }
        return ret;
}

static uint64_t reads(struct bench *b)
{
        struct buf_stats stats;

        buf_cache_stats(b->cache, &stats);
        return stats.reads;
}

static uint64_t cached(struct bench *b)
{
        struct buf_stats stats;

        buf_cache_stats(b->cache, &stats);
        return stats.cached_bytes;
}

static void fail_reads(struct bench *b, uint64_t blk, uint64_t count, int error)
{
        const struct uext4_bdev_fault rule = {
                .ops = 1u << UEXT4_BDEV_READ,
                .pos = blk * b->block_size,
                .len = b->block_size,
                .count = count,
                .error = error,
        };

        assert_int_equal(uext4_bdev_fault_add(b->fault, &rule), 0);
}

/* ---- once ---- */

static void block_is_read_and_checked_once(void **state)
{
        struct bench b;

        bench_init(&b, 4096, 64, 1u << 20);
        for (int i = 0; i < 10; i++)
                assert_int_equal(touch(&b, 7, 0), 0);
        assert_int_equal(reads(&b), 1);
        assert_int_equal(b.nr_checks, 1);
        assert_int_equal(cached(&b), 4096);
        bench_done(&b);
}

static void referenced_bytes_are_shared_and_stay(void **state)
{
        struct bench b;
        struct buf *one, *two;

        bench_init(&b, 1024, NR_BLKS, 1024);
        assert_int_equal(get_as(&b, 7, 0, 0, &one), 0);
        for (uint64_t i = 8; i < NR_BLKS; i++) /* far more than the bound */
                assert_int_equal(touch(&b, i, 0), 0);
        assert_int_equal(get_as(&b, 7, 0, 0, &two), 0);
        assert_ptr_equal(one, two);
        assert_ptr_equal(one->data, two->data);
        assert_int_equal(*(const uint64_t *)one->data, 7);
        buf_put(one);
        buf_put(two);
        bench_done(&b);
}

static void each_owner_and_each_check_is_asked_once(void **state)
{
        const struct buf_check other = {.verify = check_other, .owner = 1};
        struct buf_check check = other;
        struct bench b;
        struct buf *buf;

        bench_init(&b, 4096, 64, 1u << 20);
        check.arg = &b;
        for (int i = 0; i < 3; i++) {
                assert_int_equal(get_as(&b, 7, 1, 0, &buf), 0);
                buf_put(buf);
                assert_int_equal(get_as(&b, 7, 2, 0, &buf), 0);
                buf_put(buf);
        }
        assert_int_equal(b.nr_checks, 2);
        assert_int_equal(buf_read(b.cache, 7, &check, 0, &buf), 0);
        buf_put(buf);
        assert_int_equal(b.nr_checks, 3);
        assert_int_equal(reads(&b), 1);
        bench_done(&b);
}

/* ---- verdicts and errors ---- */

static void bad_verdict_is_remembered(void **state)
{
        struct bench b;

        bench_init(&b, 4096, 64, 1u << 20);
        b.verdict = -EUCLEAN;
        assert_int_equal(touch(&b, 7, 0), -EUCLEAN);
        b.verdict = 0; /* is not asked again, so it is said once */
        for (int i = 0; i < 5; i++)
                assert_int_equal(touch(&b, 7, 0), -EUCLEAN);
        assert_int_equal(touch(&b, 7, BUF_NOWAIT), -EUCLEAN);
        assert_int_equal(b.nr_checks, 1);
        assert_int_equal(reads(&b), 1);
        assert_int_equal(touch(&b, 8, 0), 0); /* the neighbour is fine */
        bench_done(&b);
}

static void bad_for_one_owner_is_fine_for_another(void **state)
{
        struct bench b;
        struct buf *buf;

        bench_init(&b, 4096, 64, 1u << 20);
        b.verdict = -EBADMSG;
        assert_int_equal(get_as(&b, 7, 1, 0, &buf), -EBADMSG);
        b.verdict = 0;
        assert_int_equal(get_as(&b, 7, 2, 0, &buf), 0);
        buf_put(buf);
        assert_int_equal(get_as(&b, 7, 1, 0, &buf), -EBADMSG);
        assert_int_equal(reads(&b), 1);
        bench_done(&b);
}

static void device_errors_are_not_remembered(void **state)
{
        static const int errors[] = {-EIO, -ENOMEM, -ENODATA, -ETIMEDOUT};

        for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
                struct bench b;

                bench_init(&b, 4096, 64, 1u << 20);
                fail_reads(&b, 7, 2, errors[i]);
                assert_int_equal(touch(&b, 7, 0), errors[i]);
                assert_int_equal(touch(&b, 7, 0), errors[i]);
                assert_int_equal(b.nr_checks, 0);
                assert_int_equal(touch(&b, 7, 0), 0);
                assert_int_equal(touch(&b, 7, 0), 0);
                assert_int_equal(uext4_bdev_fault_hits(b.fault), 2);
                assert_int_equal(reads(&b), 1);
                bench_done(&b);
        }
}

static void result_is_untouched_on_failure(void **state)
{
        struct buf *buf = (struct buf *)&buf;
        struct bench b;

        bench_init(&b, 4096, 64, 1u << 20);
        fail_reads(&b, 7, 1, -EIO);
        assert_int_equal(get_as(&b, 7, 0, 0, &buf), -EIO);
        assert_ptr_equal(buf, &buf);
        bench_done(&b);
}

static void beyond_the_device_is_an_error(void **state)
{
        struct bench b;

        bench_init(&b, 4096, 64, 1u << 20);
        assert_int_equal(touch(&b, 63, 0), 0);
        assert_int_equal(touch(&b, 64, 0), -ENXIO);
        bench_done(&b);
}

/* ---- NOWAIT ---- */

static void nowait_takes_what_is_warm_only(void **state)
{
        struct bench b;

        bench_init(&b, 4096, 64, 1u << 20);
        assert_int_equal(touch(&b, 7, BUF_NOWAIT), -EAGAIN);
        assert_int_equal(touch(&b, 7, BUF_NOWAIT), -EAGAIN);
        assert_int_equal(reads(&b), 0);
        assert_int_equal(touch(&b, 7, 0), 0);
        assert_int_equal(touch(&b, 7, BUF_NOWAIT), 0);
        assert_int_equal(reads(&b), 1);
        assert_int_equal(b.nr_checks, 1);
        bench_done(&b);
}

/* ---- the bound ---- */

static void check_bound(uint32_t block_size, uint64_t cache_bytes)
{
        uint64_t nr = 4 * cache_bytes / block_size + 1024;
        struct bench b;

        bench_init(&b, block_size, nr, cache_bytes);
        for (uint64_t i = 0; i < nr; i++) {
                assert_int_equal(touch(&b, i, 0), 0);
                assert_true(cached(&b) <= cache_bytes);
        }
        assert_int_equal(reads(&b), nr);
        /* It is used, too. */
        assert_true(cached(&b) > cache_bytes / 2);
        bench_done(&b);
}

static void memory_is_bounded_with_1k_blocks(void **state)
{
        check_bound(1024, 1u << 20);
}

static void memory_is_bounded_with_64k_blocks(void **state)
{
        check_bound(65536, 8u << 20);
}

static void references_may_exceed_the_bound_and_fall_back(void **state)
{
        struct buf *held[1024];
        struct bench b;

        bench_init(&b, 1024, 2048, 128 * 1024);
        for (uint64_t i = 0; i < ARRAY_LEN(held); i++)
                assert_int_equal(get_as(&b, i, 0, 0, &held[i]), 0);
        assert_int_equal(cached(&b), sizeof(held) / sizeof(held[0]) * 1024);
        for (uint64_t i = 0; i < ARRAY_LEN(held); i++) {
                assert_int_equal(*(const uint64_t *)held[i]->data, i);
                buf_put(held[i]);
        }
        assert_true(cached(&b) <= 128 * 1024);
        bench_done(&b);
}

static void what_was_used_last_stays_longest(void **state)
{
        struct bench b;

        /* 64 blocks; block 5 is used again and again among others that are used once. */
        bench_init(&b, 4096, NR_BLKS, 64 * 4096);
        for (uint64_t i = 100; i < NR_BLKS; i++) {
                assert_int_equal(touch(&b, i, 0), 0);
                assert_int_equal(touch(&b, 5, 0), 0);
        }
        assert_int_equal(reads(&b), NR_BLKS - 100 + 1);
        bench_done(&b);
}

/* ---- memory ---- */

static void failed_allocations_leave_nothing_behind(void **state)
{
        int fails = 0;
        struct bench b;

        bench_init(&b, 4096, 64, 1u << 20);
        for (int n = 0;; n++) {
                int ret;

                mem_fail_after(n);
                ret = touch(&b, 7, 0);
                mem_fail_after(-1);
                if (ret == 0)
                        break;
                assert_int_equal(ret, -ENOMEM);
                assert_int_equal(cached(&b), 0);
                fails++;
        }
        assert_true(fails >= 1);
        bench_done(&b); /* asserts that no reference is left */
}

static void cache_that_cannot_be_made_leaves_nothing(void **state)
{
        struct uext4_bdev *mem;
        struct buf_cache *cache;
        int fails = 0;

        assert_int_equal(uext4_bdev_open_mem(1u << 20, &mem), 0);
        for (int n = 0;; n++) {
                int ret;

                mem_fail_after(n);
                ret = buf_cache_new(mem, 4096, 1u << 20, &cache);
                mem_fail_after(-1);
                if (ret == 0)
                        break;
                assert_int_equal(ret, -ENOMEM);
                fails++;
        }
        assert_true(fails > 1);
        buf_cache_free(cache);
        buf_cache_free(NULL);
        buf_put(NULL);
        uext4_bdev_close(mem);
}

/* ---- threads ---- */

static void read_all(void *arg, unsigned n)
{
        struct bench *b = arg;

        for (uint64_t i = 0; i < 64; i++)
                T_CHECK(touch(b, (i + 8 * n) % 64, 0) == 0);
}

static void threads_read_and_check_each_block_once(void **state)
{
        for (int round = 0; round < 20; round++) {
                struct bench b;

                bench_init(&b, 4096, 64, 1u << 20);
                t_run_threads(8, read_all, &b);
                assert_int_equal(reads(&b), 64);
                assert_int_equal(b.nr_checks, 64);
                bench_done(&b);
        }
}

/* Few buffers, many blocks: lookups, evictions and references meet. */
static void churn(void *arg, unsigned n)
{
        struct bench *b = arg;
        uint64_t seed = n;

        for (int i = 0; i < 3000; i++) {
                uint64_t blk = t_below(&seed, 256);
                unsigned flags = t_below(&seed, 4) ? 0 : BUF_NOWAIT;
                struct buf *buf, *again;
                int ret = get_as(b, blk, t_below(&seed, 3), flags, &buf);

                T_CHECK(ret == 0 || ret == -EIO || (ret == -EAGAIN && flags));
                if (ret < 0)
                        continue;
                T_CHECK(*(const uint64_t *)buf->data == blk);
                ret = get_as(b, t_below(&seed, 256), 0, flags, &again);
                if (ret == 0)
                        buf_put(again);
                T_CHECK(*(const uint64_t *)buf->data == blk);
                buf_put(buf);
        }
}

static void threads_that_evict_each_other_see_whole_blocks(void **state)
{
        struct bench b;

        bench_init(&b, 1024, 256, 64 * 1024);
        fail_reads(&b, 100, 0, -EIO);
        t_run_threads(6, churn, &b);
        assert_true(cached(&b) <= 64 * 1024);
        bench_done(&b);
}

static void bad_block(void *arg, unsigned n)
{
        T_CHECK(touch(arg, 9, 0) == -EUCLEAN);
}

static void threads_ask_about_a_bad_block_once(void **state)
{
        struct bench b;

        bench_init(&b, 4096, 64, 1u << 20);
        b.verdict = -EUCLEAN;
        t_run_threads(8, bad_block, &b);
        assert_int_equal(b.nr_checks, 1);
        bench_done(&b);
}

/* ---- changing blocks ---- */

static void new_block_is_zeros_and_not_read(void **state)
{
        struct buf_stats stats;
        struct bench b;
        struct buf *buf;

        bench_init(&b, 1024, NR_BLKS, 1u << 20);
        assert_int_equal(buf_new(b.cache, 7, &buf), 0);
        for (unsigned i = 0; i < b.block_size; i++)
                assert_int_equal(((const char *)buf->data)[i], 0);
        buf_cache_stats(b.cache, &stats);
        assert_int_equal(stats.reads, 0);
        buf_put(buf);
        bench_done(&b);
}

static void new_block_is_checked_again(void **state)
{
        struct bench b;
        struct buf *buf;
        uint64_t number = 7;

        bench_init(&b, 1024, NR_BLKS, 1u << 20);
        assert_int_equal(get_as(&b, 7, 1, 0, &buf), 0);
        buf_put(buf);
        assert_int_equal(atomic_load(&b.nr_checks), 1);
        assert_int_equal(buf_new(b.cache, 7, &buf), 0);
        memcpy(buf_bytes(buf), &number, sizeof(number));
        buf_put(buf);
        assert_int_equal(get_as(&b, 7, 1, 0, &buf), 0);
        assert_int_equal(atomic_load(&b.nr_checks), 2);
        buf_put(buf);
        bench_done(&b);
}

/* One role: its writer's.  Two: the other's verdict is about other bytes. */
static void changed_block_is_checked_again_in_other_roles(void **state)
{
        struct bench b;
        struct buf *buf;

        bench_init(&b, 1024, NR_BLKS, 1u << 20);
        assert_int_equal(get_as(&b, 5, 1, 0, &buf), 0);
        buf_changed(buf);
        buf_put(buf);
        assert_int_equal(get_as(&b, 5, 1, 0, &buf), 0);
        buf_put(buf);
        assert_int_equal(atomic_load(&b.nr_checks), 1);

        assert_int_equal(get_as(&b, 5, 2, 0, &buf), 0);
        buf_changed(buf);
        buf_put(buf);
        atomic_store(&b.verdict, -EUCLEAN);
        assert_int_equal(get_as(&b, 5, 1, 0, &buf), -EUCLEAN);
        atomic_store(&b.verdict, 0);

        assert_int_equal(get_as(&b, 6, 1, 0, &buf), 0);
        buf_put(buf);
        assert_int_equal(buf_read(b.cache, 6, NULL, 0, &buf), 0);
        buf_changed(buf);
        buf_put(buf);
        atomic_store(&b.verdict, -EUCLEAN);
        assert_int_equal(get_as(&b, 6, 1, 0, &buf), -EUCLEAN);
        bench_done(&b);
}

static void forgotten_block_is_read_again(void **state)
{
        struct buf_stats stats;
        struct bench b;
        struct buf *buf, *found;

        bench_init(&b, 1024, NR_BLKS, 1u << 20);
        assert_false(buf_find(b.cache, 9, &found));
        assert_int_equal(get_as(&b, 9, 1, 0, &buf), 0);
        assert_true(buf_find(b.cache, 9, &found));
        assert_ptr_equal(found, buf);
        buf_put(found);
        buf_forget(buf);
        buf_put(buf);
        assert_int_equal(get_as(&b, 9, 1, 0, &buf), 0);
        buf_cache_stats(b.cache, &stats);
        assert_int_equal(stats.reads, 2);
        buf_put(buf);
        bench_done(&b);
}

static int first_number(struct bench *b, uint64_t blk, uint64_t *ret_number)
{
        return uext4_bdev_read_bytes(b->fault, ret_number, sizeof(*ret_number),
                                     blk * b->block_size);
}

/* J21: nothing of an open transaction goes home, not even the others in the same call. */
static void only_dirty_blocks_go_home(void **state)
{
        struct buf_home homes[2];
        uint64_t number;
        struct bench b;
        struct buf *bufs[2];

        bench_init(&b, 1024, NR_BLKS, 1u << 20);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(buf_new(b.cache, 20 + i, &bufs[i]), 0);
                memset(buf_bytes(bufs[i]), 0xee, b.block_size);
                homes[1 - i] = (struct buf_home){bufs[i], bufs[i]->data};
        }
        atomic_store(&bufs[0]->state, BUF_DIRTY);
        atomic_store(&bufs[1]->state, BUF_OPEN);
        assert_int_equal(buf_write_home(b.cache, homes, 2), -EBUSY);
        assert_int_equal(first_number(&b, 20, &number), 0);
        assert_int_equal(number, 20);

        atomic_store(&bufs[1]->state, BUF_DIRTY);
        assert_int_equal(buf_write_home(b.cache, homes, 2), 0);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(first_number(&b, 20 + i, &number), 0);
                assert_true(number == 0xeeeeeeeeeeeeeeeeu);
                atomic_store(&bufs[i]->state, BUF_CLEAN);
                buf_put(bufs[i]);
        }
        bench_done(&b);
}

static void neighbours_go_home_in_one_request(void **state)
{
        struct uext4_bdev_counts counts;
        struct uext4_bdev *mem, *trace;
        struct buf_home homes[100];
        struct buf_cache *cache;

        assert_int_equal(uext4_bdev_open_mem(1u << 20, &mem), 0);
        assert_int_equal(uext4_bdev_open_trace(mem, 0, &trace), 0);
        assert_int_equal(buf_cache_new(trace, 1024, 1u << 20, &cache), 0);
        for (unsigned i = 0; i < 100; i++) {
                /* Two runs, one of them longer than a request takes, in a wild order. */
                uint64_t blk = i < 80 ? 10 + i * 37 % 80 : 200 + i * 7 % 20;
                struct buf *buf;

                assert_int_equal(buf_new(cache, blk, &buf), 0);
                atomic_store(&buf->state, BUF_DIRTY);
                homes[i] = (struct buf_home){buf, buf->data};
        }
        assert_int_equal(buf_write_home(cache, homes, 100), 0);
        uext4_bdev_trace_counts(trace, &counts);
        assert_int_equal(counts.requests[UEXT4_BDEV_WRITE], 3);
        assert_int_equal(counts.bytes[UEXT4_BDEV_WRITE], 100 * 1024);
        for (unsigned i = 0; i < 100; i++) {
                atomic_store(&homes[i].buf->state, BUF_CLEAN);
                buf_put(homes[i].buf);
        }
        buf_cache_free(cache);
        uext4_bdev_close(trace);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(block_is_read_and_checked_once),
                cmocka_unit_test(referenced_bytes_are_shared_and_stay),
                cmocka_unit_test(each_owner_and_each_check_is_asked_once),
                cmocka_unit_test(bad_verdict_is_remembered),
                cmocka_unit_test(bad_for_one_owner_is_fine_for_another),
                cmocka_unit_test(device_errors_are_not_remembered),
                cmocka_unit_test(result_is_untouched_on_failure),
                cmocka_unit_test(beyond_the_device_is_an_error),
                cmocka_unit_test(nowait_takes_what_is_warm_only),
                cmocka_unit_test(memory_is_bounded_with_1k_blocks),
                cmocka_unit_test(memory_is_bounded_with_64k_blocks),
                cmocka_unit_test(references_may_exceed_the_bound_and_fall_back),
                cmocka_unit_test(what_was_used_last_stays_longest),
                cmocka_unit_test(failed_allocations_leave_nothing_behind),
                cmocka_unit_test(cache_that_cannot_be_made_leaves_nothing),
                cmocka_unit_test(new_block_is_zeros_and_not_read),
                cmocka_unit_test(new_block_is_checked_again),
                cmocka_unit_test(changed_block_is_checked_again_in_other_roles),
                cmocka_unit_test(forgotten_block_is_read_again),
                cmocka_unit_test(only_dirty_blocks_go_home),
                cmocka_unit_test(neighbours_go_home_in_one_request),
                cmocka_unit_test(threads_read_and_check_each_block_once),
                cmocka_unit_test(threads_that_evict_each_other_see_whole_blocks),
                cmocka_unit_test(threads_ask_about_a_bad_block_once),
        };

        return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
