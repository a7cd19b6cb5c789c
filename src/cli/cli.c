/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cli.c - messages, options, images and operands (see cli.h).
 *
 * An image is opened once as a device, read-only, and mounted on that: `bench --raw` and
 * `verify` read through the same device what the file system reads through it.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
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

void cli_usage_error(struct cli *cli, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        message(cli, NULL, fmt, ap);
        va_end(ap);
        fprintf(stderr, "Try 'uext4%s%s --help' for more information.\n",
                cli->command ? " " : "", cli->command ? cli->command->name : "");
        exit(CLI_USAGE);
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

static void add_mount_options(struct cli *cli, const char *list)
{
        char *old = cli->mount_options;

        cli->mount_options = old ? cli_printf("%s,%s", old, list) : cli_strdup(list);
        free(old);
}

static _Noreturn void print_help(struct cli *cli)
{
        fputs(cli->command->usage, stdout);
        fputs(common_usage, stdout);
        cli_exit(cli);
}

int cli_getopt(struct cli *cli, int argc, char **argv, const char *shorts,
               const struct option *longs)
{
        for (;;) {
                int opt = getopt_long(argc, argv, shorts, longs, NULL);

                switch (opt) {
                case 'o':
                        add_mount_options(cli, optarg);
                        break;
                case 'v':
                        cli->verbose = true;
                        break;
                case CLI_OPT_HELP:
                        print_help(cli);
                case '?': /* getopt has said what is wrong */
                        fprintf(stderr, "Try 'uext4 %s --help' for more information.\n",
                                cli->command->name);
                        exit(CLI_USAGE);
                default:
                        return opt;
                }
        }
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

/* ---- images ------------------------------------------------------------- */

static void log_line(void *arg, int level, const char *text)
{
        const struct cli *cli = arg;

        if (level >= LOG_DEBUG && !cli->verbose)
                return;
        progress_hide();
        fprintf(stderr, "uext4: %s\n", text);
}

struct uext4_mount_params cli_params(struct cli *cli)
{
        return (struct uext4_mount_params){
                .options = cli->mount_options, .log = log_line, .log_arg = cli};
}

/*
 * Take offset= out of the mount options: a device that is open already is cut here.  Returns
 * the other options, to be freed; the last offset counts.
 */
static char *take_offset(struct cli *cli, uint64_t *ret_offset)
{
        static const char key[] = "offset=";
        char *copy = cli_strdup(cli->mount_options ? cli->mount_options : ""), *rest = copy;
        char *options = cli_strdup(cli->writes ? "rw" : "ro"), *option;

        *ret_offset = 0;
        while ((option = strsep(&rest, ","))) {
                char *longer;

                if (strncmp(option, key, sizeof(key) - 1) == 0) {
                        *ret_offset = cli_option_size(cli, "offset", option + sizeof(key) - 1,
                                                      0, INT64_MAX);
                        continue;
                }
                longer = *option ? cli_printf("%s,%s", options, option) : cli_strdup(options);
                free(options);
                options = longer;
        }
        free(copy);
        return options;
}

static int image_open_device(struct cli *cli, struct cli_image *image, uint64_t offset)
{
        struct uext4_bdev *dev;
        uint32_t flags = cli->writes ? 0 : UEXT4_BDEV_OPEN_READONLY;
        int ret = uext4_bdev_open(image->uri, flags, log_line, cli, &dev);

        if (ret == 0 && offset > 0) {
                ret = uext4_bdev_open_slice(dev, offset, 0, &image->dev);
                if (ret < 0)
                        uext4_bdev_close(dev);
        } else if (ret == 0) {
                image->dev = dev;
        }
        if (ret < 0)
                cli_fail_errno(cli, image->uri, ret);
        return ret;
}

static void fail_mount(struct cli *cli, const char *uri, int err)
{
        if (err == -EROFS)
                cli_fail(cli, uri,
                         "the journal must be replayed first; "
                         "-o noload reads the image as it is");
        else if (err == -EINVAL)
                cli_fail(cli, uri, "cannot mount: no ext4 file system, or wrong options");
        else
                cli_fail(cli, uri, "cannot mount: %s", cli_strerror(err));
}

static int image_mount(struct cli *cli, struct cli_image *image)
{
        struct uext4_mount_params params = {.log = log_line, .log_arg = cli};
        uint64_t offset;
        char *options = take_offset(cli, &offset);
        int ret = image_open_device(cli, image, offset);

        if (ret == 0) {
                params.options = options;
                ret = uext4_mount_bdev(image->dev, &params, &image->fs);
                if (ret < 0) {
                        fail_mount(cli, image->uri, ret);
                        uext4_bdev_close(image->dev);
                }
        }
        free(options);
        return ret;
}

struct cli_image *cli_image_get(struct cli *cli, const char *uri)
{
        struct cli_image *image;

        for (image = cli->images; image; image = image->next)
                if (strcmp(image->uri, uri) == 0)
                        return image;
        image = cli_alloc(1, sizeof(*image));
        image->uri = cli_strdup(uri);
        if (image_mount(cli, image) < 0) {
                free(image->uri);
                free(image);
                return NULL;
        }
        image->next = cli->images;
        cli->images = image;
        return image;
}

static void images_close(struct cli *cli)
{
        while (cli->images) {
                struct cli_image *image = cli->images;
                int ret = uext4_unmount(image->fs);

                if (ret < 0)
                        cli_fail(cli, image->uri, "cannot unmount: %s", cli_strerror(ret));
                if (ret != -EBUSY)
                        uext4_bdev_close(image->dev);
                cli->images = image->next;
                free(image->uri);
                free(image);
        }
}

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
        images_close(cli);
        free(cli->mount_options);
        stdout_close(cli);
        exit(cli->status);
}

/* ---- operands ----------------------------------------------------------- */

/* The length of a URI scheme that the library knows, with its colon. */
static size_t scheme_length(const char *uri)
{
        static const char *const schemes[] = {"file:", "mmap:", "mem:"};

        for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
                if (strncmp(uri, schemes[i], strlen(schemes[i])) == 0)
                        return strlen(schemes[i]);
        return 0;
}

/*
 * An image's name may hold ":/" itself, and a path in it too.  The first ":/" behind a file
 * that exists is the one; when no such file exists, the last one, so that the message names the
 * image that was most likely meant.
 */
size_t cli_operand_split(const char *arg)
{
        size_t scheme = scheme_length(arg), last = strlen(arg);

        for (const char *at = strstr(arg + scheme, ":/"); at; at = strstr(at + 1, ":/")) {
                char *left = strndup(arg + scheme, (size_t)(at - arg) - scheme);
                bool exists;

                if (!left)
                        out_of_memory();
                exists = *left && access(left, F_OK) == 0;
                free(left);
                last = (size_t)(at - arg);
                if (exists)
                        break;
        }
        return last;
}

bool cli_operand_open(struct cli *cli, const char *arg, enum cli_follow follow,
                      struct cli_operand *ret_op)
{
        size_t split = cli_operand_split(arg);
        struct cli_operand op = {.arg = cli_printf("%s%s", arg, arg[split] ? "" : ":/")};
        char *uri = cli_strdup(arg);
        int ret;

        uri[split] = '\0';
        op.image = cli_image_get(cli, uri);
        free(uri);
        if (!op.image) {
                free(op.arg);
                return false;
        }
        op.path = cli_strdup(arg[split] ? arg + split + 1 : "/");
        ret = uext4_resolve(op.image->fs, op.path, follow == CLI_NOFOLLOW ? UEXT4_NOFOLLOW : 0,
                            &op.inode);
        if (ret == 0)
                ret = uext4_stat(op.inode, &op.st);
        if (ret < 0) {
                cli_fail_errno(cli, arg, ret);
                cli_operand_close(&op);
                return false;
        }
        *ret_op = op;
        return true;
}

bool cli_operand_exists(struct cli *cli, const char *arg)
{
        size_t split = cli_operand_split(arg);
        char *uri = cli_printf("%.*s", (int)split, arg);
        struct cli_image *image = cli_image_get(cli, uri);
        struct uext4_inode *inode;
        int ret = -ENOENT;

        free(uri);
        if (image)
                ret = uext4_resolve(image->fs, arg[split] ? arg + split + 1 : "/", 0, &inode);
        if (ret == 0)
                uext4_inode_put(inode);
        return ret != -ENOENT;
}

void cli_operand_close(struct cli_operand *op)
{
        uext4_inode_put(op->inode);
        free(op->path);
        free(op->arg);
}

char *cli_operand_name(const struct cli_operand *op, const char *path)
{
        bool slash = op->arg[strlen(op->arg) - 1] == '/' || !*path;

        return cli_printf("%s%s%s", op->arg, slash ? "" : "/", path);
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

uint64_t cli_clock_ns(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
