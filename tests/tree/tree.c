/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tree.h"

#include <dirent.h>

void tree_fail(struct tree *t, const char *what, long long got, long long want)
{
        fprintf(stderr, "thread %u: %s\n  %s: %lld, not %lld\n", t->id, t->what, what, got,
                want);
        exit(1);
}

void tree_init(struct tree *t, unsigned id, uint64_t seed)
{
        *t = (struct tree){.id = id, .rand = seed * 1000 + id};
}

void tree_enter(struct tree *t, struct uext4_fs *fs)
{
        t->fs = fs;
        for (unsigned i = 0; i < NR_SHARED; i++) {
                struct uext4_stat st;
                char path[8];

                snprintf(path, sizeof(path), "/s%u", i);
                T_CHECK(uext4_resolve(fs, path, 0, &t->shared[i]) == 0);
                T_CHECK(uext4_stat(t->shared[i], &st) == 0);
                t->shared_ino[i] = st.ino;
        }
}

void tree_leave(struct tree *t)
{
        for (unsigned i = 0; i < NR_SHARED; i++)
                uext4_inode_put(t->shared[i]);
        t->fs = NULL;
}

/* ---- from the model to the file system ---- */

uint64_t tree_dir_ino(const struct tree *t, int dir)
{
        return dir < NR_SHARED ? t->shared_ino[dir] : t->nodes[dir - NR_SHARED].ino;
}

struct uext4_inode *tree_dir(struct tree *t, int dir)
{
        struct uext4_inode *inode;
        int ret = uext4_inode_get(t->fs, tree_dir_ino(t, dir), 0, &inode);

        if (ret < 0)
                tree_fail(t, "getting a directory", ret, 0);
        return inode;
}

struct uext4_inode *tree_get(struct tree *t, const struct node *node)
{
        struct uext4_inode *inode;
        int ret = uext4_inode_get(t->fs, node->ino, 0, &inode);

        if (ret < 0)
                tree_fail(t, "getting an inode", ret, 0);
        return inode;
}

/* ---- comparing ---- */

static uint32_t mode_of(enum kind kind)
{
        static const uint32_t modes[NR_KINDS] = {
                [KIND_FILE] = S_IFREG, [KIND_DIR] = S_IFDIR,  [KIND_SYMLINK] = S_IFLNK,
                [KIND_CHAR] = S_IFCHR, [KIND_FIFO] = S_IFIFO, [KIND_WHITEOUT] = S_IFCHR,
        };

        return modes[kind];
}

static void check_value(struct tree *t, const struct node *node, struct uext4_inode *inode)
{
        char value[4096];
        ssize_t n = uext4_getxattr(inode, "user.v", value, sizeof(value));

        if (node->value == 0) {
                if (n != -ENODATA && n != -EOPNOTSUPP)
                        tree_fail(t, "an attribute that is not there", n, -ENODATA);
                return;
        }
        if (n != (ssize_t)node->value)
                tree_fail(t, "size of an attribute", n, (long long)node->value);
        for (ssize_t i = 0; i < n; i++) {
                if ((uint8_t)value[i] != node->fill)
                        tree_fail(t, "byte of an attribute", (uint8_t)value[i], node->fill);
        }
}

static void check_target(struct tree *t, const struct node *node, struct uext4_inode *inode)
{
        char target[4096];
        ssize_t n = uext4_readlink(inode, target, sizeof(target));

        if (n != (ssize_t)node->target)
                tree_fail(t, "length of a target", n, (long long)node->target);
        for (ssize_t i = 0; i < n; i++) {
                if ((uint8_t)target[i] != node->fill)
                        tree_fail(t, "byte of a target", (uint8_t)target[i], node->fill);
        }
}

static void check_node(struct tree *t, const struct node *node)
{
        struct uext4_inode *inode = tree_get(t, node);
        struct uext4_stat st;

        T_CHECK(uext4_stat(inode, &st) == 0);
        if ((st.mode & S_IFMT) != mode_of(node->kind))
                tree_fail(t, "mode", st.mode, mode_of(node->kind));
        if (node->kind == KIND_DIR && st.nlink != 2 + node->nr_dirs)
                tree_fail(t, "links of a directory", st.nlink, 2 + node->nr_dirs);
        if (node->kind != KIND_DIR && st.nlink != node->nr_names)
                tree_fail(t, "links", st.nlink, node->nr_names);
        if (node->kind == KIND_SYMLINK)
                check_target(t, node, inode);
        if (st.rdev_minor != node->minor)
                tree_fail(t, "number of a device", st.rdev_minor, node->minor);
        if (node->kind == KIND_FILE || node->kind == KIND_DIR)
                check_value(t, node, inode);
        uext4_inode_put(inode);
}

static void check_parent(struct tree *t, const struct node *node)
{
        struct uext4_inode *inode = tree_get(t, node), *up;
        struct uext4_stat st;
        int ret = uext4_lookup(inode, "..", 2, &up);

        if (ret < 0)
                tree_fail(t, "looking up \"..\"", ret, 0);
        T_CHECK(uext4_stat(up, &st) == 0);
        if (st.ino != tree_dir_ino(t, node->parent))
                tree_fail(t, "\"..\"", (long long)st.ino,
                          (long long)tree_dir_ino(t, node->parent));
        uext4_inode_put(up);
        uext4_inode_put(inode);
}

static int find_name(const struct tree *t, int dir, const char *text)
{
        for (int i = 0; i < MAX_NAMES; i++) {
                if (t->names[i].is_used && t->names[i].dir == dir &&
                    strcmp(t->names[i].text, text) == 0)
                        return i;
        }
        return -1;
}

/* Every name of the model that is in a directory comes once, and leads where it should; of
 * directories that are its own nothing else comes. */
static void check_dir(struct tree *t, int dir, bool *seen)
{
        struct uext4_inode *inode = tree_dir(t, dir);
        struct uext4_dirent e;
        uint64_t cookie = 0;
        char own[8];
        int ret;

        snprintf(own, sizeof(own), "t%u-", t->id);
        while ((ret = uext4_readdir(inode, &cookie, &e)) > 0) {
                bool is_own = strncmp(e.name, own, strlen(own)) == 0;
                int n;

                if (strcmp(e.name, ".") == 0 || strcmp(e.name, "..") == 0)
                        continue;
                if (!is_own && dir < NR_SHARED)
                        continue;
                n = find_name(t, dir, e.name);
                snprintf(t->what, sizeof(t->what), "readdir: %s", e.name);
                if (n < 0 || seen[n])
                        tree_fail(t, "a name that should not be there", n, 0);
                seen[n] = true;
                if (e.ino != t->nodes[t->names[n].node].ino)
                        tree_fail(t, "inode of a name", (long long)e.ino,
                                  (long long)t->nodes[t->names[n].node].ino);
        }
        if (ret < 0)
                tree_fail(t, "readdir", ret, 0);
        uext4_inode_put(inode);
}

void tree_check(struct tree *t)
{
        bool seen[MAX_NAMES] = {false};

        for (int i = 0; i < NR_SHARED; i++)
                check_dir(t, i, seen);
        for (int i = 0; i < MAX_NODES; i++) {
                const struct node *node = &t->nodes[i];

                if (!node->is_used)
                        continue;
                snprintf(t->what, sizeof(t->what), "inode %llu", (unsigned long long)node->ino);
                check_node(t, node);
                if (node->kind != KIND_DIR)
                        continue;
                check_parent(t, node);
                check_dir(t, i + NR_SHARED, seen);
        }
        for (int i = 0; i < MAX_NAMES; i++) {
                snprintf(t->what, sizeof(t->what), "%s", t->names[i].text);
                if (seen[i] != t->names[i].is_used)
                        tree_fail(t, "whether readdir has it", seen[i], t->names[i].is_used);
        }
}

void tree_check_strangers(struct tree *trees, unsigned nr)
{
        for (unsigned i = 0; i < NR_SHARED; i++) {
                struct uext4_dirent e;
                uint64_t cookie = 0;

                while (uext4_readdir(trees[0].shared[i], &cookie, &e) > 0) {
                        bool known = e.name[0] == '.' || e.name[0] == 'x';

                        if (e.name[0] == 't')
                                known = (unsigned)atoi(e.name + 1) < nr;
                        snprintf(trees[0].what, sizeof(trees[0].what), "%s", e.name);
                        if (!known)
                                tree_fail(&trees[0], "a name that is nobody's", 1, 0);
                }
        }
}

/* ---- for others ---- */

static void write_one(FILE *out, const char *path, struct uext4_inode *inode)
{
        struct uext4_stat st;

        T_CHECK(uext4_stat(inode, &st) == 0);
        for (const char *p = path; *p; p++)
                fprintf(out, "%02x", (uint8_t)*p);
        fprintf(out, " %llu %o %u %u %u ", (unsigned long long)st.ino, st.mode, st.nlink,
                st.rdev_major, st.rdev_minor);
        if (S_ISLNK(st.mode)) {
                char target[4096];
                ssize_t n = uext4_readlink(inode, target, sizeof(target));

                T_CHECK(n > 0);
                for (ssize_t i = 0; i < n; i++)
                        fprintf(out, "%02x", (uint8_t)target[i]);
        }
        fputc('\n', out);
}

static void write_below(FILE *out, const char *path, struct uext4_inode *dir)
{
        struct uext4_dirent e;
        uint64_t cookie = 0;
        int ret;

        while ((ret = uext4_readdir(dir, &cookie, &e)) > 0) {
                struct uext4_inode *inode;
                char below[16384];

                if (strcmp(e.name, ".") == 0 || strcmp(e.name, "..") == 0)
                        continue;
                T_CHECK((size_t)snprintf(below, sizeof(below), "%s/%s", path, e.name) <
                        sizeof(below));
                T_CHECK(uext4_lookup(dir, e.name, e.name_len, &inode) == 0);
                write_one(out, below, inode);
                if (e.type == DT_DIR || e.type == DT_UNKNOWN) {
                        struct uext4_stat st;

                        T_CHECK(uext4_stat(inode, &st) == 0);
                        if (S_ISDIR(st.mode))
                                write_below(out, below, inode);
                }
                uext4_inode_put(inode);
        }
        T_CHECK(ret == 0);
}

void tree_write_list(struct uext4_fs *fs, FILE *out)
{
        struct uext4_inode *root;

        T_CHECK(uext4_resolve(fs, "/", 0, &root) == 0);
        write_below(out, "", root);
        uext4_inode_put(root);
}
