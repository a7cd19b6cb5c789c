/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_ATTRIBUTES_H
#define UEXT4_CLI_ATTRIBUTES_H

/*
 * attributes.h - owner, extended attributes, mode and times, from an image to a file of the
 * host.
 *
 * What others could be given is kept only by root: owners, and extended attributes other than
 * user.*.  A file whose owner could not be kept loses set-user-ID and set-group-ID.  No symlink
 * is followed.
 */

#include <stdbool.h>

#include "cli/cli.h"

struct attributes {
        struct cli *cli;
        bool is_root;
        bool xattrs_warned; /* each is said once */
        bool owner_warned;
};

void attributes_init(struct attributes *a, struct cli *cli);

/* What gets attributes: an open file or directory, or a name in a directory. */
struct attributes_object {
        int fd;             /* of the object, or of its directory */
        const char *name;   /* NULL: the object is fd */
        const char *source; /* for messages */
        const struct uext4_stat *st;
        struct uext4_inode *inode;
};

/* What fails is said. */
void attributes_set(struct attributes *a, const struct attributes_object *o);

#endif
