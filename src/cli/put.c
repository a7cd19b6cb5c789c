/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* put.c - `uext4 put`: copy files and trees of the host into an image (see build.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/change.h"
#include "cli/copy.h"
#include "cli/progress.h"
#include "cli/text.h"

struct put {
        struct cli *cli;
        struct build *build;
        struct place to;
        bool recursive;
};

/*
 * What the host lets only root keep, nobody else gives away: without being root a copy belongs
 * to the caller, and has no set-user-ID and set-group-ID.
 */
static void take_over(struct object *o)
{
        if (geteuid() == 0)
                return;
        o->st.uid = getuid();
        o->st.gid = getgid();
        o->st.mode &= ~(uint32_t)(S_ISUID | S_ISGID);
}

static int next_of_caller(void *arg, struct copy_item *ret_item)
{
        struct copy_source from = copy_from_host(arg);
        int ret = from.next(from.arg, ret_item);

        take_over(&ret_item->object);
        return ret;
}

static void put_tree(struct put *p, const char *source, const char *name, const char *target)
{
        struct copy_source from;
        struct copy_host *host;
        int ret = copy_host_new(source, false, &host);

        if (ret < 0) {
                cli_fail_errno(p->cli, source, ret);
                return;
        }
        from = copy_from_host(host);
        from.next = next_of_caller;
        copy_tree(p->cli, p->build, &from, p->to.dir, name, target);
        copy_host_free(host);
}

/* One that is no directory: a regular file, but with -r anything. */
static void put_file(struct put *p, const struct object *o, const char *name,
                     const char *target)
{
        if (p->to.name && p->to.slash)
                cli_fail_errno(p->cli, p->to.arg, -ENOTDIR);
        else if (!p->recursive && !S_ISREG(o->st.mode))
                cli_fail(p->cli, o->source, "is not a regular file (-r copies it)");
        else
                build_file(p->build, p->to.dir, name, o, target);
}

static void put_one(struct put *p, char *source)
{
        char *base = text_base_name(source);
        const char *name = p->to.name ? p->to.name : base;
        char *target = place_text(&p->to, name ? name : "");
        struct object o;
        /* As cp: with -r a symlink is copied, without it is followed. */
        int ret = object_of_host(AT_FDCWD, source, !p->recursive, source, &o);

        if (ret == 0)
                take_over(&o);
        if (ret < 0)
                cli_fail_errno(p->cli, source, ret);
        else if (S_ISDIR(o.st.mode) && !p->recursive)
                cli_fail(p->cli, source, "-r not specified; omitting directory");
        else if (S_ISDIR(o.st.mode))
                put_tree(p, source, name, target);
        else
                put_file(p, &o, name, target);
        free(target);
        free(base);
}

static uint64_t sources_size(const struct put *p, char **sources, int nr)
{
        uint64_t size = 0;
        struct stat st;

        for (int i = 0; i < nr; i++)
                if (p->recursive || (stat(sources[i], &st) == 0 && S_ISREG(st.st_mode)))
                        size += copy_host_size(sources[i], !p->recursive);
        return size;
}

static void put_all(struct put *p, const struct build_options *options, char **sources, int nr)
{
        if (!build_new(p->cli, p->to.image, options, &p->build))
                return;
        if (progress_wanted())
                progress_start(sources_size(p, sources, nr));
        for (int i = 0; i < nr && !build_is_broken(p->build); i++)
                put_one(p, sources[i]);
        build_free(p->build);
        progress_stop();
        if (options->sync) {
                int ret = uext4_fsync_inode(p->to.dir);

                if (ret < 0)
                        cli_fail_change(p->cli, p->to.arg, ret);
        }
}

enum {
        OPT_DIRECT = CLI_OPT_FIRST,
        OPT_BUFFERED,
        OPT_FSYNC,
};

static void parse_option(struct put *p, struct build_options *options, struct override *v,
                         int o)
{
        switch (o) {
        case 'f':
                options->force = true;
                break;
        case 'n':
                options->no_clobber = true;
                break;
        case 'r':
                p->recursive = true;
                break;
        case OPT_FSYNC:
                options->sync = true;
                break;
        case OPT_DIRECT: /* the last one counts */
        case OPT_BUFFERED:
                options->buffered = o == OPT_BUFFERED;
                break;
        default:
                override_option(v, p->cli, o, optarg);
        }
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"force", no_argument, NULL, 'f'},
                {"no-clobber", no_argument, NULL, 'n'},
                {"recursive", no_argument, NULL, 'r'},
                {"direct", no_argument, NULL, OPT_DIRECT},
                {"buffered", no_argument, NULL, OPT_BUFFERED},
                {"fsync", no_argument, NULL, OPT_FSYNC},
                OVERRIDE_OPTIONS,
                CLI_LONG_OPTIONS,
        };
        struct override override;
        struct build_options options = {.override = &override};
        struct put p = {.cli = cli};
        int o, nr;

        override_init(&override, cli);
        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "fnr", longs)) != -1)
                parse_option(&p, &options, &override, o);
        nr = argc - 1 - optind;
        if (nr < 1)
                cli_usage_error(cli, "missing operand");
        if (options.force && options.no_clobber)
                cli_usage_error(cli, "-f and -n exclude each other");
        if (place_open_target(cli, argv[argc - 1], nr == 1, &p.to)) {
                put_all(&p, &options, argv + optind, nr);
                place_close(&p.to);
        }
        override_done(&override);
}

const struct cli_command cli_put = {
        .name = "put",
        .summary = "copy files and trees into an image",
        .usage = "Usage: uext4 put [OPTION]... FILE... IMAGE:/PATH\n"
                 "Copy files, or with -r trees, to PATH, or into it when it is a directory.\n"
                 "Modes, times, holes, hard links and extended attributes are kept, owners "
                 "when\n"
                 "you are root.\n"
                 "\n"
                 "      --buffered         write through files opened without O_DIRECT\n"
                 "      --direct           write by direct I/O (the default)\n"
                 "  -f, --force            replace files that exist\n"
                 "      --fsync            make each file durable before it counts as copied;\n"
                 "                         without, all are when the command "
                 "ends\n" OVERRIDE_USAGE
                 "  -n, --no-clobber       leave files that exist, and say nothing\n"
                 "  -r, --recursive        copy directories with all that is in them\n"
                 "  -v, --verbose          print the names, too\n"
                 "\n"
                 "With SOURCE_DATE_EPOCH in the environment the same tree gives the same "
                 "bytes.\n",
        .run = run,
        .writes = true,
};
