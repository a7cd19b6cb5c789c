/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a commit costs: requests and flushes that reach the devices, counted by the trace
 * filter.  The table is printed; the limits are what the order of a commit needs and
 * nothing more: one flush, and the commit block with FUA.
 */
#include "tj.h"

struct cost {
        uint64_t writes, blocks, flushes, fua;
};

static struct cost cost_of(struct rig *r)
{
        struct cost cost = {0};

        for (unsigned i = 0; i < rig_nr_devs(&r->c); i++) {
                struct uext4_bdev_counts n;

                uext4_bdev_trace_counts(r->traces[i], &n);
                cost.writes += n.requests[UEXT4_BDEV_WRITE];
                cost.blocks += n.bytes[UEXT4_BDEV_WRITE] / r->c.f.block_size;
                cost.flushes += n.requests[UEXT4_BDEV_FLUSH];
                cost.fua += n.fua;
        }
        return cost;
}

static void reset(struct rig *r)
{
        for (unsigned i = 0; i < rig_nr_devs(&r->c); i++)
                uext4_bdev_trace_reset(r->traces[i]);
}

static void print(const char *what, const struct cost *c)
{
        printf("# %-44s %6llu %7llu %8llu %5llu\n", what, (unsigned long long)c->writes,
               (unsigned long long)c->blocks, (unsigned long long)c->flushes,
               (unsigned long long)c->fua);
}

static void print_head(const char *title)
{
        printf("# %-44s writes  blocks  flushes   FUA\n", title);
}

static void must_be_within(const struct cost *got, const struct cost *limit)
{
        assert_true(got->writes <= limit->writes);
        assert_true(got->blocks <= limit->blocks);
        assert_true(got->flushes <= limit->flushes);
        assert_true(got->fua <= limit->fua);
}

static void open_traced(struct rig *r, bool external)
{
        struct rig_config c = rig_plain(4096, 512);

        c.with_trace = true;
        c.external = external;
        rig_open(r, &c, NULL);
        /* The first commit says in the superblock that the log is in use. */
        rig_set_many(r, 0, 1, 'a');
        assert_int_equal(jbd2_commit_all(r->j), 0);
        reset(r);
}

/* A commit of `nr` blocks that lie anywhere. */
static struct cost commit_of(struct rig *r, unsigned nr)
{
        struct cost cost;

        if (nr) {
                rig_set_many(r, 1, nr, (uint8_t)nr);
        } else {
                struct jbd2_handle *h = rig_start(r, 1, 0);

                assert_int_equal(jbd2_stop(h), 0);
        }
        assert_int_equal(jbd2_commit_all(r->j), 0);
        cost = cost_of(r);
        reset(r);
        return cost;
}

struct forced {
        struct rig *r;
        pthread_barrier_t ready;
};

/* Each changes a block of its own and waits until that is durable. */
static void force_a_commit(void *arg, unsigned n)
{
        struct forced *f = arg;
        uint32_t tid = rig_set_many(f->r, 300 + n, 1, (uint8_t)n);

        pthread_barrier_wait(&f->ready);
        T_CHECK(jbd2_commit(f->r->j, tid) == 0);
}

static struct cost eight_at_once(struct rig *r)
{
        struct forced f = {.r = r};
        struct cost cost;

        pthread_barrier_init(&f.ready, NULL, 8);
        t_run_threads(8, force_a_commit, &f);
        pthread_barrier_destroy(&f.ready);
        cost = cost_of(r);
        reset(r);
        return cost;
}

static void table(bool external)
{
        /* The log's blocks are in two pieces at most, the commit block comes by itself. */
        static const struct cost limits[] = {
                {1, 1, 1, 1}, {3, 3, 1, 1}, {8, 104, 1, 1}, {3, 10, 1, 1}};
        const unsigned more_flushes = external ? 1 : 0;
        static const char *const names[] = {"commit of nothing", "commit of 1 block",
                                            "commit of 100 blocks",
                                            "8 threads force a commit at once"};
        struct rig r;

        print_head(external ? "journal on its own device" : "journal on the same device");
        open_traced(&r, external);
        for (unsigned i = 0; i < 4; i++) {
                struct cost limit = limits[i];
                struct cost got = i < 3 ? commit_of(&r, i == 2 ? 100 : i) : eight_at_once(&r);

                limit.flushes += more_flushes;
                print(names[i], &got);
                must_be_within(&got, &limit);
        }
        assert_int_equal(rig_close(&r), 0);
}

static void a_commit_costs_no_more_than_it_must(void **state)
{
        table(false);
        table(true);
}

/* What is durable already costs nothing. */
static void a_commit_of_the_past_is_free(void **state)
{
        struct cost cost;
        uint32_t tid;
        struct rig r;

        open_traced(&r, false);
        tid = rig_set_many(&r, 0, 1, 'a');
        assert_int_equal(jbd2_commit(r.j, tid), 0);
        reset(&r);
        assert_int_equal(jbd2_commit(r.j, tid), 0);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        cost = cost_of(&r);
        must_be_within(&cost, &(struct cost){0});
        assert_int_equal(rig_close(&r), 0);
}

/* Writing home what 1000 handles changed: each block once, in few requests. */
static void the_way_home_is_short(void **state)
{
        struct cost cost;
        struct rig r;

        open_traced(&r, false);
        for (unsigned n = 0; n < 1000; n++) {
                rig_set_many(&r, n % 100, 1, (uint8_t)n);
                if (n % 100 == 0)
                        assert_int_equal(jbd2_commit_all(r.j), 0);
        }
        assert_int_equal(jbd2_commit_all(r.j), 0);
        reset(&r);
        assert_int_equal(jbd2_flush(r.j), 0);
        cost = cost_of(&r);
        print_head("after 1000 handles");
        print("100 blocks home, the log empty", &cost);
        must_be_within(&cost, &(struct cost){8, 104, 2, 1});
        assert_int_equal(rig_close(&r), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_commit_costs_no_more_than_it_must),
                cmocka_unit_test(a_commit_of_the_past_is_free),
                cmocka_unit_test(the_way_home_is_short),
        };

        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return cmocka_run_group_tests(tests, NULL, NULL);
}
