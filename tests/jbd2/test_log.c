/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What jbd2/jbd2.h promises of the log: commits and who waits for them, its way home, loading
 * and unloading, modes without it, and no memory.  One promise a test.
 */
#include <unistd.h>

#include "tj.h"

#define BS 1024

/* ---- durability ---- */

static void a_handle_can_wait_for_its_commit(void **state)
{
        struct jbd2_handle *h;
        uint32_t tid;
        struct rig r;

        rig_open_plain(&r);
        h = rig_start(&r, 1, 0);
        tid = jbd2_tid(h);
        assert_int_equal(rig_set(&r, h, 1, 'a'), 0);
        jbd2_sync(h);
        assert_false(jbd2_is_durable(r.j, tid));
        assert_int_equal(jbd2_stop(h), 0);
        assert_true(jbd2_is_durable(r.j, tid));
        assert_int_equal(rig_durable_byte(&r, 1), 'a');
        assert_int_equal(rig_close(&r), 0);
}

static void tids_wrap(void **state)
{
        static const uint32_t firsts[] = {0, 1, 0x7ffffffe, 0xfffffff0, 0xfffffffe, 0xffffffff};

        for (size_t i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++) {
                struct rig_config c = rig_plain(264, 64);
                struct rig r;

                c.f.tid = firsts[i];
                rig_open(&r, &c, NULL);
                assert_int_equal(rig_set_many(&r, 0, 1, 'a'), firsts[i]);
                assert_false(jbd2_is_durable(r.j, firsts[i]));
                assert_true(jbd2_is_durable(r.j, firsts[i] - 1));
                for (uint32_t n = 1; n < 40; n++) {
                        assert_int_equal(jbd2_commit_all(r.j), 0);
                        assert_true(jbd2_is_durable(r.j, firsts[i] + n - 1));
                        assert_false(jbd2_is_durable(r.j, firsts[i] + n));
                        assert_int_equal(rig_durable_byte(&r, 0), 'a' + n - 1);
                        assert_int_equal(rig_set_many(&r, 0, 1, (uint8_t)('a' + n)),
                                         firsts[i] + n);
                }
                assert_int_equal(rig_close(&r), 0);
        }
}

static void the_timer_commits(void **state)
{
        struct rig_config c = rig_plain(264, 64);
        uint64_t deadline;
        uint32_t tid;
        struct rig r;

        c.commit_ms = 20;
        rig_open(&r, &c, NULL);
        tid = rig_set_many(&r, 1, 1, 'a');
        deadline = clock_ns() + 20000000000ull;
        while (!jbd2_is_durable(r.j, tid) && clock_ns() < deadline)
                usleep(1000);
        assert_true(jbd2_is_durable(r.j, tid));
        assert_int_equal(rig_durable_byte(&r, 1), 'a');
        assert_int_equal(rig_close(&r), 0);
}

struct waiters {
        struct rig *r;
        pthread_barrier_t ready;
};

static void wait_for_commit(void *arg, unsigned n)
{
        struct waiters *w = arg;
        uint32_t tid = rig_set_many(w->r, n, 1, 'a');

        pthread_barrier_wait(&w->ready);
        T_CHECK(jbd2_commit(w->r->j, tid) == 0);
        T_CHECK(jbd2_is_durable(w->r->j, tid));
}

static void many_waiters_share_a_commit(void **state)
{
        struct waiters w;
        struct rig r;

        rig_open_plain(&r);
        w.r = &r;
        pthread_barrier_init(&w.ready, NULL, 12);
        t_run_threads(12, wait_for_commit, &w);
        pthread_barrier_destroy(&w.ready);
        assert_int_equal(rig_stats(&r).nr_commits, 1);
        assert_int_equal(rig_close(&r), 0);
}

/* A transaction that is full is committed, and the log is emptied from behind, by itself. */
static void a_small_log_is_used_again_and_again(void **state)
{
        struct jbd2_stats st;
        struct rig r;

        rig_open_plain(&r);
        for (unsigned n = 0; n < 1000; n++)
                rig_set_many(&r, n * 7 % 120, 5, (uint8_t)n);
        st = rig_stats(&r);
        assert_true(st.nr_commits > 20);
        assert_true(st.nr_checkpoints > 0);
        assert_true(st.nr_home > 0);
        assert_int_equal(st.nr_handles, 1000);
        assert_int_equal(jbd2_error(r.j), 0);
        assert_int_equal(rig_close(&r), 0);
}

static void after_a_flush_all_is_home(void **state)
{
        struct jbd2_super sb;
        struct rig r;

        rig_open_plain(&r);
        rig_set_many(&r, 1, 10, 'a');
        assert_int_equal(rig_device_byte(&r, 5), 0);
        assert_int_equal(jbd2_flush(r.j), 0);
        assert_int_equal(rig_device_byte(&r, 5), 'a');
        sb = rig_super(&r.c, r.devs[RIG_FS]);
        assert_int_equal(be32_get(sb.s_start), 0);
        rig_set_many(&r, 1, 10, 'b');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        sb = rig_super(&r.c, r.devs[RIG_FS]);
        assert_int_not_equal(be32_get(sb.s_start), 0);
        assert_int_equal(rig_durable_byte(&r, 5), 'b');
        assert_int_equal(rig_close(&r), 0);
}

/* ---- beginning and end ---- */

static uint64_t nr_writes(struct rig *r)
{
        struct uext4_bdev_counts n;

        uext4_bdev_trace_counts(r->traces[RIG_FS], &n);
        return n.requests[UEXT4_BDEV_WRITE];
}

/* J32 */
static void nothing_is_written_before_the_first_commit(void **state)
{
        struct rig_config c = rig_plain(264, 64);
        struct jbd2_handle *h;
        struct rig r;

        c.with_trace = true;
        rig_open(&r, &c, NULL);
        assert_int_equal(nr_writes(&r), 0);
        h = rig_start(&r, 4, 1);
        assert_int_equal(rig_set(&r, h, 1, 'a'), 0);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(nr_writes(&r), 0);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_not_equal(nr_writes(&r), 0);
        assert_int_equal(rig_unload(&r), 0);
        uext4_bdev_trace_reset(r.traces[RIG_FS]);
        assert_int_equal(rig_load(&r), 0);
        assert_int_equal(rig_unload(&r), 0);
        assert_int_equal(nr_writes(&r), 0);
        assert_int_equal(rig_close(&r), 0);
}

static void a_log_goes_on_where_it_ended(void **state)
{
        uint32_t tid = 0;
        struct rig r;

        rig_open_plain(&r);
        for (unsigned n = 0; n < 20; n++) {
                uint32_t now = rig_set_many(&r, 1, 3, (uint8_t)('a' + n));

                assert_true(n == 0 || jbd2_tid_after(now, tid));
                tid = now;
                if (n % 2)
                        assert_int_equal(jbd2_commit_all(r.j), 0);
                if (n % 3 == 0)
                        assert_int_equal(rig_durable_byte(&r, 2), n ? 'a' + n - 1 + n % 2 : 0);
                assert_int_equal(rig_unload(&r), 0);
                assert_int_equal(rig_device_byte(&r, 2), 'a' + n);
                assert_int_equal(rig_load(&r), 0);
        }
        assert_int_equal(rig_close(&r), 0);
}

static void refused(struct rig_config c, uint32_t start, int want)
{
        void *images[RIG_NR_DEVS] = {0};
        struct rig r;
        uint8_t *sb;

        /* A rig that is good, whose log is then made what it shall not be. */
        struct rig_config good = rig_plain(c.f.nr_blocks < 264 ? 264 : c.f.nr_blocks, 64);

        rig_open(&r, &good, NULL);
        assert_int_equal(rig_unload(&r), 0);
        c.nr_homes = 64;
        images[0] = rig_make_image(&c, RIG_FS);
        sb = (uint8_t *)images[0] + rig_super_pos(&c);
        if (start) {
                tj_put32(sb + 0x1c, start);
                tj_seal_super(sb);
        }
        uext4_bdev_close(r.devs[RIG_FS]);
        buf_cache_free(r.bufs);
        T_CHECK(uext4_bdev_open_buffer(images[0], rig_size(&c, RIG_FS), 0, &r.devs[RIG_FS]) ==
                0);
        T_CHECK(buf_cache_new(r.devs[RIG_FS], c.f.block_size, 1 << 20, &r.bufs) == 0);
        r.c = c;
        assert_int_equal(rig_load(&r), want);
        assert_int_equal(rig_close(&r), 0);
        free(images[0]);
}

static void some_logs_cannot_be_written(void **state)
{
        struct rig_config c = rig_plain(264, 64);

        refused(c, 5, -EBUSY); /* to be recovered first */
        c.f.csum = TJ_NONE;
        c.super_v1 = true;
        refused(c, 0, -EOPNOTSUPP);
        refused(rig_plain(20, 64), 0, -EUCLEAN);
}

static void features_are_set_with_the_first_commit(void **state)
{
        struct rig_config c = rig_plain(264, 64);
        struct jbd2_super sb;
        struct rig r;

        c.f.csum = TJ_V1;
        c.set_incompat = JBD2_INCOMPAT_CSUM_V3 | JBD2_INCOMPAT_64BIT | JBD2_INCOMPAT_REVOKE;
        rig_open(&r, &c, NULL);
        sb = rig_super(&c, r.devs[RIG_FS]);
        assert_int_equal(be32_get(sb.s_feature_compat), JBD2_COMPAT_CHECKSUM);
        rig_set_many(&r, 1, 1, 'a');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        sb = rig_super(&c, r.devs[RIG_FS]);
        assert_int_equal(be32_get(sb.s_feature_compat), 0);
        assert_int_equal(be32_get(sb.s_feature_incompat), c.set_incompat);
        assert_int_equal(rig_durable_byte(&r, 1), 'a');
        assert_int_equal(rig_close(&r), 0);
}

static void without_barriers_nothing_is_flushed(void **state)
{
        struct rig_config c = rig_plain(264, 64);
        struct uext4_bdev_counts n;
        struct rig r;

        c.with_trace = true;
        c.no_barrier = true;
        rig_open(&r, &c, NULL);
        rig_set_many(&r, 1, 5, 'a');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(jbd2_flush(r.j), 0);
        assert_false(jbd2_will_flush(r.j, 1));
        uext4_bdev_trace_counts(r.traces[RIG_FS], &n);
        assert_int_equal(n.requests[UEXT4_BDEV_FLUSH], 0);
        assert_int_equal(n.fua, 0);
        assert_int_equal(rig_close(&r), 0);
}

static void without_a_log_the_calls_are_the_same(void **state)
{
        struct rig_config c = rig_plain(264, 64);
        struct jbd2_handle *h;
        struct rig r;

        c.no_log = true;
        rig_open(&r, &c, NULL);
        h = rig_start(&r, 3, 1);
        assert_int_equal(rig_set(&r, h, 1, 'a'), 0);
        rig_create(&r, h, 2, 'b');
        rig_create(&r, h, 3, 'c');
        jbd2_revoke(h, 3, NULL);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(rig_device_byte(&r, 1), 0);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(rig_durable_byte(&r, 1), 'a');
        assert_int_equal(rig_durable_byte(&r, 2), 'b');
        assert_int_equal(rig_recovered_byte(&r, UEXT4_BDEV_SIM_ALL, 3), 0);
        assert_int_equal(jbd2_flush(r.j), 0);
        assert_int_equal(rig_close(&r), 0);
}

/* ---- no memory ---- */

/* A piece of work in which everything allocates; the first error, after tidying up. */
static int work(struct rig *r, uint8_t byte)
{
        struct jbd2_reserved *reserved;
        struct jbd2_handle *h;
        struct buf *buf;
        void *bytes;
        int ret = jbd2_start_reserving(r->j, 8, 4, 2, &h, &reserved);

        if (ret < 0)
                return ret;
        ret = rig_set(r, h, 1, byte);
        if (ret == 0)
                ret = buf_read(r->bufs, 2, NULL, 0, &buf);
        if (ret == 0) {
                ret = jbd2_get_undo(h, buf, &bytes);
                if (ret == 0) {
                        memset(bytes, byte, BS);
                        tj_put32(bytes, TJ_MAGIC); /* the commit needs a copy */
                        jbd2_dirty(h, buf);
                }
                buf_put(buf);
        }
        if (ret == 0)
                ret = buf_new(r->bufs, 3, &buf);
        if (ret == 0) {
                ret = jbd2_get_create(h, buf, &bytes);
                if (ret == 0)
                        jbd2_dirty(h, buf);
                buf_put(buf);
        }
        jbd2_revoke(h, 4, NULL);
        jbd2_revoke(h, 3, NULL);
        if (ret == 0)
                ret = jbd2_extend(h, 1, 100);
        ret = first_error(ret, jbd2_stop(h));
        if (ret >= 0) {
                ret = jbd2_start_reserved(reserved, &h);
                if (ret == 0)
                        ret = jbd2_stop(h);
        } else {
                jbd2_unreserve(reserved);
        }
        return first_error(ret, jbd2_commit_all(r->j));
}

static void memory_may_run_out_at_any_point(void **state)
{
        uint64_t nr_failed = 0;

        for (int64_t n = 0;; n++) {
                struct rig_config c = rig_plain(264, 64);
                uint64_t before;
                struct rig r;
                int ret;

                c.no_sim = true;
                rig_open(&r, &c, NULL);
                assert_int_equal(work(&r, 'a'), 0);
                before = mem_count();
                mem_fail_after(n);
                ret = work(&r, 'b');
                before = mem_count() - before;
                mem_fail_after(-1);
                assert_true(ret == 0 || ret == -ENOMEM);
                nr_failed += ret != 0;
                /* It is no reason to give up: the same works now. */
                assert_int_equal(jbd2_error(r.j), 0);
                assert_int_equal(work(&r, 'c'), 0);
                assert_int_equal(rig_cached_byte(&r, 1), 'c');
                assert_int_equal(rig_close(&r), 0);
                if ((uint64_t)n > before)
                        break;
        }
        assert_true(nr_failed > 5);
}

static void loading_may_find_no_memory(void **state)
{
        struct rig_config c = rig_plain(264, 64);
        struct rig r;
        int64_t n = 0;
        int ret;

        c.no_sim = true;
        rig_open(&r, &c, NULL);
        assert_int_equal(rig_unload(&r), 0);
        do {
                /* The place is the rig's, and allocated before. */
                mem_fail_after(n + 1);
                ret = rig_load(&r);
                mem_fail_after(-1);
                assert_true(ret == 0 || ret == -ENOMEM);
                if (ret < 0)
                        r.j = NULL;
                n++;
        } while (ret < 0);
        assert_true(n > 2);
        rig_set_many(&r, 1, 1, 'a');
        assert_int_equal(rig_close(&r), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_handle_can_wait_for_its_commit),
                cmocka_unit_test(tids_wrap),
                cmocka_unit_test(the_timer_commits),
                cmocka_unit_test(many_waiters_share_a_commit),
                cmocka_unit_test(a_small_log_is_used_again_and_again),
                cmocka_unit_test(after_a_flush_all_is_home),
                cmocka_unit_test(nothing_is_written_before_the_first_commit),
                cmocka_unit_test(a_log_goes_on_where_it_ended),
                cmocka_unit_test(some_logs_cannot_be_written),
                cmocka_unit_test(features_are_set_with_the_first_commit),
                cmocka_unit_test(without_barriers_nothing_is_flushed),
                cmocka_unit_test(without_a_log_the_calls_are_the_same),
                cmocka_unit_test(memory_may_run_out_at_any_point),
                cmocka_unit_test(loading_may_find_no_memory),
        };

        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return cmocka_run_group_tests(tests, NULL, NULL);
}
