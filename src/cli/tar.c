/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tar.c - `uext4 tar`: archives from trees, and trees from archives (see tar.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/copy.h"
#include "cli/progress.h"
#include "cli/tar.h"
#include "cli/text.h"

#define BLOCK 65536

struct request {
        bool create, extract;
        const char *file;   /* NULL or "-": stdin or stdout */
        const char *filter; /* "gzip", ...; NULL: by the name of the file */
        struct build_options options;
        struct override override;
};

static bool is_std(const struct request *r)
{
        return !r->file || strcmp(r->file, "-") == 0;
}

/* ---- creating ----------------------------------------------------------- */

static const struct {
        const char *suffix, *filter;
} suffixes[] = {
        {".gz", "gzip"}, {".tgz", "gzip"}, {".bz2", "bzip2"}, {".tbz2", "bzip2"},
        {".xz", "xz"},   {".txz", "xz"},   {".zst", "zstd"},  {".tzst", "zstd"},
};

static const char *filter_of(const struct request *r)
{
        size_t len = is_std(r) ? 0 : strlen(r->file);

        for (size_t i = 0; !r->filter && i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
                size_t n = strlen(suffixes[i].suffix);

                if (len > n && strcasecmp(r->file + len - n, suffixes[i].suffix) == 0)
                        return suffixes[i].filter;
        }
        return r->filter ? r->filter : "none";
}

static int add_filter(struct archive *a, const char *name)
{
        if (strcmp(name, "none") == 0)
                return archive_write_add_filter_none(a);
        if (archive_write_add_filter_by_name(a, name) < ARCHIVE_WARN)
                return ARCHIVE_FATAL;
        /* The same tree gives the same bytes. */
        return strcmp(name, "gzip") == 0 ? archive_write_set_options(a, "gzip:!timestamp")
                                         : ARCHIVE_OK;
}

static struct archive *open_output(struct cli *cli, const struct request *r)
{
        struct archive *a = archive_write_new();
        int ret;

        if (!a || archive_write_set_format_pax(a) != ARCHIVE_OK ||
            archive_write_set_options(a, "pax:xattrheader=SCHILY") < ARCHIVE_WARN ||
            add_filter(a, filter_of(r)) < ARCHIVE_WARN) {
                tar_fail(cli, r->file, "begin an archive", a);
                archive_write_free(a);
                return NULL;
        }
        archive_write_set_bytes_in_last_block(a, is_std(r) ? 0 : 1);
        ret = archive_write_open_filename(a, is_std(r) ? NULL : r->file);
        if (ret < ARCHIVE_OK) {
                tar_fail(cli, r->file ? r->file : "standard output", "create", a);
                archive_write_free(a);
                return NULL;
        }
        return a;
}

static void create(struct cli *cli, const struct request *r, char **operands, int nr)
{
        struct archive *a;

        if (is_std(r) && isatty(STDOUT_FILENO)) {
                cli_fail(cli, NULL, "an archive is nothing for a terminal; -f FILE names one");
                return;
        }
        a = open_output(cli, r);
        for (int i = 0; a && i < nr; i++) {
                struct cli_operand op;
                char *name;

                if (!cli_operand_open(cli, operands[i], CLI_NOFOLLOW, &op))
                        continue;
                name = text_base_name(op.path);
                if (progress_wanted())
                        progress_start(copy_image_size(&op));
                tar_write(cli, a, &op, name, &r->override);
                progress_stop();
                free(name);
                cli_operand_close(&op);
        }
        if (a && archive_write_close(a) < ARCHIVE_OK)
                tar_fail(cli, r->file, "write", a);
        archive_write_free(a);
}

/* ---- extracting --------------------------------------------------------- */

/* The contents of an archive that is not compressed are nearly all of it. */
static void start_progress(const struct request *r)
{
        struct stat st;

        if (progress_wanted() && !is_std(r) && stat(r->file, &st) == 0 && S_ISREG(st.st_mode) &&
            strcmp(filter_of(r), "none") == 0)
                progress_start((uint64_t)st.st_size);
}

static void extract(struct cli *cli, const struct request *r, const char *operand)
{
        struct archive *a = archive_read_new();
        struct cli_operand op;

        archive_read_support_filter_all(a);
        archive_read_support_format_all(a);
        if (archive_read_open_filename(a, is_std(r) ? NULL : r->file, BLOCK) != ARCHIVE_OK) {
                tar_fail(cli, r->file ? r->file : "standard input", "open", a);
        } else if (cli_operand_open(cli, operand, CLI_FOLLOW, &op)) {
                if (S_ISDIR(op.st.mode)) {
                        start_progress(r);
                        tar_read(cli, a, &op, &r->options);
                        progress_stop();
                } else {
                        cli_fail_errno(cli, op.arg, -ENOTDIR);
                }
                cli_operand_close(&op);
        }
        archive_read_free(a);
}

/* ---- the command -------------------------------------------------------- */

static void parse_option(struct cli *cli, struct request *r, int o)
{
        switch (o) {
        case 'c':
                r->create = true;
                break;
        case 'f':
                r->file = optarg;
                break;
        case 'j':
                r->filter = "bzip2";
                break;
        case 'J':
                r->filter = "xz";
                break;
        case 'k':
                r->options.force = false;
                r->options.no_clobber = true;
                break;
        case 'x':
                r->extract = true;
                break;
        case 'z':
                r->filter = "gzip";
                break;
        case CLI_OPT_FIRST:
                r->filter = "zstd";
                break;
        default:
                override_option(&r->override, cli, o, optarg);
        }
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"create", no_argument, NULL, 'c'},
                {"extract", no_argument, NULL, 'x'},
                {"file", required_argument, NULL, 'f'},
                {"keep-old-files", no_argument, NULL, 'k'},
                {"gzip", no_argument, NULL, 'z'},
                {"bzip2", no_argument, NULL, 'j'},
                {"xz", no_argument, NULL, 'J'},
                {"zstd", no_argument, NULL, CLI_OPT_FIRST},
                OVERRIDE_OPTIONS,
                CLI_LONG_OPTIONS,
        };
        struct request r = {.options = {.force = true}};
        int o;

        r.options.override = &r.override;
        override_init(&r.override, cli);
        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "cf:jJkxz", longs)) != -1)
                parse_option(cli, &r, o);
        if (optind == argc)
                cli_usage_error(cli, "missing operand");
        if (r.create == r.extract)
                cli_usage_error(cli, "specify one of -c and -x");
        if (r.extract)
                cli_one_operand(cli, argc, argv);
        if (!cli->shell) /* that says what may be */
                cli->writes = r.extract;
        if (r.create)
                create(cli, &r, argv + optind, argc - optind);
        else
                extract(cli, &r, argv[optind]);
        override_done(&r.override);
}

const struct cli_command cli_tar = {
        .name = "tar",
        .summary = "make archives of trees, and trees of archives",
        .usage = "Usage: uext4 tar -c [OPTION]... IMAGE:/PATH...\n"
                 "  or:  uext4 tar -x [OPTION]... IMAGE:/DIR\n"
                 "Write trees of an image to an archive, in the pax format of tar, or read an\n"
                 "archive, of any format that libarchive knows, into a directory.  Owners, "
                 "modes,\n"
                 "times, holes, hard links, extended attributes and ACLs are kept.\n"
                 "\n"
                 "  -c, --create           write an archive\n"
                 "  -f, --file=FILE        the archive; standard output or input without\n"
                 "  -j, --bzip2; -J, --xz; -z, --gzip; --zstd\n"
                 "                         compress; else the name of FILE says it.  To read, "
                 "it\n"
                 "                         is found out\n"
                 "  -k, --keep-old-files   leave files that exist, and say nothing; else they\n"
                 "                         are replaced\n" OVERRIDE_USAGE
                 "  -v, --verbose          print the names of what is read\n"
                 "  -x, --extract          read an archive\n",
        .run = run,
};
