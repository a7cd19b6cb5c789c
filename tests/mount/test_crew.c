/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * How many workers take requests (src/fuse/crew.c): all of them when requests wait for a
 * device; few when most have nothing to do; and all end with the server, whatever there is to
 * do.
 */

#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "../lib/check.h"
#include "fuse/internal.h"

#define NR      16u
#define SECONDS 30 /* more is never */

struct stage {
        struct srv_crew crew;
        pthread_t threads[NR];
        pthread_mutex_t lock;
        pthread_cond_t changed;
        unsigned nr_under_way, nr_served; /* [lock] */
        bool may_end;                     /* [lock] requests do, and those that come */
        sem_t requests;
};

struct worker {
        struct stage *st;
        unsigned index;
};

/* It waits for the device, without the CPU. */
static void serve(struct stage *st)
{
        pthread_mutex_lock(&st->lock);
        st->nr_under_way++;
        pthread_cond_broadcast(&st->changed);
        while (!st->may_end)
                pthread_cond_wait(&st->changed, &st->lock);
        st->nr_under_way--;
        st->nr_served++;
        pthread_cond_broadcast(&st->changed);
        pthread_mutex_unlock(&st->lock);
}

static void *work(void *arg)
{
        struct worker w = *(struct worker *)arg;

        free(arg);
        while (srv_crew_enter(&w.st->crew, w.index)) {
                sem_wait(&w.st->requests);
                srv_crew_take(&w.st->crew);
                serve(w.st);
        }
        return NULL;
}

static void t_open(struct stage *st)
{
        memset(st, 0, sizeof(*st));
        pthread_mutex_init(&st->lock, NULL);
        pthread_cond_init(&st->changed, NULL);
        sem_init(&st->requests, 0, 0);
        srv_crew_init(&st->crew, NR, 2);
        T_CHECK(srv_crew_start(&st->crew) == 0);
        for (unsigned i = 0; i < NR; i++) {
                struct worker *w = malloc(sizeof(*w));

                T_CHECK(w);
                *w = (struct worker){st, i};
                T_CHECK(pthread_create(&st->threads[i], NULL, work, w) == 0);
        }
}

static void t_requests(struct stage *st, unsigned nr)
{
        for (unsigned i = 0; i < nr; i++)
                sem_post(&st->requests);
}

static void t_wait_under_way(struct stage *st, unsigned nr)
{
        struct timespec late;

        clock_gettime(CLOCK_REALTIME, &late);
        late.tv_sec += SECONDS;
        pthread_mutex_lock(&st->lock);
        while (st->nr_under_way != nr)
                T_CHECK(pthread_cond_timedwait(&st->changed, &st->lock, &late) == 0);
        pthread_mutex_unlock(&st->lock);
}

static void t_let_end(struct stage *st)
{
        pthread_mutex_lock(&st->lock);
        st->may_end = true;
        pthread_cond_broadcast(&st->changed);
        pthread_mutex_unlock(&st->lock);
}

/* Nobody enters any more.  A last request for each who waits for one; then all have ended. */
static void t_close(struct stage *st)
{
        t_let_end(st);
        srv_crew_stop(&st->crew);
        T_CHECK(!srv_crew_enter(&st->crew, 0));
        t_requests(st, NR);
        for (unsigned i = 0; i < NR; i++)
                pthread_join(st->threads[i], NULL);
        sem_destroy(&st->requests);
}

/* ---- tests ---- */

static void requests_that_wait_are_all_under_way(void **state)
{
        struct stage st;

        t_open(&st);
        assert_int_equal(atomic_load(&st.crew.size), 4);
        t_requests(&st, NR);
        t_wait_under_way(&st, NR);
        t_let_end(&st);
        t_wait_under_way(&st, 0);
        t_close(&st);
}

/* More than fit do not make it larger than it may be; afterwards it is small again. */
static void an_idle_crew_becomes_small(void **state)
{
        const struct timespec nap = {.tv_nsec = 1000000};
        struct stage st;

        t_open(&st);
        t_requests(&st, 3 * NR);
        t_wait_under_way(&st, NR);
        t_let_end(&st);
        for (unsigned i = 0; atomic_load(&st.crew.size) != 4; i++) {
                T_CHECK(i < SECONDS * 1000);
                nanosleep(&nap, NULL);
        }
        t_close(&st);
        assert_in_range(st.nr_served, 3 * NR, 4 * NR);
}

static void parked_workers_end(void **state)
{
        struct stage st;

        t_open(&st);
        t_close(&st);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(requests_that_wait_are_all_under_way),
                cmocka_unit_test(an_idle_crew_becomes_small),
                cmocka_unit_test(parked_workers_end),
        };

        return cmocka_run_group_tests_name("crew", tests, NULL, NULL);
}
