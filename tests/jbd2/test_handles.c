/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Each call of jbd2/jbd2.h, one promise a test.
 */
#include <semaphore.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tj.h"

#define BS 1024

static void open_plain(struct rig *r)
{
        struct rig_config c = rig_plain(264, 128);

        rig_open(r, &c, NULL);
}

static struct jbd2_stats stats_of(struct rig *r)
{
        struct jbd2_stats st;

        jbd2_get_stats(r->j, &st);
        return st;
}

static struct buf *get_buf(struct rig *r, uint64_t blk)
{
        struct buf *buf;

        T_CHECK(buf_read(r->bufs, blk, NULL, 0, &buf) == 0);
        return buf;
}

/* The first byte of a block as the device has it at this moment, durable or not. */
static int device_byte(struct rig *r, uint64_t blk)
{
        uint8_t byte;

        T_CHECK(uext4_bdev_read_bytes(r->devs[RIG_FS], &byte, 1, blk * r->c.f.block_size) == 0);
        return byte;
}

static int durable_byte(struct rig *r, uint64_t blk)
{
        return rig_recovered_byte(r, UEXT4_BDEV_SIM_NONE, blk);
}

static void create(struct rig *r, struct jbd2_handle *h, uint64_t blk, uint8_t byte)
{
        struct buf *buf;
        void *bytes;

        T_CHECK(buf_new(r->bufs, blk, &buf) == 0);
        T_CHECK(jbd2_get_create(h, buf, &bytes) == 0);
        for (unsigned i = 0; i < r->c.f.block_size; i++)
                T_CHECK(((uint8_t *)bytes)[i] == 0);
        memset(bytes, byte, r->c.f.block_size);
        jbd2_dirty(h, buf);
        buf_put(buf);
}

/* ---- handles ---- */

static void a_thread_has_one_handle(void **state)
{
        struct jbd2_handle *h, *inner;
        struct rig r;

        open_plain(&r);
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

        open_plain(&r1);
        open_plain(&r2);
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

        open_plain(&r);
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
        assert_int_equal(durable_byte(&r, max - 1), 'a');
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
                open_plain(&r);
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

        open_plain(&r);
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

        open_plain(&r);
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

        open_plain(&r);
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

        open_plain(&r);
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
        assert_int_equal(durable_byte(&r, 4), 'b');
        assert_int_equal(rig_close(&r), 0);
}

/* Nothing of a reservation stays behind, whichever way it goes. */
static void reservations_do_not_add_up(void **state)
{
        struct jbd2_handle *h;
        struct rig r;

        open_plain(&r);
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

        open_plain(&r);
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
        assert_int_equal(device_byte(&r, 116), 'r');
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

        open_plain(&r);
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

/* ---- access ---- */

static void access_alone_changes_nothing(void **state)
{
        struct jbd2_handle *h;
        struct buf *buf;
        struct rig r;
        void *bytes;

        open_plain(&r);
        h = rig_start(&r, 1, 0);
        buf = get_buf(&r, 3);
        assert_int_equal(jbd2_get_write(h, buf, &bytes), 0);
        buf_put(buf);
        assert_int_equal(jbd2_credits(h), 1);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(stats_of(&r).nr_logged, 0);
        assert_int_equal(rig_close(&r), 0);
}

static void the_last_committed_bytes_can_be_had(void **state)
{
        struct jbd2_handle *h;
        uint8_t old[BS] = {0};
        struct buf *buf;
        struct rig r;
        void *bytes;

        open_plain(&r);
        rig_set_many(&r, 3, 1, 'a');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        buf = get_buf(&r, 3);
        h = rig_start(&r, 1, 0);
        assert_int_equal(jbd2_get_undo(h, buf, &bytes), 0);
        memset(bytes, 'b', BS);
        jbd2_dirty(h, buf);
        assert_int_equal(jbd2_stop(h), 0);
        assert_true(jbd2_committed_bytes(r.j, buf, old));
        assert_int_equal(old[7], 'a');
        assert_int_equal(rig_cached_byte(&r, 3), 'b');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        if (jbd2_committed_bytes(r.j, buf, old))
                assert_int_equal(old[7], 'b');
        buf_put(buf);
        assert_int_equal(rig_close(&r), 0);
}

/* Ordered data that keeps a commit waiting. */
struct held {
        struct jbd2_ordered_ops ops;
        struct jbd2_ordered o;
        struct rig *r;
        uint32_t tid;
        sem_t is_waiting, may_go_on;
        pthread_t thread;
};

static int no_call(struct jbd2_ordered *o)
{
        return 0;
}

static int hold(struct jbd2_ordered *o)
{
        struct held *held = container_of(o, struct held, o);

        sem_post(&held->is_waiting);
        sem_wait(&held->may_go_on);
        return 0;
}

/* When the log has been written, and before. */
static const struct jbd2_ordered_ops held_ops = {no_call, hold};
static const struct jbd2_ordered_ops held_ops_early = {hold, no_call};

static void *commit_held(void *arg)
{
        struct held *held = arg;

        T_CHECK(jbd2_commit(held->r->j, held->tid) == 0);
        return NULL;
}

/* Returns when a commit of what is running has come so far. */
static void hold_a_commit(struct held *held, struct rig *r, struct jbd2_ordered_ops ops)
{
        struct jbd2_handle *h = rig_start(r, 1, 0);

        *held = (struct held){.ops = ops, .o = {.ops = &held->ops}, .r = r, .tid = jbd2_tid(h)};
        sem_init(&held->is_waiting, 0, 0);
        sem_init(&held->may_go_on, 0, 0);
        jbd2_order(h, &held->o);
        assert_int_equal(jbd2_stop(h), 0);
        T_CHECK(pthread_create(&held->thread, NULL, commit_held, held) == 0);
        sem_wait(&held->is_waiting);
}

static void let_it_end(struct held *held)
{
        sem_post(&held->may_go_on);
        pthread_join(held->thread, NULL);
        sem_destroy(&held->is_waiting);
        sem_destroy(&held->may_go_on);
}

static void run_while_one_commits(struct jbd2_ordered_ops ops, unsigned nr_copied_out)
{
        struct jbd2_handle *h;
        struct held held;
        struct rig r;

        open_plain(&r);
        rig_set_many(&r, 1, 1, 'a');
        rig_set_many(&r, 2, 1, 'a');
        hold_a_commit(&held, &r, ops);
        assert_false(jbd2_is_durable(r.j, held.tid));
        h = rig_start(&r, 2, 0);
        assert_int_equal(jbd2_tid(h), held.tid + 1);
        assert_int_equal(rig_set(&r, h, 1, 'b'), 0);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(rig_cached_byte(&r, 1), 'b');
        let_it_end(&held);
        assert_true(jbd2_is_durable(r.j, held.tid));
        assert_false(jbd2_is_durable(r.j, held.tid + 1));
        assert_int_equal(durable_byte(&r, 1), 'a');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(durable_byte(&r, 1), 'b');
        assert_int_equal(durable_byte(&r, 2), 'a');
        assert_int_equal(stats_of(&r).nr_copied_out, nr_copied_out);
        assert_int_equal(rig_close(&r), 0);
}

/* Copied out only when the log does not have it yet (J20). */
static void a_new_transaction_runs_while_one_commits(void **state)
{
        run_while_one_commits(held_ops_early, 1);
        run_while_one_commits(held_ops, 0);
}

struct changer {
        struct rig *r;
        atomic_bool has_changed;
};

static void *change_without_memory(void *arg)
{
        struct changer *c = arg;
        struct jbd2_handle *h = rig_start(c->r, 1, 0);

        mem_fail_after(0);
        T_CHECK(rig_set(c->r, h, 1, 'b') == 0);
        atomic_store(&c->has_changed, true);
        T_CHECK(jbd2_stop(h) == 0);
        return NULL;
}

/* C60: no memory to copy what is being committed: then it is waited for. */
static void a_change_waits_when_there_is_no_memory(void **state)
{
        struct changer c;
        struct held held;
        pthread_t thread;
        struct rig r;

        open_plain(&r);
        rig_set_many(&r, 1, 1, 'a');
        hold_a_commit(&held, &r, held_ops_early);
        c = (struct changer){.r = &r};
        assert_int_equal(pthread_create(&thread, NULL, change_without_memory, &c), 0);
        usleep(20000);
        assert_false(atomic_load(&c.has_changed));
        let_it_end(&held);
        pthread_join(thread, NULL);
        mem_fail_after(-1);
        assert_int_equal(durable_byte(&r, 1), 'a');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(durable_byte(&r, 1), 'b');
        assert_int_equal(stats_of(&r).nr_copied_out, 0);
        assert_int_equal(rig_close(&r), 0);
}

static void *order_again(void *arg)
{
        struct held *held = arg;
        struct jbd2_handle *h = rig_start(held->r, 1, 0);

        held->tid++;
        jbd2_order(h, &held->o); /* waits until the commit that has it is over */
        T_CHECK(jbd2_is_durable(held->r->j, held->tid - 1));
        T_CHECK(jbd2_stop(h) == 0);
        jbd2_unorder(held->r->j, &held->o);
        return NULL;
}

static void *take_out(void *arg)
{
        struct held *held = arg;

        jbd2_unorder(held->r->j, &held->o); /* nobody calls it any more */
        T_CHECK(jbd2_is_durable(held->r->j, held->tid));
        return NULL;
}

static void ordered_data_is_waited_for(void **state)
{
        static void *(*const fns[])(void *) = {order_again, take_out};

        for (unsigned i = 0; i < 2; i++) {
                struct held held;
                pthread_t thread;
                struct rig r;

                open_plain(&r);
                hold_a_commit(&held, &r, held_ops);
                assert_int_equal(pthread_create(&thread, NULL, fns[i], &held), 0);
                usleep(20000);
                let_it_end(&held);
                pthread_join(thread, NULL);
                assert_int_equal(rig_close(&r), 0);
        }
}

/* Freed, and had again, by the next transaction while this one commits. */
static void a_block_of_the_committing_transaction_is_freed(void **state)
{
        struct jbd2_handle *h;
        struct held held;
        struct rig r;

        open_plain(&r);
        rig_set_many(&r, 1, 2, 'a');
        hold_a_commit(&held, &r, held_ops);
        h = rig_start(&r, 2, 2);
        jbd2_revoke(h, 1, NULL);
        jbd2_revoke(h, 2, NULL);
        create(&r, h, 2, 'c');
        assert_int_equal(jbd2_stop(h), 0);
        let_it_end(&held);
        assert_int_equal(durable_byte(&r, 1), 'a');
        assert_int_equal(durable_byte(&r, 2), 'a');
        assert_int_equal(jbd2_flush(r.j), 0);
        assert_int_equal(device_byte(&r, 1), 0); /* it never went home */
        assert_int_equal(device_byte(&r, 2), 'c');
        assert_int_equal(rig_close(&r), 0);
}

/* A commit that ends between buf_new() and jbd2_get_create() forgets the block's old life only.
 */
static void a_block_had_again_keeps_its_contents(void **state)
{
        struct jbd2_handle *h;
        struct buf *buf;
        struct rig r;
        void *bytes;

        open_plain(&r);
        rig_set_many(&r, 7, 1, 'a');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        h = rig_start(&r, 1, 1);
        jbd2_revoke(h, 7, NULL);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(buf_new(r.bufs, 7, &buf), 0);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        h = rig_start(&r, 1, 0);
        assert_int_equal(jbd2_get_create(h, buf, &bytes), 0);
        memset(bytes, 'c', BS);
        jbd2_dirty(h, buf);
        buf_put(buf);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(rig_cached_byte(&r, 7), 'c');
        assert_int_equal(jbd2_flush(r.j), 0);
        assert_int_equal(rig_cached_byte(&r, 7), 'c');
        assert_int_equal(device_byte(&r, 7), 'c');
        assert_int_equal(rig_close(&r), 0);
}

static void undo_while_one_commits(void **state)
{
        uint8_t old[BS] = {0};
        struct jbd2_handle *h;
        struct held held;
        struct buf *buf;
        struct rig r;
        void *bytes;

        open_plain(&r);
        buf = get_buf(&r, 1);
        h = rig_start(&r, 1, 0);
        assert_int_equal(jbd2_get_undo(h, buf, &bytes), 0);
        memset(bytes, 'a', BS);
        jbd2_dirty(h, buf);
        assert_int_equal(jbd2_stop(h), 0);
        hold_a_commit(&held, &r, held_ops);
        assert_true(jbd2_committed_bytes(r.j, buf, old));
        assert_int_equal(old[0], 0);
        h = rig_start(&r, 1, 0);
        assert_int_equal(jbd2_get_undo(h, buf, &bytes), 0);
        memset(bytes, 'b', BS);
        jbd2_dirty(h, buf);
        assert_int_equal(jbd2_stop(h), 0);
        assert_true(jbd2_committed_bytes(r.j, buf, old));
        assert_int_equal(old[0], 0); /* still the last durable state */
        let_it_end(&held);
        assert_true(jbd2_committed_bytes(r.j, buf, old));
        assert_int_equal(old[0], 'a');
        buf_put(buf);
        assert_int_equal(rig_close(&r), 0);
}

/* ---- forget and revoke ---- */

static void a_forgotten_block_never_goes_home(void **state)
{
        struct jbd2_handle *h;
        struct buf *buf;
        struct rig r;

        open_plain(&r);
        rig_set_many(&r, 7, 1, 'a');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        buf = get_buf(&r, 7);
        h = rig_start(&r, 1, 0);
        jbd2_forget(h, buf);
        assert_int_equal(jbd2_stop(h), 0);
        buf_put(buf);
        assert_int_equal(durable_byte(&r, 7), 'a'); /* until it is committed */
        assert_int_equal(jbd2_flush(r.j), 0);
        assert_int_equal(device_byte(&r, 7), 0);
        assert_int_equal(rig_cached_byte(&r, 7), 0); /* read anew */
        assert_int_equal(rig_close(&r), 0);
}

static void what_was_changed_and_forgotten_is_not_logged(void **state)
{
        struct jbd2_handle *h;
        struct buf *buf;
        struct rig r;

        open_plain(&r);
        h = rig_start(&r, 2, 1);
        create(&r, h, 7, 'a');
        create(&r, h, 8, 'a');
        buf = get_buf(&r, 7);
        jbd2_forget(h, buf);
        buf_put(buf);
        jbd2_revoke(h, 8, NULL); /* new in this transaction: there is nothing to revoke (J38) */
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(stats_of(&r).nr_logged, 0);
        assert_int_equal(stats_of(&r).nr_revokes, 0);
        assert_int_equal(jbd2_flush(r.j), 0);
        assert_int_equal(device_byte(&r, 7), 0);
        assert_int_equal(rig_close(&r), 0);
}

/* J39: the old directory block must not come back over the file's data. */
static void a_revoked_block_does_not_come_back(void **state)
{
        uint8_t data[BS];
        struct rig r;

        for (int with_buf = 0; with_buf < 2; with_buf++) {
                struct jbd2_handle *h;
                struct buf *buf;

                open_plain(&r);
                rig_set_many(&r, 7, 1, 'a');
                assert_int_equal(jbd2_commit_all(r.j), 0);
                buf = with_buf ? get_buf(&r, 7) : NULL;
                h = rig_start(&r, 1, 1);
                jbd2_revoke(h, 7, buf);
                assert_int_equal(jbd2_stop(h), 0);
                buf_put(buf);
                assert_int_equal(jbd2_commit_all(r.j), 0);
                assert_int_equal(stats_of(&r).nr_revokes, 1);
                memset(data, 'd', sizeof(data));
                assert_int_equal(
                        uext4_bdev_write(r.devs[RIG_FS], data, BS, 7 * BS, UEXT4_BDEV_FUA), 0);
                assert_int_equal(durable_byte(&r, 7), 'd');
                assert_int_equal(jbd2_flush(r.j), 0);
                assert_int_equal(device_byte(&r, 7), 'd');
                assert_int_equal(rig_close(&r), 0);
        }
}

/* J36: journalled again in the same transaction, its new contents count. */
static void a_revocation_is_cancelled_by_a_new_life(void **state)
{
        struct jbd2_handle *h;
        struct rig r;

        open_plain(&r);
        rig_set_many(&r, 7, 1, 'a');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        h = rig_start(&r, 1, 1);
        jbd2_revoke(h, 7, NULL);
        create(&r, h, 7, 'b');
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(stats_of(&r).nr_revokes, 0);
        assert_int_equal(durable_byte(&r, 7), 'b');

        /* ... and freed once more it is revoked after all: there is the copy of 'b'. */
        h = rig_start(&r, 2, 2);
        jbd2_revoke(h, 7, NULL);
        create(&r, h, 7, 'c');
        jbd2_revoke(h, 7, NULL);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(stats_of(&r).nr_revokes, 1);
        assert_int_equal(durable_byte(&r, 7), 0);
        assert_int_equal(rig_close(&r), 0);
}

static void many_revocations_take_several_blocks(void **state)
{
        struct rig_config c = rig_plain(600, 2000);
        struct jbd2_handle *h;
        struct rig r;

        rig_open(&r, &c, NULL);
        rig_set_many(&r, 1990, 2, 'a');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        h = rig_start(&r, 1, 1500);
        for (uint64_t blk = 400; blk < 1900; blk++)
                jbd2_revoke(h, blk, NULL);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(stats_of(&r).nr_revokes, 1500);
        assert_int_equal(durable_byte(&r, 1991), 'a');
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
        open_plain(&r);
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
        open_plain(&r);
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
        open_plain(&r);
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
        open_plain(&r);
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

/* ---- durability ---- */

static void a_handle_can_wait_for_its_commit(void **state)
{
        struct jbd2_handle *h;
        uint32_t tid;
        struct rig r;

        open_plain(&r);
        h = rig_start(&r, 1, 0);
        tid = jbd2_tid(h);
        assert_int_equal(rig_set(&r, h, 1, 'a'), 0);
        jbd2_sync(h);
        assert_false(jbd2_is_durable(r.j, tid));
        assert_int_equal(jbd2_stop(h), 0);
        assert_true(jbd2_is_durable(r.j, tid));
        assert_int_equal(durable_byte(&r, 1), 'a');
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
                        assert_int_equal(durable_byte(&r, 0), 'a' + n - 1);
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
        assert_int_equal(durable_byte(&r, 1), 'a');
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

        open_plain(&r);
        w.r = &r;
        pthread_barrier_init(&w.ready, NULL, 12);
        t_run_threads(12, wait_for_commit, &w);
        pthread_barrier_destroy(&w.ready);
        assert_int_equal(stats_of(&r).nr_commits, 1);
        assert_int_equal(rig_close(&r), 0);
}

/* A transaction that is full is committed, and the log is emptied from behind, by itself. */
static void a_small_log_is_used_again_and_again(void **state)
{
        struct jbd2_stats st;
        struct rig r;

        open_plain(&r);
        for (unsigned n = 0; n < 1000; n++)
                rig_set_many(&r, n * 7 % 120, 5, (uint8_t)n);
        st = stats_of(&r);
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

        open_plain(&r);
        rig_set_many(&r, 1, 10, 'a');
        assert_int_equal(device_byte(&r, 5), 0);
        assert_int_equal(jbd2_flush(r.j), 0);
        assert_int_equal(device_byte(&r, 5), 'a');
        sb = rig_super(&r.c, r.devs[RIG_FS]);
        assert_int_equal(be32_get(sb.s_start), 0);
        rig_set_many(&r, 1, 10, 'b');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        sb = rig_super(&r.c, r.devs[RIG_FS]);
        assert_int_not_equal(be32_get(sb.s_start), 0);
        assert_int_equal(durable_byte(&r, 5), 'b');
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

        open_plain(&r);
        for (unsigned n = 0; n < 20; n++) {
                uint32_t now = rig_set_many(&r, 1, 3, (uint8_t)('a' + n));

                assert_true(n == 0 || jbd2_tid_after(now, tid));
                tid = now;
                if (n % 2)
                        assert_int_equal(jbd2_commit_all(r.j), 0);
                if (n % 3 == 0)
                        assert_int_equal(durable_byte(&r, 2), n ? 'a' + n - 1 + n % 2 : 0);
                assert_int_equal(rig_unload(&r), 0);
                assert_int_equal(device_byte(&r, 2), 'a' + n);
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
        assert_int_equal(durable_byte(&r, 1), 'a');
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
        create(&r, h, 2, 'b');
        create(&r, h, 3, 'c');
        jbd2_revoke(h, 3, NULL);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(device_byte(&r, 1), 0);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(durable_byte(&r, 1), 'a');
        assert_int_equal(durable_byte(&r, 2), 'b');
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
                cmocka_unit_test(access_alone_changes_nothing),
                cmocka_unit_test(the_last_committed_bytes_can_be_had),
                cmocka_unit_test(a_new_transaction_runs_while_one_commits),
                cmocka_unit_test(a_change_waits_when_there_is_no_memory),
                cmocka_unit_test(ordered_data_is_waited_for),
                cmocka_unit_test(a_block_of_the_committing_transaction_is_freed),
                cmocka_unit_test(a_block_had_again_keeps_its_contents),
                cmocka_unit_test(undo_while_one_commits),
                cmocka_unit_test(a_forgotten_block_never_goes_home),
                cmocka_unit_test(what_was_changed_and_forgotten_is_not_logged),
                cmocka_unit_test(a_revoked_block_does_not_come_back),
                cmocka_unit_test(a_revocation_is_cancelled_by_a_new_life),
                cmocka_unit_test(many_revocations_take_several_blocks),
                cmocka_unit_test(a_commit_calls_in_order),
                cmocka_unit_test(ordered_data_can_be_taken_out_again),
                cmocka_unit_test(failed_data_aborts),
                cmocka_unit_test(a_handle_without_a_transaction_does_nothing),
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
