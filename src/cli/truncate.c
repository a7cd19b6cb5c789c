/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * truncate.c - `uext4 truncate`: shrink or extend files, in the words of truncate(1).
 *
 * What is asked for is parsed once, before any image is opened; of a relative size each file's
 * own is computed.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/change.h"
#include "cli/text.h"

/* How SIZE relates to the size that a file has. */
enum relation {
        ABSOLUTE,
        EXTEND,     /* + */
        REDUCE,     /* - */
        AT_MOST,    /* < */
        AT_LEAST,   /* > */
        ROUND_DOWN, /* / */
        ROUND_UP,   /* % */
};

struct request {
        enum relation relation;
        uint64_t size;
        bool size_given;
        bool in_blocks; /* size counts blocks of the file system */
        bool no_create; /* a file that does not exist is no failure */
};

static void parse_size(struct cli *cli, struct request *r, const char *value)
{
        static const char signs[] = "+-<>/%";
        const char *sign = *value ? strchr(signs, *value) : NULL;

        r->relation = sign ? (enum relation)(EXTEND + (sign - signs)) : ABSOLUTE;
        r->size = cli_option_size(cli, "size", value + (sign != NULL), 0, INT64_MAX);
        r->size_given = true;
        if (r->size == 0 && (r->relation == ROUND_DOWN || r->relation == ROUND_UP))
                cli_usage_error(cli, "division by zero: '%s'", value);
}

/* False when it cannot be: beyond all sizes. */
static bool new_size(const struct request *r, const struct uext4_stat *st, uint64_t *ret_size)
{
        uint64_t n = r->size, old = st->size;

        if (r->in_blocks && __builtin_mul_overflow(n, (uint64_t)st->blksize, &n))
                return false;
        switch (r->relation) {
        case ABSOLUTE:
                break;
        case EXTEND:
                if (__builtin_add_overflow(old, n, &n))
                        return false;
                break;
        case REDUCE:
                n = n < old ? old - n : 0;
                break;
        case AT_MOST:
                n = n < old ? n : old;
                break;
        case AT_LEAST:
                n = n > old ? n : old;
                break;
        case ROUND_DOWN:
                n = old - old % n;
                break;
        case ROUND_UP:
                if (__builtin_add_overflow(old, old % n ? n - old % n : 0, &n))
                        return false;
                break;
        }
        *ret_size = n;
        return n <= INT64_MAX;
}

static void truncate_file(struct cli *cli, const struct cli_operand *op,
                          const struct request *r)
{
        struct uext4_file *file;
        uint64_t size;
        int ret;

        if (!new_size(r, &op->st, &size)) {
                cli_fail_errno(cli, op->arg, -EFBIG);
                return;
        }
        file = cli_open_to_write(cli, op);
        if (!file)
                return;
        ret = uext4_truncate(file, size);
        uext4_close(file);
        if (ret < 0)
                cli_fail_change(cli, op->arg, ret);
}

static void truncate_one(struct cli *cli, const char *arg, const struct request *r)
{
        struct cli_operand op;

        if (r->no_create && !cli_operand_exists(cli, arg, CLI_FOLLOW))
                return;
        if (!cli_operand_open(cli, arg, CLI_FOLLOW, &op))
                return;
        truncate_file(cli, &op, r);
        cli_operand_close(&op);
}

static void run(struct cli *cli, int argc, char **argv)
{
        enum {
                OPT_IO_BLOCKS = CLI_OPT_FIRST
        };
        static const struct option longs[] = {
                {"no-create", no_argument, NULL, 'c'},
                {"io-blocks", no_argument, NULL, OPT_IO_BLOCKS},
                {"reference", required_argument, NULL, 'r'},
                {"size", required_argument, NULL, 's'},
                CLI_LONG_OPTIONS,
        };
        struct request r = {0};
        const char *reference = NULL;
        struct uext4_stat st;
        int opt;

        while ((opt = cli_getopt(cli, argc, argv, "cr:s:" CLI_SHORT_OPTIONS, longs)) != -1) {
                if (opt == 'c')
                        r.no_create = true;
                else if (opt == OPT_IO_BLOCKS)
                        r.in_blocks = true;
                else if (opt == 'r')
                        reference = optarg;
                else
                        parse_size(cli, &r, optarg);
        }
        if (optind == argc)
                cli_usage_error(cli, "missing operand");
        if (!reference && !r.size_given)
                cli_usage_error(cli, "specify --size or --reference");
        if (reference && r.size_given)
                cli_usage_error(cli, "--size and --reference exclude each other");
        if (r.in_blocks && !r.size_given)
                cli_usage_error(cli, "--io-blocks needs --size");
        if (reference) {
                if (!cli_reference(cli, reference, &st))
                        return;
                r.size = st.size;
        }
        for (int i = optind; i < argc; i++)
                truncate_one(cli, argv[i], &r);
}

const struct cli_command cli_truncate = {
        .name = "truncate",
        .summary = "shrink or extend files",
        .usage = "Usage: uext4 truncate OPTION... IMAGE:/PATH...\n"
                 "Set the size of files that exist.  What is cut off is lost; what is added\n"
                 "is a hole and reads as zeros.\n"
                 "\n"
                 "  -c, --no-create        say nothing of files that do not exist\n"
                 "      --io-blocks        SIZE counts blocks of the file system\n"
                 "  -r, --reference=FILE   take the size of FILE, of the host or IMAGE:/PATH\n"
                 "  -s, --size=SIZE        set the size; a sign in front means:\n"
                 "                         + extend by, - reduce by, < at most, > at least,\n"
                 "                         / round down to a multiple of, % round up to one\n",
        .run = run,
        .writes = true,
};
