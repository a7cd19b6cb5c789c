/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bench.c - `uext4 bench`: how fast a file is read or written, and how fast the bare device
 * would be.
 *
 * Here are options, runs and medians; bench_engine.c measures, bench_result.c prints a run.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench_engine.h"
#include "cli/bench_result.h"
#include "cli/json.h"
#include "cli/stats.h"
#include "cli/text.h"

#define MAX_DEPTH      65536u
#define MAX_BLOCK_SIZE (64u << 20)
#define MAX_REPEAT     1000u
#define WARM_UP_NS     200000000u /* before the first run of a side, not counted */

static const char *const pattern_names[] = {"read",      "randread", "write",
                                            "randwrite", "randrw",   "append"};
static const char *const sync_names[] = {"none", "dsync", "fdatasync", "fsync"};

struct options {
        struct bench_options engine;
        double runtime; /* seconds */
        unsigned repeat;
        bool raw, compare, json, stats;
};

struct bench {
        struct cli *cli;
        const struct options *opt;
        const struct cli_operand *op;
        struct bench_engine *engine;
        struct uext4_stats stats; /* of all runs that count */
};

static bool side_is_used(const struct options *opt, enum bench_side side)
{
        return opt->engine.sides & 1u << side;
}

/* ---- medians ------------------------------------------------------------ */

static int compare_doubles(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

/* Of all runs of one side. */
struct side_summary {
        double *iops;
        unsigned nr;
};

/* Sorts. */
static double median(double *values, unsigned nr)
{
        qsort(values, nr, sizeof(*values), compare_doubles);
        if (nr % 2 == 1)
                return values[nr / 2];
        return (values[nr / 2 - 1] + values[nr / 2]) / 2;
}

struct medians {
        double iops[BENCH_NR_SIDES];

        /* Of the ratios of the runs next to each other: a load of the machine that comes and
         * goes hits both of a pair. */
        double pair_ratio;
};

static struct medians find_medians(const struct options *opt, struct side_summary *summary)
{
        const double *uext4 = summary[BENCH_SIDE_UEXT4].iops,
                     *raw = summary[BENCH_SIDE_RAW].iops;
        struct medians m = {0};

        if (opt->compare) {
                double *ratios = cli_alloc(opt->repeat, sizeof(*ratios));

                for (unsigned i = 0; i < opt->repeat; i++)
                        ratios[i] = raw[i] > 0 ? uext4[i] / raw[i] : 0;
                m.pair_ratio = median(ratios, opt->repeat);
                free(ratios);
        }
        for (int side = 0; side < BENCH_NR_SIDES; side++)
                if (side_is_used(opt, (enum bench_side)side))
                        m.iops[side] = median(summary[side].iops, summary[side].nr);
        return m;
}

static double median_ratio(const struct medians *m)
{
        return m->iops[BENCH_SIDE_RAW] > 0 ? m->iops[BENCH_SIDE_UEXT4] / m->iops[BENCH_SIDE_RAW]
                                           : 0;
}

static void print_medians(const struct options *opt, const struct medians *m)
{
        for (int side = 0; side < BENCH_NR_SIDES; side++)
                if (side_is_used(opt, (enum bench_side)side))
                        printf("median of %u, %s: IOPS=%.0f, BW=%.1f MB/s\n", opt->repeat,
                               bench_side_name((enum bench_side)side), m->iops[side],
                               m->iops[side] * (double)opt->engine.block_size / 1e6);
        if (opt->compare)
                printf("ratio uext4/raw: %.3f (median of pairs: %.3f)\n", median_ratio(m),
                       m->pair_ratio);
}

static void json_medians(json_t *top, const struct options *opt, const struct medians *m)
{
        json_t *object = json_object();

        for (int side = 0; side < BENCH_NR_SIDES; side++)
                if (side_is_used(opt, (enum bench_side)side))
                        json_add_real(object, bench_side_name((enum bench_side)side),
                                      m->iops[side]);
        json_add(top, "median_iops", object);
        if (opt->compare) {
                json_add_real(top, "ratio", median_ratio(m));
                json_add_real(top, "pair_ratio", m->pair_ratio);
        }
}

static json_t *json_head(const struct bench *b)
{
        const struct options *opt = b->opt;
        json_t *top = json_object();

        json_add_text(top, "file", b->op->arg);
        json_add_text(top, "rw", pattern_names[opt->engine.pattern]);
        json_add_uint(top, "block_size", opt->engine.block_size);
        json_add_uint(top, "iodepth", opt->engine.depth);
        if (bench_pattern_writes(opt->engine.pattern)) {
                json_add_text(top, "sync", sync_names[opt->engine.sync]);
                json_add_bool(top, "prealloc", opt->engine.prealloc);
        }
        json_add_bool(top, "direct", opt->engine.direct);
        json_add_bool(top, "fixedbufs", opt->engine.fixed_buffers);
        json_add_uint(top, "size", bench_engine_size(b->engine));
        json_add_uint(top, "seed", opt->engine.seed);
        json_add_real(top, "runtime", opt->runtime);
        return top;
}

static void print_json(const struct bench *b, json_t *runs, const struct medians *m)
{
        json_t *top = json_head(b);

        json_add(top, "runs", json_incref(runs));
        json_medians(top, b->opt, m);
        if (b->opt->stats)
                json_add(top, "stats", stats_json(&b->stats));
        json_print(top);
}

static void print_head(const struct bench *b)
{
        char size[TEXT_BYTES_MAX], bs[TEXT_BYTES_MAX];

        printf("%s: rw=%s, bs=%s, iodepth=%u, direct=%d, size=%s, seed=%" PRIu64, b->op->arg,
               pattern_names[b->opt->engine.pattern], text_bytes(bs, b->opt->engine.block_size),
               b->opt->engine.depth, b->opt->engine.direct,
               text_bytes(size, bench_engine_size(b->engine)), b->opt->engine.seed);
        if (bench_pattern_writes(b->opt->engine.pattern))
                printf(", sync=%s%s", sync_names[b->opt->engine.sync],
                       b->opt->engine.prealloc ? ", prealloc" : "");
        puts(b->opt->engine.fixed_buffers ? ", fixedbufs" : "");
}

/* ---- the command -------------------------------------------------------- */

/* One run of one side: measured, printed, added to the summary.  False when it broke. */
static bool run_one(struct bench *b, enum bench_side side, struct side_summary *summary,
                    json_t *runs)
{
        struct bench_result *r = cli_alloc(1, sizeof(*r)); /* the histogram is big */
        int ret = bench_engine_run(b->engine, side, (uint64_t)(b->opt->runtime * 1e9), r);

        if (ret == 0)
                stats_add(&b->stats, &r->stats_before, &r->stats_after);
        if (ret < 0) {
                cli_fail_errno(b->cli, b->op->arg, ret);
        } else {
                summary[side].iops[summary[side].nr++] = bench_result_iops(r);
                if (r->errors)
                        cli_fail(b->cli, b->op->arg, "%s: %" PRIu64 " requests failed",
                                 bench_side_name((enum bench_side)side), r->errors);
                if (runs)
                        json_push(runs, bench_result_json(side, r));
                else
                        bench_result_print(side, r);
        }
        free(r);
        return ret == 0;
}

static bool warm_up(struct bench *b, enum bench_side side)
{
        struct bench_result *r = cli_alloc(1, sizeof(*r));
        int ret = bench_engine_run(b->engine, side, WARM_UP_NS, r);

        if (ret < 0)
                cli_fail_errno(b->cli, b->op->arg, ret);
        free(r);
        return ret == 0;
}

/* All runs, the sides in turn; which is first changes, so that a drift of the machine
 * hits both. */
static bool run_all(struct bench *b, struct side_summary *summary, json_t *runs)
{
        for (int side = 0; side < BENCH_NR_SIDES; side++)
                if (side_is_used(b->opt, (enum bench_side)side) &&
                    !warm_up(b, (enum bench_side)side))
                        return false;
        for (unsigned i = 0; i < b->opt->repeat; i++) {
                for (unsigned k = 0; k < BENCH_NR_SIDES; k++) {
                        enum bench_side side = (enum bench_side)((i + k) % BENCH_NR_SIDES);

                        if (side_is_used(b->opt, side) && !run_one(b, side, summary, runs))
                                return false;
                }
        }
        return true;
}

static void print_stats(const struct bench *b)
{
        puts("counters of all runs:");
        stats_print(&b->stats, "  ");
}

static void bench_run(struct bench *b)
{
        const struct options *opt = b->opt;
        struct side_summary summary[BENCH_NR_SIDES] = {0};
        json_t *runs = opt->json ? json_array() : NULL;

        for (int side = 0; side < BENCH_NR_SIDES; side++)
                summary[side].iops = cli_alloc(opt->repeat, sizeof(double));
        if (!opt->json)
                print_head(b);
        if (run_all(b, summary, runs)) {
                struct medians m = find_medians(opt, summary);

                if (opt->json)
                        print_json(b, runs, &m);
                else if (opt->repeat > 1 || opt->compare)
                        print_medians(opt, &m);
                if (opt->stats && !opt->json)
                        print_stats(b);
        }
        json_decref(runs);
        for (int side = 0; side < BENCH_NR_SIDES; side++)
                free(summary[side].iops);
}

enum {
        OPT_RW = CLI_OPT_FIRST,
        OPT_BS,
        OPT_IODEPTH,
        OPT_RUNTIME,
        OPT_DIRECT,
        OPT_RAW,
        OPT_SIZE,
        OPT_SEED,
        OPT_REPEAT,
        OPT_COMPARE,
        OPT_JSON,
        OPT_SYNC,
        OPT_PREALLOC,
        OPT_STATS,
        OPT_FIXEDBUFS,
};

/* The index of a word in a list; a usage error otherwise. */
static unsigned parse_word(struct cli *cli, const char *option, const char *value,
                           const char *const *words, unsigned nr)
{
        for (unsigned i = 0; i < nr; i++)
                if (strcmp(value, words[i]) == 0)
                        return i;
        cli_usage_error(cli, "invalid value of %s: '%s'", option, value);
}

static double parse_runtime(struct cli *cli, const char *value)
{
        char *end;
        double seconds = strtod(value, &end);

        if (end == value || *end != '\0' || !(seconds > 0 && seconds <= 1e6))
                cli_usage_error(cli, "invalid runtime: '%s'", value);
        return seconds;
}

static void parse_option(struct cli *cli, int o, struct options *opt)
{
        switch (o) {
        case OPT_RW:
                opt->engine.pattern = (enum bench_pattern)parse_word(
                        cli, "--rw", optarg, pattern_names, BENCH_NR_PATTERNS);
                break;
        case OPT_SYNC:
                opt->engine.sync = (enum bench_sync)parse_word(cli, "--sync", optarg,
                                                               sync_names, BENCH_NR_SYNCS);
                break;
        case OPT_PREALLOC:
                opt->engine.prealloc = true;
                break;
        case OPT_STATS:
                opt->stats = true;
                break;
        case OPT_FIXEDBUFS:
                opt->engine.fixed_buffers = true;
                break;
        case OPT_BS:
                opt->engine.block_size =
                        cli_option_size(cli, "block size", optarg, 512, MAX_BLOCK_SIZE);
                break;
        case OPT_IODEPTH:
                opt->engine.depth =
                        (unsigned)cli_option_size(cli, "I/O depth", optarg, 1, MAX_DEPTH);
                break;
        case OPT_RUNTIME:
                opt->runtime = parse_runtime(cli, optarg);
                break;
        case OPT_DIRECT:
                opt->engine.direct = cli_option_bool(cli, "--direct", optarg);
                break;
        case OPT_RAW:
                opt->raw = true;
                break;
        case OPT_SIZE:
                opt->engine.size = cli_option_size(cli, "size", optarg, 1, INT64_MAX);
                break;
        case OPT_SEED:
                opt->engine.seed = cli_option_size(cli, "seed", optarg, 0, INT64_MAX);
                break;
        case OPT_REPEAT:
                opt->repeat = (unsigned)cli_option_size(cli, "count", optarg, 1, MAX_REPEAT);
                break;
        case OPT_COMPARE:
                opt->compare = true;
                break;
        case OPT_JSON:
                opt->json = true;
                break;
        }
}

static void check_write_options(struct cli *cli, const struct options *opt)
{
        const enum bench_pattern pattern = opt->engine.pattern;

        if (!bench_pattern_writes(pattern) && opt->engine.sync != BENCH_SYNC_NONE)
                cli_usage_error(cli, "--sync is for writing");
        if (opt->engine.prealloc && pattern != BENCH_PATTERN_WRITE)
                cli_usage_error(cli, "--prealloc needs --rw=write");
        if (pattern == BENCH_PATTERN_APPEND && (opt->raw || opt->compare))
                cli_usage_error(cli, "what is appended has no places on the bare device yet");
}

static void check_options(struct cli *cli, struct options *opt)
{
        check_write_options(cli, opt);
        if (!opt->engine.direct && (opt->raw || opt->compare))
                cli_usage_error(cli, "--raw and --compare measure direct I/O only");
        if (opt->raw && opt->compare)
                cli_usage_error(cli, "--compare has the raw side already; leave out --raw");
        if (!opt->engine.direct && opt->engine.fixed_buffers)
                cli_usage_error(cli, "--fixedbufs goes with direct I/O only");
        if (!opt->engine.direct)
                opt->engine.depth = 1; /* pread is one at a time */
        if (opt->compare)
                opt->engine.sides = 1u << BENCH_SIDE_UEXT4 | 1u << BENCH_SIDE_RAW;
        else
                opt->engine.sides = 1u << (opt->raw ? BENCH_SIDE_RAW : BENCH_SIDE_UEXT4);
        if (opt->engine.block_size * opt->engine.depth > (uint64_t)4 << 30)
                cli_usage_error(cli, "block size times depth is more than 4 GiB");
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"rw", required_argument, NULL, OPT_RW},
                {"bs", required_argument, NULL, OPT_BS},
                {"iodepth", required_argument, NULL, OPT_IODEPTH},
                {"runtime", required_argument, NULL, OPT_RUNTIME},
                {"direct", optional_argument, NULL, OPT_DIRECT},
                {"raw", no_argument, NULL, OPT_RAW},
                {"size", required_argument, NULL, OPT_SIZE},
                {"seed", required_argument, NULL, OPT_SEED},
                {"repeat", required_argument, NULL, OPT_REPEAT},
                {"compare", no_argument, NULL, OPT_COMPARE},
                {"json", no_argument, NULL, OPT_JSON},
                {"sync", required_argument, NULL, OPT_SYNC},
                {"prealloc", no_argument, NULL, OPT_PREALLOC},
                {"stats", no_argument, NULL, OPT_STATS},
                {"fixedbufs", no_argument, NULL, OPT_FIXEDBUFS},
                CLI_LONG_OPTIONS,
        };
        struct options opt = {
                .engine = {.pattern = BENCH_PATTERN_RANDREAD,
                           .block_size = 4096,
                           .depth = 32,
                           .seed = 1,
                           .direct = true},
                .runtime = 5,
                .repeat = 1,
        };
        const char *arg;
        struct cli_operand op;
        int o;

        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS, longs)) != -1)
                parse_option(cli, o, &opt);
        arg = cli_one_operand(cli, argc, argv);
        check_options(cli, &opt);
        cli->writes = bench_pattern_writes(opt.engine.pattern);
        if (cli_operand_open(cli, arg, CLI_FOLLOW, &op)) {
                struct bench b = {.cli = cli, .opt = &opt, .op = &op};

                b.engine = bench_engine_new(cli, &opt.engine, &op);
                if (b.engine)
                        bench_run(&b);
                bench_engine_free(b.engine);
                cli_operand_close(&op);
        }
}

const struct cli_command cli_bench = {
        .name = "bench",
        .summary = "measure how fast a file is read or written",
        .usage =
                "Usage: uext4 bench [OPTION]... IMAGE:/PATH\n"
                "Read or write a file over and over and print IOPS, throughput, latency and\n"
                "CPU use.  Writing replaces the contents of the file.\n"
                "\n"
                "      --rw=PATTERN       randread (default), read, randwrite, write, randrw;\n"
                "                         append (the file gets its size back afterwards)\n"
                "      --sync=WHEN        writes are durable: none (default), dsync (each by\n"
                "                         RWF_DSYNC), fdatasync, fsync (after each batch)\n"
                "      --prealloc         with --rw=write: make the range preallocated space\n"
                "                         before each run; a run is one pass at most\n"
                "      --bs=SIZE          size of a request (default 4k)\n"
                "      --iodepth=N        requests in flight (default 32)\n"
                "      --runtime=SECONDS  how long a run takes (default 5)\n"
                "      --direct=0|1       1: direct I/O through a queue (default);\n"
                "                         0: a file opened without O_DIRECT, one by one\n"
                "      --fixedbufs        register the memory with the queue once, before the "
                "runs\n"
                "      --raw              use the same places of the bare device instead\n"
                "      --size=SIZE        only the first SIZE bytes of the file; with append,\n"
                "                         at most so much in a run (default 256M)\n"
                "      --seed=N           of the random positions (default 1)\n"
                "      --repeat=N         make N runs and print the median\n"
                "      --compare          runs of the file and of the bare device in turn,\n"
                "                         and the ratio of the medians\n"
                "      --stats            print the library's counters, too\n"
                "      --json             print JSON\n",
        .run = run,
        .alone = true,
};
