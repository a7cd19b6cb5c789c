/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The calls of jbd2/jbd2.h by which blocks are changed, created, forgotten and revoked, also
 * while the transaction before commits.  One promise a test.
 */
#include <semaphore.h>
#include <unistd.h>

#include "tj.h"

#define BS 1024

/* ---- access ---- */

static void access_alone_changes_nothing(void **state)
{
        struct jbd2_handle *h;
        struct buf *buf;
        struct rig r;
        void *bytes;

        rig_open_plain(&r);
        h = rig_start(&r, 1, 0);
        buf = rig_get_buf(&r, 3);
        assert_int_equal(jbd2_get_write(h, buf, &bytes), 0);
        buf_put(buf);
        assert_int_equal(jbd2_credits(h), 1);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(rig_stats(&r).nr_logged, 0);
        assert_int_equal(rig_close(&r), 0);
}

static void the_last_committed_bytes_can_be_had(void **state)
{
        struct jbd2_handle *h;
        uint8_t old[BS] = {0};
        struct buf *buf;
        struct rig r;
        void *bytes;

        rig_open_plain(&r);
        rig_set_many(&r, 3, 1, 'a');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        buf = rig_get_buf(&r, 3);
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

        rig_open_plain(&r);
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
        assert_int_equal(rig_durable_byte(&r, 1), 'a');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(rig_durable_byte(&r, 1), 'b');
        assert_int_equal(rig_durable_byte(&r, 2), 'a');
        assert_int_equal(rig_stats(&r).nr_copied_out, nr_copied_out);
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

        rig_open_plain(&r);
        rig_set_many(&r, 1, 1, 'a');
        hold_a_commit(&held, &r, held_ops_early);
        c = (struct changer){.r = &r};
        assert_int_equal(pthread_create(&thread, NULL, change_without_memory, &c), 0);
        usleep(20000);
        assert_false(atomic_load(&c.has_changed));
        let_it_end(&held);
        pthread_join(thread, NULL);
        mem_fail_after(-1);
        assert_int_equal(rig_durable_byte(&r, 1), 'a');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(rig_durable_byte(&r, 1), 'b');
        assert_int_equal(rig_stats(&r).nr_copied_out, 0);
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

                rig_open_plain(&r);
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

        rig_open_plain(&r);
        rig_set_many(&r, 1, 2, 'a');
        hold_a_commit(&held, &r, held_ops);
        h = rig_start(&r, 2, 2);
        jbd2_revoke(h, 1, NULL);
        jbd2_revoke(h, 2, NULL);
        rig_create(&r, h, 2, 'c');
        assert_int_equal(jbd2_stop(h), 0);
        let_it_end(&held);
        assert_int_equal(rig_durable_byte(&r, 1), 'a');
        assert_int_equal(rig_durable_byte(&r, 2), 'a');
        assert_int_equal(jbd2_flush(r.j), 0);
        assert_int_equal(rig_device_byte(&r, 1), 0); /* it never went home */
        assert_int_equal(rig_device_byte(&r, 2), 'c');
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

        rig_open_plain(&r);
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
        assert_int_equal(rig_device_byte(&r, 7), 'c');
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

        rig_open_plain(&r);
        buf = rig_get_buf(&r, 1);
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

        rig_open_plain(&r);
        rig_set_many(&r, 7, 1, 'a');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        buf = rig_get_buf(&r, 7);
        h = rig_start(&r, 1, 0);
        jbd2_forget(h, buf);
        assert_int_equal(jbd2_stop(h), 0);
        buf_put(buf);
        assert_int_equal(rig_durable_byte(&r, 7), 'a'); /* until it is committed */
        assert_int_equal(jbd2_flush(r.j), 0);
        assert_int_equal(rig_device_byte(&r, 7), 0);
        assert_int_equal(rig_cached_byte(&r, 7), 0); /* read anew */
        assert_int_equal(rig_close(&r), 0);
}

static void what_was_changed_and_forgotten_is_not_logged(void **state)
{
        struct jbd2_handle *h;
        struct buf *buf;
        struct rig r;

        rig_open_plain(&r);
        h = rig_start(&r, 2, 1);
        rig_create(&r, h, 7, 'a');
        rig_create(&r, h, 8, 'a');
        buf = rig_get_buf(&r, 7);
        jbd2_forget(h, buf);
        buf_put(buf);
        jbd2_revoke(h, 8, NULL); /* new in this transaction: there is nothing to revoke (J38) */
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(rig_stats(&r).nr_logged, 0);
        assert_int_equal(rig_stats(&r).nr_revokes, 0);
        assert_int_equal(jbd2_flush(r.j), 0);
        assert_int_equal(rig_device_byte(&r, 7), 0);
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

                rig_open_plain(&r);
                rig_set_many(&r, 7, 1, 'a');
                assert_int_equal(jbd2_commit_all(r.j), 0);
                buf = with_buf ? rig_get_buf(&r, 7) : NULL;
                h = rig_start(&r, 1, 1);
                jbd2_revoke(h, 7, buf);
                assert_int_equal(jbd2_stop(h), 0);
                buf_put(buf);
                assert_int_equal(jbd2_commit_all(r.j), 0);
                assert_int_equal(rig_stats(&r).nr_revokes, 1);
                memset(data, 'd', sizeof(data));
                assert_int_equal(
                        uext4_bdev_write(r.devs[RIG_FS], data, BS, 7 * BS, UEXT4_BDEV_FUA), 0);
                assert_int_equal(rig_durable_byte(&r, 7), 'd');
                assert_int_equal(jbd2_flush(r.j), 0);
                assert_int_equal(rig_device_byte(&r, 7), 'd');
                assert_int_equal(rig_close(&r), 0);
        }
}

/* J36: journalled again in the same transaction, its new contents count. */
static void a_revocation_is_cancelled_by_a_new_life(void **state)
{
        struct jbd2_handle *h;
        struct rig r;

        rig_open_plain(&r);
        rig_set_many(&r, 7, 1, 'a');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        h = rig_start(&r, 1, 1);
        jbd2_revoke(h, 7, NULL);
        rig_create(&r, h, 7, 'b');
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(rig_stats(&r).nr_revokes, 0);
        assert_int_equal(rig_durable_byte(&r, 7), 'b');

        /* ... and freed once more it is revoked after all: there is the copy of 'b'. */
        h = rig_start(&r, 2, 2);
        jbd2_revoke(h, 7, NULL);
        rig_create(&r, h, 7, 'c');
        jbd2_revoke(h, 7, NULL);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(rig_stats(&r).nr_revokes, 1);
        assert_int_equal(rig_durable_byte(&r, 7), 0);
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
        assert_int_equal(rig_stats(&r).nr_revokes, 1500);
        assert_int_equal(rig_durable_byte(&r, 1991), 'a');
        assert_int_equal(rig_close(&r), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
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
        };

        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return cmocka_run_group_tests(tests, NULL, NULL);
}
