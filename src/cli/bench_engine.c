/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bench_engine.c - the measuring loop of `uext4 bench` and its two sides (see bench_engine.h).
 *
 * Two sides do the same work: `uext4` reads the file through a uext4 queue, `raw` reads the
 * same blocks at the places of the device where the file has them, through a queue of the same
 * device, with the same depth and the same buffers.  Where they are is looked up once, before
 * the clock runs: each block of the file has a row of pieces, one in a file that is not
 * fragmented.  A hole has none; then there is nothing to do for the raw side, as there is
 * nothing for the device in the other.
 *
 * One loop measures both, so that its own cost is the same:
 *
 *      submit all free slots ─► wait for at least one ─► read the clock once
 *         ▲                                                        │
 *         └──── latency of each finished slot to the histogram ◄───┘
 *
 * The clock that ends one batch starts the next.  A side is a pair of functions that
 * are called once per batch, not per request.
 */
#include "cli/bench_engine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "cli/filemap.h"

#define MAX_RAW_BLOCKS (1u << 24) /* bounds the table of the raw side: 32 bytes each */

/* ---- what both sides share ---------------------------------------------- */

struct slot {
        void *buffer;
        struct iovec iov; /* all of the buffer */
        uint64_t start_ns;
        uint64_t block; /* of the file */
        int error;
        unsigned pieces_left;       /* raw */
        struct raw_request *pieces; /* raw */
};

struct raw_request {
        struct uext4_bdev_req req; /* first, so that done() finds us */
        struct iovec iov;
        struct slot *slot;
        struct bench_engine *engine;
};

struct bench_engine {
        struct cli *cli;
        const struct bench_options *opt;
        const struct cli_operand *op;
        struct uext4_file *file;
        uint64_t nr_blocks;

        struct slot *slots;
        void *buffers;
        struct slot **idle; /* slots to submit */
        unsigned nr_idle;

        struct uext4_queue *queue; /* uext4 */
        struct uext4_request *requests;
        struct uext4_completion *completions;

        struct uext4_bdev_queue *raw_queue; /* raw */
        struct filemap_piece *pieces;
        size_t nr_pieces;
        size_t *first_piece; /* of each block; one more at the end */
        struct raw_request *raw_requests;
        struct slot **finished; /* by done(), until wait() takes them */
        unsigned nr_finished;
};

/*
 * submit() starts all slots in engine->idle; wait() puts at least one finished slot into
 * done[] and returns how many.  Negative errno when the queue is broken.
 */
struct side_ops {
        int (*submit)(struct bench_engine *e);
        int (*wait)(struct bench_engine *e, struct slot **done);
};

/* ---- the uext4 side, direct --------------------------------------------- */

static int uext4_side_submit(struct bench_engine *e)
{
        unsigned taken = 0;

        for (unsigned i = 0; i < e->nr_idle; i++) {
                struct uext4_request *req = &e->requests[i];

                req->iov = &e->idle[i]->iov;
                req->pos = e->idle[i]->block * e->opt->block_size;
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

static int uext4_side_wait(struct bench_engine *e, struct slot **done)
{
        int nr = uext4_queue_wait(e->queue, e->completions, 1, e->opt->depth, -1);

        for (int i = 0; i < nr; i++) {
                struct slot *slot = e->completions[i].user_data;
                int64_t result = e->completions[i].result;

                slot->error = result < 0                              ? (int)result
                              : (uint64_t)result < e->opt->block_size ? -EIO
                                                                      : 0;
                done[i] = slot;
        }
        return nr;
}

static const struct side_ops uext4_side = {uext4_side_submit, uext4_side_wait};

/* ---- the uext4 side, buffered: pread, one at a time --------------------- */

static int pread_side_submit(struct bench_engine *e)
{
        struct slot *slot = e->idle[0];
        ssize_t ret = uext4_pread(e->file, slot->buffer, e->opt->block_size,
                                  slot->block * e->opt->block_size);

        slot->error = ret < 0 ? (int)ret : (uint64_t)ret < e->opt->block_size ? -EIO : 0;
        e->finished[e->nr_finished++] = slot;
        e->nr_idle = 0;
        return 0;
}

static int take_finished(struct bench_engine *e, struct slot **done)
{
        unsigned nr = e->nr_finished;

        memcpy(done, e->finished, nr * sizeof(*done));
        e->nr_finished = 0;
        return (int)nr;
}

static const struct side_ops pread_side = {pread_side_submit, take_finished};

/* ---- the raw side ------------------------------------------------------- */

static void slot_piece_done(struct bench_engine *e, struct slot *slot, int error)
{
        if (error && !slot->error)
                slot->error = error;
        if (--slot->pieces_left == 0)
                e->finished[e->nr_finished++] = slot;
}

static void raw_done(struct uext4_bdev_req *req)
{
        struct raw_request *raw = (struct raw_request *)req;

        slot_piece_done(raw->engine, raw->slot, req->result);
}

static void raw_slot_start(struct bench_engine *e, struct slot *slot)
{
        size_t first = e->first_piece[slot->block];
        unsigned nr = (unsigned)(e->first_piece[slot->block + 1] - first);

        slot->error = 0;
        slot->pieces_left =
                nr + 1; /* one for this function, so that it ends here at the earliest */
        for (unsigned i = 0; i < nr; i++) {
                const struct filemap_piece *piece = &e->pieces[first + i];
                struct raw_request *raw = &slot->pieces[i];
                int ret;

                raw->iov.iov_base = (uint8_t *)slot->buffer +
                                    (piece->file_pos - slot->block * e->opt->block_size);
                raw->iov.iov_len = piece->len;
                raw->req.pos = piece->pos;
                raw->req.len = piece->len;
                ret = uext4_bdev_queue_add(e->raw_queue, &raw->req);
                if (ret < 0)
                        slot_piece_done(e, slot, ret);
        }
        slot_piece_done(e, slot, 0);
}

static int raw_side_submit(struct bench_engine *e)
{
        for (unsigned i = 0; i < e->nr_idle; i++)
                raw_slot_start(e, e->idle[i]);
        e->nr_idle = 0;
        return uext4_bdev_queue_kick(e->raw_queue);
}

static int raw_side_wait(struct bench_engine *e, struct slot **done)
{
        while (e->nr_finished == 0) {
                int ret = uext4_bdev_queue_drive(e->raw_queue, -1);

                if (ret < 0)
                        return ret;
        }
        return take_finished(e, done);
}

static const struct side_ops raw_side = {raw_side_submit, raw_side_wait};

/* ---- the measuring loop ------------------------------------------------- */

/* What to read next.  Both sides of a comparison start it alike. */
struct sequence {
        enum bench_pattern pattern;
        uint64_t state;
        uint64_t nr_blocks;
};

static void sequence_start(struct sequence *seq, const struct bench_engine *e)
{
        seq->pattern = e->opt->pattern;
        seq->nr_blocks = e->nr_blocks;
        /* xorshift must not start at 0 */
        seq->state = seq->pattern == BENCH_PATTERN_RANDOM ? e->opt->seed * 2 + 1 : 0;
}

static inline uint64_t sequence_next(struct sequence *seq)
{
        uint64_t x = seq->state;

        if (seq->pattern == BENCH_PATTERN_SEQUENTIAL) {
                seq->state = x + 1 < seq->nr_blocks ? x + 1 : 0;
                return x;
        }
        x ^= x >> 12; /* xorshift64* */
        x ^= x << 25;
        x ^= x >> 27;
        seq->state = x;
        x *= 0x2545f4914f6cdd1du;
        return (uint64_t)(((unsigned __int128)x * seq->nr_blocks) >> 64);
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
static void collect(struct bench_engine *e, struct slot **done, int nr, uint64_t now,
                    struct bench_result *r)
{
        for (int i = 0; i < nr; i++) {
                struct slot *slot = done[i];

                if (slot->error)
                        r->errors++;
                hist_add(&r->lat, now - slot->start_ns);
                e->idle[e->nr_idle++] = slot;
        }
        r->requests += (unsigned)nr;
}

static int run_loop(struct bench_engine *e, const struct side_ops *side, uint64_t runtime_ns,
                    struct slot **done, struct bench_result *r)
{
        struct sequence seq;
        uint64_t start = cli_clock_ns(), now = start, end = start + runtime_ns;
        unsigned in_flight = 0;

        sequence_start(&seq, e);
        for (;;) {
                int ret;

                if (now < end && e->nr_idle > 0) {
                        for (unsigned i = 0; i < e->nr_idle; i++) {
                                e->idle[i]->block = sequence_next(&seq);
                                e->idle[i]->start_ns = now;
                        }
                        in_flight += e->nr_idle;
                        if (in_flight > r->max_in_flight)
                                r->max_in_flight = in_flight;
                        ret = side->submit(e);
                        if (ret < 0)
                                return ret;
                }
                if (in_flight == 0)
                        break;
                ret = side->wait(e, done);
                if (ret <= 0)
                        return ret < 0 ? ret : -EIO;
                now = cli_clock_ns();
                in_flight -= (unsigned)ret;
                collect(e, done, ret, now, r);
        }
        r->seconds = (double)(now - start) / 1e9;
        return 0;
}

static const struct side_ops *side_ops(const struct bench_engine *e, enum bench_side side)
{
        if (side == BENCH_SIDE_RAW)
                return &raw_side;
        return e->opt->direct ? &uext4_side : &pread_side;
}

int bench_engine_run(struct bench_engine *e, enum bench_side side, uint64_t runtime_ns,
                     struct bench_result *r)
{
        struct slot **done = cli_alloc(e->opt->depth, sizeof(*done));
        int ret;

        memset(r, 0, sizeof(*r));
        hist_init(&r->lat);
        e->nr_idle = 0;
        for (unsigned i = 0; i < e->opt->depth; i++)
                e->idle[e->nr_idle++] = &e->slots[i];
        cpu_count(r, -1);
        ret = run_loop(e, side_ops(e, side), runtime_ns, done, r);
        cpu_count(r, 1);
        r->bytes = (r->requests - r->errors) * e->opt->block_size;
        free(done);
        return ret;
}

/* ---- preparing ---------------------------------------------------------- */

static size_t raw_pieces_add(struct bench_engine *e, size_t room,
                             const struct filemap_piece *piece)
{
        if (e->nr_pieces == room) {
                room = 2 * room + 1024;
                e->pieces = cli_realloc(e->pieces, room, sizeof(*e->pieces));
        }
        e->pieces[e->nr_pieces++] = *piece;
        return room;
}

/* Fill in e->pieces; returns how many pieces the most scattered block has. */
static size_t raw_table_fill(struct bench_engine *e, const struct filemap *map)
{
        struct filemap_iter at = {0};
        size_t room = 0, most = 0;

        for (uint64_t block = 0; block < e->nr_blocks; block++) {
                uint64_t pos = block * e->opt->block_size, end = pos + e->opt->block_size;
                struct filemap_piece piece;

                e->first_piece[block] = e->nr_pieces;
                while (filemap_next(map, &at, pos, end, &piece)) {
                        room = raw_pieces_add(e, room, &piece);
                        pos = piece.file_pos + piece.len;
                }
                if (e->nr_pieces - e->first_piece[block] > most)
                        most = e->nr_pieces - e->first_piece[block];
        }
        e->first_piece[e->nr_blocks] = e->nr_pieces;
        return most;
}

static void raw_slots_init(struct bench_engine *e, size_t most)
{
        e->raw_requests = cli_alloc(e->opt->depth * most, sizeof(*e->raw_requests));
        for (unsigned i = 0; i < e->opt->depth; i++) {
                struct slot *slot = &e->slots[i];

                slot->pieces = e->raw_requests + i * most;
                for (size_t k = 0; k < most; k++) {
                        struct raw_request *raw = &slot->pieces[k];

                        raw->slot = slot;
                        raw->engine = e;
                        raw->req.op = UEXT4_BDEV_READ;
                        raw->req.iov = &raw->iov;
                        raw->req.nr_iov = 1;
                        raw->req.done = raw_done;
                }
        }
}

static bool raw_side_init(struct bench_engine *e)
{
        struct filemap map;
        size_t most;
        int ret;

        if (e->nr_blocks > MAX_RAW_BLOCKS) {
                cli_fail(e->cli, e->op->arg, "too many blocks for --raw; use --size");
                return false;
        }
        ret = filemap_read(e->file, &map);
        if (ret < 0) {
                cli_fail(e->cli, e->op->arg, "cannot map: %s", cli_strerror(ret));
                return false;
        }
        e->first_piece = cli_alloc(e->nr_blocks + 1, sizeof(*e->first_piece));
        most = raw_table_fill(e, &map);
        filemap_done(&map);
        if (most == 0) {
                cli_fail(e->cli, e->op->arg, "has no blocks on the device");
                return false;
        }
        raw_slots_init(e, most);
        ret = uext4_bdev_queue_new(e->op->image->dev, e->opt->depth, &e->raw_queue);
        if (ret < 0)
                cli_fail(e->cli, e->op->arg, "cannot make a queue: %s", cli_strerror(ret));
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
                e->requests[i].op = UEXT4_READ;
                e->requests[i].file = e->file;
                e->requests[i].nr_iov = 1;
        }
        return true;
}

static void slots_init(struct bench_engine *e)
{
        size_t size = e->opt->block_size;

        e->slots = cli_alloc(e->opt->depth, sizeof(*e->slots));
        e->idle = cli_alloc(e->opt->depth, sizeof(*e->idle));
        e->finished = cli_alloc(e->opt->depth, sizeof(*e->finished));
        e->buffers = cli_alloc_aligned(65536, e->opt->depth * size);
        memset(e->buffers, 0,
               e->opt->depth * size); /* the pages are there before the clock runs */
        for (unsigned i = 0; i < e->opt->depth; i++) {
                e->slots[i].buffer = (uint8_t *)e->buffers + i * size;
                e->slots[i].iov.iov_base = e->slots[i].buffer;
                e->slots[i].iov.iov_len = size;
        }
}

/* Check that the file suits the options; fills in nr_blocks. */
static bool check_file(struct bench_engine *e)
{
        const struct uext4_stat *st = &e->op->st;
        uint64_t size = st->size;

        if (e->opt->size && e->opt->size < size)
                size = e->opt->size;
        e->nr_blocks = size / e->opt->block_size;
        if (e->nr_blocks == 0) {
                cli_fail(e->cli, e->op->arg, "is smaller than one block of %" PRIu64 " bytes",
                         e->opt->block_size);
                return false;
        }
        if (e->opt->direct && st->dio_offset_align == 0)
                cli_warn(e->cli, e->op->arg, "direct reads of this file are served buffered");
        else if (e->opt->direct && e->opt->block_size % st->dio_offset_align != 0) {
                cli_fail(e->cli, e->op->arg,
                         "direct reads need blocks of a multiple of %" PRIu32,
                         st->dio_offset_align);
                return false;
        }
        return true;
}

static bool engine_init(struct bench_engine *e)
{
        int flags = O_RDONLY | O_CLOEXEC | (e->opt->direct ? O_DIRECT : 0);
        int ret = uext4_open(e->op->inode, flags, &e->file);

        if (ret < 0) {
                cli_fail_errno(e->cli, e->op->arg, ret);
                return false;
        }
        if (!check_file(e))
                return false;
        slots_init(e);
        if ((e->opt->sides & 1u << BENCH_SIDE_UEXT4) && e->opt->direct && !uext4_side_init(e))
                return false;
        return !(e->opt->sides & 1u << BENCH_SIDE_RAW) || raw_side_init(e);
}

void bench_engine_free(struct bench_engine *e)
{
        if (!e)
                return;
        uext4_queue_free(e->queue);
        uext4_bdev_queue_free(e->raw_queue);
        uext4_close(e->file);
        free(e->requests);
        free(e->completions);
        free(e->raw_requests);
        free(e->pieces);
        free(e->first_piece);
        free(e->finished);
        free(e->idle);
        free(e->slots);
        free(e->buffers);
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
