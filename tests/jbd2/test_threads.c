/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Many threads run random handles on one journal, and the power is cut: looked at from within
 * the run (watch.h), and cut for good, with the threads under way.
 */
#include "cut.h"
#include "driver.h"

#define NR_META 160
#define NR_DATA 24

struct crowd {
        struct rig rig;
        struct model model;
        struct driver_shared shared;
        struct driver drivers[T_MAX_THREADS];
        struct cutter cut;
        pthread_mutex_t lock;
        struct watch_hook hook;
        unsigned nr_threads;
        uint64_t nr_steps;
        unsigned max_blocks; /* of a handle */
        unsigned one_in;     /* points looked at */
};

static void crowd_init(struct crowd *cr, const struct rig_config *c, unsigned nr_threads)
{
        pthread_mutex_init(&cr->lock, NULL);
        cr->hook = (struct watch_hook){cutter_look, &cr->cut, &cr->lock};
        cr->nr_threads = nr_threads;
        model_init(&cr->model, c->nr_homes - NR_DATA, NR_DATA, c->f.block_size);
        cr->model.no_log = c->no_log;
        cutter_init(&cr->cut, c, &cr->rig, &cr->model);
}

static void crowd_open(struct crowd *cr, const struct rig_config *c, void *const images[])
{
        rig_open(&cr->rig, c, images);
        driver_shared_init(&cr->shared, &cr->rig, &cr->model);
        cr->shared.no_waits = c->no_waits;
        cr->shared.max_blocks = cr->max_blocks;
        for (unsigned i = 0; i < cr->nr_threads; i++)
                cr->drivers[i] = (struct driver){.s = &cr->shared, .rand = c->seed * 100 + i};
        driver_learn_tid(&cr->shared);
}

static void crowd_done(struct crowd *cr)
{
        cutter_done(&cr->cut);
        model_done(&cr->model);
        pthread_mutex_destroy(&cr->lock);
        free(cr);
}

static void work(void *arg, unsigned n)
{
        struct crowd *cr = arg;

        driver_run(&cr->drivers[n], cr->nr_steps);
}

static void report(struct crowd *cr)
{
        struct jbd2_stats st;
        uint64_t nr_images;

        jbd2_get_stats(cr->rig.j, &st);
        pthread_mutex_lock(&cr->lock); /* the timer may still be writing */
        nr_images = cr->cut.nr_images;
        pthread_mutex_unlock(&cr->lock);
        printf("# %s: %llu handles, %llu commits, %llu copied out, %llu waits for space; "
               "%llu images\n",
               cr->rig.c.name, (unsigned long long)st.nr_handles,
               (unsigned long long)st.nr_commits, (unsigned long long)st.nr_copied_out,
               (unsigned long long)st.nr_space_waits, (unsigned long long)nr_images);
}

static struct rig_config crowded(size_t i, uint64_t seed)
{
        struct rig_config c = rig_formats[i % rig_nr_formats];

        c.nr_homes = NR_META + NR_DATA;
        c.seed = seed;
        return c;
}

/* `cr` says how many do how much. */
static void watch_crowd(struct crowd *cr, struct rig_config c, unsigned nr_threads,
                        uint64_t nr_steps)
{
        cr->cut = (struct cutter){.last = UINT64_MAX,
                                  .one_in = cr->one_in ? cr->one_in : 12,
                                  .nr_random = 2,
                                  .second_one_in = 64,
                                  .rand = c.seed};
        cr->nr_steps = nr_steps;
        crowd_init(cr, &c, nr_threads);
        c.hook = &cr->hook;
        crowd_open(cr, &c, NULL);
        t_run_threads(nr_threads, work, cr);
        report(cr);
        T_CHECK(rig_unload(&cr->rig) == 0);
        rig_close(&cr->rig);
        driver_shared_done(&cr->shared);
        crowd_done(cr);
}

static struct crowd *new_crowd(void)
{
        return t_alloc(sizeof(struct crowd));
}

static void threads_are_cut(void **state)
{
        const uint64_t seed = t_seed();

        for (size_t i = 0; i < (t_is_long() ? 300 : 3); i++) {
                struct rig_config c = crowded(i * 4 + 1, seed + i);

                c.commit_ms = i % 2 ? 3 : 0;
                watch_crowd(new_crowd(), c, 4, 300);
        }
}

static void threads_that_never_wait_are_cut(void **state)
{
        const uint64_t seed = t_seed();

        for (size_t i = 0; i < (t_is_long() ? 100 : 2); i++) {
                struct rig_config c = crowded(i * 5, seed + i);

                c.no_waits = true;
                c.commit_ms = i % 2 ? 2 : 0;
                watch_crowd(new_crowd(), c, 8, 300);
        }
}

static void threads_without_a_log_are_cut(void **state)
{
        struct rig_config c = crowded(5, t_seed());

        c.no_log = true;
        c.name = "no log";
        watch_crowd(new_crowd(), c, 4, 300);
}

/* Some thousand blocks, and handles that change many of them. */
static void many_blocks_are_cut(void **state)
{
        const uint64_t seed = t_seed();

        for (size_t i = 0; i < (t_is_long() ? 10 : 1); i++) {
                struct rig_config c = crowded(i + 6, seed + i);
                struct crowd *cr = new_crowd();

                if (c.f.block_size != 1024) {
                        free(cr);
                        continue;
                }
                c.nr_homes = 2000 + NR_DATA;
                c.f.nr_blocks += 800;
                c.commit_ms = 10;
                c.no_waits = i % 2 == 0;
                cr->max_blocks = 48;
                cr->one_in = t_is_long() ? 60 : 150;
                watch_crowd(cr, c, 6, t_is_long() ? 600 : 120);
        }
}

/* ---- cut for good ---- */

static void a_life(struct crowd *cr, struct rig_config c, void *images[], uint64_t *rand)
{
        uint64_t at = 20 + t_below(rand, 500);

        crowd_open(cr, &c, images);
        cr->shared.may_fail = true;
        uext4_bdev_sim_cut_at(cr->rig.sims[0], at);
        t_run_threads(cr->nr_threads, work, cr);
        uext4_bdev_sim_cut(cr->rig.sims[0]);
        cutter_look_now(&cr->cut);
        /* When all was home by then there was nothing that could fail. */
        T_CHECK(rig_unload(&cr->rig) < 0 || cr->model.durable == cr->model.newest);
        if (!images[0])
                images[0] = t_alloc(rig_size(&c, 0));
        cutter_restart(&cr->cut, images);
        rig_close(&cr->rig);
        driver_shared_done(&cr->shared);
}

static void threads_end_when_the_power_does(void **state)
{
        const uint64_t seed = t_seed();
        uint64_t rand = seed;

        for (size_t i = 0; i < rig_nr_formats; i++) {
                struct crowd *cr = t_alloc(sizeof(*cr));
                struct rig_config c = crowded(i, seed + i);
                void *images[RIG_NR_DEVS] = {0};

                if (c.external) {
                        free(cr);
                        continue;
                }
                c.commit_ms = i % 2 ? 3 : 0;
                cr->cut = (struct cutter){.nr_random = 4,
                                          .exhaust_writes = 6,
                                          .rand = c.seed,
                                          .second_one_in = 16};
                cr->nr_steps = UINT64_MAX;
                crowd_init(cr, &c, 4);
                for (unsigned n = 0; n < (t_is_long() ? 100u : 2u); n++, c.seed++)
                        a_life(cr, c, images, &rand);
                free(images[0]);
                crowd_done(cr);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(threads_are_cut),
                cmocka_unit_test(threads_that_never_wait_are_cut),
                cmocka_unit_test(threads_without_a_log_are_cut),
                cmocka_unit_test(many_blocks_are_cut),
                cmocka_unit_test(threads_end_when_the_power_does),
        };

        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return cmocka_run_group_tests(tests, NULL, NULL);
}
