/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * trim.c - `uext4 trim`: tell the device what is free, in the words of fstrim(8).
 *
 * Its short option -o is the one of all our commands; the offset has the long name only.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/text.h"

struct request {
        uint64_t offset, length, minimum;
};

static void fail(struct cli *cli, const char *name, int err)
{
        if (err == -EOPNOTSUPP)
                cli_fail(cli, name, "the device cannot be told what is free");
        else if (err == -EINVAL)
                cli_fail(cli, name,
                         "the offset is behind the end, the length less than a block, or the "
                         "minimum more than a block group");
        else
                cli_fail_errno(cli, name, err);
}

static void trim_one(struct cli *cli, const char *arg, const struct request *r)
{
        char *full = cli_operand_full(cli, arg);
        const char *path;
        struct cli_image *image = cli_operand_image(cli, full, &path);
        char text[TEXT_BYTES_MAX];
        uint64_t trimmed;
        int ret;

        free(full);
        if (!image)
                return;
        ret = uext4_trim(image->fs, r->offset, r->length, r->minimum, &trimmed);
        if (ret < 0)
                fail(cli, arg, ret);
        else if (cli->verbose)
                printf("%s: %s (%" PRIu64 " bytes) trimmed\n", image->uri,
                       text_bytes(text, trimmed), trimmed);
}

enum {
        OPT_OFFSET = CLI_OPT_FIRST
};

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"length", required_argument, NULL, 'l'},
                {"minimum", required_argument, NULL, 'm'},
                {"offset", required_argument, NULL, OPT_OFFSET},
                CLI_LONG_OPTIONS,
        };
        struct request r = {.length = UINT64_MAX};
        char **operands;
        int opt, nr;

        while ((opt = cli_getopt(cli, argc, argv, "l:m:" CLI_SHORT_OPTIONS, longs)) != -1) {
                if (opt == 'l')
                        r.length = cli_option_size(cli, "length", optarg, 1, INT64_MAX);
                else if (opt == 'm')
                        r.minimum = cli_option_size(cli, "minimum", optarg, 0, INT64_MAX);
                else if (opt == OPT_OFFSET)
                        r.offset = cli_option_size(cli, "offset", optarg, 0, INT64_MAX);
        }
        operands = cli_operands(cli, argc, argv, &nr);
        for (int i = 0; i < nr; i++)
                trim_one(cli, operands[i], &r);
}

const struct cli_command cli_trim = {
        .name = "trim",
        .summary = "tell the device which blocks are free",
        .usage =
                "Usage: uext4 trim [OPTION]... IMAGE...\n"
                "Discard the free blocks of images: an image in a file takes less space then.\n"
                "With -v print how much it was.  For what is mounted there is fstrim(8).\n"
                "\n"
                "  -l, --length=N         only within so many bytes from the offset on\n"
                "  -m, --minimum=N        leave free extents alone that are shorter\n"
                "      --offset=N         where to begin; 0 by default\n",
        .run = run,
        .writes = true,
};
