/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * verify.c - `uext4 verify`: read all of an image, compare it (verify_compare.c) or sum it up.
 *
 * One walk; each regular file goes to the reader, which keeps requests of several files under
 * way and hands chunks over in order, so that at any time one file is being compared or summed.
 * Everything else is compared where the walk meets it.
 *
 * Two kinds of finding: a *difference* is a result and goes to stdout; what cannot be *read* is
 * an error and goes to stderr.  Both make the exit status 1, and after both the rest goes on.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/filemap.h"
#include "cli/progress.h"
#include "cli/text.h"
#include "cli/verify.h"
#include "cli/walk.h"

#define SPEED_LIMIT ((uint64_t)1 << 30) /* bytes that are read again to measure */
#define MAX_MEMORY  ((uint64_t)4 << 30)

/* A file on its way; freed behind its last chunk. */
struct pending {
        char *path;
        int host; /* descriptor to compare with, -1 for none */
        int read_error;
        uint64_t read_error_pos;
        bool different; /* was said */
};

/* ---- findings ----------------------------------------------------------- */

static void unreadable(struct verify *v, const char *path, const char *what, int err)
{
        char *name = cli_operand_name(v->op, path);

        v->counts.unreadable++;
        cli_fail(v->cli, name, "%s%s%s", what ? what : "", what && err ? ": " : "",
                 err ? cli_strerror(err) : "");
        free(name);
}

/* ---- contents ----------------------------------------------------------- */

/* A file that could not be read has no sum. */
static void finish_sum(struct verify *v, const struct pending *p)
{
        char hex[SUMS_HEX_MAX];
        char *line;

        if (p->read_error) {
                sums_file_drop(v->sums);
                return;
        }
        line = sums_file_done(v->sums, p->path, hex);
        if (v->json_sums) {
                json_add_text(v->json_sums, p->path, hex);
        } else if (v->opt->sums) {
                progress_hide();
                fputs(line, stdout);
        }
        free(line);
}

static void pending_finish(struct verify *v, struct pending *p)
{
        if (p->read_error) {
                char *what =
                        cli_printf("cannot read from byte %" PRIu64 " on", p->read_error_pos);

                unreadable(v, p->path, what, p->read_error);
                free(what);
        }
        if (v->summing)
                finish_sum(v, p);
        if (p->host >= 0)
                close(p->host);
        free(p->path);
        free(p);
}

static void handle_chunk(struct verify *v, const struct reader_chunk *chunk)
{
        struct pending *p = chunk->user;

        if (chunk->error && !p->read_error) {
                p->read_error = chunk->error;
                p->read_error_pos = chunk->pos;
        }
        if (!chunk->error && chunk->len > 0) {
                if (p->host >= 0 && !p->different)
                        p->different = !verify_compare_chunk(v, p->path, p->host, chunk);
                if (v->summing)
                        sums_file_add(v->sums, chunk->data, chunk->len);
        }
        progress_add(chunk->len);
        if (chunk->last)
                pending_finish(v, p);
}

/* Take chunks out with reader_make_room or, at the end, reader_next. */
static void drain(struct verify *v,
                  int (*next)(struct reader *reader, struct reader_chunk *ret_chunk))
{
        struct reader_chunk chunk;
        int ret;

        while ((ret = next(v->reader, &chunk)) > 0)
                handle_chunk(v, &chunk);
        if (ret < 0) {
                cli_fail(v->cli, v->op->arg, "cannot go on reading: %s", cli_strerror(ret));
                v->broken = true;
        }
}

/* ---- the walk ----------------------------------------------------------- */

static void verify_symlink(struct verify *v, const struct walk_item *item)
{
        static char target[65537];
        ssize_t len = uext4_readlink(item->inode, target, sizeof(target) - 1);

        v->counts.symlinks++;
        if (len < 0) {
                unreadable(v, item->path, "cannot read symbolic link", (int)len);
                return;
        }
        target[(size_t)len < sizeof(target) ? (size_t)len : sizeof(target) - 1] = '\0';
        if (v->comparing)
                verify_compare_symlink(v, item, target);
}

/* Count the file's extents and plan its part in the measurement.  A map that cannot be read is
 * not said here: the contents cannot be read then, either. */
static void look_at_map(struct verify *v, const struct walk_item *item, struct uext4_file *file)
{
        struct filemap map;

        if (filemap_read(file, &map) < 0)
                return;
        v->counts.extents += map.nr;
        if (v->plan && !speed_plan_is_full(v->plan))
                speed_plan_add(v->plan, item->inode, &map); /* or it is left out */
        filemap_done(&map);
}

static void verify_regular(struct verify *v, const struct walk_item *item)
{
        struct pending *p;
        struct uext4_file *file;
        int host = v->comparing ? verify_open_host(v, item) : -1;
        int ret = reader_open(item->inode, &file);

        v->counts.files++;
        if (ret < 0) {
                unreadable(v, item->path, NULL, ret);
                if (host >= 0)
                        close(host);
                return;
        }
        look_at_map(v, item, file);
        p = cli_alloc(1, sizeof(*p));
        p->path = cli_strdup(item->path);
        p->host = host;
        reader_add(v->reader, file, READER_ALL, p);
        drain(v, reader_make_room);
}

static void verify_file(struct verify *v, const struct walk_item *item)
{
        if (S_ISREG(item->st.mode)) {
                verify_regular(v, item);
        } else if (S_ISLNK(item->st.mode)) {
                verify_symlink(v, item);
        } else {
                v->counts.others++;
                if (v->comparing)
                        verify_compare_other(v, item);
        }
}

static bool enter_directory(struct verify *v, const struct walk_item *item)
{
        v->counts.directories++;
        if (item->error < 0)
                unreadable(v, item->path, "reading directory", item->error);
        return !v->comparing || verify_enter_host(v, item);
}

static void verify_tree(struct verify *v)
{
        struct walk *walk = walk_new(v->op->image->fs, v->op->inode);
        struct walk_item item;

        while (!v->broken && walk_next(walk, &item) > 0) {
                switch (item.event) {
                case WALK_FILE:
                        verify_file(v, &item);
                        break;
                case WALK_ENTER:
                        if (!enter_directory(v, &item))
                                walk_skip(walk);
                        break;
                case WALK_LEAVE:
                        if (v->comparing && *item.path)
                                host_tree_leave(&v->host);
                        break;
                case WALK_ERROR:
                        unreadable(v, item.path, item.what, item.what ? 0 : item.error);
                        break;
                }
        }
        if (!v->broken)
                drain(v, reader_next);
        walk_free(walk);
}

/* ---- the command -------------------------------------------------------- */

/* How much will be read: holes count, and a file as often as it has names. */
static uint64_t tree_size(const struct cli_operand *op)
{
        struct walk *walk = walk_new(op->image->fs, op->inode);
        struct walk_item item;
        uint64_t size = 0;

        while (walk_next(walk, &item) > 0)
                if (item.event == WALK_FILE && S_ISREG(item.st.mode))
                        size += item.st.size;
        walk_free(walk);
        return size;
}

static bool verify_open(struct verify *v)
{
        const struct verify_options *opt = v->opt;
        int ret;

        if (!S_ISDIR(v->op->st.mode)) {
                cli_fail_errno(v->cli, v->op->arg, -ENOTDIR);
                return false;
        }
        v->comparing = opt->against;
        v->summing = opt->sums || !opt->against;
        if (v->comparing) {
                ret = host_tree_open(&v->host, opt->against);
                if (ret < 0) {
                        cli_fail_errno(v->cli, opt->against, ret);
                        return false;
                }
        }
        ret = reader_new(v->op->image->fs, opt->depth, opt->request_size, &v->reader);
        if (ret < 0) {
                cli_fail_errno(v->cli, v->op->arg, ret);
                return false;
        }
        v->host_buffer = cli_alloc(opt->request_size, 1);
        if (v->summing)
                v->sums = sums_new();
        if (opt->raw)
                v->plan = speed_plan_new(opt->request_size, SPEED_LIMIT);
        v->differences = opt->json ? json_array() : NULL;
        v->json_sums = opt->json && opt->sums ? json_object() : NULL;
        return true;
}

static void verify_close(struct verify *v)
{
        json_decref(v->differences);
        json_decref(v->json_sums);
        if (v->plan)
                speed_plan_free(v->plan);
        sums_free(v->sums);
        free(v->host_buffer);
        reader_free(v->reader);
        host_tree_close(&v->host);
}

static void verify_operand(struct cli *cli, const struct verify_options *opt,
                           struct cli_operand *op)
{
        struct verify v = {.cli = cli, .opt = opt, .op = op};

        if (verify_open(&v)) {
                uint64_t start;

                if (progress_wanted())
                        progress_start(tree_size(op));
                start = cli_clock_ns();
                verify_tree(&v);
                progress_stop();
                v.seconds = (double)(cli_clock_ns() - start) / 1e9;
                verify_report(&v);
        }
        verify_close(&v);
}

enum {
        OPT_AGAINST = CLI_OPT_FIRST,
        OPT_IODEPTH,
        OPT_BS,
        OPT_SUMS,
        OPT_RAW,
        OPT_JSON,
};

static void parse_option(struct cli *cli, int o, struct verify_options *opt)
{
        switch (o) {
        case OPT_AGAINST:
                opt->against = optarg;
                break;
        case OPT_IODEPTH:
                opt->depth = (unsigned)cli_option_size(cli, "I/O depth", optarg, 1, 65536);
                break;
        case OPT_BS:
                opt->request_size = cli_option_size(cli, "block size", optarg,
                                                    READER_REQUEST_MIN, READER_REQUEST_MAX);
                break;
        case OPT_SUMS:
                opt->sums = true;
                break;
        case OPT_RAW:
                opt->raw = cli_option_bool(cli, "--raw", optarg);
                break;
        case OPT_JSON:
                opt->json = true;
                break;
        }
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"against", required_argument, NULL, OPT_AGAINST},
                {"iodepth", required_argument, NULL, OPT_IODEPTH},
                {"bs", required_argument, NULL, OPT_BS},
                {"sums", no_argument, NULL, OPT_SUMS},
                {"raw", optional_argument, NULL, OPT_RAW},
                {"json", no_argument, NULL, OPT_JSON},
                CLI_LONG_OPTIONS,
        };
        struct verify_options opt = {
                .depth = READER_DEPTH, .request_size = READER_REQUEST, .raw = true};
        const char *arg;
        struct cli_operand op;
        int o;

        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS, longs)) != -1)
                parse_option(cli, o, &opt);
        arg = cli_one_operand(cli, argc, argv);
        if ((uint64_t)opt.request_size * opt.depth > MAX_MEMORY)
                cli_usage_error(cli, "block size times depth is more than 4 GiB");
        if (cli_operand_open(cli, arg, CLI_FOLLOW, &op)) {
                verify_operand(cli, &opt, &op);
                cli_operand_close(&op);
        }
}

const struct cli_command cli_verify = {
        .name = "verify",
        .summary = "read everything; compare it with a directory or sum it up",
        .usage = "Usage: uext4 verify [OPTION]... IMAGE\n"
                 "Read every file of an image by asynchronous direct I/O and print how many "
                 "there\n"
                 "are, how fast it went, and how fast the raw device gives the same blocks.\n"
                 "\n"
                 "      --against=DIR      compare with DIR: names, types, modes, sizes, "
                 "links,\n"
                 "                         contents; otherwise compute checksums\n"
                 "      --sums             print SHA-256 sums as sha256sum(1) does; the table\n"
                 "                         goes to standard error\n"
                 "      --iodepth=N        requests in flight (default 32)\n"
                 "      --bs=SIZE          size of a request (default 1M)\n"
                 "      --raw=0|1          0: do not measure the raw device\n"
                 "      --json             print JSON\n",
        .run = run,
        .alone = true,
};
