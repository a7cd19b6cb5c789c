/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef T_UTIL_H
#define T_UTIL_H

/*
 * What the unit tests share: cmocka, a log that can be read back, random numbers from one
 * seed, and a number of threads that start together.
 *
 * cmocka's assertions jump out of the test, which only the thread that runs it may do: other
 * threads use T_CHECK.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>

#include "../lib/check.h"
#include "util/alloc.h"
#include "util/log.h"

/* As assert_int_equal, naming the row of a table. */
#define t_assert_row(row, got, want)                                               \
        do {                                                                       \
                long long t_got = (long long)(got), t_want = (long long)(want);    \
                if (t_got != t_want)                                               \
                        fail_msg("%s: got %lld, want %lld", (row), t_got, t_want); \
        } while (0)

/* ---- a log that can be read back ---- */

struct t_log {
        pthread_mutex_t lock;
        unsigned nr_lines;
        char text[8192]; /* lines, each with a newline; what does not fit is dropped */
};

static inline void t_log_line(void *arg, int level, const char *line)
{
        struct t_log *log = arg;
        size_t used;

        pthread_mutex_lock(&log->lock);
        used = strlen(log->text);
        snprintf(log->text + used, sizeof(log->text) - used, "%s\n", line);
        log->nr_lines++;
        pthread_mutex_unlock(&log->lock);
}

static inline void t_log_init(struct t_log *log)
{
        pthread_mutex_init(&log->lock, NULL);
        log->nr_lines = 0;
        log->text[0] = '\0';
}

static inline struct log_sink t_log_sink(struct t_log *log)
{
        return (struct log_sink){t_log_line, log};
}

static inline bool t_log_has(const struct t_log *log, const char *what)
{
        return strstr(log->text, what) != NULL;
}

static inline void t_log_clear(struct t_log *log)
{
        log->nr_lines = 0;
        log->text[0] = '\0';
}

/* ---- random numbers ---- */

/* UEXT4_SEED, or 1; said, so that a failure can be repeated. */
static inline uint64_t t_seed(void)
{
        const char *text = getenv("UEXT4_SEED");
        uint64_t seed = text && *text ? strtoull(text, NULL, 0) : 1;

        printf("# UEXT4_SEED=%llu\n", (unsigned long long)seed);
        fflush(stdout);
        return seed;
}

/* splitmix64: any state is a good one. */
static inline uint64_t t_rand(uint64_t *state)
{
        uint64_t z = *state += 0x9e3779b97f4a7c15u;

        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        return z ^ z >> 31;
}

/* 0 .. n - 1 */
static inline uint64_t t_below(uint64_t *state, uint64_t n)
{
        return t_rand(state) % n;
}

/* ---- how much ---- */

static inline bool t_is_long(void)
{
        const char *all = getenv("UEXT4_LONG");

        return all && *all && strcmp(all, "0") != 0;
}

/* How many random operations: UEXT4_OPS, or a million in a long run. */
static inline unsigned t_nr_ops(unsigned quick)
{
        const char *text = getenv("UEXT4_OPS");

        if (text && *text)
                return (unsigned)strtoul(text, NULL, 0);
        return t_is_long() ? 1000000 : quick;
}

/*
 * The step of a sweep over every request: 1, or `less` where UEXT4_EFFORT=less says that
 * another build has made the full sweep.  A long run is always full.
 */
static inline unsigned t_sweep_step(unsigned less)
{
        const char *effort = getenv("UEXT4_EFFORT");

        if (t_is_long())
                return 1;
        return effort && strcmp(effort, "less") == 0 ? less : 1;
}

/* ---- threads ---- */

#define T_MAX_THREADS 16

struct t_thread {
        pthread_t id;
        pthread_barrier_t *start;
        void (*fn)(void *arg, unsigned n);
        void *arg;
        unsigned n;
};

static inline void *t_thread_main(void *arg)
{
        struct t_thread *t = arg;

        pthread_barrier_wait(t->start);
        t->fn(t->arg, t->n);
        return NULL;
}

/* Run fn(arg, 0 .. nr - 1) in threads that start together; return when all have ended. */
static inline void t_run_threads(unsigned nr, void (*fn)(void *arg, unsigned n), void *arg)
{
        struct t_thread threads[T_MAX_THREADS];
        pthread_barrier_t start;

        T_CHECK(nr <= T_MAX_THREADS);
        pthread_barrier_init(&start, NULL, nr);
        for (unsigned i = 0; i < nr; i++) {
                threads[i] = (struct t_thread){.start = &start, .fn = fn, .arg = arg, .n = i};
                T_CHECK(pthread_create(&threads[i].id, NULL, t_thread_main, &threads[i]) == 0);
        }
        for (unsigned i = 0; i < nr; i++)
                pthread_join(threads[i].id, NULL);
        pthread_barrier_destroy(&start);
}

/* ---- memory ---- */

static inline void *t_alloc(size_t size)
{
        void *p = calloc(1, size);

        T_CHECK(p);
        return p;
}

#endif
