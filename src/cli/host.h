/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_HOST_H
#define UEXT4_CLI_HOST_H

/*
 * host.h - a directory tree of the host, followed in step with the walk of an image, for
 * comparing the two.  No symlink of the host is followed below its root.
 */

#include <stddef.h>
#include <sys/stat.h>

/* A stack of open directories, the root first. */
struct host_tree {
        int *dirs;
        size_t nr, room;
};

/* Open the root.  Negative errno, as all of these. */
int host_tree_open(struct host_tree *tree, const char *path);
void host_tree_close(struct host_tree *tree);

/* Go into a directory of the current one, and back. */
int host_tree_enter(struct host_tree *tree, const char *name);
void host_tree_leave(struct host_tree *tree);

int host_tree_stat(const struct host_tree *tree, const char *name, struct stat *ret_st);

/* Open a regular file for reading. */
int host_tree_open_file(const struct host_tree *tree, const char *name);

/* The target of a symlink, NUL-terminated. */
int host_tree_readlink(const struct host_tree *tree, const char *name, char *buf, size_t size);

/* The names in the current directory but "." and "..", sorted by bytes; to be freed. */
struct host_names {
        char **names;
        size_t nr;
};

int host_tree_list(const struct host_tree *tree, struct host_names *ret_names);
void host_names_done(struct host_names *names);

#endif
