/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* host.c - a directory tree of the host (see host.h). */
#include "cli/host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

static int push(struct host_tree *tree, int fd)
{
        if (fd < 0)
                return -errno;
        if (tree->nr == tree->room) {
                tree->room = 2 * tree->room + 16;
                tree->dirs = cli_realloc(tree->dirs, tree->room, sizeof(*tree->dirs));
        }
        tree->dirs[tree->nr++] = fd;
        return 0;
}

static int current(const struct host_tree *tree)
{
        return tree->dirs[tree->nr - 1];
}

int host_tree_open(struct host_tree *tree, const char *path)
{
        memset(tree, 0, sizeof(*tree));
        cli_raise_file_limit(); /* a directory that we are in keeps its descriptor */
        return push(tree, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

void host_tree_close(struct host_tree *tree)
{
        while (tree->nr > 0)
                host_tree_leave(tree);
        free(tree->dirs);
        tree->dirs = NULL;
}

int host_tree_enter(struct host_tree *tree, const char *name)
{
        return push(tree, openat(current(tree), name,
                                 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

void host_tree_leave(struct host_tree *tree)
{
        close(tree->dirs[--tree->nr]);
}

int host_tree_stat(const struct host_tree *tree, const char *name, struct stat *ret_st)
{
        return fstatat(current(tree), name, ret_st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int host_tree_open_file(const struct host_tree *tree, const char *name)
{
        /* O_NONBLOCK: should it have become a fifo, nobody waits for its writer. */
        int fd = openat(current(tree), name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

int host_tree_readlink(const struct host_tree *tree, const char *name, char *buf, size_t size)
{
        ssize_t len = readlinkat(current(tree), name, buf, size - 1);

        if (len < 0)
                return -errno;
        buf[len] = '\0';
        return 0;
}

static int name_compare(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_dot(const char *name)
{
        return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

int host_tree_list(const struct host_tree *tree, struct host_names *ret_names)
{
        int fd = openat(current(tree), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *entry;
        size_t room = 0;

        memset(ret_names, 0, sizeof(*ret_names));
        if (!dir) {
                int err = -errno;

                if (fd >= 0)
                        close(fd);
                return err;
        }
        while ((entry = readdir(dir))) {
                if (is_dot(entry->d_name))
                        continue;
                if (ret_names->nr == room) {
                        room = 2 * room + 16;
                        ret_names->names =
                                cli_realloc(ret_names->names, room, sizeof(*ret_names->names));
                }
                ret_names->names[ret_names->nr++] = cli_strdup(entry->d_name);
        }
        closedir(dir);
        if (ret_names->nr > 0)
                qsort(ret_names->names, ret_names->nr, sizeof(*ret_names->names), name_compare);
        return 0;
}

void host_names_done(struct host_names *names)
{
        for (size_t i = 0; i < names->nr; i++)
                free(names->names[i]);
        free(names->names);
}
