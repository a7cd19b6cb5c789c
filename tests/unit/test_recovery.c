/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Recovery, byte by byte: a journal is written into a device, and what is there after replay is
 * compared with what must be there.
 *
 * Scenarios are said in a small language, a word for each step:
 *
 *   3a     block 3 with contents "a" (a capital letter: contents that must be escaped)
 *   3a?    its copy in the log is damaged afterwards
 *   r3     block 3 is revoked
 *   /      end the descriptor here
 *   !      the next descriptor or revoke block is damaged afterwards
 *   k      a revoke block whose count is wrong, but not its checksum
 *   x      a block of a kind that there is not
 *   < @ +  time, tid go back; a tid is left out
 *   .      commit; t: its checksum is wrong; z: with junk behind its first sector
 *
 * Revoke records of a transaction stand before its copies.
 *
 * Which test fails when a line of the library is taken out (tried one by one):
 *
 *   jbd2_replay: the flush before the log may be emptied      test_power_cuts, _cuts_in_a_row
 *   jbd2_reset_log: FUA                                       test_power_cuts
 *   jbd2_reset_log: the checksum                              test_scenarios
 *   jbd2_reset_log: one tid further; s_errno = 0              test_reset
 *   replay_tag: checksum, place, unescape, going on (J29)     test_scenarios
 *   scan_block: checksum of descriptors, of revoke blocks     test_scenarios
 *   scan_commit: checksum v1, v2, v3; end at older blocks     test_scenarios
 *   scan_commit: -EBADMSG for damage in the middle            test_scenarios, _ext4_damaged
 *   torn_commit_csum_ok                                       test_scenarios
 *   jbd2_walk_next: the tid                                   test_scenarios
 *   jbd2_walk_next: the log's length as bound                 test_endless
 *   revocation in the copy's own transaction (J37)            test_scenarios
 *   the log ends before the fast-commit area (J30)            test_scenarios
 *   ext4_fast_commit_check, each of its conditions            test_fast_commits
 *   recover_from: error before the log is emptied             test_ext4_power_cuts
 *   recover_from: the flag goes last                          test_ext4_power_cuts
 *   has_error: either place                                   test_ext4_error
 *   ext4_super_write_home: FUA                                test_ext4_power_cuts
 *   ext4_super_write_home: the copy on the device             test_ext4_error
 */

#include <time.h>

#include "ext4/journal.h"
#include "t_fs.h"
#include "t_journal.h"
#include "uext4.h"

/* A device has the file system's blocks, then the journal in two runs, the later one first. */
#define NR_FS  32
#define NR_J   30
#define NR_FC  14
#define SPLIT  9 /* the first block of the journal's second run */
#define MAX_FS (NR_FS + NR_J + NR_FC)

struct world {
        struct tj j;
        uint32_t block_size;
        uint32_t nr_journal;
        size_t size; /* bytes */
        uint8_t *mem;
        uint8_t *want; /* the file system's blocks after recovery */
        struct t_log log;
};

/* Contents; those that capital letters name begin with the magic. */
static void fill(uint8_t *block, uint32_t size, uint64_t blk, char what)
{
        uint64_t state = blk << 8 | (uint8_t)what;

        for (uint32_t pos = 0; pos < size; pos += sizeof(state)) {
                t_rand(&state);
                memcpy(block + pos, &state, sizeof(state));
        }
        if (what >= 'A' && what <= 'Z')
                tj_put32(block, TJ_MAGIC);
}

static void init(struct world *w, const struct tj_format *f)
{
        uint32_t bs = f->block_size;
        uint8_t *journal;

        *w = (struct world){.block_size = bs, .nr_journal = f->nr_blocks};
        w->size = (size_t)(NR_FS + f->nr_blocks) * bs;
        w->mem = t_alloc(w->size);
        w->want = t_alloc((size_t)NR_FS * bs);
        t_log_init(&w->log);
        for (uint32_t blk = 0; blk < NR_FS + f->nr_blocks; blk++)
                fill(w->mem + (size_t)blk * bs, bs, blk, '0');
        memcpy(w->want, w->mem, (size_t)NR_FS * bs);
        journal = w->mem + (size_t)NR_FS * bs;
        tj_init(&w->j, f,
                (const struct tj_run[2]){
                        {0, SPLIT, journal + (size_t)(f->nr_blocks - SPLIT) * bs},
                        {SPLIT, f->nr_blocks - SPLIT, journal},
                });
}

static void done(struct world *w)
{
        free(w->mem);
        free(w->want);
}

static uint8_t *journal_of(const struct world *w)
{
        return w->mem + (size_t)NR_FS * w->block_size;
}

/* ---- the language ---- */

struct script {
        struct world *w;
        struct tj_copy copies[16];
        uint8_t *data[16];
        size_t nr_copies;
        uint64_t revokes[16];
        size_t nr_revokes;
        bool damage;
};

static void damage_block(struct script *s, uint8_t *block)
{
        if (s->damage)
                block[s->w->block_size - 10] ^= 0x20;
        s->damage = false;
}

static void emit(struct script *s)
{
        if (s->nr_revokes)
                damage_block(s, tj_write_revokes(&s->w->j, s->revokes, s->nr_revokes));
        if (s->nr_copies)
                damage_block(s, tj_write_copies(&s->w->j, s->copies, s->nr_copies));
        for (size_t i = 0; i < s->nr_copies; i++)
                free(s->data[i]);
        s->nr_copies = 0;
        s->nr_revokes = 0;
}

static void commit(struct script *s, char how)
{
        uint32_t bs = s->w->block_size;
        uint8_t *block;

        emit(s);
        block = tj_write_commit(&s->w->j);
        if (how == 't')
                block[0x10] ^= 1;
        if (how == 'z')
                memset(block + 512, 0x5a, bs - 512);
}

static void add_copy(struct script *s, const char *word)
{
        char *rest;
        uint64_t blk = strtoul(word, &rest, 10);
        uint8_t *data = t_alloc(s->w->block_size);

        fill(data, s->w->block_size, blk, rest[0]);
        s->data[s->nr_copies] = data;
        s->copies[s->nr_copies++] = (struct tj_copy){blk, data, rest[1] == '?'};
}

static void step(struct script *s, const char *word)
{
        struct tj *j = &s->w->j;

        switch (word[0]) {
        case 'r':
                s->revokes[s->nr_revokes++] = strtoul(word + 1, NULL, 10);
                break;
        case '/':
                emit(s);
                break;
        case '!':
                s->damage = true;
                break;
        case 'k': {
                uint8_t *block = tj_write_revokes(j, NULL, 0);

                tj_put32(block + 12, s->w->block_size + 1);
                tj_seal_tail(j, block);
                break;
        }
        case 'x':
                tj_header(j, tj_next(j), 7);
                break;
        case '<':
                j->sec -= 1000;
                break;
        case '@':
                j->tid -= 50;
                break;
        case '+':
                j->tid++;
                break;
        case '.':
        case 't':
        case 'z':
                commit(s, word[0]);
                break;
        default:
                add_copy(s, word);
        }
}

static void write_log(struct world *w, const char *steps)
{
        struct script s = {.w = w};
        char word[16];
        int used;

        for (; sscanf(steps, " %15s%n", word, &used) == 1; steps += used)
                step(&s, word);
        emit(&s);
}

/* What the blocks named have after recovery; the others are as they were. */
static void expect(struct world *w, const char *blocks)
{
        unsigned blk;
        char what;
        int used;

        for (; sscanf(blocks, " %u%c%n", &blk, &what, &used) == 2; blocks += used)
                fill(w->want + (size_t)blk * w->block_size, w->block_size, blk, what);
}

/* ---- recovery ---- */

static int open_journal(struct world *w, struct uext4_bdev *dev, struct jbd2_journal *ret_j)
{
        const struct log_sink sink = t_log_sink(&w->log);
        struct jbd2_run *runs = mem_array(2, sizeof(*runs));
        const struct jbd2_place place = {
                .dev = dev,
                .block_size = w->block_size,
                .nr_blocks = w->nr_journal,
                .runs = runs,
                .nr_runs = 2,
        };

        if (!runs)
                return -ENOMEM;
        runs[0] = (struct jbd2_run){0, SPLIT, NR_FS + w->nr_journal - SPLIT};
        runs[1] = (struct jbd2_run){SPLIT, w->nr_journal - SPLIT, NR_FS};
        return jbd2_open(&place, &sink, ret_j);
}

/* In the order that who recovers a file system has to keep. */
static int recover(struct world *w, struct uext4_bdev *dev)
{
        struct jbd2_extent_of_log extent;
        struct jbd2_recovery stats;
        struct jbd2_journal j;
        int ret = open_journal(w, dev, &j);

        if (ret < 0)
                return ret;
        ret = jbd2_scan(&j, &extent);
        if (ret == 0)
                ret = jbd2_replay(&j, &extent, dev, NR_FS, &stats);
        if (ret == 0 && !jbd2_is_empty(&j))
                ret = jbd2_reset_log(&j, extent.end_tid);
        jbd2_close(&j);
        return ret;
}

static int recover_memory(struct world *w)
{
        struct uext4_bdev *dev;
        int ret;

        T_CHECK(uext4_bdev_open_buffer(w->mem, w->size, 0, &dev) == 0);
        ret = recover(w, dev);
        uext4_bdev_close(dev);
        return ret;
}

/* The first block that differs; -1: none. */
static long different_block(const struct world *w)
{
        for (size_t blk = 0; blk < NR_FS; blk++) {
                size_t at = blk * w->block_size;

                if (memcmp(w->mem + at, w->want + at, w->block_size) != 0)
                        return (long)blk;
        }
        return -1;
}

static bool log_is_empty(const struct world *w)
{
        return tj_get32(tj_at(&w->j, 0) + 0x1c) == 0;
}

/* ---- one scenario after the other ---- */

enum {
        ON_NONE = 1 << TJ_NONE,
        ON_V1 = 1 << TJ_V1,
        ON_V2_V3 = 1 << TJ_V2 | 1 << TJ_V3,
        ON_ALL = ON_NONE | ON_V1 | ON_V2_V3,
};

static const struct scenario {
        const char *steps;
        const char *want;
        unsigned on;
        int ret;
        const char *said;
} scenarios[] = {
        {"", "", ON_ALL, 0, NULL},
        {".", "", ON_ALL, 0, NULL},
        {"3a .", "3a", ON_ALL, 0, NULL},
        {"3a 4a 0a 31a .", "0a 3a 4a 31a", ON_ALL, 0, NULL},
        {"3a 4a . 5b . 3c 6c .", "3c 4a 5b 6c", ON_ALL, 0, NULL},
        {"3a / 4a / 5a 6a . 7b / 8b .", "3a 4a 5a 6a 7b 8b", ON_ALL, 0, NULL},
        {"3a / 3b .", "3b", ON_ALL, 0, NULL},
        {"3a . < 4b .", "3a 4b", ON_ALL, 0, NULL}, /* somebody set the clock */
        /* J9 */
        {"3A 4a 5A .", "3A 4a 5A", ON_ALL, 0, NULL},
        {"3A . 3b . 4A . 4B .", "3b 4B", ON_ALL, 0, NULL},
        /* J28, J37 */
        {"3a 4a . r3 .", "4a", ON_ALL, 0, NULL},
        {"3a . r3 . 3b .", "3b", ON_ALL, 0, NULL},
        {"3a . 3b r3 .", "", ON_ALL, 0, NULL},
        {"3a . r3 . 3b . r3 5a .", "5a", ON_ALL, 0, NULL},
        {"r3 . 3b . r4 r5 . 4a .", "3b 4a", ON_ALL, 0, NULL},
        {"3a . r3 / r9 4a / r10 5a .", "4a 5a", ON_ALL, 0, NULL},
        {"3a . r3 . r3 .", "", ON_ALL, 0, NULL},
        /* A revocation counts when its transaction was committed. */
        {"3a . r3 4b", "3a", ON_ALL, 0, NULL},
        {"3a . r3 4b t", "3a", ON_V1 | ON_V2_V3, 0, NULL},
        /* J26: where the log ends */
        {"3a", "", ON_ALL, 0, NULL},
        {"3a . 4b", "3a", ON_ALL, 0, NULL},
        {"3a . 4b / 5b /", "3a", ON_ALL, 0, NULL},
        {"3a . ! 4b", "3a", ON_ALL, 0, NULL},
        {"3a . @ 4b .", "3a", ON_ALL, 0, NULL},
        {"3a . 4b / @ 5b .", "3a", ON_ALL, 0, NULL},
        {"3a . + 4b .", "3a", ON_ALL, 0, NULL},
        {"3a . x 4b .", "3a", ON_ALL, 0, NULL},
        {"3a . 4b / x .", "3a", ON_ALL, 0, NULL},
        /* J27 */
        {"3a . 4b t", "3a", ON_V1 | ON_V2_V3, 0, NULL},
        {"3a t", "", ON_V1 | ON_V2_V3, 0, NULL},
        {"3a . 4b t 5c .", "3a", ON_V1 | ON_V2_V3, 0, NULL},
        {"3a . < 4b t 5c .", "3a", ON_V1 | ON_V2_V3, 0, NULL},
        {"3a . 4b z 5c .", "3a 4b 5c", ON_ALL, 0, NULL},
        {"3a . 4b? . 5c .", "3a", ON_V1, 0, NULL},
        {"3a . ! 4b . 5c .", "3a", ON_V1, 0, NULL},
        {"3a . 4b / 5b? / 6b .", "3a", ON_V1, 0, NULL},
        /* J26: left over from an earlier life */
        {"3a . < ! 4b .", "3a", ON_V2_V3, 0, NULL},
        {"3a . < ! r3 .", "3a", ON_V2_V3, 0, NULL},
        {"3a . < 4b / ! 5b / 6b . 7c .", "3a", ON_V2_V3, 0, NULL},
        /* J26: damage, and nothing is replayed */
        {"3a . ! 4b . 5c .", "", ON_V2_V3, -EBADMSG, "is damaged"},
        {"! 3a . 4b . 5c .", "", ON_V2_V3, -EBADMSG, "is damaged"},
        {"3a . ! r7 . 5c .", "", ON_V2_V3, -EBADMSG, "is damaged"},
        {"3a . 4b / ! 5b / 6b .", "", ON_V2_V3, -EBADMSG, "is damaged"},
        {"3a . k . 4b .", "", ON_ALL, -EUCLEAN, "revoke block"},
        /* J29: a damaged copy does not keep the others from their places */
        {"3a 4a? 5a . 6b .", "3a 5a 6b", ON_V2_V3, -EBADMSG, "copy of block 4 "},
        {"3a . 3b? .", "3a", ON_V2_V3, -EBADMSG, "copy of block 3 "},
        {"3A? 4a .", "4a", ON_V2_V3, -EBADMSG, "copy of block 3 "},
        /* What is void need not be good. */
        {"3a? 4a . r3 .", "4a", ON_V2_V3, 0, NULL},
        {"70a 4a . r70 .", "4a", ON_ALL, 0, NULL},
        {"32a 4a .", "", ON_ALL, -EUCLEAN, "outside"},
        {"4000000000a 4a .", "", ON_ALL, -EUCLEAN, "outside"},
        {"3a 32a 4a .", "", ON_ALL, -EUCLEAN, "outside"}, /* block 3 is not touched either */
};

static void run_scenario(const struct scenario *sc, const struct tj_format *f)
{
        struct world w;
        uint8_t *before;
        size_t size;

        init(&w, f);
        write_log(&w, sc->steps);
        expect(&w, sc->want);
        size = w.size - (size_t)NR_FS * w.block_size;
        before = t_alloc(size);
        memcpy(before, journal_of(&w), size);

        t_assert_row(sc->steps, recover_memory(&w), sc->ret);
        t_assert_row(sc->steps, different_block(&w), -1);
        if (sc->said && !t_log_has(&w.log, sc->said))
                fail_msg("%s: the log says '%s'", sc->steps, w.log.text);
        t_assert_row(sc->steps, log_is_empty(&w), sc->ret == 0);
        if (sc->ret < 0) {
                t_assert_row(sc->steps, memcmp(before, journal_of(&w), size), 0);
        } else {
                /* Once more: nothing left to do. */
                memcpy(before, journal_of(&w), size);
                t_assert_row(sc->steps, recover_memory(&w), 0);
                t_assert_row(sc->steps, different_block(&w), -1);
                t_assert_row(sc->steps, memcmp(before, journal_of(&w), size), 0);
        }
        free(before);
        done(&w);
}

/*
 * All of it in each format, with a log that begins where its first transaction crosses the
 * end (before the fast-commit area, where that is: J30), and tids around 0 (J3).
 */
static void test_scenarios(void **state)
{
        static const uint32_t tids[] = {1, 0, 0xffffffff};

        for (unsigned n = 0; n < TJ_NR_CSUM * 2 * 2 * 2 * 2 * 3; n++) {
                struct tj_format f = {
                        .csum = n % TJ_NR_CSUM,
                        .is64 = n / 4 % 2,
                        .block_size = n / 8 % 2 ? 4096 : 1024,
                        .nr_fc = n / 16 % 2 ? NR_FC : 0,
                        .tid = tids[n / 64],
                };

                f.nr_blocks = NR_J + f.nr_fc;
                f.start = n / 32 % 2 ? NR_J - 2 : 1;
                for (size_t s = 0; s < ARRAY_LEN(scenarios); s++) {
                        if (scenarios[s].on & 1u << f.csum)
                                run_scenario(&scenarios[s], &f);
                }
        }
}

static const struct tj_format rich_format = {TJ_V3, true,     1024,      NR_J + NR_FC,
                                             NR_FC, NR_J - 2, 0xfffffffe};

/* Something of everything, over the end of the log. */
static void init_rich(struct world *w)
{
        init(w, &rich_format);
        write_log(w, "3a 4A / 5a 6a . 3b r4 7b . r6 8C . 9d . 10e 11e t");
        expect(w, "3b 5a 7b 8C 9d");
}

/* The tid that the next log begins with is behind all that may be found (J3). */
static void test_reset(void **state)
{
        struct world w;
        uint8_t *sb;

        init_rich(&w);
        sb = tj_at(&w.j, 0);
        tj_put32(sb + 0x20, 5); /* the error is forgotten; who replays has seen it */
        tj_seal_super(sb);
        assert_int_equal(recover_memory(&w), 0);
        assert_int_equal(tj_get32(sb + 0x1c), 0);
        assert_int_equal(tj_get32(sb + 0x18), 3); /* 2 is the torn one's */
        assert_int_equal(tj_get32(sb + 0x20), 0);
        done(&w);
}

static void test_statistics(void **state)
{
        struct jbd2_extent_of_log extent;
        struct jbd2_recovery stats;
        struct uext4_bdev *dev;
        struct jbd2_journal j;
        struct world w;

        init_rich(&w);
        assert_int_equal(uext4_bdev_open_buffer(w.mem, w.size, 0, &dev), 0);
        assert_int_equal(open_journal(&w, dev, &j), 0);
        assert_int_equal(jbd2_scan(&j, &extent), 0);
        assert_int_equal(extent.first_tid, 0xfffffffe);
        assert_int_equal(extent.end_tid, 2);
        assert_int_equal(extent.nr_transactions, 4);
        assert_int_equal(extent.end, JBD2_END_TORN_COMMIT);
        assert_true(extent.last_commit_sec == 1700000003);
        assert_int_equal(jbd2_replay(&j, &extent, dev, NR_FS, &stats), 0);
        assert_int_equal(stats.first_tid, 0xfffffffe);
        assert_int_equal(stats.nr_transactions, 4);
        assert_int_equal(stats.nr_revokes, 2);
        assert_int_equal(stats.nr_skipped, 2);
        assert_int_equal(stats.nr_blocks, 6);
        assert_false(log_is_empty(&w));
        jbd2_close(&j);
        uext4_bdev_close(dev);
        done(&w);
}

/* ---- copies of the journal's own blocks ---- */

static int recover_with_overlap(struct world *w, struct uext4_bdev *dev)
{
        const uint32_t nr = w->nr_journal;
        const struct jbd2_run overlap = {nr, 1, NR_FS + 2};
        struct jbd2_run *runs = mem_array(3, sizeof(*runs));
        struct jbd2_extent_of_log extent;
        struct jbd2_recovery stats;
        struct jbd2_journal j;
        int ret;

        assert_int_equal(open_journal(w, dev, &j), 0);
        assert_non_null(runs);
        memcpy(runs, j.place.runs, 2 * sizeof(*runs));
        runs[2] = overlap;
        j.place.nr_blocks = nr + 1;
        j.place.nr_runs = 3;
        mem_free(j.place.runs);
        j.place.runs = runs;
        assert_int_equal(jbd2_scan(&j, &extent), 0);
        ret = jbd2_replay(&j, &extent, dev, NR_FS + nr, &stats);
        jbd2_close(&j);
        return ret;
}

/* They are refused wherever they are, also where one piece of the journal is in another. */
static void test_own_blocks(void **state)
{
        const struct tj_format f = {TJ_V3, true, 1024, NR_J, 0, 1, 7};

        for (uint32_t blk = NR_FS - 2; blk < NR_FS + NR_J; blk++) {
                struct uext4_bdev *dev;
                struct world w;
                char steps[32];

                init(&w, &f);
                snprintf(steps, sizeof(steps), "1a 3b %uc .", blk);
                write_log(&w, steps);
                assert_int_equal(uext4_bdev_open_buffer(w.mem, w.size, 0, &dev), 0);
                if (blk < NR_FS) {
                        expect(&w, steps);
                        assert_int_equal(recover_with_overlap(&w, dev), 0);
                } else {
                        assert_int_equal(recover_with_overlap(&w, dev), -EUCLEAN);
                        assert_true(t_log_has(&w.log, "in the journal"));
                }
                assert_int_equal(different_block(&w), -1);
                uext4_bdev_close(dev);
                done(&w);
        }
}

/* ---- a journal in very many pieces ---- */

#define NR_PIECES (1u << 17) /* of a block each */

static double cpu_seconds(void)
{
        struct timespec t;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Full of copies, of which nothing is read but the tags. */
static void write_pieces(struct tj *j)
{
        const uint32_t max = tj_max_copies(&j->f);

        while (j->head + max + 2 < NR_PIECES) {
                uint8_t *block = tj_next(j);

                tj_header(j, block, TJ_DESCRIPTOR);
                for (uint32_t t = 0; t < max; t++)
                        tj_tag(j, block + 12 + 8 * (size_t)t, t % NR_FS,
                               TJ_SAME_UUID | (t == max - 1 ? TJ_LAST : 0), 0);
                j->head += max;
        }
        tj_write_commit(j);
}

static void open_pieces(struct uext4_bdev *dev, struct t_log *log, struct jbd2_journal *ret_j)
{
        const struct log_sink sink = t_log_sink(log);
        struct jbd2_place place = {
                .dev = dev, .block_size = 1024, .nr_blocks = NR_PIECES, .nr_runs = NR_PIECES};

        place.runs = mem_array(NR_PIECES, sizeof(*place.runs));
        assert_non_null(place.runs);
        for (uint32_t i = 0; i < NR_PIECES; i++)
                place.runs[i] = (struct jbd2_run){i, 1, NR_FS + i};
        assert_int_equal(jbd2_open(&place, &sink, ret_j), 0);
}

/* Its pieces are not looked through for each copy. */
static void test_pieces(void **state)
{
        const struct tj_format f = {TJ_NONE, false, 1024, NR_PIECES, 0, 1, 7};
        const size_t size = (size_t)(NR_FS + NR_PIECES) * 1024;
        uint8_t *mem = t_alloc(size);
        const struct tj_run runs[2] = {{0, NR_PIECES, mem + (size_t)NR_FS * 1024}};
        struct jbd2_extent_of_log extent;
        struct jbd2_recovery stats;
        struct uext4_bdev *dev;
        struct jbd2_journal j;
        struct t_log log;
        double begun;
        struct tj tj;

        t_log_init(&log);
        tj_init(&tj, &f, runs);
        write_pieces(&tj);
        assert_int_equal(uext4_bdev_open_buffer(mem, size, 0, &dev), 0);
        open_pieces(dev, &log, &j);
        begun = cpu_seconds();
        assert_int_equal(jbd2_scan(&j, &extent), 0);
        assert_int_equal(jbd2_replay(&j, &extent, dev, NR_FS, &stats), 0);
        assert_true(stats.nr_blocks > NR_PIECES / 10 * 9);
        assert_true(cpu_seconds() - begun < 2);
        jbd2_close(&j);
        uext4_bdev_close(dev);
        free(mem);
}

/* A log that has no end, and whose last descriptor reaches into its beginning, ends all the
 * same.
 */
static void test_endless(void **state)
{
        for (uint32_t nr_tags = 0; nr_tags < NR_J; nr_tags++) {
                const struct tj_format f = {TJ_NONE, false, 1024, NR_J, 0, 1, 7};
                struct uext4_bdev *dev;
                struct jbd2_journal j;
                struct jbd2_walk walk;
                struct world w;
                uint32_t nr = 0;

                init(&w, &f);
                for (uint32_t blk = 1; blk < NR_J; blk++) {
                        uint8_t *block = tj_next(&w.j);

                        tj_header(&w.j, block, nr_tags ? TJ_DESCRIPTOR : TJ_REVOKE);
                        for (uint32_t t = 1; t <= nr_tags; t++)
                                tj_tag(&w.j, block + 4 + 8 * (size_t)t, t,
                                       TJ_SAME_UUID | (t == nr_tags ? TJ_LAST : 0), 0);
                }
                assert_int_equal(uext4_bdev_open_buffer(w.mem, w.size, 0, &dev), 0);
                assert_int_equal(open_journal(&w, dev, &j), 0);
                assert_int_equal(jbd2_walk_init(&walk, &j), 0);
                while (jbd2_walk_next(&walk) == 1)
                        assert_true(++nr < NR_J);
                assert_int_equal(nr, (NR_J - 1) / (1 + nr_tags));
                jbd2_walk_done(&walk);
                jbd2_close(&j);
                uext4_bdev_close(dev);

                assert_int_equal(recover_memory(&w), 0);
                assert_int_equal(different_block(&w), -1);
                done(&w);
        }
}

/* ---- errors and cuts ---- */

enum {
        READS = 1u << UEXT4_BDEV_READ,
        WRITES = 1u << UEXT4_BDEV_WRITE,
};

/*
 * Request `n` of `ops` fails, or that and all that follow.  What recovery says is an error; the
 * log is not emptied before its copies are in place; and the next recovery does the rest (J35).
 * Returns whether there was a request `n`.
 */
static bool fail_request(uint32_t ops, uint64_t n, uint64_t count)
{
        struct uext4_bdev *dev, *fault;
        uint64_t hits;
        struct world w;
        int ret;

        init_rich(&w);
        assert_int_equal(uext4_bdev_open_buffer(w.mem, w.size, 0, &dev), 0);
        assert_int_equal(uext4_bdev_open_fault(dev, &fault), 0);
        assert_int_equal(uext4_bdev_fault_add(fault,
                                              &(struct uext4_bdev_fault){
                                                      .ops = ops,
                                                      .skip = n,
                                                      .count = count,
                                                      .error = -EREMOTEIO,
                                              }),
                         0);
        ret = recover(&w, fault);
        hits = uext4_bdev_fault_hits(fault);
        uext4_bdev_close(fault);
        assert_int_equal(ret, hits ? -EREMOTEIO : 0);
        if (log_is_empty(&w))
                assert_int_equal(different_block(&w), -1);
        assert_int_equal(recover_memory(&w), 0);
        assert_int_equal(different_block(&w), -1);
        assert_true(log_is_empty(&w));
        done(&w);
        return hits > 0;
}

static void test_device_errors(void **state)
{
        static const uint32_t ops[] = {READS, WRITES, READS | WRITES};

        for (size_t o = 0; o < ARRAY_LEN(ops); o++) {
                for (uint64_t count = 0; count < 2; count++) { /* 0: for ever */
                        uint64_t n = 0;

                        while (fail_request(ops[o], n, count))
                                n++;
                        assert_true(n > 5);
                }
        }
}

static void test_no_memory(void **state)
{
        struct world w;
        int64_t n = 0;
        int ret;

        do {
                struct uext4_bdev *dev;

                init_rich(&w);
                assert_int_equal(uext4_bdev_open_buffer(w.mem, w.size, 0, &dev), 0);
                mem_fail_after(n++);
                ret = recover(&w, dev);
                mem_fail_after(-1);
                uext4_bdev_close(dev);
                assert_true(ret == 0 || ret == -ENOMEM);
                if (log_is_empty(&w))
                        assert_int_equal(different_block(&w), -1);
                if (ret < 0)
                        assert_int_equal(recover_memory(&w), 0);
                assert_int_equal(different_block(&w), -1);
                assert_true(log_is_empty(&w));
                done(&w);
        } while (ret < 0);
        assert_true(n > 5);
}

/* ---- power cuts ---- */

/* How often recovery is cut, in all: for the proof that it was. */
struct cuts {
        unsigned nr, nr_early; /* early: the log was not empty yet */
};

static struct uext4_bdev *open_sim(const void *image, size_t size, uint64_t seed, uint32_t caps)
{
        const struct uext4_bdev_sim_params params = {
                .size = size,
                .image = image,
                .caps = caps,
                .seed = seed,
        };
        struct uext4_bdev *sim;

        T_CHECK(uext4_bdev_open_sim(&params, &sim) == 0);
        return sim;
}

static void survive(struct uext4_bdev *sim, enum uext4_bdev_sim_mode mode, uint64_t n,
                    void *image)
{
        const struct uext4_bdev_sim_survivor how = {.mode = mode, .seed = n, .index = n};

        T_CHECK(uext4_bdev_sim_survivor(sim, &how, image) == 0);
}

/* Whatever survived, the next recovery ends as if it were the first. */
static void check_survivor(struct world *w, struct cuts *cuts)
{
        cuts->nr++;
        if (log_is_empty(w))
                assert_int_equal(different_block(w), -1); /* J31 */
        else
                cuts->nr_early++;
        assert_int_equal(recover_memory(w), 0);
        assert_int_equal(different_block(w), -1);
        assert_true(log_is_empty(w));
}

/* Recovery, cut at request `n`; then each combination of writes, and some torn ones. */
static int cut_recovery(uint64_t seed, uint32_t caps, uint64_t n, struct cuts *cuts)
{
        struct uext4_bdev_sim_state st;
        struct uext4_bdev *sim;
        struct world w;
        int ret;

        init_rich(&w);
        sim = open_sim(w.mem, w.size, seed + n, caps);
        uext4_bdev_sim_cut_at(sim, n);
        ret = recover(&w, sim);
        assert_true(ret == 0 || ret == -EIO);
        uext4_bdev_sim_cut(sim);
        uext4_bdev_sim_state(sim, &st);
        assert_true(st.nr_writes < 12);
        for (uint64_t i = 0; i < 1u << st.nr_writes; i++) {
                survive(sim, UEXT4_BDEV_SIM_WRITES, i, w.mem);
                check_survivor(&w, cuts);
        }
        for (uint64_t i = 0; i < 16; i++) {
                survive(sim, UEXT4_BDEV_SIM_RANDOM, seed + i, w.mem);
                check_survivor(&w, cuts);
        }
        survive(sim, UEXT4_BDEV_SIM_NONE, 0, w.mem);
        if (ret == 0) /* what was said to be done is durable */
                assert_true(log_is_empty(&w));
        check_survivor(&w, cuts);
        uext4_bdev_close(sim);
        done(&w);
        return ret;
}

static void test_power_cuts(void **state)
{
        static const uint32_t caps[] = {0, UEXT4_BDEV_CAP_FUA};
        uint64_t seed = t_seed();
        struct cuts cuts = {0};

        for (size_t c = 0; c < ARRAY_LEN(caps); c++) {
                uint64_t n = 1;

                while (cut_recovery(seed, caps[c], n, &cuts) < 0)
                        n++;
                assert_true(n > 20);
        }
        assert_true(cuts.nr_early > 500 && cuts.nr_early < cuts.nr);
}

/* Cut again and again, at random, before it may end. */
static void test_cuts_in_a_row(void **state)
{
        uint64_t seed = t_seed();

        for (unsigned round = 0; round < 200; round++) {
                struct world w;

                init_rich(&w);
                for (unsigned cut = 0; cut < 4; cut++) {
                        struct uext4_bdev *sim = open_sim(w.mem, w.size, t_rand(&seed), 0);

                        uext4_bdev_sim_cut_at(sim, 1 + t_below(&seed, 60));
                        recover(&w, sim);
                        uext4_bdev_sim_cut(sim);
                        assert_int_equal(
                                uext4_bdev_sim_survivor(sim,
                                                        &(struct uext4_bdev_sim_survivor){
                                                                .mode = UEXT4_BDEV_SIM_RANDOM,
                                                                .seed = t_rand(&seed)},
                                                        w.mem),
                                0);
                        uext4_bdev_close(sim);
                }
                assert_int_equal(recover_memory(&w), 0);
                assert_int_equal(different_block(&w), -1);
                done(&w);
        }
}

/* ---- file systems ---- */

#define EXT4_BS 1024u
#define EXT4_FC 64u

static struct t_image made; /* by mke2fs, and good */
static uint32_t journal_len;
static uint64_t journal_at; /* block */
static uint64_t root_at;    /* of the root directory */

/* An image whose journal holds what its blocks lack. */
struct ext4_world {
        struct t_image img;
        struct tj j;
        struct t_log log;
};

static void find_blocks(struct ext4_fs *fs)
{
        const struct log_sink silent = {0};
        struct jbd2_journal j;
        struct ext4_inode *root;
        struct ext4_map map;

        T_CHECK(ext4_iget(fs, EXT4_INO_ROOT, &root) == 0);
        rwsem_read_lock(&root->vfs.lock);
        T_CHECK(ext4_map_lookup(root, 0, 0, &map) == 0);
        rwsem_read_unlock(&root->vfs.lock);
        ext4_iput(root);
        root_at = map.pblk;
        fs->vfs.log = silent; /* what mke2fs wrote is replaced anyway */
        T_CHECK(ext4_journal_open(fs, NULL, &j) == 0);
        T_CHECK(j.place.nr_runs == 1);
        journal_at = j.place.runs[0].pblk;
        journal_len = j.place.nr_blocks;
        jbd2_close(&j);
}

static int make_image(void **state)
{
        struct t_mount m;

        made = t_mkfs(5 << 20,
                      "-b 1024 -N 64 -J size=2 -O "
                      "none,has_journal,extent,filetype,64bit,metadata_csum",
                      NULL);
        T_CHECK(t_mount(&m, &made, &t_mount_ro) == 0);
        find_blocks(m.fs);
        t_umount(&m);
        return 0;
}

static int free_image(void **state)
{
        t_image_free(&made);
        return 0;
}

static void *ext4_block(struct ext4_world *w, uint64_t blk)
{
        return w->img.data + blk * EXT4_BS;
}

static void set_super(struct ext4_super_block *sb, uint32_t incompat, uint16_t state)
{
        sb->s_feature_incompat = le32_make(le32_get(sb->s_feature_incompat) | incompat);
        sb->s_state = le16_make(le16_get(sb->s_state) | state);
        t_super_seal(sb);
}

/*
 * The root directory and the superblock are in the log, the latter as it was when the log was
 * begun.  On the image the directory is gone.
 */
static void ext4_init(struct ext4_world *w, enum tj_csum csum)
{
        const struct tj_format f = {
                csum, true, EXT4_BS, journal_len, EXT4_FC, journal_len - EXT4_FC - 2, 77};
        const struct tj_copy copies[] = {
                {root_at, made.data + root_at * EXT4_BS, false},
                {EXT4_SUPER_OFFSET / EXT4_BS, NULL, false},
        };
        struct tj_copy with_super[2] = {copies[0], copies[1]};
        const struct tj_copy junk = {root_at, made.data, false};
        char old[EXT4_BS];

        t_log_init(&w->log);
        w->img = t_image_copy(&made);
        set_super(t_super(&w->img), EXT4_INCOMPAT_RECOVER, 0);
        memcpy(old, t_super(&w->img), sizeof(old));
        with_super[1].data = old;
        tj_init(&w->j, &f,
                (const struct tj_run[2]){{0, journal_len, ext4_block(w, journal_at)}});
        tj_write_copies(&w->j, &junk, 1);
        tj_write_commit(&w->j);
        tj_write_copies(&w->j, with_super, 2);
        tj_write_commit(&w->j);
        memset(ext4_block(w, root_at), 0, EXT4_BS);
}

static void ext4_done(struct ext4_world *w)
{
        t_image_free(&w->img);
}

static int ext4_recover_on(struct ext4_world *w, struct uext4_bdev *dev)
{
        const struct log_sink sink = t_log_sink(&w->log);
        struct jbd2_recovery stats;

        return ext4_recover(dev, NULL, &t_mount_ro, &sink, &stats);
}

static int ext4_recover_memory(struct ext4_world *w)
{
        struct uext4_bdev *dev;
        int ret;

        T_CHECK(uext4_bdev_open_buffer(w->img.data, w->img.size, 0, &dev) == 0);
        ret = ext4_recover_on(w, dev);
        uext4_bdev_close(dev);
        return ret;
}

static bool ext4_log_is_empty(const struct ext4_world *w)
{
        return tj_get32(tj_at(&w->j, 0) + 0x1c) == 0;
}

/* Outside of the journal it is byte by byte the image that mke2fs made, but for `state`. */
static bool is_as_made(struct ext4_world *w, uint16_t state)
{
        size_t from = journal_at * EXT4_BS, to = from + (size_t)journal_len * EXT4_BS;
        struct t_image want = t_image_copy(&made);
        bool same;

        set_super(t_super(&want), 0, state);
        same = memcmp(w->img.data, want.data, from) == 0 &&
               memcmp(w->img.data + to, want.data + to, want.size - to) == 0;
        t_image_free(&want);
        return same;
}

static void assert_fsck_clean(const struct t_image *img)
{
        char *text;
        int status;

        text = host_fsck(img->data, img->size, NULL, &status);
        if (status != 0)
                fail_msg("e2fsck: %s", text);
        free(text);
}

static void test_ext4(void **state)
{
        for (int csum = TJ_NONE; csum < TJ_NR_CSUM; csum++) {
                struct ext4_world w;

                ext4_init(&w, csum);
                assert_int_equal(ext4_recover_memory(&w), 0);
                assert_true(is_as_made(&w, 0));
                assert_true(ext4_log_is_empty(&w));
                assert_fsck_clean(&w.img);
                /* Nobody asks for it any more: whatever the journal has is not looked at. */
                memset(tj_at(&w.j, 0), 0xff, EXT4_BS);
                assert_int_equal(ext4_recover_memory(&w), 0);
                assert_true(is_as_made(&w, 0));
                ext4_done(&w);
        }
}

/* A journal that was wiped while the superblock still asked for it (J32). */
static void test_ext4_empty(void **state)
{
        struct ext4_world w;
        uint8_t *sb;

        ext4_init(&w, TJ_V3);
        memcpy(ext4_block(&w, root_at), made.data + root_at * EXT4_BS, EXT4_BS);
        sb = tj_at(&w.j, 0);
        tj_put32(sb + 0x1c, 0);
        tj_seal_super(sb);
        assert_int_equal(ext4_recover_memory(&w), 0);
        assert_true(is_as_made(&w, 0));
        assert_int_equal(tj_get32(sb + 0x18), 77);
        assert_fsck_clean(&w.img);
        ext4_done(&w);
}

/* A cut has torn the superblock on its way home: the log has it, or nothing can be done. */
static void test_ext4_torn_super(void **state)
{
        for (int in_log = 0; in_log < 2; in_log++) {
                struct ext4_world w;
                struct t_image before;

                ext4_init(&w, TJ_V3);
                t_super(&w.img)->s_mtime = le32_make(12345); /* its checksum is elsewhere */
                if (!in_log) {
                        tj_put32(tj_at(&w.j, 0) + 0x1c, 0);
                        tj_seal_super(tj_at(&w.j, 0));
                }
                before = t_image_copy(&w.img);
                if (in_log) {
                        assert_int_equal(ext4_recover_memory(&w), 0);
                        assert_true(is_as_made(&w, 0));
                        assert_fsck_clean(&w.img);
                } else {
                        assert_int_equal(ext4_recover_memory(&w), -EBADMSG);
                        assert_memory_equal(w.img.data, before.data, before.size);
                }
                t_image_free(&before);
                ext4_done(&w);
        }
}

/* J33: the journal's error, and one that is in the superblock only, which replay overwrites. */
static void test_ext4_error(void **state)
{
        for (int place = 0; place < 2; place++) {
                struct ext4_world w;
                uint8_t *sb;

                ext4_init(&w, TJ_V3);
                sb = tj_at(&w.j, 0);
                if (place == 0) {
                        tj_put32(sb + 0x20, (uint32_t)-EIO);
                        tj_seal_super(sb);
                } else {
                        set_super(t_super(&w.img), 0, EXT4_STATE_ERROR);
                }
                assert_int_equal(ext4_recover_memory(&w), 0);
                assert_true(is_as_made(&w, EXT4_STATE_ERROR));
                assert_true(ext4_log_is_empty(&w));
                assert_int_equal(tj_get32(sb + 0x20), 0);
                ext4_done(&w);
        }
}

/* Where nothing can be replayed nothing is changed, the flag least of all. */
static void test_ext4_damaged(void **state)
{
        for (int what = 0; what < 2; what++) {
                struct t_image before;
                struct ext4_world w;

                ext4_init(&w, TJ_V3);
                if (what == 0)
                        tj_at(&w.j, 0)[0x18] ^= 1;
                else
                        tj_at(&w.j, w.j.f.start)[EXT4_BS - 9] ^= 1;
                before = t_image_copy(&w.img);
                assert_int_equal(ext4_recover_memory(&w), -EBADMSG);
                assert_memory_equal(before.data, w.img.data, before.size);
                t_image_free(&before);
                ext4_done(&w);
        }
}

/* ---- a look at it ---- */

/* Damage is told once, and what follows can be looked at all the same. */
static void test_look(void **state)
{
        struct uext4_journal_entry e;
        struct uext4_journal *look;
        struct ext4_world w;
        uint8_t *block;

        ext4_init(&w, TJ_V3);
        block = tj_write_revokes(&w.j, NULL, 0);
        tj_put32(block + 12, EXT4_BS + 1);
        tj_seal_tail(&w.j, block);
        tj_write_commit(&w.j);
        assert_int_equal(uext4_journal_open(host_path(w.img.data, w.img.size), NULL, &look), 0);
        for (unsigned i = 0; i < 5; i++)
                assert_int_equal(uext4_journal_next(look, &e), 1);
        assert_int_equal(uext4_journal_next(look, &e), -EUCLEAN);
        assert_int_equal(uext4_journal_next(look, &e), 1);
        assert_int_equal(e.kind, UEXT4_JOURNAL_COMMIT);
        assert_int_equal(uext4_journal_next(look, &e), 0);
        uext4_journal_close(look);
        ext4_done(&w);
}

/* ---- the fast-commit area ---- */

enum {
        FC_RANGE = 0x01, /* ADD_RANGE: a change */
        FC_PAD = 0x07,
        FC_TAIL = 0x08,
        FC_HEAD = 0x09,
};

static uint8_t *fc_put(uint8_t *p, uint16_t tag, uint16_t len)
{
        const le16 le[2] = {le16_make(tag), le16_make(len)};

        memcpy(p, le, sizeof(le));
        return p + sizeof(le);
}

static uint8_t *fc_put32(uint8_t *p, uint32_t v)
{
        const le32 le = le32_make(v);

        memcpy(p, &le, sizeof(le));
        return p + sizeof(le);
}

static const struct fc_row {
        const char *name;
        uint32_t head_tid, tail_tid;
        uint32_t crc_flip;
        bool no_head;
        bool two_blocks;
        int want;
} fc_rows[] = {
        {"valid", 79, 79, 0, false, false, -EOPNOTSUPP},
        {"valid, over two blocks", 79, 79, 0, false, true, -EOPNOTSUPP},
        {"of the last full commit", 78, 78, 0, false, false, 0},
        {"of a later one", 80, 80, 0, false, true, 0},
        {"head of another tid", 78, 79, 0, false, false, 0},
        {"tail of another tid", 79, 78, 0, false, false, 0},
        {"checksum", 79, 79, 1, false, false, 0},
        {"checksum, over two blocks", 79, 79, 0x80000000, false, true, 0},
        {"no head", 79, 79, 0, true, false, 0},
};

/* The area begins one block behind the log (J14). */
static void write_fc(struct ext4_world *w, const struct fc_row *row)
{
        uint8_t *block = tj_at(&w->j, journal_len - EXT4_FC + 1);
        uint8_t *p = block;
        uint32_t crc = 0;

        memset(block, 0, 2 * EXT4_BS);
        if (!row->no_head) {
                p = fc_put(p, FC_HEAD, 8);
                p = fc_put32(p, 0);
                p = fc_put32(p, row->head_tid);
        }
        p = fc_put(p, FC_RANGE, 16) + 16;
        if (row->two_blocks) {
                size_t used = (size_t)(p - block);

                p = fc_put(p, FC_PAD, (uint16_t)(EXT4_BS - used - 4)) + EXT4_BS - used - 4;
                p = fc_put(p, FC_RANGE, 16) + 16;
        }
        p = fc_put(p, FC_TAIL, (uint16_t)(EXT4_BS - (size_t)(p - block) % EXT4_BS - 4));
        p = fc_put32(p, row->tail_tid);
        crc = tj_crc32c(crc, block, (size_t)(p - block));
        fc_put32(p, crc ^ row->crc_flip);
}

static void test_fast_commits(void **state)
{
        for (size_t r = 0; r < ARRAY_LEN(fc_rows); r++) {
                struct t_image before;
                struct ext4_world w;

                ext4_init(&w, TJ_V3);
                write_fc(&w, &fc_rows[r]);
                before = t_image_copy(&w.img);
                t_assert_row(fc_rows[r].name, ext4_recover_memory(&w), fc_rows[r].want);
                if (fc_rows[r].want < 0) {
                        assert_memory_equal(before.data, w.img.data, before.size);
                        assert_true(t_log_has(&w.log, "fast commits"));
                } else {
                        t_assert_row(fc_rows[r].name, is_as_made(&w, 0), true);
                }
                t_image_free(&before);
                ext4_done(&w);
        }
}

/* ---- errors and cuts again, with the superblock ---- */

/* Neither the log nor the flag goes before what it stands for is in its place. */
static void check_ext4_survivor(struct ext4_world *w)
{
        bool asks = le32_get(t_super(&w->img)->s_feature_incompat) & EXT4_INCOMPAT_RECOVER;

        if (!asks)
                assert_true(ext4_log_is_empty(w) && is_as_made(w, EXT4_STATE_ERROR));
        if (ext4_log_is_empty(w)) /* the error was there before (J33) */
                assert_true(le16_get(t_super(&w->img)->s_state) & EXT4_STATE_ERROR);
        assert_int_equal(ext4_recover_memory(w), 0);
        assert_true(ext4_log_is_empty(w));
        assert_true(is_as_made(w, EXT4_STATE_ERROR));
}

static void ext4_init_error(struct ext4_world *w)
{
        uint8_t *sb;

        ext4_init(w, TJ_V3);
        sb = tj_at(&w->j, 0);
        tj_put32(sb + 0x20, (uint32_t)-EIO);
        tj_seal_super(sb);
}

static void test_ext4_device_errors(void **state)
{
        for (uint64_t n = 0;; n++) {
                struct uext4_bdev *dev, *fault;
                struct ext4_world w;
                uint64_t hits;
                int ret;

                ext4_init_error(&w);
                assert_int_equal(uext4_bdev_open_buffer(w.img.data, w.img.size, 0, &dev), 0);
                assert_int_equal(uext4_bdev_open_fault(dev, &fault), 0);
                assert_int_equal(uext4_bdev_fault_add(fault,
                                                      &(struct uext4_bdev_fault){
                                                              .ops = READS | WRITES,
                                                              .skip = n,
                                                              .count = n % 2,
                                                              .error = -EREMOTEIO,
                                                      }),
                                 0);
                ret = ext4_recover_on(&w, fault);
                hits = uext4_bdev_fault_hits(fault);
                uext4_bdev_close(fault);
                assert_int_equal(ret, hits ? -EREMOTEIO : 0);
                check_ext4_survivor(&w);
                ext4_done(&w);
                if (!hits) {
                        assert_true(n > 10);
                        break;
                }
        }
}

static void test_ext4_no_memory(void **state)
{
        int64_t n = 0;
        int ret;

        do {
                struct uext4_bdev *dev;
                struct ext4_world w;

                ext4_init_error(&w);
                assert_int_equal(uext4_bdev_open_buffer(w.img.data, w.img.size, 0, &dev), 0);
                mem_fail_after(n++);
                ret = ext4_recover_on(&w, dev);
                mem_fail_after(-1);
                uext4_bdev_close(dev);
                assert_true(ret == 0 || ret == -ENOMEM);
                check_ext4_survivor(&w);
                ext4_done(&w);
        } while (ret < 0);
        assert_true(n > 10);
}

static int cut_ext4_recovery(uint64_t seed, uint32_t caps, uint64_t n)
{
        struct uext4_bdev_sim_state st;
        struct uext4_bdev *sim;
        struct ext4_world w;
        int ret;

        ext4_init_error(&w);
        sim = open_sim(w.img.data, w.img.size, seed + n, caps);
        uext4_bdev_sim_cut_at(sim, n);
        ret = ext4_recover_on(&w, sim);
        assert_true(ret == 0 || ret == -EIO);
        uext4_bdev_sim_cut(sim);
        uext4_bdev_sim_state(sim, &st);
        assert_true(st.nr_writes < 6);
        for (uint64_t i = 0; i < 1u << st.nr_writes; i++) {
                survive(sim, UEXT4_BDEV_SIM_WRITES, i, w.img.data);
                if (ret == 0)
                        assert_true(is_as_made(&w, EXT4_STATE_ERROR));
                check_ext4_survivor(&w);
        }
        uext4_bdev_close(sim);
        ext4_done(&w);
        return ret;
}

/* The superblock is in one piece here; how a torn one is met is the file system's affair. */
static void test_ext4_power_cuts(void **state)
{
        uint64_t seed = t_seed();

        for (int fua = 0; fua < 2; fua++) {
                uint64_t n = 1;

                while (cut_ext4_recovery(seed, fua ? UEXT4_BDEV_CAP_FUA : 0, n) < 0)
                        n++;
                assert_true(n > 10);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_scenarios),
                cmocka_unit_test(test_reset),
                cmocka_unit_test(test_statistics),
                cmocka_unit_test(test_endless),
                cmocka_unit_test(test_own_blocks),
                cmocka_unit_test(test_pieces),
                cmocka_unit_test(test_device_errors),
                cmocka_unit_test(test_no_memory),
                cmocka_unit_test(test_power_cuts),
                cmocka_unit_test(test_cuts_in_a_row),
                cmocka_unit_test(test_ext4),
                cmocka_unit_test(test_ext4_empty),
                cmocka_unit_test(test_ext4_torn_super),
                cmocka_unit_test(test_ext4_error),
                cmocka_unit_test(test_ext4_damaged),
                cmocka_unit_test(test_look),
                cmocka_unit_test(test_fast_commits),
                cmocka_unit_test(test_ext4_device_errors),
                cmocka_unit_test(test_ext4_no_memory),
                cmocka_unit_test(test_ext4_power_cuts),
        };

        return cmocka_run_group_tests(tests, make_image, free_image);
}
