/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * act_names.c - names in two directories that all of them use.
 *
 * Each has some names of its own there.  A state is what each of them leads to; what one thread
 * changes becomes durable in the order in which it was changed, so after a cut its names are in
 * one state that was passed since the last sync, wholly.  What a name leads to is told by its
 * mode, or target, which come into being with it.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "actor.h"

#define NR_DIRS   2
#define NR_SLOTS  5 /* names in each directory */
#define NR_NAMES  (NR_DIRS * NR_SLOTS)
#define NR_STATES 64

struct names_state {
        uint16_t is[NR_NAMES]; /* 0: nothing */
};

enum {
        IS_FILE = 1u << 9, /* beside nine bits that tell them apart */
        IS_DIR = 2u << 9,
        IS_SYMLINK = 3u << 9,
};

struct names {
        struct uext4_inode *dirs[NR_DIRS];
        struct names_state states[NR_STATES]; /* since what is durable; the last is now */
        unsigned nr;
        unsigned last_id;
};

static const char *const dir_paths[NR_DIRS] = {"/s0", "/s1"};

static void init(struct actor *a)
{
        struct names *s = t_alloc(sizeof(*s));

        s->nr = 1;
        a->state = s;
}

static int open_dirs(struct actor *a)
{
        struct names *s = a->state;
        int ret = 0;

        for (unsigned i = 0; i < NR_DIRS && ret == 0; i++)
                ret = uext4_resolve(a->w->fs, dir_paths[i], 0, &s->dirs[i]);
        return ret;
}

static void close_dirs(struct actor *a)
{
        struct names *s = a->state;

        for (unsigned i = 0; i < NR_DIRS; i++) {
                if (s->dirs[i])
                        uext4_inode_put(s->dirs[i]);
        }
}

/* ---- states ---- */

static struct names_state *now_of(struct names *s)
{
        return &s->states[s->nr - 1];
}

/* What comes next may be found from now on. */
static struct names_state *next_state(struct names *s)
{
        T_CHECK(s->nr < NR_STATES);
        s->states[s->nr] = s->states[s->nr - 1];
        return &s->states[s->nr++];
}

/* It has not come: the one before is now, and nothing else can be found. */
static void take_back(struct names *s)
{
        s->nr--;
}

static void all_is_durable(struct names *s)
{
        s->states[0] = *now_of(s);
        s->nr = 1;
}

/* ---- names ---- */

struct name {
        char text[32];
        size_t len;
        struct uext4_inode *dir;
};

static struct name name_of(const struct actor *a, unsigned which)
{
        const struct names *s = a->state;
        struct name name = {.dir = s->dirs[which / NR_SLOTS]};

        /* Of all lengths, so that blocks fill. */
        name.len = (size_t)snprintf(name.text, sizeof(name.text), "n%u.%u%.*s", a->n, which,
                                    (int)(which * 2), "....................");
        return name;
}

static unsigned any_name(struct actor *a, bool is_there, bool *ret_found)
{
        const struct names_state *now = now_of(a->state);
        unsigned which = (unsigned)actor_below(a, NR_NAMES);

        for (unsigned i = 0; i < NR_NAMES; i++, which = (which + 1) % NR_NAMES) {
                if ((now->is[which] != 0) == is_there) {
                        *ret_found = true;
                        return which;
                }
        }
        *ret_found = false;
        return 0;
}

static uint16_t kind_of(uint16_t is)
{
        return is & (3u << 9);
}

/* ---- steps ---- */

static uint16_t new_id(struct actor *a)
{
        static const uint16_t kinds[] = {IS_FILE, IS_FILE, IS_DIR, IS_SYMLINK};
        struct names *s = a->state;

        s->last_id = s->last_id % 511 + 1;
        return (uint16_t)(kinds[actor_below(a, ARRAY_LEN(kinds))] | s->last_id);
}

static int make(struct name *name, uint16_t is, struct uext4_inode **ret_inode)
{
        const uint32_t id = is & 511u;
        char target[16];

        switch (kind_of(is)) {
        case IS_FILE:
                return uext4_create(name->dir, name->text, name->len, id, ret_inode);
        case IS_DIR:
                return uext4_mkdir(name->dir, name->text, name->len, id, ret_inode);
        default:
                snprintf(target, sizeof(target), "%u", id);
                return uext4_symlink(name->dir, name->text, name->len, target, strlen(target),
                                     ret_inode);
        }
}

static int create(struct actor *a)
{
        struct names *s = a->state;
        struct uext4_inode *inode;
        bool found;
        unsigned which = any_name(a, false, &found);
        struct name name = name_of(a, which);
        int ret;

        a->what = "create";
        if (!found)
                return 0;
        next_state(s)->is[which] = new_id(a);
        ret = make(&name, now_of(s)->is[which], &inode);
        if (ret < 0)
                return ret;
        if (actor_below(a, 6) == 0) {
                a->what = "fsync of what is new";
                ret = uext4_fsync_inode(inode);
                if (ret == 0)
                        all_is_durable(s);
        }
        uext4_inode_put(inode);
        return ret;
}

static int take_away(struct actor *a)
{
        struct names *s = a->state;
        bool found;
        unsigned which = any_name(a, true, &found);
        struct name name = name_of(a, which);
        bool is_dir = kind_of(now_of(s)->is[which]) == IS_DIR;

        a->what = "unlink";
        if (!found)
                return 0;
        next_state(s)->is[which] = 0;
        return is_dir ? uext4_rmdir(name.dir, name.text, name.len)
                      : uext4_unlink(name.dir, name.text, name.len);
}

static int link_name(struct actor *a)
{
        struct names *s = a->state;
        struct uext4_inode *inode;
        bool has_old, has_new;
        unsigned from = any_name(a, true, &has_old), to = any_name(a, false, &has_new);
        struct name old = name_of(a, from), new = name_of(a, to);
        int ret;

        a->what = "link";
        if (!has_old || !has_new || kind_of(now_of(s)->is[from]) != IS_FILE)
                return 0;
        ret = uext4_lookup(old.dir, old.text, old.len, &inode);
        if (ret < 0)
                return ret;
        next_state(s)->is[to] = now_of(s)->is[from];
        ret = uext4_link(inode, new.dir, new.text, new.len);
        uext4_inode_put(inode);
        return ret;
}

static bool may_replace(uint16_t old, uint16_t new)
{
        return new == 0 || (kind_of(old) == IS_DIR) == (kind_of(new) == IS_DIR);
}

static int rename_name(struct actor *a)
{
        struct names *s = a->state;
        bool found;
        unsigned from = any_name(a, true, &found), to = (unsigned)actor_below(a, NR_NAMES);
        struct name old = name_of(a, from), new = name_of(a, to);
        const uint16_t was = now_of(s)->is[from], there = now_of(s)->is[to];
        bool exchanges = there && actor_below(a, 3) == 0;
        struct names_state *next;

        a->what = exchanges ? "exchange" : "rename";
        if (!found || from == to || was == there)
                return 0; /* two names of one file: nothing happens */
        if (!exchanges && !may_replace(was, there))
                return 0;
        next = next_state(s);
        next->is[to] = was;
        next->is[from] = exchanges ? there : 0;
        return uext4_rename(old.dir, old.text, old.len, new.dir, new.text, new.len,
                            exchanges ? RENAME_EXCHANGE : 0);
}

/* A directory is durable with all that was done there before, and what came before that. */
static int sync_names(struct actor *a)
{
        struct names *s = a->state;
        int ret;

        a->what = "sync";
        if (actor_below(a, 3) == 0) {
                ret = uext4_syncfs(a->w->fs);
        } else {
                ret = uext4_fsync_inode(s->dirs[0]);
                if (ret == 0)
                        ret = uext4_fsync_inode(s->dirs[1]);
        }
        if (ret == 0)
                all_is_durable(s);
        return ret;
}

/* No space for one more is an answer. */
static int or_full(struct names *s, int ret)
{
        if (ret != -ENOSPC)
                return ret;
        take_back(s);
        return 0;
}

static int step(struct actor *a)
{
        struct names *s = a->state;
        const uint64_t dice = actor_below(a, 100);

        if (s->nr > NR_STATES - 4)
                return sync_names(a);
        if (dice < 35)
                return or_full(s, create(a));
        if (dice < 55)
                return take_away(a);
        if (dice < 65)
                return or_full(s, link_name(a));
        if (dice < 88)
                return or_full(s, rename_name(a));
        return sync_names(a);
}

/* ---- afterwards ---- */

static void settled(struct actor *a)
{
        all_is_durable(a->state);
}

/* What is there; UINT16_MAX: what cannot be. */
static uint16_t look_up(struct uext4_inode *dir, const struct name *name)
{
        struct uext4_inode *inode;
        struct uext4_stat st;
        char target[16] = "";
        int ret = uext4_lookup(dir, name->text, name->len, &inode);

        if (ret < 0)
                return ret == -ENOENT ? 0 : UINT16_MAX;
        T_CHECK(uext4_stat(inode, &st) == 0);
        if (S_ISLNK(st.mode) && uext4_readlink(inode, target, sizeof(target) - 1) < 0)
                st.mode = 0;
        uext4_inode_put(inode);
        if (S_ISLNK(st.mode))
                return (uint16_t)(IS_SYMLINK | strtoul(target, NULL, 10));
        if (S_ISDIR(st.mode))
                return (uint16_t)(IS_DIR | (st.mode & 0777));
        return S_ISREG(st.mode) ? (uint16_t)(IS_FILE | (st.mode & 0777)) : UINT16_MAX;
}

static int find_state(const struct actor *a, struct uext4_fs *fs, struct names_state *ret)
{
        for (unsigned i = 0; i < NR_NAMES; i++) {
                struct name name = name_of(a, i);
                struct uext4_inode *dir;
                int err = uext4_resolve(fs, dir_paths[i / NR_SLOTS], 0, &dir);

                if (err < 0)
                        return err;
                ret->is[i] = look_up(dir, &name);
                uext4_inode_put(dir);
        }
        return 0;
}

static const char *complain(const struct names *s, const struct names_state *found)
{
        static char text[8192];
        size_t used = 0;

        for (unsigned i = 0; i <= s->nr && used < sizeof(text) - 128; i++) {
                const struct names_state *st = i < s->nr ? &s->states[i] : found;

                used += (size_t)snprintf(text + used, sizeof(text) - used, "\n%s",
                                         i < s->nr ? "may be" : "found ");
                for (unsigned k = 0; k < NR_NAMES; k++)
                        used += (size_t)snprintf(text + used, sizeof(text) - used, " %4x",
                                                 st->is[k]);
        }
        return text;
}

static const char *check(struct actor *a, struct uext4_fs *fs)
{
        const struct names *s = a->state;
        struct names_state found;

        if (find_state(a, fs, &found) < 0)
                return "a directory is not there";
        for (unsigned i = 0; i < s->nr; i++) {
                if (memcmp(&found, &s->states[i], sizeof(found)) == 0)
                        return NULL;
        }
        return complain(s, &found);
}

static void done(struct actor *a)
{
        free(a->state);
}

const struct actor_ops actor_names = {"names",    init,    open_dirs, step,
                                      close_dirs, settled, check,     done};
