/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_OBJECT_H
#define UEXT4_CLI_OBJECT_H

/*
 * object.h - something to be copied, wherever it comes from: a file, directory, link of the
 * host, of an image, of an archive.
 */

#include <stdint.h>

#include "cli/cli.h"
#include "cli/content.h"
#include "cli/links.h"

struct object;

/* All fail with -errno. */
struct object_ops {
        /* The target of a symlink, NUL-terminated; -ENAMETOOLONG. */
        int (*readlink)(const struct object *o, char *buf, size_t size);

        /* As uext4_listxattr() and uext4_getxattr(). */
        ssize_t (*listxattr)(const struct object *o, char *buf, size_t size);
        ssize_t (*getxattr)(const struct object *o, const char *name, void *buf, size_t size);

        /* The contents of a regular file; to be closed. */
        int (*open)(const struct object *o, struct content *ret_content);
};

struct object {
        const struct object_ops *ops;
        char *source;         /* for messages */
        struct links_key key; /* the same for all names of a file */
        struct uext4_stat st; /* type, mode, owner, times, size, nlink, device */

        struct uext4_inode *inode; /* of an image */
        int dir;                   /* of the host: the directory, or AT_FDCWD */
        const char *name;          /* and the name in it */
        bool follow;               /* a symlink is not meant itself */
        void *archive, *entry;     /* of an archive */
};

/* A file of an image; `source` stays the caller's. */
struct object object_of_image(struct cli_image *image, struct uext4_inode *inode,
                              const struct uext4_stat *st, char *source);

/* What `name` is in a directory of the host; -errno. */
int object_of_host(int dir, const char *name, bool follow, char *source,
                   struct object *ret_object);

/*
 * The next attribute: `at` is 0 to start, the result is its name, NULL behind the last one.
 * `names` holds what listxattr() gave, `size` bytes and a NUL.
 */
const char *object_next_xattr(const char *names, size_t size, size_t *at);

/* All names, to be freed, or NULL with *ret_size 0; -errno. */
int object_xattr_names(const struct object *o, char **ret_names, size_t *ret_size);

/* A value, to be freed. */
int object_xattr(const struct object *o, const char *name, void **ret_value, size_t *ret_size);

#endif
