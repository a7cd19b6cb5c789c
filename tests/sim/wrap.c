/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * wrap.c - what the library calls when threads meet, or a clock is read.
 *
 * The program is linked with --wrap for each of these.  A mutex is a real one, which is only
 * ever tried; who does not get it waits for its address.  A condition is an address and no
 * more. Threads that belong to no run get the real thing.
 *
 * The locks that spin on atomics first (rwsem) are points, too, where the library was built
 * with lock_debug: then they call functions.
 */
#include <errno.h>
#include <sys/random.h>
#include <time.h>

#include "../unit/t_util.h"
#include "baton.h"
#include "util/lock.h"

#define SECOND        1000000000ull
#define EPOCH         1700000000ull /* what the clock of day begins with */
#define SPURIOUS_1_IN 50

#define WRAPPED(type, name, ...)         \
        type __real_##name(__VA_ARGS__); \
        type __wrap_##name(__VA_ARGS__); \
        type __wrap_##name(__VA_ARGS__)

/* Memory that is not there any more is found here, not only by the real functions. */
static void touch(const void *p)
{
        (void)*(const volatile char *)p;
}

/* ---- mutexes ---- */

WRAPPED(int, pthread_mutex_trylock, pthread_mutex_t *m)
{
        if (baton_is_on())
                baton_point("trylock");
        return __real_pthread_mutex_trylock(m);
}

WRAPPED(int, pthread_mutex_lock, pthread_mutex_t *m)
{
        if (!baton_is_on())
                return __real_pthread_mutex_lock(m);
        baton_point("lock");
        while (__real_pthread_mutex_trylock(m) != 0)
                (void)baton_wait(m, "mutex", BATON_NEVER);
        return 0;
}

WRAPPED(int, pthread_mutex_unlock, pthread_mutex_t *m)
{
        int ret = __real_pthread_mutex_unlock(m);

        if (!baton_is_on())
                return ret;
        if (ret != 0)
                baton_fail("a mutex is unlocked that is not locked");
        baton_wake(m, true);
        baton_point("unlock");
        return 0;
}

WRAPPED(int, pthread_mutex_destroy, pthread_mutex_t *m)
{
        if (baton_is_on() && baton_has_waiter(m))
                baton_fail("a mutex goes away that somebody waits for");
        return __real_pthread_mutex_destroy(m);
}

/* ---- conditions ---- */

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m);

/* One wait in a while ends for no reason, as POSIX allows. */
static int wait_on(pthread_cond_t *c, pthread_mutex_t *m, uint64_t deadline)
{
        bool in_time = true;

        touch(c);
        T_CHECK(__real_pthread_mutex_unlock(m) == 0);
        baton_wake(m, true);
        if (baton_below(SPURIOUS_1_IN) == 0)
                baton_yield_now();
        else
                in_time = baton_wait(c, "condition", deadline);
        while (__real_pthread_mutex_trylock(m) != 0)
                (void)baton_wait(m, "mutex of a condition", BATON_NEVER);
        return in_time ? 0 : ETIMEDOUT;
}

WRAPPED(int, pthread_cond_wait, pthread_cond_t *c, pthread_mutex_t *m)
{
        return baton_is_on() ? wait_on(c, m, BATON_NEVER) : __real_pthread_cond_wait(c, m);
}

/* The library's are all on CLOCK_MONOTONIC. */
WRAPPED(int, pthread_cond_timedwait, pthread_cond_t *c, pthread_mutex_t *m,
        const struct timespec *at)
{
        if (!baton_is_on())
                return __real_pthread_cond_timedwait(c, m, at);
        return wait_on(c, m, (uint64_t)at->tv_sec * SECOND + (uint64_t)at->tv_nsec);
}

static int wake(pthread_cond_t *c, bool all)
{
        touch(c);
        baton_wake(c, all);
        baton_point("signal");
        return 0;
}

WRAPPED(int, pthread_cond_signal, pthread_cond_t *c)
{
        return baton_is_on() ? wake(c, false) : __real_pthread_cond_signal(c);
}

WRAPPED(int, pthread_cond_broadcast, pthread_cond_t *c)
{
        return baton_is_on() ? wake(c, true) : __real_pthread_cond_broadcast(c);
}

/* The real one would wait for threads that sleep on it. */
WRAPPED(int, pthread_cond_destroy, pthread_cond_t *c)
{
        if (baton_is_on() && baton_has_waiter(c))
                baton_fail("a condition goes away that somebody waits for");
        return __real_pthread_cond_destroy(c);
}

/* ---- threads ---- */

WRAPPED(int, pthread_create, pthread_t *id, const pthread_attr_t *attr, void *(*fn)(void *arg),
        void *arg)
{
        return baton_is_on() ? baton_create(id, attr, fn, arg)
                             : __real_pthread_create(id, attr, fn, arg);
}

WRAPPED(int, pthread_join, pthread_t id, void **value)
{
        return baton_is_on() ? baton_join(id, value) : __real_pthread_join(id, value);
}

WRAPPED(int, sched_yield, void)
{
        if (!baton_is_on())
                return __real_sched_yield();
        baton_yield_now();
        return 0;
}

WRAPPED(int, nanosleep, const struct timespec *ts, struct timespec *left)
{
        if (!baton_is_on())
                return __real_nanosleep(ts, left);
        baton_sleep((uint64_t)ts->tv_sec * SECOND + (uint64_t)ts->tv_nsec);
        return 0;
}

/* ---- clocks, and what would differ between two runs ---- */

static bool is_time_of_day(clockid_t clock)
{
        return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

WRAPPED(int, clock_gettime, clockid_t clock, struct timespec *ret_ts)
{
        uint64_t now;

        if (!baton_is_on())
                return __real_clock_gettime(clock, ret_ts);
        now = baton_now() + (is_time_of_day(clock) ? EPOCH * SECOND : 0);
        *ret_ts = (struct timespec){(time_t)(now / SECOND), (long)(now % SECOND)};
        return 0;
}

WRAPPED(time_t, time, time_t *ret_time)
{
        time_t now;

        if (!baton_is_on())
                return __real_time(ret_time);
        now = (time_t)(EPOCH + baton_now() / SECOND);
        if (ret_time)
                *ret_time = now;
        return now;
}

WRAPPED(ssize_t, getrandom, void *buf, size_t len, unsigned flags)
{
        if (!baton_is_on())
                return __real_getrandom(buf, len, flags);
        for (size_t i = 0; i < len; i++)
                ((uint8_t *)buf)[i] = (uint8_t)baton_below(256);
        return (ssize_t)len;
}

/* ---- locks that are atomics first ---- */

#ifdef UEXT4_LOCK_DEBUG
/* Locks of the lower device have nothing to do with those of the upper one: they rank anew. */
WRAPPED(void, lock_debug_before, enum lock_rank rank, const char *name)
{
        if (baton_is_on() && baton_is_quiet())
                return;
        __real_lock_debug_before(rank, name);
        if (baton_is_on())
                baton_point(name);
}

WRAPPED(void, lock_debug_released, const void *lock)
{
        if (baton_is_on())
                baton_point("release");
        __real_lock_debug_released(lock);
}
#endif
