/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_GROUP_SPACE_H
#define EXT4_GROUP_SPACE_H

/*
 * A set of clusters of one group, as runs in rising order in one array.
 *
 *  I1  Runs are not empty, do not overlap and do not touch: neighbours are one run.
 *  I2  `total` is the sum of their lengths; `longest` is not less than the longest.
 *
 * An array, not a tree: a group has some dozens of runs as a rule and never more than half its
 * clusters; searching reads eight bytes a run in a row.
 *
 * Changes cannot fail: who makes one has called group_space_reserve() before.  Any single
 * change makes at most one run more.
 *
 * No locks: that of the group guards its sets.
 */

#include "util/base.h"

struct group_run {
        uint32_t start;
        uint32_t len;
};

struct group_space {
        struct group_run *runs;
        uint32_t nr;
        uint32_t cap;
        uint32_t total;
        uint32_t longest; /* an upper bound: see group_space_longest() */
        bool longest_is_old;
};

/* Zeros are an empty set. */
void group_space_done(struct group_space *s); /* it is empty afterwards */

/* All clear bits among the first nr_bits of a bitmap.  s is empty.  -ENOMEM. */
must_check int group_space_build(struct group_space *s, const uint8_t *bitmap,
                                 uint32_t nr_bits);

/* Room for `more` runs.  -ENOMEM. */
must_check int group_space_reserve(struct group_space *s, uint32_t more);

/* Nothing of it is in the set. */
void group_space_add(struct group_space *s, struct group_run run);

/* All of it is in the set. */
void group_space_take(struct group_space *s, struct group_run run);

/* What is in the set from `at` on without a gap; len 0: not even that. */
struct group_run group_space_at(const struct group_space *s, uint32_t at);

/* The first run with anything in the range, cut to that; len 0: none. */
struct group_run group_space_next(const struct group_space *s, struct group_run range);

/* Whether anything of it is in the set. */
bool group_space_overlaps(const struct group_space *s, struct group_run run);

/* The first run of at least len > 0 from `from` on, and if there is none, before; a run that
 * covers `from` counts as two.  len 0: none. */
struct group_run group_space_first(const struct group_space *s, uint32_t len, uint32_t from);

/* The shortest run of at least len > 0; of several the first.  len 0: none. */
struct group_run group_space_tight(const struct group_space *s, uint32_t len);

/* Length of the longest run, exactly. */
uint32_t group_space_longest(struct group_space *s);

#endif
