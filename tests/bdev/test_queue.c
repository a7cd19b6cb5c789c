/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The generic part of a queue, with a device whose requests stay under way for as long as
 * the test wants: time-outs, the baton between threads, and freeing.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tdev.h"
#include "util/alloc.h"
#include "util/lock.h"

#define SIZE 65536
#define MS   1000000

struct fixture {
        struct t_user *user;
        struct uext4_bdev_queue *q;
        char *buf;
        struct t_req r;
};

static int setup(void **state)
{
        struct fixture *fx = calloc(1, sizeof(*fx));

        fx->user = t_user_new(SIZE, 0, T_USER_QUEUE);
        fx->buf = t_alloc(SIZE);
        assert_int_equal(uext4_bdev_queue_new(&fx->user->dev, 4, &fx->q), 0);
        t_req_init(&fx->r, UEXT4_BDEV_READ, fx->buf, 1024, 0);
        *state = fx;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *fx = *state;

        uext4_bdev_queue_free(fx->q);
        uext4_bdev_close(&fx->user->dev);
        free(fx->buf);
        free(fx);
        return 0;
}

/* One request under way that does not end. */
static void hold_one(struct fixture *fx)
{
        t_user_hold(fx->user, true);
        assert_int_equal(uext4_bdev_queue_add(fx->q, &fx->r.req), 0);
        assert_int_equal(uext4_bdev_queue_kick(fx->q), 0);
}

static void a_timeout_is_kept(void **state)
{
        struct fixture *fx = *state;
        uint64_t start;

        hold_one(fx);
        assert_int_equal(uext4_bdev_queue_drive(fx->q, 0), 0);
        start = clock_ns();
        assert_int_equal(uext4_bdev_queue_drive(fx->q, 30 * MS), 0);
        assert_true(clock_ns() - start >= 30 * MS);
        assert_int_equal(uext4_bdev_queue_in_flight(fx->q), 1);
        t_user_hold(fx->user, false);
        assert_int_equal(uext4_bdev_queue_drive(fx->q, -1), 1);
        assert_int_equal(fx->r.nr_done, 1);
}

struct driver {
        struct uext4_bdev_queue *q;
        int64_t timeout_ns;
        pthread_t thread;
        _Atomic pid_t tid;
        _Atomic bool back;
        int ret;
};

static void *drive_once(void *arg)
{
        struct driver *d = arg;

        atomic_store(&d->tid, gettid());
        d->ret = uext4_bdev_queue_drive(d->q, d->timeout_ns);
        atomic_store(&d->back, true);
        return NULL;
}

static bool is_asleep(pid_t tid)
{
        char path[64], state = 0;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
        f = fopen(path, "r");
        if (f && fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
                state = 0;
        if (f)
                fclose(f);
        return state == 'S';
}

/* Returns when it waits in drive(), or its time is over. */
static void driver_start(struct driver *d, struct fixture *fx, int64_t timeout_ns)
{
        *d = (struct driver){.q = fx->q, .timeout_ns = timeout_ns};
        assert_int_equal(pthread_create(&d->thread, NULL, drive_once, d), 0);
        while (!atomic_load(&d->tid) || !(is_asleep(d->tid) || atomic_load(&d->back)))
                usleep(1000);
}

static int driver_join(struct driver *d)
{
        pthread_join(d->thread, NULL);
        return d->ret;
}

/* While one thread drives without end, a second one keeps its own time-out. */
static void a_waiter_keeps_its_timeout(void **state)
{
        struct fixture *fx = *state;
        struct driver first;
        uint64_t start;

        hold_one(fx);
        driver_start(&first, fx, -1);
        assert_int_equal(uext4_bdev_queue_drive(fx->q, 0), 0);
        start = clock_ns();
        assert_int_equal(uext4_bdev_queue_drive(fx->q, 30 * MS), 0);
        assert_true(clock_ns() - start >= 30 * MS);
        assert_false(atomic_load(&first.back));
        t_user_hold(fx->user, false);
        assert_int_equal(driver_join(&first), 1);
}

/* One completes it, all that wait hear of it. */
static void all_waiters_wake_up(void **state)
{
        struct fixture *fx = *state;
        struct driver d[4];
        int nr_told = 0;

        hold_one(fx);
        for (int i = 0; i < 4; i++)
                driver_start(&d[i], fx, -1);
        for (int i = 0; i < 4; i++)
                assert_false(atomic_load(&d[i].back));
        t_user_hold(fx->user, false);
        for (int i = 0; i < 4; i++)
                nr_told += driver_join(&d[i]);
        assert_int_equal(nr_told, 4);
        assert_int_equal(fx->r.nr_done, 1);
}

/* The driver gives up; the waiter takes over and completes the request itself. */
static void a_waiter_takes_over(void **state)
{
        struct fixture *fx = *state;
        struct driver impatient, patient;

        hold_one(fx);
        driver_start(&impatient, fx, 40 * MS);
        driver_start(&patient, fx, -1);
        assert_int_equal(driver_join(&impatient), 0);
        assert_false(atomic_load(&patient.back));
        t_user_hold(fx->user, false);
        assert_int_equal(driver_join(&patient), 1);
        assert_int_equal(fx->r.nr_done, 1);
}

/* A helper sits in the kernel for one request; the owner adds another and drives. */
static void the_owner_adds_while_a_helper_waits(void **state)
{
        struct fixture *fx = *state;
        struct driver helper;
        struct t_req second;

        hold_one(fx);
        driver_start(&helper, fx, -1);
        t_req_init(&second, UEXT4_BDEV_READ, fx->buf + 1024, 1024, 1024);
        assert_int_equal(uext4_bdev_queue_add(fx->q, &second.req), 0);
        t_user_hold(fx->user, false);
        t_drain(fx->q);
        driver_join(&helper);
        assert_int_equal(fx->r.nr_done, 1);
        assert_int_equal(second.nr_done, 1);
}

/* Helpers inside of drive leave before the queue goes. */
static void free_waits_for_helpers(void **state)
{
        struct fixture *fx = *state;
        struct driver d[3];

        hold_one(fx);
        for (int i = 0; i < 3; i++)
                driver_start(&d[i], fx, i == 2 ? 15 * MS : -1);
        uext4_bdev_queue_free(fx->q);
        fx->q = NULL;
        assert_int_equal(fx->r.nr_done, 1);
        for (int i = 0; i < 3; i++)
                driver_join(&d[i]);
}

/* FUA on a volatile device that has no such thing: the core adds a flush, once. */
static void fua_becomes_write_and_flush(void **state)
{
        static const enum t_user_queue kinds[] = {T_USER_SYNC, T_USER_QUEUE};
        char *buf = t_alloc(SIZE);

        for (int i = 0; i < 2; i++) {
                struct t_user *user = t_user_new(SIZE, UEXT4_BDEV_CAP_VOLATILE, kinds[i]);
                struct uext4_bdev *dev = NULL;
                struct uext4_bdev_queue *q = NULL;
                struct t_req r;

                assert_int_equal(uext4_bdev_open_trace(&user->dev, 0, &dev), 0);
                assert_int_equal(uext4_bdev_write(dev, buf, 1024, 0, UEXT4_BDEV_FUA), 0);
                assert_int_equal(user->nr_flushes, 1);
                assert_int_equal(uext4_bdev_write_zeroes(dev, 0, 1024, UEXT4_BDEV_FUA), 0);
                assert_int_equal(user->nr_flushes, 2);

                assert_int_equal(uext4_bdev_queue_new(dev, 1, &q), 0);
                t_req_init(&r, UEXT4_BDEV_WRITE, buf, 1024, 0);
                r.req.flags = UEXT4_BDEV_FUA;
                assert_int_equal(uext4_bdev_queue_add(q, &r.req), 0);
                t_drain(q);
                assert_int_equal(r.result, 0);
                assert_int_equal(user->nr_flushes, 3);
                uext4_bdev_queue_free(q);
                uext4_bdev_close(dev);
        }
        free(buf);
}

static void a_broken_geometry_is_refused(void **state)
{
        struct fixture *fx = *state;
        const struct uext4_bdev_geometry good = fx->user->dev.geo;
        const struct uext4_bdev_ops *ops = fx->user->dev.ops;
        struct uext4_bdev_geometry geo;
        struct uext4_bdev_ops few = *ops;
        struct uext4_bdev dev;

        assert_int_equal(uext4_bdev_init(&dev, ops, &good), 0);
        geo = good;
        geo.logical_block = 256;
        assert_int_equal(uext4_bdev_init(&dev, ops, &geo), -EINVAL);
        geo.logical_block = 1536;
        assert_int_equal(uext4_bdev_init(&dev, ops, &geo), -EINVAL);
        geo.logical_block = 131072;
        assert_int_equal(uext4_bdev_init(&dev, ops, &geo), -EINVAL);
        geo = good;
        geo.size += 512;
        assert_int_equal(uext4_bdev_init(&dev, ops, &geo), -EINVAL);
        geo.size = 1ull << 63;
        assert_int_equal(uext4_bdev_init(&dev, ops, &geo), -EINVAL);
        geo = good;
        geo.mem_align = 0;
        assert_int_equal(uext4_bdev_init(&dev, ops, &geo), -EINVAL);
        geo.mem_align = 24;
        assert_int_equal(uext4_bdev_init(&dev, ops, &geo), -EINVAL);

        few.write = NULL;
        assert_int_equal(uext4_bdev_init(&dev, &few, &good), -EINVAL);
        geo = good;
        geo.caps = UEXT4_BDEV_CAP_READONLY;
        assert_int_equal(uext4_bdev_init(&dev, &few, &geo), 0);
        geo.caps |= UEXT4_BDEV_CAP_DISCARD;
        assert_int_equal(uext4_bdev_init(&dev, &few, &geo), -EINVAL);
        few.flush = NULL;
        geo.caps = UEXT4_BDEV_CAP_READONLY | UEXT4_BDEV_CAP_VOLATILE;
        assert_int_equal(uext4_bdev_init(&dev, &few, &geo), -EINVAL);
}

/* Every allocation of it, failed in turn. */
static void a_queue_without_memory_is_enomem(void **state)
{
        struct uext4_bdev *mem = NULL, *trace = NULL;
        struct uext4_bdev_queue *q = NULL;
        char *buf = t_alloc(512);
        int ret = -ENOMEM;
        struct t_req r;

        assert_int_equal(uext4_bdev_open_mem(SIZE, &mem), 0);
        assert_int_equal(uext4_bdev_open_trace(mem, 0, &trace), 0);
        for (int i = 0; ret < 0; i++) {
                assert_in_range(i, 0, 20);
                mem_fail_after(i);
                ret = uext4_bdev_queue_new(trace, 2, &q);
                mem_fail_after(-1);
                assert_true(ret == 0 || ret == -ENOMEM);
        }
        t_req_init(&r, UEXT4_BDEV_READ, buf, 512, 0);
        mem_fail_after(0);
        assert_int_equal(uext4_bdev_queue_add(q, &r.req), -ENOMEM);
        mem_fail_after(-1);
        assert_int_equal(uext4_bdev_queue_in_flight(q), 0);
        assert_int_equal(uext4_bdev_queue_add(q, &r.req), 0);
        t_drain(q);
        assert_int_equal(r.result, 0);
        uext4_bdev_queue_free(q);
        uext4_bdev_close(trace);
        free(buf);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        static const struct CMUnitTest tests[] = {
                T(a_timeout_is_kept),
                T(a_waiter_keeps_its_timeout),
                T(all_waiters_wake_up),
                T(a_waiter_takes_over),
                T(the_owner_adds_while_a_helper_waits),
                T(free_waits_for_helpers),
                T(fua_becomes_write_and_flush),
                T(a_broken_geometry_is_refused),
                T(a_queue_without_memory_is_enomem),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
