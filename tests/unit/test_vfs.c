/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the inodes of a mount share: queues that anybody may help, waiting for requests to end,
 * counters.  The requests are reads of a memory device; its queue carries them out only when
 * somebody drives it, so that a wait which does not help never ends.
 */

#include <sched.h>
#include <unistd.h>

#include "t_util.h"
#include "vfs/inode.h"

struct mount {
        struct vfs_super sb;
        struct uext4_bdev *dev;
        struct t_log log;
};

static void mount_init(struct mount *m)
{
        struct log_sink sink = t_log_sink(&m->log);

        t_log_init(&m->log);
        T_CHECK(uext4_bdev_open_mem(1u << 20, &m->dev) == 0);
        vfs_super_init(&m->sb, m->dev, &sink);
}

static void mount_done(struct mount *m)
{
        vfs_super_done(&m->sb);
        uext4_bdev_close(m->dev);
}

/* A queue of the mount. */
static void queue_init(struct mount *m, struct vfs_queue *q)
{
        T_CHECK(uext4_bdev_queue_new(m->dev, 8, &q->bdev_queue) == 0);
        vfs_queue_add(&m->sb, q);
}

static void queue_done(struct mount *m, struct vfs_queue *q)
{
        vfs_queue_remove(&m->sb, q);
        uext4_bdev_queue_free(q->bdev_queue);
}

/* One read that counts in `pending`. */
struct one_read {
        struct uext4_bdev_req req;
        struct vfs_super *sb;
        struct vfs_pending *pending;
        struct iovec iov;
        char buf[512];
};

static void read_done(struct uext4_bdev_req *req)
{
        struct one_read *r = container_of(req, struct one_read, req);

        T_CHECK(req->result == 0 || req->result == -ECANCELED); /* the latter at queue_done() */
        vfs_pending_end(r->sb, r->pending);
}

static void submit(struct mount *m, struct vfs_queue *q, struct one_read *r,
                   struct vfs_pending *pending)
{
        *r = (struct one_read){.sb = &m->sb, .pending = pending, .iov = {r->buf, 512}};
        r->req = (struct uext4_bdev_req){.op = UEXT4_BDEV_READ,
                                         .len = 512,
                                         .iov = &r->iov,
                                         .nr_iov = 1,
                                         .done = read_done};
        vfs_pending_begin(pending);
        T_CHECK(uext4_bdev_queue_add(q->bdev_queue, &r->req) == 0);
}

/* ---- one thread ---- */

static void nothing_under_way_is_drained_at_once(void **state)
{
        struct vfs_pending pending = {0};
        struct vfs_queue q;
        struct mount m;

        mount_init(&m);
        vfs_pending_drain(&m.sb, &pending);
        assert_false(vfs_help_queues(&m.sb, 0));
        queue_init(&m, &q);
        vfs_pending_drain(&m.sb, &pending);
        assert_false(vfs_help_queues(&m.sb, 0)); /* idle queues are no help */
        queue_done(&m, &q);
        mount_done(&m);
}

static void drain_drives_the_callers_own_queue(void **state)
{
        struct vfs_pending pending = {0};
        struct one_read reads[5];
        struct vfs_queue q;
        struct mount m;

        mount_init(&m);
        queue_init(&m, &q);
        for (size_t i = 0; i < ARRAY_LEN(reads); i++)
                submit(&m, &q, &reads[i], &pending);
        assert_int_equal(pending.nr, 5);
        vfs_pending_drain(&m.sb, &pending);
        assert_int_equal(pending.nr, 0);
        assert_int_equal(uext4_bdev_queue_in_flight(q.bdev_queue), 0);
        queue_done(&m, &q);
        mount_done(&m);
}

static void drain_finds_the_queue_among_many(void **state)
{
        struct vfs_pending a = {0}, b = {0};
        struct vfs_queue queues[6];
        struct one_read reads[2];
        struct mount m;

        mount_init(&m);
        for (size_t i = 0; i < ARRAY_LEN(queues); i++)
                queue_init(&m, &queues[i]);
        for (size_t i = 0; i < ARRAY_LEN(queues); i++) {
                submit(&m, &queues[i], &reads[0], &a);
                submit(&m, &queues[5 - i], &reads[1], &b);
                vfs_pending_drain(&m.sb, &a);
                vfs_pending_drain(&m.sb, &b);
        }
        for (size_t i = 0; i < ARRAY_LEN(queues); i++)
                queue_done(&m, &queues[i]);
        mount_done(&m);
}

static void help_drives_every_busy_queue(void **state)
{
        struct vfs_pending pending = {0};
        struct vfs_queue queues[4];
        struct one_read reads[2];
        struct mount m;

        mount_init(&m);
        for (size_t i = 0; i < ARRAY_LEN(queues); i++)
                queue_init(&m, &queues[i]);
        submit(&m, &queues[0], &reads[0], &pending);
        submit(&m, &queues[2], &reads[1], &pending);
        assert_true(vfs_help_queues(&m.sb, 0));
        assert_int_equal(pending.nr, 0);
        assert_false(vfs_help_queues(&m.sb, 0));
        for (size_t i = 0; i < ARRAY_LEN(queues); i++)
                assert_int_equal(queues[i].pins, 0);
        for (size_t i = 0; i < ARRAY_LEN(queues); i++)
                queue_done(&m, &queues[i]);
        mount_done(&m);
}

/* ---- several threads ---- */

struct shared {
        struct mount m;
        struct vfs_queue q;
        struct vfs_pending pending;
        struct one_read reads[64];
        _Atomic bool submitted, drained, stop;
        _Atomic unsigned nr_drained;
};

static void wait_for(_Atomic bool *flag)
{
        while (!atomic_load(flag))
                sched_yield();
}

/* Thread 0 submits and then does nothing for its queue; thread 1 drains. */
static void owner_sleeps(void *arg, unsigned n)
{
        struct shared *s = arg;

        if (n == 0) {
                for (size_t i = 0; i < 8; i++)
                        submit(&s->m, &s->q, &s->reads[i], &s->pending);
                atomic_store(&s->submitted, true);
                wait_for(&s->drained);
        } else {
                wait_for(&s->submitted);
                vfs_pending_drain(&s->m.sb, &s->pending);
                T_CHECK(atomic_load(&s->pending.nr) == 0);
                atomic_store(&s->drained, true);
        }
}

static struct shared *shared_new(void)
{
        struct shared *s;

        T_CHECK(posix_memalign((void **)&s, CACHE_LINE, sizeof(*s)) == 0);
        memset((void *)s, 0, sizeof(*s));
        mount_init(&s->m);
        queue_init(&s->m, &s->q);
        return s;
}

static void shared_free(struct shared *s)
{
        queue_done(&s->m, &s->q);
        mount_done(&s->m);
        free(s);
}

static void drain_helps_the_queue_of_a_sleeping_owner(void **state)
{
        for (int i = 0; i < 50; i++) {
                struct shared *s = shared_new();

                t_run_threads(2, owner_sleeps, s);
                shared_free(s);
        }
}

/* Thread 0 submits all; all of them drain. */
static void drain_together(void *arg, unsigned n)
{
        struct shared *s = arg;

        if (n == 0) {
                for (size_t i = 0; i < ARRAY_LEN(s->reads); i++) {
                        submit(&s->m, &s->q, &s->reads[i], &s->pending);
                        if (i == 0)
                                atomic_store(&s->submitted, true);
                }
        }
        wait_for(&s->submitted);
        vfs_pending_drain(&s->m.sb, &s->pending);
        atomic_fetch_add(&s->nr_drained, 1);
}

static void several_drain_the_same_requests(void **state)
{
        for (int i = 0; i < 50; i++) {
                struct shared *s = shared_new();

                t_run_threads(3, drain_together, s);
                assert_int_equal(s->nr_drained, 3);
                assert_int_equal(s->pending.nr, 0);
                shared_free(s);
        }
}

/* Requests on no queue: carried by another thread, which ends them one by one. */
static void ends_by_itself(void *arg, unsigned n)
{
        struct shared *s = arg;

        if (n == 0) {
                for (int i = 0; i < 20; i++) {
                        usleep(100);
                        vfs_pending_end(&s->m.sb, &s->pending);
                }
        } else {
                vfs_pending_drain(&s->m.sb, &s->pending);
                T_CHECK(atomic_load(&s->pending.nr) == 0);
        }
}

static void drain_sleeps_until_another_thread_ends_requests(void **state)
{
        for (int round = 0; round < 10; round++) {
                struct shared *s = shared_new();

                for (int i = 0; i < 20; i++)
                        vfs_pending_begin(&s->pending);
                t_run_threads(3, ends_by_itself, s);
                shared_free(s);
        }
}

/* The count may be gone as soon as it is zero. */
static void end_or_forget(void *arg, unsigned n)
{
        struct shared *s = arg;

        if (n > 0) { /* ends them, too */
                while (!atomic_load(&s->stop))
                        vfs_help_queues(&s->m.sb, 100000);
                return;
        }
        for (int i = 0; i < 500; i++) {
                struct vfs_pending *mine = t_alloc(sizeof(*mine));
                struct one_read *r = t_alloc(sizeof(*r));

                submit(&s->m, &s->q, r, mine);
                vfs_pending_drain(&s->m.sb, mine);
                free(r);
                free(mine);
        }
        atomic_store(&s->stop, true);
}

static void ended_count_is_not_touched_any_more(void **state)
{
        struct shared *s = shared_new();

        t_run_threads(3, end_or_forget, s);
        shared_free(s);
}

/* Queues come and go in some threads, and are helped by others all the while. */
static void come_and_go(void *arg, unsigned n)
{
        struct shared *s = arg;

        if (n >= 3) {
                while (!atomic_load(&s->stop))
                        vfs_help_queues(&s->m.sb, 100000);
                return;
        }
        for (int i = 0; i < 200; i++) {
                struct vfs_pending *pending = t_alloc(sizeof(*pending));
                struct vfs_queue *q = t_alloc(sizeof(*q));
                struct one_read *r = t_alloc(3 * sizeof(*r));

                queue_init(&s->m, q);
                for (int j = 0; j < 3; j++)
                        submit(&s->m, q, &r[j], pending);
                if (i % 2)
                        vfs_pending_drain(&s->m.sb, pending);
                queue_done(&s->m, q); /* ends what is under way, and waits for helpers */
                T_CHECK(atomic_load(&pending->nr) == 0);
                free(r);
                free(q);
                free(pending);
        }
        if (atomic_fetch_add(&s->nr_drained, 1) == 2)
                atomic_store(&s->stop, true);
}

static void removal_waits_for_helpers(void **state)
{
        struct shared *s = shared_new();

        t_run_threads(5, come_and_go, s);
        shared_free(s);
}

/* ---- a broken queue ---- */

struct broken {
        struct uext4_bdev dev;
        struct uext4_bdev_req *req;
        _Atomic unsigned nr_reaps;
        _Atomic bool mended;
};

static int broken_new(struct uext4_bdev *dev, unsigned depth, void **ret_impl)
{
        *ret_impl = container_of(dev, struct broken, dev);
        return 0;
}

static void broken_free(void *impl)
{
}

static int broken_add(void *impl, struct uext4_bdev_req *req)
{
        ((struct broken *)impl)->req = req;
        return 0;
}

static int broken_kick(void *impl)
{
        return 0;
}

static int broken_reap(void *impl, int64_t timeout_ns)
{
        struct broken *b = impl;

        atomic_fetch_add(&b->nr_reaps, 1);
        if (!atomic_load(&b->mended))
                return -EIO;
        uext4_bdev_complete(b->req, 512);
        return 1;
}

static void broken_cancel(void *impl)
{
}

static int broken_eventfd(void *impl, int fd)
{
        return -EOPNOTSUPP;
}

static int64_t broken_read(struct uext4_bdev *dev, const struct iovec *iov, int nr_iov,
                           uint64_t pos)
{
        return -EIO;
}

static void broken_close(struct uext4_bdev *dev)
{
}

static const struct uext4_bdev_queue_ops broken_queue_ops = {
        .new_queue = broken_new,
        .free_queue = broken_free,
        .add = broken_add,
        .kick = broken_kick,
        .reap = broken_reap,
        .cancel_all = broken_cancel,
        .set_eventfd = broken_eventfd,
};

static const struct uext4_bdev_ops broken_ops = {.name = "broken",
                                                 .read = broken_read,
                                                 .close = broken_close,
                                                 .queue = &broken_queue_ops};

struct two {
        struct mount m;
        struct broken b;
        struct vfs_pending pending;
};

static void mend_later(void *arg, unsigned n)
{
        struct two *t = arg;

        if (n == 0) {
                usleep(100000);
                atomic_store(&t->b.mended, true);
        } else {
                vfs_pending_drain(&t->m.sb, &t->pending);
        }
}

static void drain_naps_beside_a_broken_queue(void **state)
{
        const struct uext4_bdev_geometry geo = {.size = 1u << 20,
                                                .logical_block = 512,
                                                .mem_align = 1,
                                                .caps = UEXT4_BDEV_CAP_READONLY};
        struct one_read r;
        struct vfs_queue q;
        struct two *t;

        T_CHECK(posix_memalign((void **)&t, CACHE_LINE, sizeof(*t)) == 0);
        memset((void *)t, 0, sizeof(*t));
        mount_init(&t->m);
        assert_int_equal(uext4_bdev_init(&t->b.dev, &broken_ops, &geo), 0);
        assert_int_equal(uext4_bdev_queue_new(&t->b.dev, 8, &q.bdev_queue), 0);
        vfs_queue_add(&t->m.sb, &q);
        submit(&t->m, &q, &r, &t->pending);
        assert_false(vfs_help_queues(&t->m.sb, 0));
        t_run_threads(2, mend_later, t);
        /* 100 ms in naps of 10 ms, not a busy loop. */
        assert_in_range(t->b.nr_reaps, 2, 100);
        queue_done(&t->m, &q);
        mount_done(&t->m);
        free(t);
}

/* ---- counters ---- */

static void count(void *arg, unsigned n)
{
        struct mount *m = arg;

        for (int i = 0; i < 1000; i++) {
                vfs_count(&m->sb, VFS_DIRECT_READS);
                vfs_count_by(&m->sb, VFS_DIRECT_READ_BYTES, 512);
        }
}

static void counters_of_all_threads_add_up(void **state)
{
        struct mount *m;

        T_CHECK(posix_memalign((void **)&m, CACHE_LINE, sizeof(*m)) == 0);
        mount_init(m);
        for (int round = 1; round <= 4; round++) { /* more threads than stripes */
                t_run_threads(8, count, m);
                assert_int_equal(vfs_counter_sum(&m->sb, VFS_DIRECT_READS), round * 8000);
                assert_int_equal(vfs_counter_sum(&m->sb, VFS_DIRECT_READ_BYTES),
                                 round * 8000 * 512);
        }
        assert_int_equal(vfs_counter_sum(&m->sb, VFS_BUFFERED_READS), 0);
        mount_done(m);
        free(m);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(nothing_under_way_is_drained_at_once),
                cmocka_unit_test(drain_drives_the_callers_own_queue),
                cmocka_unit_test(drain_finds_the_queue_among_many),
                cmocka_unit_test(help_drives_every_busy_queue),
                cmocka_unit_test(drain_helps_the_queue_of_a_sleeping_owner),
                cmocka_unit_test(several_drain_the_same_requests),
                cmocka_unit_test(drain_sleeps_until_another_thread_ends_requests),
                cmocka_unit_test(ended_count_is_not_touched_any_more),
                cmocka_unit_test(removal_waits_for_helpers),
                cmocka_unit_test(drain_naps_beside_a_broken_queue),
                cmocka_unit_test(counters_of_all_threads_add_up),
        };

        return cmocka_run_group_tests_name("vfs", tests, NULL, NULL);
}
