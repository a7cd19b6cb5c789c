/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* attributes.c - giving a file of the host the attributes of one in an image (see
 * attributes.h). */
#include "cli/attributes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cli/object.h"
#include "cli/text.h"

void attributes_init(struct attributes *a, struct cli *cli)
{
        *a = (struct attributes){.cli = cli, .is_root = geteuid() == 0};
}

static void set_owner(struct attributes *a, const struct attributes_object *o)
{
        int ret;

        if (!a->is_root)
                return;
        ret = o->name ? fchownat(o->fd, o->name, o->st->uid, o->st->gid, AT_SYMLINK_NOFOLLOW)
                      : fchown(o->fd, o->st->uid, o->st->gid);
        if (ret < 0 && !a->owner_warned) {
                cli_fail(a->cli, o->source, "cannot keep owner (said once): %s",
                         strerror(errno));
                a->owner_warned = true;
        }
}

static int set_xattr(const struct attributes_object *o, const char *name, const void *value,
                     size_t size)
{
        char *path;
        int ret;

        if (!o->name)
                return fsetxattr(o->fd, name, value, size, 0) < 0 ? -errno : 0;
        /* Not every kernel has setxattrat(); /proc leads to the directory, the name is not
         * followed. */
        path = cli_printf("/proc/self/fd/%d/%s", o->fd, o->name);
        ret = lsetxattr(path, name, value, size, 0) < 0 ? -errno : 0;
        free(path);
        return ret;
}

/* What the host refuses is said once. */
static void warn_xattr(struct attributes *a, const struct attributes_object *o,
                       const char *name, int err)
{
        char *escaped;

        if (a->xattrs_warned)
                return;
        escaped = text_escape(name, strlen(name));
        cli_warn(a->cli, o->source, "cannot keep attribute %s (said once): %s", escaped,
                 cli_strerror(err));
        a->xattrs_warned = true;
        free(escaped);
}

static void fail_xattr(struct attributes *a, const struct attributes_object *o,
                       const char *name, int err)
{
        char *escaped = text_escape(name, strlen(name));

        cli_fail(a->cli, o->source, "cannot read attribute %s: %s", escaped, cli_strerror(err));
        free(escaped);
}

static void copy_xattr(struct attributes *a, const struct attributes_object *o,
                       const struct object *from, const char *name)
{
        void *value;
        size_t size;
        int ret = object_xattr(from, name, &value, &size);

        if (ret < 0) {
                fail_xattr(a, o, name, ret);
                return;
        }
        ret = set_xattr(o, name, value, size);
        if (ret < 0)
                warn_xattr(a, o, name, ret);
        free(value);
}

static void set_xattrs(struct attributes *a, const struct attributes_object *o)
{
        const struct object from = object_of_image(NULL, o->inode, o->st, NULL);
        const char *name;
        char *names;
        size_t size;
        int ret = object_xattr_names(&from, &names, &size);

        if (ret < 0) {
                cli_fail(a->cli, o->source, "cannot list attributes: %s", cli_strerror(ret));
                return;
        }
        for (size_t at = 0; (name = object_next_xattr(names, size, &at));)
                if (a->is_root || strncmp(name, "user.", 5) == 0)
                        copy_xattr(a, o, &from, name);
        free(names);
}

/* The mode to give: without set-user-ID and set-group-ID where the owner could not be kept. */
static mode_t safe_mode(const struct attributes_object *o)
{
        mode_t mode = o->st->mode & 07777;
        struct stat st;
        int ret =
                o->name ? fstatat(o->fd, o->name, &st, AT_SYMLINK_NOFOLLOW) : fstat(o->fd, &st);

        if (ret < 0 || st.st_uid != o->st->uid)
                mode &= ~(mode_t)S_ISUID;
        if (ret < 0 || st.st_gid != o->st->gid)
                mode &= ~(mode_t)S_ISGID;
        return mode;
}

static void set_mode(struct attributes *a, const struct attributes_object *o)
{
        mode_t mode;
        int ret;

        if (S_ISLNK(o->st->mode)) /* it has none */
                return;
        mode = safe_mode(o);
        ret = o->name ? fchmodat(o->fd, o->name, mode, AT_SYMLINK_NOFOLLOW)
                      : fchmod(o->fd, mode);
        if (ret < 0)
                cli_fail(a->cli, o->source, "cannot keep mode: %s", strerror(errno));
}

static void set_times(struct attributes *a, const struct attributes_object *o)
{
        const struct timespec times[2] = {o->st->atime, o->st->mtime};
        int ret = o->name ? utimensat(o->fd, o->name, times, AT_SYMLINK_NOFOLLOW)
                          : futimens(o->fd, times);

        if (ret < 0)
                cli_fail(a->cli, o->source, "cannot keep times: %s", strerror(errno));
}

/* Attributes come after the owner because chown() drops capabilities, the mode after both
 * because it opens the file to others, times last because all before changes them. */
void attributes_set(struct attributes *a, const struct attributes_object *o)
{
        set_owner(a, o);
        set_xattrs(a, o);
        set_mode(a, o);
        set_times(a, o);
}
