/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_LINKS_H
#define UEXT4_CLI_LINKS_H

/*
 * links.h - what was met already under another name: a table by inode number.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct links_key {
        uint64_t dev, ino;
};

struct link {
        struct links_key key;
        char *path;   /* of the first name, or NULL */
        uint64_t ino; /* of its copy, or 0 */
};

/* All zeros is an empty one. */
struct links {
        void *tree;
};

/* NULL when it was not met. */
struct link *links_find(const struct links *links, struct links_key key);

/* `path` is copied. */
void links_add(struct links *links, struct links_key key, const char *path, uint64_t ino);
void links_remove(struct links *links, struct links_key key);
void links_done(struct links *links);

#endif
