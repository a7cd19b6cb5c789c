/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The reader-writer semaphore and the condition of util/lock.h. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "tdev.h"
#include "util/lock.h"

#define MS 1000000

static struct rwsem sem;

static int setup(void **state)
{
        rwsem_init(&sem, RANK_INODE);
        return 0;
}

static int teardown(void **state)
{
        rwsem_done(&sem);
        return 0;
}

/* A thread that takes the lock once, says so, and holds it until it is told. */
struct locker {
        pthread_t thread;
        bool for_writing;
        _Atomic bool has_it;
        _Atomic bool let_go;
};

static void *lock_once(void *arg)
{
        struct locker *l = arg;

        if (l->for_writing)
                rwsem_write_lock(&sem);
        else
                rwsem_read_lock(&sem);
        atomic_store(&l->has_it, true);
        while (!atomic_load(&l->let_go))
                usleep(200);
        if (l->for_writing)
                rwsem_write_unlock(&sem);
        else
                rwsem_read_unlock(&sem);
        return NULL;
}

static void locker_start(struct locker *l, bool for_writing)
{
        *l = (struct locker){.for_writing = for_writing};
        pthread_create(&l->thread, NULL, lock_once, l);
}

static void locker_wait(struct locker *l)
{
        while (!atomic_load(&l->has_it))
                usleep(200);
}

static void locker_end(struct locker *l)
{
        atomic_store(&l->let_go, true);
        pthread_join(l->thread, NULL);
}

static void wait_for_sleepers(uint32_t nr)
{
        uint32_t now;

        do {
                usleep(200);
                pthread_mutex_lock(&sem.m);
                now = sem.nr_waiting;
                pthread_mutex_unlock(&sem.m);
        } while (now < nr);
}

static void readers_share_and_writers_do_not(void **state)
{
        rwsem_read_lock(&sem);
        assert_true(rwsem_read_trylock(&sem));
        assert_false(rwsem_write_trylock(&sem));
        rwsem_read_unlock(&sem);
        assert_false(rwsem_write_trylock(&sem));
        rwsem_read_unlock(&sem);

        rwsem_write_lock(&sem);
        assert_false(rwsem_read_trylock(&sem));
        assert_false(rwsem_write_trylock(&sem));
        rwsem_write_unlock(&sem);
        assert_true(rwsem_write_trylock(&sem));
        rwsem_write_unlock(&sem);
}

static void a_writer_waits_for_all_readers(void **state)
{
        struct locker r[2], w;

        for (int i = 0; i < 2; i++) {
                locker_start(&r[i], false);
                locker_wait(&r[i]);
        }
        locker_start(&w, true);
        wait_for_sleepers(1);
        locker_end(&r[0]);
        usleep(5000);
        assert_false(atomic_load(&w.has_it));
        locker_end(&r[1]);
        locker_wait(&w);
        locker_end(&w);
}

/* Otherwise a stream of readers would starve it. */
static void a_waiting_writer_keeps_new_readers_out(void **state)
{
        struct locker r, w, late;

        locker_start(&r, false);
        locker_wait(&r);
        locker_start(&w, true);
        wait_for_sleepers(1);
        assert_false(rwsem_read_trylock(&sem));
        locker_start(&late, false);
        wait_for_sleepers(2);
        assert_false(atomic_load(&late.has_it));
        locker_end(&r);
        locker_wait(&w);
        assert_false(atomic_load(&late.has_it));
        locker_end(&w);
        locker_wait(&late);
        locker_end(&late);
        assert_true(rwsem_write_trylock(&sem)); /* and nobody is thought to wait any more */
        rwsem_write_unlock(&sem);
}

/* Two numbers that only a writer may see differ. */
struct stress {
        uint64_t a, b;
        _Atomic bool stop;
        _Atomic uint64_t nr_writes, nr_reads;
};

static void stress_read(struct stress *s)
{
        T_CHECK(s->a == s->b);
        atomic_fetch_add(&s->nr_reads, 1);
}

static void stress_write(struct stress *s)
{
        T_CHECK(s->a == s->b);
        s->a++;
        sched_yield();
        s->b++;
        atomic_fetch_add(&s->nr_writes, 1);
}

static void *stress_thread(void *arg)
{
        struct stress *s = arg;
        unsigned i = 0;

        while (!atomic_load(&s->stop)) {
                switch (i++ % 5) {
                case 0:
                        rwsem_write_lock(&sem);
                        stress_write(s);
                        rwsem_write_unlock(&sem);
                        break;
                case 1:
                        if (rwsem_write_trylock(&sem)) {
                                stress_write(s);
                                rwsem_write_unlock(&sem);
                        }
                        break;
                case 2:
                        if (rwsem_read_trylock(&sem)) {
                                stress_read(s);
                                rwsem_read_unlock(&sem);
                        }
                        break;
                default:
                        rwsem_read_lock(&sem);
                        stress_read(s);
                        rwsem_read_unlock(&sem);
                        break;
                }
        }
        return NULL;
}

static void it_holds_under_stress(void **state)
{
        struct stress s = {0};
        pthread_t threads[6];

        for (int i = 0; i < 6; i++)
                pthread_create(&threads[i], NULL, stress_thread, &s);
        usleep(700000);
        atomic_store(&s.stop, true);
        for (int i = 0; i < 6; i++)
                pthread_join(threads[i], NULL);
        assert_int_equal(s.a, s.nr_writes);
        assert_int_equal(s.b, s.nr_writes);
        assert_true(s.nr_reads > 0);
        assert_int_equal(sem.state, 0);
}

/* Readers that never leave a gap, and a writer that gets its turn. */
static void *read_without_gap(void *arg)
{
        struct stress *s = arg;

        while (!atomic_load(&s->stop)) {
                rwsem_read_lock(&sem);
                usleep(100);
                stress_read(s);
                rwsem_read_unlock(&sem);
        }
        return NULL;
}

static void readers_do_not_starve_a_writer(void **state)
{
        struct stress s = {0};
        pthread_t threads[4];

        for (int i = 0; i < 4; i++)
                pthread_create(&threads[i], NULL, read_without_gap, &s);
        for (int i = 0; i < 50; i++) {
                rwsem_write_lock(&sem);
                stress_write(&s);
                rwsem_write_unlock(&sem);
        }
        atomic_store(&s.stop, true);
        for (int i = 0; i < 4; i++)
                pthread_join(threads[i], NULL);
        assert_int_equal(s.a, 50);
}

static void cond_wait_until_keeps_the_time(void **state)
{
        struct mtx m;
        struct cond c;
        uint64_t start = clock_ns();

        mtx_init(&m, RANK_LEAF);
        cond_init(&c);
        mtx_lock(&m);
        assert_false(cond_wait_until(&c, &m, start)); /* already over */
        assert_false(cond_wait_until(&c, &m, start + 20 * MS));
        assert_true(clock_ns() - start >= 20 * MS);
        assert_false(mtx_trylock(&m));
        mtx_unlock(&m);
        assert_true(mtx_trylock(&m));
        mtx_unlock(&m);
        cond_done(&c);
        mtx_done(&m);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        static const struct CMUnitTest tests[] = {
                T(readers_share_and_writers_do_not),       T(a_writer_waits_for_all_readers),
                T(a_waiting_writer_keeps_new_readers_out), T(it_holds_under_stress),
                T(readers_do_not_starve_a_writer),         T(cond_wait_until_keeps_the_time),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
