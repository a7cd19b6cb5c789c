/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef SIM_ACTOR_H
#define SIM_ACTOR_H

/*
 * Those who use a file system in a run, each in a thread of its own, and know what a power cut
 * may leave of what they did:
 *
 *      act_mix         one file, eight writes under way, beside everything else (mix.h)
 *      act_share       some sectors of a file of which others write the others
 *      act_names       names in two directories that all of them use
 *      act_save        a file that is replaced: written beside, synced, renamed
 *      act_sync        syncfs, statfs, and reading what others write
 */

#include "../write/mix.h"

#define MAX_ACTORS     8
#define SHARED_SECTORS 96u

struct world {
        struct uext4_fs *fs;
        bool has_extents;
        bool may_be_short; /* a write may end before its end */
        unsigned nr_actors;
        uint64_t seed;
};

struct actor {
        const struct actor_ops *ops;
        struct world *w;
        unsigned n;
        uint64_t rand;
        const char *what;  /* the operation under way */
        const char *wrong; /* what it has seen; NULL: nothing */
        void *state;
};

struct actor_ops {
        const char *name;
        void (*init)(struct actor *a);
        int (*open)(struct actor *a);
        int (*step)(struct actor *a); /* -errno: it has failed, and that was the last one */
        void (*close)(struct actor *a);
        void (*settled)(struct actor *a);                           /* all it did is durable */
        const char *(*check)(struct actor *a, struct uext4_fs *fs); /* NULL, or what is wrong */
        void (*done)(struct actor *a);
};

extern const struct actor_ops actor_mix, actor_share, actor_names, actor_save, actor_sync;

static inline uint64_t actor_below(struct actor *a, uint64_t n)
{
        return t_below(&a->rand, n);
}

#endif
