/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef SIM_BATON_H
#define SIM_BATON_H

/*
 * Threads that run one at a time, in an order that a seed decides, and a clock of their own.
 *
 * The threads are real ones.  One of them has the baton; at each call that another thread could
 * be concerned with (wrap.c has them: mutexes, conditions, threads, clocks), it may be handed
 * to any other that can go on.  So a run is a function of its seed: what happens between two
 * such calls depends on nothing else, and two runs of one seed are the same run
 * (docs/simulation.md).
 *
 * The clock moves a little at each of these calls.  When nobody can go on it jumps to when the
 * next sleeper wakes; when nobody sleeps either, that is a deadlock, and is said with what each
 * thread waits for.
 *
 * What is said of a run goes into its hash: decisions, and what others note (baton_note).
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define BATON_NEVER UINT64_MAX

struct baton_params {
        uint64_t seed;
        bool with_trace;    /* each decision and note to stderr */
        uint64_t max_steps; /* more is a run without end; 0: 20 millions */
};

struct baton_result {
        uint64_t hash;
        uint64_t nr_steps;    /* calls at which the baton could have gone on */
        uint64_t nr_switches; /* at which it did */
        uint64_t end_ns;      /* on the clock */
};

/* Run fn(arg), and the threads that it begins and must join, in the order of the seed. */
void baton_run(const struct baton_params *params, void (*fn)(void *arg), void *arg,
               struct baton_result *ret_result);

/* Say what is wrong and where each thread is, and end the process. */
_Noreturn void baton_fail(const char *what);

/* ---- for threads of a run; whoever calls has the baton ---- */

/* Whether the caller is one. */
bool baton_is_on(void);

/* 0: the one that called baton_run(). */
unsigned baton_me(void);

/* Somebody else may go on here. */
void baton_point(const char *what);

/* Somebody else goes on, if anybody can. */
void baton_yield_now(void);

/* Until baton_wake(on), or the time comes: false then. */
bool baton_wait(const void *on, const char *what, uint64_t deadline_ns);

/* All who wait for it, or one of them by chance. */
void baton_wake(const void *on, bool all);

/* Whether anybody waits for it. */
bool baton_has_waiter(const void *on);

void baton_sleep(uint64_t ns);

uint64_t baton_now(void); /* CLOCK_MONOTONIC, ns */

/* A number by chance, below n, of the same generator as the decisions. */
uint64_t baton_below(uint64_t n);

/* From quiet to loud nothing is a point: what lies between is one step. */
void baton_quiet(void);
void baton_loud(void);
bool baton_is_quiet(void);

/* Something has happened that two runs of a seed must agree in. */
void baton_note(const char *what, uint64_t a, uint64_t b, uint64_t c);

/* ---- threads, for wrap.c ---- */

int baton_create(pthread_t *ret_id, const pthread_attr_t *attr, void *(*fn)(void *arg),
                 void *arg);
int baton_join(pthread_t id, void **ret_value);

#endif
