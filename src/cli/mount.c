/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mount.c - `uext4 mount`, and the helper that mount(8) calls under the name mount.uext4
 * or mount.fuse.uext4.
 *
 * The helper takes the arguments that mount(8) gives to its helpers, and begins where mount(8)
 * begins: set-user-ID programs and devices count, and when root mounts all may come in; options
 * take that away.
 */
#include "cli/mount.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/mount_helper.h"
#include "cli/mount_point.h"

/* Of mount(8): the command line was wrong; the mount failed. */
enum {
        HELPER_USAGE = 1,
        HELPER_FAILED = 32,
};

/* ---- operands ---------------------------------------------------------------- */

/* For mountinfo: the absolute name of the file, where there is one. */
static char *source_of(const char *image, const struct mount_options *o)
{
        const char *path = strncmp(image, "file:", 5) == 0 ? image + 5 : image;
        char *real;

        if (o->fsname)
                return cli_strdup(o->fsname);
        real = realpath(path, NULL);
        return real ? real : cli_strdup(image);
}

/* Said when it is no directory, or not there.  What is mounted there already is asked. */
static char *directory_of(struct cli *cli, const char *arg)
{
        char *dir = realpath(arg, NULL);
        struct stat st;

        if (!dir) {
                cli_fail_errno(cli, arg, -errno);
        } else if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode)) {
                cli_fail_errno(cli, arg, -ENOTDIR);
                free(dir);
                dir = NULL;
        }
        return dir;
}

static int mount_operands(struct cli *cli, struct mount_request *request, const char *dir)
{
        int status = CLI_FAILED;

        request->dir = directory_of(cli, dir);
        request->source = source_of(request->image, &request->options);
        if (request->dir)
                status = mount_start(cli, request);
        free(request->dir);
        free(request->source);
        return status;
}

/* ---- the command --------------------------------------------------------------- */

static void take_options(struct cli *cli, struct mount_options *o, const char *list)
{
        const char *why;
        char *wrong = mount_options_parse(o, list, &why);

        if (wrong)
                cli_usage_error(cli, "%s: '%s'", why, wrong);
}

enum {
        OPT_SANDBOX = CLI_OPT_FIRST,
        OPT_NO_SANDBOX,
};

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"debug", no_argument, NULL, 'd'},
                {"foreground", no_argument, NULL, 'f'},
                {"sandbox", no_argument, NULL, OPT_SANDBOX},
                {"no-sandbox", no_argument, NULL, OPT_NO_SANDBOX},
                CLI_LONG_OPTIONS,
        };
        struct mount_request r = {0};
        int o;

        mount_options_init(&r.options);
        while ((o = cli_getopt(cli, argc, argv, "df" CLI_SHORT_OPTIONS, longs)) != -1) {
                r.foreground |= o == 'f';
                if (o == 'd')
                        take_options(cli, &r.options, "debug");
                else if (o == OPT_SANDBOX || o == OPT_NO_SANDBOX)
                        take_options(cli, &r.options,
                                     o == OPT_SANDBOX ? "sandbox" : "nosandbox");
        }
        if (argc - optind != 2)
                cli_usage_error(cli, "%s operand", argc - optind < 2 ? "missing" : "extra");
        if (cli->mount_options)
                take_options(cli, &r.options, cli->mount_options);
        r.foreground |= r.options.debug;
        r.verbose = cli->verbose;
        r.image = argv[optind];
        cli->status = mount_operands(cli, &r, argv[optind + 1]);
        mount_options_free(&r.options);
}

const struct cli_command cli_mount = {
        .name = "mount",
        .summary = "mount an image by FUSE",
        .usage = "Usage: uext4 mount [OPTION]... IMAGE DIR\n"
                 "Mount a file system on a directory, and come back when it is there; a "
                 "process in\n"
                 "the background serves it until `uext4 umount DIR`.\n"
                 "\n"
                 "  -d, --debug            print each request; implies -f\n"
                 "  -f, --foreground       stay in the foreground until it is unmounted\n"
                 "      --sandbox          fail where the server cannot be put in its sandbox\n"
                 "      --no-sandbox       do without\n"
                 "\n"
                 "Mount options, beside those below: rw (the default), ro, allow_other,\n"
                 "allow_root, cache=auto|none|writeback, threads=N, fsname=NAME, nosuid, "
                 "nodev,\n"
                 "noexec and more; see uext4(1).\n",
        .run = run,
        .alone = true,
};

/* ---- the helper ------------------------------------------------------------------- */

struct helper_call {
        char *options; /* of all -o, to be freed */
        bool fake, sloppy, verbose;
};

static int helper_usage(const char *name)
{
        fprintf(stderr, "Usage: %s IMAGE DIR [-sfnv] [-o OPTIONS] [-t TYPE]\n", name);
        return HELPER_USAGE;
}

/* -n is about /etc/mtab, and -t says what the name of the helper says. */
static bool parse_call(int argc, char **argv, struct helper_call *ret_call)
{
        int o;

        *ret_call = (struct helper_call){0};
        while ((o = getopt(argc, argv, "sfnvo:t:")) != -1) {
                ret_call->fake |= o == 'f';
                ret_call->sloppy |= o == 's';
                ret_call->verbose |= o == 'v';
                if (o == 'o')
                        cli_join(&ret_call->options, optarg);
                if (o == '?')
                        return false;
        }
        return argc - optind == 2;
}

/* One after the other, so that -s can pass over what is unknown. */
static bool take_helper_options(struct cli *cli, struct mount_options *o,
                                const struct helper_call *call)
{
        char *rest = call->options, *word;
        bool is_right = true;

        while (is_right && (word = strsep(&rest, ","))) {
                const char *why;
                char *wrong = mount_options_parse(o, word, &why);

                if (wrong && !call->sloppy) {
                        cli_fail(cli, NULL, "%s: '%s'", why, wrong);
                        is_right = false;
                }
                free(wrong);
        }
        return is_right;
}

int mount_helper(int argc, char **argv)
{
        struct cli cli = {.command = &cli_mount};
        struct mount_request r = {0};
        struct helper_call call;
        bool is_right = parse_call(argc, argv, &call);
        int status;

        if (!is_right) {
                free(call.options);
                return helper_usage(argv[0]);
        }
        mount_options_init(&r.options);
        r.options.flags = 0;
        r.options.allow_other = getuid() == 0;
        is_right = take_helper_options(&cli, &r.options, &call);
        free(call.options);
        if (!is_right)
                return HELPER_USAGE;
        r.verbose = call.verbose;
        r.image = argv[optind];
        status = call.fake ? CLI_OK : mount_operands(&cli, &r, argv[optind + 1]);
        mount_options_free(&r.options);
        return status == CLI_OK ? 0 : HELPER_FAILED;
}
