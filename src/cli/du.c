/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * du.c - `uext4 du`: the space that trees take, in the words of du(1).
 *
 * A file with several names counts once, where it is met first.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/json.h"
#include "cli/links.h"
#include "cli/text.h"
#include "cli/walk.h"

struct options {
        bool all, apparent, human, summarize;
        unsigned max_depth;
        json_t *array; /* NULL: for people */
};

struct du {
        struct cli *cli;
        const struct options *opt;
        struct cli_operand op;
        struct links *links; /* of all operands */
        uint64_t *sums;      /* bytes, of the directories that the walk is in */
        size_t nr, room;
};

static uint64_t size_of(const struct options *opt, const struct uext4_stat *st)
{
        return opt->apparent ? st->size : st->blocks * 512;
}

static void print(const struct du *du, const char *path, uint64_t bytes)
{
        char *name = cli_operand_name(&du->op, path), *text, buf[TEXT_BYTES_MAX];

        if (du->opt->array) {
                json_t *o = json_object();

                json_add_text(o, "name", name);
                json_add_uint(o, "bytes", bytes);
                json_push(du->opt->array, o);
        } else {
                text = text_escape(name, strlen(name));
                if (du->opt->human)
                        printf("%s\t%s\n", text_bytes(buf, bytes), text);
                else
                        printf("%" PRIu64 "\t%s\n", (bytes + 1023) / 1024, text);
                free(text);
        }
        free(name);
}

static void enter(struct du *du, const struct walk_item *item)
{
        if (du->nr == du->room) {
                du->room = 2 * du->room + 16;
                du->sums = cli_realloc(du->sums, du->room, sizeof(*du->sums));
        }
        du->sums[du->nr++] = size_of(du->opt, &item->st);
}

static void leave(struct du *du, const struct walk_item *item)
{
        uint64_t sum = du->sums[--du->nr];

        if (du->nr > 0)
                du->sums[du->nr - 1] += sum;
        if (du->nr == 0 || (!du->opt->summarize && du->nr <= du->opt->max_depth))
                print(du, item->path, sum);
}

static void file(struct du *du, const struct walk_item *item)
{
        const struct links_key key = {(uintptr_t)du->op.image, item->st.ino};
        uint64_t bytes = size_of(du->opt, &item->st);

        if (item->st.nlink > 1) {
                if (links_find(du->links, key))
                        return;
                links_add(du->links, key, NULL, 0);
        }
        if (du->nr > 0)
                du->sums[du->nr - 1] += bytes;
        if (du->nr == 0 ||
            (du->opt->all && !du->opt->summarize && du->nr <= du->opt->max_depth))
                print(du, item->path, bytes);
}

static void fail(struct du *du, const struct walk_item *item)
{
        char *name = cli_operand_name(&du->op, item->path);

        cli_fail(du->cli, name, "%s", item->what ? item->what : cli_strerror(item->error));
        free(name);
}

static void du_one(struct cli *cli, const char *arg, const struct options *opt,
                   struct links *links)
{
        struct du du = {.cli = cli, .opt = opt, .links = links};
        struct walk_item item;
        struct walk *walk;

        if (!cli_operand_open(cli, arg, CLI_NOFOLLOW, &du.op))
                return;
        walk = walk_new(du.op.image->fs, du.op.inode);
        while (walk_next(walk, &item) > 0) {
                switch (item.event) {
                case WALK_FILE:
                        file(&du, &item);
                        break;
                case WALK_ENTER:
                        enter(&du, &item);
                        if (item.error < 0)
                                fail(&du, &item);
                        break;
                case WALK_LEAVE:
                        leave(&du, &item);
                        break;
                case WALK_ERROR:
                        fail(&du, &item);
                        break;
                }
        }
        walk_free(walk);
        free(du.sums);
        cli_operand_close(&du.op);
}

static void parse_option(struct cli *cli, int o, struct options *opt)
{
        switch (o) {
        case 'a':
                opt->all = true;
                break;
        case 'd':
                opt->max_depth =
                        (unsigned)cli_option_size(cli, "--max-depth", optarg, 0, UINT32_MAX);
                break;
        case 'h':
                opt->human = true;
                break;
        case 's':
                opt->summarize = true;
                break;
        case CLI_OPT_FIRST:
                opt->apparent = true;
                break;
        default:
                if (!opt->array)
                        opt->array = json_array();
        }
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"all", no_argument, NULL, 'a'},
                {"apparent-size", no_argument, NULL, CLI_OPT_FIRST},
                {"human-readable", no_argument, NULL, 'h'},
                {"json", no_argument, NULL, CLI_OPT_FIRST + 1},
                {"max-depth", required_argument, NULL, 'd'},
                {"summarize", no_argument, NULL, 's'},
                CLI_LONG_OPTIONS,
        };
        struct options opt = {.max_depth = UINT32_MAX};
        struct links links = {0};
        char **operands;
        int o, nr;

        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "ad:hs", longs)) != -1)
                parse_option(cli, o, &opt);
        operands = cli_operands(cli, argc, argv, &nr);
        for (int i = 0; i < nr; i++)
                du_one(cli, operands[i], &opt, &links);
        links_done(&links);
        if (opt.array)
                json_print(opt.array);
}

const struct cli_command cli_du = {
        .name = "du",
        .summary = "show how much space trees take",
        .usage = "Usage: uext4 du [OPTION]... IMAGE:/PATH...\n"
                 "Show the space of each directory with all that is in it, in KiB.  A file "
                 "with\n"
                 "several names counts once.\n"
                 "\n"
                 "  -a, --all              a line for each file, too\n"
                 "      --apparent-size    sizes of files instead of their blocks\n"
                 "  -d, --max-depth=N      lines only for what is so deep at most\n"
                 "  -h, --human-readable   sizes in units of 1024, such as 1.5 MiB\n"
                 "      --json             print a JSON array; sizes are bytes\n"
                 "  -s, --summarize        one line for each operand\n",
        .run = run,
};
