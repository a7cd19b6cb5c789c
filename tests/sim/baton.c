/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * baton.c - who goes on.
 *
 * All of the state belongs to the holder of the baton, which goes from thread to thread by way
 * of semaphores: nothing here is locked.
 *
 * Two ways to decide, by seed.  Either each point hands the baton on with a certain
 * probability, from every second time to almost never, to anybody; or threads have priorities
 * by chance, the highest one that can goes on, and at some points, by chance, who runs falls
 * below all others.  The former finds races between neighbours, the latter those where one
 * thread must be held up for long.
 *
 * Nothing is ever decided by an address.
 */
#include "baton.h"

#include <execinfo.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../unit/t_util.h"

#define MAX_THREADS 64
#define START_NS    (1000ull * 1000000000)
#define TICK_NS     200
#define YIELD_NS    10000 /* so that who polls gets somewhere */

enum thread_state {
        NONE,
        READY, /* or has the baton */
        WAITING,
        ENDED,
        JOINED,
};

struct thread {
        enum thread_state state;
        sem_t baton;
        pthread_t id;
        void *(*fn)(void *arg);
        void *arg;
        const void *on; /* WAITING: until this is woken */
        const char *what;
        uint64_t deadline;
        bool is_woken;
        unsigned nr_quiet;
        int64_t priority;
};

static struct state {
        struct baton_params params;
        struct baton_result result;
        struct thread threads[MAX_THREADS];
        unsigned nr_threads;
        uint64_t rand;
        uint64_t now;
        uint64_t next_deadline; /* no sleeper wakes before */
        uint64_t one_in;        /* points; 0: by priorities */
        uint64_t gap;           /* points between two changes of priorities, by chance */
        uint64_t next_change;
        int64_t lowest;  /* priority */
        bool is_changed; /* who may run, or a priority */
        bool is_failing;
        sem_t reported;
} s;

static _Thread_local struct thread *me;

bool baton_is_on(void)
{
        return me != NULL;
}

unsigned baton_me(void)
{
        return (unsigned)(me - s.threads);
}

uint64_t baton_now(void)
{
        return s.now;
}

uint64_t baton_below(uint64_t n)
{
        return t_below(&s.rand, n);
}

void baton_quiet(void)
{
        me->nr_quiet++;
}

void baton_loud(void)
{
        me->nr_quiet--;
}

bool baton_is_quiet(void)
{
        return me->nr_quiet > 0;
}

/* ---- the hash ---- */

static void mix_in(uint64_t x)
{
        uint64_t state = s.result.hash ^ x;

        s.result.hash = t_rand(&state);
}

void baton_note(const char *what, uint64_t a, uint64_t b, uint64_t c)
{
        mix_in(baton_me());
        mix_in(s.now);
        for (const char *p = what; *p; p++)
                mix_in((uint8_t)*p);
        mix_in(a);
        mix_in(b);
        mix_in(c);
        if (s.params.with_trace)
                fprintf(stderr, "%14.3f us  %2u  %s %llx %llx %llx\n",
                        (double)(s.now - START_NS) / 1000, baton_me(), what,
                        (unsigned long long)a, (unsigned long long)b, (unsigned long long)c);
}

/* ---- when it goes wrong ---- */

static void say_where_i_am(void)
{
        void *frames[32];
        int nr = backtrace(frames, (int)ARRAY_LEN(frames));

        fprintf(stderr, "thread %u %s %s\n", baton_me(),
                me->state == WAITING ? "waits:" : "can go on:", me->what ? me->what : "");
        backtrace_symbols_fd(frames, nr, STDERR_FILENO);
}

/* Each says it itself: the process ends when it gets the baton for that. */
void baton_fail(const char *what)
{
        fprintf(stderr, "%s, at %llu us, step %llu\n", what,
                (unsigned long long)(s.now - START_NS) / 1000,
                (unsigned long long)s.result.nr_steps);
        if (me) {
                s.is_failing = true;
                say_where_i_am();
                for (struct thread *t = s.threads; t < s.threads + s.nr_threads; t++) {
                        if (t == me || t->state == ENDED || t->state == JOINED)
                                continue;
                        sem_post(&t->baton);
                        sem_wait(&s.reported);
                }
        }
        fprintf(stderr, "(addr2line -fpe PROGRAM OFFSET... tells the lines)\n");
        abort();
}

static void wait_for_baton(void)
{
        while (sem_wait(&me->baton) != 0) {
        }
        if (s.is_failing) {
                say_where_i_am();
                sem_post(&s.reported);
                for (;;)
                        pause(); /* the process ends */
        }
}

/* ---- who is next ---- */

static void make_ready(struct thread *t, bool is_woken)
{
        t->state = READY;
        t->is_woken = is_woken;
        s.is_changed = true;
}

/* Who has slept long enough is ready. */
static void expire(void)
{
        s.next_deadline = BATON_NEVER;
        for (struct thread *t = s.threads; t < s.threads + s.nr_threads; t++) {
                if (t->state != WAITING)
                        continue;
                if (t->deadline <= s.now)
                        make_ready(t, false);
                else
                        s.next_deadline = min_t(uint64_t, s.next_deadline, t->deadline);
        }
}

static struct thread *pick(void)
{
        struct thread *best = NULL;
        unsigned nr = 0;

        for (struct thread *t = s.threads; t < s.threads + s.nr_threads; t++) {
                if (t->state != READY)
                        continue;
                nr++;
                if (s.one_in ? t_below(&s.rand, nr) == 0
                             : !best || t->priority > best->priority)
                        best = t;
        }
        return best;
}

static struct thread *next_thread(void)
{
        struct thread *t;

        expire();
        t = pick();
        if (!t && s.next_deadline != BATON_NEVER) {
                s.now = s.next_deadline;
                expire();
                t = pick();
        }
        if (!t)
                baton_fail("deadlock");
        s.is_changed = false;
        return t;
}

static void hand_to(struct thread *t)
{
        s.result.nr_switches++;
        baton_note("goes on", (uint64_t)(t - s.threads), 0, 0);
        sem_post(&t->baton);
}

static void go_on(struct thread *t)
{
        if (t == me)
                return;
        hand_to(t);
        wait_for_baton();
}

static bool wants_switch(void)
{
        if (s.now >= s.next_deadline)
                expire();
        if (s.one_in)
                return t_below(&s.rand, s.one_in) == 0;
        if (s.result.nr_steps >= s.next_change) {
                me->priority = --s.lowest;
                s.next_change = s.result.nr_steps + 1 + t_below(&s.rand, 2 * s.gap);
                s.is_changed = true;
        }
        return s.is_changed;
}

void baton_point(const char *what)
{
        if (me->nr_quiet > 0)
                return;
        me->what = what;
        s.now += TICK_NS;
        if (++s.result.nr_steps > s.params.max_steps)
                baton_fail("no end");
        if (wants_switch())
                go_on(next_thread());
}

void baton_yield_now(void)
{
        me->what = "yield";
        me->priority = --s.lowest;
        s.now += YIELD_NS;
        s.result.nr_steps++;
        go_on(next_thread());
}

/* ---- waiting ---- */

bool baton_wait(const void *on, const char *what, uint64_t deadline_ns)
{
        T_CHECK(me->nr_quiet == 0);
        me->state = WAITING;
        me->on = on;
        me->what = what;
        me->deadline = deadline_ns;
        s.next_deadline = min_t(uint64_t, s.next_deadline, deadline_ns);
        go_on(next_thread());
        me->on = NULL;
        return me->is_woken;
}

static struct thread *any_waiter(const void *on)
{
        struct thread *any = NULL;
        unsigned nr = 0;

        for (struct thread *t = s.threads; t < s.threads + s.nr_threads; t++) {
                if (t->state == WAITING && t->on == on && t_below(&s.rand, ++nr) == 0)
                        any = t;
        }
        return any;
}

void baton_wake(const void *on, bool all)
{
        struct thread *t;

        while ((t = any_waiter(on))) {
                make_ready(t, true);
                if (!all)
                        return;
        }
}

bool baton_has_waiter(const void *on)
{
        for (struct thread *t = s.threads; t < s.threads + s.nr_threads; t++) {
                if (t->state == WAITING && t->on == on)
                        return true;
        }
        return false;
}

void baton_sleep(uint64_t ns)
{
        (void)baton_wait(me, "sleep", s.now + ns);
}

/* ---- threads ---- */

static struct thread *new_thread(void)
{
        struct thread *t = &s.threads[s.nr_threads++];

        T_CHECK(s.nr_threads <= MAX_THREADS);
        *t = (struct thread){.state = READY, .priority = (int64_t)t_below(&s.rand, 1u << 20)};
        T_CHECK(sem_init(&t->baton, 0, 0) == 0);
        s.is_changed = true;
        return t;
}

int __real_pthread_create(pthread_t *ret_id, const pthread_attr_t *attr, void *(*fn)(void *arg),
                          void *arg);
int __real_pthread_join(pthread_t id, void **ret_value);

static void *thread_main(void *arg)
{
        void *value;

        me = arg;
        wait_for_baton();
        value = me->fn(me->arg);
        me->state = ENDED;
        baton_wake(me, true);
        hand_to(next_thread());
        me = NULL; /* what ends a thread is not part of the run */
        return value;
}

int baton_create(pthread_t *ret_id, const pthread_attr_t *attr, void *(*fn)(void *arg),
                 void *arg)
{
        struct thread *t = new_thread();
        int ret;

        t->fn = fn;
        t->arg = arg;
        ret = __real_pthread_create(&t->id, attr, thread_main, t);
        T_CHECK(ret == 0);
        *ret_id = t->id;
        baton_point("create");
        return 0;
}

int baton_join(pthread_t id, void **ret_value)
{
        struct thread *t = s.threads + 1;

        while (t->state == JOINED || !pthread_equal(t->id, id))
                T_CHECK(++t < s.threads + s.nr_threads);
        while (t->state != ENDED)
                (void)baton_wait(t, "join", BATON_NEVER);
        t->state = JOINED;
        return __real_pthread_join(id, ret_value);
}

/* ---- runs ---- */

static void draw_policy(void)
{
        static const unsigned one_in[] = {0, 0, 0, 2, 5, 20, 100, 1000};

        s.one_in = one_in[t_below(&s.rand, ARRAY_LEN(one_in))];
        s.gap = 20ull << t_below(&s.rand, 8);
        s.next_change = t_below(&s.rand, 2 * s.gap);
}

void baton_run(const struct baton_params *params, void (*fn)(void *arg), void *arg,
               struct baton_result *ret_result)
{
        T_CHECK(!me);
        memset(&s, 0, sizeof(s));
        s.params = *params;
        if (!s.params.max_steps)
                s.params.max_steps = 20000000;
        s.rand = params->seed;
        s.now = START_NS;
        s.next_deadline = BATON_NEVER;
        draw_policy();
        T_CHECK(sem_init(&s.reported, 0, 0) == 0);
        me = new_thread();
        fn(arg);
        for (struct thread *t = s.threads + 1; t < s.threads + s.nr_threads; t++) {
                if (t->state != JOINED)
                        baton_fail("a thread is left");
        }
        me = NULL;
        s.result.end_ns = s.now - START_NS;
        *ret_result = s.result;
}
