/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bench_result.c - one run of `uext4 bench`, for people and as JSON (see bench_result.h). */
#include "cli/bench_result.h"

#include <inttypes.h>
#include <stdio.h>

#include "cli/text.h"

const char *bench_side_name(enum bench_side side)
{
        return side == BENCH_SIDE_RAW ? "raw" : "uext4";
}

static const double percentiles[] = {1,  5,  10, 20, 30,   40,   50,    60,   70,
                                     80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99};

#define NR_PERCENTILES (sizeof(percentiles) / sizeof(percentiles[0]))

double bench_result_iops(const struct bench_result *r)
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

void bench_result_print(enum bench_side side, const struct bench_result *r)
{
        char bytes[TEXT_BYTES_MAX], count[TEXT_COUNT_MAX];
        double usec = 1e3;

        printf("%s: IOPS=%.0f, BW=%.1f MiB/s (%.1f MB/s), %s requests, %s in %.2f s\n",
               bench_side_name(side), bench_result_iops(r), result_rate(r) / (1 << 20),
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

json_t *bench_result_json(enum bench_side side, const struct bench_result *r)
{
        json_t *run = json_object(), *lat = json_object(), *table = json_object();

        json_add_text(run, "side", bench_side_name(side));
        json_add_real(run, "seconds", r->seconds);
        json_add_uint(run, "requests", r->requests);
        json_add_uint(run, "errors", r->errors);
        json_add_uint(run, "bytes", r->bytes);
        json_add_real(run, "iops", bench_result_iops(r));
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
