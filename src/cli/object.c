/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* object.c - something to be copied, of the host or of an image (see object.h). */
#include "cli/object.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cli/cli.h"

/* ---- of an image -------------------------------------------------------- */

static int image_readlink(const struct object *o, char *buf, size_t size)
{
        ssize_t len = uext4_readlink(o->inode, buf, size - 1);

        if (len < 0)
                return (int)len;
        if ((size_t)len >= size)
                return -ENAMETOOLONG;
        buf[len] = '\0';
        return strlen(buf) == (size_t)len ? 0 : -EUCLEAN;
}

static ssize_t image_listxattr(const struct object *o, char *buf, size_t size)
{
        return uext4_listxattr(o->inode, buf, size);
}

static ssize_t image_getxattr(const struct object *o, const char *name, void *buf, size_t size)
{
        return uext4_getxattr(o->inode, name, buf, size);
}

static int image_open(const struct object *o, struct content *ret_content)
{
        struct uext4_file *file;
        int ret = uext4_open(o->inode, O_RDONLY, &file);

        if (ret == 0)
                *ret_content = content_of_image(file);
        return ret;
}

struct object object_of_image(struct cli_image *image, struct uext4_inode *inode,
                              const struct uext4_stat *st, char *source)
{
        static const struct object_ops ops = {image_readlink, image_listxattr, image_getxattr,
                                              image_open};

        return (struct object){
                .ops = &ops,
                .source = source,
                .key = {.dev = (uintptr_t)image, .ino = st->ino},
                .st = *st,
                .inode = inode,
        };
}

/* ---- of the host -------------------------------------------------------- */

static int host_readlink(const struct object *o, char *buf, size_t size)
{
        ssize_t len = readlinkat(o->dir, o->name, buf, size);

        if (len < 0)
                return -errno;
        if ((size_t)len >= size)
                return -ENAMETOOLONG;
        buf[len] = '\0';
        return 0;
}

/* There are no calls by directory and name that every kernel has; /proc leads there. */
static char *host_path(const struct object *o)
{
        if (o->dir == AT_FDCWD)
                return cli_strdup(o->name);
        return cli_printf("/proc/self/fd/%d/%s", o->dir, o->name);
}

static ssize_t host_listxattr(const struct object *o, char *buf, size_t size)
{
        char *path = host_path(o);
        ssize_t ret = o->follow ? listxattr(path, buf, size) : llistxattr(path, buf, size);

        if (ret < 0)
                ret = errno == ENOTSUP ? 0 : -errno;
        free(path);
        return ret;
}

static ssize_t host_getxattr(const struct object *o, const char *name, void *buf, size_t size)
{
        char *path = host_path(o);
        ssize_t ret =
                o->follow ? getxattr(path, name, buf, size) : lgetxattr(path, name, buf, size);

        if (ret < 0)
                ret = -errno;
        free(path);
        return ret;
}

static int host_open(const struct object *o, struct content *ret_content)
{
        /* O_NONBLOCK: should it have become a fifo, nobody waits for its writer. */
        int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | (o->follow ? 0 : O_NOFOLLOW);
        int fd = openat(o->dir, o->name, flags);
        struct stat st;

        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
                close(fd);
                return -EINVAL;
        }
        *ret_content = content_of_host(fd);
        return 0;
}

static struct uext4_stat host_stat(const struct stat *st)
{
        return (struct uext4_stat){
                .ino = st->st_ino,
                .mode = st->st_mode,
                .nlink = (uint32_t)st->st_nlink,
                .uid = st->st_uid,
                .gid = st->st_gid,
                .rdev_major = major(st->st_rdev),
                .rdev_minor = minor(st->st_rdev),
                .size = (uint64_t)st->st_size,
                .blocks = (uint64_t)st->st_blocks,
                .atime = st->st_atim,
                .mtime = st->st_mtim,
                .ctime = st->st_ctim,
        };
}

int object_of_host(int dir, const char *name, bool follow, char *source,
                   struct object *ret_object)
{
        static const struct object_ops ops = {host_readlink, host_listxattr, host_getxattr,
                                              host_open};
        struct stat st;

        if (fstatat(dir, name, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        *ret_object = (struct object){
                .ops = &ops,
                .source = source,
                .key = {.dev = st.st_dev, .ino = st.st_ino},
                .st = host_stat(&st),
                .dir = dir,
                .name = name,
                .follow = follow,
        };
        return 0;
}

/* ---- attributes --------------------------------------------------------- */

const char *object_next_xattr(const char *names, size_t size, size_t *at)
{
        const char *name;

        if (*at >= size)
                return NULL;
        name = names + *at;
        *at += strlen(name) + 1;
        return name;
}

int object_xattr_names(const struct object *o, char **ret_names, size_t *ret_size)
{
        ssize_t size = o->ops->listxattr(o, NULL, 0);
        char *names;

        *ret_names = NULL;
        *ret_size = 0;
        if (size <= 0)
                return (int)size;
        names = cli_alloc((size_t)size + 1, 1); /* ends with a NUL of ours, whatever comes */
        size = o->ops->listxattr(o, names, (size_t)size);
        if (size < 0) {
                free(names);
                return (int)size;
        }
        *ret_names = names;
        *ret_size = (size_t)size;
        return 0;
}

int object_xattr(const struct object *o, const char *name, void **ret_value, size_t *ret_size)
{
        ssize_t size = o->ops->getxattr(o, name, NULL, 0);
        void *value;

        if (size < 0)
                return (int)size;
        value = cli_alloc((size_t)size, 1);
        size = size ? o->ops->getxattr(o, name, value, (size_t)size) : 0;
        if (size < 0) {
                free(value);
                return (int)size;
        }
        *ret_value = value;
        *ret_size = (size_t)size;
        return 0;
}
