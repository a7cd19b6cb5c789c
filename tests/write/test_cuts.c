/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Writes, and the power cut at every request of the device (the tables of docs/write-path.md).
 *
 * A scenario is a list of steps on one file.  It is run again and again, on a simulated device
 * whose power goes at request 1, 2, 3, ...  From each cut several images of what may have
 * survived are recovered, and then
 *
 *  - every byte of the file is one that it had after some step from the last one that was
 *    acknowledged as durable up to the one that was cut, or zero where one of those had a hole;
 *  - so is its size;
 *  - e2fsck -fn is content.
 *
 * The free space of the image holds a pattern that no step writes, so that a stale byte is
 * none of these.
 *
 * UEXT4_LONG=1 cuts all scenarios at all points both times, and random lists of steps at 10 000
 * points instead of 48; UEXT4_ONLY=NAME runs one scenario.
 *
 * All of it is done twice: the second time everything is committed right before and right after
 * each write of the user's data, so that each state between two transactions is durable once.
 */

#include <fcntl.h>
#include <linux/falloc.h>

#include "../change/rig.h"
#include "uext4.h"

#define MAX_SIZE  (512u << 10)
#define MAX_STEPS 24
#define DEPTH     8

enum op {
        END,
        WRITE,    /* direct */
        BUFFERED, /* the same without O_DIRECT */
        BATCH,    /* DEPTH writes side by side, of len bytes each, with a gap of len */
        TRUNCATE, /* to pos */
        ALLOCATE, /* with the size kept */
        PUNCH,
        FSYNC,
        FDATASYNC,
};

struct step {
        enum op op;
        uint64_t pos, len;
        int flags; /* RWF_*; with DSYNC the step is durable when it ends */
};

struct scenario {
        const char *name;
        const char *mkfs;
        struct step before[8]; /* durable before the first cut */
        struct step steps[MAX_STEPS];
};

#define EXT4_1K                                                                       \
        "-b 1024 -J size=1 -O has_journal,extents,huge_file,flex_bg,64bit,dir_nlink," \
        "extra_isize,metadata_csum"
#define EXT3_1K "-b 1024 -J size=1 -O none,has_journal,sparse_super,large_file"

static const struct scenario scenarios[] = {
        {"extend_by_blocks_B38",
         EXT4_1K,
         {{FSYNC}},
         {{WRITE, 0, 8192},
          {WRITE, 8192, 4096},
          {FDATASYNC},
          {WRITE, 12288, 65536},
          {FSYNC},
          {WRITE, 77824, 1024}}},
        {"extend_inside_a_block_C24",
         EXT4_1K,
         {{WRITE, 0, 512}, {FSYNC}},
         {{WRITE, 512, 512},
          {FDATASYNC},
          {WRITE, 1024, 512},
          {WRITE, 1536, 512},
          {FDATASYNC},
          {WRITE, 2048, 512, RWF_DSYNC},
          {WRITE, 2560, 512, RWF_DSYNC}}},
        {"extend_with_dsync_C14",
         EXT4_1K,
         {{FSYNC}},
         {{WRITE, 0, 4096, RWF_DSYNC},
          {WRITE, 4096, 1024, RWF_DSYNC},
          {WRITE, 5120, 20480, RWF_SYNC}}},
        {"extend_over_a_gap_C23",
         EXT4_1K,
         {{BUFFERED, 0, 700}, {FSYNC}},
         {{WRITE, 8192, 1024},
          {FSYNC},
          {WRITE, 100352, 512, RWF_DSYNC},
          {BUFFERED, 200000, 100},
          {FSYNC}}},
        {"extend_into_preallocated_space",
         EXT4_1K,
         {{WRITE, 0, 1024}, {ALLOCATE, 0, 65536}, {FSYNC}},
         {{WRITE, 1024, 3072}, {FDATASYNC}, {WRITE, 4096, 512}, {WRITE, 20480, 4096}, {FSYNC}}},
        {"fill_holes_B40",
         EXT4_1K,
         {{TRUNCATE, 131072}, {FSYNC}},
         {{WRITE, 4096, 4096},
          {FSYNC},
          {WRITE, 20480, 512},
          {WRITE, 20992, 512},
          {FDATASYNC},
          {WRITE, 65536, 8192, RWF_DSYNC}}},
        {"write_preallocated_B40",
         EXT4_1K,
         {{ALLOCATE, 0, 131072}, {TRUNCATE, 131072}, {FSYNC}},
         {{WRITE, 4096, 8192},
          {FDATASYNC},
          {WRITE, 20992, 512, RWF_DSYNC},
          {BATCH, 32768, 1024, RWF_DSYNC},
          {BATCH, 65536, 2048},
          {FSYNC}}},
        {"overwrite_with_dsync_B7",
         EXT4_1K,
         {{WRITE, 0, 65536}, {FSYNC}},
         {{WRITE, 32768, 4096},
          {FDATASYNC},
          {BATCH, 32768, 512},
          {FDATASYNC},
          {WRITE, 0, 4096, RWF_DSYNC},
          {WRITE, 8192, 512, RWF_DSYNC},
          {BATCH, 16384, 1024, RWF_DSYNC},
          {WRITE, 0, 65536, RWF_SYNC}}},
        {"mixed_request_B7",
         EXT4_1K,
         {{WRITE, 0, 4096}, {ALLOCATE, 4096, 4096}, {TRUNCATE, 16384}, {FSYNC}},
         {{WRITE, 0, 16384, RWF_DSYNC}, {WRITE, 8192, 16384, RWF_DSYNC}}},
        {"truncate_and_write",
         EXT4_1K,
         {{WRITE, 0, 65536}, {FSYNC}},
         {{TRUNCATE, 30000},
          {WRITE, 29696, 4096},
          {TRUNCATE, 1000},
          {BUFFERED, 900, 3000},
          {FSYNC},
          {TRUNCATE, 0},
          {WRITE, 0, 65536, RWF_DSYNC}}},
        {"punch_and_write",
         EXT4_1K,
         {{WRITE, 0, 65536}, {FSYNC}},
         {{PUNCH, 8192, 16384},
          {WRITE, 10240, 2048},
          {WRITE, 15360, 512},
          {FDATASYNC},
          {PUNCH, 0, 60000},
          {BATCH, 0, 2048},
          {FSYNC}}},
        {"ext3_holes_B12",
         EXT3_1K,
         {{WRITE, 0, 2048}, {TRUNCATE, 131072}, {FSYNC}},
         {{WRITE, 1024, 4096},
          {FSYNC},
          {WRITE, 60416, 512, RWF_DSYNC},
          {WRITE, 32768, 2048},
          {WRITE, 130048, 4096},
          {FSYNC}}},
        {"ext3_extend",
         EXT3_1K,
         {{FSYNC}},
         {{WRITE, 0, 20480},
          {FDATASYNC},
          {WRITE, 20480, 512, RWF_DSYNC},
          {WRITE, 20992, 40960},
          {TRUNCATE, 21000},
          {BUFFERED, 21000, 3000},
          {FSYNC}}},
        {"orphan_file",
         EXT4_1K ",orphan_file",
         {{FSYNC}},
         {{WRITE, 0, 8192},
          {FDATASYNC},
          {WRITE, 8192, 65536},
          {TRUNCATE, 3000},
          {FSYNC},
          {WRITE, 4096, 4096, RWF_DSYNC}}},
};

/* ---- the model ---- */

struct state {
        uint8_t *bytes; /* zeros behind the size */
        uint64_t size;
};

struct model {
        struct state states[MAX_STEPS + 1]; /* after so many steps */
        unsigned nr;                        /* states that there are */
        unsigned durable;                   /* the last that an fsync has acknowledged */

        /* Who writes durably has made his own bytes so, and the size if he moved it, but not
         * what others have left in the page cache, or in the device's. */
        uint8_t bytes_from[MAX_SIZE]; /* the first state that a byte may be of */
        unsigned size_from;
};

static void state_write(struct state *s, uint64_t pos, uint64_t len, uint8_t value)
{
        memset(s->bytes + pos, value, len);
        s->size = max_t(uint64_t, s->size, pos + len);
}

static uint8_t value_of(unsigned step, unsigned n)
{
        return (uint8_t)(1 + (step * 11 + n) % 150);
}

static void state_step(struct state *s, const struct step *step, unsigned n)
{
        switch (step->op) {
        case WRITE:
        case BUFFERED:
                state_write(s, step->pos, step->len, value_of(n, 0));
                break;
        case BATCH:
                for (unsigned i = 0; i < DEPTH; i++)
                        state_write(s, step->pos + 2 * i * step->len, step->len,
                                    value_of(n, i));
                break;
        case TRUNCATE:
                if (step->pos < s->size)
                        memset(s->bytes + step->pos, 0, s->size - step->pos);
                s->size = step->pos;
                break;
        case PUNCH:
                if (step->pos < s->size)
                        memset(s->bytes + step->pos, 0,
                               min_t(uint64_t, step->len, s->size - step->pos));
                break;
        default:
                break;
        }
}

static void note_durable(struct model *md, uint64_t pos, uint64_t len)
{
        memset(md->bytes_from + pos, (int)(md->nr - 1), len);
        if (md->states[md->nr - 1].size > md->states[md->nr - 2].size)
                md->size_from = md->nr - 1;
}

/* A step has ended: what is durable now. */
static void model_end_step(struct model *md, const struct step *step)
{
        const unsigned nr = step->op == BATCH ? DEPTH : 1;

        if (step->op == FSYNC || step->op == FDATASYNC)
                md->durable = md->nr - 1;
        for (unsigned i = 0; i < nr && (step->flags & (RWF_DSYNC | RWF_SYNC)); i++)
                note_durable(md, step->pos + 2 * i * step->len, step->len);
}

/* The state in which the next step will end, or be cut. */
static void model_begin_step(struct model *md, const struct step *step, unsigned n)
{
        struct state *from = &md->states[md->nr - 1], *to = &md->states[md->nr];

        memcpy(to->bytes, from->bytes, MAX_SIZE);
        to->size = from->size;
        state_step(to, step, n);
        md->nr++;
}

static void model_init(struct model *md)
{
        for (unsigned i = 0; i <= MAX_STEPS; i++)
                md->states[i].bytes = t_alloc(MAX_SIZE);
        md->states[0].size = 0;
        md->nr = 1;
}

static void model_done(struct model *md)
{
        for (unsigned i = 0; i <= MAX_STEPS; i++)
                free(md->states[i].bytes);
}

static struct state state_copy(const struct state *from)
{
        struct state copy = {.bytes = t_alloc(MAX_SIZE), .size = from->size};

        memcpy(copy.bytes, from->bytes, MAX_SIZE);
        return copy;
}

/* Begin anew with what is durable now. */
static void model_reset(struct model *md, const struct state *s)
{
        memcpy(md->states[0].bytes, s->bytes, MAX_SIZE);
        md->states[0].size = s->size;
        md->nr = 1;
        md->durable = md->size_from = 0;
        memset(md->bytes_from, 0, sizeof(md->bytes_from));
}

static bool byte_is_allowed(const struct model *md, uint64_t pos, uint8_t byte)
{
        for (unsigned i = max_t(unsigned, md->durable, md->bytes_from[pos]); i < md->nr; i++) {
                if (md->states[i].bytes[pos] == byte)
                        return true;
        }
        return false;
}

static bool size_is_allowed(const struct model *md, uint64_t size)
{
        const unsigned from = max_t(unsigned, md->durable, md->size_from);

        for (unsigned i = from; i < md->nr; i++) {
                if (md->states[i].size == size)
                        return true;
        }
        /* A buffered write, or one that is part direct, moves the size piece by piece; so do
         * the writes of a batch. */
        for (unsigned i = from + 1; i < md->nr; i++) {
                if (size > md->states[i - 1].size && size < md->states[i].size)
                        return true;
        }
        return false;
}

/* ---- the device ---- */

/*
 * On its way to the simulated device; commits around each write that comes from the user's
 * buffer.
 */
struct eager {
        struct uext4_bdev dev;
        struct uext4_bdev *sim;
        struct uext4_fs *fs; /* NULL: does not commit */
        const uint8_t *buf;  /* MAX_SIZE bytes */
};

static struct eager *eager_of(struct uext4_bdev *dev)
{
        return container_of(dev, struct eager, dev);
}

static int64_t moved(const struct iovec *iov, int nr, int ret)
{
        int64_t sum = 0;

        for (int i = 0; i < nr; i++)
                sum += (int64_t)iov[i].iov_len;
        return ret < 0 ? ret : sum;
}

static int64_t eager_read(struct uext4_bdev *dev, const struct iovec *iov, int nr, uint64_t pos)
{
        return moved(iov, nr, uext4_bdev_readv(eager_of(dev)->sim, iov, nr, pos));
}

static void commit_now(struct eager *e)
{
        /* After the cut it fails. */
        if (uext4_syncfs(e->fs) < 0)
                return;
}

static int64_t eager_write(struct uext4_bdev *dev, const struct iovec *iov, int nr,
                           uint64_t pos, uint32_t flags)
{
        struct eager *e = eager_of(dev);
        const uint8_t *p = iov[0].iov_base;
        bool is_data = e->fs && p >= e->buf && p < e->buf + MAX_SIZE;
        int ret;

        if (is_data)
                commit_now(e);
        ret = uext4_bdev_writev(e->sim, iov, nr, pos, flags);
        if (is_data)
                commit_now(e);
        return moved(iov, nr, ret);
}

static int eager_flush(struct uext4_bdev *dev)
{
        return uext4_bdev_flush(eager_of(dev)->sim);
}

static int eager_write_zeroes(struct uext4_bdev *dev, uint64_t pos, uint64_t len,
                              uint32_t flags)
{
        return uext4_bdev_write_zeroes(eager_of(dev)->sim, pos, len, flags);
}

static int eager_discard(struct uext4_bdev *dev, uint64_t pos, uint64_t len)
{
        return uext4_bdev_discard(eager_of(dev)->sim, pos, len);
}

static void eager_close(struct uext4_bdev *dev)
{
        uext4_bdev_close(eager_of(dev)->sim);
}

static const struct uext4_bdev_ops eager_ops = {
        .name = "eager",
        .read = eager_read,
        .write = eager_write,
        .flush = eager_flush,
        .discard = eager_discard,
        .write_zeroes = eager_write_zeroes,
        .close = eager_close,
};

/* ---- running steps ---- */

struct stage {
        const struct scenario *sc;
        struct uext4_bdev *dev;
        struct rig_mount m;
        struct uext4_file *direct, *buffered;
        struct uext4_queue *queue;
        uint8_t *buf;
};

static int stage_open(struct stage *st)
{
        int ret = rig_mount(&st->m, st->dev, RIG_OPTIONS);

        if (ret < 0)
                return ret;
        ret = uext4_open_path(st->m.fs, "/file", O_RDWR | O_DIRECT, &st->direct);
        if (ret == 0)
                ret = uext4_open_path(st->m.fs, "/file", O_RDWR, &st->buffered);
        if (ret == 0)
                ret = uext4_queue_new(st->m.fs, DEPTH, &st->queue);
        return ret;
}

static int stage_close(struct stage *st)
{
        uext4_queue_free(st->queue);
        uext4_close(st->direct);
        uext4_close(st->buffered);
        st->queue = NULL;
        st->direct = st->buffered = NULL;
        return st->m.fs ? rig_unmount(&st->m) : 0;
}

static int run_write(struct stage *st, const struct step *step, unsigned n)
{
        const struct iovec iov = {st->buf, step->len};
        ssize_t ret;

        memset(st->buf, value_of(n, 0), step->len);
        ret = uext4_pwritev2(step->op == WRITE ? st->direct : st->buffered, &iov, 1, step->pos,
                             step->flags);
        if (ret < 0)
                return (int)ret;
        return (uint64_t)ret == step->len ? 0 : -EIO;
}

static int run_batch(struct stage *st, const struct step *step, unsigned n)
{
        struct uext4_completion done[DEPTH];
        struct uext4_request reqs[DEPTH];
        struct iovec iov[DEPTH];
        int ret = 0;

        for (unsigned i = 0; i < DEPTH; i++) {
                iov[i] = (struct iovec){st->buf + i * step->len, step->len};
                memset(iov[i].iov_base, value_of(n, i), step->len);
                reqs[i] = (struct uext4_request){
                        .op = UEXT4_WRITE,
                        .flags = step->flags,
                        .file = st->direct,
                        .iov = &iov[i],
                        .nr_iov = 1,
                        .pos = step->pos + 2 * i * step->len,
                };
        }
        T_CHECK(uext4_queue_submit(st->queue, reqs, DEPTH) == DEPTH);
        T_CHECK(uext4_queue_wait(st->queue, done, DEPTH, DEPTH, -1) == DEPTH);
        for (unsigned i = 0; i < DEPTH; i++) {
                if (done[i].result < 0)
                        ret = (int)done[i].result;
        }
        return ret;
}

static int run_step(struct stage *st, const struct step *step, unsigned n)
{
        switch (step->op) {
        case WRITE:
        case BUFFERED:
                return run_write(st, step, n);
        case BATCH:
                return run_batch(st, step, n);
        case TRUNCATE:
                return uext4_truncate(st->direct, step->pos);
        case ALLOCATE:
                return uext4_fallocate(st->direct, FALLOC_FL_KEEP_SIZE, step->pos, step->len);
        case PUNCH:
                return uext4_fallocate(st->direct, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                       step->pos, step->len);
        case FSYNC:
                return uext4_fsync(st->direct);
        case FDATASYNC:
                return uext4_fdatasync(st->direct);
        case END:
                break;
        }
        return 0;
}

/* Run steps until one fails; true when all went well. */
static bool run_steps(struct stage *st, const struct step *steps, unsigned nr, struct model *md,
                      unsigned first)
{
        for (unsigned i = 0; i < nr && steps[i].op != END; i++) {
                model_begin_step(md, &steps[i], first + i);
                if (run_step(st, &steps[i], first + i) < 0)
                        return false;
                model_end_step(md, &steps[i]);
        }
        return true;
}

/* ---- looking at what is left ---- */

struct cut {
        const struct scenario *sc;
        uint64_t at;
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
        struct uext4_file *file;
        struct uext4_bdev *dev;
        struct rig_mount m;
        char *text;

        c->how = how;
        assert_int_equal(uext4_bdev_open_buffer(image, size, 0, &dev), 0);
        if (rig_mount(&m, dev, RIG_OPTIONS) < 0)
                complain(c, "mount", 0, 0);
        assert_int_equal(uext4_open_path(m.fs, "/file", O_RDONLY, &file), 0);
        check_file(c, file);
        uext4_close(file);
        assert_int_equal(rig_unmount(&m), 0);
        uext4_bdev_close(dev);
        text = rig_fsck(image, size);
        if (text)
                fail_msg("%s, cut at %llu, %s: %s", c->sc->name, (unsigned long long)c->at,
                         c->how, text);
}

/* ---- scenarios ---- */

enum pace {
        LAZY, /* nothing is committed but what is asked for */
        EAGER,
};

/* Run up to the cut, and look.  True when the scenario ended before it. */
static bool run_once(const struct scenario *sc, const struct t_image *img, struct model *md,
                     const struct state *before, uint64_t at, enum pace pace)
{
        struct stage st = {.sc = sc, .buf = t_alloc(MAX_SIZE)};
        struct eager e = {.sim = t_open_sim(img, at), .buf = st.buf};
        struct cut c = {.sc = sc, .at = at, .md = md};
        struct uext4_bdev_sim_state state;
        bool whole = false;

        model_reset(md, before);
        assert_int_equal(uext4_bdev_init(&e.dev, &eager_ops, uext4_bdev_geometry(e.sim)), 0);
        st.dev = pace == EAGER ? &e.dev : e.sim;
        uext4_bdev_sim_cut_at(e.sim, at);
        if (stage_open(&st) == 0) {
                e.fs = pace == EAGER ? st.m.fs : NULL;
                whole = run_steps(&st, sc->steps, MAX_STEPS, md, 1);
        }
        uext4_bdev_sim_state(e.sim, &state);
        if (!state.is_cut) {
                assert_true(whole);
                uext4_bdev_sim_cut(e.sim);
        }
        rig_survivors(e.sim, at * 17, 2, check_image, &c);
        e.fs = NULL;
        (void)stage_close(&st); /* it fails */
        uext4_bdev_close(st.dev);
        free(st.buf);
        return !state.is_cut;
}

/* The image with what is there before the first cut. */
static struct t_image make_image(const struct scenario *sc, struct model *md)
{
        struct t_image img = rig_make(4 << 20, sc->mkfs, NULL, "write /dev/null file\\n");
        struct stage st = {.sc = sc, .buf = t_alloc(MAX_SIZE)};

        assert_int_equal(uext4_bdev_open_buffer(img.data, img.size, 0, &st.dev), 0);
        assert_int_equal(stage_open(&st), 0);
        assert_true(run_steps(&st, sc->before, ARRAY_LEN(sc->before), md, 100));
        assert_int_equal(stage_close(&st), 0);
        uext4_bdev_close(st.dev);
        free(st.buf);
        return img;
}

static void run_scenario(void **state)
{
        const struct scenario *sc = *state;
        struct model *md = t_alloc(sizeof(*md));
        struct state before;
        struct t_image img;
        uint64_t at;

        model_init(md);
        img = make_image(sc, md);
        before = state_copy(&md->states[md->nr - 1]);
        for (enum pace pace = LAZY; pace <= EAGER; pace++) {
                const unsigned by = (pace == EAGER && !t_is_long() ? 3 : 1) * t_sweep_step(4);

                for (at = 1; !run_once(sc, &img, md, &before, at, pace); at += by)
                        ;
                printf("# %s, %s: %llu requests\n", sc->name, pace == EAGER ? "eager" : "lazy",
                       (unsigned long long)at);
        }
        model_done(md);
        free(before.bytes);
        t_image_free(&img);
        free(md);
}

/* ---- random ones ---- */

static uint64_t sectors(uint64_t *rand, uint64_t max)
{
        return 512 * t_below(rand, max / 512);
}

static struct step random_step(uint64_t *rand)
{
        static const enum op ops[] = {WRITE,    WRITE,    WRITE, BUFFERED, BATCH,    BATCH,
                                      TRUNCATE, ALLOCATE, PUNCH, FSYNC,    FDATASYNC};
        static const int flags[] = {0, 0, 0, RWF_DSYNC, RWF_SYNC};
        struct step step = {.op = ops[t_below(rand, ARRAY_LEN(ops))]};

        step.pos = sectors(rand, MAX_SIZE / 2);
        step.len = 512 + sectors(rand, t_below(rand, 2) ? 8192 : 65536);
        switch (step.op) {
        case BATCH:
                step.len = 512 + sectors(rand, 4096);
                step.flags = flags[t_below(rand, ARRAY_LEN(flags))];
                break;
        case WRITE:
                step.flags = flags[t_below(rand, ARRAY_LEN(flags))];
                break;
        case BUFFERED:
        case PUNCH:
        case TRUNCATE:
                step.pos += t_below(rand, 512);
                step.len += t_below(rand, 512);
                break;
        default:
                break;
        }
        return step;
}

static struct scenario random_scenario(uint64_t *rand)
{
        static const char *const mkfs[] = {EXT4_1K, EXT4_1K, EXT3_1K, EXT4_1K ",orphan_file"};
        struct scenario sc = {.name = "random", .mkfs = mkfs[t_below(rand, ARRAY_LEN(mkfs))]};

        for (unsigned i = 0; i < ARRAY_LEN(sc.before) - 1; i++) {
                do {
                        sc.before[i] = random_step(rand);
                } while (sc.mkfs == mkfs[2] && sc.before[i].op == ALLOCATE);
        }
        sc.before[ARRAY_LEN(sc.before) - 1].op = FSYNC;
        for (unsigned i = 0; i < MAX_STEPS; i++) {
                do {
                        sc.steps[i] = random_step(rand);
                } while (sc.mkfs == mkfs[2] && sc.steps[i].op == ALLOCATE);
        }
        return sc;
}

/* Requests until the end of the scenario. */
static uint64_t nr_requests(const struct scenario *sc, const struct t_image *img,
                            struct model *md, enum pace pace)
{
        const struct state before = md->states[md->nr - 1];
        struct uext4_bdev_sim_state state;
        struct stage st = {.sc = sc, .buf = t_alloc(MAX_SIZE)};
        struct eager e = {.sim = t_open_sim(img, 1), .buf = st.buf};
        struct model run;

        model_init(&run);
        model_reset(&run, &before);
        T_CHECK(uext4_bdev_init(&e.dev, &eager_ops, uext4_bdev_geometry(e.sim)) == 0);
        st.dev = pace == EAGER ? &e.dev : e.sim;
        T_CHECK(stage_open(&st) == 0);
        e.fs = pace == EAGER ? st.m.fs : NULL;
        T_CHECK(run_steps(&st, sc->steps, MAX_STEPS, &run, 1));
        uext4_bdev_sim_state(e.sim, &state);
        e.fs = NULL;
        T_CHECK(stage_close(&st) == 0);
        uext4_bdev_close(st.dev);
        free(st.buf);
        model_done(&run);
        return state.requests;
}

static void random_cuts(void **state)
{
        const unsigned nr_scenarios = t_is_long() ? 250 : 4, nr_cuts = t_is_long() ? 40 : 12;
        uint64_t rand = t_seed();

        for (unsigned n = 0; n < nr_scenarios; n++) {
                const struct scenario sc = random_scenario(&rand);
                const enum pace pace = t_below(&rand, 2) ? EAGER : LAZY;
                struct model *md = t_alloc(sizeof(*md));
                struct state before;
                struct t_image img;
                uint64_t nr;

                model_init(md);
                img = make_image(&sc, md);
                nr = nr_requests(&sc, &img, md, pace);
                before = state_copy(&md->states[md->nr - 1]);
                for (unsigned i = 0; i < nr_cuts; i++)
                        (void)run_once(&sc, &img, md, &before, 1 + t_below(&rand, nr), pace);
                free(before.bytes);
                model_done(md);
                t_image_free(&img);
                free(md);
        }
}

int main(void)
{
        struct CMUnitTest tests[ARRAY_LEN(scenarios) + 1];
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
        if (!only || strcmp(only, "random_cuts") == 0)
                tests[nr++] = (struct CMUnitTest)cmocka_unit_test(random_cuts);
        return _cmocka_run_group_tests("write_cuts", tests, nr, NULL, NULL);
}
