/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Buffered writes, and the power cut at every request of the device: while data is written
 * back, in fsync, under pressure.
 *
 * Steps change one file; the model has the state after each.  From each cut images of what may
 * have survived are recovered.  Then
 *
 *  - the size is that of a state between the last that was made durable and the one that was
 *    cut, or lies between two of them that a write leads from one to the other;
 *  - each byte is one of a state, of these, that is longer than the byte's position: the size
 * is never beyond data that was written (C20), and nothing is stale, since the free space holds
 * a pattern that no step writes;
 *  - e2fsck -fn is content.
 *
 * Without a journal: what an fsync has made durable is there when nothing else survives (C59).
 *
 * UEXT4_LONG=1 looks at each image with e2fsck, and adds random scenarios; UEXT4_ONLY=NAME runs
 * one of them.
 */

#include <fcntl.h>
#include <linux/falloc.h>

#include "../change/rig.h"
#include "jbd2/jbd2.h"
#include "uext4.h"

#define MAX_SIZE  (2u << 20)
#define MAX_STEPS 16

enum op {
        END,
        WRITE,
        DIRECT,
        READ_DIRECT, /* which has a part of the file written back */
        WRITE_BACK,  /* all of it; nothing is committed */
        COMMIT,      /* nothing is written back */
        TRUNCATE,    /* to pos */
        PUNCH,
        ALLOCATE, /* with the size kept */
        FSYNC,
        FDATASYNC,
        SYNCFS,
};

struct step {
        enum op op;
        uint64_t pos, len;
};

struct scenario {
        const char *name, *mkfs, *options;
        struct step steps[MAX_STEPS];
};

#define FEATURES                                                                           \
        "has_journal,extents,huge_file,flex_bg,64bit,dir_nlink,extra_isize,metadata_csum," \
        "large_file,filetype,sparse_super"
#define EXT4_4K   "-b 4096 -N 16 -J size=4 -O none," FEATURES
#define EXT4_1K   "-b 1024 -N 16 -J size=1 -O none," FEATURES
#define EXT3_1K   "-b 1024 -N 16 -J size=1 -O none,has_journal,filetype,sparse_super,large_file"
#define BIGALLOC  "-b 1024 -C 8192 -N 16 -J size=1 -O none,bigalloc," FEATURES
#define NOJOURNAL "-b 1024 -N 16 -O none," FEATURES ",^has_journal"

static const struct scenario scenarios[] = {
        {"append_4k",
         EXT4_4K,
         "",
         {{WRITE, 0, 5000},
          {WRITE, 5000, 30000},
          {FSYNC},
          {WRITE, 35000, 100},
          {WRITE_BACK},
          {WRITE, 35100, 40000},
          {FDATASYNC}}},
        {"append_1k",
         EXT4_1K,
         "",
         {{WRITE, 0, 700},
          {WRITE_BACK},
          {WRITE, 700, 3000},
          {COMMIT},
          {WRITE_BACK},
          {COMMIT},
          {WRITE, 3700, 20000},
          {FSYNC}}},
        {"a_part_is_written_back_C20",
         EXT4_1K,
         "",
         {{WRITE, 0, 4096},
          {WRITE, 4096, 4096},
          {WRITE, 8192, 4096},
          {WRITE, 12288, 4096},
          {READ_DIRECT, 12288, 1024},
          {COMMIT},
          {FSYNC}}},
        {"holes_and_direct_writes",
         EXT4_1K,
         "",
         {{WRITE, 20480, 3000},
          {COMMIT},
          {DIRECT, 40960, 1024},
          {WRITE, 1500, 700},
          {FDATASYNC},
          {WRITE, 60000, 10},
          {DIRECT, 20480, 512},
          {COMMIT}}},
        {"over_preallocated_space_B40",
         EXT4_1K,
         "",
         {{ALLOCATE, 0, 65536},
          {WRITE, 2000, 9000},
          {COMMIT},
          {WRITE_BACK},
          {COMMIT},
          {WRITE, 30000, 5000},
          {FSYNC}}},
        {"truncate_and_punch_C22",
         EXT4_1K,
         "",
         {{WRITE, 0, 30000},
          {FSYNC},
          {WRITE, 30000, 10000},
          {PUNCH, 20000, 20000},
          {COMMIT},
          {TRUNCATE, 35000},
          {WRITE, 36000, 500},
          {TRUNCATE, 1000},
          {WRITE, 900, 2000},
          {FSYNC}}},
        {"nodelalloc",
         EXT4_1K,
         ",nodelalloc",
         {{WRITE, 0, 10000},
          {COMMIT},
          {WRITE, 10000, 5000},
          {WRITE_BACK},
          {COMMIT},
          {WRITE, 500, 20000},
          {FSYNC}}},
        {"data_writeback",
         EXT4_1K,
         ",data=writeback",
         {{WRITE, 0, 10000},
          {COMMIT},
          {WRITE, 10000, 5000},
          {WRITE_BACK},
          {COMMIT},
          {WRITE, 500, 20000},
          {FSYNC}}},
        {"ext3",
         EXT3_1K,
         "",
         {{WRITE, 0, 10000},
          {COMMIT},
          {WRITE_BACK},
          {WRITE, 20000, 5000},
          {WRITE_BACK},
          {COMMIT},
          {WRITE, 500, 20000},
          {FSYNC},
          {WRITE, 25000, 3000},
          {READ_DIRECT, 26624, 512},
          {COMMIT}}},
        {"bigalloc",
         BIGALLOC,
         "",
         {{WRITE, 0, 3000},
          {WRITE, 5000, 300},
          {WRITE_BACK},
          {COMMIT},
          {WRITE, 9000, 10000},
          {FSYNC},
          {WRITE, 1000, 30000},
          {READ_DIRECT, 4096, 512},
          {COMMIT}}},
        {"pressure",
         EXT4_4K,
         ",page_cache=1M",
         {{WRITE, 0, 900000},
          {FSYNC},
          {WRITE, 400000, 1000000},
          {COMMIT},
          {WRITE, 10, 100000}}},
        {"syncfs", EXT4_1K, "", {{WRITE, 0, 3000}, {SYNCFS}, {WRITE, 2000, 5000}, {SYNCFS}}},
};

static const struct scenario nojournal = {"nojournal",
                                          NOJOURNAL,
                                          "",
                                          {{WRITE, 0, 10000},
                                           {FSYNC},
                                           {WRITE, 9000, 5000},
                                           {WRITE_BACK},
                                           {WRITE, 20000, 300},
                                           {FDATASYNC},
                                           {WRITE, 100, 100},
                                           {SYNCFS}}};

/* ---- the model ---- */

struct state {
        uint8_t *bytes; /* zeros behind the size */
        uint64_t size;
};

struct model {
        struct state states[MAX_STEPS + 1]; /* after so many steps */
        unsigned nr, durable;
};

static struct model *model_new(void)
{
        struct model *md = t_alloc(sizeof(*md));

        for (unsigned i = 0; i <= MAX_STEPS; i++)
                md->states[i].bytes = t_alloc(MAX_SIZE);
        return md;
}

static void model_free(struct model *md)
{
        for (unsigned i = 0; i <= MAX_STEPS; i++)
                free(md->states[i].bytes);
        free(md);
}

static uint8_t value_of(unsigned step)
{
        return (uint8_t)(200 + step);
}

static void state_zero(struct state *s, uint64_t pos, uint64_t end)
{
        if (pos < end)
                memset(s->bytes + pos, 0, end - pos);
}

static void state_step(struct state *s, const struct step *step, unsigned n)
{
        switch (step->op) {
        case WRITE:
        case DIRECT:
                memset(s->bytes + step->pos, value_of(n), step->len);
                s->size = max_t(uint64_t, s->size, step->pos + step->len);
                break;
        case TRUNCATE:
                state_zero(s, step->pos, s->size);
                s->size = step->pos;
                break;
        case PUNCH:
                state_zero(s, step->pos, min_t(uint64_t, step->pos + step->len, s->size));
                break;
        default:
                break;
        }
}

static void model_begin_step(struct model *md, const struct step *step, unsigned n)
{
        struct state *from = &md->states[md->nr - 1], *to = &md->states[md->nr];

        memcpy(to->bytes, from->bytes, MAX_SIZE);
        to->size = from->size;
        state_step(to, step, n);
        md->nr++;
}

static bool makes_durable(const struct step *step)
{
        return step->op == FSYNC || step->op == FDATASYNC || step->op == SYNCFS;
}

static bool byte_is_allowed(const struct model *md, uint64_t pos, uint8_t byte)
{
        for (unsigned i = md->durable; i < md->nr; i++) {
                if (md->states[i].size > pos && md->states[i].bytes[pos] == byte)
                        return true;
        }
        return false;
}

static bool size_is_allowed(const struct model *md, uint64_t size)
{
        if (size == md->states[md->durable].size)
                return true;
        for (unsigned i = md->durable + 1; i < md->nr; i++) {
                const uint64_t from = md->states[i - 1].size, to = md->states[i].size;

                if (size == to || (size > from && size < to))
                        return true;
        }
        return false;
}

/* ---- running steps ---- */

struct stage {
        const struct scenario *sc;
        struct uext4_bdev *dev;
        struct rig_mount m;
        struct uext4_file *file, *direct;
        uint8_t *buf;
};

static int stage_open(struct stage *st)
{
        char words[128];
        int ret;

        snprintf(words, sizeof(words), RIG_OPTIONS "%s", st->sc->options);
        ret = rig_mount(&st->m, st->dev, words);
        if (ret == 0)
                ret = uext4_open_path(st->m.fs, "/file", O_RDWR, &st->file);
        if (ret == 0)
                ret = uext4_open_path(st->m.fs, "/file", O_RDWR | O_DIRECT, &st->direct);
        return ret;
}

static int stage_close(struct stage *st)
{
        uext4_close(st->file);
        uext4_close(st->direct);
        return st->m.fs ? rig_unmount(&st->m) : 0;
}

static int run_write(struct stage *st, struct uext4_file *file, const struct step *step,
                     unsigned n)
{
        ssize_t ret;

        memset(st->buf, value_of(n), step->len);
        ret = uext4_pwrite(file, st->buf, step->len, step->pos);
        if (ret < 0)
                return (int)ret;
        return (uint64_t)ret == step->len ? 0 : -EIO;
}

static int run_step(struct stage *st, const struct step *step, unsigned n)
{
        ssize_t got;

        switch (step->op) {
        case WRITE:
                return run_write(st, st->file, step, n);
        case DIRECT:
                return run_write(st, st->direct, step, n);
        case READ_DIRECT:
                got = uext4_pread(st->direct, st->buf, step->len, step->pos);
                return got < 0 ? (int)got : 0;
        case WRITE_BACK:
                return vfs_write_all(&rig_fs(&st->m)->vfs);
        case COMMIT:
                return jbd2_commit_all(rig_fs(&st->m)->journal);
        case TRUNCATE:
                return uext4_truncate(st->file, step->pos);
        case PUNCH:
                return uext4_fallocate(st->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                       step->pos, step->len);
        case ALLOCATE:
                return uext4_fallocate(st->file, FALLOC_FL_KEEP_SIZE, step->pos, step->len);
        case FSYNC:
                return uext4_fsync(st->file);
        case FDATASYNC:
                return uext4_fdatasync(st->file);
        case SYNCFS:
                return uext4_syncfs(st->m.fs);
        case END:
                break;
        }
        return 0;
}

/* ---- looking at what is left ---- */

struct cut {
        const struct scenario *sc;
        uint64_t at;
        unsigned nr_images;
        const char *how;
        const struct model *md;
};

static void complain(const struct cut *c, const char *what, uint64_t pos, uint64_t got)
{
        fail_msg("%s, cut at request %llu, %s, step %u, durable %u: %s at %llu: %llu",
                 c->sc->name, (unsigned long long)c->at, c->how, c->md->nr - 1, c->md->durable,
                 what, (unsigned long long)pos, (unsigned long long)got);
}

static void check_file(const struct cut *c, struct uext4_file *file)
{
        static uint8_t got[MAX_SIZE];
        ssize_t n = uext4_pread(file, got, MAX_SIZE, 0);

        if (n < 0 || !size_is_allowed(c->md, (uint64_t)n))
                complain(c, "size", 0, (uint64_t)n);
        for (ssize_t i = 0; i < n; i++) {
                if (!byte_is_allowed(c->md, (uint64_t)i, got[i]))
                        complain(c, "byte", (uint64_t)i, got[i]);
        }
}

static void check_image(void *arg, const char *how, void *image, size_t size)
{
        struct cut *c = arg;
        const bool has_log = strcmp(c->sc->mkfs, NOJOURNAL) != 0;
        const bool asks_fsck = has_log && (t_is_long() || (c->at + c->nr_images++) % 8 == 0);
        struct uext4_file *file;
        struct uext4_bdev *dev;
        struct rig_mount m;
        char *text;

        c->how = how;
        assert_int_equal(uext4_bdev_open_buffer(image, size, 0, &dev), 0);
        if (rig_mount(&m, dev, has_log ? RIG_OPTIONS : "ro") < 0)
                complain(c, "mount", 0, 0);
        assert_int_equal(uext4_open_path(m.fs, "/file", O_RDONLY, &file), 0);
        check_file(c, file);
        uext4_close(file);
        assert_int_equal(rig_unmount(&m), 0);
        uext4_bdev_close(dev);
        text = asks_fsck ? rig_fsck(image, size) : NULL;
        if (text)
                fail_msg("%s, cut at %llu, %s: %s", c->sc->name, (unsigned long long)c->at,
                         c->how, text);
}

/* ---- scenarios ---- */

static struct t_image make_image(const struct scenario *sc)
{
        const bool is_large = strcmp(sc->mkfs, EXT4_4K) == 0;

        return rig_make(is_large ? 12 << 20 : 3 << 20, sc->mkfs, NULL,
                        "write /dev/null file\\n");
}

/* All steps, or those up to the cut.  False when one has failed. */
static bool run_steps(struct stage *st, struct model *md)
{
        for (unsigned i = 0; i < MAX_STEPS && st->sc->steps[i].op != END; i++) {
                const struct step *step = &st->sc->steps[i];

                model_begin_step(md, step, i);
                if (run_step(st, step, i) < 0)
                        return false;
                if (makes_durable(step))
                        md->durable = md->nr - 1;
        }
        return true;
}

/* True when the scenario ended before the cut. */
static bool run_once(const struct scenario *sc, const struct t_image *img, struct model *md,
                     uint64_t at)
{
        struct stage st = {.sc = sc, .buf = aligned_alloc(4096, MAX_SIZE)};
        struct cut c = {.sc = sc, .at = at, .md = md};
        struct uext4_bdev_sim_state state;
        bool whole = false;

        memset(md->states[0].bytes, 0, MAX_SIZE);
        md->states[0].size = 0;
        md->nr = 1;
        md->durable = 0;
        st.dev = t_open_sim(img, at);
        uext4_bdev_sim_cut_at(st.dev, at);
        if (stage_open(&st) == 0)
                whole = run_steps(&st, md);
        uext4_bdev_sim_state(st.dev, &state);
        if (!state.is_cut) {
                assert_true(whole);
                uext4_bdev_sim_cut(st.dev);
        }
        rig_survivors(st.dev, at * 17, 1, check_image, &c);
        (void)stage_close(&st); /* it fails */
        uext4_bdev_close(st.dev);
        free(st.buf);
        return !state.is_cut;
}

static void run_scenario(void **state)
{
        const struct scenario *sc = *state;
        struct model *md = model_new();
        struct t_image img = make_image(sc);
        uint64_t at;

        for (at = 1; !run_once(sc, &img, md, at); at += t_sweep_step(4))
                ;
        printf("# %s: %llu requests\n", sc->name, (unsigned long long)at);
        t_image_free(&img);
        model_free(md);
}

/* C59: each step that makes durable has done so when it returns. */
static void fsync_without_a_journal_C59(void **state)
{
        struct stage st = {.sc = &nojournal, .buf = aligned_alloc(4096, MAX_SIZE)};
        const struct uext4_bdev_sim_survivor none = {.mode = UEXT4_BDEV_SIM_NONE};
        struct t_image img = make_image(&nojournal);
        struct model *md = model_new();
        char *image = t_alloc(img.size);

        md->nr = 1;
        st.dev = t_open_sim(&img, 1);
        assert_int_equal(stage_open(&st), 0);
        for (unsigned i = 0; i < MAX_STEPS && nojournal.steps[i].op != END; i++) {
                struct cut c = {.sc = &nojournal, .at = i, .md = md};

                model_begin_step(md, &nojournal.steps[i], i);
                assert_int_equal(run_step(&st, &nojournal.steps[i], i), 0);
                if (!makes_durable(&nojournal.steps[i]))
                        continue;
                md->durable = md->nr - 1;
                assert_int_equal(uext4_bdev_sim_survivor(st.dev, &none, image), 0);
                check_image(&c, "what is durable", image, img.size);
        }
        assert_int_equal(stage_close(&st), 0);
        uext4_bdev_close(st.dev);
        t_image_free(&img);
        model_free(md);
        free(image);
        free(st.buf);
}

/* ---- random ones ---- */

static struct step random_step(uint64_t *rand, bool has_extents)
{
        static const enum op ops[] = {WRITE,       WRITE,       WRITE,      WRITE,
                                      DIRECT,      READ_DIRECT, WRITE_BACK, COMMIT,
                                      PUNCH,       FSYNC,       SYNCFS,     TRUNCATE,
                                      READ_DIRECT, ALLOCATE,    WRITE,      WRITE_BACK};
        struct step step = {.op = ops[t_below(rand, ARRAY_LEN(ops))]};

        if (step.op == ALLOCATE && !has_extents)
                step.op = WRITE;
        step.pos = t_below(rand, t_below(rand, 2) ? 30000 : 200000);
        step.len = 1 + t_below(rand, t_below(rand, 2) ? 3000 : 60000);
        if (step.op == DIRECT || step.op == READ_DIRECT) {
                step.pos = round_down_pow2(step.pos, 512);
                step.len = round_up_pow2(step.len, 512);
        }
        return step;
}

static void random_cuts(void **state)
{
        static const struct {
                const char *mkfs, *options;
        } kinds[] = {{EXT4_1K, ""},
                     {EXT4_4K, ""},
                     {EXT4_1K, ",nodelalloc"},
                     {EXT3_1K, ""},
                     {BIGALLOC, ""},
                     {EXT4_1K, ",data=writeback"},
                     {EXT4_4K, ",page_cache=1M"}};
        const unsigned nr_scenarios = t_is_long() ? 300 : 4, nr_cuts = t_is_long() ? 40 : 6;
        struct model *md = model_new();
        uint64_t rand = t_seed();

        for (unsigned n = 0; n < nr_scenarios; n++) {
                const unsigned kind = (unsigned)t_below(&rand, ARRAY_LEN(kinds));
                struct scenario sc = {.name = "random",
                                      .mkfs = kinds[kind].mkfs,
                                      .options = kinds[kind].options};
                struct t_image img;

                for (unsigned i = 0; i < MAX_STEPS; i++)
                        sc.steps[i] = random_step(&rand, strcmp(sc.mkfs, EXT3_1K) != 0);
                img = make_image(&sc);
                for (unsigned i = 0; i < nr_cuts; i++)
                        (void)run_once(&sc, &img, md, 1 + t_below(&rand, 120));
                t_image_free(&img);
        }
        model_free(md);
}

int main(void)
{
        struct CMUnitTest tests[ARRAY_LEN(scenarios) + 2];
        const char *only = getenv("UEXT4_ONLY");
        size_t nr = 0;

        for (size_t i = 0; i < ARRAY_LEN(scenarios); i++) {
                union {
                        const struct scenario *sc;
                        void *state;
                } arg = {&scenarios[i]};

                if (only && strcmp(only, scenarios[i].name) != 0)
                        continue;
                tests[nr++] = (struct CMUnitTest){.name = scenarios[i].name,
                                                  .test_func = run_scenario,
                                                  .initial_state = arg.state};
        }
        if (!only || strcmp(only, "nojournal") == 0)
                tests[nr++] = (struct CMUnitTest)cmocka_unit_test(fsync_without_a_journal_C59);
        if (!only || strcmp(only, "random_cuts") == 0)
                tests[nr++] = (struct CMUnitTest)cmocka_unit_test(random_cuts);
        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return _cmocka_run_group_tests("write_cache_cuts", tests, nr, NULL, NULL);
}
