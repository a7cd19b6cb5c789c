/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bench.c - `uext4 bench`: how fast a file is read, and how fast the bare device would be.
 *
 * Here are options and results; bench_engine.c measures.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench_engine.h"
#include "cli/json.h"
#include "cli/text.h"

#define MAX_DEPTH      65536u
#define MAX_BLOCK_SIZE (64u << 20)
#define MAX_REPEAT     1000u
#define WARM_UP_NS     200000000u /* before the first run of a side, not counted */

static const char *const pattern_names[] = {"read", "randread"};

static const char *const side_names[] = {"uext4", "raw"};

struct options {
        struct bench_options engine;
        double runtime; /* seconds */
        unsigned repeat;
        bool raw, compare, json;
};

struct bench {
        struct cli *cli;
        const struct options *opt;
        const struct cli_operand *op;
        struct bench_engine *engine;
};

static bool side_is_used(const struct options *opt, enum bench_side side)
{
        return opt->engine.sides & 1u << side;
}

/* ---- results ------------------------------------------------------------ */

static const double percentiles[] = {1,  5,  10, 20, 30,   40,   50,    60,   70,
                                     80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99};

#define NR_PERCENTILES (sizeof(percentiles) / sizeof(percentiles[0]))

static double result_iops(const struct bench_result *r)
{
        return r->seconds > 0 ? (double)(r->requests - r->errors) / r->seconds : 0;
}

static double result_rate(const struct bench_result *r)
{
        return r->seconds > 0 ? (double)r->bytes / r->seconds : 0;
}

static double percent_of(double part, double whole)
{
        return whole > 0 ? 100 * part / whole : 0;
}

static void print_result(enum bench_side side, const struct bench_result *r)
{
        char bytes[TEXT_BYTES_MAX], count[TEXT_COUNT_MAX];
        double usec = 1e3;

        printf("%s: IOPS=%.0f, BW=%.1f MiB/s (%.1f MB/s), %s requests, %s in %.2f s\n",
               side_names[side], result_iops(r), result_rate(r) / (1 << 20),
               result_rate(r) / 1e6, text_count(count, r->requests),
               text_bytes(bytes, r->bytes), r->seconds);
        printf("  lat (usec): min=%.2f, max=%.2f, mean=%.2f, stdev=%.2f\n",
               r->lat.nr ? (double)r->lat.min / usec : 0, (double)r->lat.max / usec,
               hist_mean(&r->lat) / usec, hist_stddev(&r->lat) / usec);
        printf("  lat percentiles (usec):");
        for (size_t i = 0; i < NR_PERCENTILES; i++)
                printf("%s%6.2fth=[%9.2f]%s", i % 4 == 0 ? "\n   | " : "", percentiles[i],
                       (double)hist_percentile(&r->lat, percentiles[i]) / usec,
                       i + 1 < NR_PERCENTILES ? "," : "\n");
        printf("  cpu: usr=%.2f%%, sys=%.2f%%; in flight: %u",
               percent_of(r->cpu_user, r->seconds), percent_of(r->cpu_system, r->seconds),
               r->max_in_flight);
        printf(r->errors ? "; errors: %" PRIu64 "\n" : "\n", r->errors);
}

static json_t *result_json(enum bench_side side, const struct bench_result *r)
{
        json_t *run = json_object(), *lat = json_object(), *table = json_object();

        json_add_text(run, "side", side_names[side]);
        json_add_real(run, "seconds", r->seconds);
        json_add_uint(run, "requests", r->requests);
        json_add_uint(run, "errors", r->errors);
        json_add_uint(run, "bytes", r->bytes);
        json_add_real(run, "iops", result_iops(r));
        json_add_real(run, "bytes_per_second", result_rate(r));
        json_add_uint(run, "max_in_flight", r->max_in_flight);
        json_add_real(run, "cpu_user_percent", percent_of(r->cpu_user, r->seconds));
        json_add_real(run, "cpu_system_percent", percent_of(r->cpu_system, r->seconds));
        json_add_uint(lat, "min", r->lat.nr ? r->lat.min : 0);
        json_add_uint(lat, "max", r->lat.max);
        json_add_real(lat, "mean", hist_mean(&r->lat));
        json_add_real(lat, "stddev", hist_stddev(&r->lat));
        for (size_t i = 0; i < NR_PERCENTILES; i++) {
                char key[16];

                snprintf(key, sizeof(key), "%.2f", percentiles[i]);
                json_add_uint(table, key, hist_percentile(&r->lat, percentiles[i]));
        }
        json_add(lat, "percentiles", table);
        json_add(run, "latency_ns", lat);
        return run;
}

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
                               side_names[side], m->iops[side],
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
                        json_add_real(object, side_names[side], m->iops[side]);
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
        json_add_bool(top, "direct", opt->engine.direct);
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
        json_print(top);
}

static void print_head(const struct bench *b)
{
        char size[TEXT_BYTES_MAX], bs[TEXT_BYTES_MAX];

        printf("%s: rw=%s, bs=%s, iodepth=%u, direct=%d, size=%s, seed=%" PRIu64 "\n",
               b->op->arg, pattern_names[b->opt->engine.pattern],
               text_bytes(bs, b->opt->engine.block_size), b->opt->engine.depth,
               b->opt->engine.direct, text_bytes(size, bench_engine_size(b->engine)),
               b->opt->engine.seed);
}

/* ---- the command -------------------------------------------------------- */

/* One run of one side: measured, printed, added to the summary.  False when it broke. */
static bool run_one(struct bench *b, enum bench_side side, struct side_summary *summary,
                    json_t *runs)
{
        struct bench_result *r = cli_alloc(1, sizeof(*r)); /* the histogram is big */
        int ret = bench_engine_run(b->engine, side, (uint64_t)(b->opt->runtime * 1e9), r);

        if (ret < 0) {
                cli_fail_errno(b->cli, b->op->arg, ret);
        } else {
                summary[side].iops[summary[side].nr++] = result_iops(r);
                if (r->errors)
                        cli_fail(b->cli, b->op->arg, "%s: %" PRIu64 " requests failed",
                                 side_names[side], r->errors);
                if (runs)
                        json_push(runs, result_json(side, r));
                else
                        print_result(side, r);
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
};

static enum bench_pattern parse_pattern(struct cli *cli, const char *value)
{
        for (int i = 0; i < 2; i++)
                if (strcmp(value, pattern_names[i]) == 0)
                        return (enum bench_pattern)i;
        cli_usage_error(cli, "--rw must be read or randread, not '%s'", value);
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
                opt->engine.pattern = parse_pattern(cli, optarg);
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

static void check_options(struct cli *cli, struct options *opt)
{
        if (!opt->engine.direct && (opt->raw || opt->compare))
                cli_usage_error(cli, "--raw and --compare measure direct reads only");
        if (opt->raw && opt->compare)
                cli_usage_error(cli, "--compare has the raw side already; leave out --raw");
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
                CLI_LONG_OPTIONS,
        };
        struct options opt = {
                .engine = {.pattern = BENCH_PATTERN_RANDOM,
                           .block_size = 4096,
                           .depth = 32,
                           .seed = 1,
                           .direct = true},
                .runtime = 5,
                .repeat = 1,
        };
        struct cli_operand op;
        int o;

        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS, longs)) != -1)
                parse_option(cli, o, &opt);
        if (argc - optind != 1)
                cli_usage_error(cli, "%s operand", optind == argc ? "missing" : "extra");
        check_options(cli, &opt);
        if (cli_operand_open(cli, argv[optind], CLI_FOLLOW, &op)) {
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
        .summary = "measure how fast a file is read",
        .usage = "Usage: uext4 bench [OPTION]... IMAGE:/PATH\n"
                 "Read a file over and over and print IOPS, throughput, latency and CPU use.\n"
                 "\n"
                 "      --rw=PATTERN       randread (default) or read (sequential)\n"
                 "      --bs=SIZE          size of a request (default 4k)\n"
                 "      --iodepth=N        requests in flight (default 32)\n"
                 "      --runtime=SECONDS  how long a run takes (default 5)\n"
                 "      --direct=0|1       1: direct I/O through a queue (default);\n"
                 "                         0: pread of a file opened without O_DIRECT\n"
                 "      --raw              read the same places of the bare device instead\n"
                 "      --size=SIZE        only the first SIZE bytes of the file\n"
                 "      --seed=N           of the random positions (default 1)\n"
                 "      --repeat=N         make N runs and print the median\n"
                 "      --compare          runs of the file and of the bare device in turn,\n"
                 "                         and the ratio of the medians\n"
                 "      --json             print JSON\n",
        .run = run,
};
