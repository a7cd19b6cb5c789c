/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/lock.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- the order check ---- */

#ifdef UEXT4_LOCK_DEBUG

#define MAX_HELD 32

static _Thread_local struct held {
        const void *lock;
        enum lock_rank rank;
        const char *name;
} held[MAX_HELD];
static _Thread_local unsigned nr_held;

void lock_debug_before(enum lock_rank rank, const char *name)
{
        for (unsigned i = 0; i < nr_held; i++) {
                if (held[i].rank < rank)
                        continue;
                fprintf(stderr, "lock order: %s (%d) wanted while %s (%d) is held\n", name,
                        rank, held[i].name, held[i].rank);
                abort();
        }
}

void lock_debug_taken(const void *lock, enum lock_rank rank, const char *name)
{
        assert(nr_held < MAX_HELD);
        held[nr_held++] = (struct held){lock, rank, name};
}

void lock_debug_released(const void *lock)
{
        for (unsigned i = nr_held; i-- > 0;) {
                if (held[i].lock != lock)
                        continue;
                held[i] = held[--nr_held];
                return;
        }
        fprintf(stderr, "lock order: a lock is released that this thread does not hold\n");
        abort();
}

#define SET_RANK(l, r, n) ((l)->rank = (r), (l)->name = (n))
#else
#define SET_RANK(l, r, n) ((void)(r), (void)(n))
#endif

/* ---- mutex and condition ---- */

void mtx_init_named(struct mtx *m, enum lock_rank rank, const char *name)
{
        pthread_mutex_init(&m->m, NULL);
        SET_RANK(m, rank, name);
}

void mtx_done(struct mtx *m)
{
        pthread_mutex_destroy(&m->m);
}

void cond_init(struct cond *c)
{
        pthread_condattr_t attr;

        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&c->c, &attr);
        pthread_condattr_destroy(&attr);
}

void cond_done(struct cond *c)
{
        pthread_cond_destroy(&c->c);
}

void cond_wait(struct cond *c, struct mtx *m)
{
        LOCK_RELEASED(m);
        pthread_cond_wait(&c->c, &m->m);
        LOCK_TAKEN(m);
}

bool cond_wait_until(struct cond *c, struct mtx *m, uint64_t deadline_ns)
{
        const struct timespec ts = {
                .tv_sec = (time_t)(deadline_ns / 1000000000),
                .tv_nsec = (long)(deadline_ns % 1000000000),
        };
        int ret;

        LOCK_RELEASED(m);
        ret = pthread_cond_timedwait(&c->c, &m->m, &ts);
        LOCK_TAKEN(m);
        return ret == 0;
}

void cond_signal(struct cond *c)
{
        pthread_cond_signal(&c->c);
}

void cond_broadcast(struct cond *c)
{
        pthread_cond_broadcast(&c->c);
}

uint64_t clock_ns(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t clock_deadline(int64_t timeout_ns)
{
        return timeout_ns > 0 ? clock_ns() + (uint64_t)timeout_ns : 0;
}

int64_t clock_left(int64_t timeout_ns, uint64_t deadline_ns)
{
        uint64_t now;

        if (timeout_ns <= 0)
                return timeout_ns;
        now = clock_ns();
        return now < deadline_ns ? (int64_t)(deadline_ns - now) : 0;
}

bool cond_wait_for(struct cond *c, struct mtx *m, int64_t timeout_ns, uint64_t deadline_ns)
{
        if (timeout_ns == 0)
                return false;
        if (timeout_ns > 0)
                return cond_wait_until(c, m, deadline_ns);
        cond_wait(c, m);
        return true;
}

/* ---- reader-writer semaphore ---- */

void rwsem_init_named(struct rwsem *s, enum lock_rank rank, const char *name)
{
        atomic_init(&s->state, 0);
        s->nr_writers_waiting = 0;
        s->nr_waiting = 0;
        pthread_mutex_init(&s->m, NULL);
        pthread_cond_init(&s->queue, NULL);
        SET_RANK(s, rank, name);
}

void rwsem_done(struct rwsem *s)
{
        assert((atomic_load(&s->state) & (RWSEM_WRITER | RWSEM_READERS)) == 0);
        pthread_cond_destroy(&s->queue);
        pthread_mutex_destroy(&s->m);
}

/* Under s->m.  The flag stays while anybody sleeps, so that no release can miss a sleeper. */
static void sleep_on(struct rwsem *s)
{
        s->nr_waiting++;
        pthread_cond_wait(&s->queue, &s->m);
        if (--s->nr_waiting == 0)
                atomic_fetch_and(&s->state, ~RWSEM_WAITERS);
}

void rwsem_read_lock_slow(struct rwsem *s)
{
        pthread_mutex_lock(&s->m);
        for (;;) {
                uint32_t old = atomic_fetch_or(&s->state, RWSEM_WAITERS) | RWSEM_WAITERS;

                while ((old & RWSEM_WRITER) == 0 && s->nr_writers_waiting == 0) {
                        uint32_t want =
                                s->nr_waiting == 0 ? (old & ~RWSEM_WAITERS) + 1 : old + 1;

                        if (atomic_compare_exchange_weak(&s->state, &old, want)) {
                                pthread_mutex_unlock(&s->m);
                                LOCK_TAKEN(s);
                                return;
                        }
                }
                sleep_on(s);
        }
}

void rwsem_write_lock_slow(struct rwsem *s)
{
        pthread_mutex_lock(&s->m);
        s->nr_writers_waiting++;
        for (;;) {
                uint32_t old = atomic_fetch_or(&s->state, RWSEM_WAITERS) | RWSEM_WAITERS;

                while ((old & (RWSEM_WRITER | RWSEM_READERS)) == 0) {
                        uint32_t want = RWSEM_WRITER | (s->nr_waiting ? RWSEM_WAITERS : 0);

                        if (atomic_compare_exchange_weak(&s->state, &old, want)) {
                                s->nr_writers_waiting--;
                                pthread_mutex_unlock(&s->m);
                                LOCK_TAKEN(s);
                                return;
                        }
                }
                sleep_on(s);
        }
}

void rwsem_wake(struct rwsem *s)
{
        pthread_mutex_lock(&s->m);
        pthread_cond_broadcast(&s->queue);
        pthread_mutex_unlock(&s->m);
}
