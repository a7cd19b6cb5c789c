/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Devices that fail: the Nth request of a run fails, for every N, once or from then on.  No
 * call hangs, handles balance, there is one state after it, and what was reported durable is
 * there after recovery.
 */
#include <sched.h>

#include "cut.h"
#include "driver.h"

#define NR_META 96
#define NR_DATA 16

struct sweep {
        struct rig rig;
        struct model model;
        struct driver_shared shared;
        struct driver driver;
        struct cutter cut;
};

static const uint32_t all_ops = 1u << UEXT4_BDEV_READ | 1u << UEXT4_BDEV_WRITE |
                                1u << UEXT4_BDEV_FLUSH | 1u << UEXT4_BDEV_WRITE_ZEROES;

/* After an abort: reads go on, changes are refused, nothing hangs (J25b). */
static void check_aborted(struct rig *r)
{
        struct jbd2_handle *h;

        T_CHECK(jbd2_error(r->j) < 0);
        T_CHECK(atomic_load(&r->nr_aborted) == 1);
        T_CHECK(atomic_load(&r->abort_err) == jbd2_error(r->j));
        T_CHECK(jbd2_start(r->j, 1, 1, &h) == -EROFS);
        T_CHECK(!jbd2_current(r->j));
        T_CHECK(jbd2_flush(r->j) < 0);
        T_CHECK(t_log_has(&r->log, "aborted"));
}

/* The error is in the journal's superblock, if that could be written. */
static void check_error_stored(struct rig *r, int err)
{
        struct jbd2_super sb;

        if (r->c.no_log)
                return;
        sb = rig_super(&r->c, r->sims[r->c.external ? RIG_LOG : RIG_FS]);
        T_CHECK((int32_t)be32_get(sb.s_errno) == err);
}

static void sweep_open(struct sweep *s, const struct rig_config *c)
{
        model_init(&s->model, NR_META, NR_DATA, c->f.block_size);
        s->model.no_log = c->no_log;
        cutter_init(&s->cut, c, &s->rig, &s->model);
        rig_open(&s->rig, c, NULL);
        driver_shared_init(&s->shared, &s->rig, &s->model);
        s->shared.may_fail = true;
        s->driver = (struct driver){.s = &s->shared, .rand = c->seed};
        driver_learn_tid(&s->shared);
}

/* False when the run had fewer requests: then nothing failed. */
static bool sweep_close(struct sweep *s, bool is_sticky)
{
        struct rig *r = &s->rig;
        uint64_t hits = 0;
        int ret, err;

        for (unsigned i = 0; i < RIG_NR_DEVS; i++)
                if (r->faults[i])
                        hits += uext4_bdev_fault_hits(r->faults[i]);
        err = jbd2_error(r->j);
        if (err < 0)
                check_aborted(r);
        if (err < 0 && !is_sticky)
                check_error_stored(r, err);
        cutter_look_now(&s->cut); /* what was reported durable is there */
        ret = rig_unload(r);
        T_CHECK(err == 0 || ret == err);
        driver_shared_done(&s->shared);
        rig_close(r);
        cutter_done(&s->cut);
        model_done(&s->model);
        return hits > 0;
}

/* One run with a fault in request `skip` of these operations of one device. */
static bool run_with_fault(const struct rig_config *c, enum rig_dev which, uint32_t ops,
                           uint64_t skip, bool is_sticky, unsigned nr_steps)
{
        struct sweep *s = t_alloc(sizeof(*s));
        struct uext4_bdev_fault fault = {
                .ops = ops, .skip = skip, .count = is_sticky ? 0 : 1, .error = -EIO};
        bool hit;

        s->cut = (struct cutter){.nr_random = 1, .rand = skip};
        sweep_open(s, c);
        T_CHECK(uext4_bdev_fault_add(s->rig.faults[which], &fault) == 0);
        driver_run(&s->driver, nr_steps);
        if (jbd2_error(s->rig.j) == 0) /* a read may fail, and that is all */
                driver_run(&s->driver, nr_steps);
        if (jbd2_error(s->rig.j) == 0 && !is_sticky) {
                int ret = jbd2_flush(s->rig.j);

                T_CHECK((ret == 0) == (jbd2_error(s->rig.j) == 0));
        }
        hit = sweep_close(s, is_sticky);
        free(s);
        return hit;
}

static void sweep(struct rig_config c, enum rig_dev which, uint32_t ops, unsigned nr_steps,
                  unsigned stride)
{
        uint64_t n = 0;

        c.with_fault = true;
        for (; run_with_fault(&c, which, ops, n, n / stride % 2, nr_steps); n += stride)
                T_CHECK(n < 100000);
        printf("# %s: %llu requests could fail\n", c.name, (unsigned long long)n);
}

static struct rig_config by_name(const char *name)
{
        for (size_t i = 0; i < rig_nr_formats; i++)
                if (strcmp(rig_formats[i].name, name) == 0)
                        return rig_formats[i];
        fail_msg("no format '%s'", name);
        return rig_formats[0];
}

/* Once for even N, for ever for odd N; the long run does both for each. */
static void nothing_is_lost_when_a_request_fails(void **state)
{
        struct rig_config c = by_name("checksums v3");

        c.seed = t_seed();
        sweep(c, RIG_FS, all_ops, 60, 1);
        c.seed++;
        sweep(c, RIG_FS, all_ops, 500, t_is_long() ? 1 : 7);
}

static void a_device_of_its_own_may_fail(void **state)
{
        struct rig_config c = by_name("checksums v3, own device");

        c.seed = t_seed();
        for (enum rig_dev which = RIG_FS; which < RIG_NR_DEVS; which++)
                sweep(c, which, all_ops, 500, t_is_long() ? 1 : 5);
}

static void without_a_log_a_request_may_fail(void **state)
{
        struct rig_config c = by_name("checksums v3");

        c.no_log = true;
        c.seed = t_seed();
        sweep(c, RIG_FS, all_ops, 60, 1);
}

static void a_flush_may_fail(void **state)
{
        struct rig_config c = by_name("checksums v1");

        c.seed = t_seed();
        sweep(c, RIG_FS, 1u << UEXT4_BDEV_FLUSH, 300, 1);
}

static void fail_everything_from_now(struct rig *r)
{
        struct uext4_bdev_fault fault = {.ops = 1u << UEXT4_BDEV_WRITE, .error = -EIO};

        T_CHECK(uext4_bdev_fault_add(r->faults[RIG_FS], &fault) == 0);
}

/* ---- one by one ---- */

/* A checkpoint that cannot write a block home keeps the log (J42). */
static void a_failed_checkpoint_keeps_the_log(void **state)
{
        struct rig_config c = rig_plain(264, 64);
        struct uext4_bdev_fault fault = {
                .ops = 1u << UEXT4_BDEV_WRITE, .pos = 0, .len = 64 * 1024, .error = -EIO};
        struct rig r;

        c.with_fault = true;
        rig_open(&r, &c, NULL);
        T_CHECK(uext4_bdev_fault_add(r.faults[RIG_FS], &fault) == 0);
        rig_set_many(&r, 3, 4, 'a');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(jbd2_flush(r.j), -EIO);
        check_aborted(&r);
        check_error_stored(&r, -EIO);
        assert_int_equal(rig_cached_byte(&r, 3), 'a');
        assert_int_equal(rig_durable_byte(&r, 3), 'a');
        assert_int_equal(rig_recovered_byte(&r, UEXT4_BDEV_SIM_ALL, 6), 'a');
        assert_int_equal(rig_close(&r), -EIO);
}

static void open_handles_are_stopped_after_an_abort(void **state)
{
        struct rig_config c = rig_plain(264, 64);
        struct jbd2_reserved *reserved, *unused;
        struct jbd2_handle *h, *inner;
        struct rig r;

        rig_open(&r, &c, NULL);
        assert_int_equal(jbd2_start_reserving(r.j, 2, 1, 1, &h, &reserved), 0);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(jbd2_start_reserving(r.j, 3, 1, 1, &h, &unused), 0);
        assert_int_equal(jbd2_start(r.j, 1, 0, &inner), 0);
        assert_int_equal(rig_set(&r, h, 5, 'a'), 0);
        jbd2_abort(r.j, -EIO);
        jbd2_abort(r.j, -ENOSPC); /* the first one counts */
        assert_int_equal(jbd2_error(r.j), -EIO);
        assert_int_equal(rig_set(&r, h, 6, 'a'), -EROFS);
        assert_int_equal(jbd2_extend(h, 1, 0), -EROFS);
        assert_int_equal(jbd2_restart(h, 1, 0), -EROFS);
        assert_int_equal(jbd2_stop(inner), -EIO);
        assert_int_equal(jbd2_stop(h), -EIO);
        assert_int_equal(jbd2_start_reserved(reserved, &h), -EROFS);
        jbd2_unreserve(unused);
        check_aborted(&r);
        check_error_stored(&r, -EIO);
        assert_int_equal(rig_cached_byte(&r, 5), 'a'); /* reads go on */
        assert_int_equal(rig_close(&r), -EIO);
}

static void all_waiters_learn_of_an_abort(void *arg, unsigned n)
{
        struct rig *r = arg;

        for (;;) {
                struct jbd2_handle *h;
                int ret = jbd2_start(r->j, 2, 0, &h);

                if (ret == -EROFS)
                        return;
                T_CHECK(ret == 0);
                ret = rig_set(r, h, n, 'x');
                T_CHECK(ret == 0 || ret == -EROFS);
                jbd2_sync(h);
                if (jbd2_stop(h) < 0)
                        return;
                if (n == 0)
                        fail_everything_from_now(r);
        }
}

/* Who waits is woken before the callback is told; whoever aborts does both. */
static void wait_until_told(struct rig *r)
{
        const uint64_t late = clock_ns() + 20000000000ull;

        while (atomic_load(&r->nr_aborted) == 0) {
                T_CHECK(clock_ns() < late);
                sched_yield();
        }
}

static void no_waiter_is_left_behind(void **state)
{
        for (unsigned round = 0; round < 10; round++) {
                struct rig_config c = rig_plain(264, 64);
                struct rig r;

                c.with_fault = true;
                c.commit_ms = 5;
                rig_open(&r, &c, NULL);
                t_run_threads(8, all_waiters_learn_of_an_abort, &r);
                wait_until_told(&r);
                check_aborted(&r);
                assert_true(rig_close(&r) < 0);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(nothing_is_lost_when_a_request_fails),
                cmocka_unit_test(a_device_of_its_own_may_fail),
                cmocka_unit_test(without_a_log_a_request_may_fail),
                cmocka_unit_test(a_flush_may_fail),
                cmocka_unit_test(a_failed_checkpoint_keeps_the_log),
                cmocka_unit_test(open_handles_are_stopped_after_an_abort),
                cmocka_unit_test(no_waiter_is_left_behind),
        };

        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return cmocka_run_group_tests(tests, NULL, NULL);
}
