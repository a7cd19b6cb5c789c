/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * image.c - images and operands (see cli.h).
 *
 * An image is opened once as a device, read-only unless the command writes, and mounted on
 * that: `bench --raw` and `verify` go through the same device as the file system.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/date.h"
#include "cli/progress.h"

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

/* SOURCE_DATE_EPOCH asks for images that can be made again, byte for byte. */
static char *first_options(struct cli *cli)
{
        int64_t epoch;

        if (cli->writes && date_epoch(cli, &epoch))
                return cli_printf("rw,nodelalloc,epoch=%" PRIi64, epoch);
        return cli_strdup(cli->writes ? "rw" : "ro");
}

/*
 * Take offset= out of the mount options: a device that is open already is cut here.  Returns
 * the other options, to be freed; the last offset counts.
 */
static char *take_offset(struct cli *cli, uint64_t *ret_offset)
{
        static const char key[] = "offset=";
        char *copy = cli_strdup(cli->mount_options ? cli->mount_options : ""), *rest = copy;
        char *options = first_options(cli), *option;

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
        if (ret == -EBUSY)
                cli_fail(cli, image->uri, "in use by another program, or mounted");
        else if (ret < 0)
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

void cli_images_close(struct cli *cli)
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
                int len = (int)((size_t)(at - arg) - scheme);
                char *left = cli_printf("%.*s", len, arg + scheme);
                bool exists;

                exists = *left && access(left, F_OK) == 0;
                free(left);
                last = (size_t)(at - arg);
                if (exists)
                        break;
        }
        return last;
}

struct cli_image *cli_operand_image(struct cli *cli, const char *arg, const char **ret_path)
{
        size_t split = cli_operand_split(arg);
        char *uri = cli_printf("%.*s", (int)split, arg);
        struct cli_image *image = cli_image_get(cli, uri);

        free(uri);
        *ret_path = arg[split] ? arg + split + 1 : "/";
        return image;
}

char *cli_operand_full(struct cli *cli, const char *arg)
{
        size_t split = cli_operand_split(arg);
        const struct cli_shell *shell = cli->shell;
        const char *cwd;

        if (!shell || arg[split] == ':')
                return cli_strdup(arg);
        if (*arg == '/')
                return cli_printf("%s:%s", shell->image, arg);
        cwd = shell->cwd;
        if (strcmp(arg, ".") == 0)
                return cli_printf("%s:%s", shell->image, cwd);
        return cli_printf("%s:%s%s%s", shell->image, cwd, cwd[1] ? "/" : "", arg);
}

bool cli_operand_open(struct cli *cli, const char *arg, enum cli_follow follow,
                      struct cli_operand *ret_op)
{
        struct cli_operand op = {.arg = cli_operand_full(cli, arg)};
        const char *path;
        int ret;

        op.image = cli_operand_image(cli, op.arg, &path);
        if (!op.image) {
                cli_operand_close(&op);
                return false;
        }
        op.path = cli_strdup(path);
        ret = uext4_resolve(op.image->fs, op.path, follow == CLI_NOFOLLOW ? UEXT4_NOFOLLOW : 0,
                            &op.inode);
        if (ret == 0)
                ret = uext4_stat(op.inode, &op.st);
        if (ret < 0) {
                cli_fail_errno(cli, op.arg, ret);
                cli_operand_close(&op);
                return false;
        }
        if (!op.arg[cli_operand_split(op.arg)]) {
                char *bare = op.arg;

                op.arg = cli_printf("%s:/", bare);
                free(bare);
        }
        *ret_op = op;
        return true;
}

bool cli_operand_exists(struct cli *cli, const char *arg, enum cli_follow follow)
{
        char *full = cli_operand_full(cli, arg);
        const char *path;
        struct cli_image *image = cli_operand_image(cli, full, &path);
        struct uext4_inode *inode;
        int ret = -ENOENT;

        if (image)
                ret = uext4_resolve(image->fs, path,
                                    follow == CLI_NOFOLLOW ? UEXT4_NOFOLLOW : 0, &inode);
        if (ret == 0)
                uext4_inode_put(inode);
        free(full);
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
