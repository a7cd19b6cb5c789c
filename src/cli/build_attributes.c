/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * build_attributes.c - giving a copy in an image the attributes of its source (see build.h).
 *
 * Extended attributes come first, for an ACL sets the mode, and times last, for all before
 * changes them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/build.h"
#include "cli/change.h"

struct uext4_stat build_wanted(const struct build_options *options, const struct object *o)
{
        struct uext4_stat want = o->st;

        if (options->override)
                override_apply(options->override, &want);
        return want;
}

static void fail_xattr(struct cli *cli, const char *target, const char *what, const char *name,
                       int err)
{
        char *text = cli_quote(name);

        cli_fail(cli, target, "cannot %s attribute %s: %s", what, text, cli_strerror(err));
        free(text);
}

static void copy_xattr(struct cli *cli, struct uext4_inode *inode, const struct object *o,
                       const char *name, const char *target)
{
        void *value;
        size_t size;
        int ret = object_xattr(o, name, &value, &size);

        if (ret < 0) {
                fail_xattr(cli, o->source, "read", name, ret);
                return;
        }
        ret = uext4_setxattr(inode, name, value, size, 0);
        if (ret < 0)
                fail_xattr(cli, target, "keep", name, ret);
        free(value);
}

static bool is_among(const char *name, const char *names, size_t size)
{
        const char *other;

        for (size_t at = 0; (other = object_next_xattr(names, size, &at));)
                if (strcmp(name, other) == 0)
                        return true;
        return false;
}

/* ACLs that it has from its directory and the source does not have. */
static void drop_inherited(struct cli *cli, struct uext4_inode *inode, const char *names,
                           size_t size, const char *target)
{
        static const char *const acls[] = {"system.posix_acl_access",
                                           "system.posix_acl_default"};

        if (uext4_listxattr(inode, NULL, 0) <= 0)
                return;
        for (size_t i = 0; i < sizeof(acls) / sizeof(acls[0]); i++) {
                int ret =
                        is_among(acls[i], names, size) ? 0 : uext4_removexattr(inode, acls[i]);

                if (ret < 0 && ret != -ENODATA)
                        fail_xattr(cli, target, "remove", acls[i], ret);
        }
}

void build_set_xattrs(struct cli *cli, struct uext4_inode *inode, const struct object *o,
                      const char *target)
{
        const char *name;
        char *names;
        size_t size;
        int ret = object_xattr_names(o, &names, &size);

        if (ret < 0) {
                cli_fail(cli, o->source, "cannot list attributes: %s", cli_strerror(ret));
                return;
        }
        if (!S_ISLNK(o->st.mode))
                drop_inherited(cli, inode, names, size, target);
        for (size_t at = 0; (name = object_next_xattr(names, size, &at));)
                copy_xattr(cli, inode, o, name, target);
        free(names);
}

void build_set_stat(struct cli *cli, struct uext4_inode *inode, const struct uext4_stat *want,
                    const char *target)
{
        struct uext4_setattr set = {
                .mask = UEXT4_SET_ATIME | UEXT4_SET_MTIME,
                .mode = want->mode & 07777,
                .uid = want->uid,
                .gid = want->gid,
                .atime = want->atime,
                .mtime = want->mtime,
        };
        struct uext4_stat st;
        int ret = uext4_stat(inode, &st);

        if (ret == 0) {
                if (st.uid != want->uid)
                        set.mask |= UEXT4_SET_UID;
                if (st.gid != want->gid)
                        set.mask |= UEXT4_SET_GID;
                if (!S_ISLNK(st.mode) && ((st.mode & 07777) != set.mode ||
                                          (set.mask & (UEXT4_SET_UID | UEXT4_SET_GID))))
                        set.mask |= UEXT4_SET_MODE;
                ret = uext4_setattr(inode, &set);
        }
        if (ret < 0)
                cli_fail(cli, target, "cannot set owner, mode and times: %s",
                         cli_strerror(ret));
}
