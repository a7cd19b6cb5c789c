/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "actor.h"

static void path_of(const struct actor *a, char *path, size_t size)
{
        snprintf(path, size, "/f%u", a->n);
}

static void init(struct actor *a)
{
        struct mix *m = t_alloc(sizeof(*m));

        mix_init(m, a->n, t_rand(&a->rand), a->w->has_extents);
        m->is_calm = actor_below(a, 3) == 0;
        m->may_be_short = a->w->may_be_short;
        a->state = m;
}

static int open_file(struct actor *a)
{
        char path[16];

        path_of(a, path, sizeof(path));
        return mix_open(a->state, a->w->fs, path);
}

static int step(struct actor *a)
{
        struct mix *m = a->state;
        int ret = mix_step(m);

        a->what = m->what;
        a->wrong = m->wrong;
        return ret;
}

static void close_file(struct actor *a)
{
        mix_close(a->state);
}

/* Writes that were still under way may have ended, or not. */
static void settled(struct actor *a)
{
        struct mix *m = a->state;

        track_synced(&m->t);
}

static const char *check(struct actor *a, struct uext4_fs *fs)
{
        char path[16];

        path_of(a, path, sizeof(path));
        return mix_check_cut(a->state, fs, path);
}

static void done(struct actor *a)
{
        mix_done(a->state);
        free(a->state);
}

const struct actor_ops actor_mix = {"mix",      init,    open_file, step,
                                    close_file, settled, check,     done};
