/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* verify_report.c - what `uext4 verify` says in the end, for people or as JSON. */
#include "cli/verify.h"

#include "cli/text.h"

static double rate(const struct verify *v)
{
        return v->seconds > 0 ? (double)v->counts.bytes / v->seconds : 0;
}

static void print_count(FILE *to, const char *label, uint64_t n, const char *behind)
{
        char count[TEXT_COUNT_MAX];

        fprintf(to, "%-14s %16s%s\n", label, text_count(count, n), behind);
}

static void print_rates(const struct verify *v, FILE *to, const struct speed_result *speed)
{
        char bytes[TEXT_BYTES_MAX];

        fprintf(to, "%-14s %16.3f\n", "seconds", v->seconds);
        fprintf(to, "%-14s %11.1f MB/s  read and %s\n", v->comparing ? "compare" : "checksum",
                rate(v) / 1e6,
                v->comparing && v->summing ? "compared, summed"
                : v->comparing             ? "compared"
                                           : "summed");
        if (!speed)
                return;
        fprintf(to, "%-14s %11.1f MB/s  reading only, %.2f of the raw device\n", "files",
                speed->file_rate / 1e6,
                speed->raw_rate > 0 ? speed->file_rate / speed->raw_rate : 0);
        fprintf(to, "%-14s %11.1f MB/s  the same %s\n", "raw device", speed->raw_rate / 1e6,
                text_bytes(bytes, speed->bytes));
}

static void print_table(const struct verify *v, const struct speed_result *speed,
                        const char *total)
{
        const struct verify_counts *c = &v->counts;
        const struct reader_stats *reads = reader_stats(v->reader);
        /* With --sums, stdout is a list that sha256sum -c reads. */
        FILE *to = v->opt->sums ? stderr : stdout;
        char in_flight[64];

        snprintf(in_flight, sizeof(in_flight), "  at most %u in flight", reads->max_in_flight);
        print_count(to, "files", c->files, "");
        print_count(to, "directories", c->directories, "");
        print_count(to, "symlinks", c->symlinks, "");
        if (c->others)
                print_count(to, "other", c->others, "");
        print_count(to, "bytes", c->bytes, "");
        print_count(to, "extents", c->extents, "");
        print_count(to, "requests", reads->requests, in_flight);
        if (v->comparing)
                print_count(to, "differences", c->differences, "");
        print_count(to, "unreadable", c->unreadable, "");
        print_rates(v, to, speed);
        if (v->summing)
                fprintf(to, "%-14s %s\n", "sha256", total);
}

static void print_json(struct verify *v, const struct speed_result *speed, const char *total)
{
        const struct verify_counts *c = &v->counts;
        const struct reader_stats *reads = reader_stats(v->reader);
        json_t *top = json_object();

        json_add_text(top, "image", v->op->arg);
        json_add_uint(top, "files", c->files);
        json_add_uint(top, "directories", c->directories);
        json_add_uint(top, "symlinks", c->symlinks);
        json_add_uint(top, "others", c->others);
        json_add_uint(top, "bytes", c->bytes);
        json_add_uint(top, "extents", c->extents);
        json_add_uint(top, "requests", reads->requests);
        json_add_uint(top, "max_in_flight", reads->max_in_flight);
        json_add_uint(top, "unreadable", c->unreadable);
        json_add_real(top, "seconds", v->seconds);
        json_add_real(top, "bytes_per_second", rate(v));
        if (v->comparing)
                json_add(top, "differences", json_incref(v->differences));
        if (speed) {
                json_add_uint(top, "measured_bytes", speed->bytes);
                json_add_real(top, "files_bytes_per_second", speed->file_rate);
                json_add_real(top, "raw_bytes_per_second", speed->raw_rate);
        }
        if (v->summing)
                json_add_text(top, "sha256", total);
        if (v->json_sums)
                json_add(top, "sums", json_incref(v->json_sums));
        json_print(top);
}

/* True with a result: it was wanted, there was something to read, and it worked. */
static bool measure(struct verify *v, struct speed_result *ret_speed)
{
        int ret;

        if (!v->plan || v->broken)
                return false;
        ret = speed_measure(v->plan, v->op->image->fs, v->op->image->dev, v->opt->depth,
                            ret_speed);
        if (ret < 0)
                cli_fail(v->cli, v->op->arg, "cannot measure: %s", cli_strerror(ret));
        return ret == 0 && ret_speed->bytes > 0;
}

void verify_report(struct verify *v)
{
        struct speed_result speed;
        bool measured = measure(v, &speed);
        char total[SUMS_HEX_MAX] = "";

        v->counts.bytes = reader_stats(v->reader)->bytes;
        if (v->summing)
                sums_total(v->sums, total);
        if (v->opt->json)
                print_json(v, measured ? &speed : NULL, total);
        else
                print_table(v, measured ? &speed : NULL, total);
}
