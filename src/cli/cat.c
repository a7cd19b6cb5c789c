/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cat.c - `uext4 cat`: files to standard output.
 *
 * Contents are read by direct I/O, many requests at once, and written in order with write(2),
 * past stdio.  A file that cannot be read to its end is left at the first error, as cat(1)
 * does; the next one follows.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/reader.h"

static int write_all(const uint8_t *data, size_t len)
{
        while (len > 0) {
                ssize_t ret = write(STDOUT_FILENO, data, len);

                if (ret < 0 && errno != EINTR)
                        return -errno;
                if (ret > 0) {
                        data += ret;
                        len -= (size_t)ret;
                }
        }
        return 0;
}

/* False when stdout is gone, and with it the point of going on. */
static bool copy_file(struct cli *cli, const struct cli_operand *op, struct uext4_file *file)
{
        struct reader *reader;
        struct reader_chunk chunk;
        int write_error = 0;
        int ret = reader_new(op->image->fs, READER_DEPTH, READER_REQUEST, &reader);

        if (ret < 0) {
                uext4_close(file);
                cli_fail_errno(cli, op->arg, ret);
                return true;
        }
        reader_add(reader, file, READER_ALL, NULL);
        while (write_error == 0 && (ret = reader_next(reader, &chunk)) > 0) {
                if (chunk.error) {
                        ret = chunk.error;
                        break;
                }
                write_error = write_all(chunk.data, chunk.len);
        }
        reader_free(reader);
        if (write_error)
                cli_fail(cli, NULL, "write error: %s", cli_strerror(write_error));
        else if (ret < 0)
                cli_fail_errno(cli, op->arg, ret);
        return write_error == 0;
}

static bool cat_one(struct cli *cli, const char *arg)
{
        struct cli_operand op;
        struct uext4_file *file;
        bool go_on = true;
        int ret;

        if (!cli_operand_open(cli, arg, CLI_FOLLOW, &op))
                return true;
        ret = reader_open(op.inode, &file);
        if (ret == 0)
                go_on = copy_file(cli, &op, file);
        else if (ret == -EINVAL)
                cli_fail(cli, arg, "Not a regular file");
        else
                cli_fail_errno(cli, arg, ret);
        cli_operand_close(&op);
        return go_on;
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {CLI_LONG_OPTIONS};

        while (cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS, longs) != -1)
                ;
        if (optind == argc)
                cli_usage_error(cli, "missing operand");
        for (int i = optind; i < argc && cat_one(cli, argv[i]); i++)
                ;
}

const struct cli_command cli_cat = {
        .name = "cat",
        .summary = "write files to standard output",
        .usage = "Usage: uext4 cat [OPTION]... IMAGE:/PATH...\n"
                 "Write the contents of files to standard output, one after the other.\n",
        .run = run,
};
