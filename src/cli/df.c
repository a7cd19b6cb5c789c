/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* df.c - `uext4 df`: the space of images, in the words of df(1). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/json.h"
#include "cli/text.h"

struct options {
        bool human, inodes;
        json_t *array; /* NULL: for people */
};

struct usage {
        uint64_t total, used, available;
};

static const char *number(const struct options *opt, char buf[static TEXT_BYTES_MAX],
                          uint64_t n, uint64_t unit)
{
        if (opt->human && !opt->inodes)
                return text_bytes(buf, n * unit);
        snprintf(buf, TEXT_BYTES_MAX, "%" PRIu64, opt->inodes ? n : n * unit / 1024);
        return buf;
}

/* Rounded up, as df does: 0% is empty. */
static unsigned percent(const struct usage *u)
{
        uint64_t of = u->used + u->available;

        return of ? (unsigned)((u->used * 100 + of - 1) / of) : 0;
}

static void print_one(const struct options *opt, const char *uri, const struct usage *u,
                      uint64_t unit)
{
        char total[TEXT_BYTES_MAX], used[TEXT_BYTES_MAX], available[TEXT_BYTES_MAX];
        char *name = text_escape(uri, strlen(uri));

        printf("%-24s %12s %12s %12s %4u%%\n", name, number(opt, total, u->total, unit),
               number(opt, used, u->used, unit), number(opt, available, u->available, unit),
               percent(u));
        free(name);
}

static void add_json(const struct options *opt, const char *uri, const struct statvfs *st)
{
        json_t *o = json_object();

        json_add_text(o, "image", uri);
        json_add_uint(o, "block_size", st->f_frsize);
        json_add_uint(o, "blocks", st->f_blocks);
        json_add_uint(o, "blocks_free", st->f_bfree);
        json_add_uint(o, "blocks_available", st->f_bavail);
        json_add_uint(o, "inodes", st->f_files);
        json_add_uint(o, "inodes_free", st->f_ffree);
        json_push(opt->array, o);
}

static void df_one(struct cli *cli, const char *arg, const struct options *opt)
{
        char *full = cli_operand_full(cli, arg);
        const char *path;
        struct cli_image *image = cli_operand_image(cli, full, &path);
        struct statvfs st;
        int ret;

        free(full);
        if (!image)
                return;
        ret = uext4_statfs(image->fs, &st);
        if (ret < 0) {
                cli_fail_errno(cli, arg, ret);
        } else if (opt->array) {
                add_json(opt, image->uri, &st);
        } else if (opt->inodes) {
                const struct usage u = {st.f_files, st.f_files - st.f_ffree, st.f_ffree};

                print_one(opt, image->uri, &u, 1);
        } else {
                const struct usage u = {st.f_blocks, st.f_blocks - st.f_bfree, st.f_bavail};

                print_one(opt, image->uri, &u, st.f_frsize);
        }
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"human-readable", no_argument, NULL, 'h'},
                {"inodes", no_argument, NULL, 'i'},
                {"json", no_argument, NULL, CLI_OPT_FIRST},
                CLI_LONG_OPTIONS,
        };
        struct options opt = {0};
        char **operands;
        int o, nr;

        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "hi", longs)) != -1) {
                opt.human |= o == 'h';
                opt.inodes |= o == 'i';
                if (o == CLI_OPT_FIRST && !opt.array)
                        opt.array = json_array();
        }
        operands = cli_operands(cli, argc, argv, &nr);
        if (!opt.array)
                printf("%-24s %12s %12s %12s %5s\n", "Image",
                       opt.inodes  ? "Inodes"
                       : opt.human ? "Size"
                                   : "1K-blocks",
                       "Used", "Available", "Use%");
        for (int i = 0; i < nr; i++)
                df_one(cli, operands[i], &opt);
        if (opt.array)
                json_print(opt.array);
}

const struct cli_command cli_df = {
        .name = "df",
        .summary = "show how much space is used",
        .usage = "Usage: uext4 df [OPTION]... IMAGE...\n"
                 "Show the space of images: all, used, and available to others than root.\n"
                 "\n"
                 "  -h, --human-readable   sizes in units of 1024, such as 1.5 MiB\n"
                 "  -i, --inodes           inodes instead of space\n"
                 "      --json             print a JSON array with one object for each image\n",
        .run = run,
};
