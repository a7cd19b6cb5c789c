/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Random handles, and the power cut at every request: see driver.h for what is done, watch.h
 * and cut.h for how cuts are looked at, model.h for what must be found.
 *
 * One thread drives, so that a seed is a run.  UEXT4_LONG=1 looks at many more.
 */
#include "cut.h"
#include "driver.h"

struct stress {
        struct rig rig;
        struct model model;
        struct driver_shared shared;
        struct driver driver;
        struct cutter cut;
        pthread_mutex_t lock;
        struct watch_hook hook;
};

#define NR_META 96
#define NR_DATA 16

static void stress_init(struct stress *s, struct rig_config *c)
{
        pthread_mutex_init(&s->lock, NULL);
        s->hook = (struct watch_hook){cutter_look, &s->cut, &s->lock};
        c->hook = &s->hook;
        model_init(&s->model, NR_META, NR_DATA, c->f.block_size);
        s->model.no_log = c->no_log;
        cutter_init(&s->cut, c, &s->rig, &s->model);
}

static void stress_open(struct stress *s, const struct rig_config *c, void *const images[])
{
        rig_open(&s->rig, c, images);
        driver_shared_init(&s->shared, &s->rig, &s->model);
        s->driver.s = &s->shared;
        s->shared.no_waits = c->no_waits;
        driver_learn_tid(&s->shared);
}

static void stress_done(struct stress *s)
{
        driver_shared_done(&s->shared);
        cutter_done(&s->cut);
        model_done(&s->model);
        pthread_mutex_destroy(&s->lock);
}

static void report(const struct stress *s)
{
        const struct driver *d = &s->driver;

        printf("# %s: %llu handles, %llu freed, %llu reused for data; %llu points, %llu "
               "images, "
               "%llu second cuts\n",
               s->rig.c.name, (unsigned long long)d->nr_handles,
               (unsigned long long)d->nr_freed, (unsigned long long)d->nr_reused,
               (unsigned long long)s->cut.nr_looked, (unsigned long long)s->cut.nr_images,
               (unsigned long long)s->cut.nr_second);
}

/* ---- every request of a window ---- */

static void run_window(struct rig_config c, const struct cutter *how, uint64_t seed,
                       uint64_t nr_points)
{
        struct stress *s = t_alloc(sizeof(*s));

        c.seed = seed;
        s->cut = *how;
        s->cut.rand = s->driver.rand = seed;
        stress_init(s, &c);
        stress_open(s, &c, NULL);
        while (s->cut.nr_points < nr_points)
                T_CHECK(driver_step(&s->driver) >= 0);
        T_CHECK(rig_unload(&s->rig) == 0);
        s->rig.j = NULL;
        report(s);
        rig_close(&s->rig);
        stress_done(s);
        free(s);
}

static const struct cutter quick_look = {
        .last = UINT64_MAX, .nr_random = 2, .exhaust_writes = 2, .second_one_in = 64};

static void every_request_of_a_window_can_be_cut(void **state)
{
        const uint64_t seed = t_seed();
        struct cutter how = quick_look;

        how.first = 300; /* when the log has wrapped */
        for (size_t i = 0; i < rig_nr_formats; i++)
                run_window(rig_formats[i], &how, seed + i, t_is_long() ? 1300 : 460);
}

static void a_thousand_requests_can_be_cut(void **state)
{
        struct cutter how = quick_look;

        run_window(rig_plain(264, 0), &how, t_seed(), 1000);
}

static void all_subsets_survive_over_short_windows(void **state)
{
        struct cutter how = {.last = UINT64_MAX,
                             .exhaust_writes = 9,
                             .exhaust_sectors = 8,
                             .second_one_in = 512};
        const uint64_t seed = t_seed();

        how.first = 400;
        run_window(rig_plain(264, 0), &how, seed, t_is_long() ? 1400 : 460);
        for (size_t i = 0; i < rig_nr_formats; i++)
                if (rig_formats[i].external)
                        run_window(rig_formats[i], &how, seed, t_is_long() ? 1400 : 430);
}

static void seeded_points_can_be_cut(void **state)
{
        struct cutter how = {
                .last = UINT64_MAX, .one_in = 16, .nr_random = 3, .second_one_in = 32};
        const uint64_t seed = t_seed();

        for (unsigned n = 0; n < (t_is_long() ? 80 : 4); n++)
                run_window(rig_formats[(seed + n) % rig_nr_formats], &how, seed + 1000 * n,
                           2000);
}

/*
 * Nothing but the journal flushes, and that seldom: then a flush of somebody else cannot stand
 * in for one that is missing.
 */
static void a_log_without_other_flushes_can_be_cut(void **state)
{
        const uint64_t seed = t_seed();
        struct cutter how = quick_look;

        for (size_t i = 0; i < rig_nr_formats; i += t_is_long() ? 1 : 3) {
                struct rig_config c = rig_formats[i];

                c.no_waits = true;
                run_window(c, &how, seed + i, t_is_long() ? 2000 : 400);
        }
}

static void without_a_log_what_was_committed_is_there(void **state)
{
        struct rig_config c = rig_plain(264, 0);
        const uint64_t seed = t_seed();

        c.no_log = true;
        c.name = "no log";
        run_window(c, &quick_look, seed, 800);
        c.no_fua = true;
        run_window(c, &quick_look, seed + 1, 400);
}

/* ---- lives: cut, recover, go on ---- */

static uint64_t requests_of(struct rig *r)
{
        struct uext4_bdev_sim_state st;
        uint64_t nr = 0;

        for (unsigned i = 0; i < rig_nr_devs(&r->c); i++) {
                uext4_bdev_sim_state(r->sims[i], &st);
                nr += st.requests;
        }
        return nr;
}

/* One life; ends with images to go on with. */
static void live(struct stress *s, const struct rig_config *c, void *images[])
{
        uint64_t at;

        stress_open(s, c, images);
        s->shared.may_fail = true;
        at = requests_of(&s->rig) + 1 + t_below(&s->driver.rand, 300);
        uext4_bdev_sim_cut_at(s->rig.sims[0], at);
        driver_run(&s->driver, 2000);
        cutter_look_now(&s->cut);
        /* When all was home by then there was nothing that could fail. */
        T_CHECK(rig_unload(&s->rig) < 0 || s->model.durable == s->model.newest);
        if (!images[0])
                images[0] = t_alloc(rig_size(c, 0));
        cutter_look_now(&s->cut);
        cutter_restart(&s->cut, images);
        rig_close(&s->rig);
        driver_shared_done(&s->shared);
        memset(&s->shared, 0, sizeof(s->shared));
}

static void life_goes_on(struct rig_config c, uint64_t seed, unsigned nr_lives)
{
        struct stress *s = t_alloc(sizeof(*s));
        void *images[RIG_NR_DEVS] = {0};

        c.seed = seed;
        s->cut = quick_look;
        s->cut.last = 0; /* only after the cut */
        s->cut.rand = s->driver.rand = seed;
        stress_init(s, &c);
        c.hook = NULL; /* the devices' own queues */
        for (unsigned n = 0; n < nr_lives; n++) {
                live(s, &c, images);
                c.seed++;
        }
        free(images[0]);
        cutter_done(&s->cut);
        model_done(&s->model);
        pthread_mutex_destroy(&s->lock);
        free(s);
}

static void a_recovered_journal_goes_on(void **state)
{
        const uint64_t seed = t_seed();

        for (size_t i = 0; i < rig_nr_formats; i++)
                if (!rig_formats[i].external)
                        life_goes_on(rig_formats[i], seed + i, t_is_long() ? 300 : 12);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_request_of_a_window_can_be_cut),
                cmocka_unit_test(a_thousand_requests_can_be_cut),
                cmocka_unit_test(all_subsets_survive_over_short_windows),
                cmocka_unit_test(seeded_points_can_be_cut),
                cmocka_unit_test(a_log_without_other_flushes_can_be_cut),
                cmocka_unit_test(without_a_log_what_was_committed_is_there),
                cmocka_unit_test(a_recovered_journal_goes_on),
        };

        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return cmocka_run_group_tests(tests, NULL, NULL);
}
