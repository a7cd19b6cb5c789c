/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>

#include "tree.h"

/* Paths must be short enough for the kernel to be asked. */
#define MAX_DEPTH 6

/* ---- picking ---- */

static int depth_of(const struct tree *t, int dir)
{
        int depth = 0;

        for (; dir >= NR_SHARED; dir = t->nodes[dir - NR_SHARED].parent)
                depth++;
        return depth;
}

/* Whether the directory is this node, or below it. */
static bool contains(const struct tree *t, int node, int dir)
{
        for (; dir >= NR_SHARED; dir = t->nodes[dir - NR_SHARED].parent) {
                if (dir - NR_SHARED == node)
                        return true;
        }
        return false;
}

static int pick_dir(struct tree *t)
{
        for (unsigned i = 0; i < 20; i++) {
                int n = (int)t_below(&t->rand, MAX_NODES);

                if (t->nodes[n].is_used && t->nodes[n].kind == KIND_DIR &&
                    depth_of(t, n + NR_SHARED) < MAX_DEPTH)
                        return n + NR_SHARED;
        }
        return (int)t_below(&t->rand, NR_SHARED);
}

/* One that is used; -1 when there are few. */
static int pick_name(struct tree *t)
{
        for (unsigned i = 0; i < 40; i++) {
                int n = (int)t_below(&t->rand, MAX_NAMES);

                if (t->names[n].is_used)
                        return n;
        }
        return -1;
}

static int free_node(struct tree *t)
{
        for (int i = 0; i < MAX_NODES; i++) {
                if (!t->nodes[i].is_used)
                        return i;
        }
        return -1;
}

static int free_name(struct tree *t)
{
        for (int i = 0; i < MAX_NAMES; i++) {
                if (!t->names[i].is_used)
                        return i;
        }
        return -1;
}

/* One that nobody has had. */
static void new_text(struct tree *t, char *text)
{
        size_t len = t_below(&t->rand, 8) == 0 ? 255 : 12 + t_below(&t->rand, 50);

        snprintf(text, 256, "t%u-%u-", t->id, t->nr_new++);
        for (size_t k = strlen(text); k < len; k++) {
                do {
                        text[k] = (char)t_rand(&t->rand);
                } while (text[k] == '/' || text[k] == '\0');
                text[k + 1] = '\0';
        }
}

/* ---- the model's part of a change ---- */

static struct node *dir_node(struct tree *t, int dir)
{
        return dir < NR_SHARED ? NULL : &t->nodes[dir - NR_SHARED];
}

static void count_in(struct tree *t, int dir, const struct node *node, int by)
{
        struct node *d = dir_node(t, dir);

        if (!d)
                return;
        d->nr_in += (unsigned)by;
        if (node->kind == KIND_DIR)
                d->nr_dirs += (unsigned)by;
}

static void add_name(struct tree *t, int dir, const char *text, int node)
{
        struct name *n = &t->names[free_name(t)];

        *n = (struct name){.is_used = true, .dir = dir, .node = node};
        snprintf(n->text, sizeof(n->text), "%s", text);
        t->nodes[node].nr_names++;
        t->nodes[node].parent = dir;
        count_in(t, dir, &t->nodes[node], 1);
}

static void drop_name(struct tree *t, int name)
{
        struct name *n = &t->names[name];
        struct node *node = &t->nodes[n->node];

        count_in(t, n->dir, node, -1);
        if (--node->nr_names == 0)
                node->is_used = false;
        n->is_used = false;
}

/* What a name leads to from now on. */
static void lead_to(struct tree *t, int name, int node)
{
        struct name *n = &t->names[name];

        n->node = node;
        t->nodes[node].nr_names++;
        t->nodes[node].parent = n->dir;
        count_in(t, n->dir, &t->nodes[node], 1);
}

static int add_node(struct tree *t, enum kind kind, struct uext4_inode *inode)
{
        struct uext4_stat st;
        int node = free_node(t);

        T_CHECK(uext4_stat(inode, &st) == 0);
        t->nodes[node] = (struct node){.is_used = true, .kind = kind, .ino = st.ino};
        return node;
}

/* True when it was done.  No space is always possible. */
static bool expect(struct tree *t, int ret, int want)
{
        if (ret == 0 && want == 0)
                t->nr_done++;
        else if (ret == want || ret == -ENOSPC)
                t->nr_refused++;
        else
                tree_fail(t, "result", ret, want);
        return ret == 0;
}

#define SAY(t, ...) snprintf((t)->what, sizeof((t)->what), __VA_ARGS__)

/* ---- making ---- */

static int call_make(struct tree *t, struct uext4_inode *dir, const char *text,
                     struct node *like, struct uext4_inode **ret_inode)
{
        size_t len = strlen(text);
        char target[1000];

        switch (like->kind) {
        case KIND_FILE:
                return uext4_create(dir, text, len, 0640, ret_inode);
        case KIND_DIR:
                return uext4_mkdir(dir, text, len, 0750, ret_inode);
        case KIND_SYMLINK:
                memset(target, like->fill, sizeof(target));
                return uext4_symlink(dir, text, len, target, like->target, ret_inode);
        case KIND_CHAR:
                return uext4_mknod(dir, text, len, S_IFCHR | 0600, 5, like->minor, ret_inode);
        default:
                return uext4_mknod(dir, text, len, S_IFIFO | 0600, 0, 0, ret_inode);
        }
}

static void make(struct tree *t)
{
        struct node like = {.kind = (enum kind)t_below(&t->rand, KIND_WHITEOUT)};
        struct uext4_inode *dir, *inode;
        int d = pick_dir(t), taken = -1;
        char text[256];
        int ret;

        if (free_node(t) < 0 || free_name(t) < 0)
                return;
        new_text(t, text);
        if (t_below(&t->rand, 12) == 0 && (taken = pick_name(t)) >= 0) {
                d = t->names[taken].dir;
                snprintf(text, sizeof(text), "%s", t->names[taken].text);
        }
        if (like.kind == KIND_SYMLINK) {
                like.target = 1 + t_below(&t->rand, t_below(&t->rand, 2) ? 60 : 900);
                like.fill = (uint8_t)('a' + t_below(&t->rand, 26));
        }
        if (like.kind == KIND_CHAR)
                like.minor = (uint32_t)t_below(&t->rand, 70000);
        SAY(t, "make a %d: %s", like.kind, text);
        dir = tree_dir(t, d);
        ret = call_make(t, dir, text, &like, &inode);
        if (expect(t, ret, taken >= 0 ? -EEXIST : 0)) {
                int node = add_node(t, like.kind, inode);

                t->nodes[node].target = like.target;
                t->nodes[node].fill = like.fill;
                t->nodes[node].minor = like.minor;
                add_name(t, d, text, node);
                uext4_inode_put(inode);
        }
        uext4_inode_put(dir);
}

static void make_tmpfile(struct tree *t)
{
        struct uext4_inode *dir, *inode;
        int d = pick_dir(t);
        char text[256];

        if (free_node(t) < 0 || free_name(t) < 0)
                return;
        new_text(t, text);
        SAY(t, "tmpfile, link: %s", text);
        dir = tree_dir(t, d);
        if (expect(t, uext4_tmpfile(dir, 0600, 0, &inode), 0)) {
                if (t_below(&t->rand, 4) &&
                    expect(t, uext4_link(inode, dir, text, strlen(text)), 0))
                        add_name(t, d, text, add_node(t, KIND_FILE, inode));
                uext4_inode_put(inode);
        }
        uext4_inode_put(dir);
}

static void make_link(struct tree *t)
{
        int n = pick_name(t), d = pick_dir(t), want = 0;
        struct uext4_inode *dir, *inode;
        char text[256];

        if (n < 0 || free_name(t) < 0)
                return;
        new_text(t, text);
        if (t->nodes[t->names[n].node].kind == KIND_DIR)
                want = -EPERM;
        SAY(t, "link %s: %s", t->names[n].text, text);
        dir = tree_dir(t, d);
        inode = tree_get(t, &t->nodes[t->names[n].node]);
        if (expect(t, uext4_link(inode, dir, text, strlen(text)), want))
                add_name(t, d, text, t->names[n].node);
        uext4_inode_put(inode);
        uext4_inode_put(dir);
}

/* ---- removing ---- */

static void remove_name(struct tree *t)
{
        int n = pick_name(t), want = 0, ret;
        bool by_rmdir = t_below(&t->rand, 2);
        const struct node *node;
        struct uext4_inode *dir;

        if (n < 0)
                return;
        node = &t->nodes[t->names[n].node];
        if (t_below(&t->rand, 8))
                by_rmdir = node->kind == KIND_DIR;
        if (by_rmdir)
                want = node->kind != KIND_DIR ? -ENOTDIR : node->nr_in > 0 ? -ENOTEMPTY : 0;
        else if (node->kind == KIND_DIR)
                want = -EISDIR;
        SAY(t, "%s %s", by_rmdir ? "rmdir" : "unlink", t->names[n].text);
        dir = tree_dir(t, t->names[n].dir);
        if (by_rmdir)
                ret = uext4_rmdir(dir, t->names[n].text, strlen(t->names[n].text));
        else
                ret = uext4_unlink(dir, t->names[n].text, strlen(t->names[n].text));
        if (expect(t, ret, want))
                drop_name(t, n);
        uext4_inode_put(dir);
}

static void look_for_nothing(struct tree *t)
{
        struct uext4_inode *dir = tree_dir(t, pick_dir(t)), *found;
        char text[256];

        new_text(t, text);
        SAY(t, "what is not there: %s", text);
        expect(t, uext4_lookup(dir, text, strlen(text), &found), -ENOENT);
        expect(t, uext4_unlink(dir, text, strlen(text)), -ENOENT);
        uext4_inode_put(dir);
}

/* ---- renaming ---- */

/* `to`: the name that there is already, or -1. */
static int want_rename(const struct tree *t, int from, int d, int to, unsigned flags)
{
        const struct node *moved = &t->nodes[t->names[from].node];
        const struct node *there = to >= 0 ? &t->nodes[t->names[to].node] : NULL;

        if (!there && (flags & RENAME_EXCHANGE))
                return -ENOENT;
        if (there && (flags & RENAME_NOREPLACE))
                return -EEXIST;
        if (moved->kind == KIND_DIR && contains(t, t->names[from].node, d))
                return -EINVAL;
        if (there && there->kind == KIND_DIR &&
            contains(t, t->names[to].node, t->names[from].dir))
                return flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
        if (!there || moved == there || (flags & RENAME_EXCHANGE))
                return 0;
        if (there->kind != KIND_DIR)
                return moved->kind == KIND_DIR ? -ENOTDIR : 0;
        if (moved->kind != KIND_DIR)
                return -EISDIR;
        return there->nr_in > 0 ? -ENOTEMPTY : 0;
}

static void exchange(struct tree *t, int a, int b)
{
        int node_a = t->names[a].node, node_b = t->names[b].node;

        t->nodes[node_a].nr_names++; /* so that it stays */
        t->nodes[node_b].nr_names++;
        drop_name(t, a);
        drop_name(t, b);
        t->names[a].is_used = t->names[b].is_used = true;
        lead_to(t, a, node_b);
        lead_to(t, b, node_a);
        t->nodes[node_a].nr_names--;
        t->nodes[node_b].nr_names--;
}

static void whiteout(struct tree *t, int name)
{
        struct uext4_inode *dir = tree_dir(t, t->names[name].dir), *inode;
        const char *text = t->names[name].text;
        int ret = uext4_lookup(dir, text, strlen(text), &inode);

        if (ret < 0)
                tree_fail(t, "the whiteout", ret, 0);
        t->names[name].is_used = true;
        lead_to(t, name, add_node(t, KIND_WHITEOUT, inode));
        uext4_inode_put(inode);
        uext4_inode_put(dir);
}

static void moved(struct tree *t, int from, int d, const char *text, int to, unsigned flags)
{
        int node = t->names[from].node;

        if (to >= 0 && t->names[to].node == node)
                return;
        if (flags & RENAME_EXCHANGE) {
                exchange(t, from, to);
                return;
        }
        t->nodes[node].nr_names++; /* so that it stays */
        if (to >= 0)
                drop_name(t, to);
        drop_name(t, from);
        t->nodes[node].nr_names--;
        if (flags & RENAME_WHITEOUT)
                whiteout(t, from);
        add_name(t, d, text, node);
}

/* A directory that moves must not get too deep with all that is in it. */
static bool is_too_deep(const struct tree *t, int node, int d)
{
        int most = 0;

        for (int i = 0; i < MAX_NODES; i++) {
                if (t->nodes[i].is_used && t->nodes[i].kind == KIND_DIR &&
                    contains(t, node, i + NR_SHARED))
                        most = max_t(int, most,
                                     depth_of(t, i + NR_SHARED) -
                                             depth_of(t, node + NR_SHARED));
        }
        return depth_of(t, d) + most + 1 > MAX_DEPTH + 2;
}

static void rename_name(struct tree *t)
{
        static const unsigned flags_of[] = {0,
                                            0,
                                            0,
                                            RENAME_NOREPLACE,
                                            RENAME_EXCHANGE,
                                            RENAME_EXCHANGE,
                                            RENAME_WHITEOUT,
                                            RENAME_WHITEOUT | RENAME_NOREPLACE};
        unsigned flags = flags_of[t_below(&t->rand, ARRAY_LEN(flags_of))];
        int from = pick_name(t), d = pick_dir(t), to = -1, ret;
        struct uext4_inode *a, *b;
        char text[256];

        if (from < 0 || free_name(t) < 0 || free_node(t) < 0)
                return;
        new_text(t, text);
        if (t_below(&t->rand, 3) && (to = pick_name(t)) >= 0) {
                d = t->names[to].dir;
                snprintf(text, sizeof(text), "%s", t->names[to].text);
        }
        if (t->nodes[t->names[from].node].kind == KIND_DIR &&
            !contains(t, t->names[from].node, d) && is_too_deep(t, t->names[from].node, d))
                return;
        if (to >= 0 && (flags & RENAME_EXCHANGE) &&
            t->nodes[t->names[to].node].kind == KIND_DIR &&
            is_too_deep(t, t->names[to].node, t->names[from].dir))
                return;
        SAY(t, "rename %s (in %d) to %s (in %d), flags %u", t->names[from].text,
            t->names[from].dir, text, d, flags);
        a = tree_dir(t, t->names[from].dir);
        b = tree_dir(t, d);
        ret = uext4_rename(a, t->names[from].text, strlen(t->names[from].text), b, text,
                           strlen(text), flags);
        if (expect(t, ret, want_rename(t, from, d, to, flags)))
                moved(t, from, d, text, to, flags);
        uext4_inode_put(a);
        uext4_inode_put(b);
}

/* ---- attributes ---- */

static void set_value(struct tree *t)
{
        int n = pick_name(t), ret;
        struct uext4_inode *inode;
        struct node *node;
        char value[900];
        size_t size;

        if (n < 0)
                return;
        node = &t->nodes[t->names[n].node];
        if (node->kind != KIND_FILE && node->kind != KIND_DIR)
                return;
        size = t_below(&t->rand, t_below(&t->rand, 2) ? 60 : sizeof(value));
        SAY(t, "attribute of %zu bytes: %s", size, t->names[n].text);
        inode = tree_get(t, node);
        if (size == 0) {
                ret = uext4_removexattr(inode, "user.v");
                if (ret != -EOPNOTSUPP && expect(t, ret, node->value ? 0 : -ENODATA))
                        node->value = 0;
        } else {
                uint8_t fill = (uint8_t)t_rand(&t->rand);

                memset(value, fill, size);
                ret = uext4_setxattr(inode, "user.v", value, size, 0);
                if (ret != -EOPNOTSUPP && expect(t, ret, 0)) {
                        node->value = size;
                        node->fill = fill;
                }
        }
        uext4_inode_put(inode);
}

/* ---- names that are nobody's ---- */

static void disturb(struct tree *t)
{
        static const int fine[] = {0, -ENOENT, -EEXIST, -ENOSPC, -EMLINK};
        struct uext4_inode *a = t->shared[t_below(&t->rand, NR_SHARED)];
        struct uext4_inode *b = t->shared[t_below(&t->rand, NR_SHARED)], *found = NULL;
        char from[8], to[8];
        int ret;

        snprintf(from, sizeof(from), "x%u", (unsigned)t_below(&t->rand, 6));
        snprintf(to, sizeof(to), "x%u", (unsigned)t_below(&t->rand, 6));
        SAY(t, "nobody's %s, %s", from, to);
        switch (t_below(&t->rand, 5)) {
        case 0:
                ret = uext4_create(a, from, 2, 0600, NULL);
                break;
        case 1:
                ret = uext4_unlink(a, from, 2);
                break;
        case 2:
                ret = uext4_lookup(a, from, 2, &found);
                if (ret == 0)
                        ret = uext4_link(found, b, to, 2);
                uext4_inode_put(found);
                break;
        case 3:
                ret = uext4_rename(a, from, 2, b, to, 2, RENAME_EXCHANGE);
                break;
        default:
                ret = uext4_rename(a, from, 2, b, to, 2, 0);
        }
        for (size_t i = 0; i < ARRAY_LEN(fine); i++) {
                if (ret == fine[i])
                        return;
        }
        tree_fail(t, "result", ret, 0);
}

void tree_step(struct tree *t)
{
        static void (*const steps[])(struct tree * t) = {
                make,        make,        make,        make_tmpfile, make_link,
                remove_name, remove_name, set_value,   set_value,    look_for_nothing,
                disturb,     rename_name, rename_name, rename_name,
        };

        steps[t_below(&t->rand, ARRAY_LEN(steps))](t);
}
