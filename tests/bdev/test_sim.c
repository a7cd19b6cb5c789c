/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The simulated device: what a flush and FUA promise, and that everything which
 * they do not promise does get lost.  A sector holds one number, its version, all over.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tdev.h"
#include "util/alloc.h"

#define SECTOR     UEXT4_BDEV_SIM_SECTOR
#define NR_SECTORS 64
#define SIZE       (NR_SECTORS * SECTOR)

#define ALL_CAPS (UEXT4_BDEV_CAP_FUA | UEXT4_BDEV_CAP_DISCARD)

static struct uext4_bdev *open_seeded(uint64_t seed)
{
        const struct uext4_bdev_sim_params params = {
                .size = SIZE, .caps = ALL_CAPS, .seed = seed};
        struct uext4_bdev *sim = NULL;

        assert_int_equal(uext4_bdev_open_sim(&params, &sim), 0);
        return sim;
}

/* ---- sectors with versions ---- */

static void fill_version(void *buf, uint64_t version, uint64_t nr)
{
        uint64_t *p = buf;

        for (uint64_t i = 0; i < nr * SECTOR / sizeof(*p); i++)
                p[i] = version;
}

#define JUNK UINT64_MAX

/* JUNK when the words of the sector differ. */
static uint64_t version_in(const char *image, uint64_t sector)
{
        uint64_t words[SECTOR / sizeof(uint64_t)];

        memcpy(words, image + sector * SECTOR, SECTOR);
        for (size_t i = 1; i < SECTOR / sizeof(uint64_t); i++)
                if (words[i] != words[0])
                        return JUNK;
        return words[0];
}

static int write_version(struct uext4_bdev *sim, uint64_t version, uint64_t sector, uint64_t nr,
                         uint32_t flags)
{
        uint64_t buf[4 * SECTOR / sizeof(uint64_t)];

        fill_version(buf, version, nr);
        return uext4_bdev_write(sim, buf, nr * SECTOR, sector * SECTOR, flags);
}

static void survive(struct uext4_bdev *sim, struct uext4_bdev_sim_survivor how, char *image)
{
        assert_int_equal(uext4_bdev_sim_survivor(sim, &how, image), 0);
}

/* What a sector holds when nothing (or all) that is not durable survives. */
static uint64_t version_if(struct uext4_bdev *sim, enum uext4_bdev_sim_mode mode,
                           uint64_t sector)
{
        char image[SIZE];

        survive(sim, (struct uext4_bdev_sim_survivor){.mode = mode}, image);
        return version_in(image, sector);
}

static struct uext4_bdev_sim_state state_of(struct uext4_bdev *sim)
{
        struct uext4_bdev_sim_state st;

        uext4_bdev_sim_state(sim, &st);
        return st;
}

/* ---- what is durable ---- */

static void a_write_is_durable_after_a_flush(void **state)
{
        struct uext4_bdev *sim = open_seeded(1);
        char image[SIZE];

        assert_int_equal(write_version(sim, 1, 3, 2, 0), 0);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 3), 0);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_ALL, 3), 1);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_ALL, 4), 1);
        assert_int_equal(state_of(sim).nr_writes, 1);
        assert_int_equal(state_of(sim).nr_sectors, 2);
        assert_int_equal(uext4_bdev_read(sim, image, SIZE, 0), 0);
        assert_int_equal(version_in(image, 4), 1);

        assert_int_equal(uext4_bdev_flush(sim), 0);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 3), 1);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 4), 1);
        assert_int_equal(state_of(sim).nr_writes, 0);
        assert_int_equal(state_of(sim).requests, 3);
        uext4_bdev_close(sim);
}

static void zeroes_and_discard_are_volatile_too(void **state)
{
        unsigned zeros = 0, junk = 0, old = 0;

        for (uint64_t seed = 0; seed < 64; seed++) {
                struct uext4_bdev *sim = open_seeded(seed);
                uint64_t version;

                assert_int_equal(write_version(sim, 1, 0, 2, UEXT4_BDEV_FUA), 0);
                assert_int_equal(uext4_bdev_write_zeroes(sim, 0, SECTOR, 0), 0);
                assert_int_equal(uext4_bdev_discard(sim, SECTOR, SECTOR), 0);
                assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 0), 1);
                assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 1), 1);
                assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_ALL, 0), 0);
                version = version_if(sim, UEXT4_BDEV_SIM_ALL, 1);
                zeros += version == 0;
                junk += version == JUNK;
                old += version == 1;
                assert_int_equal(uext4_bdev_flush(sim), 0);
                assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 0), 0);
                assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 1), version);
                uext4_bdev_close(sim);
        }
        assert_int_equal(zeros + junk + old, 64);
        assert_true(zeros > 0 && junk > 0 && old > 0);
}

static void fua_is_durable_and_takes_nothing_along(void **state)
{
        struct uext4_bdev *sim = open_seeded(1);

        assert_int_equal(write_version(sim, 1, 0, 1, 0), 0);
        assert_int_equal(write_version(sim, 2, 1, 2, 0), 0);
        assert_int_equal(write_version(sim, 3, 2, 1, UEXT4_BDEV_FUA), 0);
        assert_int_equal(uext4_bdev_write_zeroes(sim, 9 * SECTOR, SECTOR, UEXT4_BDEV_FUA), 0);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 0), 0);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 1), 0);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 2), 3);

        /* The older bytes of sector 2 never come back. */
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_ALL, 0), 1);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_ALL, 1), 2);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_ALL, 2), 3);
        assert_int_equal(state_of(sim).nr_sectors, 2);
        assert_int_equal(uext4_bdev_flush(sim), 0);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 1), 2);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 2), 3);
        uext4_bdev_close(sim);
}

/* The core adds a flush, which is a request of its own and makes the rest durable, too. */
static void fua_without_the_capability_is_a_flush(void **state)
{
        const struct uext4_bdev_sim_params params = {.size = SIZE};
        struct uext4_bdev *sim = NULL;

        assert_int_equal(uext4_bdev_open_sim(&params, &sim), 0);
        assert_int_equal(write_version(sim, 1, 0, 1, 0), 0);
        assert_int_equal(write_version(sim, 2, 1, 1, UEXT4_BDEV_FUA), 0);
        assert_int_equal(state_of(sim).requests, 3);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 0), 1);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 1), 2);
        assert_int_equal(uext4_bdev_discard(sim, 0, SECTOR), -EOPNOTSUPP);

        uext4_bdev_sim_cut_at(sim, 5);
        assert_int_equal(write_version(sim, 3, 1, 1, UEXT4_BDEV_FUA), -EIO);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 1), 2);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_ALL, 1), 3);
        uext4_bdev_close(sim);
}

/* Write 0 completed before, 1 is under way when the flush is submitted, 2 comes after it. */
static void a_flush_covers_what_had_completed(void **state)
{
        unsigned covered_in_time = 0;

        for (uint64_t seed = 0; seed < 64; seed++) {
                struct uext4_bdev *sim = open_seeded(seed);
                uint64_t buf[3][SECTOR / sizeof(uint64_t)];
                struct uext4_bdev_queue *q = NULL;
                struct t_req w[3], flush;

                assert_int_equal(uext4_bdev_queue_new(sim, 4, &q), 0);
                for (uint64_t i = 0; i < 3; i++) {
                        fill_version(buf[i], i + 1, 1);
                        t_req_init(&w[i], UEXT4_BDEV_WRITE, buf[i], SECTOR, i * SECTOR);
                }
                t_req_init(&flush, UEXT4_BDEV_FLUSH, NULL, 0, 0);
                assert_int_equal(uext4_bdev_queue_add(q, &w[0].req), 0);
                t_drain(q);
                assert_int_equal(uext4_bdev_queue_add(q, &w[1].req), 0);
                assert_int_equal(uext4_bdev_queue_kick(q), 0);
                assert_int_equal(uext4_bdev_queue_add(q, &flush.req), 0);
                assert_int_equal(uext4_bdev_queue_add(q, &w[2].req), 0);
                while (flush.nr_done == 0) {
                        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 0), 0);
                        covered_in_time += w[1].nr_done;
                        assert_true(uext4_bdev_queue_drive(q, -1) >= 0);
                }
                t_drain(q);
                assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 0), 1);
                assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 1), 0);
                assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 2), 0);
                assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_ALL, 1), 2);
                uext4_bdev_queue_free(q);
                uext4_bdev_close(sim);
        }
        assert_true(covered_in_time > 0);
}

/* ---- the cut ---- */

static void everything_fails_from_the_cut_on(void **state)
{
        const struct uext4_bdev_sim_params params = {
                .size = SIZE, .caps = ALL_CAPS, .cut_error = -ENODEV};
        struct uext4_bdev *sim = NULL;
        char buf[SECTOR];

        assert_int_equal(uext4_bdev_open_sim(&params, &sim), 0);
        uext4_bdev_sim_cut_at(sim, 4);
        assert_int_equal(write_version(sim, 1, 0, 1, UEXT4_BDEV_FUA), 0);
        assert_int_equal(uext4_bdev_read(sim, buf, SECTOR, 0), 0);
        assert_int_equal(write_version(sim, 2, 1, 1, 0), 0);
        assert_false(state_of(sim).is_cut);
        assert_int_equal(write_version(sim, 3, 2, 4, UEXT4_BDEV_FUA), -ENODEV); /* the fourth */
        assert_true(state_of(sim).is_cut);
        assert_int_equal(uext4_bdev_read(sim, buf, SECTOR, 0), -ENODEV);
        assert_int_equal(write_version(sim, 4, 8, 1, 0), -ENODEV);
        assert_int_equal(uext4_bdev_flush(sim), -ENODEV);
        assert_int_equal(uext4_bdev_discard(sim, 0, SECTOR), -ENODEV);
        assert_int_equal(uext4_bdev_write_zeroes(sim, 0, SECTOR, 0), -ENODEV);
        assert_int_equal(state_of(sim).requests, 4);

        /* The one that met the cut was under way: its sectors count. */
        assert_int_equal(state_of(sim).nr_writes, 2);
        assert_int_equal(state_of(sim).nr_sectors, 5);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 0), 1);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_NONE, 2), 0);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_ALL, 5), 3);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_ALL, 8), 0);
        uext4_bdev_close(sim);
}

static void requests_under_way_fail_at_the_cut(void **state)
{
        struct uext4_bdev *sim = open_seeded(7);
        uint64_t buf[6][SECTOR / sizeof(uint64_t)];
        struct uext4_bdev_queue *q = NULL;
        struct t_req r[6];

        assert_int_equal(uext4_bdev_queue_new(sim, 8, &q), 0);
        for (uint64_t i = 0; i < 6; i++) {
                fill_version(buf[i], i + 1, 1);
                t_req_init(&r[i], UEXT4_BDEV_WRITE, buf[i], SECTOR, i * SECTOR);
        }
        t_req_init(&r[4], UEXT4_BDEV_READ, buf[4], SECTOR, 0);
        for (int i = 0; i < 5; i++)
                assert_int_equal(uext4_bdev_queue_add(q, &r[i].req), 0);
        uext4_bdev_sim_cut(sim);
        assert_int_equal(uext4_bdev_queue_add(q, &r[5].req), 0);
        t_drain(q);
        for (int i = 0; i < 6; i++)
                assert_int_equal(r[i].result, -EIO);
        assert_int_equal(state_of(sim).nr_writes, 4); /* not the one after the cut */
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_ALL, 3), 4);
        assert_int_equal(version_if(sim, UEXT4_BDEV_SIM_ALL, 5), 0);
        uext4_bdev_queue_free(q);
        uext4_bdev_close(sim);
}

/* The survivor of one cut is the device that meets the next. */
static void a_survivor_can_be_cut_again(void **state)
{
        struct uext4_bdev_sim_params params = {.size = SIZE};
        struct uext4_bdev *first = open_seeded(1), *second = NULL;
        char image[SIZE];

        assert_int_equal(write_version(first, 1, 0, 2, UEXT4_BDEV_FUA), 0);
        assert_int_equal(write_version(first, 2, 1, 1, 0), 0);
        uext4_bdev_sim_cut(first);
        survive(first, (struct uext4_bdev_sim_survivor){.mode = UEXT4_BDEV_SIM_ALL}, image);
        uext4_bdev_close(first);

        params.image = image;
        assert_int_equal(uext4_bdev_open_sim(&params, &second), 0);
        memset(image, 0xff, SIZE);
        assert_int_equal(state_of(second).requests, 0);
        assert_int_equal(version_if(second, UEXT4_BDEV_SIM_NONE, 1), 2);
        assert_int_equal(write_version(second, 3, 0, 1, 0), 0);
        uext4_bdev_sim_cut(second);
        assert_int_equal(version_if(second, UEXT4_BDEV_SIM_NONE, 0), 1);
        assert_int_equal(version_if(second, UEXT4_BDEV_SIM_ALL, 0), 3);
        uext4_bdev_close(second);
}

/* ---- outcomes ---- */

/* Three writes, two of them to sector 0: eight indices, and any of the versions. */
static void outcomes_by_write_are_enumerated(void **state)
{
        struct uext4_bdev *sim = open_seeded(1);
        struct uext4_bdev_sim_survivor how = {.mode = UEXT4_BDEV_SIM_WRITES};
        char image[SIZE];

        assert_int_equal(write_version(sim, 1, 0, 1, 0), 0);
        assert_int_equal(write_version(sim, 2, 4, 2, 0), 0);
        assert_int_equal(write_version(sim, 3, 0, 1, 0), 0);
        for (; uext4_bdev_sim_survivor(sim, &how, image) == 0; how.index++) {
                const uint64_t i = how.index;

                assert_int_equal(version_in(image, 0), i & 4 ? 3 : i & 1);
                assert_int_equal(version_in(image, 4), i & 2);
                assert_int_equal(version_in(image, 5), i & 2);
        }
        assert_int_equal(how.index, 8);
        assert_int_equal(uext4_bdev_sim_survivor(sim, &how, image), -ERANGE);
        uext4_bdev_close(sim);
}

static void outcomes_by_sector_are_enumerated(void **state)
{
        struct uext4_bdev *sim = open_seeded(1);
        struct uext4_bdev_sim_survivor how = {.mode = UEXT4_BDEV_SIM_SECTORS};
        char image[SIZE];

        assert_int_equal(write_version(sim, 1, 0, 3, 0), 0);
        assert_int_equal(write_version(sim, 9, 1, 1, UEXT4_BDEV_FUA), 0); /* out of the game */
        assert_int_equal(write_version(sim, 1, 20, 2, 0), 0);
        assert_int_equal(state_of(sim).nr_sectors, 4);
        for (; uext4_bdev_sim_survivor(sim, &how, image) == 0; how.index++) {
                static const uint64_t at[4] = {0, 2, 20, 21};

                for (int i = 0; i < 4; i++)
                        assert_int_equal(version_in(image, at[i]), how.index >> i & 1);
                assert_int_equal(version_in(image, 1), 9);
        }
        assert_int_equal(how.index, 16);

        for (uint64_t i = 0; i < 60; i++)
                assert_int_equal(write_version(sim, 1, i, 1, 0), 0);
        assert_int_equal(uext4_bdev_sim_survivor(sim, &how, image), -E2BIG);
        uext4_bdev_close(sim);
}

/* Every sector sometimes, torn writes sometimes; repeatable; only what is not durable. */
static void random_outcomes_have_variety(void **state)
{
        enum {
                NR = 400
        };
        struct uext4_bdev *sim = open_seeded(1);
        unsigned nr_new[8] = {0}, torn = 0, all = 0, none = 0;
        char image[SIZE], again[SIZE];

        assert_int_equal(write_version(sim, 7, 16, 2, UEXT4_BDEV_FUA), 0);
        assert_int_equal(write_version(sim, 1, 0, 4, 0), 0);
        assert_int_equal(write_version(sim, 1, 4, 4, 0), 0);
        for (uint64_t seed = 0; seed < NR; seed++) {
                const struct uext4_bdev_sim_survivor how = {.mode = UEXT4_BDEV_SIM_RANDOM,
                                                            .seed = seed};
                uint64_t sum[2] = {0};

                survive(sim, how, image);
                survive(sim, how, again);
                assert_memory_equal(image, again, SIZE);
                for (uint64_t s = 0; s < 8; s++) {
                        uint64_t version = version_in(image, s);

                        assert_true(version <= 1);
                        nr_new[s] += version == 1;
                        sum[s / 4] += version;
                }
                torn += sum[0] % 4 != 0 || sum[1] % 4 != 0;
                all += sum[0] + sum[1] == 8;
                none += sum[0] + sum[1] == 0;
                assert_int_equal(version_in(image, 16), 7);
                assert_int_equal(version_in(image, 17), 7);
        }
        for (int s = 0; s < 8; s++)
                assert_in_range(nr_new[s], NR / 4, NR * 3 / 4);
        assert_in_range(torn, NR / 8, NR * 3 / 4);
        assert_true(all > NR / 20);
        assert_true(none > NR / 20);
        uext4_bdev_close(sim);
}

static void junk_hits_only_what_is_not_durable(void **state)
{
        struct uext4_bdev *sim = open_seeded(1);
        struct uext4_bdev_sim_survivor how = {.mode = UEXT4_BDEV_SIM_RANDOM};
        char image[SIZE];
        unsigned junk = 0;

        assert_int_equal(write_version(sim, 1, 8, 4, UEXT4_BDEV_FUA), 0);
        assert_int_equal(write_version(sim, 2, 10, 4, 0), 0);
        how.junk_percent = 30;
        for (how.seed = 0; how.seed < 100; how.seed++) {
                survive(sim, how, image);
                for (uint64_t s = 0; s < NR_SECTORS; s++) {
                        const bool may = s >= 10 && s < 14;

                        assert_true(may || version_in(image, s) == (s / 2 == 4));
                        junk += version_in(image, s) == JUNK;
                }
        }
        assert_in_range(junk, 60, 180);
        how.junk_percent = 100;
        survive(sim, how, image);
        for (uint64_t s = 10; s < 14; s++)
                assert_int_equal(version_in(image, s), JUNK);
        how.junk_percent = 101;
        assert_int_equal(uext4_bdev_sim_survivor(sim, &how, image), -EINVAL);
        uext4_bdev_close(sim);
}

/* ---- order ---- */

struct ordered {
        struct t_req r;
        unsigned *nr;
        unsigned place; /* in the order of completion */
};

static void note_place(struct uext4_bdev_req *req)
{
        struct ordered *o = (struct ordered *)(void *)req;

        o->place = (*o->nr)++;
}

/* The places of eight requests as one number. */
static uint64_t order_with(uint64_t seed)
{
        struct uext4_bdev *sim = open_seeded(seed);
        struct uext4_bdev_queue *q = NULL;
        struct ordered o[8];
        unsigned nr = 0;
        char buf[SECTOR];
        uint64_t order = 0;

        assert_int_equal(uext4_bdev_queue_new(sim, 8, &q), 0);
        for (int i = 0; i < 8; i++) {
                o[i].nr = &nr;
                t_req_init(&o[i].r, UEXT4_BDEV_READ, buf, SECTOR, 0);
                o[i].r.req.done = note_place;
                assert_int_equal(uext4_bdev_queue_add(q, &o[i].r.req), 0);
        }
        t_drain(q);
        for (int i = 0; i < 8; i++)
                order = order << 4 | o[i].place;
        uext4_bdev_queue_free(q);
        uext4_bdev_close(sim);
        return order;
}

static void the_seed_makes_the_order(void **state)
{
        uint64_t orders[20];
        unsigned same = 0;

        for (uint64_t i = 0; i < 20; i++) {
                orders[i] = order_with(i);
                assert_int_equal(orders[i], order_with(i));
                for (uint64_t k = 0; k < i; k++)
                        same += orders[i] == orders[k];
        }
        assert_true(same < 3);
}

/* ---- against an oracle ---- */

/*
 * One request at a time per slot, a slot is a sector.  The oracle keeps, by slot, the versions
 * that may be found there after a cut: possible[0] is the durable one, then those that
 * completed later, in order, then perhaps one that is under way.
 */
#define NR_SLOTS     12
#define MAX_POSSIBLE 64

struct slot {
        struct uext4_bdev_req req;
        struct iovec iov;
        uint64_t buf[SECTOR / sizeof(uint64_t)];
        struct oracle *oracle;
        uint64_t possible[MAX_POSSIBLE];
        unsigned nr_completed; /* of the possible ones, with the durable one */
        bool under_way;        /* possible[nr_completed] is */
        bool failed;
};

struct oracle {
        struct slot slots[NR_SLOTS];
        struct uext4_bdev_req flush;
        bool flush_under_way;
        unsigned completed_before_flush[NR_SLOTS]; /* nr_completed then */
};

static void forget_before(struct slot *s, unsigned first)
{
        const unsigned nr = s->nr_completed + s->under_way - first;
        struct oracle *o = s->oracle;
        unsigned *before = &o->completed_before_flush[s - o->slots];

        memmove(s->possible, s->possible + first, nr * sizeof(s->possible[0]));
        s->nr_completed -= first;
        *before = *before > first ? *before - first : 1;
}

static void slot_done(struct uext4_bdev_req *req)
{
        struct slot *s = (struct slot *)(void *)req;

        s->failed = req->result < 0;
        if (s->failed)
                return;
        s->under_way = false;
        s->nr_completed++;
        if (req->flags & UEXT4_BDEV_FUA)
                forget_before(s, s->nr_completed - 1);
}

static void slot_submit(struct slot *s, struct uext4_bdev_queue *q, uint64_t version)
{
        fill_version(s->buf, version, 1);
        s->iov = (struct iovec){s->buf, SECTOR};
        s->req = (struct uext4_bdev_req){
                .op = UEXT4_BDEV_WRITE,
                .flags = t_random_below(4) ? 0 : UEXT4_BDEV_FUA,
                .pos = (uint64_t)(s - s->oracle->slots) * SECTOR,
                .len = SECTOR,
                .iov = &s->iov,
                .nr_iov = 1,
                .done = slot_done,
        };
        s->under_way = true;
        s->possible[s->nr_completed] = version;
        assert_int_equal(uext4_bdev_queue_add(q, &s->req), 0);
}

static void flush_done(struct uext4_bdev_req *req)
{
        struct oracle *o =
                (struct oracle *)(void *)((char *)req - offsetof(struct oracle, flush));

        o->flush_under_way = false;
        for (int i = 0; req->result == 0 && i < NR_SLOTS; i++)
                forget_before(&o->slots[i], o->completed_before_flush[i] - 1);
}

static void flush_submit(struct oracle *o, struct uext4_bdev_queue *q)
{
        o->flush = (struct uext4_bdev_req){.op = UEXT4_BDEV_FLUSH, .done = flush_done};
        o->flush_under_way = true;
        for (int i = 0; i < NR_SLOTS; i++)
                o->completed_before_flush[i] = o->slots[i].nr_completed;
        assert_int_equal(uext4_bdev_queue_add(q, &o->flush), 0);
}

static void check_outcome(const struct oracle *o, const char *image)
{
        for (uint64_t i = 0; i < NR_SLOTS; i++) {
                const struct slot *s = &o->slots[i];
                const uint64_t version = version_in(image, i);
                bool found = false;

                for (unsigned p = 0; p < s->nr_completed + s->under_way; p++)
                        found = found || s->possible[p] == version;
                assert_true(found);
        }
}

static void check_outcomes(const struct oracle *o, struct uext4_bdev *sim)
{
        struct uext4_bdev_sim_survivor how = {.mode = UEXT4_BDEV_SIM_NONE};
        char image[SIZE];

        survive(sim, how, image);
        for (uint64_t i = 0; i < NR_SLOTS; i++)
                assert_int_equal(version_in(image, i), o->slots[i].possible[0]);
        how.mode = UEXT4_BDEV_SIM_ALL;
        survive(sim, how, image);
        for (uint64_t i = 0; i < NR_SLOTS; i++) {
                const struct slot *s = &o->slots[i];

                assert_int_equal(version_in(image, i),
                                 s->possible[s->nr_completed + s->under_way - 1]);
        }
        how.mode = UEXT4_BDEV_SIM_RANDOM;
        for (int i = 0; i < 4; i++) {
                how.seed = t_random();
                survive(sim, how, image);
                check_outcome(o, image);
        }
}

static void step(struct oracle *o, struct uext4_bdev_queue *q, uint64_t version)
{
        struct slot *s = &o->slots[t_random_below(NR_SLOTS)];

        switch (t_random_below(8)) {
        case 0:
                if (!o->flush_under_way)
                        flush_submit(o, q);
                break;
        case 1:
        case 2:
                assert_true(uext4_bdev_queue_drive(q, 0) >= 0);
                break;
        default:
                if (!s->under_way && s->nr_completed < MAX_POSSIBLE - 1)
                        slot_submit(s, q, version);
        }
}

static void outcomes_agree_with_an_oracle(void **state)
{
        for (int run = 0; run < 40; run++) {
                struct uext4_bdev *sim = open_seeded(t_random());
                struct oracle *o = calloc(1, sizeof(*o));
                struct uext4_bdev_queue *q = NULL;

                for (int i = 0; i < NR_SLOTS; i++) {
                        o->slots[i].oracle = o;
                        o->slots[i].nr_completed = 1; /* the zeros at the start */
                }
                assert_int_equal(uext4_bdev_queue_new(sim, 16, &q), 0);
                uext4_bdev_sim_cut_at(sim, 1 + t_random_below(300));
                for (uint64_t version = 1; !state_of(sim).is_cut; version++) {
                        step(o, q, version);
                        if (t_random_below(8) == 0)
                                check_outcomes(o, sim);
                }
                t_drain(q);
                check_outcomes(o, sim);
                uext4_bdev_queue_free(q);
                uext4_bdev_close(sim);
                free(o);
        }
}

/* Each allocation fails once: an error, no leak, and the device goes on. */
static void memory_may_run_out(void **state)
{
        const struct uext4_bdev_sim_params params = {.size = SIZE, .caps = ALL_CAPS};
        int ret = -ENOMEM;

        for (int64_t n = 0; ret == -ENOMEM; n++) {
                struct uext4_bdev *sim = NULL;

                mem_fail_after(n);
                ret = uext4_bdev_open_sim(&params, &sim);
                if (ret == 0)
                        ret = write_version(sim, 1, 0, 1, 0);
                if (ret == 0)
                        ret = uext4_bdev_discard(sim, 0, SECTOR);
                if (ret == 0)
                        ret = uext4_bdev_flush(sim);
                mem_fail_after(-1);
                if (sim)
                        assert_int_equal(uext4_bdev_flush(sim), 0);
                uext4_bdev_close(sim);
        }
        assert_int_equal(ret, 0);
}

/* ---- threads ---- */

/* Each writes rising versions to its sector; what it has flushed must be in every survivor. */
struct flusher {
        struct uext4_bdev *sim;
        pthread_t thread;
        uint64_t sector;
        _Atomic uint64_t submitted, durable;
};

static void *write_and_flush(void *arg)
{
        struct flusher *f = arg;

        for (uint64_t version = 1; version < 300; version++) {
                uint64_t buf[SECTOR / sizeof(uint64_t)];

                fill_version(buf, version, 1);
                atomic_store(&f->submitted, version);
                if (uext4_bdev_write(f->sim, buf, SECTOR, f->sector * SECTOR,
                                     version % 5 ? 0 : UEXT4_BDEV_FUA) < 0)
                        break;
                if (version % 5 != 0 && version % 3 != 0)
                        continue;
                if (version % 5 != 0 && uext4_bdev_flush(f->sim) < 0)
                        break;
                atomic_store(&f->durable, version);
        }
        return NULL;
}

static void what_threads_flushed_is_there(void **state)
{
        for (int run = 0; run < 8; run++) {
                struct uext4_bdev *sim = open_seeded(t_random());
                struct flusher f[3];
                char image[SIZE];

                uext4_bdev_sim_cut_at(sim, 1 + t_random_below(1200));
                for (uint64_t i = 0; i < 3; i++) {
                        f[i] = (struct flusher){.sim = sim, .sector = i};
                        pthread_create(&f[i].thread, NULL, write_and_flush, &f[i]);
                }
                for (int n = 0; n < 50; n++) {
                        uint64_t durable[3];

                        for (int i = 0; i < 3; i++)
                                durable[i] = atomic_load(&f[i].durable);
                        survive(sim,
                                (struct uext4_bdev_sim_survivor){.mode = UEXT4_BDEV_SIM_RANDOM,
                                                                 .seed = t_random()},
                                image);
                        for (uint64_t i = 0; i < 3; i++)
                                assert_in_range(version_in(image, i), durable[i],
                                                atomic_load(&f[i].submitted));
                }
                for (int i = 0; i < 3; i++)
                        pthread_join(f[i].thread, NULL);
                survive(sim, (struct uext4_bdev_sim_survivor){.mode = UEXT4_BDEV_SIM_NONE},
                        image);
                for (uint64_t i = 0; i < 3; i++)
                        assert_in_range(version_in(image, i), f[i].durable, f[i].submitted);
                uext4_bdev_close(sim);
        }
}

static void nonsense_parameters_are_refused(void **state)
{
        static const struct uext4_bdev_sim_params params[] = {
                {.size = 0},
                {.size = 700},
                {.size = 6144, .logical_block = 4096},
                {.size = SIZE, .logical_block = 256},
                {.size = SIZE, .caps = UEXT4_BDEV_CAP_READONLY},
                {.size = SIZE, .cut_error = EIO},
        };
        struct uext4_bdev *sim = NULL;

        for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i++)
                assert_int_equal(uext4_bdev_open_sim(&params[i], &sim), -EINVAL);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_write_is_durable_after_a_flush),
                cmocka_unit_test(zeroes_and_discard_are_volatile_too),
                cmocka_unit_test(fua_is_durable_and_takes_nothing_along),
                cmocka_unit_test(fua_without_the_capability_is_a_flush),
                cmocka_unit_test(a_flush_covers_what_had_completed),
                cmocka_unit_test(everything_fails_from_the_cut_on),
                cmocka_unit_test(requests_under_way_fail_at_the_cut),
                cmocka_unit_test(a_survivor_can_be_cut_again),
                cmocka_unit_test(outcomes_by_write_are_enumerated),
                cmocka_unit_test(outcomes_by_sector_are_enumerated),
                cmocka_unit_test(random_outcomes_have_variety),
                cmocka_unit_test(junk_hits_only_what_is_not_durable),
                cmocka_unit_test(the_seed_makes_the_order),
                cmocka_unit_test(outcomes_agree_with_an_oracle),
                cmocka_unit_test(memory_may_run_out),
                cmocka_unit_test(what_threads_flushed_is_there),
                cmocka_unit_test(nonsense_parameters_are_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
