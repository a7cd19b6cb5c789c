/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WRITE_MIX_H
#define WRITE_MIX_H

/*
 * One file, with writes under way on a queue, and random operations between them: writes of
 * other kinds, truncation, holes, syncs, reads.  What it holds is tracked (track.h).
 */

#include "../change/rig.h"
#include "track.h"

#define MIX_SECTORS 256u
#define MIX_DEPTH   8

struct mix_slot {
        bool busy;
        uint32_t version;
        int flags;
        struct track_range range;
        struct iovec iov;
        uint8_t *buf;
};

struct mix {
        struct uext4_file *direct, *buffered;
        struct uext4_queue *queue;
        struct track t;
        struct mix_slot slots[MIX_DEPTH];
        uint8_t *buf; /* the whole file */
        uint64_t rand;
        unsigned nr_flying;
        bool has_extents;
        bool is_calm;      /* written once, and then overwritten only */
        bool may_be_short; /* something fails: a write may end before its end */
        const char *what;  /* the operation under way */
        const char *wrong; /* what a read has found; NULL: nothing */
};

void mix_init(struct mix *m, unsigned file, uint64_t seed, bool has_extents);
void mix_done(struct mix *m);

/* The file of this name, which the mix takes to be empty. */
int mix_open(struct mix *m, struct uext4_fs *fs, const char *path);

/* Writes under way are waited for; what they have done is not looked at. */
void mix_close(struct mix *m);

/* One operation.  -errno: it has failed, and the mix is over. */
int mix_step(struct mix *m);

/* Wait for all writes under way. */
int mix_settle(struct mix *m);

/* After a cut, or whatever ended the mix: NULL or what is wrong with the file in this mount. */
const char *mix_check_cut(struct mix *m, struct uext4_fs *fs, const char *path);

#endif
