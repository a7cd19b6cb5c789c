/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * exercise.c - `uext4 exercise`: write to files in all ways that direct I/O has, and keep a log
 * of it outside of the image, so that somebody else can tell, whatever happened to this process
 * or its machine, whether everything is there that had been acknowledged.
 *
 * A write is a line in the log before it is submitted, and an acknowledged one is one more line
 * once it is known to be durable: an O_DSYNC write when it has completed, others when an
 * fdatasync that began after that has returned.  A write over blocks that are written and
 * durable changes nothing but bytes, so it is acknowledged when it has completed: this is what
 * a process that dies must not lose.  No two writes under way touch the same bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/change.h"
#include "cli/exercise_log.h"
#include "cli/random.h"
#include "cli/text.h"

#define MAX_WRITE  (64u << 10) /* bytes */
#define MAX_DEPTH  1024u
#define SYNC_EVERY 48 /* one of so many completions is followed by an fdatasync */
#define TRIES      16 /* to find a range that is not under way */

enum kind {
        OVERWRITE,    /* written before the first round */
        HOLES,        /* anywhere in a large hole */
        PREALLOCATED, /* in allocated, unwritten space */
        EXTENDING,    /* at the end */
        UNALIGNED,    /* single sectors and odd numbers of them, in a hole */
        DSYNC,        /* all of these, with RWF_DSYNC */
        NR_KINDS,
};

static const struct {
        const char *name;
        uint64_t size; /* bytes: the range that is written to */
} kinds[NR_KINDS] = {
        [OVERWRITE] = {"overwrite", 8 << 20},        [HOLES] = {"holes", 64 << 20},
        [PREALLOCATED] = {"preallocated", 32 << 20}, [EXTENDING] = {"extending", 64 << 20},
        [UNALIGNED] = {"unaligned", 8 << 20},        [DSYNC] = {"dsync", 16 << 20},
};

struct options {
        const char *log;
        uint64_t writes, rounds, seed;
        unsigned depth;
};

struct target {
        struct uext4_file *file;
        char *name;     /* for messages */
        uint64_t end;   /* of what was written, or is being */
        uint64_t align; /* of positions and lengths, bytes */

        uint64_t *completed; /* writes that are not known to be durable */
        size_t nr_completed, room;
};

struct slot {
        unsigned target;
        uint64_t seq, pos, len;
        void *buffer;
        struct iovec iov;
        bool busy;
};

struct exercise {
        struct cli *cli;
        const struct options *opt;
        struct cli_operand *op;
        struct exercise_log *log;
        struct uext4_queue *queue;
        struct target targets[NR_KINDS];
        struct slot *slots;
        struct uext4_request *requests;
        struct uext4_completion *completions;
        void *buffers;
        unsigned in_flight;
        uint64_t next_seq, random, acknowledged, bytes;
        bool failed;
};

static uint64_t random_below(struct exercise *x, uint64_t n)
{
        return random_scale(random_next(&x->random), n);
}

static void fail(struct exercise *x, const struct target *t, int err)
{
        cli_fail_change(x->cli, t->name, err);
        x->failed = true;
}

/* False when the log cannot be written, which is said. */
static bool flush_log(struct exercise *x)
{
        if (exercise_log_flush(x->log) < 0)
                x->failed = true;
        return !x->failed;
}

/* ---- what is written ---------------------------------------------------- */

static bool is_under_way(const struct exercise *x, const struct slot *wanted)
{
        for (unsigned i = 0; i < x->opt->depth; i++) {
                const struct slot *s = &x->slots[i];

                if (s->busy && s->target == wanted->target &&
                    s->pos < wanted->pos + wanted->len && wanted->pos < s->pos + s->len)
                        return true;
        }
        return false;
}

/* A range somewhere in the first `size` bytes, of at most `max` bytes. */
static void choose_range(struct exercise *x, struct slot *s, uint64_t size, uint64_t max,
                         uint64_t align)
{
        s->len = (1 + random_below(x, max / align)) * align;
        s->pos = random_below(x, (size - s->len) / align + 1) * align;
}

static void choose_write(struct exercise *x, struct slot *s)
{
        struct target *t = &x->targets[s->target];
        const uint64_t size = kinds[s->target].size, block = x->op->st.blksize;

        if (s->target == UNALIGNED) {
                choose_range(x, s, size, 16 * t->align, t->align);
                return;
        }
        choose_range(x, s, size, random_below(x, 4) ? block : MAX_WRITE, block);
        if (s->target == EXTENDING || (s->target == DSYNC && random_below(x, 2)))
                if (t->end + s->len <= size)
                        s->pos = t->end;
}

/* Find a write for a free slot; false when all that were tried touch others. */
static bool slot_choose(struct exercise *x, struct slot *s)
{
        s->target = (unsigned)random_below(x, NR_KINDS);
        for (int i = 0; i < TRIES; i++) {
                choose_write(x, s);
                if (!is_under_way(x, s))
                        return true;
        }
        return false;
}

/* ---- running ------------------------------------------------------------ */

static void request_fill(struct exercise *x, struct slot *s, struct uext4_request *req)
{
        struct target *t = &x->targets[s->target];

        s->seq = x->next_seq++;
        s->busy = true;
        exercise_fill(s->buffer, s->seq, s->target, s->pos, s->len);
        s->iov = (struct iovec){s->buffer, s->len};
        if (s->pos + s->len > t->end)
                t->end = s->pos + s->len;
        *req = (struct uext4_request){
                .op = UEXT4_WRITE,
                .flags = s->target == DSYNC ? RWF_DSYNC : 0,
                .file = t->file,
                .iov = &s->iov,
                .nr_iov = 1,
                .pos = s->pos,
                .user_data = s,
        };
        exercise_log_write(x->log, s->seq, s->target, s->pos, s->len);
}

/* Submit up to `max` writes, which are in the log before. */
static unsigned submit(struct exercise *x, uint64_t max)
{
        unsigned nr = 0, taken = 0;

        for (unsigned i = 0; i < x->opt->depth && nr < max; i++)
                if (!x->slots[i].busy && slot_choose(x, &x->slots[i]))
                        request_fill(x, &x->slots[i], &x->requests[nr++]);
        if (!flush_log(x))
                return 0;
        while (taken < nr) {
                int ret = uext4_queue_submit(x->queue, x->requests + taken, nr - taken);

                if (ret <= 0) {
                        cli_fail_errno(x->cli, x->op->arg, ret < 0 ? ret : -EAGAIN);
                        x->failed = true;
                        break;
                }
                taken += (unsigned)ret;
        }
        x->in_flight += taken;
        return taken;
}

static void acknowledge(struct exercise *x, uint64_t seq)
{
        exercise_log_ack(x->log, seq);
        x->acknowledged++;
}

static void sync_target(struct exercise *x, struct target *t)
{
        int ret = uext4_fdatasync(t->file);

        if (ret < 0) {
                fail(x, t, ret);
                return;
        }
        for (size_t i = 0; i < t->nr_completed; i++)
                acknowledge(x, t->completed[i]);
        t->nr_completed = 0;
}

static void complete(struct exercise *x, struct slot *s, int64_t result)
{
        struct target *t = &x->targets[s->target];

        s->busy = false;
        if (result < 0 || (uint64_t)result != s->len) {
                fail(x, t, result < 0 ? (int)result : -ENOSPC);
                return;
        }
        x->bytes += s->len;
        if (s->target == OVERWRITE || s->target == DSYNC) {
                acknowledge(x, s->seq);
                return;
        }
        if (t->nr_completed == t->room) {
                t->room = 2 * t->room + 64;
                t->completed = cli_realloc(t->completed, t->room, sizeof(*t->completed));
        }
        t->completed[t->nr_completed++] = s->seq;
}

/* Wait for at least one write, if there are any. */
static void reap(struct exercise *x)
{
        int nr = uext4_queue_wait(x->queue, x->completions, 1, x->opt->depth, -1);

        if (nr < 0) {
                cli_fail_errno(x->cli, x->op->arg, nr);
                x->failed = true;
                return;
        }
        x->in_flight -= (unsigned)nr;
        for (int i = 0; i < nr; i++)
                complete(x, x->completions[i].user_data, x->completions[i].result);
        for (int i = 0; i < nr && !x->failed; i++)
                if (random_below(x, SYNC_EVERY) == 0)
                        sync_target(x, &x->targets[random_below(x, NR_KINDS)]);
        flush_log(x);
}

static void run_round(struct exercise *x, uint64_t round)
{
        uint64_t left = x->opt->writes;

        exercise_log_round(x->log, round);
        while (!x->failed && (left > 0 || x->in_flight > 0)) {
                left -= submit(x, left);
                if (x->in_flight > 0)
                        reap(x);
        }
        for (int i = 0; i < NR_KINDS && !x->failed; i++)
                sync_target(x, &x->targets[i]);
        flush_log(x);
}

/* ---- preparing ---------------------------------------------------------- */

static int overwrite_prepare(struct exercise *x, struct target *t)
{
        struct slot s = {.target = OVERWRITE, .len = MAX_WRITE};
        ssize_t n;
        int ret;

        for (; s.pos < kinds[OVERWRITE].size; s.pos += s.len) {
                s.seq = x->next_seq++;
                exercise_fill(x->slots[0].buffer, s.seq, s.target, s.pos, s.len);
                exercise_log_write(x->log, s.seq, s.target, s.pos, s.len);
                if (!flush_log(x))
                        return 0;
                n = uext4_pwrite(t->file, x->slots[0].buffer, s.len, s.pos);
                if (n < 0 || (uint64_t)n < s.len)
                        return n < 0 ? (int)n : -ENOSPC;
        }
        ret = uext4_fdatasync(t->file);
        for (uint64_t seq = 1; ret == 0 && seq < x->next_seq; seq++)
                acknowledge(x, seq);
        return ret;
}

/* The size with which the rounds begin. */
static uint64_t first_size(enum kind kind)
{
        return kind == EXTENDING || kind == DSYNC ? 0 : kinds[kind].size;
}

/* Put a file into the state in which its rounds begin: nothing of it is in the log before. */
static int target_prepare(struct exercise *x, struct target *t, enum kind kind)
{
        int ret = uext4_truncate(t->file, 0);

        if (ret == 0 && (kind == HOLES || kind == UNALIGNED))
                ret = uext4_truncate(t->file, kinds[kind].size);
        if (ret == 0 && kind == PREALLOCATED)
                ret = uext4_fallocate(t->file, 0, 0, kinds[kind].size);
        if (ret == -EOPNOTSUPP) /* without extents there is no such thing: a hole */
                ret = uext4_truncate(t->file, kinds[kind].size);
        if (ret == 0 && kind == OVERWRITE)
                ret = overwrite_prepare(x, t);
        return ret;
}

/* The file of this name, made when there is none. */
static int target_inode(struct exercise *x, const char *name, struct uext4_inode **ret_inode)
{
        int ret = uext4_lookup(x->op->inode, name, strlen(name), ret_inode);

        if (ret == -ENOENT)
                ret = uext4_create(x->op->inode, name, strlen(name), S_IFREG | 0600, ret_inode);
        return ret;
}

static bool target_open(struct exercise *x, enum kind kind)
{
        struct target *t = &x->targets[kind];
        struct uext4_inode *inode;
        struct uext4_stat st = {0};
        int ret = target_inode(x, kinds[kind].name, &inode);

        t->name = cli_operand_name(x->op, kinds[kind].name);
        if (ret == 0) {
                ret = uext4_open(inode, O_RDWR | O_DIRECT, &t->file);
                if (ret == 0)
                        ret = uext4_stat(inode, &st);
                uext4_inode_put(inode);
        }
        t->align = st.dio_offset_align > EXERCISE_UNIT ? st.dio_offset_align : EXERCISE_UNIT;
        if (ret == 0)
                exercise_log_file(x->log, kind, kinds[kind].name, first_size(kind));
        if (ret == 0)
                ret = target_prepare(x, t, kind);
        if (ret < 0)
                fail(x, t, ret);
        return !x->failed;
}

static bool prepare(struct exercise *x)
{
        int ret = uext4_queue_new(x->op->image->fs, x->opt->depth, &x->queue);

        if (ret < 0) {
                cli_fail_errno(x->cli, x->op->arg, ret);
                return false;
        }
        x->slots = cli_alloc(x->opt->depth, sizeof(*x->slots));
        x->requests = cli_alloc(x->opt->depth, sizeof(*x->requests));
        x->completions = cli_alloc(x->opt->depth, sizeof(*x->completions));
        x->buffers = cli_alloc_aligned(65536, x->opt->depth * (size_t)MAX_WRITE);
        for (unsigned i = 0; i < x->opt->depth; i++)
                x->slots[i].buffer = (uint8_t *)x->buffers + i * (size_t)MAX_WRITE;
        for (int i = 0; i < NR_KINDS; i++)
                if (!target_open(x, (enum kind)i))
                        return false;
        /* What the rounds begin with must be there, too. */
        ret = uext4_syncfs(x->op->image->fs);
        if (ret < 0)
                cli_fail_errno(x->cli, x->op->arg, ret);
        return ret == 0;
}

static void cleanup(struct exercise *x)
{
        uext4_queue_free(x->queue);
        for (int i = 0; i < NR_KINDS; i++) {
                uext4_close(x->targets[i].file);
                free(x->targets[i].name);
                free(x->targets[i].completed);
        }
        free(x->buffers);
        free(x->completions);
        free(x->requests);
        free(x->slots);
}

/* ---- the command -------------------------------------------------------- */

static void exercise(struct exercise *x)
{
        char bytes[TEXT_BYTES_MAX];
        uint64_t start;

        if (prepare(x)) {
                start = cli_clock_ns();
                for (uint64_t i = 1; i <= x->opt->rounds && !x->failed; i++)
                        run_round(x, i);
                if (!x->failed)
                        printf("%" PRIu64 " writes, %s, %" PRIu64 " acknowledged, in %.2f s\n",
                               x->opt->rounds * x->opt->writes, text_bytes(bytes, x->bytes),
                               x->acknowledged, (double)(cli_clock_ns() - start) / 1e9);
        }
        cleanup(x);
}

static void exercise_operand(struct cli *cli, const struct options *opt, struct cli_operand *op)
{
        struct exercise x = {
                .cli = cli,
                .opt = opt,
                .op = op,
                .next_seq = 1,
                .random = random_start(opt->seed),
        };

        if (op->st.blksize > MAX_WRITE) {
                cli_fail(cli, op->arg, "blocks of more than %u bytes", MAX_WRITE);
                return;
        }
        x.log = exercise_log_new(cli, opt->log);
        if (x.log)
                exercise(&x);
        exercise_log_free(x.log);
}

enum {
        OPT_LOG = CLI_OPT_FIRST,
        OPT_WRITES,
        OPT_ROUNDS,
        OPT_IODEPTH,
        OPT_SEED,
};

static void parse_option(struct cli *cli, int o, struct options *opt)
{
        switch (o) {
        case OPT_LOG:
                opt->log = optarg;
                break;
        case OPT_WRITES:
                opt->writes = cli_option_size(cli, "count", optarg, 1, UINT32_MAX);
                break;
        case OPT_ROUNDS:
                opt->rounds = cli_option_size(cli, "count", optarg, 1, UINT32_MAX);
                break;
        case OPT_IODEPTH:
                opt->depth = (unsigned)cli_option_size(cli, "I/O depth", optarg, 1, MAX_DEPTH);
                break;
        case OPT_SEED:
                opt->seed = cli_option_size(cli, "seed", optarg, 0, INT64_MAX);
                break;
        }
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"log", required_argument, NULL, OPT_LOG},
                {"writes", required_argument, NULL, OPT_WRITES},
                {"rounds", required_argument, NULL, OPT_ROUNDS},
                {"iodepth", required_argument, NULL, OPT_IODEPTH},
                {"seed", required_argument, NULL, OPT_SEED},
                CLI_LONG_OPTIONS,
        };
        struct options opt = {.writes = 10000, .rounds = 1, .seed = 1, .depth = 32};
        const char *arg;
        struct cli_operand op;
        int o;

        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS, longs)) != -1)
                parse_option(cli, o, &opt);
        arg = cli_one_operand(cli, argc, argv);
        if (!opt.log)
                cli_usage_error(cli, "specify --log");
        if (cli_operand_open(cli, arg, CLI_FOLLOW, &op)) {
                exercise_operand(cli, &opt, &op);
                cli_operand_close(&op);
        }
}

const struct cli_command cli_exercise = {
        .name = "exercise",
        .summary = "write in all ways, with a log for who checks it",
        .usage = "Usage: uext4 exercise [OPTION]... --log=FILE IMAGE:/DIR\n"
                 "Write to six files in DIR by asynchronous direct I/O: overwrites, into "
                 "holes,\n"
                 "into preallocated space, at the end, unaligned, with O_DSYNC.  What they\n"
                 "held is lost.  FILE says what was written, and what of that is durable.\n"
                 "\n"
                 "      --log=FILE         the log; an older one is replaced\n"
                 "      --writes=N         writes of a round (default 10000)\n"
                 "      --rounds=N         rounds (default 1); all is durable at their ends\n"
                 "      --iodepth=N        writes in flight (default 32)\n"
                 "      --seed=N           of sizes and positions (default 1)\n",
        .run = run,
        .alone = true,
        .writes = true,
};
