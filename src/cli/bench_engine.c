/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bench_engine.c - the measuring loop of `uext4 bench` and its uext4 side (see bench_engine.h).
 *
 * Two sides do the same work: `uext4` reads or writes the file through a uext4 queue, `raw`
 * (bench_raw.c) the places of the device where the file lies.  One loop measures both, so that
 * its own cost is the same:
 *
 *      submit all free slots ─► wait for at least one ─► sync, if asked for ─► read the clock
 *         ▲                                                                       │
 *         └──────── latency of each finished slot to the histogram ◄──────────────┘
 *
 * The clock that ends one batch starts the next.  A side is a few functions that are called
 * once per batch, not per request; so one sync serves all writes of a batch.
 *
 * Where each block is new (appending, preallocated space) a run makes one pass at most, and the
 * file is put into its first state before the clock runs.
 */
#include "cli/bench_side.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "cli/change.h"
#include "cli/random.h"

#define APPEND_SIZE (256u << 20) /* bytes of a pass where none are asked for */

bool bench_pattern_writes(enum bench_pattern pattern)
{
        return pattern != BENCH_PATTERN_READ && pattern != BENCH_PATTERN_RANDREAD;
}

static bool is_random(enum bench_pattern pattern)
{
        return pattern == BENCH_PATTERN_RANDREAD || pattern == BENCH_PATTERN_RANDWRITE ||
               pattern == BENCH_PATTERN_RANDRW;
}

/* Does each block count once? */
static bool is_one_pass(const struct bench_options *opt)
{
        return opt->pattern == BENCH_PATTERN_APPEND || opt->prealloc;
}

/* ---- the uext4 side, direct --------------------------------------------- */

static int write_flags(const struct bench_engine *e, const struct bench_slot *slot)
{
        return slot->write && e->opt->sync == BENCH_SYNC_DSYNC ? RWF_DSYNC : 0;
}

static int uext4_side_submit(struct bench_engine *e)
{
        unsigned taken = 0;

        for (unsigned i = 0; i < e->nr_idle; i++) {
                struct uext4_request *req = &e->requests[i];

                req->op = e->idle[i]->write ? UEXT4_WRITE : UEXT4_READ;
                req->flags = write_flags(e, e->idle[i]);
                req->iov = &e->idle[i]->iov;
                req->pos = e->base + e->idle[i]->block * e->opt->block_size;
                req->user_data = e->idle[i];
        }
        while (taken < e->nr_idle) {
                int ret = uext4_queue_submit(e->queue, e->requests + taken, e->nr_idle - taken);

                if (ret <= 0)
                        return ret < 0 ? ret : -EAGAIN;
                taken += (unsigned)ret;
        }
        e->nr_idle = 0;
        return 0;
}

/* What the result of a request says of it: 0 when it was done wholly. */
static int request_error(const struct bench_engine *e, int64_t result)
{
        if (result < 0)
                return (int)result;
        return (uint64_t)result < e->opt->block_size ? -EIO : 0;
}

static int uext4_side_wait(struct bench_engine *e, struct bench_slot **done)
{
        int nr = uext4_queue_wait(e->queue, e->completions, 1, e->opt->depth, -1);

        for (int i = 0; i < nr; i++) {
                struct bench_slot *slot = e->completions[i].user_data;
                int64_t result = e->completions[i].result;

                slot->error = request_error(e, result);
                done[i] = slot;
        }
        return nr;
}

static int uext4_side_sync(struct bench_engine *e)
{
        return e->opt->sync == BENCH_SYNC_FSYNC ? uext4_fsync(e->file)
                                                : uext4_fdatasync(e->file);
}

static const struct bench_side_ops uext4_side = {uext4_side_submit, uext4_side_wait,
                                                 uext4_side_sync};

/* ---- the uext4 side, buffered: one at a time ---------------------------- */

static int buffered_side_submit(struct bench_engine *e)
{
        struct bench_slot *slot = e->idle[0];
        uint64_t pos = e->base + slot->block * e->opt->block_size;
        ssize_t ret =
                slot->write ? uext4_pwritev2(e->file, &slot->iov, 1, pos, write_flags(e, slot))
                            : uext4_preadv2(e->file, &slot->iov, 1, pos, 0);

        slot->error = request_error(e, ret);
        e->finished[e->nr_finished++] = slot;
        e->nr_idle = 0;
        return 0;
}

int bench_take_finished(struct bench_engine *e, struct bench_slot **done)
{
        unsigned nr = e->nr_finished;

        memcpy(done, e->finished, nr * sizeof(*done));
        e->nr_finished = 0;
        return (int)nr;
}

static const struct bench_side_ops buffered_side = {buffered_side_submit, bench_take_finished,
                                                    uext4_side_sync};

/* ---- the measuring loop ------------------------------------------------- */

/* What to do next.  Both sides of a comparison start it alike. */
struct sequence {
        bool random, mixed, one_pass;
        bool write; /* unless mixed */
        uint64_t state;
        uint64_t nr_blocks;
        uint64_t left; /* blocks, of one pass */
};

static void sequence_start(struct sequence *seq, const struct bench_engine *e)
{
        const struct bench_options *opt = e->opt;

        *seq = (struct sequence){
                .random = is_random(opt->pattern),
                .mixed = opt->pattern == BENCH_PATTERN_RANDRW,
                .one_pass = is_one_pass(opt),
                .write = bench_pattern_writes(opt->pattern),
                .nr_blocks = e->nr_blocks,
                .left = e->nr_blocks,
        };
        if (seq->random)
                seq->state = random_start(opt->seed);
}

/* False when the pass is over. */
static inline bool sequence_next(struct sequence *seq, struct bench_slot *slot)
{
        uint64_t x = seq->state;

        if (seq->one_pass && seq->left-- == 0) {
                seq->left = 0;
                return false;
        }
        slot->write = seq->write;
        if (!seq->random) {
                seq->state = x + 1 < seq->nr_blocks ? x + 1 : 0;
                slot->block = x;
                return true;
        }
        x = random_next(&seq->state);
        slot->block = random_scale(x, seq->nr_blocks);
        if (seq->mixed)
                slot->write = x & 1u << 16; /* the upper bits are the position */
        return true;
}

static double timeval_seconds(struct timeval tv)
{
        return (double)tv.tv_sec + (double)tv.tv_usec / 1e6;
}

/* Adds to the CPU seconds of `r`; with sign -1 at the start and 1 at the end. */
static void cpu_count(struct bench_result *r, int sign)
{
        struct rusage usage;

        getrusage(RUSAGE_SELF, &usage);
        r->cpu_user += sign * timeval_seconds(usage.ru_utime);
        r->cpu_system += sign * timeval_seconds(usage.ru_stime);
}

/* Account for finished slots; they are idle afterwards. */
static void collect(struct bench_engine *e, struct bench_slot **done, int nr, uint64_t now,
                    struct bench_result *r)
{
        for (int i = 0; i < nr; i++) {
                struct bench_slot *slot = done[i];

                if (slot->error)
                        r->errors++;
                hist_add(&r->lat, now - slot->start_ns);
                e->idle[e->nr_idle++] = slot;
        }
        r->requests += (unsigned)nr;
}

/* Start slots with what comes next; those for which there is nothing stay behind. */
static int start_slots(struct bench_engine *e, const struct bench_side_ops *side,
                       struct sequence *seq, uint64_t now, unsigned *in_flight)
{
        unsigned nr = 0, room = e->nr_idle;
        int ret;

        while (nr < room && sequence_next(seq, e->idle[nr]))
                e->idle[nr++]->start_ns = now;
        if (nr == 0)
                return 0;
        e->nr_idle = nr;
        *in_flight += nr;
        ret = side->submit(e);
        /* What was left over moves to the front: submit has emptied the list. */
        memmove(e->idle, e->idle + nr, (room - nr) * sizeof(*e->idle));
        e->nr_idle = room - nr;
        return ret;
}

static bool must_sync(const struct bench_engine *e, struct bench_slot **done, int nr)
{
        if (e->opt->sync != BENCH_SYNC_FDATASYNC && e->opt->sync != BENCH_SYNC_FSYNC)
                return false;
        for (int i = 0; i < nr; i++)
                if (done[i]->write)
                        return true;
        return false;
}

static int run_loop(struct bench_engine *e, const struct bench_side_ops *side,
                    uint64_t runtime_ns, struct bench_slot **done, struct bench_result *r)
{
        struct sequence seq;
        uint64_t start = cli_clock_ns(), now = start, end = start + runtime_ns;
        unsigned in_flight = 0;

        sequence_start(&seq, e);
        for (;;) {
                int nr, ret = 0;

                if (now < end && e->nr_idle > 0)
                        ret = start_slots(e, side, &seq, now, &in_flight);
                if (ret < 0)
                        return ret;
                if (in_flight > r->max_in_flight)
                        r->max_in_flight = in_flight;
                if (in_flight == 0)
                        break;
                nr = side->wait(e, done);
                if (nr <= 0)
                        return nr < 0 ? nr : -EIO;
                if (must_sync(e, done, nr))
                        ret = side->sync(e);
                if (ret < 0)
                        return ret;
                now = cli_clock_ns();
                in_flight -= (unsigned)nr;
                collect(e, done, nr, now, r);
        }
        r->seconds = (double)(now - start) / 1e9;
        return 0;
}

static const struct bench_side_ops *side_ops(const struct bench_engine *e, enum bench_side side)
{
        if (side == BENCH_SIDE_RAW)
                return &bench_raw_side;
        return e->opt->direct ? &uext4_side : &buffered_side;
}

/* The first state of the file, for a pass that needs it, durably. */
static int prepare_pass(struct bench_engine *e)
{
        int ret = 0;

        if (e->opt->pattern == BENCH_PATTERN_APPEND)
                ret = uext4_truncate(e->file, e->base);
        else if (e->opt->prealloc)
                ret = uext4_fallocate(e->file, FALLOC_FL_ZERO_RANGE, 0,
                                      e->nr_blocks * e->opt->block_size);
        else
                return 0;
        return ret < 0 ? ret : uext4_syncfs(e->op->image->fs);
}

int bench_engine_run(struct bench_engine *e, enum bench_side side, uint64_t runtime_ns,
                     struct bench_result *r)
{
        struct bench_slot **done = cli_alloc(e->opt->depth, sizeof(*done));
        int ret;

        memset(r, 0, sizeof(*r));
        hist_init(&r->lat);
        ret = side == BENCH_SIDE_UEXT4 ? prepare_pass(e) : 0;
        if (ret < 0) {
                free(done);
                return ret;
        }
        e->nr_idle = 0;
        for (unsigned i = 0; i < e->opt->depth; i++)
                e->idle[e->nr_idle++] = &e->slots[i];
        uext4_get_stats(e->op->image->fs, &r->stats_before);
        cpu_count(r, -1);
        ret = run_loop(e, side_ops(e, side), runtime_ns, done, r);
        cpu_count(r, 1);
        uext4_get_stats(e->op->image->fs, &r->stats_after);
        r->bytes = (r->requests - r->errors) * e->opt->block_size;
        free(done);
        return ret;
}

bool bench_registered(struct bench_engine *e, int ret)
{
        if (ret < 0)
                cli_fail(e->cli, e->op->arg, "cannot register %zu bytes of memory: %s",
                         e->all_buffers.iov_len, cli_strerror(ret));
        return ret == 0;
}

static bool uext4_side_init(struct bench_engine *e)
{
        int ret = uext4_queue_new(e->op->image->fs, e->opt->depth, &e->queue);

        if (ret < 0) {
                cli_fail(e->cli, e->op->arg, "cannot make a queue: %s", cli_strerror(ret));
                return false;
        }
        e->requests = cli_alloc(e->opt->depth, sizeof(*e->requests));
        e->completions = cli_alloc(e->opt->depth, sizeof(*e->completions));
        for (unsigned i = 0; i < e->opt->depth; i++) {
                e->requests[i].file = e->file;
                e->requests[i].nr_iov = 1;
                e->requests[i].options = e->opt->fixed_buffers ? UEXT4_REQ_FIXED : 0;
        }
        if (e->opt->fixed_buffers)
                ret = uext4_queue_register(e->queue, &e->all_buffers, 1);
        return bench_registered(e, ret);
}

static void slots_init(struct bench_engine *e)
{
        size_t size = e->opt->block_size;

        e->slots = cli_alloc(e->opt->depth, sizeof(*e->slots));
        e->idle = cli_alloc(e->opt->depth, sizeof(*e->idle));
        e->finished = cli_alloc(e->opt->depth, sizeof(*e->finished));
        e->all_buffers.iov_len = e->opt->depth * size;
        e->all_buffers.iov_base = cli_alloc_aligned(65536, e->all_buffers.iov_len);
        /* The pages are there before the clock runs. */
        memset(e->all_buffers.iov_base, 0x5a, e->all_buffers.iov_len);
        for (unsigned i = 0; i < e->opt->depth; i++) {
                e->slots[i].buffer = (uint8_t *)e->all_buffers.iov_base + i * size;
                e->slots[i].iov.iov_base = e->slots[i].buffer;
                e->slots[i].iov.iov_len = size;
        }
}

/* Where block 0 is, and how many there are; false when there is none, which is said. */
static bool find_range(struct bench_engine *e)
{
        const struct uext4_stat *st = &e->op->st;
        uint64_t size = st->size;

        if (e->opt->pattern == BENCH_PATTERN_APPEND) {
                e->base = st->size;
                size = e->opt->size ? e->opt->size : APPEND_SIZE;
        } else if (e->opt->size && e->opt->size < size) {
                size = e->opt->size;
        }
        e->nr_blocks = size / e->opt->block_size;
        if (e->nr_blocks > 0)
                return true;
        cli_fail(e->cli, e->op->arg, "is smaller than one block of %" PRIu64 " bytes",
                 e->opt->block_size);
        return false;
}

/* Check that the file suits the options. */
static bool check_file(struct bench_engine *e)
{
        const char *what = bench_pattern_writes(e->opt->pattern) ? "requests" : "reads";
        const uint32_t align = e->op->st.dio_offset_align;

        if (!find_range(e))
                return false;
        if (!e->opt->direct)
                return true;
        if (align == 0) {
                cli_warn(e->cli, e->op->arg, "direct %s of this file are served buffered",
                         what);
        } else if (e->opt->block_size % align != 0) {
                cli_fail(e->cli, e->op->arg, "direct %s need blocks of a multiple of %" PRIu32,
                         what, align);
                return false;
        } else if (e->base % align != 0) {
                cli_fail(e->cli, e->op->arg,
                         "direct %s need a size that is a multiple of %" PRIu32, what, align);
                return false;
        }
        return true;
}

static bool engine_init(struct bench_engine *e)
{
        int flags = bench_pattern_writes(e->opt->pattern) ? O_RDWR : O_RDONLY;
        int ret = uext4_open(e->op->inode, flags | O_CLOEXEC | (e->opt->direct ? O_DIRECT : 0),
                             &e->file);

        if (ret < 0) {
                cli_fail_change(e->cli, e->op->arg, ret);
                return false;
        }
        if (!check_file(e))
                return false;
        slots_init(e);
        if ((e->opt->sides & 1u << BENCH_SIDE_UEXT4) && e->opt->direct && !uext4_side_init(e))
                return false;
        return !(e->opt->sides & 1u << BENCH_SIDE_RAW) || bench_raw_init(e);
}

/* What was appended goes. */
static void restore_file(struct bench_engine *e)
{
        int ret = 0;

        if (e->file && e->nr_blocks > 0 && e->opt->pattern == BENCH_PATTERN_APPEND)
                ret = uext4_truncate(e->file, e->base);
        if (ret < 0)
                cli_fail_change(e->cli, e->op->arg, ret);
}

void bench_engine_free(struct bench_engine *e)
{
        if (!e)
                return;
        uext4_queue_free(e->queue);
        bench_raw_done(e);
        restore_file(e);
        uext4_close(e->file);
        free(e->requests);
        free(e->completions);
        free(e->finished);
        free(e->idle);
        free(e->slots);
        free(e->all_buffers.iov_base);
        free(e);
}

struct bench_engine *bench_engine_new(struct cli *cli, const struct bench_options *opt,
                                      const struct cli_operand *op)
{
        struct bench_engine *e = cli_alloc(1, sizeof(*e));

        e->cli = cli;
        e->opt = opt;
        e->op = op;
        if (!engine_init(e)) {
                bench_engine_free(e);
                return NULL;
        }
        return e;
}

uint64_t bench_engine_size(const struct bench_engine *e)
{
        return e->nr_blocks * e->opt->block_size;
}
