/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Paths.  A walk keeps the inode where it stands and the text that is still to be walked; a
 * symlink puts its target in front of that text.
 */

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/lib.h"
#include "util/alloc.h"

#define MAX_SYMLINKS 40

struct walk {
        struct ext4_fs *fs;
        struct ext4_inode *at; /* a reference */
        char *text;            /* owned */
        char *rest;            /* into text */
        unsigned nr_symlinks;
};

/* Put `inode` (whose reference is handed over) in the place where the walk stands. */
static void step_to(struct walk *w, struct ext4_inode *inode)
{
        ext4_iput(w->at);
        w->at = inode;
}

/* The next name; false at the end.  Slashes in front of it are skipped, those behind it are
 * not. */
static bool next_name(struct walk *w, const char **ret_name, size_t *ret_len)
{
        w->rest += strspn(w->rest, "/");
        *ret_name = w->rest;
        *ret_len = strcspn(w->rest, "/");
        w->rest += *ret_len;
        return *ret_len > 0;
}

static int go_to_root(struct walk *w)
{
        struct ext4_inode *root;
        int ret = ext4_iget(w->fs, EXT4_INO_ROOT, &root);

        if (ret == 0)
                step_to(w, root);
        return ret;
}

/* Replace the text by the symlink's target and what was left. */
static int follow(struct walk *w, struct ext4_inode *link)
{
        size_t rest_size = strlen(w->rest) + 1;
        ssize_t len;
        char *text;

        if (++w->nr_symlinks > MAX_SYMLINKS)
                return -ELOOP;
        text = mem_alloc(PATH_MAX + rest_size);
        if (!text)
                return -ENOMEM;
        len = ext4_readlink(link, text, PATH_MAX);
        if (len <= 0 || len > PATH_MAX) {
                mem_free(text);
                return len < 0 ? (int)len : len == 0 ? -ENOENT : -ENAMETOOLONG;
        }
        memcpy(text + len, w->rest, rest_size);
        mem_free(w->text);
        w->text = w->rest = text;
        return text[0] == '/' ? go_to_root(w) : 0;
}

static int walk_name(struct walk *w, const char *name, size_t len, uint32_t flags)
{
        struct ext4_inode *child;
        int ret = lib_lookup(w->at, name, len, &child);

        if (ret < 0)
                return ret;
        if (S_ISLNK(child->mode) && !(*w->rest == '\0' && (flags & UEXT4_NOFOLLOW))) {
                ret = follow(w, child);
                ext4_iput(child);
                return ret;
        }
        step_to(w, child);
        if (*w->rest == '/' && !S_ISDIR(w->at->mode))
                return -ENOTDIR;
        return 0;
}

int uext4_resolve(struct uext4_fs *fs, const char *path, uint32_t flags,
                  struct uext4_inode **ret_inode)
{
        struct walk w = {.fs = fs->ext4};
        size_t size = strlen(path) + 1;
        const char *name;
        size_t len;
        int ret;

        if (size > PATH_MAX)
                return -ENAMETOOLONG;
        w.text = w.rest = mem_alloc(size);
        if (!w.text)
                return -ENOMEM;
        memcpy(w.text, path, size);
        ret = go_to_root(&w);
        while (ret == 0 && next_name(&w, &name, &len))
                ret = walk_name(&w, name, len, flags);
        mem_free(w.text);
        if (ret < 0) {
                ext4_iput(w.at);
                return ret;
        }
        *ret_inode = inode_out(w.at);
        return 0;
}
