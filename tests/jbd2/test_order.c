/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Points of order that random work does not meet often enough: each has a run of its own that
 * brings it about.
 */
#include <semaphore.h>

#include "cut.h"
#include "jbd2/txn.h"

/* ---- the tail is noted before the flush (J25) ---- */

/*
 * While the flush of a commit is under way, and too late for it, a checkpoint writes blocks
 * home.  The commit moves the tail when that frees much; it must not count those blocks.
 */
struct late_checkpoint {
        struct rig rig;
        atomic_bool is_armed, is_blocking;
        pthread_t thread;
        sem_t has_written, may_flush;
};

static void *write_much_home(void *arg)
{
        struct late_checkpoint *l = arg;
        struct jbd2 *j = l->rig.j;

        mtx_lock(&j->lock);
        jbd2_make_room(j);
        mtx_unlock(&j->lock);
        return NULL;
}

static void between_flush_and_commit(void *arg, enum watch_when when, enum uext4_bdev_op op)
{
        struct late_checkpoint *l = arg;

        if (op != UEXT4_BDEV_FLUSH)
                return;
        if (when == WATCH_AFTER && atomic_exchange(&l->is_armed, false)) {
                atomic_store(&l->is_blocking, true);
                T_CHECK(pthread_create(&l->thread, NULL, write_much_home, l) == 0);
                sem_wait(&l->has_written);
        } else if (when == WATCH_BEFORE && atomic_exchange(&l->is_blocking, false)) {
                sem_post(&l->has_written); /* the checkpoint's blocks are in the cache */
                sem_wait(&l->may_flush);
        }
}

static void the_tail_is_noted_before_the_flush(void **state)
{
        struct late_checkpoint *l = t_alloc(sizeof(*l));
        struct rig_config c = rig_plain(264, 128);
        const struct watch_hook hook = {between_flush_and_commit, l, NULL};

        sem_init(&l->has_written, 0, 0);
        sem_init(&l->may_flush, 0, 0);
        c.hook = &hook;
        rig_open(&l->rig, &c, NULL);
        for (unsigned n = 0; n < 7; n++) {
                rig_set_many(&l->rig, n * 12, 12, (uint8_t)('a' + n));
                assert_int_equal(jbd2_commit_all(l->rig.j), 0);
        }
        rig_set_many(&l->rig, 100, 1, 'z');
        atomic_store(&l->is_armed, true);
        assert_int_equal(jbd2_commit_all(l->rig.j), 0);
        for (unsigned n = 0; n < 7; n++)
                assert_int_equal(rig_durable_byte(&l->rig, n * 12), 'a' + n);
        assert_int_equal(rig_durable_byte(&l->rig, 100), 'z');
        sem_post(&l->may_flush);
        pthread_join(l->thread, NULL);
        assert_int_equal(rig_close(&l->rig), 0);
        sem_destroy(&l->has_written);
        sem_destroy(&l->may_flush);
        free(l);
}

/* ---- recovery is cut at every request (J31, J35) ---- */

struct crash {
        struct rig_config c;
        void *images[RIG_NR_DEVS];
};

#define NR_CRASH_BLOCKS 40

/* Three transactions, later ones over earlier ones, one with a revocation. */
static void make_crash(struct crash *crash, const struct rig_config *c)
{
        const struct uext4_bdev_sim_survivor how = {.mode = UEXT4_BDEV_SIM_NONE};
        struct jbd2_handle *h;
        struct rig r;

        memset(crash, 0, sizeof(*crash));
        crash->c = *c;
        rig_open(&r, c, NULL);
        rig_set_many(&r, 0, 12, 'a');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        rig_set_many(&r, 8, 12, 'b');
        assert_int_equal(jbd2_commit_all(r.j), 0);
        h = rig_start(&r, 1, 1);
        jbd2_revoke(h, 5, NULL);
        assert_int_equal(rig_set(&r, h, 30, 'c'), 0);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        for (unsigned i = 0; i < rig_nr_devs(c); i++) {
                crash->images[i] = t_alloc(rig_size(c, i));
                assert_int_equal(uext4_bdev_sim_survivor(r.sims[i], &how, crash->images[i]), 0);
        }
        assert_int_equal(rig_close(&r), 0);
}

static int expected(uint64_t blk)
{
        if (blk < 8)
                return blk == 5 ? 0 : 'a';
        return blk < 20 ? 'b' : blk == 30 ? 'c' : 0;
}

static void open_sims(const struct crash *crash, void *const images[],
                      struct uext4_bdev *sims[])
{
        for (unsigned i = 0; i < rig_nr_devs(&crash->c); i++) {
                struct uext4_bdev_sim_params p = {.size = rig_size(&crash->c, i),
                                                  .image = images[i],
                                                  .caps = UEXT4_BDEV_CAP_FUA};

                T_CHECK(uext4_bdev_open_sim(&p, &sims[i]) == 0);
        }
}

static void close_sims(struct uext4_bdev *sims[])
{
        for (unsigned i = 0; i < RIG_NR_DEVS; i++)
                uext4_bdev_close(sims[i]);
}

/* Recover these images in full and look at all blocks, as they are on the medium. */
static void recover_all(const struct crash *crash, void *images[])
{
        const struct uext4_bdev_sim_survivor how = {.mode = UEXT4_BDEV_SIM_NONE};
        const struct rig_config *c = &crash->c;
        struct uext4_bdev *sims[RIG_NR_DEVS] = {0};
        struct jbd2_super sb;
        struct t_log log;

        t_log_init(&log);
        open_sims(crash, images, sims);
        assert_int_equal(rig_recover(c, sims, &log), 0);
        for (unsigned i = 0; i < rig_nr_devs(c); i++)
                assert_int_equal(uext4_bdev_sim_survivor(sims[i], &how, images[i]), 0);
        close_sims(sims);
        for (uint64_t blk = 0; blk < NR_CRASH_BLOCKS; blk++)
                assert_int_equal(((uint8_t *)images[RIG_FS])[blk * c->f.block_size],
                                 expected(blk));
        memcpy(&sb, (char *)images[c->external ? RIG_LOG : RIG_FS] + rig_super_pos(c),
               sizeof(sb));
        assert_int_equal(be32_get(sb.s_start), 0); /* durably empty */
}

/* False when recovery ends before the cut. */
static bool cut_at(const struct crash *crash, enum rig_dev which, uint64_t at,
                   enum uext4_bdev_sim_mode mode, uint64_t seed)
{
        struct uext4_bdev *sims[RIG_NR_DEVS] = {0};
        void *images[RIG_NR_DEVS] = {0};
        struct t_log log;
        int ret;

        t_log_init(&log);
        open_sims(crash, crash->images, sims);
        uext4_bdev_sim_cut_at(sims[which], at);
        ret = rig_recover(&crash->c, sims, &log);
        for (unsigned i = 0; i < rig_nr_devs(&crash->c); i++) {
                /* The other device may have kept all or nothing. */
                struct uext4_bdev_sim_survivor how = {
                        .mode = i == which || seed % 2 ? mode : UEXT4_BDEV_SIM_NONE,
                        .seed = seed};

                images[i] = t_alloc(rig_size(&crash->c, i));
                assert_int_equal(uext4_bdev_sim_survivor(sims[i], &how, images[i]), 0);
        }
        close_sims(sims);
        recover_all(crash, images);
        free(images[0]);
        free(images[1]);
        return ret < 0;
}

static void cut_everywhere(const struct rig_config *c, uint64_t seed)
{
        struct crash crash;

        make_crash(&crash, c);
        for (enum rig_dev which = 0; which < rig_nr_devs(c); which++) {
                uint64_t at = 1;
                bool was_cut = true;

                for (; was_cut; at++) {
                        was_cut = cut_at(&crash, which, at, UEXT4_BDEV_SIM_NONE, seed);
                        if (at % 2 || !was_cut)
                                cut_at(&crash, which, at, UEXT4_BDEV_SIM_ALL, seed + at);
                        cut_at(&crash, which, at, UEXT4_BDEV_SIM_RANDOM, seed++);
                }
                assert_true(at > 5);
        }
        free(crash.images[0]);
        free(crash.images[1]);
}

static void recovery_can_be_cut_at_every_request(void **state)
{
        const uint64_t seed = t_seed();

        for (size_t i = 0; i < rig_nr_formats; i++)
                cut_everywhere(&rig_formats[i], seed);
}

/* ---- what the log looks like ---- */

/* Blocks of the log that begin with the magic, of all those that the device has. */
static unsigned nr_with_magic(struct rig *r)
{
        const uint32_t bs = r->c.f.block_size;
        unsigned nr = 0;
        uint8_t block[4096];

        for (uint64_t blk = r->c.nr_homes; blk < r->c.nr_homes + r->c.f.nr_blocks; blk++) {
                T_CHECK(uext4_bdev_read_bytes(r->devs[RIG_FS], block, bs, blk * bs) == 0);
                nr += tj_get32(block) == TJ_MAGIC;
        }
        return nr;
}

/* J9: nothing but the journal's own blocks may look like one. */
static void a_block_with_the_magic_is_escaped(void **state)
{
        struct rig_config c = rig_plain(264, 64);
        struct jbd2_handle *h;
        struct buf *buf;
        struct rig r;
        void *bytes;

        rig_open(&r, &c, NULL);
        h = rig_start(&r, 2, 0);
        assert_int_equal(rig_set(&r, h, 1, 'a'), 0);
        assert_int_equal(buf_read(r.bufs, 2, NULL, 0, &buf), 0);
        assert_int_equal(jbd2_get_write(h, buf, &bytes), 0);
        memset(bytes, 'b', 1024);
        tj_put32(bytes, TJ_MAGIC);
        tj_put32((uint8_t *)bytes + 4, TJ_COMMIT);
        tj_put32((uint8_t *)bytes + 8, jbd2_tid(h));
        jbd2_dirty(h, buf);
        buf_put(buf);
        assert_int_equal(jbd2_stop(h), 0);
        assert_int_equal(jbd2_commit_all(r.j), 0);
        assert_int_equal(nr_with_magic(&r), 3); /* superblock, descriptor, commit */
        assert_int_equal(rig_cached_byte(&r, 2), TJ_MAGIC >> 24);
        assert_int_equal(rig_durable_byte(&r, 2), TJ_MAGIC >> 24);
        assert_int_equal(rig_durable_byte(&r, 1), 'a');
        assert_int_equal(rig_close(&r), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_tail_is_noted_before_the_flush),
                cmocka_unit_test(recovery_can_be_cut_at_every_request),
                cmocka_unit_test(a_block_with_the_magic_is_escaped),
        };

        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return cmocka_run_group_tests(tests, NULL, NULL);
}
