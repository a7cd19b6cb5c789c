/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cli.c - messages, options, the end of the program, small things (see cli.h). */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "cli/progress.h"
#include "cli/text.h"

/* ---- messages ----------------------------------------------------------- */

static void message(struct cli *cli, const char *name, const char *fmt, va_list ap)
        __attribute__((format(printf, 3, 0)));

static void message(struct cli *cli, const char *name, const char *fmt, va_list ap)
{
        fflush(stdout); /* what came before stands before, also in `2>&1` */
        progress_hide();
        fputs("uext4: ", stderr);
        if (cli->command)
                fprintf(stderr, "%s: ", cli->command->name);
        if (name) {
                char *escaped = text_escape(name, strlen(name));

                fprintf(stderr, "%s: ", escaped);
                free(escaped);
        }
        vfprintf(stderr, fmt, ap);
        fputc('\n', stderr);
}

void cli_fail(struct cli *cli, const char *name, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        message(cli, name, fmt, ap);
        va_end(ap);
        cli->status = CLI_FAILED;
}

void cli_fail_errno(struct cli *cli, const char *name, int err)
{
        cli_fail(cli, name, "%s", cli_strerror(err));
}

void cli_warn(struct cli *cli, const char *name, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        message(cli, name, fmt, ap);
        va_end(ap);
}

const char *cli_strerror(int err)
{
        switch (err) {
        case -EBADMSG: /* "Bad message" */
                return "Checksum does not match";
        case -ENOKEY: /* "Required key not available" */
                return "Encrypted, and there is no key";
        default:
                return strerror(-err);
        }
}

/* What cannot go on ends the process; in a shell, the command. */
static _Noreturn void give_up(struct cli *cli, int status)
{
        if (cli->shell) {
                cli->status = status;
                longjmp(cli->shell->escape, 1);
        }
        exit(status);
}

void cli_usage_error(struct cli *cli, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        message(cli, NULL, fmt, ap);
        va_end(ap);
        fprintf(stderr, "Try 'uext4%s%s --help' for more information.\n",
                cli->command ? " " : "", cli->command ? cli->command->name : "");
        give_up(cli, CLI_USAGE);
}

static _Noreturn void out_of_memory(void)
{
        fputs("uext4: out of memory\n", stderr);
        exit(CLI_FAILED);
}

/* ---- options ------------------------------------------------------------ */

static const char common_usage[] =
        "\n"
        "  -o, --options LIST     mount options as in ext4(5), for example noload, sb=N,\n"
        "                         offset=BYTES; what only reads mounts `ro`\n"
        "  -v, --verbose          say more\n"
        "      --help             print this help\n"
        "\n"
        "Exit status: 0 all is well, 1 something failed, 2 wrong usage.\n";

static _Noreturn void print_help(struct cli *cli)
{
        fputs(cli->command->usage, stdout);
        fputs(common_usage, stdout);
        if (cli->shell)
                give_up(cli, cli->status);
        cli_exit(cli);
}

typedef int getopt_fn(int argc, char *const *argv, const char *shorts,
                      const struct option *longs, int *index);

static int get_option(struct cli *cli, getopt_fn *next, int argc, char **argv,
                      const char *shorts, const struct option *longs)
{
        for (;;) {
                int opt = next(argc, argv, shorts, longs, NULL);

                switch (opt) {
                case 'o':
                        if (cli->shell)
                                cli_usage_error(cli, "mount options are those of the shell");
                        cli_join(&cli->mount_options, optarg);
                        break;
                case 'v':
                        cli->verbose = true;
                        break;
                case CLI_OPT_HELP:
                        print_help(cli);
                case '?': /* getopt has said what is wrong */
                        fprintf(stderr, "Try 'uext4 %s --help' for more information.\n",
                                cli->command->name);
                        give_up(cli, CLI_USAGE);
                default:
                        return opt;
                }
        }
}

int cli_getopt(struct cli *cli, int argc, char **argv, const char *shorts,
               const struct option *longs)
{
        return get_option(cli, getopt_long, argc, argv, shorts, longs);
}

int cli_getopt_long_only(struct cli *cli, int argc, char **argv, const char *shorts,
                         const struct option *longs)
{
        return get_option(cli, getopt_long_only, argc, argv, shorts, longs);
}

const char *cli_one_operand(struct cli *cli, int argc, char **argv)
{
        if (argc - optind != 1)
                cli_usage_error(cli, "%s operand", optind == argc ? "missing" : "extra");
        return argv[optind];
}

char **cli_operands(struct cli *cli, int argc, char **argv, int *ret_nr)
{
        static char dot[] = ".", *here[] = {dot};

        *ret_nr = argc - optind;
        if (*ret_nr > 0)
                return argv + optind;
        if (!cli->shell)
                cli_usage_error(cli, "missing operand");
        *ret_nr = 1;
        return here;
}

const char *cli_one_operand_json(struct cli *cli, int argc, char **argv, bool *ret_json)
{
        static const struct option longs[] = {
                {"json", no_argument, NULL, CLI_OPT_FIRST},
                CLI_LONG_OPTIONS,
        };

        *ret_json = false;
        while (cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS, longs) != -1)
                *ret_json = true;
        return cli_one_operand(cli, argc, argv);
}

uint64_t cli_option_size(struct cli *cli, const char *option, const char *value, uint64_t min,
                         uint64_t max)
{
        uint64_t n;

        if (text_parse_size(value, &n) < 0)
                cli_usage_error(cli, "invalid %s: '%s'", option, value);
        if (n < min || n > max)
                cli_usage_error(cli, "%s out of range: '%s'", option, value);
        return n;
}

bool cli_option_bool(struct cli *cli, const char *option, const char *value)
{
        if (!value || strcmp(value, "1") == 0)
                return true;
        if (strcmp(value, "0") != 0)
                cli_usage_error(cli, "%s must be 0 or 1, not '%s'", option, value);
        return false;
}

/* ---- the end -------------------------------------------------------------- */

/* A full disk may show only here.  A stdout that was closed from the start is no error while
 * nothing was written to it. */
static void stdout_close(struct cli *cli)
{
        bool failed = ferror(stdout);

        if (fflush(stdout) != 0 || failed)
                cli_fail(cli, NULL, "write error: %s", strerror(errno));
        else if (close(STDOUT_FILENO) != 0 && errno != EBADF)
                cli_fail(cli, NULL, "write error: %s", strerror(errno));
}

void cli_exit(struct cli *cli)
{
        progress_hide();
        cli_images_close(cli);
        free(cli->mount_options);
        stdout_close(cli);
        exit(cli->status);
}

/* ---- small things ------------------------------------------------------- */

void *cli_alloc(size_t nr, size_t size)
{
        void *mem = calloc(nr ? nr : 1, size);

        if (!mem)
                out_of_memory();
        return mem;
}

void *cli_alloc_aligned(size_t align, size_t size)
{
        void *mem;

        if (posix_memalign(&mem, align, size) != 0)
                out_of_memory();
        return mem;
}

void *cli_realloc(void *mem, size_t nr, size_t size)
{
        mem = reallocarray(mem, nr ? nr : 1, size);
        if (!mem)
                out_of_memory();
        return mem;
}

char *cli_strdup(const char *s)
{
        char *copy = strdup(s);

        if (!copy)
                out_of_memory();
        return copy;
}

char *cli_printf(const char *fmt, ...)
{
        va_list ap;
        char *s;
        int ret;

        va_start(ap, fmt);
        ret = vasprintf(&s, fmt, ap);
        va_end(ap);
        if (ret < 0)
                out_of_memory();
        return s;
}

void cli_join(char **list, const char *word)
{
        char *old = *list;

        *list = old && *old ? cli_printf("%s,%s", old, word) : cli_strdup(word);
        free(old);
}

void cli_raise_file_limit(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
                limit.rlim_cur = limit.rlim_max;
                setrlimit(RLIMIT_NOFILE, &limit); /* else there are fewer */
        }
}

uint64_t cli_clock_ns(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
