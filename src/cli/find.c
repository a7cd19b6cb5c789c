/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * find.c - `uext4 find`: names in trees, in the words of find(1).
 *
 * All tests must hold.  find(1) writes them with one dash; so may be done here.
 */
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/json.h"
#include "cli/mode.h"
#include "cli/text.h"
#include "cli/walk.h"

enum test_kind {
        TEST_EMPTY = CLI_OPT_FIRST,
        TEST_GID,
        TEST_INAME,
        TEST_LINKS,
        TEST_NAME,
        TEST_NEWER,
        TEST_PATH,
        TEST_PERM,
        TEST_SIZE,
        TEST_TYPE,
        TEST_UID,
        OPT_JSON,
        OPT_MAXDEPTH,
        OPT_MINDEPTH,
        OPT_PRINT0,
};

struct test {
        enum test_kind kind;
        const char *text;   /* a pattern, or letters of types */
        char sign;          /* of a number: '+', '-', '/', or 0 */
        uint64_t n;         /* it */
        uint64_t unit;      /* of a size; sizes are rounded up to it */
        struct timespec ts; /* TEST_NEWER */
};

struct find {
        struct cli *cli;
        struct cli_operand op;
        struct test *tests;
        size_t nr;
        uint64_t min_depth, max_depth;
        bool print0, escape;
        json_t *array; /* NULL: lines */
};

/* ---- tests -------------------------------------------------------------- */

static bool number_holds(const struct test *t, uint64_t n)
{
        return t->sign == '+' ? n > t->n : t->sign == '-' ? n < t->n : n == t->n;
}

static bool perm_holds(const struct test *t, uint32_t mode)
{
        mode &= 07777;
        switch (t->sign) {
        case '-':
                return (mode & t->n) == t->n;
        case '/':
                return t->n == 0 || (mode & t->n);
        default:
                return mode == t->n;
        }
}

static bool is_empty(const struct walk_item *item)
{
        if (S_ISDIR(item->st.mode))
                return item->list && item->list->nr == 0 && item->error == 0;
        return S_ISREG(item->st.mode) && item->st.size == 0;
}

static bool is_newer(struct timespec a, struct timespec b)
{
        return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

static bool type_holds(const struct test *t, uint32_t mode)
{
        char text[TEXT_MODE_MAX], letter = text_mode(text, mode)[0];

        return strchr(t->text, letter == '-' ? 'f' : letter);
}

static bool holds(const struct test *t, const struct walk_item *item, const char *name,
                  const char *path)
{
        const struct uext4_stat *st = &item->st;

        switch (t->kind) {
        case TEST_EMPTY:
                return is_empty(item);
        case TEST_GID:
                return number_holds(t, st->gid);
        case TEST_INAME:
                return fnmatch(t->text, name, FNM_CASEFOLD) == 0;
        case TEST_LINKS:
                return number_holds(t, st->nlink);
        case TEST_NAME:
                return fnmatch(t->text, name, 0) == 0;
        case TEST_NEWER:
                return is_newer(st->mtime, t->ts);
        case TEST_PATH:
                return fnmatch(t->text, path, 0) == 0;
        case TEST_PERM:
                return perm_holds(t, st->mode);
        case TEST_SIZE:
                return number_holds(t, st->size / t->unit + (st->size % t->unit != 0));
        case TEST_TYPE:
                return type_holds(t, st->mode);
        default:
                return number_holds(t, st->uid);
        }
}

/* ---- output ------------------------------------------------------------- */

static void print_json(struct find *f, const char *path, const struct uext4_stat *st)
{
        json_t *o = json_object();

        json_add_text(o, "name", path);
        json_add_text(o, "type", text_file_type(st->mode));
        json_add_uint(o, "ino", st->ino);
        json_add_uint(o, "size", st->size);
        json_add_uint(o, "mode", st->mode & 07777);
        json_push(f->array, o);
}

static void print(struct find *f, const char *path, const struct uext4_stat *st)
{
        if (f->array) {
                print_json(f, path, st);
        } else if (f->print0) {
                fwrite(path, 1, strlen(path) + 1, stdout);
        } else if (f->escape) {
                char *text = text_escape(path, strlen(path));

                puts(text);
                free(text);
        } else {
                puts(path);
        }
}

/* ---- the walk ----------------------------------------------------------- */

static uint64_t depth_of(const char *path)
{
        uint64_t depth = *path ? 1 : 0;

        for (; *path; path++)
                depth += *path == '/';
        return depth;
}

static void visit(struct find *f, const struct walk_item *item, uint64_t depth,
                  const char *path)
{
        char *base = *item->name ? NULL : text_base_name(f->op.path);
        const char *name = *item->name ? item->name : base ? base : "/";
        bool all = depth >= f->min_depth;

        for (size_t i = 0; i < f->nr && all; i++)
                all = holds(&f->tests[i], item, name, path);
        if (all)
                print(f, path, &item->st);
        free(base);
}

static void find_in(struct find *f)
{
        struct walk *walk = walk_new(f->op.image->fs, f->op.inode);
        struct walk_item item;

        while (walk_next(walk, &item) > 0) {
                uint64_t depth = depth_of(item.path);
                char *path;

                if (item.event == WALK_LEAVE)
                        continue;
                path = cli_operand_name(&f->op, item.path);
                if (item.event != WALK_ERROR)
                        visit(f, &item, depth, path);
                if (item.event == WALK_ERROR || item.error < 0)
                        cli_fail(f->cli, path, "%s",
                                 item.what ? item.what : cli_strerror(item.error));
                if (item.event == WALK_ENTER && depth >= f->max_depth)
                        walk_skip(walk);
                free(path);
        }
        walk_free(walk);
}

/* ---- the command line --------------------------------------------------- */

static uint64_t parse_number(struct cli *cli, const char *option, const char *text)
{
        return cli_option_size(cli, option, text, 0, UINT64_MAX);
}

/* As find: a bare number counts blocks of 512 bytes. */
static void parse_size(struct cli *cli, struct test *t, const char *text)
{
        static const char letters[] = "cbkMGT";
        static const uint64_t units[] = {1, 512, 1024, 1 << 20, 1 << 30, (uint64_t)1 << 40};
        size_t len = strspn(text, "0123456789");
        const char *at = strchr(letters, text[len]);
        char *digits = cli_printf("%.*s", (int)len, text);

        if (!text[len])
                t->unit = 512;
        else if (at && !text[len + 1])
                t->unit = units[at - letters];
        if (t->unit == 0 || len == 0)
                cli_usage_error(cli, "invalid --size: '%s'", text);
        t->n = parse_number(cli, "--size", digits);
        free(digits);
}

static void parse_perm(struct cli *cli, struct test *t, const char *text)
{
        struct mode_spec spec;

        if (mode_parse(text, 0, &spec) < 0)
                cli_usage_error(cli, "invalid --perm: '%s'", text);
        t->n = mode_apply(&spec, 0);
        mode_done(&spec);
}

static bool take_newer(struct cli *cli, struct test *t, const char *arg)
{
        struct cli_operand op;

        if (!cli_operand_open(cli, arg, CLI_FOLLOW, &op))
                return false;
        t->ts = op.st.mtime;
        cli_operand_close(&op);
        return true;
}

static const struct option longs[] = {
        {"empty", no_argument, NULL, TEST_EMPTY},
        {"gid", required_argument, NULL, TEST_GID},
        {"iname", required_argument, NULL, TEST_INAME},
        {"json", no_argument, NULL, OPT_JSON},
        {"links", required_argument, NULL, TEST_LINKS},
        {"maxdepth", required_argument, NULL, OPT_MAXDEPTH},
        {"mindepth", required_argument, NULL, OPT_MINDEPTH},
        {"name", required_argument, NULL, TEST_NAME},
        {"newer", required_argument, NULL, TEST_NEWER},
        {"path", required_argument, NULL, TEST_PATH},
        {"perm", required_argument, NULL, TEST_PERM},
        {"print0", no_argument, NULL, OPT_PRINT0},
        {"size", required_argument, NULL, TEST_SIZE},
        {"type", required_argument, NULL, TEST_TYPE},
        {"uid", required_argument, NULL, TEST_UID},
        CLI_LONG_OPTIONS,
};

/* What --newer names can only be looked at when all is parsed: -o may come behind. */
static void add_test(struct find *f, int kind, const char *arg)
{
        struct test t = {.kind = (enum test_kind)kind, .text = arg};
        const char *signs = kind == TEST_PERM ? "-/" : "+-";

        if (kind != TEST_EMPTY && kind != TEST_NEWER && *arg && strchr(signs, *arg))
                t.sign = *arg;
        if (kind == TEST_SIZE)
                parse_size(f->cli, &t, arg + (t.sign != 0));
        else if (kind == TEST_PERM)
                parse_perm(f->cli, &t, arg + (t.sign != 0));
        else if (kind == TEST_UID || kind == TEST_GID || kind == TEST_LINKS)
                t.n = parse_number(f->cli, "number", arg + (t.sign != 0));
        else if (kind == TEST_TYPE && (!*arg || arg[strspn(arg, "bcdflps,")]))
                cli_usage_error(f->cli, "invalid --type: '%s'", arg);
        f->tests = cli_realloc(f->tests, f->nr + 1, sizeof(*f->tests));
        f->tests[f->nr++] = t;
}

static void parse_option(struct find *f, int o)
{
        switch (o) {
        case OPT_JSON:
                if (!f->array)
                        f->array = json_array();
                break;
        case OPT_MAXDEPTH:
                f->max_depth = parse_number(f->cli, "--maxdepth", optarg);
                break;
        case OPT_MINDEPTH:
                f->min_depth = parse_number(f->cli, "--mindepth", optarg);
                break;
        case OPT_PRINT0:
                f->print0 = true;
                break;
        default:
                add_test(f, o, optarg);
        }
}

static void find_all(struct find *f, char **operands, int nr)
{
        for (size_t i = 0; i < f->nr; i++)
                if (f->tests[i].kind == TEST_NEWER &&
                    !take_newer(f->cli, &f->tests[i], f->tests[i].text))
                        return;
        for (int i = 0; i < nr; i++) {
                if (!cli_operand_open(f->cli, operands[i], CLI_NOFOLLOW, &f->op))
                        continue;
                find_in(f);
                cli_operand_close(&f->op);
        }
        if (f->array)
                json_print(f->array);
}

static void run(struct cli *cli, int argc, char **argv)
{
        struct find f = {.cli = cli, .max_depth = UINT64_MAX, .escape = isatty(STDOUT_FILENO)};
        char **operands;
        int o, nr;

        while ((o = cli_getopt_long_only(cli, argc, argv, CLI_SHORT_OPTIONS, longs)) != -1)
                parse_option(&f, o);
        operands = cli_operands(cli, argc, argv, &nr);
        find_all(&f, operands, nr);
        free(f.tests);
}

const struct cli_command cli_find = {
        .name = "find",
        .summary = "list the names in trees that pass tests",
        .usage = "Usage: uext4 find [OPTION]... IMAGE:/PATH...\n"
                 "List the names in trees for which all tests hold.  The tests may be written\n"
                 "with one dash, too, and N as +N, more, or -N, fewer.\n"
                 "\n"
                 "      --empty            a file or directory with nothing in it\n"
                 "      --iname=PATTERN    as --name, upper and lower case are the same\n"
                 "      --links=N          so many names\n"
                 "      --name=PATTERN     the name matches, as in the shell\n"
                 "      --newer=FILE       was modified later than IMAGE:/PATH\n"
                 "      --path=PATTERN     IMAGE:/PATH as a whole matches\n"
                 "      --perm=MODE        permissions; -MODE all of these, /MODE any\n"
                 "      --size=N[cbkMGT]   in bytes, 512, KiB and so on, rounded up\n"
                 "      --type=LETTERS     one of b, c, d, f, l, p, s\n"
                 "      --uid=N, --gid=N   owner, group\n"
                 "\n"
                 "      --maxdepth=N       go down so far, 0 is the operand itself\n"
                 "      --mindepth=N       leave out what is not so deep\n"
                 "      --json             print a JSON array with one object for each\n"
                 "      --print0           end each name with a NUL instead of a newline\n",
        .run = run,
};
