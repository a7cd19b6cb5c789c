/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Many writers on a device whose requests end in any order, fail, and are cut off; every
 * decision drawn from a seed (baton.h, device.h, run.h).  What is found afterwards must be what
 * the writers were promised, and e2fsck must be content.
 *
 * UEXT4_LONG=1 plays 1000 seeds in each configuration instead of 3 (docs/simulation.md).
 * UEXT4_ONLY=NAME picks a configuration, UEXT4_FIRST=N is the first seed, UEXT4_RUNS=N plays so
 * many; UEXT4_TRACE=1 says all that happens.  A failure says which of them repeat it.
 *
 * Runs are played in a process of their own, which another one watches: whatever ends it, the
 * seed is said.
 */

#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"

#define SECONDS_OF_A_RUN 120 /* more is a hang that the scheduler does not see */

/* What a process that plays tells the one that watches; shared by both. */
struct report {
        uint64_t seed; /* that is played */
        uint64_t nr_runs, nr_cut, nr_faults, nr_images, nr_steps, nr_switches, nr_events;
        uint64_t hash; /* of all runs */
};

struct plan {
        const struct run_image *image;
        uint64_t first, nr;
        unsigned times; /* each seed */
        struct report *report;
};

static struct report *new_report(void)
{
        void *p = mmap(NULL, sizeof(struct report), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        T_CHECK(p != MAP_FAILED);
        return p;
}

/* ---- the process that plays ---- */

/* The baton goes from thread to thread: another processor would only have to wake up. */
static void stay_on_one_cpu(void)
{
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET(sched_getcpu(), &set);
        (void)sched_setaffinity(0, sizeof(set), &set);
}

static void count(struct report *report, const struct run_result *result)
{
        uint64_t state = report->hash ^ result->order.hash;

        report->hash = t_rand(&state);
        report->nr_runs++;
        report->nr_cut += result->was_cut;
        report->nr_faults += result->had_faults;
        report->nr_images += result->nr_images;
        report->nr_events += result->nr_events;
        report->nr_steps += result->order.nr_steps;
        report->nr_switches += result->order.nr_switches;
}

static void play_seed(const struct plan *plan)
{
        const bool with_trace = rig_number("UEXT4_TRACE", 0);
        struct run_result first, again;

        alarm(SECONDS_OF_A_RUN);
        run_one(plan->image, plan->report->seed, with_trace, &first);
        count(plan->report, &first);
        for (unsigned i = 1; i < plan->times; i++) {
                run_one(plan->image, plan->report->seed, with_trace, &again);
                T_CHECK(again.order.hash == first.order.hash);
        }
}

static void play(const struct plan *plan)
{
        stay_on_one_cpu();
        for (uint64_t i = 0; i < plan->nr; i++) {
                plan->report->seed = plan->first + i;
                play_seed(plan);
        }
}

/* ---- the process that watches ---- */

static void watch(const struct plan *plan)
{
        pid_t pid;
        int status;

        fflush(NULL);
        pid = fork();
        T_CHECK(pid >= 0);
        if (pid == 0) {
                play(plan);
                exit(0);
        }
        T_CHECK(waitpid(pid, &status, 0) == pid);
        if (status == 0)
                return;
        fprintf(stderr, "to repeat it: UEXT4_ONLY=%s UEXT4_FIRST=%llu UEXT4_RUNS=1 %s\n",
                plan->image->config->name, (unsigned long long)plan->report->seed,
                program_invocation_name);
        fail_msg("%s, seed %llu: status %#x", plan->image->config->name,
                 (unsigned long long)plan->report->seed, status);
}

static void say(const struct plan *plan)
{
        const struct report *r = plan->report;

        printf("# %s: seeds %llu .. %llu: %llu cut, %llu with faults, %llu images, %llu "
               "requests, "
               "%llu steps, %llu switches, %016llx\n",
               plan->image->config->name, (unsigned long long)plan->first,
               (unsigned long long)(plan->first + plan->nr - 1), (unsigned long long)r->nr_cut,
               (unsigned long long)r->nr_faults, (unsigned long long)r->nr_images,
               (unsigned long long)r->nr_events / 2, (unsigned long long)r->nr_steps,
               (unsigned long long)r->nr_switches, (unsigned long long)r->hash);
        fflush(stdout);
}

/* ---- the tests ---- */

static uint64_t first_seed(void)
{
        return rig_number("UEXT4_FIRST", t_seed() * 1000000);
}

static void promises_are_kept(void **state)
{
        const char *only = getenv("UEXT4_ONLY");
        struct plan plan = {.first = first_seed(),
                            .nr = rig_number("UEXT4_RUNS", t_is_long() ? 1000 : 3),
                            .times = 1};

        for (unsigned i = 0; i < run_nr_configs; i++) {
                struct run_image image;

                if (only && strcmp(only, run_configs[i].name) != 0)
                        continue;
                run_image_make(&run_configs[i], &image);
                plan.image = &image;
                plan.report = new_report();
                watch(&plan);
                say(&plan);
                munmap(plan.report, sizeof(*plan.report));
                run_image_free(&image);
        }
}

/* Twice in one process, and in another one. */
static void a_seed_is_a_run(void **state)
{
        struct plan plan = {.first = first_seed(), .nr = t_is_long() ? 50 : 3, .times = 2};
        struct run_image image;
        uint64_t hash;

        run_image_make(&run_configs[1], &image);
        plan.image = &image;
        plan.report = new_report();
        watch(&plan);
        hash = plan.report->hash;
        plan.times = 1;
        memset(plan.report, 0, sizeof(*plan.report));
        watch(&plan);
        assert_int_equal(plan.report->hash, hash);
        plan.first++;
        memset(plan.report, 0, sizeof(*plan.report));
        watch(&plan);
        assert_int_not_equal(plan.report->hash, hash);
        munmap(plan.report, sizeof(*plan.report));
        run_image_free(&image);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_seed_is_a_run),
                cmocka_unit_test(promises_are_kept),
        };

        return cmocka_run_group_tests_name("sim", tests, NULL, NULL);
}
