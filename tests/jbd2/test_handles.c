/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The calls of jbd2/jbd2.h that are about handles: credits, reservations, callbacks and ordered
 * data.  One promise a test.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tj.h"

/* ---- handles ---- */

static void a_thread_has_one_handle(void **state)
{
        struct jbd2_handle *h, *inner;
        struct rig r;

        rig_open_plain(&r);
        assert_null(jbd2_current(r.j));
        h = rig_start(&r, 4, 2);
        assert_ptr_equal(jbd2_current(r.j), h);
        assert_ptr_equal(jbd2_of(h), r.j);
        assert_int_equal(jbd2_credits(h), 4);
        assert_int_equal(jbd2_start(r.j, 4, 2, &inner), 0);
        assert_ptr_equal(inner, h);
        assert_int_equal(jbd2_start(r.j, 5, 0, &inner), -ENOSPC);
        assert_int_equal(jbd2_start(r.j, 0, 3, &inner), -ENOSPC);
        assert_int_equal(rig_set(&r, inner, 1, 'a'), 0);
        assert_int_equal(rig_set(&r, inner, 1, 'b'), 0);
        assert_int_equal(jbd2_credits(h), 3); /* once in a transaction */
        assert_int_equal(jbd2_stop(inner), 0);
        assert_ptr_equal(jbd2_current(r.j), h);
        assert_int_equal(jbd2_stop(h), 0);
        assert_null(jbd2_current(r.j));
        assert_int_equal(rig_close(&r), 0);
}

static void a_thread_has_a_handle_of_each_journal(void **state)
{
        struct jbd2_handle *h1, *h2;
        struct rig r1, r2;

        rig_open_plain(&r1);
        rig_open_plain(&r2);
        h1 = rig_start(&r1, 1, 0);
#ifndef UEXT4_LOCK_DEBUG /* there is no order between them */
        h2 = rig_start(&r2, 1, 0);
        assert_ptr_equal(jbd2_current(r1.j), h1);
        assert_ptr_equal(jbd2_current(r2.j), h2);
        assert_int_equal(jbd2_stop(h1), 0);
        assert_null(jbd2_current(r1.j));
        assert_ptr_equal(jbd2_current(r2.j), h2);
        assert_int_equal(jbd2_stop(h2), 0);
#else
        h2 = NULL;
        assert_ptr_equal(jbd2_current(r2.j), h2);
        assert_int_equal(jbd2_stop(h1), 0);
#endif
        assert_int_equal(rig_close(&r1), 0);
        assert_int_equal(rig_close(&r2), 0);
}

static void credits_have_a_limit(void **state)
{
        struct jbd2_handle *h;
        uint32_t max;
        struct rig r;

        rig_open_plain(&r);
        max = jbd2_max_credits(r.j);
        assert_true(max >= 8);
        assert_int_equal(jbd2_start(r.j, max + 1, 0, &h), -ENOSPC);
        assert_int_equal(jbd2_start(r.j, max, 64, &h), -ENOSPC);
        assert_int_equal(jbd2_start(r.j, UINT32_MAX, UINT32_MAX, &h), -ENOSPC);
        h = rig_start(&r, max, 0);
        for (uint32_t i = 0; i < max; i++)
                assert_int_equal(rig_set(&r, h, i, 'a'), 0);
        assert_int_equal(jbd2_restart(h, max + 1, 0), -ENOSPC);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(rig_durable_byte(&r, max - 1), 'a');
        assert_int_equal(rig_close(&r), 0);
}

/* In builds that look at locks a handle that takes more than it asked for ends the process. */
static void dies(void (*fn)(struct rig *r))
{
#ifdef UEXT4_LOCK_DEBUG
        pid_t pid;
        int status;

        fflush(NULL);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                struct rig r;

                signal(SIGABRT, SIG_DFL);
                T_CHECK(freopen("/dev/null", "w", stderr));
                rig_open_plain(&r);
                fn(&r);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
#else
        skip();
#endif
}

static void change_two(struct rig *r)
{
        struct jbd2_handle *h = rig_start(r, 1, 0);

        T_CHECK(rig_set(r, h, 1, 'a') == 0);
        T_CHECK(rig_set(r, h, 2, 'a') == 0);
}

static void revoke_two(struct rig *r)
{
        struct jbd2_handle *h = rig_start(r, 1, 1);

        jbd2_revoke(h, 1, NULL);
        jbd2_revoke(h, 2, NULL);
}

static void a_handle_may_change_no_more_than_it_asked_for(void **state)
{
        dies(change_two);
}

static void a_handle_may_revoke_no_more_than_it_asked_for(void **state)
{
        dies(revoke_two);
}

static void a_handle_is_extended_while_there_is_room(void **state)
{
        struct jbd2_handle *h;
        unsigned nr = 0;
        uint32_t tid;
        struct rig r;
        int ret;

        rig_open_plain(&r);
        h = rig_start(&r, 1, 0);
        tid = jbd2_tid(h);
        while ((ret = jbd2_extend(h, 2, 1)) == 0)
                nr++;
        assert_int_equal(ret, 1);
        assert_true(nr > 2);
        assert_int_equal(jbd2_credits(h), 1 + 2 * nr);
        assert_int_equal(jbd2_tid(h), tid);
        assert_int_equal(rig_set(&r, h, 1, 'a'), 0);
        assert_int_equal(jbd2_restart(h, 3, 0), 0);
        assert_int_equal(jbd2_credits(h), 3);
        assert_int_equal(rig_set(&r, h, 2, 'b'), 0);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(rig_close(&r), 0);
}

static void a_restart_lets_a_commit_through(void **state)
{
        struct rig_config c = rig_plain(264, 512);
        struct jbd2_handle *h;
        uint32_t tid, max;
        struct rig r;

        rig_open(&r, &c, NULL);
        max = jbd2_max_credits(r.j);
        h = rig_start(&r, max, 0);
        tid = jbd2_tid(h);
        for (unsigned n = 0; n < 12; n++) {
                for (uint32_t i = 0; i < max; i++)
                        assert_int_equal(rig_set(&r, h, (n * max + i) % 512, 'a'), 0);
                assert_int_equal(jbd2_restart(h, max, 0), 0);
        }
        assert_true(jbd2_tid_after(jbd2_tid(h), tid + 2));
        assert_true(jbd2_is_durable(r.j, tid));
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(rig_close(&r), 0);
}

static void ensure_extends_or_restarts(void **state)
{
        struct jbd2_handle *h;
        unsigned nr = 0;
        uint32_t tid;
        struct rig r;
        int ret;

        rig_open_plain(&r);
        h = rig_start(&r, 2, 0);
        tid = jbd2_tid(h);
        assert_int_equal(jbd2_ensure(h, 2, 0), 0);
        assert_int_equal(jbd2_credits(h), 2);
        while ((ret = jbd2_ensure(h, 8, 2)) == 0) {
                for (uint64_t i = 0; i < 8; i++)
                        assert_int_equal(rig_set(&r, h, nr * 8 + i, 'a'), 0);
                nr++;
        }
        assert_int_equal(ret, 1);
        assert_true(nr > 1);
        assert_int_equal(jbd2_credits(h), 8);
        assert_int_not_equal(jbd2_tid(h), tid);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(rig_close(&r), 0);
}

static void waiting_with_a_handle_open_is_refused(void **state)
{
        struct jbd2_reserved *reserved;
        struct jbd2_handle *h, *h2;
        struct rig r;

        rig_open_plain(&r);
        h = rig_start(&r, 1, 0);
        assert_int_equal(jbd2_commit(r.j, jbd2_tid(h)), -EDEADLK);
        assert_int_equal(jbd2_commit_all(r.j), -EDEADLK);
        assert_int_equal(jbd2_flush(r.j), -EDEADLK);
        assert_int_equal(jbd2_start_reserving(r.j, 1, 0, 1, &h2, &reserved), -EDEADLK);
        assert_int_equal(jbd2_error(r.j), 0);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(rig_close(&r), 0);
}

/* ---- reservations ---- */

static void what_was_reserved_can_be_used(void **state)
{
        struct jbd2_reserved *reserved;
        struct jbd2_handle *h;
        struct rig r;

        rig_open_plain(&r);
        assert_int_equal(jbd2_start_reserving(r.j, 2, 0, 3, &h, &reserved), 0);
        assert_int_equal(rig_set(&r, h, 1, 'a'), 0);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(jbd2_commit_all(r.j), 0); /* it outlives the transaction */
        assert_int_equal(jbd2_start_reserved(reserved, &h), 0);
        assert_int_equal(jbd2_credits(h), 3);
        for (uint64_t i = 2; i < 5; i++)
                assert_int_equal(rig_set(&r, h, i, 'b'), 0);
        assert_int_equal(jbd2_stop(h), 0);
        jbd2_unreserve(NULL);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(rig_durable_byte(&r, 4), 'b');
        assert_int_equal(rig_close(&r), 0);
}

/* Nothing of a reservation stays behind, whichever way it goes. */
static void reservations_do_not_add_up(void **state)
{
        struct jbd2_handle *h;
        struct rig r;

        rig_open_plain(&r);
        for (unsigned n = 0; n < 200; n++) {
                struct jbd2_reserved *reserved;
                uint32_t max = jbd2_max_credits(r.j);

                assert_int_equal(jbd2_start_reserving(r.j, 1, 0, max / 2, &h, &reserved), 0);
                assert_int_equal(jbd2_stop(h), 0);
                if (n % 2) {
                        jbd2_unreserve(reserved);
                } else {
                        assert_int_equal(jbd2_start_reserved(reserved, &h), 0);
                        assert_int_equal(rig_set(&r, h, n % 100, 'a'), 0);
                        assert_int_equal(jbd2_stop(h), 0);
                }
                h = rig_start(&r, max, 0);
                assert_int_equal(jbd2_stop(h), 0);
        }
        assert_int_equal(rig_close(&r), 0);
}

/* Completions must find room although everybody else fills the log (J19). */
static void reserved_work_needs_no_room(void **state)
{
        struct jbd2_reserved *reserved[8];
        struct jbd2_handle *h;
        struct rig r;

        rig_open_plain(&r);
        for (unsigned i = 0; i < 8; i++) {
                assert_int_equal(jbd2_start_reserving(r.j, 1, 0, 1, &h, &reserved[i]), 0);
                assert_int_equal(jbd2_stop(h), 0);
        }
        for (unsigned n = 0; n < 300; n++) {
                rig_set_many(&r, n % 100, 4, 'x');
                if (n % 40 == 39) {
                        assert_int_equal(jbd2_start_reserved(reserved[n / 40], &h), 0);
                        assert_int_equal(rig_set(&r, h, 110 + n / 40, 'r'), 0);
                        assert_int_equal(jbd2_stop(h), 0);
                }
        }
        assert_int_equal(jbd2_start_reserved(reserved[7], &h), 0);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(jbd2_flush(r.j), 0);
        assert_int_equal(rig_device_byte(&r, 116), 'r');
        assert_int_equal(rig_close(&r), 0);
}

struct starter {
        struct rig *r;
        uint32_t blocks;
        atomic_bool has_started;
};

static void *start_and_stop(void *arg)
{
        struct starter *s = arg;
        struct jbd2_handle *h = rig_start(s->r, s->blocks, 0);

        atomic_store(&s->has_started, true);
        T_CHECK(jbd2_stop(h) == 0);
        return NULL;
}

/* No commit gives room that is set aside; a handle waits until it is given back. */
static void a_handle_waits_for_reservations(void **state)
{
        struct jbd2_reserved *reserved[3];
        struct jbd2_handle *h;
        struct starter s;
        pthread_t thread;
        struct rig r;

        rig_open_plain(&r);
        s = (struct starter){.r = &r, .blocks = jbd2_max_credits(r.j)};
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(
                        jbd2_start_reserving(r.j, 1, 0, s.blocks / 2, &h, &reserved[i]), 0);
                assert_int_equal(jbd2_stop(h), 0);
        }
        assert_int_equal(pthread_create(&thread, NULL, start_and_stop, &s), 0);
        usleep(20000);
        assert_false(atomic_load(&s.has_started));
        for (unsigned i = 0; i < 3; i++)
                jbd2_unreserve(reserved[i]);
        pthread_join(thread, NULL);
        assert_true(atomic_load(&s.has_started));
        assert_int_equal(rig_close(&r), 0);
}

/* ---- callbacks and ordered data ---- */

struct event {
        struct jbd2_callback cb;
        struct jbd2_ordered o;
        char name;
        int result;
};

static char events[16];

static void tell(char what)
{
        size_t n = strlen(events);

        T_CHECK(n + 1 < sizeof(events));
        events[n] = what;
        events[n + 1] = '\0';
}

static void event_cb(struct jbd2_callback *cb, int err)
{
        struct event *e = container_of(cb, struct event, cb);

        e->result = err;
        tell(e->name);
}

static int event_submit(struct jbd2_ordered *o)
{
        struct event *e = container_of(o, struct event, o);

        tell('s');
        return e->result;
}

static int event_wait(struct jbd2_ordered *o)
{
        tell('w');
        return 0;
}

static const struct jbd2_ordered_ops event_ops = {event_submit, event_wait};

static void a_commit_calls_in_order(void **state)
{
        struct event a = {.cb.fn = event_cb, .o.ops = &event_ops, .name = 'a'};
        struct event b = {.cb.fn = event_cb, .o.ops = &event_ops, .name = 'b', .result = 5};
        struct jbd2_handle *h;
        struct rig r;

        events[0] = '\0';
        rig_open_plain(&r);
        h = rig_start(&r, 1, 0);
        jbd2_on_commit(h, &a.cb);
        jbd2_on_commit(h, &b.cb);
        jbd2_order(h, &a.o);
        jbd2_order(h, &a.o);
        assert_int_equal(jbd2_stop(h), 0);
        assert_string_equal(events, "");
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_string_equal(events, "swab");
        assert_int_equal(b.result, 0);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        rig_set_many(&r, 1, 1, 'x');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_string_equal(events, "swab"); /* once */
        assert_int_equal(rig_close(&r), 0);
}

static void ordered_data_can_be_taken_out_again(void **state)
{
        struct event a = {.o.ops = &event_ops};
        struct jbd2_handle *h;
        struct rig r;

        events[0] = '\0';
        rig_open_plain(&r);
        jbd2_unorder(r.j, &a.o);
        h = rig_start(&r, 1, 0);
        jbd2_order(h, &a.o);
        assert_int_equal(jbd2_stop(h), 0);
        jbd2_unorder(r.j, &a.o);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_string_equal(events, "");
        assert_int_equal(rig_close(&r), 0);
}

static void failed_data_aborts(void **state)
{
        struct event a = {.cb.fn = event_cb, .o.ops = &event_ops, .name = 'a', .result = -EIO};
        struct jbd2_handle *h;
        uint32_t tid;
        struct rig r;

        events[0] = '\0';
        rig_open_plain(&r);
        h = rig_start(&r, 1, 0);
        tid = jbd2_tid(h);
        assert_int_equal(rig_set(&r, h, 1, 'a'), 0);
        jbd2_order(h, &a.o);
        jbd2_on_commit(h, &a.cb);
        jbd2_sync(h);
        assert_int_equal(jbd2_stop(h), -EIO);
        assert_true(strchr(events, 'a'));
        assert_int_equal(a.result, -EIO); /* it never will be durable */
        assert_false(jbd2_is_durable(r.j, tid));
        assert_int_equal(rig_recovered_byte(&r, UEXT4_BDEV_SIM_ALL, 1), 0);
        assert_int_equal(rig_close(&r), -EIO);
}

static void a_handle_without_a_transaction_does_nothing(void **state)
{
        struct event a = {.cb.fn = event_cb, .name = 'a'};
        struct jbd2_handle *h, *inner;
        struct rig r;

        events[0] = '\0';
        rig_open_plain(&r);
        h = rig_start(&r, 2, 2);
        jbd2_abort(r.j, -EIO);
        assert_int_equal(jbd2_restart(h, 2, 2), -EROFS);
        assert_int_equal(jbd2_tid(h), 0);
        assert_int_equal(jbd2_credits(h), 0);
        assert_int_equal(jbd2_start(r.j, 1, 0, &inner), -EROFS);
        assert_int_equal(jbd2_extend(h, 1, 0), -EROFS);
        assert_int_equal(jbd2_ensure(h, 1, 0), -EROFS);
        assert_int_equal(rig_set(&r, h, 1, 'a'), -EROFS);
        jbd2_revoke(h, 1, NULL);
        jbd2_order(h, &a.o);
        jbd2_on_commit(h, &a.cb);
        assert_string_equal(events, "a");
        assert_int_equal(a.result, -EROFS);
        assert_int_equal(jbd2_stop(h), -EIO);
        assert_int_equal(rig_close(&r), -EIO);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_thread_has_one_handle),
                cmocka_unit_test(a_thread_has_a_handle_of_each_journal),
                cmocka_unit_test(credits_have_a_limit),
                cmocka_unit_test(a_handle_may_change_no_more_than_it_asked_for),
                cmocka_unit_test(a_handle_may_revoke_no_more_than_it_asked_for),
                cmocka_unit_test(a_handle_is_extended_while_there_is_room),
                cmocka_unit_test(a_restart_lets_a_commit_through),
                cmocka_unit_test(ensure_extends_or_restarts),
                cmocka_unit_test(waiting_with_a_handle_open_is_refused),
                cmocka_unit_test(what_was_reserved_can_be_used),
                cmocka_unit_test(reservations_do_not_add_up),
                cmocka_unit_test(reserved_work_needs_no_room),
                cmocka_unit_test(a_handle_waits_for_reservations),
                cmocka_unit_test(a_commit_calls_in_order),
                cmocka_unit_test(ordered_data_can_be_taken_out_again),
                cmocka_unit_test(failed_data_aborts),
                cmocka_unit_test(a_handle_without_a_transaction_does_nothing),
        };

        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return cmocka_run_group_tests(tests, NULL, NULL);
}
