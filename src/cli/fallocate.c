/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fallocate.c - `uext4 fallocate`: what a file occupies, in the words of fallocate(1).
 *
 * Its short option -o is the one of all our commands; the offset has the long name only.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <stdio.h>

#include "cli/change.h"
#include "cli/progress.h"

#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES 0x80
#endif

struct request {
        int mode;      /* FALLOC_FL_* but KEEP_SIZE */
        bool has_mode; /* one of the options that exclude each other was given */
        bool keep_size;
        bool has_length;
        uint64_t offset, length;
};

static void set_mode(struct cli *cli, struct request *r, int mode)
{
        if (r->has_mode && r->mode != mode)
                cli_usage_error(cli, "only one of --collapse-range, --insert-range, "
                                     "--punch-hole, --write-zeroes and --zero-range");
        r->has_mode = true;
        r->mode = mode;
}

static void check(struct cli *cli, struct request *r)
{
        if (!r->has_length)
                cli_usage_error(cli, "no length: --length is missing");
        if (r->mode == FALLOC_FL_PUNCH_HOLE)
                r->keep_size = true; /* as fallocate(1) */
        if (r->keep_size &&
            (r->mode == FALLOC_FL_COLLAPSE_RANGE || r->mode == FALLOC_FL_INSERT_RANGE ||
             r->mode == FALLOC_FL_WRITE_ZEROES))
                cli_usage_error(cli, "--keep-size does not go with this");
}

/* Some errors say more with the words of this command. */
static void fail(struct cli *cli, const char *name, const struct request *r, int err)
{
        bool shifts = r->mode == FALLOC_FL_COLLAPSE_RANGE || r->mode == FALLOC_FL_INSERT_RANGE;

        if (err == -EOPNOTSUPP)
                cli_fail(cli, name, "not possible for a file without extents");
        else if (err == -EINVAL && shifts)
                cli_fail(cli, name,
                         "offset and length must be multiples of the block or cluster size, "
                         "and lie before the end of the file");
        else
                cli_fail_change(cli, name, err);
}

/* Zeros take time, and so come in pieces, with a bar; the rest is done at once. */
#define PIECE (64u << 20)

static int fallocate_range(struct uext4_file *file, int mode, const struct request *r)
{
        uint64_t left = r->length, pos = r->offset;
        int ret = 0;

        if (mode != FALLOC_FL_WRITE_ZEROES || left > INT64_MAX - pos)
                return uext4_fallocate(file, mode, pos, left);
        progress_start(left);
        while (ret == 0 && left > 0) {
                uint64_t rest = PIECE - pos % PIECE, n = left < rest ? left : rest;

                ret = uext4_fallocate(file, mode, pos, n);
                progress_add(n);
                pos += n;
                left -= n;
        }
        progress_stop();
        return ret;
}

static void fallocate_one(struct cli *cli, const char *arg, const struct request *r)
{
        int mode = r->mode | (r->keep_size ? FALLOC_FL_KEEP_SIZE : 0);
        struct uext4_file *file;
        struct cli_operand op;
        int ret;

        if (!cli_operand_open(cli, arg, CLI_FOLLOW, &op))
                return;
        file = cli_open_to_write(cli, &op);
        if (file) {
                ret = fallocate_range(file, mode, r);
                uext4_close(file);
                if (ret < 0)
                        fail(cli, arg, r, ret);
        }
        cli_operand_close(&op);
}

enum {
        OPT_OFFSET = CLI_OPT_FIRST
};

static void take_option(struct cli *cli, struct request *r, int opt)
{
        switch (opt) {
        case 'c':
                set_mode(cli, r, FALLOC_FL_COLLAPSE_RANGE);
                break;
        case 'i':
                set_mode(cli, r, FALLOC_FL_INSERT_RANGE);
                break;
        case 'p':
                set_mode(cli, r, FALLOC_FL_PUNCH_HOLE);
                break;
        case 'w':
                set_mode(cli, r, FALLOC_FL_WRITE_ZEROES);
                break;
        case 'z':
                set_mode(cli, r, FALLOC_FL_ZERO_RANGE);
                break;
        case 'n':
                r->keep_size = true;
                break;
        case 'l':
                r->length = cli_option_size(cli, "length", optarg, 1, INT64_MAX);
                r->has_length = true;
                break;
        case OPT_OFFSET:
                r->offset = cli_option_size(cli, "offset", optarg, 0, INT64_MAX);
                break;
        }
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"collapse-range", no_argument, NULL, 'c'},
                {"insert-range", no_argument, NULL, 'i'},
                {"keep-size", no_argument, NULL, 'n'},
                {"length", required_argument, NULL, 'l'},
                {"offset", required_argument, NULL, OPT_OFFSET},
                {"punch-hole", no_argument, NULL, 'p'},
                {"write-zeroes", no_argument, NULL, 'w'},
                {"zero-range", no_argument, NULL, 'z'},
                CLI_LONG_OPTIONS,
        };
        struct request r = {0};
        int opt;

        while ((opt = cli_getopt(cli, argc, argv, "cil:npwz" CLI_SHORT_OPTIONS, longs)) != -1)
                take_option(cli, &r, opt);
        if (optind == argc)
                cli_usage_error(cli, "missing operand");
        check(cli, &r);
        for (int i = optind; i < argc; i++)
                fallocate_one(cli, argv[i], &r);
}

const struct cli_command cli_fallocate = {
        .name = "fallocate",
        .summary = "allocate or free space of files",
        .usage =
                "Usage: uext4 fallocate [OPTION]... --length=N IMAGE:/PATH...\n"
                "Allocate space for N bytes at the offset, unwritten; the file grows if it is\n"
                "shorter.  Or one of the following instead.\n"
                "\n"
                "  -c, --collapse-range   take the range out; what is behind it moves down\n"
                "  -i, --insert-range     insert a hole; what is behind the offset moves up\n"
                "  -l, --length=N         length of the range, in bytes\n"
                "  -n, --keep-size        the size of the file stays\n"
                "      --offset=N         where the range begins; 0 by default\n"
                "  -p, --punch-hole       free the range; implies --keep-size\n"
                "  -w, --write-zeroes     allocate, and write zeros\n"
                "  -z, --zero-range       make zeros of the range, without writing them\n",
        .run = run,
        .writes = true,
};
