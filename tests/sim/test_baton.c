/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The scheduler itself: that a seed is an order, that orders differ, that its clock is the one
 * that threads see, and that mistakes of a few lines are found in some of the orders: what one
 * mutex or one signal less does.
 */

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../unit/t_util.h"
#include "baton.h"
#include "util/lock.h"

#define NR_THREADS 4
#define NR_ROUNDS  5
#define NR_SEEDS   200

/* What the threads of a program share. */
struct shared {
        struct mtx lock;
        struct cond filled;
        unsigned count;
        bool with_lock, with_signal;
        uint64_t slept_ns;
};

static void run_threads(struct shared *sh, void *(*fn)(void *arg))
{
        pthread_t threads[NR_THREADS];

        mtx_init(&sh->lock, RANK_LEAF);
        cond_init(&sh->filled);
        for (unsigned i = 0; i < NR_THREADS; i++)
                T_CHECK(pthread_create(&threads[i], NULL, fn, sh) == 0);
        for (unsigned i = 0; i < NR_THREADS; i++)
                T_CHECK(pthread_join(threads[i], NULL) == 0);
        cond_done(&sh->filled);
        mtx_done(&sh->lock);
}

static struct baton_result run(uint64_t seed, void (*fn)(void *arg), void *arg)
{
        const struct baton_params params = {.seed = seed, .max_steps = 100000};
        struct baton_result result;

        baton_run(&params, fn, arg, &result);
        return result;
}

/* ---- programs ---- */

/* To add one takes a look and a change, and another lock is taken between the two. */
static void *add(void *arg)
{
        struct shared *sh = arg;

        for (unsigned i = 0; i < NR_ROUNDS; i++) {
                unsigned seen;

                if (sh->with_lock)
                        mtx_lock(&sh->lock);
                seen = sh->count;
                baton_point("between");
                sh->count = seen + 1;
                if (sh->with_lock)
                        mtx_unlock(&sh->lock);
        }
        return NULL;
}

static void count_up(void *arg)
{
        run_threads(arg, add);
}

/* Each takes one and makes one more; without the signal nobody learns of it. */
static void *pass(void *arg)
{
        struct shared *sh = arg;

        mtx_lock(&sh->lock);
        while (sh->count == 0)
                cond_wait(&sh->filled, &sh->lock);
        sh->count--;
        mtx_unlock(&sh->lock);
        baton_sleep(1000000);
        mtx_lock(&sh->lock);
        sh->count++;
        if (sh->with_signal)
                cond_signal(&sh->filled);
        mtx_unlock(&sh->lock);
        return NULL;
}

static void pass_round(void *arg)
{
        run_threads(arg, pass);
}

/* Nobody signals; a wait may end for no reason. */
static void *sleep_one_hour(void *arg)
{
        const uint64_t start = clock_ns(), end = start + 3600ull * 1000000000;
        struct shared *sh = arg;

        mtx_lock(&sh->lock);
        while (cond_wait_until(&sh->filled, &sh->lock, end)) {
        }
        sh->slept_ns = clock_ns() - start;
        mtx_unlock(&sh->lock);
        return NULL;
}

static void sleep_together(void *arg)
{
        run_threads(arg, sleep_one_hour);
}

/* ---- tests ---- */

static void a_seed_is_an_order(void **state)
{
        unsigned nr_same = 0;
        uint64_t last = 0;

        for (uint64_t seed = 1; seed <= NR_SEEDS; seed++) {
                struct shared one = {.with_lock = true}, two = one;
                uint64_t hash = run(seed, count_up, &one).hash;

                assert_int_equal(run(seed, count_up, &two).hash, hash);
                nr_same += hash == last;
                last = hash;
        }
        assert_in_range(nr_same, 0, NR_SEEDS / 20); /* where the baton hardly ever moves */
}

static void a_lock_less_is_found(void **state)
{
        unsigned nr_wrong = 0;

        for (uint64_t seed = 1; seed <= NR_SEEDS; seed++) {
                struct shared good = {.with_lock = true}, bad = {.with_lock = false};

                run(seed, count_up, &good);
                assert_int_equal(good.count, NR_THREADS * NR_ROUNDS);
                run(seed, count_up, &bad);
                nr_wrong += bad.count != NR_THREADS * NR_ROUNDS;
        }
        assert_in_range(nr_wrong, NR_SEEDS / 10, NR_SEEDS);
}

/* The process that meets it ends with a report. */
static bool ends_in_deadlock(uint64_t seed)
{
        struct shared sh = {.count = 1, .with_signal = false};
        char text[64] = "";
        int fds[2], status;
        pid_t pid;

        T_CHECK(pipe(fds) == 0);
        pid = fork();
        T_CHECK(pid >= 0);
        if (pid == 0) {
                T_CHECK(dup2(fds[1], STDERR_FILENO) >= 0);
                run(seed, pass_round, &sh);
                _exit(0);
        }
        close(fds[1]);
        T_CHECK(read(fds[0], text, sizeof(text) - 1) >= 0);
        T_CHECK(waitpid(pid, &status, 0) == pid);
        close(fds[0]);
        return WIFSIGNALED(status) && strncmp(text, "deadlock", 8) == 0;
}

static void a_signal_less_is_a_deadlock(void **state)
{
        unsigned nr = 0;

        for (uint64_t seed = 1; seed <= 20; seed++) {
                struct shared good = {.count = 1, .with_signal = true};

                run(seed, pass_round, &good);
                assert_int_equal(good.count, 1);
                nr += ends_in_deadlock(seed);
        }
        assert_in_range(nr, 5, 20);
}

static void time_passes_when_all_sleep(void **state)
{
        for (uint64_t seed = 1; seed <= NR_SEEDS; seed++) {
                struct shared sh = {.slept_ns = 0};
                struct baton_result result = run(seed, sleep_together, &sh);

                assert_in_range(sh.slept_ns, 3600ull * 1000000000, 3601ull * 1000000000);
                assert_in_range(result.end_ns, 3600ull * 1000000000, 3601ull * 1000000000);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_seed_is_an_order),
                cmocka_unit_test(a_lock_less_is_found),
                cmocka_unit_test(a_signal_less_is_a_deadlock),
                cmocka_unit_test(time_passes_when_all_sleep),
        };

        return cmocka_run_group_tests_name("sim_baton", tests, NULL, NULL);
}
