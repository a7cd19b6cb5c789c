/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cut.h"

#include "util/crc.h"

/* How each device's writes survive. */
struct outcome {
        struct uext4_bdev_sim_survivor dev[RIG_NR_DEVS];
};

static unsigned nr_devs(const struct cutter *cut)
{
        return rig_nr_devs(&cut->r->c);
}

static size_t size_of(const struct cutter *cut, unsigned i)
{
        return rig_size(&cut->r->c, i);
}

void cutter_init(struct cutter *cut, const struct rig_config *c, struct rig *r, struct model *m)
{
        cut->r = r;
        cut->m = m;
        cut->last_crc = 0;
        cut->nr_points = cut->nr_looked = cut->nr_images = cut->nr_second = 0;
        for (unsigned i = 0; i < RIG_NR_DEVS; i++) {
                bool used = i < rig_nr_devs(c);

                cut->images[i] = used ? t_alloc(rig_size(c, i)) : NULL;
                cut->work[i] = used ? t_alloc(rig_size(c, i)) : NULL;
                cut->safe[i] = used ? t_alloc(rig_size(c, i)) : NULL;
                cut->all[i] = used ? t_alloc(rig_size(c, i)) : NULL;
        }
}

void cutter_done(struct cutter *cut)
{
        for (unsigned i = 0; i < RIG_NR_DEVS; i++) {
                free(cut->images[i]);
                free(cut->work[i]);
                free(cut->safe[i]);
                free(cut->all[i]);
        }
}

/* ---- images ---- */

/*
 * A device that loses power while it writes a sector may leave junk there.  No journal
 * outlives that in the block that says where the log begins: it counts on each sector of this
 * one being written whole or not at all.
 */
static void mend_super(struct cutter *cut)
{
        const struct rig_config *c = &cut->r->c;
        const unsigned i = c->external ? RIG_LOG : RIG_FS;
        size_t pos;

        if (c->no_log)
                return;
        pos = rig_super_pos(c);
        for (size_t end = pos + 1024; pos < end; pos += UEXT4_BDEV_SIM_SECTOR) {
                char *got = (char *)cut->images[i] + pos;
                const char *safe = (char *)cut->safe[i] + pos;
                const char *all = (char *)cut->all[i] + pos;

                if (memcmp(got, safe, UEXT4_BDEV_SIM_SECTOR) != 0 &&
                    memcmp(got, all, UEXT4_BDEV_SIM_SECTOR) != 0)
                        memcpy(got, safe, UEXT4_BDEV_SIM_SECTOR);
        }
}

static void take(struct cutter *cut, const struct outcome *how, void *const images[])
{
        for (unsigned i = 0; i < nr_devs(cut); i++) {
                int ret = uext4_bdev_sim_survivor(cut->r->sims[i], &how->dev[i], images[i]);

                T_CHECK(ret == 0);
        }
}

static void open_images(const struct cutter *cut, void *const images[],
                        struct uext4_bdev *devs[])
{
        for (unsigned i = 0; i < nr_devs(cut); i++)
                T_CHECK(uext4_bdev_open_buffer(images[i], size_of(cut, i), 0, &devs[i]) == 0);
}

static void close_all(struct uext4_bdev *devs[])
{
        for (unsigned i = 0; i < RIG_NR_DEVS; i++)
                uext4_bdev_close(devs[i]);
}

static void complain(const struct cutter *cut, const struct outcome *how, const char *what,
                     int ret, const struct t_log *log)
{
        fprintf(stderr, "%s: '%s', seed %llu, point %llu: %s: %d\n%s", __FILE__, cut->r->c.name,
                (unsigned long long)cut->r->c.seed, (unsigned long long)cut->nr_points, what,
                ret, log ? log->text : "");
        for (unsigned i = 0; i < nr_devs(cut); i++)
                fprintf(stderr, "  device %u: mode %d, seed %llu, index %#llx\n", i,
                        how->dev[i].mode, (unsigned long long)how->dev[i].seed,
                        (unsigned long long)how->dev[i].index);
        abort();
}

/* ---- a second cut ---- */

/* One device of the recovery stops at request `at`; what is left is in `images`. */
static void cut_recovery(struct cutter *cut, unsigned which, uint64_t at, uint64_t seed,
                         void *const images[])
{
        struct uext4_bdev *sims[RIG_NR_DEVS] = {0};
        struct t_log log;

        t_log_init(&log);
        for (unsigned i = 0; i < nr_devs(cut); i++) {
                struct uext4_bdev_sim_params p = {
                        .size = size_of(cut, i),
                        .image = cut->images[i],
                        .caps = UEXT4_BDEV_CAP_FUA,
                        .seed = seed,
                };

                T_CHECK(uext4_bdev_open_sim(&p, &sims[i]) == 0);
        }
        uext4_bdev_sim_cut_at(sims[which], at);
        if (rig_recover(&cut->r->c, sims, &log) == 0)
                cut->nr_uncut++; /* it had fewer requests */
        for (unsigned i = 0; i < nr_devs(cut); i++) {
                struct uext4_bdev_sim_survivor how = {.mode = t_below(&cut->rand, 3),
                                                      .seed = seed + i};

                T_CHECK(uext4_bdev_sim_survivor(sims[i], &how, images[i]) == 0);
        }
        close_all(sims);
}

/* Recover what is in `images`, and hold it against the model. */
static int64_t recover_and_check(struct cutter *cut, const struct outcome *how,
                                 void *const images[])
{
        struct uext4_bdev *devs[RIG_NR_DEVS] = {0};
        struct t_log log;
        int64_t age;
        int ret;

        t_log_init(&log);
        open_images(cut, images, devs);
        ret = rig_recover(&cut->r->c, devs, &log);
        close_all(devs);
        if (ret < 0)
                complain(cut, how, "recovery fails", ret, &log);
        age = model_check(cut->m, images[RIG_FS]);
        if (age < 0)
                complain(cut, how, "what is found was never so", 0, &log);
        return age;
}

static void check_second_cuts(struct cutter *cut, const struct outcome *how)
{
        for (unsigned n = 0; n < 4; n++) {
                unsigned which = (unsigned)t_below(&cut->rand, nr_devs(cut));
                uint64_t at = 1 + t_below(&cut->rand, 60);

                cut_recovery(cut, which, at, t_rand(&cut->rand), cut->work);
                recover_and_check(cut, how, cut->work);
                cut->nr_second++;
        }
}

/* ---- outcomes ---- */

static void look_at(struct cutter *cut, const struct outcome *how)
{
        take(cut, how, cut->images);
        if (how->dev[0].junk_percent)
                mend_super(cut);
        cut->nr_images++;
        for (unsigned i = 0; i < nr_devs(cut); i++)
                memcpy(cut->work[i], cut->images[i], size_of(cut, i));
        recover_and_check(cut, how, cut->work);
        if (cut->second_one_in && t_below(&cut->rand, cut->second_one_in) == 0)
                check_second_cuts(cut, how);
}

static void look_at_modes(struct cutter *cut, enum uext4_bdev_sim_mode fs,
                          enum uext4_bdev_sim_mode log, uint32_t junk)
{
        struct outcome how = {
                {{.mode = fs, .seed = t_rand(&cut->rand), .junk_percent = junk},
                 {.mode = log, .seed = t_rand(&cut->rand), .junk_percent = junk}}};

        look_at(cut, &how);
}

static uint64_t nr_of(const struct uext4_bdev_sim_state *st, enum uext4_bdev_sim_mode mode)
{
        return mode == UEXT4_BDEV_SIM_WRITES ? st->nr_writes : st->nr_sectors;
}

/* Every subset of the writes, or sectors, that are not durable. */
static void look_at_subsets(struct cutter *cut, const struct uext4_bdev_sim_state st[],
                            enum uext4_bdev_sim_mode mode)
{
        uint64_t nr0 = nr_of(&st[0], mode), nr1 = nr_of(&st[1], mode);

        for (uint64_t k = 0; k < 1ull << (nr0 + nr1); k++) {
                struct outcome how = {{{.mode = mode, .index = k & ((1ull << nr0) - 1)},
                                       {.mode = mode, .index = k >> nr0}}};

                look_at(cut, &how);
        }
}

/* One write alone, and all but one: what an order that is missing shows up in. */
static void look_at_single_writes(struct cutter *cut, const struct uext4_bdev_sim_state st[])
{
        struct outcome one = {
                {{.mode = UEXT4_BDEV_SIM_WRITES}, {.mode = UEXT4_BDEV_SIM_WRITES}}};
        struct outcome others = one;
        unsigned i = (unsigned)t_below(&cut->rand, nr_devs(cut));

        if (st[i].nr_writes == 0 || st[0].nr_writes > 62 || st[1].nr_writes > 62)
                return;
        one.dev[i].index = 1ull << t_below(&cut->rand, st[i].nr_writes);
        for (unsigned k = 0; k < RIG_NR_DEVS; k++)
                others.dev[k].index = ((1ull << st[k].nr_writes) - 1) & ~one.dev[k].index;
        look_at(cut, &one);
        look_at(cut, &others);
}

/* The image of what is durable changes by flushes and FUA only: most points have the same. */
static bool is_new(struct cutter *cut)
{
        uint32_t crc = 1;

        for (unsigned i = 0; i < nr_devs(cut); i++)
                crc = crc32c(crc, cut->safe[i], size_of(cut, i));
        if (crc == cut->last_crc && cut->m->durable == cut->last_durable)
                return false;
        cut->last_crc = crc;
        cut->last_durable = cut->m->durable;
        return true;
}

static void look_everywhere(struct cutter *cut)
{
        const enum uext4_bdev_sim_mode none = UEXT4_BDEV_SIM_NONE, all = UEXT4_BDEV_SIM_ALL;
        struct uext4_bdev_sim_state st[RIG_NR_DEVS] = {0};
        uint64_t nr_writes = 0, nr_sectors = 0;

        for (unsigned i = 0; i < nr_devs(cut); i++) {
                uext4_bdev_sim_state(cut->r->sims[i], &st[i]);
                nr_writes += st[i].nr_writes;
                nr_sectors += st[i].nr_sectors;
        }
        take(cut, &(struct outcome){{{.mode = none}, {.mode = none}}}, cut->safe);
        take(cut, &(struct outcome){{{.mode = all}, {.mode = all}}}, cut->all);
        if (is_new(cut))
                look_at_modes(cut, none, none, 0);
        look_at_modes(cut, all, all, 0);
        if (nr_devs(cut) > 1) {
                look_at_modes(cut, none, all, 0);
                look_at_modes(cut, all, none, 0);
        }
        for (unsigned n = 0; n < cut->nr_random; n++)
                look_at_modes(cut, UEXT4_BDEV_SIM_RANDOM, UEXT4_BDEV_SIM_RANDOM,
                              n % 2 ? 20 : 0);
        if (nr_writes > 0 && nr_writes <= cut->exhaust_writes)
                look_at_subsets(cut, st, UEXT4_BDEV_SIM_WRITES);
        else
                look_at_single_writes(cut, st);
        if (nr_sectors > 0 && nr_sectors <= cut->exhaust_sectors)
                look_at_subsets(cut, st, UEXT4_BDEV_SIM_SECTORS);
}

/* ---- points ---- */

static bool is_chosen(struct cutter *cut)
{
        if (!cut->r->j || cut->nr_points < cut->first || cut->nr_points >= cut->last)
                return false;
        return cut->one_in == 0 || t_below(&cut->rand, cut->one_in) == 0;
}

void cutter_look(void *arg, enum watch_when when, enum uext4_bdev_op op)
{
        struct cutter *cut = arg;

        if (when == WATCH_AFTER) /* what comes next has the same before it */
                return;
        cut->nr_points++;
        if (!is_chosen(cut))
                return;
        cut->nr_looked++;
        pthread_mutex_lock(&cut->m->lock);
        model_update_durable(cut->m, cut->r->j);
        look_everywhere(cut);
        pthread_mutex_unlock(&cut->m->lock);
}

void cutter_look_now(struct cutter *cut)
{
        cut->nr_looked++;
        pthread_mutex_lock(&cut->m->lock);
        if (cut->r->j)
                model_update_durable(cut->m, cut->r->j);
        look_everywhere(cut);
        pthread_mutex_unlock(&cut->m->lock);
}

void cutter_restart(struct cutter *cut, void *images[RIG_NR_DEVS])
{
        const struct rig_config *c = &cut->r->c;
        struct uext4_bdev *devs[RIG_NR_DEVS] = {0};
        struct outcome how = {{{.mode = t_below(&cut->rand, 3), .seed = t_rand(&cut->rand)},
                               {.mode = t_below(&cut->rand, 3), .seed = t_rand(&cut->rand)}}};
        int64_t age;

        pthread_mutex_lock(&cut->m->lock);
        take(cut, &how, images);
        age = recover_and_check(cut, &how, images);
        open_images(cut, images, devs);
        model_rebase(cut->m, images[RIG_FS], (uint32_t)age,
                     c->no_log ? 1
                               : be32_get(rig_super(c, devs[c->external ? RIG_LOG : RIG_FS])
                                                  .s_sequence));
        pthread_mutex_unlock(&cut->m->lock);
        close_all(devs);
}
